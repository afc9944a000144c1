"""How fast the Mitsuba BSDF `neumip` is: beside Mitsuba's `principled`, and beside the machine's sgemm.

    python benchmarks/plugin_speed.py [--rounds 5] [--resolution 128]

The same scene (a sphere on a plane, a constant sky, a point light), the same `path` integrator with at most
four segments; only the BSDF differs. Rounds are interleaved and medians compared, so that other work on the
machine hits all alike. Tracing the kernel, a fixed part of each picture, is included. Arithmetic: two
operations per weight and point, called through Mitsuba's function table, beside a 1024 x 1024 sgemm of torch
on all its threads.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from gonio.material_file import save_material
from gonio.mitsuba_setup import use_mitsuba
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial

SAMPLES = {"principled": 512, "neumip 64x4": 16, "neumip 32x2": 96}
POINTS = 1 << 17


def make_material(width: int, layers: int) -> NeuralMaterial:
    torch.manual_seed(0)
    decoder = Decoder(MaterialSpec(hidden_width=width, hidden_layers=layers))
    return NeuralMaterial(torch.randn(256, 256, 12), torch.randn(256, 256, 12), decoder)


def make_scene(bsdf: dict[str, Any], resolution: int) -> Any:
    import mitsuba as mi

    to_world = mi.ScalarTransform4f()
    return mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": 4},
            "sky": {"type": "constant"},
            "lamp": {"type": "point", "position": [1, 1, 3], "intensity": 5.0},
            "ball": {"type": "sphere", "bsdf": bsdf},
            "floor": {
                "type": "rectangle",
                "to_world": to_world.translate([0, 0, -1]).scale(4),
                "bsdf": bsdf,
            },
            "sensor": {
                "type": "perspective",
                "fov": 40,
                "to_world": to_world.look_at([0, -5, 2.5], [0, 0, 0], [0, 0, 1]),
                "film": {
                    "type": "hdrfilm",
                    "width": resolution,
                    "height": resolution,
                    "rfilter": {"type": "box"},
                },
            },
        }
    )


def seconds(function: Any) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def rendered(scene: Any, spp: int, seed: int) -> None:
    import drjit as dr
    import mitsuba as mi

    render: Any = mi.render  # its seed is declared as an array
    dr.eval(render(scene, spp=spp, seed=seed))
    dr.sync_thread()


def decoder_seconds(scene: Any, seed: int) -> float:
    """One evaluation of the BSDF at POINTS points of the floor, kernel time alone."""
    import drjit as dr
    import mitsuba as mi

    sampler = mi.load_dict({"type": "independent"})
    sampler.seed(seed, POINTS)
    down = mi.Ray3f(
        mi.Point3f(0, 0, 9) + 3 * (mi.Point3f(*sampler.next_2d(), 0) - 0.5), mi.Vector3f(0, 0, -1)
    )
    si = scene.ray_intersect(down)
    light = mi.warp.square_to_cosine_hemisphere(sampler.next_2d())
    dr.eval(si, light)
    dr.sync_thread()
    with dr.scoped_set_flag(dr.JitFlag.KernelHistory, True):
        dr.kernel_history_clear()
        dr.eval(si.bsdf().eval(mi.BSDFContext(), si, light))
        dr.sync_thread()
        return sum(kernel.get("execution_time") or 0.0 for kernel in dr.kernel_history()) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resolution", type=int, default=128)
    arguments = parser.parse_args()

    print("variant", use_mitsuba("llvm_ad_rgb"))
    matrix = torch.randn(1024, 1024)
    paths: dict[str, list[float]] = {name: [] for name in SAMPLES}
    flops: dict[str, list[float]] = {"neumip 64x4": [], "neumip 32x2": []}
    sgemm = []
    with tempfile.TemporaryDirectory() as folder:
        bsdfs: dict[str, dict[str, Any]] = {
            "principled": {
                "type": "principled",
                "base_color": {"type": "rgb", "value": [0.5, 0.4, 0.3]},
                "roughness": 0.4,
            }
        }
        per_point = {}
        for width, layers in ((64, 4), (32, 2)):
            material, name = make_material(width, layers), f"neumip {width}x{layers}"
            path = Path(folder) / f"{width}x{layers}.safetensors"
            save_material(path, material)
            bsdfs[name] = {"type": "neumip", "filename": str(path)}
            per_point[name] = material.spec.flops_per_point
        import gonio.render

        gonio.render.register()
        for index in range(arguments.rounds + 1):
            for name, bsdf in bsdfs.items():
                # Only one scene at a time: a kernel holds the code of every BSDF that is alive.
                scene = make_scene(bsdf, arguments.resolution)
                first = seconds(lambda scene=scene: rendered(scene, 1, 0))
                if name in flops:
                    decoder_seconds(scene, 0)
                if index == 0:
                    print(
                        f"{name}: first picture {first:.1f} s; compiles unless Dr.Jit has the kernel on disk"
                    )
                    continue
                spp = SAMPLES[name]
                took = seconds(lambda scene=scene, spp=spp, i=index: rendered(scene, spp, i))
                paths[name].append(arguments.resolution**2 * spp / took)
                if name in flops:
                    flops[name].append(per_point[name] * POINTS / decoder_seconds(scene, index) / 1e9)
                    sgemm.append(2 * 1024**3 / seconds(lambda: matrix @ matrix) / 1e9)
                del scene
                gc.collect()

    reference = statistics.median(paths["principled"])
    peak = statistics.median(sgemm)
    print(f"sgemm: {peak:.0f} GFLOP/s")
    for name, values in paths.items():
        rate = statistics.median(values)
        line = f"{name}: {rate / 1e6:.3f} M paths/s, 1/{reference / rate:.1f} of principled"
        if name in flops:
            speed = statistics.median(flops[name])
            line += f"; decoder {speed:.0f} GFLOP/s, {speed / peak:.2f} of sgemm"
        print(line)


if __name__ == "__main__":
    main()
