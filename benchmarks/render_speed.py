"""How fast `gonio render` is beside Mitsuba's `path` integrator with the analytic `principled` BSDF.

    python benchmarks/render_speed.py [--shape sphere] [--resolution 256] [--spp 32] [--rounds 5]

The same shape, studio, floor, camera, depth and number of paths for both, one after the other in each round,
so that other load on the machine hits both. Prints medians in paths per second and their ratios.
Random decoders: the time does not depend on the weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial
from gonio.render.stage import RenderSettings, Stage, perspective
from gonio.render.wavefront import render
from gonio.scan.scene import bitmap

# Ratio to Mitsuba's path + principled that each decoder must reach.
WANTED = {"64x4": 1 / 15, "32x2": 1 / 4}


def random_material(width: int, layers: int, texels: int = 512) -> NeuralMaterial:
    torch.manual_seed(0)
    decoder = Decoder(MaterialSpec(hidden_width=width, hidden_layers=layers, max_offset=0.02))
    return NeuralMaterial(torch.randn(texels, texels, 12), torch.randn(texels, texels, 12), decoder)


def principled(texels: int = 512) -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "type": "principled",
        "base_color": bitmap(torch.rand(texels, texels, 3) * 0.6),
        "roughness": bitmap(0.2 + 0.6 * torch.rand(texels, texels)),
    }


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="sphere")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--spp", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    settings = RenderSettings(shape=arguments.shape, resolution=arguments.resolution, spp=arguments.spp)
    size, depth = settings.resolution, settings.max_depth

    stages = {f"{w}x{n}": Stage(random_material(w, n), settings) for w, n in ((64, 4), (32, 2))}
    stage = stages["64x4"]
    sensor = perspective(stage.view, size, size)
    import mitsuba as mi

    reference, _ = stage.setting.mitsuba_scene(principled())
    integrator = mi.load_dict({"type": "path", "max_depth": depth, "rr_depth": 3})

    def mitsuba() -> None:
        picture = mi.render(reference, sensor=sensor, integrator=integrator, spp=settings.spp)
        picture.numpy()

    def ours(name: str) -> Callable[[], Any]:
        own = stages[name]
        world = own.setting.world(own.surface)
        quality = settings.quality()
        return lambda: render(world, sensor, own.surface, height=size, width=size, quality=quality)

    runs = {"mitsuba": mitsuba} | {name: ours(name) for name in stages}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(arguments.rounds + 1):
        for name, run in runs.items():
            spent = seconds(run)
            if index:  # the first round compiles
                times[name].append(spent)
    paths = size * size * settings.spp
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{mi.variant()}, {size}x{size} at {settings.spp} spp, depth {depth}")
    print(f"mitsuba path + principled  {paths / medians['mitsuba'] / 1e6:7.3f} Mpaths/s")
    for name in stages:
        ratio = medians["mitsuba"] / medians[name]
        verdict = "reached" if ratio >= WANTED[name] else "MISSED"
        print(
            f"gonio {name}                 {paths / medians[name] / 1e6:7.3f} Mpaths/s"
            f"   ratio 1/{1 / ratio:.1f}, wanted 1/{1 / WANTED[name]:.0f}: {verdict}"
        )


if __name__ == "__main__":
    main()
