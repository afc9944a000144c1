"""Where to look for light: analytic sampling lobes fitted to a neural material.

The decoder can be evaluated but not sampled. A path tracer samples this mixture instead, whose parameters
(a tilted normal, a GGX roughness, a weight) are stored on a coarse grid over the tile and interpolated:

    p(wi | wo) = w GGX_vndf(wi | wo; n, alpha) + (1 - w) (0.9 cos(theta_i) / pi + 0.1 / (2 pi))

The second part is defensive: the estimator value / p stays unbiased and bounded whatever the decoder says,
also where it is not yet black at the horizon (the uniform part). Fitting chooses, per cell, the parameters
with the least second moment of value / p, which is the variance up to a constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonio.blocks import for_each_block
from gonio.neural_material import NeuralMaterial
from gonio.render.mixture import MIN_TILTED_COSINE, UNIFORM_SHARE

MAX_WEIGHT = 0.75  # leaves the cosine lobe at least (1 - 0.75) 0.9 > 0.2 of all samples
MAX_TILT = 0.6  # of the normal's xy
ALPHAS = (0.05, 0.1, 0.2, 0.35, 0.6)
WEIGHTS = (0.0, 0.25, 0.5, 0.65, MAX_WEIGHT)
MAX_CELLS = 24

_CAMERAS = 5
_COSINE_POINTS = 64
_HALF_POINTS = 48
_HALF_ALPHAS = (0.12, 0.4)


@dataclass(frozen=True, kw_only=True)
class Lobes:
    """parameters: [h, w, 4] = (normal x, normal y, alpha, weight w), row 0 is v = 1."""

    parameters: Tensor


def lobe_pdf(parameters: Tensor, wi: Tensor, wo: Tensor) -> Tensor:
    """Density [1/sr] of sampling wi. parameters [..., 4]; wi, wo [..., 3] unit. Returns [...].

    It integrates to at most 1 over the upper hemisphere: GGX samples that fall below count as lost.
    """
    weight = parameters[..., 3] * _lobe_visible(parameters, wo)
    density = weight * _ggx_pdf(parameters, wi, wo) + (1 - weight) * _defensive_pdf(wi)
    return torch.where((wi[..., 2] > 0) & (wo[..., 2] > 0), density, torch.zeros_like(density))


def fit_lobes(material: NeuralMaterial, max_cells: int = MAX_CELLS) -> Lobes:
    """Lobes of a material on a grid of at most max_cells a side; a second or less of decoding."""
    height, width = (min(max_cells, side) for side in material.resolution)
    cameras, lights, quadrature = _probe_directions()
    centre_v, centre_u = torch.meshgrid(
        1 - (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    centres = torch.stack([centre_u, centre_v], -1).reshape(-1, 2)
    generator = torch.Generator().manual_seed(0)
    views, count = quadrature.shape
    # Every probe looks at another point of its cell: the lobes must serve the whole cell.
    jitter = torch.rand(views, count, 2, generator=generator) - 0.5
    uv = centres[:, None, None] + jitter / torch.tensor([width, height])

    def cells(start: int, stop: int) -> Tensor:
        shape = (stop - start, views, count, 3)
        wi, wo = lights.expand(shape), cameras[:, None].expand(shape)
        with torch.no_grad():
            value = material.evaluate(uv[start:stop], wi, wo).mean(-1)
        if not material.spec.cosine_included:
            value = value * lights[..., 2]
        return _fit_cells(value, cameras, lights, quadrature)

    parameters = torch.cat(for_each_block(height * width, cells, size=16))
    return Lobes(parameters=parameters.reshape(height, width, 4))


def _fit_cells(value: Tensor, cameras: Tensor, lights: Tensor, quadrature: Tensor) -> Tensor:
    """The best of a small set of lobes per cell. value [C, K, N] -> [C, 4]."""
    measured = value * quadrature
    energy = measured.sum(-1).clamp_min(1e-12)
    defensive = _defensive_pdf(lights)
    best = torch.zeros(value.shape[0], 4)
    best_cost = torch.full((value.shape[0],), math.inf)
    for normal in (torch.zeros(value.shape[0], 2), _highlight_normal(value, cameras, lights, quadrature)):
        for alpha in ALPHAS:
            lobe = torch.cat([normal, normal.new_tensor([alpha, 1.0]).expand(len(normal), 2)], -1)
            lobe = lobe[:, None, None]
            visible = _lobe_visible(lobe, cameras[:, None])
            specular = _ggx_pdf(lobe, lights, cameras[:, None])
            for weight in WEIGHTS:
                share = weight * visible
                density = (share * specular + (1 - share) * defensive).clamp_min(1e-6)
                cost = ((measured * value / density).sum(-1) / energy.square()).sum(-1)
                better = cost < best_cost
                best_cost = torch.where(better, cost, best_cost)
                found = torch.cat([lobe[:, 0, 0, :3], lobe.new_full((len(normal), 1), weight)], -1)
                best = torch.where(better[:, None], found, best)
    return best


def _highlight_normal(value: Tensor, cameras: Tensor, lights: Tensor, quadrature: Tensor) -> Tensor:
    """Mean half vector of what exceeds a matte surface: xy of the normal. value [C, K, N] -> [C, 2]."""
    cosine = lights[..., 2].clamp_min(0.05)
    matte = (value / cosine)[..., :_COSINE_POINTS].flatten(1).quantile(0.3, -1)[:, None, None]
    excess = (value - matte * cosine).clamp_min(0).square() * quadrature
    half = normalize(lights + cameras[:, None], dim=-1)
    mean = (excess[..., None] * half).sum((1, 2))
    xy = normalize(mean + torch.tensor([0.0, 0.0, 1e-12]), dim=-1)[:, :2]
    return xy * (MAX_TILT / xy.norm(dim=-1, keepdim=True).clamp_min(MAX_TILT))


def _lobe_normal(parameters: Tensor) -> Tensor:
    xy = parameters[..., :2]
    return torch.cat([xy, (1 - xy.square().sum(-1, keepdim=True)).clamp_min(0).sqrt()], -1)


def _lobe_visible(parameters: Tensor, wo: Tensor) -> Tensor:
    return ((_lobe_normal(parameters) * wo).sum(-1) > MIN_TILTED_COSINE).float()


def _defensive_pdf(wi: Tensor) -> Tensor:
    return (1 - UNIFORM_SHARE) * wi[..., 2] / math.pi + UNIFORM_SHARE / (2 * math.pi)


def _ggx_pdf(parameters: Tensor, wi: Tensor, wo: Tensor) -> Tensor:
    """G1(wo) D(h) / (4 wo.n): visible normals of GGX about the lobe's normal, mirrored (Heitz 2018)."""
    normal, alpha_squared = _lobe_normal(parameters), parameters[..., 2].square()
    cos_o = (normal * wo).sum(-1)
    cos_h = (normal * normalize(wi + wo, dim=-1)).sum(-1)
    visible = (cos_o > MIN_TILTED_COSINE) & (cos_h > 0)
    cos_o = cos_o.clamp_min(MIN_TILTED_COSINE)
    d = alpha_squared / (math.pi * (1 + (alpha_squared - 1) * cos_h.square()).square())
    tan_squared = (1 - cos_o.square()).clamp_min(0) / cos_o.square()
    g1 = 2 / (1 + (1 + alpha_squared * tan_squared).sqrt())
    density = g1 * d / (4 * cos_o)
    return torch.where(visible, density, torch.zeros_like(density))


