"""How well the torch height-field renderer agrees with Mitsuba, and how fast it is.

    python benchmarks/heightfield_vs_mitsuba.py [--materials FOLDER] [--procedural 12] [--size 96]

The same periodic scene in both: Mitsuba gets the tile displaced 3 x 3 times as one mesh, direct light only.
Prints the display-encoded PSNR per material over a few cameras and lights, then points per second.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gonio.camera import LIGHT_RADIUS, camera_rays, plane_points
from gonio.color import srgb_from_linear
from gonio.data.heightfield import HeightFieldBatch, shade
from gonio.data.procedural import sample_material
from gonio.mitsuba_setup import use_mitsuba
from gonio.pbr import PBRMaterial, load_material_maps
from gonio.scan.scene import mesh, perspective, surface

# (camera, light), each (angle from the zenith, azimuth) in degrees.
PAIRS = (
    ((0, 0), (40, 200)),
    ((35, 60), (10, 0)),
    ((50, 250), (55, 75)),
    ((70, 140), (60, 20)),
    ((30, 0), (70, 310)),
)
DISTANCE = 1.8
SUPERSAMPLING = 6


def position(degrees: tuple[float, float]) -> Tensor:
    """Zenith angle and azimuth to a place at DISTANCE. [3]"""
    zenith, azimuth = (math.radians(a) for a in degrees)
    direction = [math.sin(zenith) * math.cos(azimuth), math.sin(zenith) * math.sin(azimuth), math.cos(zenith)]
    return DISTANCE * torch.tensor(direction)


def field_of_view(camera: tuple[float, float]) -> float:
    """Most of the tile [degrees]; less at grazing views, which would look past the 3 x 3 tiles."""
    return 26.0 if camera[0] < 60 else 14.0


def tiled_sheet(displacement: Tensor, tiles: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """tiles x tiles copies of the displaced tile as one grid with a vertex on every texel centre.

    displacement [H, W] -> positions [V, 3], uv [V, 2] (running on past [0, 1]), faces [T, 3].
    """
    height, width = displacement.shape
    z = displacement.repeat(tiles, tiles)
    before = tiles // 2
    u = (torch.arange(tiles * width) + 0.5) / width - before
    v = tiles - before - (torch.arange(tiles * height) + 0.5) / height
    grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
    uv = torch.stack([grid_u, grid_v], -1).reshape(-1, 2)
    index = torch.arange(z.numel()).reshape(z.shape)
    a, b, c, d = (index[y, x].reshape(-1) for y, x in (
        (slice(0, -1), slice(0, -1)), (slice(0, -1), slice(1, None)),
        (slice(1, None), slice(0, -1)), (slice(1, None), slice(1, None)),
    ))  # fmt: skip
    faces = torch.cat([torch.stack([c, d, b], -1), torch.stack([c, b, a], -1)])
    return torch.cat([uv - 0.5, z.reshape(-1, 1)], -1), uv, faces


def mitsuba_images(material: PBRMaterial, size: int, spp: int, pairs: Any = PAIRS) -> Tensor:
    """Direct light on the periodic material. [len(pairs), size, size, 3] linear"""
    use_mitsuba()
    import mitsuba as mi

    sample = mesh(*tiled_sheet(material.displacement), surface(material))
    images = []
    for camera, light in pairs:
        place = position(light)
        scene = mi.load_dict({
            "type": "scene",
            "integrator": {"type": "direct", "hide_emitters": True},
            "sample": sample,
            "light": {
                "type": "sphere", "radius": LIGHT_RADIUS, "center": place.tolist(),
                "emitter": {
                    "type": "area",
                    "radiance": {"type": "rgb", "value": float(place.square().sum()) / LIGHT_RADIUS**2},
                },
            },
        })  # fmt: skip
        sensor = perspective(position(camera), _up(camera), field_of_view(camera), size, size)
        images.append(np.array(mi.render(scene, sensor=sensor, spp=spp))[..., :3])
    return torch.from_numpy(np.stack(images))


def torch_images(material: PBRMaterial, size: int, pairs: Any = PAIRS, **options: Any) -> Tensor:
    """The same with `shade`, the mean over a grid of rays per pixel."""
    batch = HeightFieldBatch.from_materials([material])
    images, fine = [], SUPERSAMPLING * size
    for camera, light in pairs:
        eye = position(camera)
        rays = camera_rays(eye, _up(camera), field_of_view(camera), fine, fine)
        uv = plane_points(eye, rays)[..., :2].reshape(1, -1, 2) + 0.5
        radiance = shade(batch, uv, eye.reshape(1, 1, 3), position(light).reshape(1, 1, 3), **options)
        images.append(radiance.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 3).mean((1, 3)))
    return torch.stack(images)


def _up(camera: tuple[float, float]) -> Tensor:
    return torch.tensor([0.0, 1.0, 0.0] if camera[0] == 0 else [0.0, 0.0, 1.0])


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Display-encoded PSNR per image. [F, H, W, 3] twice -> [F] dB"""
    return -10 * (srgb_from_linear(a) - srgb_from_linear(b)).square().mean((1, 2, 3)).log10()


