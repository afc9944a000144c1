"""The wavefront path integrator: Mitsuba traces, torch decodes, in waves of paths that take turns.

A wave of paths goes from hit to hit. At each hit Mitsuba's part (`kernels`) finds the local frame, one light
sample and one continuation drawn from the surface's lobes; torch's part evaluates the surface for both, in
blocks that fit the cache. The two never run at the same time, so their threads do not compete.

Light and lobe sampling are combined by the power heuristic; the result is unbiased for any surface.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import mitsuba as mi
import torch
from torch import Tensor

from gonio.blocks import for_each_block
from gonio.errors import UsageError
from gonio.progress import Step
from gonio.render.kernels import Columns, Scene, bounce, camera_features, camera_vertex, launch
from gonio.render.surfaces import Surface

# Paths in flight: enough to hide the cost of starting a kernel, few enough to bound memory (about 150 MB).
WAVE = 1 << 19
SCALAR_WAVE = 1 << 14
# Hits a worker takes at once: activations fit its cache, and starting an operation costs little beside it.
BLOCK = 4096
# The first bounces are never cut short: they carry most of the light.
ROULETTE_FROM = 3


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How a picture is computed.

    max_depth: longest path in segments after the camera's, counted as Mitsuba does: 2 is direct light only.
    footprint_samples: texture places decoded and averaged at each camera hit, spread over the pixel.
    """

    spp: int = 64
    max_depth: int = 4
    seed: int = 0
    footprint_samples: int = 1

    def __post_init__(self) -> None:
        limits = {
            "spp": (1, 65536),
            "max_depth": (2, 64),
            "seed": (0, 2**31 - 1),
            "footprint_samples": (1, 64),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: allowed are {low} to {high}"
                )


def render(
    world: Scene,
    sensor: Any,
    surface: Surface,
    *,
    height: int,
    width: int,
    quality: Quality,
    step: Step | None = None,
    wave: int | None = None,
) -> Tensor:
    """The picture [H, W, 3] linear. `step` is told about finished paths; `wave`: paths in flight."""
    workers = torch.get_num_threads()
    wave = wave or (SCALAR_WAVE if "scalar" in str(mi.variant()) else WAVE)
    pixels, spp = height * width, quality.spp
    result = torch.zeros(3, pixels)
    together = min(spp, wave)  # samples of a pixel in one wave
    across = max(1, wave // together)
    for first in range(0, pixels, across):
        count = min(across, pixels - first)
        for start in range(0, spp, together):
            samples = min(together, spp - start)
            pixel = torch.arange(first, first + count, dtype=torch.int32).repeat_interleave(samples)
            sample = torch.arange(start, start + samples, dtype=torch.int32).repeat(count)
            with torch_threads(1):
                radiance = trace(world, sensor, surface, pixel, sample, height, width, quality, workers)
            result[:, first : first + count] += radiance.view(3, count, samples).sum(2)
            if step is not None:
                step(count * samples)
    return (result / spp).t().reshape(height, width, 3)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for torch's own operations, for a while.

    OpenMP's threads go on spinning after each operation and take the cores from Dr.Jit's: with one thread
    in the calling thread, and the blocks' own workers, a picture is done in less than half the time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def trace(
    world: Scene,
    sensor: Any,
    surface: Surface,
    pixel: Tensor,
    sample: Tensor,
    height: int,
    width: int,
    quality: Quality,
    workers: int = 1,
) -> Tensor:
    """Radiance [3, N] of paths through `pixel` [N] (row-major) with the numbers `sample` [N], both int32."""
    footprint = quality.footprint_samples > 1
    stream = quality.seed * 64
    start = partial(camera_vertex, world, sensor, width, height, stream, footprint)
    hits = launch(start, {"pixel": pixel, "sample": sample})
    radiance = [hits.pop(f"c{i}") for i in range(3)]
    hits["lane"] = torch.arange(pixel.shape[0], dtype=torch.int32)
    for depth in range(1, quality.max_depth):
        # Hits on the surface first: their values then lie side by side.
        on_surface = (hits["kind"] == 1).nonzero()[:, 0]
        alive = torch.cat([on_surface, (hits["kind"] == 2).nonzero()[:, 0]])
        if alive.shape[0] == 0:
            break
        samples = quality.footprint_samples if depth == 1 else 1
        values = torch.zeros(6, alive.shape[0])
        evaluate(surface, hits, on_surface, values, samples, stream + depth, workers)
        last = depth == quality.max_depth - 1
        lanes = hits["lane"][alive].long()
        onward = partial(bounce, world, stream + depth, last, depth >= ROULETTE_FROM)
        carried = {name: column for name, column in hits.items() if name not in _LOCAL}
        reflected = {f"{k}{i}": values[3 * n + i] for n, k in enumerate("ab") for i in range(3)}
        hits = launch(onward, carried, alive, reflected)
        for channel, total in enumerate(radiance):
            total.index_add_(0, lanes, hits.pop(f"c{channel}"))
        if last:
            break
    return torch.stack(radiance)


