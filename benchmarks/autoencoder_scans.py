"""How well an autoencoder keeps scanned real materials: PSNR of the round trip of rectified frames.

    python benchmarks/autoencoder_scans.py [MAPS...] [--model mini-t2v] [--weights FOLDER]

Scans 17 frames of each folder of maps (cached), unwarps them to the model's resolution, encodes and decodes.
Give only materials that the autoencoder was not trained on (its training.json lists those it was).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from data_maps import chosen_maps

from gonio.camera import two_phase
from gonio.color import srgb_from_linear
from gonio.evaluate.reconstruction import TRUTH_SPP, cached_scan
from gonio.models.autoencoder import channels_last
from gonio.models.load import load_autoencoder
from gonio.models.spec import find_spec
from gonio.pbr import load_material_maps
from gonio.rectify import rectify_video
from gonio.scan.measure import ScanSettings
from gonio.train.autoencoder import measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=Path, nargs="*")
    parser.add_argument("--model", default="mini-t2v")
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    spec = find_spec(options.model)
    autoencoder = channels_last(load_autoencoder(spec, options.weights))
    settings = ScanSettings(resolution=256, spp=TRUTH_SPP, denoise=False, aov=False)
    found = []
    for folder in chosen_maps(options.maps, unseen=True):
        video = cached_scan(load_material_maps(folder), two_phase(spec.frames), settings)
        frames, seen = rectify_video(video, spec.resolution)
        # In corners that a camera does not see the frame from above stands in.
        frames = torch.where(seen[..., None], frames, frames[:1])
        (psnr,) = measure(autoencoder, [srgb_from_linear(frames)])
        found.append(psnr)
        print(f"{folder.name:32} {psnr:.2f} dB", flush=True)
    ordered = sorted(found)
    print(f"{len(found)} materials: mean {sum(found) / len(found):.2f} dB, worst {ordered[0]:.2f}")


if __name__ == "__main__":
    main()
