"""Bilinear look-up in textures of any number of channels, and how it is differentiated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def wrap_index(index: Tensor, size: int, wrap: str) -> Tensor:
    """Integer texel indices of any range to [0, size)."""
    if wrap == "repeat":
        return index.remainder(size)
    if wrap == "clamp":
        return index.clamp(0, size - 1)
    period = index.remainder(2 * size)
    return torch.minimum(period, 2 * size - 1 - period)


def fetch(texture: Tensor, uv: Tensor, wrap: str = "repeat", sink: Tensor | None = None) -> Tensor:
    """Bilinear texture look-up, differentiable in both. [H, W, C], [N, 2] -> [N, C].

    Texel (row, column) is centred on u = (column + .5) / W, v = 1 - (row + .5) / H: row 0 is the top.
    `sink` [H, W, C] receives the texture's gradient by addition instead of a freshly zeroed tensor a call:
    with blocks much smaller than the texture that zeroing would cost more than the decoder.
    """
    if torch.is_grad_enabled() and (texture.requires_grad or uv.requires_grad):
        return _Fetch.apply(texture, uv, wrap, sink)
    index, right, down = _corners(uv, texture.shape[0], texture.shape[1], wrap)
    return _weighted(texture, index, _shares(right, down))


def _shares(right: Tensor, down: Tensor) -> Tensor:
    """The bilinear weights of the four texels. [N, 4]"""
    left, up = 1 - right, 1 - down
    return torch.stack([left * up, right * up, left * down, right * down], -1)


def _weighted(texture: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    texels = texture.reshape(-1, texture.shape[2])
    return embedding_bag(index, texels, per_sample_weights=weight.to(texels.dtype), mode="sum")


class _Fetch(torch.autograd.Function):
    """One weighted gather forwards; the four texels are read again only where uv needs a gradient."""

    @staticmethod
    def forward(ctx: Any, texture: Tensor, uv: Tensor, wrap: str, sink: Tensor | None) -> Tensor:
        index, right, down = _corners(uv, texture.shape[0], texture.shape[1], wrap)
        weight = _shares(right, down)
        ctx.sink = sink
        ctx.save_for_backward(texture, index, weight, right, down)
        return _weighted(texture, index, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        texture, index, weight, right, down = ctx.saved_tensors
        height, width, channels = texture.shape
        texture_grad = uv_grad = None
        if ctx.needs_input_grad[0]:
            parts = (weight[..., None] * grad[:, None]).view(-1, channels)
            if ctx.sink is None:
                texture_grad = grad.new_zeros(height * width, channels)
                texture_grad = texture_grad.index_add_(0, index.view(-1), parts).view(texture.shape)
            else:
                ctx.sink.view(-1, channels).index_add_(0, index.view(-1), parts)
        if ctx.needs_input_grad[1]:
            texels = texture.reshape(-1, channels).index_select(0, index.view(-1)).view(-1, 4, channels)
            a, b, c, d = torch.bmm(texels, grad[:, :, None])[..., 0].unbind(-1)
            along_x = torch.lerp(b - a, d - c, down)
            along_y = torch.lerp(c - a, d - b, right)
            uv_grad = torch.stack([along_x * width, -along_y * height], -1)
        return texture_grad, uv_grad, None, None


def _corners(uv: Tensor, height: int, width: int, wrap: str) -> tuple[Tensor, Tensor, Tensor]:
    """Flat indices [N, 4] of the texels around uv [N, 2] (upper left, right, lower left, right) and the
    shares [N] of the right and the lower ones."""
    if wrap != "repeat":
        x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
        column, row = x.floor().long(), y.floor().long()
        sides = [wrap_index(column + i, width, wrap) for i in (0, 1)]
        rows = [wrap_index(row + i, height, wrap) * width for i in (0, 1)]
        index = torch.stack([r + c for r in rows for c in sides], -1)
        return index, x - column, y - row
    # The common case, with as few passes over the points as can be: x and y lie in [0.5, size + 0.5], so that
    # truncating gives the right and the lower texel, and only a border has to be wrapped.
    u, v = uv.unbind(-1)
    x = (u - u.floor()).mul_(width).add_(0.5)
    y = (v.ceil() - v).mul_(height).add_(0.5)
    east, south = x.long(), y.long()
    right, down = x - east, y - south
    west, north = east - 1, (south - 1).mul_(width)
    west.masked_fill_(west < 0, width - 1)
    east.masked_fill_(east == width, 0)
    north.masked_fill_(north < 0, (height - 1) * width)
    south.masked_fill_(south == height, 0).mul_(width)
    return torch.stack([north + west, north + east, south + west, south + east], -1), right, down
