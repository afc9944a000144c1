"""Captions from attributes: many ways to say the same, all of them true."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gonio.data.captions.nouns import METALLIC_NAMES, NAMES
from gonio.data.captions.words import (
    COLOR_PHRASES,
    COLORED_METALS,
    FINISH_PHRASES,
    METALS_BY_COLOR,
    RELIEF_PHRASES,
    names_color,
    names_metal,
    words_of,
)
from gonio.data.procedural.captions import with_articles
from gonio.pbr import PBRMaterial

PREFIX = "The video clip features a close-up view of"  # the long form of the VideoNeuMat paper, section 3.3

# A part in brackets is left out when what it names is not known. Plain forms come up as often as all others:
# that is how people ask.
_TERSE = (
    "[{color} ]{noun}",
    "[{color} ]{noun}",
    "{finish} [{color} ]{noun}",
    "[{adjective} ][{color} ]{noun}",
    "[{color} ]{noun}, {finish}",
    "{noun}[, {color}]",
    "{finish} {noun}[, {color}]",
    "{noun}[, {color}], {finish}",
    "[{color} ]{noun}[ with {pattern}]",
    "[{adjective} ]{noun}[ in {colors}]",
)
_MEDIUM = (
    "[{adjective} ][{color} ]{noun}, {finish}, {relief}",
    "{finish} [{color} ]{noun}[ with {pattern}][, {adjective}]",
    "a {finish} surface of [{color} ]{noun}[, {pattern}]",
    "a close-up of [{adjective} ][{color} ]{noun}, {finish}",
    "{noun}: [{colors}, ]{finish}, {relief}",
    "texture of [{color} ]{noun}[, {adjective}], {finish} finish",
    "a flat sample of {finish} {noun}[ in {colors}][, {pattern}]",
    "[{colors} ]{noun} seen from above, {finish}[, {adjective}]",
)
_LONG = (
    PREFIX
    + " [{adjective} ][{color} ]{noun} with {relief}, {finish}[, with {pattern}][, touches of {second}]",
    PREFIX + " {noun}[ in {colors}]. The surface is {finish}[ and {adjective}], with {relief}.",
    PREFIX + " {finish} [{color} ]{noun}[, showing {pattern}][, {adjective} in places], with {relief}",
    "The video shows a flat sample of [{color} ]{noun}[ with {pattern}]. It has {relief} and looks {finish}.",
)
_UNCOUNTABLE = ("ashlar", "corrugation", "flaking paint", "grain", "hair", "quilted padding", "rubble")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a caption may say. With `name_rules`, a noun that names a colour is believed more than `color`."""

    nouns: tuple[str, ...]
    color: str
    second_color: str | None
    finish: str  # a roughness class
    relief: str
    metallic: bool | None  # None: not known
    adjectives: tuple[str, ...] = ()
    pattern: str | None = None
    name_rules: bool = False
    color_told: bool = False  # by the nouns, so that half of the captions do not say it


def describe(material: PBRMaterial | Mapping[str, Any], seed: int) -> str:
    """A training caption of a procedural material (or of its attributes), the same for the same seed."""
    attributes = material.metadata["attributes"] if isinstance(material, PBRMaterial) else material
    say = random.Random(f"gonio-describe-{seed}-{attributes['family']}")
    return compose(described(attributes, say), say)


def described(attributes: Mapping[str, Any], say: random.Random) -> Description:
    """The Description of a procedural material."""
    nouns, color_told = _nouns(attributes, say)
    return Description(
        nouns=nouns,
        color_told=color_told,
        color=attributes["dominant_color"],
        second_color=attributes["secondary_color"],
        finish=attributes["roughness_class"],
        relief=attributes["relief"],
        metallic=attributes["metallic"],
        adjectives=tuple(attributes["adjectives"]),
        pattern=attributes["pattern_family"],
    )


