"""Light for the stage: a studio made of softboxes, lamps, and their Mitsuba descriptions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
# Beyond these, squares and quotients leave what single floats hold.
FARTHEST = 1e6
BRIGHTEST = 1e15


@dataclass(frozen=True, kw_only=True)
class PointLight:
    """position: world. intensity [W/sr] per channel."""

    position: tuple[float, float, float]
    intensity: tuple[float, float, float]

    def __post_init__(self) -> None:
        _check_position(self.position)
        _check_power("intensity", self.intensity)


@dataclass(frozen=True, kw_only=True)
class SphereLight:
    """A ball that shines evenly. position: world; radius > 0; radiance per channel."""

    position: tuple[float, float, float]
    radius: float
    radiance: tuple[float, float, float]

    def __post_init__(self) -> None:
        _check_position(self.position)
        if not 0 < self.radius <= FARTHEST:
            raise UsageError(f"light radius {self.radius}: give a positive number, at most {FARTHEST:g}")
        _check_power("radiance", self.radiance)


Light = PointLight | SphereLight


def _check_position(position: tuple[float, ...]) -> None:
    if not all(abs(x) <= FARTHEST for x in position):
        raise UsageError(f"light position {_listed(position)}: allowed are {-FARTHEST:g} to {FARTHEST:g}")


def _check_power(name: str, power: tuple[float, ...]) -> None:
    if not (all(0 <= x <= BRIGHTEST for x in power) and max(power) > 0):
        raise UsageError(f"light {name} {_listed(power)}: give positive numbers, at most {BRIGHTEST:g}")


def _listed(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{x:g}" for x in numbers)


def point_light(text: str) -> PointLight:
    """X,Y,Z or X,Y,Z,INTENSITY or X,Y,Z,R,G,B, as --light takes it.

    Left out, the intensity is the one that gives the world's origin an irradiance of pi: white paper there
    that faces the lamp has radiance 1, as under the lights of a scan.
    """
    (x, y, z), power = _numbers("--light", text, ("X", "Y", "Z"), "INTENSITY")
    squared = x * x + y * y + z * z
    if power is None and squared == 0:
        raise UsageError(f"--light {text}: the origin lies in it; add an INTENSITY")
    with _named("--light", text):
        return PointLight(position=(x, y, z), intensity=power or (math.pi * squared,) * 3)


def sphere_light(text: str) -> SphereLight:
    """X,Y,Z,RADIUS or X,Y,Z,RADIUS,RADIANCE or X,Y,Z,RADIUS,R,G,B, as --sphere-light takes it.

    Left out, the radiance is the one that gives the world's origin an irradiance of pi, as for `point_light`.
    """
    (x, y, z, radius), power = _numbers("--sphere-light", text, ("X", "Y", "Z", "RADIUS"), "RADIANCE")
    squared = x * x + y * y + z * z
    if power is None and squared <= radius * radius:
        raise UsageError(f"--sphere-light {text}: the origin lies in it; add a RADIANCE")
    fitting = squared / radius**2 if radius else math.inf
    with _named("--sphere-light", text):
        return SphereLight(position=(x, y, z), radius=radius, radiance=power or (fitting,) * 3)


def _numbers(
    flag: str, text: str, names: tuple[str, ...], power: str
) -> tuple[list[float], tuple[float, float, float] | None]:
    """The numbers called `names`, and the colour that one more number or three say, None without them."""
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    place, rest = values[: len(names)], values[len(names) :]
    if len(place) < len(names) or len(rest) not in (0, 1, 3):
        needed = ",".join(names)
        raise UsageError(f"{flag} {text}: give numbers {needed}[,{power}] or {needed},R,G,B")
    if not rest:
        return place, None
    red, green, blue = rest * 3 if len(rest) == 1 else rest
    return place, (red, green, blue)


@contextmanager
def _named(flag: str, text: str) -> Iterator[None]:
    """A complaint about a lamp says which one."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{flag} {text}: {error}") from None


def turned_light(light: Light, degrees: float) -> Light:
    """The lamp turned about the world's +z, counter-clockwise seen from above, as environments turn."""
    angle = math.radians(degrees)
    x, y, z = light.position
    position = (
        x * math.cos(angle) - y * math.sin(angle),
        x * math.sin(angle) + y * math.cos(angle),
        z,
    )
    return replace(light, position=position)


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
