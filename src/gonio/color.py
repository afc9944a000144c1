"""Colour: linear Rec.709 inside, sRGB display encoding at 8-bit boundaries. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_from_linear(linear: Tensor) -> Tensor:
    """Display-encode linear values (IEC 61966-2-1). Any shape; values outside [0, 1] are clipped."""
    x = linear.clamp(0.0, 1.0)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def linear_from_srgb(encoded: Tensor) -> Tensor:
    """Inverse of `srgb_from_linear` on [0, 1]. Any shape."""
    x = encoded.clamp(0.0, 1.0)
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def luminance(linear: Tensor) -> Tensor:
    """Rec.709 luminance. [..., 3] linear -> [...]."""
    return linear @ linear.new_tensor([0.2126, 0.7152, 0.0722])


def log_encode(linear: Tensor, gain: float = 1.0) -> Tensor:
    """log(1 + gain x): the domain in which HDR quantities are compared and learned. Any shape, x >= 0.

    With gain 10 its slope follows the sRGB curve over [0.01, 1], so errors weigh about as a viewer sees them,
    while highlights far above 1 still count.
    """
    return torch.log1p(gain * linear)


def log_decode(encoded: Tensor, gain: float = 1.0) -> Tensor:
    """Inverse of `log_encode`."""
    return torch.expm1(encoded) / gain
