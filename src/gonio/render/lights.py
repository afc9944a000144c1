"""Light for the stage: a studio made of softboxes, lamps, and their Mitsuba descriptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mitsuba as mi
import numpy as np
import torch
from torch import Tensor

from gonio.environment import EnvironmentMap, direction_from_uv, mitsuba_to_world
from gonio.errors import UsageError

STUDIO_HEIGHT = 128
# White paper on the floor has radiance 1.4: dark materials still show, white ones just clip.
STUDIO_IRRADIANCE = 1.4 * math.pi


@dataclass(frozen=True, kw_only=True)
class PointLight:
    """position: world. intensity [W/sr] per channel."""

    position: tuple[float, float, float]
    intensity: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class SphereLight:
    """A ball that shines evenly. position: world; radius > 0; radiance per channel."""

    position: tuple[float, float, float]
    radius: float
    radiance: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise UsageError(f"light radius {self.radius}: give a positive number")


Light = PointLight | SphereLight


def light_description(light: Light) -> dict[str, Any]:
    """The light as a Mitsuba plugin."""
    if isinstance(light, PointLight):
        intensity = {"type": "rgb", "value": list(light.intensity)}
        return {"type": "point", "position": list(light.position), "intensity": intensity}
    radiance = {"type": "rgb", "value": list(light.radiance)}
    return {
        "type": "sphere",
        "center": list(light.position),
        "radius": light.radius,
        "emitter": {"type": "area", "radiance": radiance},
    }


def environment_description(environment: EnvironmentMap, degrees: float) -> dict[str, Any]:
    """The environment, turned about +z, as a Mitsuba plugin."""
    bitmap = mi.Bitmap(np.ascontiguousarray(environment.mitsuba_bitmap().numpy(), dtype=np.float32))
    to_world = mi.ScalarTransform4f(mitsuba_to_world(degrees).numpy())
    return {"type": "envmap", "bitmap": bitmap, "to_world": to_world}


def studio() -> EnvironmentMap:
    """A dark room with a large key light at the left, a rim light behind and a strip at the right.

    For a camera that looks along +y.
    """
    v, u = torch.meshgrid(
        1 - (torch.arange(STUDIO_HEIGHT) + 0.5) / STUDIO_HEIGHT,
        (torch.arange(2 * STUDIO_HEIGHT) + 0.5) / (2 * STUDIO_HEIGHT),
        indexing="ij",
    )
    direction = direction_from_uv(torch.stack([u, v], -1))
    rise = direction[..., 2] * 0.5 + 0.5
    room = 0.02 + 0.10 * rise.square()[..., None] * torch.tensor([0.92, 0.98, 1.08])
    key = _softbox(direction, azimuth=205.0, elevation=46.0, width=42.0, height=32.0)
    rim = _softbox(direction, azimuth=65.0, elevation=38.0, width=50.0, height=14.0)
    strip = _softbox(direction, azimuth=-22.0, elevation=30.0, width=12.0, height=46.0)
    radiance = (
        room
        + 9.0 * key[..., None] * torch.tensor([1.0, 0.96, 0.90])
        + 7.0 * rim[..., None] * torch.tensor([0.90, 0.96, 1.0])
        + 4.0 * strip[..., None] * torch.tensor([0.95, 0.98, 1.0])
    )
    return EnvironmentMap(radiance=radiance).normalized(irradiance=STUDIO_IRRADIANCE)


def _softbox(direction: Tensor, *, azimuth: float, elevation: float, width: float, height: float) -> Tensor:
    """1 inside a rectangle of the sky with soft edges, 0 outside. Degrees; azimuth counter-clockwise from +x.

    The rectangle is flat: bright in the middle, a little darker towards its borders, as a diffuser is.
    """
    a, e = math.radians(azimuth), math.radians(elevation)
    forward = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
    right = torch.tensor([-math.sin(a), math.cos(a), 0.0])
    up = torch.linalg.cross(forward, right)
    depth = (direction @ forward).clamp_min(1e-3)
    x = (direction @ right) / depth / math.tan(math.radians(width) / 2)
    y = (direction @ up) / depth / math.tan(math.radians(height) / 2)
    edge = torch.maximum(x.abs(), y.abs())
    inside = ((1.06 - edge) / 0.12).clamp(0, 1)
    glow = 1 - 0.25 * (x.square() + y.square()).clamp(0, 2) / 2
    return torch.where(direction @ forward > 0, inside * glow, torch.zeros_like(inside))