def speed(materials: list[PBRMaterial], threads: int, points: int = 8192) -> tuple[float, float]:
    """Million points per second and per CPU second (all threads) at the default settings.

    Random views and lights within 70 degrees. The two differ where the cores are shared with other work.
    """
    torch.set_num_threads(threads)
    batch = HeightFieldBatch.from_materials(materials)
    generator = torch.Generator().manual_seed(0)
    uv = torch.rand(batch.batch, points, 2, generator=generator)
    angles = torch.rand(batch.batch, 4, generator=generator) * torch.tensor([70.0, 360.0, 70.0, 360.0])
    eye, light = (
        torch.stack([position((float(a[i]), float(a[i + 1]))) for a in angles])[:, None] for i in (0, 2)
    )
    shade(batch, uv, eye, light)
    start, cpu, runs = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < 2.0:
        shade(batch, uv, eye, light)
        runs += 1
    done = runs * uv.shape[0] * uv.shape[1] / 1e6
    return done / (time.perf_counter() - start), done / (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--materials", type=Path, help="folder of material folders")
    parser.add_argument("--scanned", type=int, default=8, help="how many of them to use")
    parser.add_argument("--procedural", type=int, default=12)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--spp", type=int, default=144)
    args = parser.parse_args()
    torch.set_num_threads(1)

    materials = [material.resized(args.resolution, args.resolution) for material in load_all(args)]
    print(f"{'material':34s} {'relief':>7s}" + "".join(f"  pair{i}" for i in range(len(PAIRS))) + "   mean")
    means, everything = [], []
    for material in materials:
        db = psnr(torch_images(material, args.size), mitsuba_images(material, args.size, args.spp))
        relief = float(material.displacement.max() - material.displacement.min())
        row = "".join(f" {x:6.1f}" for x in db.tolist())
        print(f"{material.name[:34]:34s} {relief:7.4f}{row} {float(db.mean()):6.1f}", flush=True)
        means.append(float(db.mean()))
        everything += db.tolist()
    worst = f"worst material {min(means):.2f} dB, worst image {min(everything):.2f} dB"
    print(f"mean of {len(means)} materials {np.mean(means):.2f} dB, {worst}")
    for threads in (1, 2):  # two only help where two cores are free
        wall, cpu = speed(materials, threads)
        print(f"{threads} thread(s): {wall:.2f} Mpoints/s, {cpu:.2f} per CPU second")


def load_all(args: argparse.Namespace) -> list[PBRMaterial]:
    procedural = [sample_material(seed, resolution=args.resolution) for seed in range(args.procedural)]
    folders = sorted(p for p in args.materials.iterdir() if p.is_dir()) if args.materials else []
    step = max(1, len(folders) // max(args.scanned, 1))
    return procedural + [load_material_maps(p) for p in folders[::step][: args.scanned]]


if __name__ == "__main__":
    main()
