"""Convolutional networks on a torus: what lies beyond a border is the opposite one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Pixels or latents of the neighbouring tile that a network sees.
MARGIN = 4


def on_torus(network: Callable[[Tensor], Tensor], x: Tensor, margin: int = MARGIN) -> Tensor:
    """network(x [..., h, w]) -> [..., r h, r w] as of one tile of many.

    The network sees `margin` rows and columns of the neighbouring tiles on each side (all its convolutions
    reach; attention still sees the larger picture), and what it makes of them is cut off.
    """
    height, width = x.shape[-2:]
    rows = torch.arange(-margin, height + margin, device=x.device) % height
    columns = torch.arange(-margin, width + margin, device=x.device) % width
    found = network(x[..., rows, :][..., columns])
    ratio = found.shape[-1] // (width + 2 * margin)
    edge = margin * ratio
    return found[..., edge : edge + height * ratio, edge : edge + width * ratio]
