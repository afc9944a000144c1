"""gonio evaluate video: rows that say what was measured and why the rest was not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest
import torch

from gonio import media
from gonio.camera import two_phase
from gonio.color import linear_from_srgb
from gonio.commands.evaluate_video import EvaluateVideo
from gonio.data.categories import CATEGORIES
from gonio.errors import GonioError, UsageError
from gonio.evaluate import video as evaluation
from gonio.evaluate.fvd import WEIGHTS, clip, frechet_video_distance, fvd_unavailable
from gonio.evaluate.realism import load_scorer, realism
from gonio.evaluate.rpc import RPCSettings
from gonio.evaluate.similarity import find_materials
from gonio.evaluate.video import MEASURES, ROW_KEYS, Measurement, TrainingSet, measure_video, seam_of
from gonio.material_video import MaterialVideo, load_material_video, write_manifest
from gonio.models.category import CategoryJudge, save_category_judge
from gonio.pictures import CONTACT_SHEET
from gonio.rectify import reproject

cv2.setNumThreads(1)
SIZE = 24
FAST = RPCSettings(resolution=16, scales=1, warps=1, inner_iterations=5)


def texture(seed: int, *, tileable: bool = True) -> torch.Tensor:
    """Smooth random waves, or a ramp that does not meet itself. [S, S, 3]."""
    ramp = (torch.arange(SIZE) + 0.5) / SIZE * 2 * torch.pi
    y, x = torch.meshgrid(ramp, ramp, indexing="ij")
    phase = 6 * torch.rand(3, generator=torch.Generator().manual_seed(seed))
    value = torch.stack([0.4 + 0.2 * torch.sin(2 * x + p) + 0.2 * torch.cos(y * 3 - p) for p in phase], -1)
    return value if tileable else value * 0.2 + x[..., None] / 8


def write_video(folder: Path, seed: int = 0, prompt: str | None = "moss", frames: int = 17) -> Path:
    path = two_phase(frames)
    pictures, coverage = reproject(
        linear_from_srgb(texture(seed)).expand(frames, -1, -1, -1), path, SIZE, SIZE
    )
    for index, frame in enumerate(pictures):
        channels = {**dict(zip("RGB", frame.unbind(-1), strict=True)), "A": coverage[index]}
        media.write_exr(folder / "frames" / f"{index:04d}.exr", channels)
    provenance = {"prompt": prompt, "seed": seed} if prompt else {}
    write_manifest(folder, path, provenance, ".exr")
    return folder


def passes_colour(video: MaterialVideo, prompt: str | None) -> dict[str, bool | None]:
    return {"colour_ok": prompt == "moss", "family_ok": False, "roughness_ok": None, "metallic_ok": None}


@pytest.fixture
def fast(monkeypatch):
    """The command's own measurement, with the quickest flow."""
    monkeypatch.setattr(evaluation.RPCSettings, "__init__", _fast_settings)


def _fast_settings(self: RPCSettings) -> None:
    for name, value in vars(FAST).items():
        object.__setattr__(self, name, value)


def test_a_row_has_every_measure(tmp_path):
    path = write_video(tmp_path / "v", seed=3)
    known = torch.stack([texture(9), texture(3)])
    enlarged = torch.nn.functional.interpolate(known.movedim(-1, 1), size=(64, 64), mode="bilinear")
    training = TrainingSet(name="set", paths=[Path("nine"), Path("three")], pictures=enlarged.movedim(1, -1))
    measurement = Measurement(
        rpc=FAST,
        adherence=passes_colour,
        prompts="asked.jsonl",
        training_set=training,
        scorer=lambda frames, prompt: float(frames.mean()),
        scorer_name="mine:mean",
    )
    row = measure_video(path, measurement)
    assert set(row) == set(ROW_KEYS)
    assert (row["video"], row["prompt"], row["seed"]) == (str(path), "moss", 3)
    assert (row["frames"], row["resolution"]) == (17, SIZE)
    assert 0 <= row["rpc"] <= 1
    assert row["seam"] == pytest.approx(1, abs=0.2)
    assert row["nearest"]["video"] == "three" and row["nearest"]["distance"] < 0.1
    assert row["colour_ok"] is True and row["family_ok"] is False and row["metallic_ok"] is None
    assert 0 < row["realism"] < 1 and row["settings"]["realism"] == "mine:mean"
    json.dumps(row)


