"""The analytic material of a scan: Mitsuba's `principled` BSDF with base colour, roughness and metallic.

Every other lobe is off and `specular` is 0.5 (eta = 1.5). The lobes (Burley 2012, 2015, as in Mitsuba 3.9):

    diffuse   (1 - metallic) base / pi * ((1 - Fi/2)(1 - Fo/2) + Rr (Fo + Fi + Fo Fi (Rr - 1))),
              F = (1 - cos)^5, Rr = 2 roughness cos_d^2
    specular  F D G / (4 cos_o), F = (1 - metallic) F_dielectric + metallic lerp(base, 1, (1 - cos_d)^5)
              D, G: GGX with separable Smith shadowing, alpha = max(0.001, roughness^2)

The base colour enters linearly, so both lobes are `base * tinted + white` with two scalars per point.

A small spherical light is averaged in closed form. In half-vector slopes GGX is
alpha^2 / (pi (alpha^2 + r^2)^2): the uniform sphere seen through a stereographic projection, which maps
the light's disc to a spherical cap, and a cap's share of the sphere is elementary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SPECULAR = 0.5
ETA = 2.0 / (1.0 - math.sqrt(0.08 * SPECULAR)) - 1.0
MIN_ALPHA = 1e-3


def principled(
    base_color: Tensor,
    roughness: Tensor,
    metallic: Tensor,
    wi: Tensor,
    wo: Tensor,
    *,
    light_angle: Tensor | None = None,
) -> Tensor:
    """f(wi, wo) cos(theta_i) [1/sr] in the local shading frame.

    base_color [..., 3] linear; roughness, metallic [...]; wi (towards the light), wo (towards the camera)
    [..., 3] unit, z along the normal; light_angle [...] is the angular radius of a spherical light [rad],
    absent for a point. Returns [..., 3], zero where either direction is below the surface.
    """
    half = wi + wo
    half_squared = (half * half).sum(-1).clamp_min(1e-20)
    tinted, white = principled_lobes(
        roughness,
        metallic,
        cos_i=wi[..., 2],
        cos_o=wo[..., 2],
        cos_d_squared=0.25 * half_squared,
        sin_h_squared=(half[..., 0] ** 2 + half[..., 1] ** 2) / half_squared,
        light_angle=light_angle,
    )
    return base_color * tinted[..., None] + white[..., None]


def principled_lobes(
    roughness: Tensor,
    metallic: Tensor,
    *,
    cos_i: Tensor,
    cos_o: Tensor,
    cos_d_squared: Tensor,
    sin_h_squared: Tensor,
    light_angle: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`principled` by its invariant angles: returns (tinted, white) with f cos_i = base * tinted + white.

    cos_i, cos_o: light and camera against the normal; cos_d_squared = ((1 + wi.wo) / 2): light against the
    half vector; sin_h_squared: half vector against the normal, given as a sine because 1 - cos^2 has no
    digits left at alpha = 0.001. All [...].
    """
    above = (cos_i > 0) & (cos_o > 0)
    ci, co = cos_i.clamp_min(1e-6), cos_o.clamp_min(1e-6)
    cos_d = cos_d_squared.sqrt()
    fi, fo = _schlick_weight(ci), _schlick_weight(co)
    retro = 2.0 * roughness * cos_d_squared
    diffuse = (1.0 - 0.5 * fi) * (1.0 - 0.5 * fo) + retro * (fo + fi + fo * fi * (retro - 1.0))
    diffuse = (1.0 - metallic) * diffuse * ci * (1.0 / math.pi)

    alpha_squared = (roughness * roughness).clamp_min(MIN_ALPHA).square()
    if light_angle is None:
        density = _ggx(alpha_squared, sin_h_squared)
    else:
        # A light direction moved by delta moves the half vector by delta/2 in the plane of incidence and by
        # delta/(2 cos_d) across it; the disc below has the area of that ellipse.
        radius_squared = 0.25 * light_angle.square() / cos_d.clamp_min(0.05)
        density = _ggx_disc_average(alpha_squared, sin_h_squared, radius_squared)
    specular = density * _smith_g1(alpha_squared, ci) * _smith_g1(alpha_squared, co) / (4.0 * co)
    edge = _schlick_weight(cos_d)
    tinted = diffuse + metallic * specular * (1.0 - edge)
    white = specular * ((1.0 - metallic) * fresnel_dielectric(cos_d) + metallic * edge)
    zero = torch.zeros((), dtype=tinted.dtype, device=tinted.device)
    return torch.where(above, tinted, zero), torch.where(above, white, zero)


def fresnel_dielectric(cos_i: Tensor, eta: float = ETA) -> Tensor:
    """Unpolarised Fresnel reflectance for cos_i in [0, 1] [...], entering a medium of relative index eta."""
    cos_t = (1.0 - (1.0 - cos_i * cos_i) / (eta * eta)).clamp_min(0.0).sqrt()
    perpendicular = (cos_i - eta * cos_t) / (cos_i + eta * cos_t)
    parallel = (eta * cos_i - cos_t) / (eta * cos_i + cos_t)
    return 0.5 * (perpendicular.square() + parallel.square())


def _schlick_weight(cosine: Tensor) -> Tensor:
    """(1 - cos)^5."""
    m = (1.0 - cosine).clamp(0.0, 1.0)
    squared = m * m
    return squared * squared * m


def _ggx(alpha_squared: Tensor, sin_squared: Tensor) -> Tensor:
    """GGX normal density D(h) [1/sr] = 1 / (pi alpha^2 (cos^2 + sin^2 / alpha^2)^2)."""
    spread = (1.0 - sin_squared) * alpha_squared + sin_squared
    return alpha_squared / (math.pi * spread.square())


def _ggx_disc_average(alpha_squared: Tensor, sin_squared: Tensor, radius_squared: Tensor) -> Tensor:
    """Mean of D over a disc of slopes of squared radius R^2 around the slope tan(theta_h) = r.

    The cap over the disc has cos(psi) = A / S with A = alpha^2 + r^2 - R^2, S^2 = A^2 + 4 R^2 alpha^2, and
    the share (1 - cos psi) / 2 of the sphere; per disc area that is (S - A) / (2 pi R^2 S). The form without
    cancellation is chosen by the sign of A, and R -> 0 gives GGX itself.
    """
    cos_squared = (1.0 - sin_squared).clamp_min(1e-6)
    a = alpha_squared + sin_squared / cos_squared - radius_squared
    s = (a.square() + 4.0 * radius_squared * alpha_squared).sqrt()
    outside = 2.0 * alpha_squared / (s + a.clamp_min(0.0))
    inside = (s - a) / (2.0 * radius_squared.clamp_min(1e-12))
    return torch.where(a > 0, outside, inside) / (math.pi * s * cos_squared.square())


def _smith_g1(alpha_squared: Tensor, cosine: Tensor) -> Tensor:
    """Smith masking of GGX: 2 / (1 + sqrt(1 + alpha^2 tan^2))."""
    cos_squared = cosine * cosine
    return 2.0 / (1.0 + (1.0 + alpha_squared * (1.0 - cos_squared).clamp_min(0.0) / cos_squared).sqrt())
