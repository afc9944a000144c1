"""A folder of clips: whole, credited, and the same however often its making was interrupted."""

import json

import pytest
import torch

from gonio import media
from gonio.camera import two_phase
from gonio.data import dataset as module
from gonio.data.clip_captions import template_captions
from gonio.data.dataset import (
    MANIFEST,
    VideoSettings,
    make_videos,
    perspective_frames,
    read_dataset,
    rewrite_captions,
    verify_clip,
)
from gonio.data.heightfield import HeightFieldBatch
from gonio.data.ledger import append_record, read_ledger, write_ledger
from gonio.errors import GonioError, UsageError
from gonio.material_video import load_material_video
from gonio.pbr import PBRMaterial, save_material_maps

SETTINGS = VideoSettings(frames=5, resolution=16, split="all")


def _maps(folder, name, licence="CC-BY-4.0"):
    size = 16
    material = PBRMaterial(
        name=name,
        basecolor=torch.full((size, size, 3), 0.5) * torch.tensor([1.0, 0.1, 0.1]),
        normal=torch.tensor([0.0, 0.0, 1.0]).expand(size, size, 3).contiguous(),
        roughness=torch.full((size, size), 0.6),
        metallic=torch.zeros(size, size),
        height=torch.zeros(size, size),
        height_mean=0.0,
        height_factor=0.0,
        has_height=False,
        metadata={"licence": licence, "author": f"author of {name}", "category": "brick", "tags": ["old"]},
    )
    save_material_maps(material, folder / name)


@pytest.fixture
def maps(tmp_path):
    for name in ("one", "two", "three", "four"):
        _maps(tmp_path / "maps", name)
    return tmp_path / "maps"


def _make(maps, out, count=4, settings=SETTINGS, describe=template_captions):
    return make_videos([str(maps)], out, count=count, settings=settings, describe=describe)


def test_a_clip_is_a_material_video_with_its_credit(maps, tmp_path):
    records = _make(maps, tmp_path / "clips", count=1)
    (record,) = records
    video = load_material_video(tmp_path / "clips" / record["folder"])
    assert video.frames.shape == (5, 16, 16, 3)
    torch.testing.assert_close(video.trajectory.camera_position, two_phase(5).camera_position)
    for said in (record, video.provenance):
        assert said["licence"] == "CC-BY-4.0" and said["attribution"].startswith("author of ")
    assert record["attributes"]["dominant_color"] == "red" and record["attributes"]["category"] == "brick"
    assert record["captions"] and all("red" in c or "brick" in c for c in record["captions"])
    verify_clip(tmp_path / "clips", record)
    assert "video.mp4" in record["files"] and "frames/0004.exr" in record["files"]


def test_an_interrupted_run_goes_on_and_ends_like_an_uninterrupted_one(maps, tmp_path):
    whole = _make(maps, tmp_path / "whole")
    calls = []

    def interrupted(attributes, key):
        calls.append(key)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return template_captions(attributes, key)

    with pytest.raises(KeyboardInterrupt):
        _make(maps, tmp_path / "parts", describe=interrupted)
    assert len(read_dataset(tmp_path / "parts")) == 2
    calls.clear()

    def counted(attributes, key):
        calls.append(key)
        return template_captions(attributes, key)

    assert _make(maps, tmp_path / "parts", describe=counted) == whole
    assert len(calls) == 2  # the first two clips were kept
    assert list(read_dataset(tmp_path / "parts").values()) == whole


def test_a_run_killed_within_a_clip_leaves_nothing_half_written(maps, tmp_path, monkeypatch):
    out = tmp_path / "clips"

    def killed(path, frames, fps=12):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_preview", killed)
    with pytest.raises(KeyboardInterrupt):
        _make(maps, out, count=1)
    assert not (out / "clips").exists() and read_ledger(out / MANIFEST) == {}
    monkeypatch.undo()
    records = _make(maps, out, count=1)
    verify_clip(out, records[0])
    assert not (out / "unfinished").exists()


def test_a_torn_last_line_of_the_manifest_costs_one_clip(maps, tmp_path):
    out = tmp_path / "clips"
    records = _make(maps, out, count=2)
    text = (out / MANIFEST).read_bytes()
    (out / MANIFEST).write_bytes(text[:-20])
    assert list(read_ledger(out / MANIFEST)) == [records[0]["id"]]
    assert _make(maps, out, count=2) == records
    assert len((out / MANIFEST).read_bytes().splitlines()) == 2


def test_more_clips_come_with_a_larger_count_and_fewer_materials_warn(maps, tmp_path):
    few = _make(maps, tmp_path / "clips", count=2)
    with pytest.warns(UserWarning, match="the sources end after 4 clips of 9"):
        more = _make(maps, tmp_path / "clips", count=9)
    assert more[:2] == few and len(more) == 4


def test_other_settings_are_refused(maps, tmp_path):
    _make(maps, tmp_path / "clips", count=1)
    other = VideoSettings(frames=5, resolution=32, split="all")
    with pytest.raises(GonioError, match="made with other settings; choose another --out"):
        _make(maps, tmp_path / "clips", count=1, settings=other)


def test_quarter_turns_are_clips_of_their_own(maps, tmp_path):
    settings = VideoSettings(frames=5, resolution=16, split="all", turns=2)
    records = _make(maps, tmp_path / "clips", count=8, settings=settings)
    assert [r["quarter_turns"] for r in records] == [0] * 4 + [1] * 4
    assert len({r["id"] for r in records}) == 8 and len({r["material_id"] for r in records}) == 4


