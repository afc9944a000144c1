"""Feed-forward layers that see the tokens around, at no cost: hidden channels are taken from neighbours.

A transformer learns from many examples that neighbours belong together; a small one sees too few. Half of the
hidden channels of each feed-forward layer are therefore read from the eight tokens around, a sixteenth each
(spatial shifts instead of a convolution: Wu et al. 2018; Lin et al. 2019): as strong a prior as a 3x3
convolution, without weights or arithmetic. Beyond the border the border's tokens go on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]
SHARE = 16  # of the hidden channels is read from each neighbour


class TokenShift(nn.Module):
    """[B, f h w, C] -> the same shape. grid: (f, h, w) of the tokens, told before each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = (0, 0, 0)

    def forward(self, hidden: Tensor) -> Tensor:
        tokens = hidden.unflatten(1, self.grid)
        part = hidden.shape[-1] // SHARE
        own = hidden.shape[-1] - part * len(AROUND)
        parts = [tokens[..., :own]]
        for number, (row, column) in enumerate(AROUND):
            channels = tokens[..., own + number * part : own + (number + 1) * part]
            parts.append(_moved(_moved(channels, row, 2), column, 3))
        return torch.cat(parts, -1).flatten(1, 3)


def _moved(tokens: Tensor, step: int, axis: int) -> Tensor:
    """What lies one token further (step 1) or before (-1) along an axis; the border stays."""
    count = tokens.shape[axis]
    if step == 0:
        return tokens
    if step > 0:
        return torch.cat([tokens.narrow(axis, 1, count - 1), tokens.narrow(axis, count - 1, 1)], axis)
    return torch.cat([tokens.narrow(axis, 0, 1), tokens.narrow(axis, 0, count - 1)], axis)


def with_token_shift(transformer: Any) -> Any:
    """Put a shift where WanTransformer3DModel's feed-forward layers have a dropout of zero."""

    def tell(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tell_grid(model, kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])

    for block in transformer.blocks:
        block.ffn.net[1] = TokenShift()
    transformer.register_forward_pre_hook(tell, with_kwargs=True)
    return transformer


def tell_grid(transformer: Any, latents: Tensor) -> None:
    """Tell the shifts, where there are any, how the tokens of latents [B, C, f, h, w] lie."""
    f, h, w = (n // p for n, p in zip(latents.shape[2:], transformer.config.patch_size, strict=True))
    for block in transformer.blocks:
        if isinstance(block.ffn.net[1], TokenShift):
            block.ffn.net[1].grid = (f, h, w)
