"""Random draws that do not depend on the resolution: one seed is one material at every size."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

# The part of every range that plain materials are drawn from: few, large elements, each much like the next.
PLAIN = (0.1, 0.5)


class Draw:
    """A seeded source of scalars and tensors, with the pixel grid they are used on.

    `n` is the working resolution. Nothing drawn may depend on it, or a seed would change with the size.
    `u`, `v` are pixel centres [n, n]: u to the right, v up (row 0 is at the top), from a random origin, so
    that no layout begins at the border of the tile. Patterns must have period 1 in both.
    plain: the origin is the corner, and once `simplify` was called numbers come from a part of their range.
    """

    def __init__(self, key: str, n: int, *, plain: bool = False) -> None:
        self.n = n
        self._part = (0.0, 1.0)
        self._scalars = random.Random(key)
        self._tensors = torch.Generator().manual_seed(self._scalars.getrandbits(62))
        centres = (torch.arange(n, dtype=torch.float32) + 0.5) / n
        start_u, start_v = (0.0, 0.0) if plain else (self._scalars.random(), self._scalars.random())
        self.u = (centres + start_u)[None, :].expand(n, n)
        self.v = (1.0 - centres + start_v)[:, None].expand(n, n)

    @property
    def pixel(self) -> float:
        """The width of one pixel, in tile widths."""
        return 1.0 / self.n

    def simplify(self) -> None:
        """From now on draw from the part `PLAIN` of every range."""
        self._part = PLAIN

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        first, last = (low + share * (high - low) for share in self._part)
        return self._scalars.uniform(first, last)

    def log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""
        first, last = (math.floor(low + share * (high - low)) for share in self._part)
        return self._scalars.randint(first, last)

    def even(self, low: int, high: int) -> int:
        """An even integer in [low, high]."""
        return 2 * self.integer((low + 1) // 2, high // 2)

    def chance(self, probability: float) -> bool:
        return self._scalars.random() < probability

    def choice(self, options: Sequence[T]) -> T:
        return self._scalars.choice(options)

    def rand(self, *shape: int) -> Tensor:
        """Uniform on [0, 1)."""
        return torch.rand(shape, generator=self._tensors)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._tensors)

    def per_cell(self, count: int, index: Tensor) -> Tensor:
        """One uniform number per cell, spread over the pixels of that cell. index [H, W] -> [H, W]."""
        return self.rand(count)[index]
