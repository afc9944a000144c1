"""Are a material's offsets the parallax of its relief? Compared with what a ray meets on the true height."""

from __future__ import annotations

import copy
import math

import torch
from scipy.stats import spearmanr
from torch import Tensor

from gonio.data.clips import texel_centers
from gonio.errors import GonioError
from gonio.neural_material import NeuralMaterial
from gonio.texture import fetch

# Off the zenith: far enough that relief shows, inside the cone of the two-phase cameras.
TILT = math.radians(30.0)
AZIMUTHS = 4
_STEPS = 128


def true_parallax(displacement: Tensor, uv: Tensor, wo: Tensor) -> Tensor:
    """uv of what is seen at reference points uv [N, 2] from wo [N, 3], less uv. [N, 2]

    displacement [H, W] in tile widths above the reference plane, row 0 at v = 1, repeated. The ray through
    the point falls from the highest displacement to the lowest in equal steps; where it first lies below the
    surface its last step is divided linearly.
    """
    if bool((wo[:, 2] <= 0).any()):
        raise GonioError("parallax: a view from below the horizon sees no surface; give wo with z above 0")
    slope = wo[:, :2] / wo[:, 2:]
    surface = displacement[..., None]
    levels = torch.linspace(float(displacement.max()), float(displacement.min()), _STEPS)

    def gap(z: Tensor) -> Tensor:
        """How far the ray at height z [N] is above the surface."""
        return z - fetch(surface, uv + z[:, None] * slope)[:, 0]

    above = gap(levels[0].expand(len(uv)))
    z = levels[-1].expand(len(uv)).clone()
    found = torch.zeros(len(uv), dtype=torch.bool)
    for before, level in zip(levels[:-1], levels[1:], strict=True):
        below = gap(level.expand(len(uv)))
        crossed = (below <= 0) & ~found
        share = above / (above - below).clamp_min(1e-12)
        z = torch.where(crossed, before + share * (level - before), z)
        found |= crossed
        above = below
    return z[:, None] * slope


def parallax_correlation(material: NeuralMaterial, displacement: Tensor, size: int = 128) -> float:
    """Spearman's rank correlation between the material's offsets and the true parallax, along the view.

    Over size x size points from each of four azimuths, and the mean of these. A constant shift of all
    offsets changes no rank. 0 where the offsets or the relief are constant.
    """
    uv = texel_centers(size)
    total = 0.0
    for azimuth in torch.arange(AZIMUTHS) * (2 * math.pi / AZIMUTHS):
        across = torch.stack([azimuth.cos(), azimuth.sin()])
        wo = torch.cat([math.sin(TILT) * across, torch.tensor([math.cos(TILT)])]).expand(len(uv), 3)
        with torch.no_grad():
            guess = material.offset(uv, wo) @ across
        truth = true_parallax(displacement, uv, wo) @ across
        if bool(guess.max() > guess.min()) and bool(truth.max() > truth.min()):
            total += float(spearmanr(guess, truth).statistic)
    return total / AZIMUTHS


def relief(displacement: Tensor) -> float:
    """Standard deviation of the displacement, in tile widths."""
    return float(displacement.std())


def without_offsets(material: NeuralMaterial) -> NeuralMaterial:
    """The same material with every offset zero."""
    flat = copy.deepcopy(material)
    with torch.no_grad():
        for parameter in flat.decoder.M_off.layers[-1].parameters():
            parameter.zero_()
    return flat
