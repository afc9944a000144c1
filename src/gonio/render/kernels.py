"""The part of the wavefront integrator that Mitsuba computes: rays, hits, frames, light samples, lobes.

Each function below handles one path, or, in a JIT variant of Mitsuba, all of them at once: `launch` feeds it
columns of torch numbers and hands columns back. On the CPU neither way copies anything.

Lobes steer where a path goes on; their density is the one `gonio.render.lobes` states and fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import drjit as dr
import mitsuba as mi
import torch
from torch import Tensor

from gonio.render.neumip_lobes import Mixture

Columns = dict[str, Tensor]

# Steps of the R2 sequence (1 / plastic number and its square) as 32-bit fractions.
R2_X, R2_Y = 3242174889, 2447445414
# Views flatter than this are bent up to it: smooth normals can face away from a camera that sees the face.
MIN_COSINE = 1e-3


def launch(
    function: Callable[..., dict[str, Any]],
    columns: Columns,
    chosen: Tensor | None = None,
    aligned: Columns | None = None,
) -> Columns:
    """function(**columns, **aligned) row by row: all rows of `columns` [N], or the rows `chosen` [M] of them.

    Columns are float32 or int32. `aligned` columns [M] go with the chosen rows as they are.
    """
    aligned = aligned or {}
    if "scalar" in str(mi.variant()):
        picked = {name: c if chosen is None else c[chosen] for name, c in columns.items()} | aligned
        rows = zip(*(c.tolist() for c in picked.values()), strict=True)
        found = [function(**dict(zip(picked, row, strict=True))) for row in rows]
        names = found[0] if found else {}
        return {name: torch.tensor([_plain(row[name]) for row in found]) for name in names}
    kinds: dict[Any, Any] = {torch.float32: mi.Float, torch.int32: mi.UInt32}
    arrays = {name: kinds[column.dtype](column) for name, column in columns.items()}
    count = next(iter(columns.values())).shape[0]
    if chosen is not None:
        index, count = mi.UInt32(chosen.int()), chosen.shape[0]
        arrays = {name: dr.gather(type(array), array, index) for name, array in arrays.items()}
    arrays |= {name: kinds[column.dtype](column) for name, column in aligned.items()}
    result = function(**arrays)
    # Constants of the kernel (width 1) become whole columns.
    result = {n: v if dr.width(v) == count else v + dr.zeros(type(v), count) for n, v in result.items()}
    dr.eval(result)
    dr.sync_thread()
    tensors = {name: value.torch() for name, value in result.items()}
    return {
        name: t.int() if t.dtype not in (torch.float32, torch.int32) else t for name, t in tensors.items()
    }


def _plain(value: Any) -> float | int:
    return int(value) if isinstance(value, bool | int) else float(value)


def vector(prefix: str, value: Any) -> dict[str, Any]:
    """{'p0': x, 'p1': y, ...}"""
    return {f"{prefix}{i}": value[i] for i in range(len(value))}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the kernels know of the world.

    scene: the Mitsuba scene. subject: the shapes that wear the surface; all others without emitter are
    diffuse with the reflectance `floor`, which fades to a quarter over the distance `floor_fade` from the z
    axis (0: even). lobes: texture of lobe parameters. lit_by_hits: whether rays can reach a light at all,
    which they cannot when all are points.
    """

    scene: Any
    subject: tuple[Any, ...]
    floor: float
    floor_fade: float
    lobes: Any
    lit_by_hits: bool
    show_environment: bool


def lobe_texture(lobes: Tensor) -> Any:
    """Lobe parameters [H, W, 4] -> a repeating bilinear texture."""
    data: Any = mi.TensorXf(lobes.float().contiguous().numpy())
    texture: Any = mi.Texture2f
    return texture(data, filter_mode=dr.FilterMode.Linear, wrap_mode=dr.WrapMode.Repeat)


