"""How near is a video made from a photo of a material to what the material looks like?

    python benchmarks/generate_photos.py [MAPS...] --environments FOLDER --out photos.png [--count 8]

Photographs each folder of maps under an environment (the height-field renderer), generates a video from the
photo alone, and prints its PSNR to the true rectified frames, beside that of the photo itself repeated in
every frame. The picture shows photo, generated and true frame, light from the side.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from data_maps import chosen_maps
from torch import Tensor

from gonio import media
from gonio.camera import two_phase
from gonio.color import srgb_from_linear
from gonio.data.clips import rectified_frames
from gonio.data.heightfield import HeightFieldBatch
from gonio.data.photos import Environments, quick_photograph
from gonio.generate.pipeline import SamplingSettings, load_generator
from gonio.models.spec import find_spec
from gonio.pbr import load_material_maps
from gonio.rectify import rectify_video

SHOWN = 4  # frame
SIZE = 128


def psnr(first: Tensor, second: Tensor) -> float:
    """Of display-encoded values, from linear ones."""
    first, second = (srgb_from_linear(frames.clamp(0, 1)) for frames in (first, second))
    return float(-10 * torch.log10((first - second).square().mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=Path, nargs="*")
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mini-i2v")
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    generator = load_generator(find_spec(options.model))
    environments = Environments(options.environments)
    maps = chosen_maps(options.maps, unseen=True)
    rows, columns = [], []
    for folder in maps[:: max(1, len(maps) // options.count)][: options.count]:
        material = load_material_maps(folder).resized(2 * SIZE)
        photo = quick_photograph(material, environments.draw(folder.name), SIZE)
        truth = rectified_frames(HeightFieldBatch.from_materials([material]), two_phase(17), SIZE)[0]
        found = rectify_video(generator.video("", SamplingSettings(), photo=photo), SIZE)[0]
        rows.append((psnr(found, truth), psnr(photo.expand_as(truth), truth)))
        print(f"{folder.name:32} {rows[-1][0]:.2f} dB, the photo itself {rows[-1][1]:.2f}", flush=True)
        columns.append(torch.cat([photo, found[SHOWN], truth[SHOWN]]))
    if rows:
        made, still = (statistics.mean(column) for column in zip(*rows, strict=True))
        print(f"{len(rows)} materials: {made:.2f} dB, the photo itself {still:.2f}")
        media.write_image(options.out, torch.cat(columns, 1))


if __name__ == "__main__":
    main()