def compose(description: Description, say: random.Random) -> str:
    """One sentence (or two) about a material. Its colour is named unless the noun tells it."""
    noun = say.choice(description.nouns)
    if description.metallic and not names_metal(noun):
        noun = f"{say.choice(('metal', 'metallic'))} {noun}"
    color: str | None = say.choice(COLOR_PHRASES[description.color])
    if description.name_rules and names_color(noun):
        color = None
    elif _tells_color(description, noun) and say.random() < 0.5:
        color = None
    second = None
    if color and description.second_color:
        second = say.choice(COLOR_PHRASES[description.second_color])
    pattern = _pattern_phrase(description.pattern, noun)
    fresh = [word for word in description.adjectives if word not in f"{noun} {pattern}"]
    finish = say.choice(FINISH_PHRASES[description.finish])
    form = say.choice(say.choices((_TERSE, _MEDIUM, _LONG), (0.5, 0.25, 0.25))[0])
    if finish.startswith("with "):
        finish = finish.removeprefix("with a ").removesuffix(" sheen")
    words = {
        "noun": noun,
        "color": color,
        "colors": f"{color} and {second}" if second else color,
        "second": second,
        "finish": finish,
        "relief": say.choice(RELIEF_PHRASES[description.relief]),
        "adjective": say.choice(fresh) if fresh else None,
        "pattern": pattern,
    }
    return with_articles(_filled(form, words))


def _nouns(attributes: Mapping[str, Any], say: random.Random) -> tuple[tuple[str, ...], bool]:
    """Names that fit, more special ones as likely as general ones, and whether they tell the colour."""
    family = attributes["family"]
    if attributes["metallic"] and family in METALLIC_NAMES:
        phrases, color_told = METALLIC_NAMES[family], False
    else:
        names = say.choice([names for names in NAMES[family] if names.fit(attributes)])
        phrases, color_told = names.phrases, names.tells_color
    metal = _metal(attributes, say)
    return tuple(phrase.format(metal=metal) for phrase in phrases), color_told


def _metal(attributes: Mapping[str, Any], say: random.Random) -> str:
    """A metal of the measured colour, or plain "metal"; painted where a metal's map is not metallic."""
    if not attributes["metallic"]:
        return say.choice(("painted metal", "painted steel", "coated metal"))
    color, finish = attributes["dominant_color"], attributes["roughness_class"]
    metals = METALS_BY_COLOR.get(color) or COLORED_METALS.get(color, ())
    return say.choice([*(name for name, when in metals if not when or finish in when.split()), "metal"])


def _tells_color(description: Description, noun: str) -> bool:
    """Whether the noun tells the colour: as that of a metal, or of anything that has it by nature."""
    metals = METALS_BY_COLOR.get(description.color, ()) if description.metallic else ()
    said = set(words_of(noun))
    return description.color_told or any(said.issuperset(metal.split()) for metal, _ in metals)


def _pattern_phrase(pattern: str | None, noun: str) -> str | None:
    """The pattern as what a surface can have: "a running bond", "rivets"; None when the noun says it."""
    if pattern is None or pattern in noun:
        return None
    kind, _, last = pattern.rpartition(" ")
    if last in ("tiles", "roof", "parquet"):
        return f"a {kind} pattern"
    if last in ("rock", "plaster", "soil", "paper", "concrete"):
        return f"a {kind} texture"
    if pattern in ("cobble", "setts", "flagstone", "pebble") or last == "plate":
        return f"a {pattern} pattern"
    if pattern == "aggregate":
        return "visible aggregate"
    if last in ("perforated", "grating"):
        return "a perforated pattern" if pattern == "perforated" else "a grating"
    return pattern if last.endswith("s") or pattern in _UNCOUNTABLE else f"a {pattern}"


def layouts_meant(caption: str, family: str, layouts: Mapping[int, str]) -> list[int]:
    """Which of a family's layouts (number -> pattern) a caption by `compose` may mean."""
    said = [p for p in layouts.values() if p in caption or str(_pattern_phrase(p, "")) in caption]
    if said:
        return [number for number, pattern in layouts.items() if pattern == max(said, key=len)]
    needed = [n.pattern for n in NAMES[family] if n.pattern and any(_says(caption, p) for p in n.phrases)]
    return [number for number, pattern in layouts.items() if all(part in pattern for part in needed)]


def _says(caption: str, phrase: str) -> bool:
    """Whether a caption has all parts of a phrase, "{metal}" standing for any."""
    return all(part in caption for part in phrase.split("{metal}"))


def _filled(form: str, words: Mapping[str, str | None]) -> str:
    """The form with its words; bracketed parts whose word is None are left out."""

    def part(match: re.Match[str]) -> str:
        names = re.findall(r"{(\w+)}", match[1])
        return match[1] if all(words[name] for name in names) else ""

    return re.sub(r"\[([^\]]*)\]", part, form).format(**words)
