"""Pools of rectified clips."""

from dataclasses import replace

import pytest
import torch

from gonio.camera import cross_joined, two_phase
from gonio.color import srgb_from_linear
from gonio.data import clips
from gonio.data.clips import (
    ClipSettings,
    make_pool,
    rectified_frames,
    symmetries,
    texel_centers,
    transformed,
)
from gonio.data.heightfield import HeightFieldBatch
from gonio.data.procedural import sample_material
from gonio.data.procedural.layouts import CHOSEN
from gonio.errors import GonioError
from gonio.pbr import save_material_maps

SIZE = 24
SETTINGS = ClipSettings(procedural=5, resolution=SIZE, frames=5, repeats=2)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GONIO_CACHE", str(tmp_path / "cache"))
    return tmp_path


def clip_of(material, trajectory):
    batch = HeightFieldBatch.from_materials([material])
    return srgb_from_linear(rectified_frames(batch, trajectory, SIZE)[0])


def test_row_zero_of_a_rectified_frame_is_the_top_of_the_texture():
    uv = texel_centers(4).reshape(4, 4, 2)
    torch.testing.assert_close(uv[0, 0], torch.tensor([0.125, 0.875]))
    torch.testing.assert_close(uv[3, 3], torch.tensor([0.875, 0.125]))


def test_a_flat_white_rough_sample_is_one_under_the_overhead_light():
    material = sample_material(0, resolution=SIZE)
    flat = replace(
        material,
        basecolor=torch.full_like(material.basecolor, 0.5),
        roughness=torch.ones_like(material.roughness),
        metallic=torch.zeros_like(material.metallic),
        normal=torch.tensor([0.0, 0.0, 1.0]).expand(SIZE, SIZE, 3).contiguous(),
        height_factor=0.0,
    )
    frames = rectified_frames(HeightFieldBatch.from_materials([flat]), two_phase(5), SIZE)[0]
    middle = frames[-1, SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1].mean()
    assert 0.4 < float(middle) < 0.6  # Lambertian 0.5 plus a little gloss, under irradiance pi


def test_a_transformed_clip_is_the_clip_of_the_turned_material():
    trajectory = two_phase(17)
    material = sample_material(3, resolution=SIZE)
    clip, turned = clip_of(material, trajectory), clip_of(material.rotated(1), trajectory)
    found = symmetries(trajectory)
    assert len(found) == 8
    (quarter,) = [s for s in found if s[:2] == (1, False)]
    torch.testing.assert_close(transformed(clip, quarter), turned, atol=2e-5, rtol=0)
    assert float((transformed(clip, found[2]) - turned).abs().mean()) > 0.02


def test_five_frames_have_fewer_symmetries():
    """Azimuths of 0 and 180 degrees only: a quarter turn leads nowhere."""
    assert {turns % 2 for turns, _, _ in symmetries(two_phase(5))} == {0}


def test_the_identity_comes_first_and_moves_nothing():
    trajectory = cross_joined()
    turns, mirrored, source = symmetries(trajectory)[0]
    assert (turns, mirrored, source) == (0, False, list(range(81)))


def test_a_pool_is_the_same_on_every_run_and_goes_on_after_the_last_shard(cache, monkeypatch):
    monkeypatch.setattr(clips, "SHARD", 2)
    maps = cache / "maps"
    save_material_maps(sample_material(7, resolution=32), maps)
    seen = []
    pool = make_pool(SETTINGS, [maps], report=seen.append)
    assert len(pool) == 7 and seen[-1] == 7
    assert sum(record["name"] == "maps" for record in pool.records) == 2
    first = [pool.clip(i) for i in range(7)]
    last = max(pool.folder.glob("*.safetensors"))
    kept = min(pool.folder.glob("*.safetensors")).stat().st_mtime_ns
    last.unlink()
    again = make_pool(SETTINGS, [maps])
    assert all(torch.equal(again.clip(i), clip) for i, clip in enumerate(first))
    assert min(again.folder.glob("*.safetensors")).stat().st_mtime_ns == kept


def test_a_crop_of_a_clip_is_the_same_pixels(cache):
    pool = make_pool(replace(SETTINGS, procedural=2))
    whole = pool.clip(1)
    assert whole.shape == (5, SIZE, SIZE, 3) and whole.dtype == torch.uint8
    assert torch.equal(pool.clip(1, slice(3, 9), slice(4, 20)), whole[:, 3:9, 4:20])


def test_a_record_names_its_material_again(cache):
    pool = make_pool(replace(SETTINGS, procedural=2))
    material = pool.material(1)
    assert material.name == pool.records[1]["name"]
    expected = clip_of(material, two_phase(5)).mul(255).round().to(torch.uint8)
    assert int((pool.clip(1).int() - expected.int()).abs().max()) <= 1


def test_a_damaged_shard_is_named_with_its_cure(cache):
    pool = make_pool(replace(SETTINGS, procedural=2))
    path = next(pool.folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(GonioError, match="00000.safetensors: damaged clips .* remove the file"):
        make_pool(replace(SETTINGS, procedural=2))


def test_a_pool_of_plain_materials_is_shown_upright_only(cache):
    plain = make_pool(replace(SETTINGS, plain=True))
    turns = [turns for turns, _, _ in plain.symmetries]
    mirrored = [mirrored for _, mirrored, _ in plain.symmetries]
    assert turns == [0, 0] and mirrored == [False, True]
    assert len(make_pool(SETTINGS).symmetries) > 2
    assert not torch.equal(plain.clip(0), make_pool(SETTINGS).clip(0))


def test_a_pool_of_counted_layouts_shows_no_others(cache):
    counted = make_pool(replace(SETTINGS, procedural=2, plain=True, layouts=1))
    assert [symmetry[:2] for symmetry in counted.symmetries] == [(0, False)]
    free = make_pool(replace(SETTINGS, procedural=2, plain=True))
    assert not torch.equal(counted.clip(0), free.clip(0))


def test_a_pool_of_chosen_layouts_shows_one_after_the_other_and_says_which(cache):
    chosen = make_pool(replace(SETTINGS, procedural=4, plain=True, layouts="chosen"))
    found = [(record["attributes"]["family"], record["attributes"]["layout"]) for record in chosen.records]
    assert found == list(CHOSEN[:4]) and len(set(found)) == 4
    assert [symmetry[:2] for symmetry in chosen.symmetries] == [(0, False)]


def test_varied_materials_come_after_the_plain_ones_in_no_layout(cache):
    pool = make_pool(replace(SETTINGS, procedural=2, varied=3, plain=True, layouts="chosen"))
    assert [record["varied"] for record in pool.records] == [False] * 2 + [True] * 3
    assert ["layout" in record["attributes"] for record in pool.records] == [True] * 2 + [False] * 3
    alone = make_pool(replace(SETTINGS, procedural=5))
    assert [pool.records[i]["name"] for i in (2, 3, 4)] == [alone.records[i]["name"] for i in (2, 3, 4)]
    assert all(bool((pool.clip(i) == alone.clip(i)).all()) for i in (2, 3, 4))
