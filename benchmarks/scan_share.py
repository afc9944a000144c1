"""What a scan spends its time on, and what denoising is worth.

    python benchmarks/scan_share.py [MAPS...] [--resolution 256] [--reference-spp 1024]

First the share of a whole 81-frame scan (64 samples per pixel, everything written) inside Mitsuba's render.
Then FLIP and PSNR against a reference of many samples: 16 samples raw and denoised and 64 raw, with our
stratified pixel sampler and, as the peer, with Mitsuba's default independent one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from data_maps import chosen_maps

from gonio.camera import cross_joined, two_phase
from gonio.color import srgb_from_linear
from gonio.evaluate.metrics import flip, psnr
from gonio.pbr import PBRMaterial, load_material_maps
from gonio.scan import ScanSettings, scan
from gonio.scan.measure import Stage, denoise
from gonio.scan.scene import perspective

FRAMES = [4, 40, 58]


def share(material: PBRMaterial, resolution: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _, times = scan(
            material, folder, trajectory=two_phase(81), settings=ScanSettings(resolution=resolution, spp=64)
        )
    print(
        f"{material.name}: 81 frames {resolution}x{resolution}, 64 spp: {times.total:.1f} s, "
        f"{times.render_share:.0%} inside mitsuba.render"
    )


def compare(
    material: PBRMaterial, resolution: int, reference_spp: int
) -> dict[str, list[tuple[float, float]]]:
    trajectory = cross_joined().subset(FRAMES)
    settings = {"resolution": resolution, "denoise": False}
    reference = Stage(material, trajectory, ScanSettings(spp=reference_spp, seed=7, **settings))  # type: ignore[arg-type]
    cheap = Stage(material, trajectory, ScanSettings(spp=16, **settings))  # type: ignore[arg-type]
    dear = Stage(material, trajectory, ScanSettings(spp=64, **settings))  # type: ignore[arg-type]
    found: dict[str, list[tuple[float, float]]] = {}
    for index in range(len(FRAMES)):
        truth = srgb_from_linear(reference.frame(index)[0])[None]
        color, _, features = cheap.frame(index)
        independent = perspective(
            trajectory.camera_position[index],
            trajectory.camera_up[index],
            trajectory.fov,
            resolution,
            resolution,
            sampler="independent",
        )
        peer = [cheap.scene.render(independent, spp=spp, seed=index)[..., :3] for spp in (16, 64)]
        pictures = {
            "16 spp raw": color,
            "16 spp denoised": denoise(color, features["albedo"], features["normal"]),
            "64 spp raw": dear.frame(index)[0],
            "16 spp raw, independent": peer[0],
            "64 spp raw, independent": peer[1],
        }
        for name, picture in pictures.items():
            shown = srgb_from_linear(picture)[None]
            found.setdefault(name, []).append((float(flip(truth, shown)), float(psnr(truth, shown))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("maps", nargs="*", type=Path)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--reference-spp", type=int, default=1024)
    options = parser.parse_args()
    materials = [load_material_maps(folder) for folder in chosen_maps(options.maps, with_height=True, most=4)]
    share(materials[0], options.resolution)
    totals: dict[str, list[tuple[float, float]]] = {}
    for material in materials:
        for name, values in compare(material, options.resolution, options.reference_spp).items():
            totals.setdefault(name, []).extend(values)
            print(
                f"  {material.name:32} {name:24} FLIP {statistics.mean(v[0] for v in values):.4f}", flush=True
            )
    for name, values in totals.items():
        flips, psnrs = zip(*values, strict=True)
        print(f"{name:24} mean FLIP {statistics.mean(flips):.4f}, mean PSNR {statistics.mean(psnrs):.1f} dB")


if __name__ == "__main__":
    main()