def test_a_damaged_frame_is_named(maps, tmp_path):
    (record,) = _make(maps, tmp_path / "clips", count=1)
    frame = tmp_path / "clips" / record["folder"] / "frames" / "0002.exr"
    frame.write_bytes(frame.read_bytes()[:-1] + b"x")
    with pytest.raises(GonioError, match="0002.exr: missing, or not the file"):
        verify_clip(tmp_path / "clips", record)


def test_a_record_cannot_lead_out_of_the_folder(maps, tmp_path):
    (record,) = _make(maps, tmp_path / "clips", count=1)
    with pytest.raises(GonioError, match="lies outside"):
        verify_clip(tmp_path / "clips", record | {"folder": "../elsewhere"})


def test_a_reference_photograph_is_not_frame_zero(maps, tmp_path):
    half = torch.zeros(8, 16, 3)
    half[:3, :8] = 2.0
    media.write_image(tmp_path / "light" / "half.hdr", half)
    settings = VideoSettings(frames=5, resolution=16, split="all", photos=tmp_path / "light")
    (record,) = _make(maps, tmp_path / "clips", count=1, settings=settings)
    folder = tmp_path / "clips" / record["folder"]
    photo = media.read_color(folder / "photo.png")
    assert photo.shape == (16, 16, 3) and "photo.png" in record["files"]
    assert record["photo"]["environment"] == "half.hdr" and 0 <= record["photo"]["degrees"] < 360
    assert float((photo - load_material_video(folder).frames[0]).abs().mean()) > 0.01


def test_captions_are_rewritten_at_once_or_not_at_all(maps, tmp_path):
    _make(maps, tmp_path / "clips", count=3)
    before = (tmp_path / "clips" / MANIFEST).read_bytes()

    def stops(folder, record):
        if record["id"].endswith("two"):
            raise KeyboardInterrupt
        return ["x"]

    with pytest.raises(KeyboardInterrupt):
        rewrite_captions(tmp_path / "clips", stops)
    assert (tmp_path / "clips" / MANIFEST).read_bytes() == before
    rewrite_captions(tmp_path / "clips", lambda folder, record: [f"a {record['id']}"])
    found = read_dataset(tmp_path / "clips")
    assert all(record["captions"] == [f"a {name}"] for name, record in found.items())


def test_template_captions_are_true_different_and_never_an_excluded_prompt(maps, tmp_path):
    (record,) = _make(maps, tmp_path / "clips", count=1)
    captions = template_captions(record["attributes"], "key", count=8)
    assert captions == template_captions(record["attributes"], "key", count=8) and len(captions) > 4
    kept = template_captions(record["attributes"], "key", count=8, exclude=captions)
    assert not set(kept) & set(captions)


def test_perspective_frames_agree_with_the_overhead_view_and_end_at_the_sample():
    """Frame 0 looks straight down: the sample fills it. From the side it does not, and the rest is black."""
    batch = HeightFieldBatch(
        basecolor=torch.ones(1, 8, 8, 3),
        normal=torch.tensor([0.0, 0.0, 1.0]).expand(1, 8, 8, 3).contiguous(),
        roughness=torch.ones(1, 8, 8),
        metallic=torch.zeros(1, 8, 8),
        displacement=torch.zeros(1, 8, 8),
    )
    frames, coverage = perspective_frames(batch, two_phase(5), 16)
    assert frames.shape == (1, 5, 16, 16, 3) and coverage.shape == (5, 16, 16)
    assert float(coverage[0].min()) == 1.0 and float(coverage[4].min()) == 0.0
    assert float(frames[0, 4][coverage[4] == 0].abs().max()) == 0.0
    assert 0.5 < float(frames[0, 0, 8, 8].mean()) < 1.2


def test_mitsuba_makes_the_same_kind_of_clip(maps, tmp_path):
    settings = VideoSettings(frames=5, resolution=16, split="all", renderer="mitsuba", spp=4)
    (record,) = _make(maps, tmp_path / "clips", count=1, settings=settings)
    video = load_material_video(tmp_path / "clips" / record["folder"])
    assert video.frames.shape == (5, 16, 16, 3) and video.provenance["attribution"].startswith("author of")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"frames": 18}, "--frames"),
        ({"resolution": 8}, "--resolution 8"),
        ({"renderer": "blender"}, "no renderer 'blender'"),
        ({"spp": 0}, "--spp 0"),
    ],
)
def test_wrong_settings_are_usage_errors(change, message):
    with pytest.raises(UsageError, match=message):
        VideoSettings(**change)


def test_a_folder_without_clips_says_how_to_make_them(tmp_path):
    with pytest.raises(GonioError, match="make some with gonio data videos"):
        read_dataset(tmp_path)


def test_a_ledger_keeps_the_last_of_two_records_and_names_a_broken_line(tmp_path):
    path = tmp_path / "x.jsonl"
    write_ledger(path, [{"id": "a", "n": 1}, {"id": "b", "n": 2}])
    append_record(path, {"id": "a", "n": 3})
    assert list(read_ledger(path).items()) == [("b", {"id": "b", "n": 2}), ("a", {"id": "a", "n": 3})]
    path.write_text('{"id": "a"}\nbroken\n' + json.dumps({"id": "b"}) + "\n")
    with pytest.raises(GonioError, match="line 2 is no record.*remove that line"):
        read_ledger(path)
