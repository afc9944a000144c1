"""Sentences that say what the attributes say."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from gonio.pbr import PBRMaterial

ROUGHNESS_CLASSES: dict[str, tuple[float, float]] = {
    "mirror-like": (0.0, 0.12),
    "glossy": (0.12, 0.3),
    "satin": (0.3, 0.5),
    "matte": (0.5, 0.75),
    "rough": (0.75, 1.01),
}
RELIEF_CLASSES: dict[str, float] = {"flat": 0.0007, "low": 0.003, "medium": 0.009, "deep": float("inf")}

_FINISH = {
    "mirror-like": ("mirror-like", "highly polished", "very shiny"),
    "glossy": ("glossy", "shiny", "polished"),
    "satin": ("satin", "semi-gloss", "softly shining"),
    "matte": ("matte", "dull", "lustreless"),
    "rough": ("rough", "dry and rough", "unpolished"),
}
_RELIEF = {
    "flat": ("a flat surface", "no visible relief", "a smooth even surface"),
    "low": ("shallow relief", "a slight texture", "low relief"),
    "medium": ("clear relief", "a pronounced texture", "moderate relief"),
    "deep": ("deep relief", "strong bumps and hollows", "a deeply textured surface"),
}
_COLOR = {
    "grey": ("grey", "gray"),
    "beige": ("beige", "tan", "cream"),
    "teal": ("teal", "blue-green"),
    "purple": ("purple", "violet"),
    "gold": ("gold", "golden"),
    "olive": ("olive", "olive green"),
    "copper": ("copper", "copper-coloured"),
    "silver": ("silver", "silvery"),
}
_TEMPLATES = (
    "{finish} {color} {noun}",
    "{adjective} {color} {noun} with {pattern}",
    "{finish}, {adjective} {color} {noun}",
    "{color} {noun}, {adjective}, {relief}",
    "{color}{second} {noun} with a {finish} finish and {relief}",
    "a close-up of {color}{second} {noun}, {finish}, {pattern}",
    "a flat sample of {adjective} {color} {noun} seen from above, {finish}",
    "{noun} in {color}{second}, {pattern}, {finish} finish",
    "{adjective} {noun}: {color}{second}, {finish}, {relief}",
)


def roughness_class(mean_roughness: float) -> str:
    """The name of a mean perceptual roughness."""
    return next(name for name, (low, high) in ROUGHNESS_CLASSES.items() if low <= mean_roughness < high)


def relief_class(displacement_deviation: float) -> str:
    """The name of a standard deviation of the displacement, tile widths."""
    return next(name for name, limit in RELIEF_CLASSES.items() if displacement_deviation < limit)


def caption(material: PBRMaterial | Mapping[str, Any], seed: int) -> str:
    """A sentence about a material (or its attributes), one of many ways to say the same by seed.

    It always names the dominant colour and the family.
    """
    attributes = material.metadata["attributes"] if isinstance(material, PBRMaterial) else material
    say = random.Random(f"gonio-caption-{seed}-{attributes['family']}")
    second = attributes["secondary_color"]
    words = {
        "finish": say.choice(_FINISH[attributes["roughness_class"]]),
        "relief": say.choice(_RELIEF[attributes["relief"]]),
        "color": _color_words(attributes["dominant_color"], say),
        "second": f" and {_color_words(second, say)}" if second else "",
        "noun": say.choice(attributes["nouns"]),
        "pattern": attributes["pattern_family"],
        "adjective": say.choice(attributes["adjectives"] or _FINISH[attributes["roughness_class"]]),
    }
    if attributes["metallic"] and "metal" not in words["noun"]:
        words["noun"] = say.choice(("metallic {}", "metal {}")).format(words["noun"])
    return with_articles(say.choice(_TEMPLATES).format(**words))


def _color_words(name: str, say: random.Random) -> str:
    return say.choice(_COLOR.get(name, (name,)))


def with_articles(sentence: str) -> str:
    """'a' before a vowel becomes 'an'."""
    words = sentence.split(" ")
    for i in range(len(words) - 1):
        if words[i] == "a" and words[i + 1][:1] in "aeiou":
            words[i] = "an"
    return " ".join(words)
