"""Feed-forward layers that see the tokens around."""

import torch

from gonio.models.load import random_transformer
from gonio.models.spec import SPECS
from gonio.models.token_shift import AROUND, SHARE, TokenShift


def test_each_sixteenth_comes_from_another_neighbour_and_the_border_goes_on():
    places = torch.arange(2 * 4 * 5.0).view(1, 2, 4, 5, 1).expand(1, 2, 4, 5, SHARE)
    shift = TokenShift()
    shift.grid = (2, 4, 5)
    found = shift(places.flatten(1, 3)).view(2, 4, 5, SHARE)
    own = SHARE - len(AROUND)
    assert torch.equal(found[..., :own], places[0, ..., :own])
    for frame in range(2):
        for row in range(4):
            for column in range(5):
                for number, (down, right) in enumerate(AROUND):
                    r, c = min(max(row + down, 0), 3), min(max(column + right, 0), 4)
                    assert found[frame, row, column, own + number] == frame * 20 + r * 5 + c


@torch.no_grad()
def test_a_mini_transformer_mixes_neighbours_without_attention():
    """With all attention silenced, a latent changed at one place changes only the tokens that its
    neighbours' neighbours reach: one step a layer."""
    spec = SPECS["mini-t2v"]
    model = random_transformer(spec, 0).eval()
    model.proj_out.weight.normal_()
    for block in model.blocks:
        for attention in (block.attn1, block.attn2):
            attention.to_out[0].weight.zero_()
            attention.to_out[0].bias.zero_()
        block.scale_shift_table.fill_(0.5)
    latents = torch.randn(1, spec.transformer["in_channels"], 1, 20, 20)
    changed = latents.clone()
    changed[..., 0, 10, 10] += 1
    rest = {"timestep": torch.tensor([500.0]), "encoder_hidden_states": torch.randn(1, 64, 384)}
    moved = (model(latents, **rest).sample - model(changed, **rest).sample).abs().amax((0, 1, 2)) > 0
    rows, columns = moved.nonzero().T
    assert int((rows - 10).abs().max()) == len(model.blocks) == int((columns - 10).abs().max())


@torch.no_grad()
def test_a_model_without_shifts_is_the_class_as_it_is():
    import diffusers

    spec = SPECS["wan2.1-t2v-1.3b"]
    assert not spec.token_shift
    tiny = {**spec.transformer, "num_attention_heads": 1, "attention_head_dim": 12, "num_layers": 1}
    model = diffusers.WanTransformer3DModel(**(tiny | {"ffn_dim": 32, "text_dim": 8, "freq_dim": 8}))
    assert isinstance(model.blocks[0].ffn.net[1], torch.nn.Dropout)


def test_its_gradient_is_that_of_finite_differences():
    shift = TokenShift()
    shift.grid = (2, 3, 1)
    hidden = torch.randn(1, 6, SHARE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(shift, hidden)
