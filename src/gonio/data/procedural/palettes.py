"""Basic colour names, the colours they stand for, and the name of any colour."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from gonio.color import linear_from_srgb
from gonio.data.procedural.draw import Draw

# sRGB anchors of each name on a dielectric. A colour is called by the name of its nearest anchor in OKLab.
DIELECTRIC: dict[str, tuple[str, ...]] = {
    "black": ("101010", "1e1e20", "28231f"),
    "grey": ("808080", "5c5c5e", "a5a5a3", "454545"),
    "white": ("f2f2f0", "e2e0dc", "cfcfd0"),
    "red": ("b01c1c", "d8342c", "7a1414"),
    "orange": ("e0701a", "f08c34", "c25410"),
    "brown": ("5a3a22", "7c5230", "3d2817", "8f6a4a", "6e3c28"),
    "beige": ("d8c4a0", "c9ae86", "e6d8bc"),
    "yellow": ("e8c820", "f4dc50", "c8a010"),
    "olive": ("6b6a2a", "8a8440", "4a4a1e"),
    "green": ("2e7a32", "58a83c", "1f4a24", "88b878"),
    "teal": ("1d8080", "0f5a5c", "40b0a8"),
    "blue": ("2050b0", "4a86d0", "142c6a", "8cb0dc"),
    "purple": ("6a2f96", "9460c0", "42205e"),
    "pink": ("e888b0", "d85a90", "f4b8cc"),
}
METAL: dict[str, tuple[str, ...]] = {
    "silver": ("d4d4d4", "f2f1ee", "bfc2c6"),
    "grey": ("8a8a8a", "646668", "a09a94"),
    "black": ("242426", "3a3a3c"),
    "gold": ("ffe29d", "d4a640", "b08a3a", "e8c060"),
    "copper": ("f8cfc0", "c77b50", "96532f", "da9c80"),
    "red": ("b01c1c", "7a1414"),
    "green": ("2e7a32", "58a83c"),
    "teal": ("1d8080", "40b0a8"),
    "blue": ("2050b0", "4a86d0", "142c6a"),
    "purple": ("6a2f96", "9460c0"),
}
COLOR_NAMES: tuple[str, ...] = tuple(dict.fromkeys((*DIELECTRIC, *METAL)))


def color_names(metallic: bool) -> tuple[str, ...]:
    """The names a dielectric or a metal can have."""
    return tuple(METAL if metallic else DIELECTRIC)


@cache
def _anchors(metallic: bool) -> tuple[tuple[str, ...], Tensor]:
    """(a name per anchor, anchors [A, 3] in OKLab)."""
    table = METAL if metallic else DIELECTRIC
    names = tuple(name for name, codes in table.items() for _ in codes)
    return names, oklab(torch.stack([_linear(code) for codes in table.values() for code in codes]))


def _linear(code: str) -> Tensor:
    return linear_from_srgb(torch.tensor([int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4)]))


def oklab(linear: Tensor) -> Tensor:
    """Linear Rec.709 [..., 3] -> OKLab [..., 3] (Ottosson 2020)."""
    to_lms = linear.new_tensor(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = linear.new_tensor(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lms = (linear.clamp_min(0.0) @ to_lms.T).clamp_min(1e-9) ** (1.0 / 3.0)
    return lms @ to_lab.T


def _nearest(linear: Tensor, metallic: bool) -> Tensor:
    """[N, 3] linear -> [N] index of the nearest anchor."""
    return torch.cdist(oklab(linear), _anchors(metallic)[1]).argmin(-1)


def color_name(linear: Tensor, metallic: bool) -> str:
    """The name of one linear colour [3]."""
    return _anchors(metallic)[0][int(_nearest(linear[None], metallic))]


def name_shares(basecolor: Tensor, metallic: Tensor) -> dict[str, float]:
    """Area share of each colour name, largest first; basecolor [H, W, 3] linear, metallic [H, W]."""
    stride = max(1, basecolor.shape[0] // 64)
    color, metal = (
        basecolor[::stride, ::stride].reshape(-1, 3),
        metallic[::stride, ::stride].reshape(-1) > 0.5,
    )
    shares: dict[str, float] = {}
    for is_metal in (False, True):
        chosen = color[metal == is_metal]
        if len(chosen) == 0:
            continue
        names = _anchors(is_metal)[0]
        counts = torch.bincount(_nearest(chosen, is_metal), minlength=len(names)).tolist()
        for name, number in zip(names, counts, strict=True):
            shares[name] = shares.get(name, 0.0) + number / len(color)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def draw_color(draw: Draw, name: str, metallic: bool, jitter: float = 0.06) -> Tensor:
    """A linear colour [3] that bears the name; jitter is the deviation in display-encoded units."""
    code = draw.choice((METAL if metallic else DIELECTRIC)[name])
    offset = draw.normal(6, 3) * 0.5 * jitter + draw.normal(6, 1) * jitter
    encoded = torch.tensor([int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4)])
    tries = linear_from_srgb((encoded + offset).clamp(0.04, 0.98 if metallic else 0.965))
    names = _anchors(metallic)[0]
    for candidate, nearest in zip(tries, _nearest(tries, metallic).tolist(), strict=True):
        if names[nearest] == name:
            return candidate
    return linear_from_srgb(encoded)