def _probe_directions() -> tuple[Tensor, Tensor, Tensor]:
    """Cameras [K, 3], lights [K, N, 3] and their weights [K, N]: sum(weight f) is about the integral of f.

    Cosine-distributed lights see the matte part, mirror directions of GGX half vectors the highlights;
    all points share one density, the sum of both (balance heuristic).
    """
    zenith = torch.tensor([15.0, 50.0, 50.0, 50.0, 50.0]).deg2rad()
    azimuth = torch.tensor([20.0, 0.0, 90.0, 180.0, 270.0]).deg2rad()
    cameras = _direction(zenith.cos(), azimuth)
    u1, u2 = _low_discrepancy(_CAMERAS, _COSINE_POINTS)
    lights = [_direction((1 - u1).sqrt(), 2 * math.pi * u2)]
    for index, alpha in enumerate(_HALF_ALPHAS):
        u1, u2 = _low_discrepancy(_CAMERAS, _HALF_POINTS, start=1000 * (index + 1))
        half = _direction(((1 - u1) / (1 + (alpha**2 - 1) * u1)).sqrt(), 2 * math.pi * u2)
        wo = cameras[:, None]
        lights.append(2 * (wo * half).sum(-1, keepdim=True) * half - wo)
    wi = torch.cat(lights, 1)
    half = normalize(wi + cameras[:, None], dim=-1)
    cos_h, cos_d = half[..., 2], (half * cameras[:, None]).sum(-1)
    density = _COSINE_POINTS * wi[..., 2].clamp_min(0) / math.pi
    for alpha in _HALF_ALPHAS:
        d = alpha**2 / (math.pi * (1 + (alpha**2 - 1) * cos_h.square()).square())
        density = density + _HALF_POINTS * d * cos_h / (4 * cos_d.clamp_min(1e-3))
    valid = (wi[..., 2] > 0) & (cos_d > 0)
    return cameras, wi, torch.where(valid, 1 / density.clamp_min(1e-6), torch.zeros_like(density))


def _direction(cos_theta: Tensor, phi: Tensor) -> Tensor:
    sin_theta = (1 - cos_theta.square()).clamp_min(0).sqrt()
    return torch.stack([sin_theta * phi.cos(), sin_theta * phi.sin(), cos_theta], -1)


def _low_discrepancy(rows: int, columns: int, start: int = 0) -> tuple[Tensor, Tensor]:
    """Two [rows, columns] of the R2 sequence (Roberts 2018), shifted per row."""
    index = torch.arange(rows * columns, dtype=torch.float64).reshape(rows, columns) + start + 1
    return (index * 0.7548776662466927 % 1).float(), (index * 0.5698402909980532 % 1).float()
