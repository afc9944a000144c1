"""What the bundled memory recalls for prompts: how often a layout of the family that a prompt file asks for.

    python benchmarks/memory_reading.py --prompts prompts.jsonl

The prompts are JSON lines as `gonio evaluate video` reads them. Prints every prompt that recalls a layout of
another family, and how many recall one of theirs; nothing is drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gonio.data.categories import family_categories
from gonio.evaluate.adherence import read_prompts
from gonio.models.load import load_memory_of
from gonio.models.spec import find_spec
from gonio.models.text import load_minilm


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    memory = load_memory_of(find_spec("mini-t2v"))
    assert memory is not None
    encoder = load_minilm()
    asked = [prompt for prompt in read_prompts(given.prompts) if prompt.family is not None]
    right = 0
    for prompt in asked:
        text = encoder.encode([prompt.prompt])[0][0]
        for seed in range(given.seeds):
            layout = memory.recalled(text, seed)[0]
            found = family_categories(layout.split()[0])
            right += prompt.family in found
            if prompt.family not in found:
                print(f"{prompt.prompt}: {layout}, not {prompt.family}")
    total = len(asked) * given.seeds
    print(f"{right} of {total} ({len(memory.names)} layouts)")


if __name__ == "__main__":
    main()
