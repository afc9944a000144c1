"""How near two independent renders of the truth are: no reconstruction can be measured to be nearer.

    python benchmarks/noise_floor.py [MAPS...]

Scans the 81 cross-joined frames of each folder of maps twice, with different seeds (cached), and prints the
PSNR between the two, as `gonio evaluate reconstruction` measures it. Half of their difference is the noise of
either, so a perfect reconstruction would measure 3 dB more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_maps import chosen_maps

from gonio.camera import cross_joined
from gonio.evaluate.metrics import frame_metrics
from gonio.evaluate.reconstruction import TRUTH_SPP, cached_scan
from gonio.pbr import load_material_maps
from gonio.scan.measure import ScanSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=Path, nargs="*")
    found = []
    for folder in chosen_maps(parser.parse_args().maps, with_height=True):
        material = load_material_maps(folder)
        first, second = (
            cached_scan(
                material,
                cross_joined(),
                ScanSettings(resolution=256, spp=TRUTH_SPP, denoise=False, aov=False, seed=seed),
            )
            for seed in (0, 1)
        )
        psnr = frame_metrics(first.frames, second.frames, first.sample_mask())["psnr"]
        found.append(psnr)
        print(f"{folder.name:32} {psnr:.2f} dB", flush=True)
    if found:
        print(f"{len(found)} materials: mean {sum(found) / len(found):.2f} dB, least {min(found):.2f}")


if __name__ == "__main__":
    main()
