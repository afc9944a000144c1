"""Frames <-> the latents a flow works on."""

from dataclasses import replace

import pytest
import torch

from gonio.color import linear_from_srgb, luminance
from gonio.errors import GonioError
from gonio.models.autoencoder import encode
from gonio.models.codec import load_codec
from gonio.models.load import random_autoencoder
from gonio.models.packing import principal_packing, save_packing
from gonio.models.spec import SPECS
from gonio.models.weight_files import PACKING_FILE, save_model

SPEC = SPECS["mini-t2v"]


@pytest.fixture(scope="module")
def bundled():
    return load_codec(SPEC)


@torch.no_grad()
def test_the_bundled_codec_gives_smooth_frames_back(bundled):
    ramp = torch.linspace(0.2, 0.8, 32)
    frames = (ramp[:, None, None] * torch.tensor([1.0, 0.7, 0.5])).expand(1, 17, 32, 32, 3)
    latents = bundled.encode(frames)
    assert latents.shape == (1, *SPEC.latent_shape(17, 32, 32)) == (1, 96, 1, 4, 4)
    error = (bundled.decode(latents) - frames).square().mean()
    assert float(-10 * error.log10()) > 30


@torch.no_grad()
def test_without_colour_the_same_frames_are_grey_and_as_bright(bundled):
    ramp = torch.linspace(0.2, 0.8, 32)
    colored = (ramp[:, None, None] * torch.tensor([1.0, 0.7, 0.2])).expand(1, 17, 32, 32, 3)
    grey = bundled.decode(bundled.without_color(bundled.encode(colored)))
    assert float((grey.amax(-1) - grey.amin(-1)).mean()) < 0.03
    assert (
        float((luminance(linear_from_srgb(grey)) - luminance(linear_from_srgb(colored))).abs().mean()) < 0.02
    )


@torch.no_grad()
def test_packing_loses_less_than_it_drops(bundled):
    """Encoding what was decoded gives the latents back: the code is stable."""
    frames = torch.rand(1, 17, 4, 4, 3).repeat_interleave(8, 2).repeat_interleave(8, 3)
    once = bundled.encode(frames)
    again = bundled.encode(bundled.decode(once))
    assert float((again - once).square().mean()) < 0.1 * float(once.square().mean())


@torch.no_grad()
def test_a_model_without_packing_sees_the_latents_themselves():
    codec = load_codec(SPECS["mini-unpacked"])
    frames = torch.rand(1, 17, 16, 16, 3)
    assert codec.packing is None and codec.deviation is None
    assert torch.equal(codec.encode(frames), encode(codec.autoencoder, frames))


def test_the_packing_lies_beside_the_autoencoder(tmp_path):
    spec = replace(SPEC, bundled_autoencoder=None)
    save_model(tmp_path / "vae", random_autoencoder(spec, 0))
    with pytest.raises(GonioError, match="packing.safetensors: not there"):
        load_codec(spec, tmp_path)
    packing = principal_packing(torch.randn(8, 60, 8, 8), 96)
    save_packing(tmp_path / "vae" / PACKING_FILE, packing)
    assert torch.equal(load_codec(spec, tmp_path).deviation, packing.packed_deviation)
