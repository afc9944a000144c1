"""Videos of every prompt of a file, and a sheet of them all.

    python benchmarks/generate_prompts.py PROMPTS.jsonl --out generated [--seeds 2] [--expand template]

Then: gonio evaluate video generated --prompts PROMPTS.jsonl --out results.json. Prompts are expanded as by
gonio generate, or as --expand says, and what is there is not made again. The sheet (generated.png) shows
frame 4 of the first seed of each prompt, in the order of the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from gonio import media
from gonio.evaluate.adherence import read_prompts
from gonio.generate.pipeline import SamplingSettings, load_generator
from gonio.generate.run import video_shown
from gonio.models.spec import find_spec
from gonio.pbr import resized_map

COLUMNS = 10
TILE = 128
SHOWN = 4  # frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--model", default="mini-t2v")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--expand")
    parser.add_argument("--tileable", action="store_true")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    spec = find_spec(options.model)
    generator = load_generator(spec, options.weights)
    prompts = [asked.prompt for asked in read_prompts(options.prompts)]
    tiles = []
    for number, prompt in enumerate(prompts):
        for seed in range(options.seeds):
            settings = SamplingSettings(seed=seed, tileable=options.tileable)
            folder = options.out / f"{number:03d}_{seed}"
            video = video_shown(generator, prompt, settings, folder, expand=options.expand)
            if seed == 0:
                tiles.append(resized_map(video.frames[SHOWN], TILE, TILE, wrap=False))
    tiles += [torch.zeros(TILE, TILE, 3)] * (-len(tiles) % COLUMNS)
    rows = [torch.cat(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    media.write_image(options.out.with_suffix(".png"), torch.cat(rows, 0))


if __name__ == "__main__":
    main()
