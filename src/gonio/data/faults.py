"""The faults of generated videos, imitated on true ones: what a reconstruction must not be misled by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample


def with_faults(frames: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Frames [F, H, W, 3] display-encoded in [0, 1] -> the same, worse.

    Every frame is shifted by up to a texel and a half, drifts in brightness and tint, is softened a little
    and gets noise that is alike within blocks of 4x4, as compression leaves it. strength 0 changes nothing.
    """
    count, height, width, _ = frames.shape
    planes = jittered(frames.movedim(-1, 1), 1.5 * strength, generator)
    planes = planes * drift(count, 0.04 * strength, generator)[:, :, None, None]
    soften = float(torch.rand((), generator=generator)) * strength
    soft = avg_pool2d(planes, 3, stride=1, padding=1, count_include_pad=False)
    planes = torch.lerp(planes, soft, min(soften, 1.0))
    blocks = torch.randn(count, 3, -(-height // 4), -(-width // 4), generator=generator)
    blocky = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)[..., :height, :width]
    level = 0.02 * strength * float(torch.rand((), generator=generator))
    return (planes + level * blocky).clamp(0, 1).movedim(1, -1)


def jittered(planes: Tensor, texels: float, generator: torch.Generator) -> Tensor:
    """Every frame [F, C, H, W] shifted by up to so many texels each way; the border's values go on."""
    count, _, height, width = planes.shape
    shift = (torch.rand(count, 2, generator=generator) * 2 - 1) * texels
    matrix = torch.eye(2, 3).repeat(count, 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = shift[:, 0] * 2 / width, shift[:, 1] * 2 / height
    grid = affine_grid(matrix, list(planes.shape), align_corners=False)
    return grid_sample(planes, grid, padding_mode="border", align_corners=False)


def drift(count: int, size: float, generator: torch.Generator) -> Tensor:
    """Gain of every frame and channel, wandering slowly from frame to frame. [F, 3]"""
    steps = torch.randn(count, 4, generator=generator) * size / max(count, 1) ** 0.5
    walk = steps.cumsum(0) - steps.cumsum(0).mean(0)
    return (walk[:, :1] + 0.5 * walk[:, 1:]).exp()
