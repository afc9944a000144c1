"""Reference photographs: the sample from above under some real place's light, to condition an image model on.

Never frame 0 of a clip: that one shows the measuring lamp, and a model that is given it learns to copy it.

Two renderers. `gonio.scan.photograph` is the truth (Mitsuba: interreflections, any roughness).
`quick_photograph` sums the height-field renderer over a few dozen lamps that stand for the environment:

  * the upper hemisphere is cut into strata of equal irradiance (luminance times cosine);
  * each becomes a disc of its own mean direction, colour and width, so that a sun is small and casts a hard
    shadow and a sky is wide: for a uniform cap of half-angle a the mean of the unit directions has length
    (1 + cos a) / 2, which gives a;
  * what it leaves out: light between parts of the sample, and the picture of the surroundings in a mirror,
    which becomes one of a few dozen discs.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonio.camera import FIXED_HEIGHT
from gonio.color import luminance
from gonio.data.heightfield import HeightFieldBatch, shade
from gonio.environment import EnvironmentMap
from gonio.errors import UsageError
from gonio.pbr import PBRMaterial, resized_map

DEFAULT_LAMPS = 24
# Rows of the panorama that the lamps are made of; lit places smaller than its texels keep their energy.
_LAMP_ROWS = 128
_SAMPLES_PER_LAMP_SIDE = 8
# Far enough that a tile sees the lamp in one direction, near enough for float32.
_FAR = 100.0
# A wider disc would reach below the horizon of most surfaces.
_WIDEST = math.radians(50.0)
_REMEMBERED = 8  # panoramas of 1024 x 512 hold 6 MB each


@dataclass(frozen=True, kw_only=True, eq=False)
class Surroundings:
    """The light of a photograph: an environment, turned counter-clockwise by `degrees` when it is used."""

    environment: EnvironmentMap
    degrees: float = 0.0
    name: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lamps:
    """Discs of light at infinity. direction [K, 3] unit; irradiance [K, 3] linear, on a surface that faces
    the disc; angle [K], half-angle in radians."""

    direction: Tensor
    irradiance: Tensor
    angle: Tensor


class Environments:
    """The .hdr and .exr panoramas of a folder and below, in the order of their paths."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder; name a folder of .hdr or .exr panoramas")
        self.paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".hdr", ".exr"))
        if not self.paths:
            raise UsageError(f"{folder} holds no .hdr or .exr panorama; name a folder that does")
        self._loaded: OrderedDict[Path, EnvironmentMap] = OrderedDict()

    def draw(self, key: str) -> Surroundings:
        """A random panorama and turn; the same for the same key and folder."""
        say = random.Random(f"gonio-photo-{key}")
        path = say.choice(self.paths)
        return Surroundings(environment=self._load(path), degrees=say.uniform(0.0, 360.0), name=path.name)

    def _load(self, path: Path) -> EnvironmentMap:
        environment = self._loaded.pop(path, None) or EnvironmentMap.load(path)
        self._loaded[path] = environment
        if len(self._loaded) > _REMEMBERED:
            self._loaded.popitem(last=False)
        return environment


def lamps_from_environment(environment: EnvironmentMap, count: int = DEFAULT_LAMPS) -> Lamps:
    """The environment's upper half as `count` discs (at most; dark ones are left out), without chance.

    Their irradiance on the plane z = 0 is the environment's.
    """
    if not 1 <= count <= 4096:
        raise UsageError(f"{count} lamps for an environment; give 1 to 4096")
    rows, columns = _grid(count)
    environment = _reduced(environment)
    polar = (torch.arange(environment.height) + 0.5) * (math.pi / environment.height)
    cosine = polar.cos().clamp_min(0.0)
    seen = EnvironmentMap(radiance=environment.radiance * cosine[:, None, None])

    side = _SAMPLES_PER_LAMP_SIDE
    y, x = torch.meshgrid(
        (torch.arange(rows * side) + 0.5) / (rows * side),
        (torch.arange(columns * side) + 0.5) / (columns * side),
        indexing="ij",
    )
    direction, _, density = seen.sample(torch.stack([x, y], -1).reshape(-1, 2))
    light = environment.lookup(direction) / (density[:, None] * direction.shape[0])
    light = torch.where(direction[:, 2:] > 0, light, 0.0)

    def strata(values: Tensor) -> Tensor:
        return (
            values.reshape(rows, side, columns, side, -1)
            .movedim(2, 1)
            .reshape(rows * columns, side * side, -1)
        )

    light, direction = strata(light), strata(direction)
    weight = luminance(light)[..., None]
    irradiance = light.sum(1)
    lit = weight.sum((1, 2)) > 0
    mean = (direction * weight).sum(1)[lit] / weight.sum(1)[lit]
    length = mean.norm(dim=-1)
    angle = torch.acos((2 * length - 1).clamp(math.cos(_WIDEST), 1.0))
    lamps = Lamps(direction=normalize(mean, dim=-1), irradiance=irradiance[lit], angle=angle)
    return _with_irradiance(lamps, environment)


def quick_photograph(
    material: PBRMaterial,
    place: Surroundings,
    resolution: int,
    *,
    lamps: int = DEFAULT_LAMPS,
    supersampling: int = 2,
    device: str = "cpu",
) -> Tensor:
    """The sample from the fixed camera in its surroundings, at an irradiance of pi on the sample.

    Returns [H, W, 3] linear on the CPU; a white Lambertian sample has radiance 1. An approximation of
    `gonio.scan.photograph` (see the module). The material is tiled beyond its borders.
    """
    environment = place.environment.rotated(place.degrees).normalized(irradiance=math.pi)
    light = lamps_from_environment(environment, lamps)
    batch = HeightFieldBatch.from_materials([material], device)
    side = resolution * supersampling
    centres = (torch.arange(side, device=device) + 0.5) / side
    v, u = torch.meshgrid(1 - centres, centres, indexing="ij")
    uv = torch.stack([u, v], -1).reshape(1, -1, 2)
    camera = torch.tensor([0.0, 0.0, FIXED_HEIGHT], device=device).reshape(1, 1, 3)
    color = torch.zeros(1, side * side, 3, device=device)
    for direction, irradiance, angle in zip(light.direction, light.irradiance, light.angle, strict=True):
        # `shade` gives its lamp an irradiance of pi at the centre, and takes its size as a radius.
        radius = _FAR * math.sin(float(angle))
        lit = shade(batch, uv, camera, (direction * _FAR).to(device).reshape(1, 1, 3), light_radius=radius)
        color += lit * (irradiance / math.pi).to(device)
    picture = color.reshape(resolution, supersampling, resolution, supersampling, 3).mean((1, 3))
    return picture.cpu()


def _grid(count: int) -> tuple[int, int]:
    """rows x columns <= count, as square as can be."""
    rows = math.isqrt(count)
    return rows, count // rows


def _reduced(environment: EnvironmentMap) -> EnvironmentMap:
    if environment.height <= _LAMP_ROWS:
        return environment
    return EnvironmentMap(radiance=resized_map(environment.radiance, _LAMP_ROWS, 2 * _LAMP_ROWS, wrap=True))


def _with_irradiance(lamps: Lamps, environment: EnvironmentMap) -> Lamps:
    """Scaled by channel, so that averaging cells into discs changes neither brightness nor tint."""
    given = (lamps.irradiance * lamps.direction[:, 2:]).sum(0)
    wanted = environment.irradiance(environment.radiance.new_tensor([0.0, 0.0, 1.0]))
    scale = wanted / given.clamp_min(1e-12)
    return Lamps(direction=lamps.direction, irradiance=lamps.irradiance * scale, angle=lamps.angle)