class Random:
    """Uniform numbers of one path at one vertex: a function of seed, pixel, sample and vertex alone."""

    def __init__(self, pixel: Any, sample: Any, stream: int) -> None:
        # Mixed twice, so that neighbouring pixels, samples and vertices share no pattern.
        a, b = mi.sample_tea_32(pixel, sample)
        key: Any = mi.UInt32(stream & 0xFFFFFFFF)
        state, sequence = mi.sample_tea_32(a ^ key, b)
        pcg: Any = mi.PCG32
        self.generator = pcg(initstate=mi.UInt64(state), initseq=mi.UInt64(sequence))

    def one(self) -> Any:
        return self.generator.next_float32()

    def two(self) -> Any:
        x = self.one()
        return mi.Point2f(x, self.one())


def pixel_jitter(pixel: Any, sample: Any, stream: int) -> Any:
    """Place inside the pixel: the R2 sequence over the pixel's samples, shifted at random for each pixel."""
    key: Any = mi.UInt32(stream & 0xFFFFFFFF)
    x, y = mi.sample_tea_32(pixel, key)
    if isinstance(x, int):  # Python's integers do not wrap around
        x, y = (x + sample * R2_X) & 0xFFFFFFFF, (y + sample * R2_Y) & 0xFFFFFFFF
    else:
        x, y = x + sample * mi.UInt32(R2_X), y + sample * mi.UInt32(R2_Y)
    # 24 bits, so that the sum never rounds up to one.
    return mi.Point2f(mi.Float(x >> 8) * 2.0**-24, mi.Float(y >> 8) * 2.0**-24)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The local frame of a hit: s along +u, t along +v, n towards the viewer; g: the face's true normal."""

    s: Any
    t: Any
    n: Any
    g: Any

    def local(self, w: Any) -> Any:

        return mi.Vector3f(dr.dot(w, self.s), dr.dot(w, self.t), dr.dot(w, self.n))

    def world(self, w: Any) -> Any:
        return self.s * w.x + self.t * w.y + self.n * w.z


def local_frame(si: Any, wo: Any) -> Frame:
    """Two-sided: normals turn to the viewer, s and t stay with the texture, so backs show it mirrored.

    t follows +v (Mitsuba's v points down) for each hit on its own, so mirrored charts keep their handedness.
    """
    g = dr.mulsign(si.n, dr.dot(si.n, wo))
    n = dr.mulsign(si.sh_frame.n, dr.dot(si.sh_frame.n, g))
    lift = dr.maximum(MIN_COSINE - dr.dot(n, wo), 0.0)
    n = dr.normalize(n + wo * lift)
    along = si.dp_du - n * dr.dot(n, si.dp_du)
    usable = dr.squared_norm(along) > 1e-20
    fallback, _ = mi.coordinate_system(n)
    s = dr.normalize(dr.select(usable, along, fallback))
    t = dr.cross(n, s)
    t = dr.mulsign(t, dr.dot(t, -si.dp_dv))
    return Frame(s=s, t=t, n=n, g=g)


def mixture_at(world: Scene, uv: Any, on_surface: Any, wo: Any) -> Mixture:
    """The surface's sampling lobes at uv (row 0 of the texture at 0); elsewhere no GGX lobe."""
    x, y, alpha, weight = world.lobes.eval(uv)
    return Mixture.of([x, y, alpha, dr.select(on_surface, weight, 0.0)], wo)


def power_weight(a: Any, b: Any) -> Any:
    """Veach's power heuristic for a sample of density a against the other technique's b."""
    return a * a / dr.maximum(a * a + b * b, 1e-30)


