"""The sampling mixture of `gonio.render.lobes` inside Dr.Jit: the same density, and how to draw from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import drjit as dr
import mitsuba as mi

from gonio.render.mixture import MIN_TILTED_COSINE, UNIFORM_SHARE

MIN_ALPHA = 0.01


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One interpolated entry of the lobe grid. normal: mi.Vector3f; alpha, weight: mi.Float."""

    normal: Any
    alpha: Any
    weight: Any

    @classmethod
    def of(cls, parameters: list[Any], wo: Any) -> Mixture:
        """From (normal x, normal y, alpha, weight); without GGX where the camera sees no tilted surface."""
        x, y, alpha, weight = parameters
        normal = mi.Vector3f(x, y, dr.safe_sqrt(1 - x * x - y * y))
        return cls(
            normal=normal,
            alpha=dr.clip(alpha, MIN_ALPHA, 1),
            weight=dr.select(dr.dot(normal, wo) > MIN_TILTED_COSINE, weight, 0),
        )

    def sample(self, wo: Any, choice: Any, point: Any) -> Any:
        """A light direction, possibly below the horizon. choice: mi.Float, point: mi.Point2f in [0, 1)."""
        frame = mi.Frame3f(self.normal)
        microfacets = mi.MicrofacetDistribution(mi.MicrofacetType.GGX, self.alpha, True)
        half: Any = microfacets.sample(frame.to_local(wo), point)[0]
        half = frame.to_world(mi.Vector3f(half))
        mirrored = 2 * dr.dot(wo, half) * half - wo
        cosine = mi.warp.square_to_cosine_hemisphere(point)
        uniform = mi.warp.square_to_uniform_hemisphere(point)
        first_uniform = self.weight + (1 - self.weight) * (1 - UNIFORM_SHARE)
        matte = dr.select(choice < first_uniform, cosine, uniform)
        return dr.normalize(dr.select(choice < self.weight, mirrored, matte))

    def pdf(self, wi: Any, wo: Any) -> Any:
        """Density [1/sr] of `sample`; 0 where either direction is below the horizon."""
        cos_o = dr.dot(self.normal, wo)
        cos_h = dr.dot(self.normal, dr.normalize(wi + wo))
        alpha_squared = dr.square(self.alpha)
        d = alpha_squared / (math.pi * dr.square(1 + (alpha_squared - 1) * dr.square(cos_h)))
        cos_squared = dr.square(dr.select(cos_o > MIN_TILTED_COSINE, cos_o, 1))
        g1 = 2 / (1 + dr.safe_sqrt(1 + alpha_squared * (1 - cos_squared) / cos_squared))
        ggx = dr.select(cos_h > 0, g1 * d / (4 * dr.sqrt(cos_squared)), 0)
        defensive = (1 - UNIFORM_SHARE) * wi.z / math.pi + UNIFORM_SHARE / (2 * math.pi)
        density = self.weight * ggx + (1 - self.weight) * defensive
        return dr.select((wi.z > 0) & (wo.z > 0), density, 0)