def test_what_was_not_asked_for_or_cannot_be_measured_is_null_with_a_reason(tmp_path):
    row = measure_video(write_video(tmp_path / "v", frames=5), Measurement(rpc=FAST))
    missing = {key for key in MEASURES if row[key] is None}
    assert missing == set(MEASURES) - {"seam"}
    assert "camera moves in 2 frames" in row["notes"]["rpc"]
    assert "--training-set" in row["notes"]["nearest"] and "--realism" in row["notes"]["realism"]
    assert "--prompts" in row["notes"]["adherence"]


def test_a_seam_is_seen(tmp_path):
    path = two_phase(5)
    pictures, coverage = reproject(texture(0, tileable=False).expand(5, -1, -1, -1), path, SIZE, SIZE)
    torn = MaterialVideo(frames=pictures, coverage=coverage, trajectory=path)
    assert seam_of(torn) > 2 > seam_of(load_material_video(write_video(tmp_path / "v")))


def test_the_command_goes_on_where_it_stopped(tmp_path, capsys, fast, monkeypatch):
    for seed in (1, 2):
        write_video(tmp_path / "in" / f"seed{seed}", seed)
    out = tmp_path / "results.json"
    EvaluateVideo(videos=(tmp_path / "in" / "seed1",), out=out).run()
    first = media.read_json(out)
    measured = []
    monkeypatch.setattr(
        evaluation, "measure_video", lambda path, m: measured.append(path.name) or measure_video(path, m)
    )
    EvaluateVideo(videos=(tmp_path / "in",), out=out).run()
    document = media.read_json(out)
    assert measured == ["seed2"]
    assert document["rows"][0] == first["rows"][0] and len(document["rows"]) == 2
    rpc = [row["rpc"] for row in document["rows"]]
    assert document["mean"]["rpc"] == pytest.approx(sum(rpc) / 2)
    # Two seeds of one prompt have a diversity; FVD says what it lacks.
    assert document["mean"]["diversity"] == document["diversity"]["moss"] > 0
    assert first["mean"]["diversity"] is None and "two videos" in first["mean"]["notes"]["diversity"]
    assert document["mean"]["fvd"] is None and WEIGHTS in document["mean"]["notes"]["fvd"]
    assert "from" in capsys.readouterr().out
    with pytest.raises(GonioError, match="another training_set"):
        EvaluateVideo(videos=(tmp_path / "in",), out=out, training_set=tmp_path / "in").run()


def test_the_family_is_told_by_the_judge_that_is_named(tmp_path, fast):
    """One that takes everything for fabric, whatever it sees."""
    judge = CategoryJudge(CATEGORIES)
    with torch.no_grad():
        judge.head.weight.zero_()
        judge.head.bias.copy_(torch.tensor([float(word == "fabric") for word in CATEGORIES]))
    save_category_judge(tmp_path / "judge.safetensors", judge, {})
    video = write_video(tmp_path / "v")
    for family, right in (("fabric", True), ("wood", False)):
        prompts = tmp_path / f"{family}.jsonl"
        prompts.write_text(json.dumps({"prompt": "moss", "family": family}) + "\n")
        out = tmp_path / f"{family}.json"
        EvaluateVideo(videos=(video,), out=out, prompts=prompts, judge=tmp_path / "judge.safetensors").run()
        assert media.read_json(out)["rows"][0]["family_ok"] is right
        with pytest.raises(GonioError, match="another judge"):
            EvaluateVideo(videos=(video,), out=out, prompts=prompts).run()


