"""Captions of real maps: what their folder's name, category and tags say, and what is measured on them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from gonio.data.captions.nouns import CATEGORY_NOUNS
from gonio.data.captions.templates import Description, compose
from gonio.data.captions.words import names_color, names_metal
from gonio.data.categories import catalogue_category
from gonio.data.procedural import measured_attributes
from gonio.errors import UsageError
from gonio.pbr import PBRMaterial

# Parts of file names that say where a material comes from or how it is stored, not what it is.
_NOT_WORDS = frozenset(
    "acg ambientcg amd cc ccby cg cgb cgbookcase com gpuopen gl dx jpg jpeg png exr ktex map maps material "
    "materials matsynth ph polyhaven poly haven pbr procedural sample scan seamless set substance tex "
    "texture textures tileable unnamed untitled var variant version hterrain the new folder tmp".split()
)
_JOINING = frozenset(("with", "and", "of"))
_MAX_NAME_WORDS = 5
_MAX_TAGS = 64


def describe_real(material: PBRMaterial, seed: int) -> str:
    """A training caption of a material that was not made by rules, the same for the same seed.

    It is called by its name or category, and its tags (metadata.json: "name", "category", "tags") may come as
    adjectives. Colour, finish, relief and metalness are measured; a name that names a colour is believed, a
    tag is not.
    """
    say = random.Random(f"gonio-describe-real-{seed}-{material.name}")
    measured = measured_attributes(material)
    assumed = " ".join(map(str, material.metadata.get("defaults") or ()))
    return compose(
        Description(
            nouns=subjects(material.metadata, material.name),
            color=measured["dominant_color"],
            second_color=measured["secondary_color"],
            finish=measured["roughness_class"],
            relief=measured["relief"],
            adjectives=_tags(material.metadata),
            metallic=None if "metallic" in assumed else measured["metallic"],
            name_rules=True,
        ),
        say,
    )


def subjects(metadata: Mapping[str, Any], folder: str) -> tuple[str, ...]:
    """What a real material can be called, by name and category; "material" when nothing tells."""
    found: list[str] = []
    for name in (metadata.get("name"), folder):
        phrase = _phrase(name) if isinstance(name, str) else ""
        if phrase:
            found.append(phrase)
            break
    category = metadata.get("category")
    if isinstance(category, str):
        found += _category_nouns(category)
    return tuple(dict.fromkeys(found)) or ("material",)


def _tags(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    tags = metadata.get("tags")
    listed = tags[:_MAX_TAGS] if isinstance(tags, list) else []
    phrases = [_phrase(tag) for tag in listed if isinstance(tag, str)]
    return tuple(p for p in phrases if p and not names_color(p) and not names_metal(p))


def _category_nouns(category: str) -> tuple[str, ...]:
    """Nouns of a category of our vocabulary, else the word itself."""
    try:
        return CATEGORY_NOUNS[catalogue_category(category.lower())]
    except UsageError:
        phrase = _phrase(category)
        return (phrase,) if phrase else ()


def _phrase(name: str) -> str:
    """The words of a file name or tag: "RoofingTiles014D (1K-JPG)" is "roofing tiles"."""
    name = re.sub(r"\(.*?\)|\[.*?\]", " ", name[:200])
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    name = re.sub(r"(?i)(?<![a-z])\d+k(?![a-z])|\d+[A-Za-z]?(?![A-Za-z])|\d+", " ", name)
    words = [word for word in re.findall(r"[^\W\d_]+", name.lower()) if len(word) > 2 or word in _JOINING]
    words = [word for word in words if word in _JOINING or word not in _NOT_WORDS][:_MAX_NAME_WORDS]
    while words and words[0] in _JOINING:
        words = words[1:]
    while words and words[-1] in _JOINING:
        words = words[:-1]
    return " ".join(words)
