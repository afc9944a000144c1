"""Training the attribute network: what it is shown, and that it learns from it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gonio.data.categories import CATEGORIES, FAMILY_CATEGORIES
from gonio.data.procedural import sample_material
from gonio.errors import GonioError
from gonio.pbr import save_material_maps
from gonio.train.attributes import (
    RECIPES,
    category_target,
    cropped,
    degraded,
    drawn_families,
    fit,
    held_out,
    real_materials,
    render_examples,
    train_attributes,
)

SMOKE = RECIPES["smoke"]


def test_a_name_decides_who_is_held_out():
    names = [f"material_{i}" for i in range(400)]
    assert 160 < sum(map(held_out, names)) < 240
    assert held_out("acg_metal007") and not held_out("acg_bark014")


def test_targets_prefer_the_first_accepted_category():
    target = category_target(("stone", "tiles"))
    assert target.sum() == pytest.approx(1.0)
    assert target[CATEGORIES.index("stone")] == 0.75 and target[CATEGORIES.index("tiles")] == 0.25


def test_every_category_with_families_is_about_as_frequent():
    seen = Counter(FAMILY_CATEGORIES[family][0] for family in drawn_families(400, seed=1))
    assert len(seen) >= 18
    assert all(6 <= count <= 45 for word, count in seen.items() if word != "metal")


def test_a_crop_keeps_slopes_and_says_nothing_of_the_rest():
    material = sample_material(3, family="rock", resolution=64)
    part = cropped(material, 32, random.Random(0))
    assert part.size == (32, 32) and not part.tileable
    assert part.height_factor > material.height_factor  # fewer tile widths are seen, so relief looms larger


def test_degraded_frames_stay_frames():
    frames = torch.rand(12, 16, 16, 3)
    generator = torch.Generator().manual_seed(0)
    out = [degraded(frames, random.Random(i), generator) for i in range(4)]
    assert all(o.shape == frames.shape and 0 <= o.min() and o.max() <= 1 for o in out)
    assert not torch.equal(out[0], out[1])


def test_real_maps_without_a_category_are_an_error(tmp_path: Path):
    save_material_maps(sample_material(1, resolution=16), tmp_path / "maps")
    with pytest.raises(GonioError, match="says no category"):
        next(real_materials([tmp_path / "maps"], 1, 16, 0))


def test_the_network_learns_to_tell_metal():
    recipe = replace(SMOKE, steps=40, batch=16)
    pairs = []
    for seed in range(8):
        metal = sample_material(seed, family="hammered_metal", metallic=True, resolution=SMOKE.size)
        grass = sample_material(seed, family="grass", metallic=False, resolution=SMOKE.size)
        pairs += [(metal, ("metal",)), (grass, ("vegetation",))]
    examples = render_examples(iter(pairs), seed=0)
    losses: list[float] = []
    network = fit(recipe, examples, None, report=lambda step, loss: losses.append(loss))
    logits = network(examples.statistics.float())
    assert losses[-1] < 0.8 * losses[0]
    assert ((logits.metallic > 0) == (examples.metallic > 0.5)).float().mean() > 0.9
    words = [CATEGORIES[i] for i in logits.category.argmax(-1).tolist()]
    assert sum(a == accepted[0] for a, (_, accepted) in zip(words, pairs, strict=True)) >= 14


def test_training_is_the_same_twice_and_names_its_maps(data_root: Path):
    folders = [data_root / "materials" / name for name in ("acg_bark014", "acg_metal007")]
    first, provenance = train_attributes(SMOKE, folders)
    second, _ = train_attributes(SMOKE, folders)
    assert provenance["maps"] == ["acg_bark014"]  # the other one is held out
    again = second.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.state_dict().items())
