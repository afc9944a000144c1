"""The plane renderer: a neural material on the flat sample, a perspective camera, a near-field point light.

Differentiable in textures, decoder, camera and light. Direction and falloff are per pixel:

    L(p, wo) = value(u, wi, wo) * I / |l - p|^2,    I = pi d^2                         (CONVENTIONS, light)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonio.camera import Trajectory, camera_rays, light_intensity, plane_points, point_from_uv, uv_from_point
from gonio.neural_material import NeuralMaterial


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What a sample point sees: uv [..., 2]; wi, wo [..., 3] unit; irradiance [...] facing the light."""

    uv: Tensor
    wi: Tensor
    wo: Tensor
    irradiance: Tensor


def geometry_at(uv: Tensor, camera_position: Tensor, light_position: Tensor) -> Geometry:
    """uv [..., 2]; camera and light positions broadcast against [..., 3]."""
    point = point_from_uv(uv)
    to_light = light_position - point
    irradiance = light_intensity(light_position) / to_light.square().sum(-1)
    wi = normalize(to_light, dim=-1)
    wo = normalize(camera_position - point, dim=-1)
    return Geometry(uv=uv, wi=wi, wo=wo.expand(wi.shape), irradiance=irradiance)


def shade(material: NeuralMaterial, at: Geometry) -> Tensor:
    """Linear radiance [..., 3] of sample points."""
    value = material.evaluate(at.uv, at.wi, at.wo)
    if not material.spec.cosine_included:
        value = value * at.wi[..., 2:].clamp_min(0)
    return value * at.irradiance[..., None]


def render_plane(
    material: NeuralMaterial,
    trajectory: Trajectory,
    height: int,
    width: int,
    *,
    samples_per_side: int = 1,
) -> Tensor:
    """Frames [F, H, W, 3] linear; black where a pixel's centre misses the unit sample.

    samples_per_side^2 points a pixel are decoded and averaged: the average of decoded values, never of
    latents, because the decoder is not linear.
    """
    frames = []
    n = samples_per_side
    for index in range(trajectory.frames):
        camera, light = trajectory.camera_position[index], trajectory.light_position[index]
        rays = camera_rays(camera, trajectory.camera_up[index], trajectory.fov, height * n, width * n)
        uv = uv_from_point(plane_points(camera, rays))
        inside = ((uv >= 0) & (uv <= 1)).all(-1)
        radiance = torch.zeros_like(rays)
        radiance = radiance.index_put((inside,), shade(material, geometry_at(uv[inside], camera, light)))
        if n > 1:
            weight = inside.to(radiance).reshape(height, n, width, n, 1).sum((1, 3))
            radiance = radiance.reshape(height, n, width, n, 3).sum((1, 3)) / weight.clamp_min(1)
        frames.append(radiance)
    return torch.stack(frames)
