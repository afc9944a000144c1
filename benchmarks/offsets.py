"""Are the offsets of reconstructed materials the parallax of their relief, and what are they worth?

    python benchmarks/offsets.py [MAPS...] [--method lrm] [--model FOLDER] [--resolution 256]

Reconstructs each folder of maps from its cached 17-frame scan and prints the rank correlation of the offsets
with the true parallax of the height map, and the PSNR on the 81 cross-joined frames with and without offsets.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from data_maps import chosen_maps

from gonio.evaluate.parallax import parallax_correlation, relief, without_offsets
from gonio.evaluate.reconstruction import make_case, measure
from gonio.pbr import load_material_maps
from gonio.reconstruct.run import Reconstruction, reconstruct_shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=Path, nargs="*")
    parser.add_argument("--method", default="lrm", choices=("lrm", "refine", "optimize", "scratch"))
    parser.add_argument("--model", type=Path, help="made by gonio train lrm; the bundled one when left out")
    parser.add_argument("--resolution", type=int, default=256)
    arguments = parser.parse_args()
    how = Reconstruction(method=arguments.method, size=arguments.resolution, model=arguments.model)
    rows = []
    for folder in chosen_maps(arguments.maps, with_height=True):
        maps = load_material_maps(folder)
        case = make_case(maps, views=17, resolution=arguments.resolution)
        found = reconstruct_shown(case.video, how)[0]
        truth = maps.resized(arguments.resolution).displacement
        with_, without = (measure(m, case.truth)["psnr"] for m in (found, without_offsets(found)))
        row = (relief(truth), parallax_correlation(found, truth), with_, without)
        rows.append(row)
        print(f"{folder.name:32} relief {row[0]:.4f}  rank correlation {row[1]:+.2f}", end="  ")
        print(f"{with_:.2f} dB, without offsets {without:.2f}", flush=True)
    rows.sort(reverse=True)
    for name, part in (("all", rows), ("upper half by relief", rows[: len(rows) // 2])):
        if part:
            correlation, with_, without = (statistics.mean(row[i] for row in part) for i in (1, 2, 3))
            print(f"{name}, {len(part)}: {correlation:+.2f}, {with_:.2f} dB, without offsets {without:.2f}")


if __name__ == "__main__":
    main()
