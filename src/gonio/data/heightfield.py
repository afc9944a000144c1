"""Streamed training data: height-field materials seen from any camera under any near light, in plain torch.

A point of the reference plane z = 0 is looked at along the ray from the camera through it. The ray is
marched through the displacement slab of the periodic height field; the hit is shaded with the principled
BSDF under a small spherical light; a horizon march towards the light gives soft shadows. This is the scene
`gonio.scan` builds in Mitsuba (with the tile repeated), so its samples can train what scans are fitted with.

Everything runs on flat lists of points: steps are spent only where a ray crosses many texels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gonio.bsdf import principled_lobes
from gonio.camera import LIGHT_RADIUS
from gonio.errors import GonioError
from gonio.pbr import PBRMaterial

_SMALL_GROUP = 2048  # rays
_CHUNK_ELEMENTS = 1 << 17  # march samples per chunk on a CPU: a chunk's tensors stay in its cache


@dataclass(frozen=True, kw_only=True)
class HeightFieldBatch:
    """B materials of one resolution. Row 0 of every map is the top (v = 1).

    basecolor [B, H, W, 3] linear; normal [B, H, W, 3] unit, plane frame (+x = +u, +y = +v);
    roughness, metallic [B, H, W] in [0, 1]; displacement [B, H, W] in tile widths.
    """

    basecolor: Tensor
    normal: Tensor
    roughness: Tensor
    metallic: Tensor
    displacement: Tensor

    def __post_init__(self) -> None:
        shape = self.displacement.shape
        if len(shape) != 3 or min(shape) < 1:
            raise GonioError(f"displacement has shape {tuple(shape)}; give [B, H, W]")
        for name in ("roughness", "metallic", "basecolor", "normal"):
            expected = (*shape, 3) if name in ("basecolor", "normal") else tuple(shape)
            if tuple(getattr(self, name).shape) != expected:
                raise GonioError(f"{name} has shape {tuple(getattr(self, name).shape)}; give {expected}")

    @classmethod
    def from_materials(cls, materials: Sequence[PBRMaterial], device: str = "cpu") -> HeightFieldBatch:
        """Stack materials of equal resolution (use `PBRMaterial.resized` first)."""
        if not materials:
            raise GonioError("no materials to stack; give at least one")
        sizes = {tuple(m.roughness.shape) for m in materials}
        if len(sizes) > 1:
            raise GonioError(f"materials differ in resolution {sorted(sizes)}; resize them to one first")

        def stack(maps: list[Tensor]) -> Tensor:
            return torch.stack(maps).to(device=device, dtype=torch.float32)

        return cls(
            basecolor=stack([m.basecolor for m in materials]),
            normal=stack([m.normal for m in materials]),
            roughness=stack([m.roughness for m in materials]),
            metallic=stack([m.metallic for m in materials]),
            displacement=stack([m.displacement for m in materials]),
        )

    @property
    def batch(self) -> int:
        return self.displacement.shape[0]

    @cached_property
    def top(self) -> Tensor:
        """Upper bound of the displacement slab. [B]"""
        return self.displacement.amax((1, 2))

    @cached_property
    def bottom(self) -> Tensor:
        """Lower bound of the displacement slab. [B]"""
        return self.displacement.amin((1, 2))

    @cached_property
    def _height_table(self) -> Tensor:
        return _table(self.displacement)

    @cached_property
    def _shading_tables(self) -> list[Tensor]:
        """basecolor r, g, b, normal x, y, z, roughness, metallic: one flat table each (scalar gathers are
        several times faster than rows of eight)."""
        maps = [*self.basecolor.unbind(-1), *self.normal.unbind(-1), self.roughness, self.metallic]
        return [_table(m) for m in maps]


def _table(maps: Tensor) -> Tensor:
    """[B, H, W] -> flat [B * (H+2) * (W+2)] with a repeated border of one texel, so that the four texels of
    a bilinear fetch are one index and three constant shifts of the table."""
    padded = torch.cat([maps[:, -1:], maps, maps[:, :1]], 1)
    return torch.cat([padded[:, :, -1:], padded, padded[:, :, :1]], 2).contiguous().reshape(-1)


@dataclass(frozen=True, kw_only=True)
class _Texels:
    """Where a bilinear fetch lands: flat index of the upper left texel and the weights of right and down."""

    index: Tensor
    right: Tensor
    down: Tensor
    row: int

    @classmethod
    def at(cls, u: Tensor, v: Tensor, offset: Tensor, height: int, width: int) -> _Texels:
        """u, v [..., P] any real (repeat wrap); offset [P] int32: first texel of the point's material."""
        x = (u - u.floor()).mul_(width).add_(0.5)
        y = (v.floor() - v).add_(1.0).mul_(height).add_(0.5)
        left, upper = x.int(), y.int()
        x -= left
        y -= upper
        row = width + 2
        return cls(index=upper.mul_(row).add_(left).add_(offset), right=x, down=y, row=row)

    def fetch(self, table: Tensor) -> Tensor:
        """Bilinear value, in the shape of `index`."""
        flat = self.index.reshape(-1)

        def corner(shift: int) -> Tensor:
            return table[shift:].index_select(0, flat).reshape(self.index.shape)

        upper = corner(0).lerp_(corner(1), self.right)
        return upper.lerp_(corner(self.row).lerp_(corner(self.row + 1), self.right), self.down)


