"""results.json of material videos: one row a video, their means, and measures of all together.

    {"rows": [{video, prompt, seed, frames, resolution, rpc, seam, colour_ok, family_ok, roughness_ok,
               metallic_ok, nearest, realism, settings, notes}, ...],
     "mean": {rpc, seam, colour_ok, ..., nearest, realism, diversity, fvd, notes},
     "diversity": {prompt: distance}}

    rpc      loss of Residual Parallax Coherence, 0 coherent to 1         (gonio.evaluate.rpc)
    seam     step across the wrap over the steps inside, 1 is seamless    (gonio.evaluate.tileability)
    ..._ok   does the material show what its prompt asks for              (gonio.evaluate.adherence)
    nearest  {video, distance, psnr} of the training set                  (gonio.evaluate.similarity)
    realism  of the named scorer                                          (gonio.evaluate.realism)

Means are over the rows that have a value: of a check, the share that passes; of nearest, the distance. A
value that could not be measured is null, and `notes` says why; a rank correlation that is undefined makes
an rpc of 1, and says so there too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio.color import srgb_from_linear
from gonio.errors import GonioError
from gonio.evaluate.adherence import adherence, read_prompts
from gonio.evaluate.attributes import measure_attributes
from gonio.evaluate.realism import RealismScorer, realism
from gonio.evaluate.rpc import RPCSettings, camera_phase, residual_parallax_coherence
from gonio.evaluate.similarity import diversity, mean_picture, nearest, picture_of
from gonio.evaluate.tileability import seam_error
from gonio.material_video import MaterialVideo, load_material_video
from gonio.media import read_json, write_json
from gonio.models.category import CategoryJudge
from gonio.rectify import rectify_video

CHECKS = ("colour_ok", "family_ok", "roughness_ok", "metallic_ok")
MEASURES = ("rpc", "seam", *CHECKS, "nearest", "realism")
ROW_KEYS = ("video", "prompt", "seed", "frames", "resolution", *MEASURES, "settings", "notes")
# Enough for the mean over lights; all 40 frames of the light phase would say no more.
_SEAM_FRAMES = 8

Adherence = Callable[[MaterialVideo, str | None], dict[str, bool | None]]


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """What generated videos are searched in. pictures: mean pictures [N, S, S, 3] of paths."""

    name: str
    paths: Sequence[Path]
    pictures: Tensor


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What to measure; None leaves a measure out. adherence: (video, prompt) -> checks, named by the files of
    its prompts and of its judge, if that is not the bundled one."""

    rpc: RPCSettings = field(default_factory=RPCSettings)
    adherence: Adherence | None = None
    prompts: str | None = None
    judge: str | None = None
    training_set: TrainingSet | None = None
    scorer: RealismScorer | None = None
    scorer_name: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What a row's values depend on besides its video."""
        return {
            "rpc": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self.rpc).items()},
            "prompts": self.prompts,
            "training_set": self.training_set.name if self.training_set else None,
            "realism": self.scorer_name,
            "judge": self.judge,
        }


def measure_video(path: Path, measurement: Measurement) -> dict[str, Any]:
    """One row. What cannot be measured on this video is None with a note; an unreadable video is an error."""
    video = load_material_video(path)
    prompt, seed = video.provenance.get("prompt"), video.provenance.get("seed")
    notes: dict[str, str] = {}
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "rpc": lambda: _rpc(video, measurement, notes),
        "seam": lambda: {"seam": seam_of(video)},
        "adherence": lambda: _checks(video, prompt, measurement),
        "nearest": lambda: _nearest(video, measurement),
        "realism": lambda: _realism(video, prompt, measurement),
    }
    values: dict[str, Any] = dict.fromkeys(MEASURES)
    for name, measure in measures.items():
        try:
            values |= measure()
        except GonioError as error:
            notes[name] = str(error)
    described = {"video": str(path), "prompt": prompt, "seed": seed}
    size = {"frames": video.frames.shape[0], "resolution": video.frames.shape[1]}
    return {**described, **size, **values, "settings": measurement.settings, "notes": notes}


