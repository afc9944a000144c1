"""Clips through AutoencoderKLWan, at once and in chunks."""

import pytest
import torch
from diffusers import AutoencoderKLWan

from gonio.models import autoencoder as module
from gonio.models.autoencoder import (
    channels_last,
    clip_from_frames,
    decode,
    decode_clip,
    encode,
    encode_clip,
    frames_from_clip,
    stacked_frames,
)

LAYOUTS = {
    "patched": {"patch_size": 2, "in_channels": 12, "out_channels": 12, "dim_mult": [1, 2, 2]},
    "stacked": {
        "patch_size": 2,
        "in_channels": 60,
        "out_channels": 60,
        "dim_mult": [1],
        "temperal_downsample": [],
        "scale_factor_spatial": 2,
    },
    "wan": {"dim_mult": [1, 1, 2, 2], "temperal_downsample": [False, True, True]},
}


@pytest.fixture(params=LAYOUTS)
def network(request):
    torch.manual_seed(0)
    config = {"temperal_downsample": [True, True], "scale_factor_spatial": 8, **LAYOUTS[request.param]}
    mean, std = [0.1, -0.2, 0.3, 0.0], [0.5, 1.0, 1.5, 2.0]
    network = AutoencoderKLWan(
        base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=mean, latents_std=std, **config
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("frames", [1, 5, 17])
@torch.no_grad()
def test_a_whole_clip_gives_what_the_chunks_give(network, frames):
    channels = 3 * stacked_frames(network.config)
    clip = torch.rand(2, channels, 1 if channels > 3 else frames, 16, 24) * 2 - 1
    chunked = network.encode(clip).latent_dist.mode()
    whole = encode_clip(network, clip).chunk(2, 1)[0]
    torch.testing.assert_close(whole, chunked, atol=1e-5, rtol=1e-5)
    decoded = decode_clip(network, chunked).clamp(-1, 1)
    torch.testing.assert_close(decoded, network.decode(chunked).sample, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_latents_are_normalised_by_the_configuration(network):
    frames = torch.rand(1, 5, 16, 16, 3)
    latents = encode(network, frames)
    clip = clip_from_frames(network, frames)
    plain = network.encode(clip).latent_dist.mode()
    assert latents.shape == plain.shape
    torch.testing.assert_close(latents[:, 2], (plain[:, 2] - 0.3) / 1.5, atol=1e-5, rtol=1e-5)
    expected = frames_from_clip(network.decode(plain).sample)
    torch.testing.assert_close(decode(network, latents), expected, atol=1e-4, rtol=1e-4)


def test_stacked_frames_are_channels_of_one(network):
    frames = torch.rand(2, 5, 16, 16, 3)
    clip = clip_from_frames(network, frames)
    assert clip.shape == ((2, 15, 1, 16, 16) if stacked_frames(network.config) == 5 else (2, 3, 5, 16, 16))
    torch.testing.assert_close(frames_from_clip(clip), frames)


@torch.no_grad()
def test_clips_too_large_for_one_piece_go_through_the_chunks(network, monkeypatch):
    frames = torch.rand(1, 5, 16, 16, 3)
    latents = encode(network, frames)
    shown = decode(network, latents)
    monkeypatch.setattr(module, "WHOLE_CLIP_PIXELS", 0)
    monkeypatch.setattr(module, "encode_clip", None)
    monkeypatch.setattr(module, "decode_clip", None)
    torch.testing.assert_close(encode(network, frames), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decode(network, latents), shown, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_weight_of_a_whole_clip(network):
    clip = clip_from_frames(network, torch.rand(1, 5, 16, 16, 3))
    decode_clip(network, encode_clip(network, clip).chunk(2, 1)[0]).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@torch.no_grad()
def test_the_layout_in_memory_changes_nothing(network):
    frames = torch.rand(1, 5, 16, 16, 3)
    latents = encode(network, frames)
    torch.testing.assert_close(encode(channels_last(network), frames), latents, atol=1e-5, rtol=1e-5)
    assert network.encoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last_3d)