@torch.no_grad()
def shade(
    batch: HeightFieldBatch,
    uv: Tensor,
    camera_position: Tensor,
    light_position: Tensor,
    *,
    march_steps: int = 128,
    shadow_steps: int = 128,
    texels_per_step: float = 1.0,
    light_radius: float = LIGHT_RADIUS,
    soften_terminator: bool = True,
    footprint: float = 0.0,
    supersampling: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Linear radiance of reference-plane points. Returns [B, N, 3].

    uv [B, N, 2]; camera_position, light_position [B, N, 3] or [B, 1, 3] (tile widths, z > slab top). The
    light is a sphere of radius `light_radius` whose power grows with its squared distance from the sample's
    centre: irradiance there is pi. `march_steps` and `shadow_steps` bound the steps of one ray; fewer are
    taken where `texels_per_step` asks for fewer. `soften_terminator` dims steep normals under grazing light
    as Mitsuba's `normalmap` does (Estevez et al. 2019). `footprint` (tile widths) with `supersampling` = k
    averages k x k jittered points of a square around every uv, as a pixel of that size would.
    """
    if supersampling > 1:
        uv, count = _spread(uv, footprint, supersampling, generator), supersampling**2
        camera_position, light_position = (
            p if p.shape[1] == 1 else p.repeat_interleave(count, 1) for p in (camera_position, light_position)
        )
    points = _Points.gather(batch, uv, camera_position, light_position)
    hit = _primary_hits(batch, points, march_steps, texels_per_step)
    visibility = _visibility(batch, points, hit, shadow_steps, texels_per_step, light_radius)
    radiance = _shade_hits(batch, points, hit, visibility, light_radius, soften_terminator)
    radiance = radiance.reshape(*uv.shape[:2], 3)
    return radiance if supersampling <= 1 else radiance.reshape(uv.shape[0], -1, supersampling**2, 3).mean(2)


@torch.no_grad()
def parallax(
    batch: HeightFieldBatch,
    uv: Tensor,
    camera_position: Tensor,
    *,
    march_steps: int = 128,
    texels_per_step: float = 1.0,
) -> Tensor:
    """Where the rays of `shade` meet the relief, less where they meet the reference plane. [B, N, 2] uv units

    The true du of a neural material. uv [B, N, 2]; camera_position [B, N, 3] or [B, 1, 3].
    """
    points = _Points.gather(batch, uv, camera_position, camera_position)
    hit = _primary_hits(batch, points, march_steps, texels_per_step)
    return torch.stack([hit.x - points.x, hit.y - points.y], -1).reshape(uv.shape)


def _spread(uv: Tensor, footprint: float, k: int, generator: torch.Generator | None) -> Tensor:
    """[B, N, 2] -> [B, N k^2, 2]: one jittered point in each cell of a k x k grid over the footprint."""
    cells = torch.cartesian_prod(torch.arange(k), torch.arange(k)).to(uv)
    jitter = torch.rand(*uv.shape[:2], k * k, 2, generator=generator, device=uv.device)
    return (uv[:, :, None] + footprint * ((cells + jitter) / k - 0.5)).flatten(1, 2)


@dataclass(frozen=True, kw_only=True)
class _Points:
    """P = B * N reference-plane points, flat. Every tensor is [P]; positions are separate x, y, z."""

    x: Tensor
    y: Tensor
    camera: tuple[Tensor, Tensor, Tensor]
    light: tuple[Tensor, Tensor, Tensor]
    material: Tensor  # int64
    offset: Tensor  # int32, first texel of the point's material

    @classmethod
    def gather(cls, batch: HeightFieldBatch, uv: Tensor, camera: Tensor, light: Tensor) -> _Points:
        b, n = uv.shape[:2]
        if b != batch.batch:
            raise GonioError(f"uv is for {b} materials, the batch has {batch.batch}; give uv [B, N, 2]")
        height, width = batch.displacement.shape[1:]

        def flat(position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            x, y, z = (position[..., i].expand(b, n).reshape(-1) for i in range(3))
            return x, y, z

        material = torch.arange(b, device=uv.device).repeat_interleave(n)
        return cls(
            x=(uv[..., 0] - 0.5).reshape(-1),
            y=(uv[..., 1] - 0.5).reshape(-1),
            camera=flat(camera),
            light=flat(light),
            material=material,
            offset=(material * ((height + 2) * (width + 2))).int(),
        )


@dataclass(frozen=True, kw_only=True)
class _Hits:
    """Where the primary rays meet the height field: position [P] each, on the surface."""

    x: Tensor
    y: Tensor
    z: Tensor


@dataclass(frozen=True, kw_only=True)
class _Ray:
    """What a march needs of P rays, [P] each: start, horizontal direction, and its end."""

    x: Tensor
    y: Tensor
    dx: Tensor
    dy: Tensor
    low: Tensor
    high: Tensor
    offset: Tensor

    def take(self, index: Tensor) -> _Ray:
        names = ("x", "y", "dx", "dy", "low", "high", "offset")
        return _Ray(**{name: getattr(self, name).index_select(0, index) for name in names})


def _primary_hits(batch: HeightFieldBatch, points: _Points, limit: int, texels_per_step: float) -> _Hits:
    """First intersection of the rays q(z) = (x, y) + z (dx, dy), from the slab's top to its bottom."""
    cx, cy, cz = points.camera
    bottom, top = batch.bottom[points.material], batch.top[points.material]
    # Only a point that is looked at from below the horizon could divide by zero here.
    slope = cz.clamp_min(1e-4).reciprocal()
    dx, dy = (cx - points.x) * slope, (cy - points.y) * slope
    ray = _Ray(x=points.x, y=points.y, dx=dx, dy=dy, low=bottom, high=top, offset=points.offset)
    texels = (top - bottom) * torch.hypot(dx, dy) * max(batch.displacement.shape[1:])
    z = _in_step_groups(ray, texels, limit, texels_per_step, lambda r, steps: _march(batch, r, steps))
    x, y = points.x + z * dx, points.y + z * dy
    return _Hits(x=x, y=y, z=_height(batch, x, y, points.offset))


def _visibility(
    batch: HeightFieldBatch, points: _Points, hit: _Hits, limit: int, texels_per_step: float, radius: float
) -> Tensor:
    """Visible share of the light's disc from every hit. [P] in [0, 1]

    The highest slope T = max dh / rho of the terrain on the way to the light is a horizon, a straight edge
    over the disc: at the signed distance c (in disc radii) from the centre the visible share is
    1/2 + (c sqrt(1 - c^2) + asin c) / pi.
    """
    lx, ly, lz = points.light[0] - hit.x, points.light[1] - hit.y, points.light[2] - hit.z
    across = torch.hypot(lx, ly).clamp_min(1e-6)
    distance = torch.hypot(across, lz)
    sine = (radius / distance).clamp_max(0.99)
    # The light's lower edge stays in the slab longest: tan(theta + angle) bounds the march.
    tangent = across / lz.clamp_min(1e-4)
    spread = sine / (1.0 - sine * sine).sqrt()
    lowest = ((tangent + spread) / (1.0 - tangent * spread).clamp_min(1e-2)).clamp_max(50.0)
    reach = (batch.top[points.material] - hit.z).clamp_min(0.0) * lowest
    texel = 1.0 / max(batch.displacement.shape[1:])
    ray = _Ray(
        x=hit.x, y=hit.y, dx=lx / across, dy=ly / across, low=hit.z,
        high=reach.clamp_min(0.5 * texel), offset=points.offset,
    )  # fmt: skip
    horizon = _in_step_groups(
        ray, reach / texel, limit, texels_per_step, lambda r, steps: _horizon(batch, r, steps)
    )
    edge = (lz - across * horizon) / (distance * (1.0 + horizon * horizon).sqrt() * sine)
    c = edge.clamp(-1.0, 1.0)
    return 0.5 + (c * (1.0 - c * c).sqrt() + torch.asin(c)) * (1.0 / math.pi)


def _in_step_groups(
    ray: _Ray,
    texels: Tensor,
    limit: int,
    texels_per_step: float,
    march: Callable[[_Ray, int], Tensor],
) -> Tensor:
    """Run `march(rays, steps)` on chunks of rays of like length, with 4, 8, 16... up to `limit` steps. [P]"""
    limit = max(limit, 4)
    group = torch.log2((texels / texels_per_step).clamp(4.0, float(limit))).ceil_().to(torch.int8)
    last = math.ceil(math.log2(limit))
    result = torch.empty_like(texels)
    waiting: list[Tensor] = []
    for exponent in range(2, last + 1):
        waiting.append((group == exponent).nonzero().squeeze(1))
        # A handful of rays joins the next group: more steps cost less than another round of calls.
        if exponent < last and sum(len(w) for w in waiting) < _SMALL_GROUP:
            continue
        members, waiting, steps = torch.cat(waiting), [], min(2**exponent, limit)
        size = max(1, _CHUNK_ELEMENTS // steps) if texels.device.type == "cpu" else 1 << 20
        for chunk in members.split(size):
            if len(chunk):
                result[chunk] = march(ray.take(chunk), steps)
    return result


def _height(batch: HeightFieldBatch, x: Tensor, y: Tensor, offset: Tensor) -> Tensor:
    """Displacement at plane positions x, y [..., P]."""
    height, width = batch.displacement.shape[1:]
    return _Texels.at(x + 0.5, y + 0.5, offset, height, width).fetch(batch._height_table)


def _march(batch: HeightFieldBatch, ray: _Ray, steps: int) -> Tensor:
    """Height z of the first crossing of the rays with the surface, from `high` down to `low`. [P]"""
    fraction = torch.linspace(0.0, 1.0, steps + 1, device=ray.x.device)[:, None]
    z = torch.lerp(ray.high, ray.low, fraction)  # [steps + 1, P]
    below = _height(batch, ray.x + z * ray.dx, ray.y + z * ray.dy, ray.offset) - z
    index = torch.arange(steps + 1, device=ray.x.device, dtype=torch.float32)[:, None]
    # The last sample is the slab's bottom: nothing passes it, whatever rounding says.
    first = torch.where(below >= 0, index, float(steps)).amin(0).long()[None]
    before = (first - 1).clamp_min(0)
    z_out, z_in = z.gather(0, before)[0], z.gather(0, first)[0]
    gap_out, gap_in = below.gather(0, before)[0].clamp_max(0.0), below.gather(0, first)[0].clamp_min(0.0)
    for _ in range(2):  # regula falsi on the bracket
        share = gap_out / (gap_out - gap_in).clamp_max(-1e-9)
        z_mid = torch.lerp(z_out, z_in, share)
        gap = _height(batch, ray.x + z_mid * ray.dx, ray.y + z_mid * ray.dy, ray.offset) - z_mid
        inside = gap >= 0
        z_in, gap_in = torch.where(inside, z_mid, z_in), torch.where(inside, gap, gap_in)
        z_out, gap_out = torch.where(inside, z_out, z_mid), torch.where(inside, gap_out, gap)
    return torch.lerp(z_out, z_in, gap_out / (gap_out - gap_in).clamp_max(-1e-9))


def _horizon(batch: HeightFieldBatch, ray: _Ray, steps: int) -> Tensor:
    """Largest slope (h - low) / rho of the terrain within rho <= `high` along the rays. [P]"""
    # Steps grow with distance: near terrain hides more per texel than far terrain.
    fraction = (torch.arange(1, steps + 1, device=ray.x.device, dtype=torch.float32) / steps)[:, None] ** 1.5
    rho = ray.high * fraction
    rise = _height(batch, ray.x + rho * ray.dx, ray.y + rho * ray.dy, ray.offset) - ray.low
    return (rise / rho).amax(0)


def _shade_hits(
    batch: HeightFieldBatch, points: _Points, hit: _Hits, visibility: Tensor, radius: float, soften: bool
) -> Tensor:
    """BSDF times light at the hits. [P, 3] linear radiance."""
    height, width = batch.displacement.shape[1:]
    texels = _Texels.at(hit.x + 0.5, hit.y + 0.5, points.offset, height, width)
    red, green, blue, nx, ny, nz, roughness, metallic = (texels.fetch(t) for t in batch._shading_tables)
    ix, iy, iz, light_distance = _direction(points.light, hit)
    ox, oy, oz, _ = _direction(points.camera, hit)

    length = torch.sqrt(nx * nx + ny * ny + nz * nz).clamp_min(1e-6)
    nx, ny, nz = nx / length, ny / length, nz / length
    # A normal that faces away from the camera is mirrored about z (Schuessler et al. 2017), as in Mitsuba.
    sign = torch.where(ox * nx + oy * ny + oz * nz > 0, 1.0, -1.0)
    nx, ny = nx * sign, ny * sign

    hx, hy, hz = ix + ox, iy + oy, iz + oz
    half_squared = (hx * hx + hy * hy + hz * hz).clamp_min(1e-12)
    crossed = (hy * nz - hz * ny) ** 2 + (hz * nx - hx * nz) ** 2 + (hx * ny - hy * nx) ** 2
    tinted, white = principled_lobes(
        roughness,
        metallic,
        cos_i=ix * nx + iy * ny + iz * nz,
        cos_o=ox * nx + oy * ny + oz * nz,
        cos_d_squared=0.25 * half_squared,
        sin_h_squared=crossed / half_squared,
        light_angle=radius / light_distance,
    )
    lx, ly, lz = points.light
    irradiance = visibility * math.pi * (lx * lx + ly * ly + lz * lz) / light_distance.square()
    if soften:
        irradiance = irradiance * _terminator(nz, iz)
    tinted, white = tinted * irradiance, white * irradiance
    return torch.stack([red * tinted + white, green * tinted + white, blue * tinted + white], -1)


def _terminator(normal_z: Tensor, light_z: Tensor) -> Tensor:
    """Shadowing of a mapped normal: 2 / (1 + sqrt(1 + a tan^2(light))), a = min(tan^2(normal) / 8, 1). [P]"""

    def tangent_squared(cosine: Tensor) -> Tensor:
        squared = cosine.square().clamp_min(1e-8)
        return (1.0 - squared).clamp_min(0.0) / squared

    alpha_squared = (0.125 * tangent_squared(normal_z)).clamp_max(1.0)
    return 2.0 / (1.0 + (1.0 + alpha_squared * tangent_squared(light_z)).sqrt())


def _direction(position: tuple[Tensor, Tensor, Tensor], hit: _Hits) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit direction from the hits to a position, x, y, z, and the distance. [P] each"""
    x, y, z = position[0] - hit.x, position[1] - hit.y, position[2] - hit.z
    distance = torch.sqrt(x * x + y * y + z * z)
    return x / distance, y / distance, z / distance, distance