def prompt_adherence(prompts: Path, judge: CategoryJudge | None = None) -> Adherence:
    """The checks of every prompt in a prompt file; GonioError for a video whose prompt is not in it.

    judge: of categories, the bundled one if None.
    """
    asked = {line.prompt: line for line in read_prompts(prompts)}

    def check(video: MaterialVideo, prompt: str | None) -> dict[str, bool | None]:
        if prompt not in asked:
            raise GonioError(f"{prompts}: has no line for the prompt {prompt!r}")
        return adherence(asked[prompt], measure_attributes(video, judge=judge))

    return check


def seam_of(video: MaterialVideo) -> float:
    """Seam error of the rectified frames that a standing camera sees whole, display-encoded."""
    moving = set(camera_phase(video.trajectory))
    standing = [index for index in range(video.trajectory.frames) if index not in moving]
    chosen = torch.linspace(0, len(standing) - 1, min(_SEAM_FRAMES, len(standing))).round().long().tolist()
    rectified, seen = rectify_video(video.subset([standing[index] for index in chosen]))
    whole = seen.all(1).all(1)
    if not bool(whole.any()):
        raise GonioError("seam: no frame of a standing camera sees the whole sample")
    return seam_error(srgb_from_linear(rectified[whole]))["seam_error"]


def prompt_diversity(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean distance between the videos of each prompt that has two or more. Reads the videos."""
    found = {}
    for prompt in dict.fromkeys(row["prompt"] for row in rows if row["prompt"] is not None):
        paths = [Path(row["video"]) for row in rows if row["prompt"] == prompt]
        if len(paths) > 1:
            value = diversity(torch.stack([picture_of(path) for path in paths]))
            assert value is not None
            found[prompt] = value
    return found


def load_rows(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier, stopped or finished, run with the same settings; [] where there is no file."""
    if not path.exists():
        return []
    document = read_json(path)
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(r, dict) and set(r) == set(ROW_KEYS) for r in rows):
        raise GonioError(f"{path}: holds no results of gonio evaluate video; choose another --out")
    for row in rows:
        different = [key for key in settings if row["settings"].get(key) != settings[key]]
        if different:
            raise GonioError(f"{path}: holds results with another {different[0]}; choose another --out")
    return rows


def save_rows(
    path: Path,
    rows: Sequence[dict[str, Any]],
    *,
    together: dict[str, float | None] | None = None,
    diversity_of: dict[str, float] | None = None,
    notes: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Write all rows and their means, atomically; returns the means.

    together: measures of all videos at once (diversity, fvd); notes: why one of them is None.
    """
    mean: dict[str, Any] = {key: _mean([_number(row[key]) for row in rows]) for key in MEASURES}
    mean |= together or {}
    mean["notes"] = notes or {}
    write_json(path, {"rows": list(rows), "mean": mean, "diversity": diversity_of or {}})
    return mean


def _rpc(video: MaterialVideo, measurement: Measurement, notes: dict[str, str]) -> dict[str, Any]:
    result = residual_parallax_coherence(video, measurement.rpc)
    if result.reason:
        notes["rpc"] = result.reason
    return {"rpc": result.loss}


def _checks(video: MaterialVideo, prompt: str | None, measurement: Measurement) -> dict[str, Any]:
    if measurement.adherence is None:
        raise GonioError("no prompt file; give one with --prompts")
    found = measurement.adherence(video, prompt)
    return {key: found[key] for key in CHECKS}


def _nearest(video: MaterialVideo, measurement: Measurement) -> dict[str, Any]:
    known = measurement.training_set
    if known is None:
        raise GonioError("no training set; name one with --training-set")
    found = nearest(mean_picture(video), known.pictures, known.paths)
    return {"nearest": {"video": str(found.path), "distance": found.distance, "psnr": found.psnr}}


def _realism(video: MaterialVideo, prompt: str | None, measurement: Measurement) -> dict[str, Any]:
    if measurement.scorer is None or measurement.scorer_name is None:
        raise GonioError("no scorer; name one with --realism module:function")
    display = srgb_from_linear(video.frames)
    return {"realism": realism(measurement.scorer, measurement.scorer_name, display, prompt)}


def _number(value: Any) -> float | None:
    if isinstance(value, dict):
        value = value["distance"]
    return None if value is None else float(value)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