def vertex(world: Scene, si: Any, direction: Any, random: Random, active: Any) -> dict[str, Any]:
    """A hit made ready for its surface: local directions, light arriving, where the path goes on.

    Returns columns: kind (0 nothing, 1 surface, 2 floor), uv (ours), o = wo xy, l = the light's wi xy, e =
    its radiance over density, weighted against the lobes and 0 where shadowed, i = sampled wi xy, q = its
    density; in world space r = origin and d = direction of the next ray.
    """
    wo = -direction
    frame = local_frame(si, wo)
    view = frame.local(wo)
    view = dr.normalize(mi.Vector3f(view.x, view.y, dr.maximum(view.z, MIN_COSINE)))
    on_surface = active & _on_subject(world, si)
    uv = mi.Point2f(si.uv.x, 1 - si.uv.y)
    # Texture look-ups put row 0 at 0, as Mitsuba's v does.
    lobes = mixture_at(world, si.uv, on_surface, view)

    ds, light = world.scene.sample_emitter_direction(si, random.two(), True, active)
    to_light = frame.local(ds.d)
    lit = active & (ds.pdf > 0) & (to_light.z > 0) & (dr.dot(ds.d, frame.g) > 0)
    weight = dr.select(ds.delta, 1.0, power_weight(ds.pdf, lobes.pdf(to_light, view)))
    light = dr.select(lit, mi.Color3f(light) * weight, 0.0)

    wi = lobes.sample(view, random.one(), random.two())
    density = lobes.pdf(wi, view)
    onward = frame.world(wi)
    goes_on = (density > 0) & (dr.dot(onward, frame.g) > 0)
    ray = si.spawn_ray(onward)
    kind = dr.select(active, dr.select(on_surface, mi.UInt32(1), mi.UInt32(2)), mi.UInt32(0))
    return (
        {"kind": kind, "q": dr.select(goes_on, density, 0.0)}
        | vector("uv", uv)
        | vector("o", mi.Vector2f(view.x, view.y))
        | vector("l", mi.Vector2f(to_light.x, to_light.y))
        | vector("e", light)
        | vector("i", mi.Vector2f(wi.x, wi.y))
        | vector("r", ray.o)
        | vector("d", onward)
    )


def _on_subject(world: Scene, si: Any) -> Any:
    found = mi.Bool(False)
    for shape in world.subject:
        found |= si.shape is shape if "scalar" in str(mi.variant()) else si.shape == mi.ShapePtr(shape)
    return found


def _emission(world: Scene, si: Any) -> tuple[Any, Any]:
    """Radiance a ray meets (surface light or environment), and whether there is an emitter."""
    emitter = si.emitter(world.scene)
    if "scalar" in str(mi.variant()):
        return (mi.Color3f(0.0), False) if emitter is None else (mi.Color3f(emitter.eval(si)), True)
    there = emitter != dr.zeros(mi.EmitterPtr)
    return mi.Color3f(emitter.eval(si, there)), there


