"""Feed-forward layers that see the tokens around, at no cost: hidden channels are taken from neighbours.

A transformer learns from many examples that neighbours belong together; a small one sees too few. Half of the
hidden channels of each feed-forward layer are therefore read from the eight tokens around, a sixteenth each
(spatial shifts instead of a convolution: Wu et al. 2018; Lin et al. 2019): as strong a prior as a 3x3
convolution, without weights or arithmetic. Beyond the border the border's tokens go on.
"""

from __future__ import annotations

from collections.abc import Callable
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
        return _Shifted.apply(hidden, self.grid)


class _Shifted(torch.autograd.Function):
    """Written out with its gradient, the adjoint moves: torch's own fills and adds a tensor a neighbour."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, grid: tuple[int, int, int]) -> Tensor:
        ctx.grid = grid
        return _moved_shares(hidden, grid, _moved)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _moved_shares(gradients[0], ctx.grid, _moved_back), None


def _moved_shares(hidden: Tensor, grid: tuple[int, int, int], move: Callable[..., Tensor]) -> Tensor:
    """move(tokens, step, axis) along both axes of the share of each neighbour; the rest stays."""
    tokens = hidden.unflatten(1, grid)
    result = tokens.clone(memory_format=torch.contiguous_format)
    part = hidden.shape[-1] // SHARE
    own = hidden.shape[-1] - part * len(AROUND)
    for number, (row, column) in enumerate(AROUND):
        channels = slice(own + number * part, own + (number + 1) * part)
        result[..., channels] = move(move(tokens[..., channels], row, 2), column, 3)
    return result.flatten(1, 3)


def _moved(tokens: Tensor, step: int, axis: int) -> Tensor:
    """What lies one token further (step 1) or before (-1) along an axis; the border stays."""
    count = tokens.shape[axis]
    if step == 0:
        return tokens
    if step > 0:
        return torch.cat([tokens.narrow(axis, 1, count - 1), tokens.narrow(axis, count - 1, 1)], axis)
    return torch.cat([tokens.narrow(axis, 0, 1), tokens.narrow(axis, 0, count - 1)], axis)


def _moved_back(gradient: Tensor, step: int, axis: int) -> Tensor:
    """The adjoint of `_moved`: the border's token was read twice, the opposite border's not at all."""
    count = gradient.shape[axis]
    if step == 0 or count == 1:
        return gradient
    result = torch.empty_like(gradient, memory_format=torch.contiguous_format)
    to, source, border = (1, 0, count - 1) if step > 0 else (0, 1, 0)
    result.narrow(axis, to, count - 1).copy_(gradient.narrow(axis, source, count - 1))
    result.narrow(axis, count - 1 - border, 1).zero_()
    result.narrow(axis, border, 1).add_(gradient.narrow(axis, border, 1))
    return result


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
