"""Principal components of patches of latents."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import pixel_unshuffle

from gonio.errors import GonioError
from gonio.models.packing import (
    Restorer,
    load_packing,
    principal_packing,
    save_packing,
    unpacked,
)


@pytest.fixture(scope="module")
def latents():
    """Three channels that depend on one another, and on their neighbours."""
    draw = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(20, 3, 34, 34, generator=draw), 3, stride=1)
    mixing = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 0.2]])
    return torch.einsum("bchw,dc->bdhw", smooth, mixing) + torch.tensor([1.0, 2.0, 3.0]).view(-1, 1, 1)


def test_all_components_give_the_latents_back(latents):
    packing = principal_packing(latents, 12)
    x = latents[:, :, None]
    assert packing.pack(x).shape == (20, 12, 1, 16, 16)
    torch.testing.assert_close(packing.unpack(packing.pack(x)), x, atol=1e-4, rtol=1e-4)


def test_packed_latents_are_centred_uncorrelated_and_of_the_stated_deviation(latents):
    packing = principal_packing(latents, 5)
    values = packing.pack(latents[:, :, None]).double().transpose(0, 1).flatten(1)
    covariance = torch.cov(values, correction=0)
    torch.testing.assert_close(
        covariance.diagonal().sqrt(), packing.packed_deviation.double(), atol=1e-4, rtol=1e-4
    )
    assert float((covariance - covariance.diagonal().diag()).abs().max()) < 1e-4
    assert float(values.mean(1).abs().max()) < 1e-4
    assert bool((packing.deviation.diff() <= 0).all())
    # The root of the differences is kept, variance 1 on average in the weights of the deviations.
    assert float(packing.packed_deviation.square().mean()) == pytest.approx(1.0, rel=1e-5)


def test_what_is_lost_is_the_variance_of_the_components_left_out(latents):
    whole, some = principal_packing(latents, 12), principal_packing(latents, 4)
    x = latents[:, :, None]
    lost = (some.unpack(some.pack(x)) - x).square().mean()
    assert float(lost) == pytest.approx(float(whole.deviation[4:].square().sum()) / 12, rel=1e-3)


def test_a_file_gives_the_packing_back_and_another_shape_is_refused(latents, tmp_path):
    packing = principal_packing(latents, 4)
    save_packing(tmp_path / "p.safetensors", packing)
    again = load_packing(tmp_path / "p.safetensors", latents=3, components=4)
    assert torch.equal(again.basis, packing.basis) and torch.equal(again.deviation, packing.deviation)
    with pytest.raises(GonioError, match="p.safetensors: the weights do not fit.*of another shape"):
        load_packing(tmp_path / "p.safetensors", latents=3, components=5)
    with pytest.raises(GonioError, match="none.safetensors: not there"):
        load_packing(tmp_path / "none.safetensors", latents=3, components=4)
    spoiled = {"mean": packing.mean * float("nan"), "basis": again.basis, "deviation": packing.deviation}
    save_file(spoiled, tmp_path / "nan.safetensors")
    with pytest.raises(GonioError, match="NaN"):
        load_packing(tmp_path / "nan.safetensors", latents=3, components=4)


def test_a_restorer_begins_with_nothing_and_is_kept_in_the_file(latents, tmp_path):
    plain = principal_packing(latents, 4)
    packing = replace(plain, restorer=Restorer(4, 12))
    packed = packing.pack(latents[:, :, None])
    torch.testing.assert_close(packing.unpack(packed), plain.unpack(packed))
    torch.nn.init.normal_(packing.restorer.told.weight, std=0.1)
    save_packing(tmp_path / "p.safetensors", packing)
    again = load_packing(tmp_path / "p.safetensors", latents=3, components=4)
    assert not torch.allclose(packing.unpack(packed), plain.unpack(packed), atol=1e-2)
    torch.testing.assert_close(again.unpack(packed), packing.unpack(packed), atol=1e-2, rtol=1e-2)


def test_an_unpacked_first_layer_sees_in_the_latents_what_the_packed_one_saw(latents):
    packing = principal_packing(latents, 5)
    draw = torch.Generator().manual_seed(1)
    weights = {
        "patch_embedding.weight": torch.randn(7, 5 + 2, 1, 1, 1, generator=draw),
        "patch_embedding.bias": torch.randn(7, generator=draw),
        "proj_out.weight": torch.zeros(1),
        "blocks.0.x": torch.ones(2),
    }
    center, scale = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.5, 0.5, 3.0])
    found = unpacked(weights, packing, center, scale)
    assert set(found) == set(weights) - {"proj_out.weight"}
    places = torch.randn(20, 2, 1, 16, 16, generator=draw)
    packed = torch.cat([packing.pack(latents[:, :, None]), places], 1)
    expected = torch.nn.functional.conv3d(
        packed, weights["patch_embedding.weight"], weights["patch_embedding.bias"]
    )
    normalised = (latents - center.view(-1, 1, 1)) / scale.view(-1, 1, 1)
    seen = torch.cat([normalised, places[:, :, 0].repeat_interleave(2, 2).repeat_interleave(2, 3)], 1)
    kernel = found["patch_embedding.weight"]
    assert kernel.shape == (7, 5, 1, 2, 2)
    shown = torch.nn.functional.conv3d(
        seen[:, :, None], kernel, found["patch_embedding.bias"], stride=(1, 2, 2)
    )
    torch.testing.assert_close(shown, expected, atol=1e-4, rtol=1e-4)
    # The order of a patch's numbers is pixel_unshuffle's: channels outermost.
    assert torch.equal(pixel_unshuffle(latents, 2)[:, 4], latents[:, 1, ::2, ::2])
