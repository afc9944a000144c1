"""One frame of every clip that a recipe trains a mini video model on: what to look for copies in.

    python benchmarks/pool_pictures.py --recipe mini-plain --maps MAPS... --out pictures

Then: gonio evaluate video generated --training-set pictures --out results.json. The pool comes from the cache
that training filled, or is rendered.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gonio import media
from gonio.color import linear_from_srgb
from gonio.data.clips import make_pool
from gonio.train.video import RECIPES

SHOWN = 4  # frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="mini-plain", choices=[n for n, r in RECIPES.items() if r.clips])
    parser.add_argument("--maps", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    clips = RECIPES[options.recipe].clips
    assert clips is not None
    pool = make_pool(clips, options.maps)
    for index, record in enumerate(pool.records):
        shown = pool.clip(index)[SHOWN].float() / 255
        media.write_image(options.out / f"{index:05d}_{record['name']}.png", linear_from_srgb(shown))
    print(f"{len(pool)} pictures in {options.out}")


if __name__ == "__main__":
    main()
