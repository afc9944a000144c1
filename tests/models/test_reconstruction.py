"""The large reconstruction model: what is frozen, what is new, and what its outputs are."""

from dataclasses import replace

import pytest
import torch
from tiny_models import TINY_WAN

from gonio.errors import UsageError
from gonio.models.load import random_autoencoder, random_transformer
from gonio.models.reconstruction import MINI_LRM, ReconstructionModel, ReconstructionSpec, load_state
from gonio.models.spec import SPECS
from gonio.neural_material import Decoder, MaterialSpec

with pytest.MonkeyPatch.context() as patch:
    patch.setitem(SPECS, "tiny-wan", TINY_WAN)
    PAPER = ReconstructionSpec(name="tiny-lrm", video="tiny-wan", frames=5)
MATERIAL = MaterialSpec(hidden_width=8, hidden_layers=1)


def build(spec, seed=0):
    torch.manual_seed(seed)
    video = spec.video_spec
    text = torch.randn(3, video.transformer["text_dim"])
    space = (torch.linspace(-1, 1, 24), torch.eye(24) * 2)
    return ReconstructionModel(
        spec, random_autoencoder(video, seed), random_transformer(video, seed), text, Decoder(MATERIAL), space
    )


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(SPECS, "tiny-wan", TINY_WAN)


@pytest.mark.parametrize("upsampler", ["decoder", "linear"])
@pytest.mark.parametrize("spec", [PAPER, MINI_LRM], ids=lambda s: s.name)
def test_textures_have_the_size_of_the_frames_also_where_they_are_not_square(spec, upsampler):
    spec = replace(spec, upsampler=upsampler, residual=spec.residual and upsampler == "decoder")
    model = build(spec)
    textures = model(torch.rand(2, spec.frames, 16, 32, 3))
    assert textures.shape == (2, 16, 32, 24)
    T_off, T_rgb = model.split(textures)
    assert T_off.shape == T_rgb.shape == (2, 16, 32, 12) and torch.equal(T_rgb, textures[..., 12:])


def test_only_what_is_new_or_learns_gets_gradients():
    model = build(PAPER)
    model(torch.rand(1, 5, 16, 16, 3)).square().sum().backward()
    assert all(p.grad is None for p in model.autoencoder.encoder.parameters())
    for part in (model.transformer.patch_embedding, model.autoencoder.decoder.conv_out):
        assert float(part.weight.grad.abs().max()) > 0


def test_a_linear_upsampler_starts_at_the_mean_material_and_leaves_the_decoder_alone():
    model = build(replace(PAPER, upsampler="linear"))
    textures = model(torch.rand(1, 5, 16, 16, 3))
    torch.testing.assert_close(textures, model.mean.expand_as(textures))
    assert not any(p.requires_grad for p in model.autoencoder.decoder.parameters())


def test_the_detail_path_begins_with_no_say():
    without, with_detail = build(replace(MINI_LRM, detail=0, detail_blocks=0)), build(MINI_LRM)
    load_state(without, {k: v for k, v in with_detail.stored().items() if not k.startswith("detail.")})
    frames = torch.rand(1, 17, 16, 16, 3)
    with torch.no_grad():
        torch.testing.assert_close(without(frames), with_detail(frames))


@torch.no_grad()
def test_periodic_textures_move_with_the_material():
    """With attention switched off all else is convolution: on a torus a shift of the frames by whole pairs
    shifts the textures, which borders would forbid."""
    model = build(MINI_LRM)
    for parameter in model.detail.parameters():
        parameter.normal_(std=0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    model.detail.seen.weight[:, 51:61] = 0  # of the place
    frames = torch.rand(1, 17, 32, 32, 3)
    model._coarse = lambda latents, periodic: torch.zeros(1, 24, 32, 32)
    moved = model(frames.roll((6, -4), (2, 3)), periodic=True)
    torch.testing.assert_close(moved, model(frames, periodic=True).roll((6, -4), (1, 2)), atol=1e-5, rtol=0)
    assert not torch.allclose(
        model(frames.roll((6, -4), (2, 3))), model(frames).roll((6, -4), (1, 2)), atol=1e-3
    )


@torch.no_grad()
def test_a_stored_model_has_no_encoder_and_gives_the_same_textures():
    model, other = build(PAPER, 0), build(PAPER, 1)
    frames = torch.rand(1, 5, 16, 16, 3)
    stored = model.stored()
    assert not any("encoder." in name and name.startswith("autoencoder.enc") for name in stored)
    assert all(t.shape[2] == 1 for name, t in stored.items() if t.ndim == 5 and "autoencoder" in name)
    other.autoencoder.encoder.load_state_dict(model.autoencoder.encoder.state_dict())
    other.autoencoder.quant_conv.load_state_dict(model.autoencoder.quant_conv.state_dict())
    load_state(other, stored)
    assert torch.equal(model.eval()(frames), other.eval()(frames))


def test_weights_that_do_not_fit_are_refused():
    model = build(PAPER)
    stored = model.stored()
    stored["foreign"] = stored.pop("null_text")
    with pytest.raises(UsageError, match="do not fit.*null_text"):
        load_state(model, stored)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"detail": 8}, "needs rectified frames"), ({"video": "mini-unpacked"}, "stacks 17 frames, not 5")],
)
def test_specs_without_sense_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        replace(PAPER, **changes)
