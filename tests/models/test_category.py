"""What the category judge looks at, and its file."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import torch
from efficientnet_files import LARGER, published_weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gonio.data.categories import CATEGORIES
from gonio.data.procedural import sample_material
from gonio.errors import GonioError
from gonio.models.category import (
    SINGLE_LIGHTS,
    CategoryJudge,
    enlarged,
    light_pictures,
    load_category_judge,
    save_category_judge,
    turned_pictures,
)
from gonio.models.efficientnet_lite import convert_efficientnet_lite
from gonio.train.attributes import render_overhead

BUNDLED = Path(str(resources.files("gonio"))) / "weights" / "category.safetensors"


def made_judge(seed: int = 0) -> CategoryJudge:
    torch.manual_seed(seed)
    return CategoryJudge(("wood", "metal"), convert_efficientnet_lite(published_weights(seed))).eval()


def test_the_pictures_are_the_mean_and_two_lights_at_right_angles():
    overhead = torch.rand(2, 8, 4, 4, 3)
    pictures = light_pictures(overhead)
    assert pictures.shape == (2, 3, 4, 4, 3)
    assert torch.allclose(pictures[:, 0], overhead.mean(1))
    first, second = SINGLE_LIGHTS
    assert (second - first) % 8 in (2, 6)
    assert torch.equal(pictures[:, 1], overhead[:, first]) and torch.equal(
        pictures[:, 2], overhead[:, second]
    )
    with pytest.raises(GonioError, match="7 overhead frames"):
        light_pictures(overhead[:, 1:])


def test_a_turned_sample_has_turned_pictures():
    material = sample_material(5, family="leather", resolution=24)
    frames = render_overhead([material, material.rotated(1)])
    turned = turned_pictures(light_pictures(frames[0]), 1)
    seen = light_pictures(frames[1], (2, 4))  # the lights turned with the sample
    assert torch.allclose(turned, seen, atol=0.02)
    assert not torch.allclose(turned_pictures(light_pictures(frames[0]), 3), seen, atol=0.02)


def test_eight_symmetries_are_eight_different_pictures():
    picture = torch.rand(1, 5, 5, 3)
    views = [turned_pictures(picture, symmetry) for symmetry in range(8)]
    assert torch.equal(views[0], picture) and torch.equal(views[4], picture.flip(2))
    assert all(not torch.equal(a, b) for i, a in enumerate(views) for b in views[:i])


def test_enlarging_keeps_means_and_places():
    ramp = (torch.arange(8) + 0.5) / 8
    picture = ramp.expand(1, 8, 8)[..., None].expand(1, 8, 8, 3)
    large = enlarged(picture, 32)
    assert large.shape == (1, 32, 32, 3)
    inner = slice(2, -2)
    assert torch.allclose(large[0, 0, inner, 0], ((torch.arange(32) + 0.5) / 32)[inner], atol=1e-5)
    assert enlarged(picture, 8) is picture


def test_a_material_is_judged_by_the_mean_of_its_pictures():
    judge, pictures = made_judge(), torch.rand(2, 3, 32, 32, 3)
    together = judge(pictures)
    apart = torch.stack([judge(pictures[:, i : i + 1]) for i in range(3)])
    assert together.shape == (2, 2)
    assert torch.allclose(together, apart.mean(0), atol=1e-4)


def test_the_file_brings_the_judge_back(tmp_path: Path):
    judge, pictures = made_judge(), torch.rand(1, 3, 64, 64, 3)
    save_category_judge(tmp_path / "c.safetensors", judge, {"steps": 1})
    again = load_category_judge(tmp_path / "c.safetensors")
    assert again.categories == ("wood", "metal")
    assert torch.equal(again.head.weight, judge.head.weight)
    assert torch.allclose(again(pictures), judge(pictures), rtol=0.05, atol=0.05)  # features are half floats
    assert all(not parameter.requires_grad for parameter in again.parameters())


def test_a_file_says_which_network_the_judge_looks_through(tmp_path: Path):
    larger = convert_efficientnet_lite(published_weights(rows=LARGER), "lite2")
    save_category_judge(tmp_path / "c.safetensors", CategoryJudge(("wood", "metal"), larger), {})
    again, pictures = load_category_judge(tmp_path / "c.safetensors"), torch.rand(1, 3, 64, 64, 3)
    assert again.features.variant == "lite2" and again(pictures).shape == (1, 2)


def test_damaged_files_are_one_line_errors(tmp_path: Path):
    file = tmp_path / "c.safetensors"
    with pytest.raises(GonioError, match="no file"):
        load_category_judge(file)
    file.write_bytes(b"junk")
    with pytest.raises(GonioError, match="not a readable safetensors file"):
        load_category_judge(file)
    with file.open("wb") as hollow:
        hollow.truncate(17 << 20)
    with pytest.raises(GonioError, match="no file of at most 16 MiB"):
        load_category_judge(file)
    save_category_judge(file, made_judge(), {})
    tensors = load_file(file)
    good = {"schema": "gonio-category/1", "categories": '["wood", "metal"]'}
    for metadata, problem in (
        ({**good, "schema": "gonio-category/9"}, "schema 'gonio-category/9'"),
        ({**good, "categories": "wood"}, "no list of words"),
        ({**good, "network": "b7"}, "a judge on 'b7'; known are lite0, lite2"),
        ({**good, "categories": "[1, 2]"}, "no list of words"),
        ({**good, "categories": "[]"}, "0 categories"),
        ({**good, "categories": '["wood"]'}, r"head.weight \[2, 768\] instead of \[1, 768\]"),
    ):
        save_file(tensors, file, metadata=metadata)
        with pytest.raises(GonioError, match=problem) as caught:
            load_category_judge(file)
        assert "\n" not in str(caught.value)
    save_file({name: value for name, value in tensors.items() if name != "head.bias"}, file, metadata=good)
    with pytest.raises(GonioError, match="1 missing: head.bias"):
        load_category_judge(file)
    save_file({**tensors, "extra": torch.zeros(1)}, file, metadata=good)
    with pytest.raises(GonioError, match="1 unknown: extra"):
        load_category_judge(file)


def test_the_bundled_file_is_small_and_says_where_it_comes_from():
    assert BUNDLED.stat().st_size < 8_000_000
    with safe_open(BUNDLED, "pt") as content:
        provenance = json.loads(content.metadata()["provenance"])
    assert provenance["features_licence"] == "Apache-2.0" and "Tan & Le" in provenance["features"]
    assert provenance["maps"] and "recipe" in provenance
    assert load_category_judge(BUNDLED).categories == CATEGORIES
