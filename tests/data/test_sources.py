"""Sources of materials: deterministic, interleaved, split by the id alone."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch

from gonio.data.sources import (
    candidates,
    is_held_out,
    load_candidate,
    square,
    stream_sources,
)
from gonio.errors import UsageError
from gonio.pbr import PBRMaterial, normal_from_displacement, save_material_maps

SIZE = 16


def _material(name="m", rows=SIZE, columns=SIZE, tileable=True, **metadata) -> PBRMaterial:
    """A ramp along u and another along v, so that every turn and crop shows."""
    u = torch.arange(columns).expand(rows, columns) / columns
    v = torch.arange(rows)[:, None].expand(rows, columns) / rows
    return PBRMaterial(
        name=name,
        basecolor=torch.stack([u, v, torch.zeros(rows, columns)], -1),
        normal=normal_from_displacement(torch.zeros(rows, columns)),
        roughness=torch.full((rows, columns), 0.5),
        metallic=torch.zeros(rows, columns),
        height=u.contiguous(),
        height_mean=0.5,
        height_factor=0.02,
        has_height=True,
        tileable=tileable,
        metadata={"licence": "CC0-1.0", "author": "someone", **metadata},
    )


@pytest.fixture
def maps(tmp_path):
    """Three materials in a tree: two side by side, one deeper."""
    for place in ("tree/b", "tree/a", "tree/deep/c"):
        save_material_maps(_material(name=place), tmp_path / place)
    return tmp_path / "tree"


def _ids(stream, count=None):
    return [candidate.id for candidate in islice(stream, count)]


def test_a_tree_of_map_folders_in_the_order_of_its_names(maps):
    assert _ids(candidates([str(maps)])) == ["tree-a", "tree-b", "tree-deep_c"]


def test_a_folder_of_maps_is_a_source_of_one(maps):
    found = list(stream_sources([str(maps / "a")], resolution=8))
    assert [(m.id, m.licence, m.attribution) for m in found] == [("a", "CC0-1.0", "someone")]
    assert found[0].material.size == (8, 8)


def test_ids_do_not_depend_on_where_the_folder_lies(maps, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    maps.rename(tmp_path / "elsewhere" / "tree")
    assert _ids(candidates([str(tmp_path / "elsewhere" / "tree")])) == ["tree-a", "tree-b", "tree-deep_c"]


def test_procedural_streams_do_not_end_nor_share_materials():
    first, second = (_ids(candidates([f"procedural:{seed}"]), 20) for seed in (0, 1))
    assert len({*first, *second}) == 40
    assert _ids(candidates(["procedural"]), 20) == first
    found = next(stream_sources(["procedural"], resolution=16))
    assert found.licence == "Apache-2.0 (procedural)" and found.material.size == (16, 16)


def test_sources_take_turns_and_an_endless_one_goes_on_alone(maps):
    found = _ids(candidates(["procedural", str(maps)]), 8)
    assert [name.split("-")[0] for name in found] == ["procedural", "tree"] * 3 + ["procedural"] * 2


def test_a_seed_shuffles_and_repeats(tmp_path):
    for index in range(8):
        save_material_maps(_material(), tmp_path / "many" / f"{index}")
    source = [str(tmp_path / "many")]
    ordered = _ids(candidates(source))
    one, again, other = (_ids(candidates(source, seed=seed)) for seed in (1, 1, 2))
    assert one == again and one != other and one != ordered
    assert sorted(one) == sorted(other) == ordered


def test_quarter_turns_follow_one_another_and_turn_the_maps(maps):
    found = list(stream_sources([str(maps / "a")], resolution=SIZE, turns=4))
    assert [m.id for m in found] == ["a", "a_r90", "a_r180", "a_r270"]
    assert {m.material_id for m in found} == {"a"}
    torch.testing.assert_close(found[1].material.basecolor, torch.rot90(found[0].material.basecolor))


def test_held_out_is_a_tenth_a_partition_and_the_same_for_all_turns(maps):
    names = [f"x-{index}" for index in range(2000)]
    share = sum(map(is_held_out, names)) / len(names)
    assert share == pytest.approx(0.1, abs=0.03)
    whole = _ids(candidates([str(maps)], turns=4))
    train, held = (_ids(candidates([str(maps)], turns=4, split=split)) for split in ("train", "held-out"))
    assert sorted(train + held) == sorted(whole) and not set(train) & set(held)
    some = _ids(candidates(["procedural"], split="held-out"), 5)
    assert len(some) == 5 and all(map(is_held_out, some))


def test_a_damaged_material_is_left_out_with_a_warning(maps):
    (maps / "b" / "height.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="left out tree-b: .*height.png"):
        found = [m.id for m in stream_sources([str(maps)], resolution=8)]
    assert found == ["tree-a", "tree-deep_c"]


def test_nothing_is_loaded_before_it_is_asked_for(maps):
    (maps / "b" / "height.png").write_bytes(b"no picture")
    waiting = list(candidates([str(maps)]))
    assert [c.id for c in waiting] == ["tree-a", "tree-b", "tree-deep_c"]
    assert load_candidate(waiting[0], 8) is not None


def test_matsynth_is_a_source(tmp_path):
    for name, source in (("oak", "polyhaven"), ("crop", "deschaintre_2020")):
        folder = tmp_path / "copy" / "train" / "Wood" / name
        save_material_maps(_material(), folder)
        said = {"license": "CC0", "authors": ["A"], "source": source, "height_mean": 0.5, "tags": []}
        (folder / "metadata.json").write_text(json.dumps(said))
    spec = f":{tmp_path / 'copy'}"
    (found,) = stream_sources(["matsynth" + spec], resolution=SIZE)
    assert (found.id, found.licence) == ("matsynth-oak", "CC0") and "by A" in found.attribution
    assert _ids(candidates(["matsynth-all" + spec])) == ["matsynth-crop", "matsynth-oak"]


@pytest.mark.parametrize("rows, columns", [(8, 16), (16, 8)])
def test_a_rectangular_tile_becomes_square_without_distortion(rows, columns):
    """Repetition keeps the pixels' pitch, so slopes stay: displacement over the pitch is the same."""
    before = _material(rows=rows, columns=columns)
    after = square(before)
    assert after.size == (16, 16)
    torch.testing.assert_close(after.basecolor[:rows, :columns], before.basecolor)
    slope = [m.displacement * m.size[1] for m in (before, after)]
    torch.testing.assert_close(slope[1][:rows, :columns], slope[0])


def test_what_does_not_tile_is_cut_to_its_middle():
    before = replace(_material(rows=8, columns=12), tileable=False)
    after = square(before)
    assert after.size == (8, 8) and not after.tileable
    torch.testing.assert_close(after.basecolor, before.basecolor[:, 2:10])
    torch.testing.assert_close(after.displacement * 8, before.displacement[:, 2:10] * 12)


@pytest.mark.parametrize(
    "sources, message",
    [
        ([], "no source"),
        (["nowhere"], "no source of materials 'nowhere'"),
        (["procedural:x"], "whole number"),
        (["procedural", "procedural:0"], "two sources are called"),
    ],
)
def test_wrong_sources_are_usage_errors(sources, message):
    with pytest.raises(UsageError, match=message):
        next(candidates(sources))


def test_a_folder_without_maps_says_so(tmp_path):
    with pytest.raises(UsageError, match="no folder of maps"):
        next(candidates([str(tmp_path)]))
