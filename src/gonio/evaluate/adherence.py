"""Does a material video show what its prompt asked for? Rules per attribute, rows and rates.

A prompt file has one JSON object a line: `prompt` and the attributes it asks for, `colour`, `family`,
`metallic`, `roughness`; null where it does not ask. What is not asked is not counted.

    colour     the asked name has the largest area, or bears (or nearly bears) at least a quarter of it
    family     the asked category is the most likely one; `family_top3`: one of the three most likely;
               `family_related`: the most likely one, or one that files the same surfaces (tiles, ceramic)
    roughness  the same class of three
    metallic   the same truth value
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gonio.data.categories import CATEGORIES, COLORS, ROUGHNESS, related_categories
from gonio.errors import UsageError
from gonio.evaluate.attributes import Attributes
from gonio.media.limits import read_bytes

COLOUR_AREA = 0.25
MAX_FILE_BYTES = 4 << 20
MAX_PROMPT_LENGTH = 2000
CHECKS = ("colour_ok", "family_ok", "family_top3", "family_related", "roughness_ok", "metallic_ok")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt and the attributes it asks for; None where it leaves one open."""

    prompt: str
    colour: str | None = None
    family: str | None = None
    metallic: bool | None = None
    roughness: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not 0 < len(self.prompt) <= MAX_PROMPT_LENGTH:
            raise UsageError(f"a prompt must be text of 1 to {MAX_PROMPT_LENGTH} characters")
        for name, words in (("colour", COLORS), ("family", CATEGORIES), ("roughness", ROUGHNESS)):
            value = getattr(self, name)
            if value is not None and value not in words:
                raise UsageError(f"{name} {value!r} is not one of {', '.join(words)} or null")
        if self.metallic is not None and not isinstance(self.metallic, bool):
            raise UsageError(f"metallic {self.metallic!r} is not true, false or null")


def read_prompts(path: Path) -> list[Asked]:
    """The lines of a prompt file. Raises UsageError naming the line that is wrong."""
    content = read_bytes(path, MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB; split the prompts into files")
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    prompts = [_parsed(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise UsageError(f"{path}: holds no prompt; give one JSON object a line")
    return prompts


def _parsed(path: Path, number: int, line: str) -> Asked:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: line {number} is not JSON ({error})") from None
    known = Asked.__dataclass_fields__
    if not isinstance(fields, dict) or "prompt" not in fields or set(fields) - set(known):
        raise UsageError(f"{path}: line {number} must be an object with {', '.join(known)}")
    try:
        return Asked(**fields)
    except UsageError as error:
        raise UsageError(f"{path}: line {number}: {error}") from None


def adherence(asked: Asked, measured: Attributes) -> dict[str, bool | None]:
    """Every check of `CHECKS`: True, False, or None where the prompt does not ask."""
    family = asked.family
    return {
        "colour_ok": None if asked.colour is None else _has_colour(asked.colour, measured),
        "family_ok": None if family is None else measured.category == family,
        "family_top3": None if family is None else family in measured.top_categories(3),
        "family_related": None if family is None else measured.category in related_categories(family),
        "roughness_ok": None if asked.roughness is None else measured.roughness == asked.roughness,
        "metallic_ok": None if asked.metallic is None else measured.metallic == asked.metallic,
    }


def _has_colour(colour: str, measured: Attributes) -> bool:
    return measured.colour == colour or measured.colour_reach.get(colour, 0.0) >= COLOUR_AREA


def adherence_row(asked: Asked, measured: Attributes) -> dict[str, Any]:
    """One row of a table: what was asked, what was measured, and the checks."""
    return {
        "prompt": asked.prompt,
        "asked": {k: getattr(asked, k) for k in ("colour", "family", "metallic", "roughness")},
        "measured": {
            "colour": measured.colour,
            "family": measured.category,
            "family_top3": list(measured.top_categories(3)),
            "metallic": measured.metallic,
            "roughness": measured.roughness,
        },
        **adherence(asked, measured),
    }


def adherence_rates(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per check: {"rate": share of the rows that ask and are answered (None: none asks), "asked": count}."""
    rates: dict[str, dict[str, Any]] = {}
    for check in CHECKS:
        answers = [row[check] for row in rows if row[check] is not None]
        rates[check] = {"rate": sum(answers) / len(answers) if answers else None, "asked": len(answers)}
    return rates