def camera_vertex(
    world: Scene, sensor: Any, width: int, height: int, stream: int, footprint: bool, pixel: Any, sample: Any
) -> dict[str, Any]:
    """From a pixel to the first hit.

    Adds c = light seen directly and, with `footprint`, x and y = uv per pixel step and j = place in the
    pixel.
    """
    jitter = pixel_jitter(pixel, sample, stream)
    x, y = mi.Float(pixel % width), mi.Float(pixel // width)
    film = mi.Point2f((x + jitter.x) / width, (y + jitter.y) / height)
    ray, _ = sensor.sample_ray_differential(0.0, 0.5, film, mi.Point2f(0.5))
    si = world.scene.ray_intersect(ray)
    radiance, there = _emission(world, si)
    if not world.show_environment:
        radiance = dr.select(si.is_valid(), radiance, 0.0)
    found = vertex(world, si, ray.d, Random(pixel, sample, stream), si.is_valid() & _not(there))
    if footprint:
        si.compute_uv_partials(ray)
        found |= vector("x", mi.Vector2f(si.duv_dx.x, -si.duv_dx.y))
        found |= vector("y", mi.Vector2f(si.duv_dy.x, -si.duv_dy.y))
        found |= vector("j", jitter)
    return found | vector("c", radiance) | vector("t", mi.Color3f(1.0)) | {"pixel": pixel, "sample": sample}


def camera_features(
    world: Scene, sensor: Any, width: int, height: int, stream: int, pixel: Any, sample: Any
) -> dict[str, Any]:
    """What a denoiser wants of the first hit: kind, uv, o = wo xy, n = normal, c = light seen directly."""
    jitter = pixel_jitter(pixel, sample, stream)
    film = mi.Point2f(
        (mi.Float(pixel % width) + jitter.x) / width, (mi.Float(pixel // width) + jitter.y) / height
    )
    ray, _ = sensor.sample_ray(0.0, 0.5, film, mi.Point2f(0.5))
    si = world.scene.ray_intersect(ray)
    radiance, there = _emission(world, si)
    if not world.show_environment:
        radiance = dr.select(si.is_valid(), radiance, 0.0)
    active = si.is_valid() & _not(there)
    frame = local_frame(si, -ray.d)
    view = frame.local(-ray.d)
    on_surface = active & _on_subject(world, si)
    kind = dr.select(active, dr.select(on_surface, mi.UInt32(1), mi.UInt32(2)), mi.UInt32(0))
    return (
        {"kind": kind, "pixel": pixel}
        | vector("uv", mi.Point2f(si.uv.x, 1 - si.uv.y))
        | vector("o", mi.Vector2f(view.x, view.y))
        | vector("n", dr.select(active, frame.n, 0.0))
        | vector("c", dr.minimum(radiance, 1.0))
    )


def _not(mask: Any) -> Any:
    """Negation also of Python's bool, whose ~ is that of an integer."""
    return not mask if isinstance(mask, bool) else ~mask


def bounce(world: Scene, stream: int, last: bool, roulette: bool, **hit: Any) -> dict[str, Any]:
    """From an evaluated hit to the next: `a` = value for the light, `b` = value for the sampled direction.

    c = radiance this step adds to its pixel. `last`: only light that is met counts, there is no further hit.
    """
    color = {k: mi.Color3f(hit[f"{k}0"], hit[f"{k}1"], hit[f"{k}2"]) for k in "abet"}
    floor = hit["kind"] == 2
    flat = mi.Color3f(_floor(world, hit["r0"], hit["r1"]) / math.pi)
    at_light = dr.select(floor, flat * _z(hit["l0"], hit["l1"]), color["a"])
    onward = dr.select(floor, flat * _z(hit["i0"], hit["i1"]), color["b"])
    radiance = color["t"] * at_light * color["e"]
    if last and not world.lit_by_hits:
        return vector("c", radiance)

    throughput = color["t"] * onward * dr.select(hit["q"] > 0, 1 / dr.maximum(hit["q"], 1e-20), 0.0)
    random = Random(hit["pixel"], hit["sample"], stream)
    if roulette:
        survival = dr.minimum(dr.max(throughput), 0.95)
        throughput = dr.select(random.one() < survival, throughput / dr.maximum(survival, 1e-20), 0.0)
    active = dr.max(throughput) > 0
    direction = mi.Vector3f(hit["d0"], hit["d1"], hit["d2"])
    origin = mi.Point3f(hit["r0"], hit["r1"], hit["r2"])
    si = world.scene.ray_intersect(mi.Ray3f(origin, direction), active)
    emitted, there = _emission(world, si)
    reference = dr.zeros(mi.Interaction3f)
    reference.p = origin
    there = active & there
    if isinstance(there, bool) and not there:
        chance = 0.0
    else:
        ds = mi.DirectionSample3f(world.scene, si, reference)
        chance = world.scene.pdf_emitter_direction(reference, ds, there)
    found = dr.select(there, throughput * emitted * power_weight(hit["q"], chance), 0.0)
    radiance = radiance + found
    if last:
        return vector("c", radiance)
    next_hit = vertex(world, si, direction, random, active & si.is_valid() & _not(there))
    carried = {"pixel": hit["pixel"], "sample": hit["sample"], "lane": hit["lane"]}
    return next_hit | vector("c", radiance) | vector("t", throughput) | carried


def _floor(world: Scene, x: Any, y: Any) -> Any:
    """Reflectance of the floor at a place."""
    if world.floor_fade == 0:
        return mi.Float(world.floor)
    return world.floor * (0.25 + 0.75 * dr.exp(-(x * x + y * y) / world.floor_fade**2))


def _z(x: Any, y: Any) -> Any:
    return dr.safe_sqrt(1 - x * x - y * y)
