"""Where a stacked autoencoder begins: at the principal components of its patches.

The best linear code of a patch is known without training. These weights make the network compute it, and
training goes on from there. Two things stand in the way of a linear network and are turned off at first:

  * residual branches end in zeros, so that the blocks pass their input on;
  * the heads normalise each position and apply silu. A constant channel, much larger than the rest, makes the
    norm nearly constant; and as silu(a) - silu(-a) = a, channels in pairs of opposite sign pass it unharmed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from gonio.data.clips import ClipPool, hash_seed
from gonio.errors import GonioError
from gonio.models.autoencoder import clip_from_frames
from gonio.models.single_frame import patches

CONSTANT = 8.0  # times the root of the patches' total variance
LOG_VARIANCE = -8.0  # of the posterior at the beginning
PATCHES_PER_CLIP = 32


@torch.no_grad()
def principal_start(autoencoder: AutoencoderKLWan, pool: ClipPool, clips: int = 800) -> None:
    """Set the weights of a stacked autoencoder. GonioError where its shape does not allow it."""
    config = autoencoder.config
    width, z = config.base_dim, config.z_dim
    if list(config.dim_mult) != [1] or width < 2 * z + 1:
        raise GonioError(f"principal start: needs one level and {2 * z + 1} channels, has {width}")
    mean, basis, deviation = principal_components(autoencoder, pool, clips)
    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    for module in (*encoder.modules(), *decoder.modules()):
        last = getattr(module, "conv2", None) or getattr(module, "proj", None)
        if last is not None:
            last.weight.zero_()
            last.bias.zero_()
    pairs = torch.zeros(width, z)
    pairs[0 : 2 * z : 2], pairs[1 : 2 * z : 2] = torch.eye(z), -torch.eye(z)
    constant = torch.zeros(width)
    constant[2 * z] = CONSTANT * deviation
    # What the head's norm makes of a typical signal, in pairs, beside the constant.
    gain = math.sqrt(width / (CONSTANT**2 + 2)) / deviation
    project = pairs @ basis.T  # [width, C]
    _set(encoder.conv_in, project, constant - project @ mean)
    nothing = torch.zeros(z, width)
    variance = torch.full((z,), LOG_VARIANCE)
    _set(encoder.conv_out, torch.cat([pairs.T / gain, nothing]), torch.cat([torch.zeros(z), variance]))
    _set(autoencoder.quant_conv, torch.eye(2 * z), torch.zeros(2 * z))
    _set(autoencoder.post_quant_conv, torch.eye(z), torch.zeros(z))
    _set(decoder.conv_in, pairs, constant)
    _set(decoder.conv_out, basis @ pairs.T / gain, mean)


@torch.no_grad()
def principal_components(
    autoencoder: AutoencoderKLWan, pool: ClipPool, clips: int
) -> tuple[Tensor, Tensor, float]:
    """Mean [C] of the patches, their first z directions [C, z], and the root of their total variance."""
    found = []
    for index in range(0, len(pool), max(1, len(pool) // clips)):
        clip = clip_from_frames(autoencoder, pool.clip(index)[None].float().div(255))[:, :, 0]
        every = patches(clip, autoencoder.config.patch_size)[0].flatten(1).T
        draw = torch.Generator().manual_seed(hash_seed("patches", index))
        found.append(every[torch.randperm(len(every), generator=draw)[:PATCHES_PER_CLIP]])
    samples = torch.cat(found).double()
    values, vectors = torch.linalg.eigh(torch.cov((samples - samples.mean(0)).T))
    basis = vectors.flip(1)[:, : autoencoder.config.z_dim]
    return samples.mean(0).float(), basis.float(), float(values.sum().sqrt())


def _set(layer: Any, matrix: Tensor, bias: Tensor) -> None:
    """A convolution that applies a matrix to every position: its centre at the last temporal tap."""
    layer.weight.zero_()
    middle = layer.weight.shape[-1] // 2
    layer.weight[:, :, -1, middle, middle] = matrix
    layer.bias.copy_(bias)
