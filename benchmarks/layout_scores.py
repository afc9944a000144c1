"""How well the judge of categories tells the layouts of plain procedural materials.

    python benchmarks/layout_scores.py [--family fabric] [--layouts 64] [--colors 4]

A line a layout, best first within a pattern: right in how many of the colours, and the mean probability of
what the family may be taken for. Layouts for `gonio.data.procedural.layouts` were chosen from this.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from gonio.data.categories import family_categories
from gonio.data.procedural import FAMILIES, sample_material
from gonio.evaluate.attributes import bundled_judge, overhead_scores
from gonio.models.category import SIZE, enlarged
from gonio.train.attributes import render_overhead

RESOLUTION = 128
LOOKS = (0, 4)


@dataclass(frozen=True)
class Score:
    """pattern and number of a layout; right: colours in which it is named rightly; probability: mean."""

    pattern: str
    number: int
    right: int
    probability: float


def layout_score(family: str, number: int, colors: int) -> Score:
    """Of one layout in `colors` colours and finishes as chance has them."""
    seeds = range(1, colors + 1)
    materials = [
        sample_material(seed, family=family, resolution=RESOLUTION, plain=True, layout=number)
        for seed in seeds
    ]
    judge = bundled_judge()
    right, probability = 0, 0.0
    for material, overhead in zip(materials, render_overhead(materials), strict=True):
        scores = overhead_scores(enlarged(overhead, SIZE), judge, LOOKS)
        accepted = family_categories(family, metallic=material.metadata["attributes"]["metallic"])
        right += next(iter(scores)) in accepted
        probability += sum(scores[word] for word in accepted) / colors
    pattern = materials[0].metadata["attributes"]["pattern_family"]
    return Score(pattern, number, right, probability)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--family", nargs="*", default=["brick"], choices=sorted(FAMILIES))
    parser.add_argument("--layouts", type=int, default=8)
    parser.add_argument("--colors", type=int, default=4)
    options = parser.parse_args()
    for family in options.family:
        found = [layout_score(family, number, options.colors) for number in range(options.layouts)]
        for score in sorted(found, key=lambda s: (s.pattern, -s.right, -s.probability)):
            right = f"{score.right} of {options.colors}"
            print(f"{family}: {score.pattern}, layout {score.number}: {right}, {score.probability:.2f}")


if __name__ == "__main__":
    main()
