"""The coarse vocabulary is whole: everything finer has a word in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gonio.data.categories import (
    CATEGORIES,
    COLOR_WORDS,
    COLORS,
    FAMILY_CATEGORIES,
    RELATED,
    ROUGHNESS,
    ROUGHNESS_LIMITS,
    ROUGHNESS_WORDS,
    catalogue_category,
    coarse_color,
    coarse_roughness,
    family_categories,
    related_categories,
)
from gonio.data.procedural import COLOR_NAMES, FAMILIES
from gonio.data.procedural.captions import ROUGHNESS_CLASSES
from gonio.errors import UsageError


def test_every_family_has_categories_of_the_vocabulary():
    assert set(FAMILY_CATEGORIES) == set(FAMILIES)
    for accepted in FAMILY_CATEGORIES.values():
        assert accepted and set(accepted) <= set(CATEGORIES) and len(set(accepted)) == len(accepted)


def test_every_color_name_has_a_coarse_word():
    assert set(COLOR_WORDS) == set(COLOR_NAMES)
    assert {word for words in COLOR_WORDS.values() for word in words} == set(COLORS)
    assert (coarse_color("gold"), coarse_color("silver"), coarse_color("teal")) == ("yellow", "grey", "cyan")


def test_roughness_words_keep_the_order_of_the_five_classes():
    order = [ROUGHNESS.index(ROUGHNESS_WORDS[name]) for name in ROUGHNESS_CLASSES]
    assert order == sorted(order) and set(order) == {0, 1, 2}
    for limit, (below, above) in zip(
        ROUGHNESS_LIMITS, (("glossy", "satin"), ("satin", "rough")), strict=True
    ):
        assert (coarse_roughness(limit - 1e-6), coarse_roughness(limit)) == (below, above)


def test_a_metallic_material_is_foremost_metal():
    assert family_categories("panels", metallic=True)[0] == "metal"
    assert "metal" not in family_categories("panels")
    assert family_categories("rust", metallic=True) == ("metal",)


def test_unknown_words_are_usage_errors():
    with pytest.raises(UsageError, match="no material family 'cheese'"):
        family_categories("cheese")
    with pytest.raises(UsageError, match="no material category 'cheese'"):
        catalogue_category("cheese")


def test_relations_hold_both_ways_and_include_the_category():
    assert related_categories("electronics") == {"electronics"}
    for pair in RELATED:
        first, second = pair
        assert second in related_categories(first) and first in related_categories(second)


def test_the_catalogue_of_real_maps_is_covered(data_root: Path):
    index = json.loads((data_root / "index.json").read_text())
    for entry in index["materials"]:
        assert catalogue_category(entry["category"]) in CATEGORIES
