"""How well an autoencoder keeps scanned real materials: PSNR of the round trip of rectified frames.

    python benchmarks/autoencoder_scans.py [MAPS...] [--model mini-t2v] [--weights FOLDER]

Scans 17 frames of each folder of maps (cached), unwarps them to the model's resolution, encodes and decodes:
through the autoencoder alone, and through the packing of its latents that the model's flow works on.
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
from gonio.models.codec import Codec, load_codec
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
    packed = load_codec(spec, options.weights)
    codecs = {"autoencoder": Codec(autoencoder=packed.autoencoder), "packed": packed}
    settings = ScanSettings(resolution=256, spp=TRUTH_SPP, denoise=False, aov=False)
    found: dict[str, list[float]] = {name: [] for name in codecs}
    for folder in chosen_maps(options.maps, unseen=True):
        video = cached_scan(load_material_maps(folder), two_phase(spec.frames), settings)
        frames, seen = rectify_video(video, spec.resolution)
        # In corners that a camera does not see the frame from above stands in.
        frames = torch.where(seen[..., None], frames, frames[:1])
        for name, codec in codecs.items():
            found[name] += measure(codec, [srgb_from_linear(frames)])
        print(f"{folder.name:32}", *(f"{name} {psnr[-1]:.2f} dB" for name, psnr in found.items()), flush=True)
    for name, psnr in found.items():
        print(f"{name}, {len(psnr)} materials: mean {sum(psnr) / len(psnr):.2f} dB, worst {min(psnr):.2f}")


if __name__ == "__main__":
    main()
