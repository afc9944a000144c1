"""Pictures of things that are not pictures: colours mean what the legend says."""

import pytest
import torch
from flip_evaluator import evaluate as evaluate_flip

from gonio.errors import GonioError
from gonio.pictures import contact_sheet, error_picture, latent_picture, offset_picture


def test_offsets_are_red_below_zero_and_blue_above():
    offset = torch.zeros(1, 3, 2)
    offset[0, :, 0] = torch.tensor([-0.05, 0.0, 0.05])
    offset[0, :, 1] = torch.tensor([0.02, 0.0, -9.0])
    u, v = offset_picture(offset, limit=0.05)
    assert u.shape == v.shape == (1, 3, 3)
    assert u[0, 0, 0] > 0.6 > 0.2 > u[0, 0, 2]
    assert u[0, 2, 2] > 0.6 > 0.2 > u[0, 2, 0]
    assert (u[0, 1] > 0.9).all()
    assert v[0, 0, 2] > v[0, 0, 0] and v[0, 2, 0] > v[0, 2, 2]
    assert 0 <= v.min() and v.max() <= 1
    torch.testing.assert_close(v[0, 2], u[0, 0])  # beyond the limit is the limit


def test_latents_show_their_largest_components_first():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.rand(24, 24, 3, generator=generator) * torch.tensor([10.0, 3.0, 1.0])
    mixed, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator))
    texture = hidden @ mixed[:3]
    picture = latent_picture(texture)
    assert picture.shape == (24, 24, 3) and 0 <= picture.min() and picture.max() <= 1
    for component in range(3):
        pair = torch.stack([hidden[..., component].reshape(-1), picture[..., component].reshape(-1)])
        assert torch.corrcoef(pair)[0, 1].abs() > 0.95
    assert torch.equal(picture, latent_picture(texture))


def test_latents_that_carry_nothing_are_grey():
    assert (latent_picture(torch.ones(4, 4, 12)) == 0.5).all()
    one = latent_picture(torch.linspace(0, 1, 16).reshape(4, 4, 1))
    assert (one[..., 1:] == 0.5).all() and one[..., 0].max() == 1


def test_errors_are_in_flips_own_magma():
    black = torch.zeros(8, 8, 3).numpy()
    for value in (0.0, 0.05, 0.3, 0.6, 1.0):
        error, _, _ = evaluate_flip(black, black + value, "LDR", applyMagma=False, parameters={})
        theirs, _, _ = evaluate_flip(black, black + value, "LDR", applyMagma=True, parameters={})
        ours = error_picture(torch.from_numpy(error)[..., 0])
        assert (ours - torch.from_numpy(theirs)).abs().max() < 0.03


def test_a_contact_sheet_holds_every_picture_unchanged():
    red, blue = torch.zeros(40, 60, 3), torch.zeros(30, 50, 3)
    red[..., 0], blue[..., 2] = 1.0, 1.0
    sheet = contact_sheet([[red, blue], [blue]], [["red", "a label far too long for it"], [""]])
    assert (sheet == torch.tensor([1.0, 0, 0])).all(-1).sum() == 40 * 60
    assert (sheet == torch.tensor([0, 0, 1.0])).all(-1).sum() == 2 * 30 * 50
    blank = contact_sheet([[red, blue], [blue]], [["", ""], [""]])
    difference = (sheet != blank).any(-1)
    assert difference.any()  # text was drawn, and only below the first row
    assert difference.nonzero()[:, 0].min() >= 48 and difference.nonzero()[:, 0].max() < 75


@pytest.mark.parametrize(
    "make",
    [
        lambda: offset_picture(torch.zeros(4, 4, 3), 1.0),
        lambda: offset_picture(torch.zeros(4, 4, 2), 0.0),
        lambda: latent_picture(torch.zeros(4, 4)),
        lambda: error_picture(torch.zeros(4, 4, 3)),
        lambda: contact_sheet([], []),
        lambda: contact_sheet([[torch.zeros(4, 4, 3)]], [["a", "b"]]),
        lambda: contact_sheet([[torch.zeros(4, 4)]], [["a"]]),
    ],
)
def test_wrong_input_is_a_one_line_error(make):
    with pytest.raises(GonioError) as error:
        make()
    assert "\n" not in str(error.value)
