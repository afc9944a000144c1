"""A stand-in for the published EfficientNet-Lite: its names and shapes, random weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Rows = tuple[tuple[int, int, int, int, int], ...]
# (blocks, kernel, stride, expansion, channels) of every stage of the published network.
ROWS = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))  # fmt: skip
# Of Lite2: 1.1 times as wide, 1.2 times as deep.
LARGER = ((1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 48), (4, 3, 2, 6, 88), (4, 5, 1, 6, 120),
          (5, 5, 2, 6, 208), (1, 3, 1, 6, 352))  # fmt: skip


def published_weights(seed: int = 0, rows: Rows = ROWS) -> dict[str, Tensor]:
    """The published state dict, but for the classifier's size, with weights that keep values moderate."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}

    def convolution(name: str, norm: str, shape: tuple[int, ...]) -> None:
        found[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        found[f"{norm}.weight"] = 0.5 + torch.rand(shape[0], generator=generator)
        found[f"{norm}.bias"] = 0.5 * torch.randn(shape[0], generator=generator)
        found[f"{norm}.running_mean"] = 0.2 * torch.randn(shape[0], generator=generator)
        found[f"{norm}.running_var"] = 0.2 + torch.rand(shape[0], generator=generator)
        found[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    convolution("_conv_stem", "_bn0", (32, 3, 3, 3))
    before, number = 32, 0
    for blocks, kernel, _, expansion, channels in rows:
        for _ in range(blocks):
            block, wide = f"_blocks.{number}", before * expansion
            if expansion > 1:
                convolution(f"{block}._expand_conv", f"{block}._bn0", (wide, before, 1, 1))
            convolution(f"{block}._depthwise_conv", f"{block}._bn1", (wide, 1, kernel, kernel))
            convolution(f"{block}._project_conv", f"{block}._bn2", (channels, wide, 1, 1))
            before, number = channels, number + 1
    convolution("_conv_head", "_bn1", (8, before, 1, 1))
    found |= {"_fc.weight": torch.zeros(10, 8), "_fc.bias": torch.zeros(10)}
    return found