def evaluate(
    surface: Surface, hits: Columns, chosen: Tensor, values: Tensor, samples: int, seed: int, workers: int
) -> None:
    """Write the surface's values for the light's and the sampled direction at the `chosen` hits.

    values: [6, M], of which the first columns are those of `chosen`. With samples > 1 they are averaged
    over places of the pixel's footprint: the hit moved by a uniform pixel position minus its own. To first
    order those are hits of other camera rays of the same pixel, so the mean is the pixel's mean; values are
    averaged, never latents.
    """
    if chosen.shape[0] == 0:
        return
    local = torch.stack([hits[name] for name in _USED])

    def block(start: int, stop: int) -> None:
        at = local[:, chosen[start:stop]]
        uv, lit = at[0:2].t(), at[8:11].amax(0) > 0
        wo, wi_light, wi = (_direction(at[k : k + 2]) for k in (2, 4, 6))
        if samples == 1:
            pair = surface.evaluate(uv, wo, wi_light, lit, wi)
            values[:3, start:stop], values[3:, start:stop] = pair[0].t(), pair[1].t()
            return
        per_x, per_y, own = (
            torch.stack([hits[f"{k}0"][chosen[start:stop]], hits[f"{k}1"][chosen[start:stop]]], 1)
            for k in "xyj"
        )
        generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
        total = torch.zeros(6, stop - start)
        for index in range(samples):
            # Strips across x keep the places apart.
            place = torch.rand(stop - start, 2, generator=generator)
            x = (place[:, 0] + index) / samples - own[:, 0]
            moved = uv + per_x * x[:, None] + per_y * (place[:, 1] - own[:, 1])[:, None]
            total += torch.cat(surface.evaluate(moved, wo, wi_light, lit, wi), 1).t()
        values[:, start:stop] = total / samples

    with torch.no_grad(), torch_threads(workers if chosen.shape[0] > BLOCK else 1):
        for_each_block(chosen.shape[0], block, size=BLOCK)


def features(
    world: Scene, sensor: Any, surface: Surface, *, height: int, width: int, spp: int = 4, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """What a denoiser wants: albedo [H, W, 3] in [0, 1] and world normal [H, W, 3], of spp rays a pixel.

    The albedo of a surface without one: pi times its value under a light at its zenith.
    """
    albedo, normal = torch.zeros(3, height * width), torch.zeros(3, height * width)
    pixel = torch.arange(height * width, dtype=torch.int32)
    up = torch.tensor([0.0, 0.0, 1.0])
    for sample in range(spp):
        start = partial(camera_features, world, sensor, width, height, seed * 64)
        seen = launch(start, {"pixel": pixel, "sample": torch.full_like(pixel, sample)})
        colors = torch.stack([seen[f"c{i}"] for i in range(3)])
        colors[:, seen["kind"] == 2] = world.floor
        subject = (seen["kind"] == 1).nonzero()[:, 0]

        def block(start: int, stop: int, seen: Columns = seen, subject: Tensor = subject) -> Tensor:
            rows = subject[start:stop]
            uv = torch.stack([seen["uv0"][rows], seen["uv1"][rows]], 1)
            light = up.expand(rows.shape[0], 3)
            nothing = torch.zeros(rows.shape[0], dtype=torch.bool)
            view = _direction(torch.stack([seen["o0"][rows], seen["o1"][rows]]))
            return surface.evaluate(uv, view, light, nothing, light)[1]

        if subject.shape[0]:
            with torch.no_grad():
                values = torch.cat(for_each_block(subject.shape[0], block))
            colors[:, subject] = (values * torch.pi).clamp(0, 1).t()
        albedo += colors
        normal += torch.stack([seen[f"n{i}"] for i in range(3)])
    shape = (3, height, width)
    return (albedo / spp).view(shape).permute(1, 2, 0), (normal / spp).view(shape).permute(1, 2, 0)


_USED = ("uv0", "uv1", "o0", "o1", "l0", "l1", "i0", "i1", "e0", "e1", "e2")
# Columns that the surface needs and the next kernel does not.
_LOCAL = {"uv0", "uv1", "o0", "o1", *(f"{k}{i}" for k in "xyj" for i in (0, 1))}


def _direction(xy: Tensor) -> Tensor:
    """Unit vectors [N, 3] above the horizon from their projections [2, N]."""
    z = (1 - xy.square().sum(0)).clamp_min_(0).sqrt_()
    return torch.stack([xy[0], xy[1], z], 1)
