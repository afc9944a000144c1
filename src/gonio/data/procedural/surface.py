"""What a family produces, and the small layer arithmetic families are written with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.palettes import draw_color


@dataclass(frozen=True, kw_only=True)
class Style:
    """What was decided before a family runs: colour names, mean roughness, metal or not."""

    color: str
    second_color: str
    roughness: float
    metallic: bool

    def rgb(self, draw: Draw) -> Tensor:
        """The main colour [3] linear."""
        return draw_color(draw, self.color, self.metallic)

    def second_rgb(self, draw: Draw) -> Tensor:
        """A dielectric accent colour [3] linear."""
        return draw_color(draw, self.second_color, False)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Unfinished maps: height in any range, spanning `relief` tile widths once normalised; basecolor
    [n, n, 3] linear; roughness [n, n]; metallic [n, n] (None: everywhere or nowhere, as the style says)."""

    height: Tensor
    relief: float
    basecolor: Tensor
    roughness: Tensor
    pattern: str
    metallic: Tensor | None = None
    adjectives: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of material: its generator, the nouns it is called by, and what is natural for it."""

    generate: Callable[[Draw, Style], Surface]
    nouns: tuple[str, ...]
    colors: tuple[str, ...]
    roughness: tuple[float, float]
    metal: float = 0.0  # how often it is metal when nobody asks
    weathering: float = 0.5  # how often dirt, stains and wear are laid over it
    tags: tuple[str, ...] = field(default=())


def smoothstep(low: float | Tensor, high: float | Tensor, x: Tensor) -> Tensor:
    """0 below low, 1 above high, smooth between."""
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """Blend colours ([3] or [n, n, 3]) by a mask [n, n]: 0 gives the first, 1 the second."""
    return first + (second - first) * mask[..., None]


def shade(color: Tensor, stops: Tensor) -> Tensor:
    """Brighten or darken a colour ([3] or [n, n, 3]) by exp(stops [n, n])."""
    return color * torch.exp(stops)[..., None]


def palette(draw: Draw, main: Tensor, amount: float, count: int) -> Tensor:
    """`count` relatives of the main colour [3]: [count, 3] linear; amount is their spread in natural logs."""
    bright = draw.normal(count, 1) * amount
    hue = draw.normal(count, 3) * amount * draw.uniform(0.05, 0.3)
    return (main * torch.exp(bright + hue)).clamp(0.0, 0.97)