def test_neighbours_are_shown_on_a_sheet(tmp_path, fast):
    path = write_video(tmp_path / "v", 4)
    for seed in (4, 5):
        media.write_image(tmp_path / "set" / f"{seed}.png", linear_from_srgb(texture(seed)))
    media.write_image(tmp_path / "set" / CONTACT_SHEET, linear_from_srgb(texture(4)))
    assert [found.name for found in find_materials(tmp_path / "set")] == ["4.png", "5.png"]
    sheet = tmp_path / "pairs.png"
    options = {"training_set": tmp_path / "set", "contact_sheet": sheet}
    EvaluateVideo(videos=(path,), out=tmp_path / "r.json", **options).run()
    row = media.read_json(tmp_path / "r.json")["rows"][0]
    assert row["nearest"]["video"].endswith("4.png")
    assert media.image_size(sheet)[1] > 500


def test_means_leave_out_what_is_null_and_checks_are_shares(tmp_path):
    rows = [
        dict.fromkeys(ROW_KEYS) | {"colour_ok": ok, "rpc": rpc} for ok, rpc in ((True, 0.2), (False, None))
    ]
    rows[0]["nearest"] = {"video": "x", "distance": 0.25, "psnr": 20.0}
    mean = evaluation.save_rows(tmp_path / "r.json", rows)
    assert (mean["colour_ok"], mean["rpc"], mean["nearest"], mean["seam"]) == (0.5, 0.2, 0.25, None)


@pytest.mark.parametrize(
    "options, cure",
    [
        ({"videos": ()}, "no videos"),
        ({"videos": (Path("nowhere"),)}, "does not exist"),
        ({"out": Path("r.txt")}, "JSON"),
        ({"fvd_weights": Path("w.pt")}, "belong together"),
        ({"contact_sheet": Path("s.png")}, "--training-set"),
        ({"judge": Path(__file__)}, "judges by --prompts"),
        ({"realism": "no_such_module:f"}, "PYTHONPATH"),
        ({"realism": "math"}, "module:function"),
        ({"realism": "math:nothing"}, "no function nothing"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, options, cure):
    video = write_video(tmp_path / "v", frames=5)
    command = EvaluateVideo(**{"videos": (video,), "out": tmp_path / "r.json"} | options)
    with pytest.raises(UsageError, match=cure):
        command.run()


def test_results_of_something_else_are_not_overwritten(tmp_path):
    media.write_json(tmp_path / "r.json", {"rows": [{"material": "moss"}]})
    with pytest.raises(GonioError, match="no results of gonio evaluate video"):
        evaluation.load_rows(tmp_path / "r.json", {})


# ---------------------------------------------------------------- scorers and FVD: the user's own


def test_a_scorer_is_found_by_name_and_its_failures_are_its_own(tmp_path, monkeypatch):
    (tmp_path / "my_scorer.py").write_text(
        "def good(frames, prompt): return frames.mean()\n"
        "def bad(frames, prompt): raise KeyError('weights')\n"
        "def undefined(frames, prompt): return float('nan')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    frames = torch.full((2, 4, 4, 3), 0.25)
    assert realism(load_scorer("my_scorer:good"), "my_scorer:good", frames, None) == pytest.approx(0.25)
    for name in ("bad", "undefined"):
        with pytest.raises(GonioError, match=f"my_scorer:{name}"):
            realism(load_scorer(f"my_scorer:{name}"), f"my_scorer:{name}", frames, None)


def test_a_clip_is_sixteen_frames_spread_over_the_video():
    frames = (torch.arange(81) / 100).view(81, 1, 1, 1).expand(81, 10, 12, 3)
    shown = clip(frames)
    assert shown.shape == (16, 224, 224, 3) and shown.dtype == torch.uint8
    assert shown[0].max() == 0 and shown[-1].min() == round(0.8 * 255)


def test_without_weights_or_package_fvd_says_so_and_never_downloads(tmp_path, monkeypatch):
    assert "--fvd-weights" in (fvd_unavailable(None) or "")
    assert str(tmp_path / WEIGHTS) in (fvd_unavailable(tmp_path) or "")
    (tmp_path / WEIGHTS).write_bytes(b"not weights")
    monkeypatch.setitem(sys.modules, "cdfvd", None)
    reason = fvd_unavailable(tmp_path)
    assert reason is not None and "gonio[fvd]" in reason
    with pytest.raises(GonioError, match="gonio"):
        frechet_video_distance([torch.zeros(1)] * 2, [torch.zeros(1)] * 2, tmp_path)
