"""The attribute network's view of a material, and its file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gonio.data.categories import CATEGORIES
from gonio.data.procedural import sample_material
from gonio.errors import GonioError
from gonio.models.attributes import (
    STATISTICS,
    AttributeNetwork,
    AttributeSpec,
    light_statistics,
    load_attribute_network,
    save_attribute_network,
    turned_statistics,
)
from gonio.train.attributes import render_frames

TINY = AttributeSpec(size=24, categories=CATEGORIES, widths=(4, 8))


def test_a_turned_sample_has_turned_statistics():
    material = sample_material(5, family="leather", resolution=24)
    turns = [material.rotated(quarters) for quarters in range(4)]
    views = light_statistics(*render_frames(turns))
    for quarters in (1, 2, 3):
        assert torch.allclose(turned_statistics(views[0], quarters), views[quarters], atol=0.02)
    assert not torch.allclose(turned_statistics(views[0], 1), views[3], atol=0.02)


def test_a_mirror_turns_the_slopes_of_u_only():
    overhead, orbit = torch.rand(8, 6, 6, 3), torch.rand(4, 6, 6, 3)
    mirrored_lights = [(4 - k) % 8 for k in range(8)]  # azimuth a becomes 180 - a
    expected = light_statistics(overhead[mirrored_lights].flip(2), orbit[[2, 1, 0, 3]].flip(2))
    assert torch.allclose(turned_statistics(light_statistics(overhead, orbit), 4), expected, atol=1e-6)


def test_statistics_of_steady_frames():
    frame = torch.rand(6, 6, 3)
    found = light_statistics(frame.expand(8, -1, -1, -1), frame.expand(4, -1, -1, -1))
    assert found.shape == (STATISTICS, 6, 6)
    assert torch.allclose(found[:3], frame.movedim(-1, 0)) and torch.allclose(found[3:6], found[:3])
    assert torch.allclose(found[7:10], torch.zeros(3, 6, 6), atol=1e-6)


def test_the_file_brings_the_network_back(tmp_path: Path):
    network = AttributeNetwork(TINY).eval()
    save_attribute_network(tmp_path / "a.safetensors", network, {"steps": 1})
    again = load_attribute_network(tmp_path / "a.safetensors")
    statistics = torch.rand(2, STATISTICS, 24, 24)
    assert again.spec == TINY
    assert torch.equal(again(statistics).category, network(statistics).category)


def test_damaged_files_are_one_line_errors(tmp_path: Path):
    file = tmp_path / "a.safetensors"
    with pytest.raises(GonioError, match="no file"):
        load_attribute_network(file)
    file.write_bytes(b"junk")
    with pytest.raises(GonioError, match="not a readable safetensors file"):
        load_attribute_network(file)
    save_attribute_network(file, AttributeNetwork(TINY), {})
    content = file.read_bytes()
    file.write_bytes(content.replace(b"gonio-attributes/1", b"gonio-attributes/9"))
    with pytest.raises(GonioError, match="schema 'gonio-attributes/9'"):
        load_attribute_network(file)
    file.write_bytes(content.replace(b"[4, 8]", b"[4, 4]"))
    with pytest.raises(GonioError, match="weights do not fit"):
        load_attribute_network(file)
    file.write_bytes(content.replace(b"[4, 8]", b"[4,-8]"))
    with pytest.raises(GonioError, match="widths"):
        load_attribute_network(file)


def test_the_bundled_file_is_small_and_says_where_it_comes_from():
    file = Path(str(resources.files("gonio"))) / "weights" / "attributes.safetensors"
    assert file.stat().st_size < 2 << 20
    with safe_open(file, "pt") as content:
        assert "recipe" in content.metadata()["provenance"]
    assert load_attribute_network(file).spec.categories == CATEGORIES
