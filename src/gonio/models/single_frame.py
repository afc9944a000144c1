"""One frame through AutoencoderKLWan: as an image network, exactly.

A causal convolution sees a single frame behind two frames of zeros, so only the last of its three temporal
taps meets anything, and the layers that change the number of frames do nothing. Leaving the rest out is exact
and takes a third of the arithmetic.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
)
from torch import Tensor
from torch.nn.functional import conv2d, normalize, pixel_shuffle, pixel_unshuffle, silu


def encode_frame(autoencoder: AutoencoderKLWan, frame: Tensor) -> Tensor:
    """Posterior moments. [B, C, H, W] in [-1, 1] -> [B, 2 z, h, w]."""
    patch = autoencoder.config.patch_size or 1
    encoder = autoencoder.encoder
    x = _convolved(encoder.conv_in, patches(frame, patch))
    for layer in encoder.down_blocks:
        x = _applied(layer, x)
    return _convolved(autoencoder.quant_conv, _head(encoder, _middle(encoder.mid_block, x)))


def decode_frame(autoencoder: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Not clipped. [B, z, h, w] unnormalised -> [B, C, H, W]."""
    decoder = autoencoder.decoder
    x = _convolved(decoder.conv_in, _convolved(autoencoder.post_quant_conv, latents))
    x = _middle(decoder.mid_block, x)
    for block in decoder.up_blocks:
        for layer in (*block.resnets, *(block.upsamplers or ())):
            x = _applied(layer, x)
    x = _head(decoder, x)
    patch = autoencoder.config.patch_size
    return x if patch is None else pixel_shuffle(_patch_order(x, patch, inverse=True), patch)


def patches(frame: Tensor, patch: int) -> Tensor:
    """[B, C, H, W] -> [B, C patch^2, h, w] in the order of the class, channels innermost in memory."""
    patches = _patch_order(pixel_unshuffle(frame, patch), patch, inverse=False) if patch > 1 else frame
    return patches.contiguous(memory_format=torch.channels_last)


def _patch_order(x: Tensor, patch: int, *, inverse: bool) -> Tensor:
    """The class counts the columns of a patch before its rows, pixel_shuffle the rows first."""
    return x.unflatten(1, (-1, patch, patch)).transpose(2, 3).flatten(1, 3)


def _applied(layer: Any, x: Tensor) -> Tensor:
    if isinstance(layer, WanResample):
        return layer.resample(x)
    if isinstance(layer, WanAttentionBlock):
        return layer(x[:, :, None])[:, :, 0]
    h = _convolved(layer.conv1, silu(_normed(layer.norm1, x)))
    h = _convolved(layer.conv2, silu(_normed(layer.norm2, h)))
    return h + (_convolved(layer.conv_shortcut, x) if hasattr(layer.conv_shortcut, "weight") else x)


def _middle(block: Any, x: Tensor) -> Tensor:
    x = _applied(block.resnets[0], x)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = _applied(resnet, _applied(attention, x))
    return x


def _head(network: Any, x: Tensor) -> Tensor:
    return _convolved(network.conv_out, silu(_normed(network.norm_out, x)))


def _normed(norm: Any, x: Tensor) -> Tensor:
    return normalize(x.float(), dim=1) * norm.scale * norm.gamma[..., 0]


def _convolved(layer: Any, x: Tensor) -> Tensor:
    """The last temporal tap of a causal convolution."""
    weight = layer.weight[:, :, -1].contiguous(memory_format=torch.channels_last)
    return conv2d(x, weight, layer.bias, padding=weight.shape[-1] // 2)


def fold(network: torch.nn.Module) -> None:
    """Keep only the last temporal tap of every causal convolution: all that a single frame meets.

    Exact for `encode_frame` and `decode_frame`, with a third of the weights. The network is changed.
    """
    for module in network.modules():
        if isinstance(module, WanCausalConv3d):
            weight = module.weight.detach()[:, :, -1:].clone()
            module.weight = torch.nn.Parameter(weight, requires_grad=module.weight.requires_grad)
