"""The ablation table: rows that are trained and measured alike, kept, and set beside the paper's."""

import json
from dataclasses import replace

import pytest
import torch

from gonio.camera import two_phase
from gonio.color import linear_from_srgb
from gonio.data.clips import ClipSettings, make_pool
from gonio.errors import GonioError
from gonio.evaluate import ablations
from gonio.evaluate.ablations import ROWS, run_ablation, table
from gonio.evaluate.reconstruction import Case
from gonio.material_video import MaterialVideo
from gonio.rectify import reproject
from gonio.train.lrm import ABLATIONS, RECIPES, stride_of

BASE = replace(RECIPES["smoke"], loop=replace(RECIPES["smoke"].loop, steps=1, precision="no"))
SETTINGS = {"resolution": 32}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GONIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_pool(ClipSettings(procedural=2, resolution=32))


@pytest.fixture(scope="module")
def case(pool):
    frames = linear_from_srgb(pool.clip(0).float() / 255)
    linear, coverage = reproject(frames, two_phase(17), 32, 32)
    video = MaterialVideo(frames=linear, coverage=coverage, trajectory=two_phase(17), provenance={})
    return Case(video=video, truth=video.subset([3, 12]))


def test_rows_are_the_papers_and_every_ablation_of_training_is_one():
    assert set(ROWS) == {"full", *ABLATIONS}
    assert [name for name, row in ROWS.items() if row.paper is None] == ["no-detail", "perspective"]


def test_a_row_is_trained_measured_and_kept(pool, case, tmp_path, monkeypatch):
    asked = []

    def cases(name):
        asked.append(name)
        return case

    found = run_ablation("full", BASE, tmp_path, pool, cases, ["a", "b"], settings=SETTINGS)
    assert asked == ["a", "b"] and [row["material"] for row in found["rows"]] == ["a", "b"]
    assert found["mean"]["psnr"] == pytest.approx(sum(row["psnr"] for row in found["rows"]) / 2)
    assert json.loads((tmp_path / "full" / "results.json").read_text())["mean"] == found["mean"]
    monkeypatch.setattr(ablations, "train_lrm", lambda *a, **k: pytest.fail("trained again"))
    again = run_ablation("full", BASE, tmp_path, pool, cases, ["a", "b"], settings=SETTINGS)
    assert again == found and asked == ["a", "b"]
    with pytest.raises(GonioError, match="holds results of other settings"):
        run_ablation("full", BASE, tmp_path, pool, cases, ["a"], settings=SETTINGS)


def test_the_row_of_five_frames_is_trained_and_measured_on_five(pool, case, tmp_path, monkeypatch):
    seen = []
    whole = ablations.lrm.reconstruct
    monkeypatch.setattr(
        ablations.lrm,
        "reconstruct",
        lambda model, video, **rest: seen.append(video.frames.shape[0]) or whole(model, video, **rest),
    )
    found = run_ablation("5-frames", BASE, tmp_path, pool, lambda _: case, ["a"], settings=SETTINGS)
    assert seen == [5] and found["rows"][0]["views"] == 5
    assert [stride_of(n) for n in (5, 9, 17)] == [4, 2, 1]


def test_the_table_is_sorted_and_shows_the_papers_figures():
    mean = {"psnr": 20.0, "mape": 0.5, "lpips": None}
    found = {name: {"mean": mean | {"psnr": 20.0 + i}} for i, name in enumerate(("full", "no-detail"))}
    lines = table(found).splitlines()
    assert lines[2] == "| no-detail | 21.00 | 0.5000 |  |  |  |  |"
    assert lines[3] == "| full | 20.00 | 0.5000 |  | 24.29 | 0.0407 | 0.3017 |"
    assert torch.tensor([row.paper[2] for row in ROWS.values() if row.paper]).argmax() == 0
