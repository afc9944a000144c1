"""Captions of clips from what their records say: nothing but the attributes is needed to write them anew."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gonio.data.captions import caption_outside, describe
from gonio.data.captions.real import subjects
from gonio.data.captions.templates import Description, compose
from gonio.data.captions.words import names_color, names_metal
from gonio.errors import GonioError, UsageError
from gonio.media.limits import read_bytes, shown

DEFAULT_CAPTIONS = 4
MAX_CAPTIONS = 64


def template_captions(
    attributes: Mapping[str, Any],
    key: str,
    *,
    count: int = DEFAULT_CAPTIONS,
    exclude: Collection[str] = (),
) -> list[str]:
    """Up to `count` different true sentences about a material, the same for the same key.

    exclude: prompts that models are judged by; none of them is given as a caption.
    """
    first = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")

    def sentence(seed: int) -> str:
        return _sentence(attributes, seed)

    captions = (caption_outside(sentence, first + number, exclude) for number in range(count))
    return list(dict.fromkeys(captions))


def check_count(count: int) -> int:
    """A number of captions a clip, if it makes sense."""
    if not 1 <= count <= MAX_CAPTIONS:
        raise UsageError(f"--captions {count}: allowed are 1 to {MAX_CAPTIONS}")
    return count


def read_prompts(path: Path) -> list[str]:
    """The prompts of a text file, one a line; in a .jsonl file each line's "prompt"."""
    lines = [line.strip() for line in read_bytes(path).decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line]
    if path.suffix.lower() != ".jsonl":
        return lines
    try:
        return [str(json.loads(line)["prompt"]) for line in lines]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise GonioError(f'{shown(path)}: every line must be an object with a "prompt"; correct it') from None


def _sentence(attributes: Mapping[str, Any], seed: int) -> str:
    """By the rules that made a procedural material, else by name, category and tags of its source."""
    if "family" in attributes:
        return describe(attributes, seed)
    tags = [tag.lower() for tag in attributes.get("tags", ()) if isinstance(tag, str)]
    return compose(
        Description(
            nouns=subjects(attributes, str(attributes.get("name", ""))),
            color=attributes["dominant_color"],
            second_color=attributes["secondary_color"],
            finish=attributes["roughness_class"],
            relief=attributes["relief"],
            metallic=attributes["metallic"],
            adjectives=tuple(t for t in tags if t.isalpha() and not names_color(t) and not names_metal(t)),
            name_rules=True,
        ),
        random.Random(f"gonio-clip-caption-{seed}"),
    )
