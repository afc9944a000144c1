"""The ablations of the reconstruction model: every row trained alike, measured alike, beside the paper's.

The paper's figures are those of its camera-ready table: LPIPS, MAPE and PSNR of a model of another size on
other materials and views, after 64 GPUs' work. Only the order of the rows can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gonio import media
from gonio.data.clips import ClipPool
from gonio.errors import GonioError
from gonio.evaluate.reconstruction import Case, evaluate_case, mean_row
from gonio.evaluate.results import make_row
from gonio.material_video import MaterialVideo
from gonio.models.reconstruction import LRM_SPECS
from gonio.neural_material import NeuralMaterial
from gonio.reconstruct import lrm
from gonio.train.loop import Report
from gonio.train.lrm import ABLATIONS, MODEL_FOLDER, LRMRecipe, stride_of, train_lrm

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One row. change: of the recipe. paper: its (lpips, mape, psnr), None where it has no such row."""

    change: Callable[[LRMRecipe], LRMRecipe]
    paper: tuple[float, float, float] | None = None


# "41 inputs" is missing: the autoencoder of mini takes just its 17 frames.
ROWS: dict[str, Ablation] = {
    "full": Ablation(change=lambda recipe: recipe, paper=(0.3017, 0.0407, 24.29)),
    "linear-upsampler": Ablation(change=ABLATIONS["linear-upsampler"], paper=(0.2919, 0.0454, 24.25)),
    "frozen-mlp": Ablation(change=ABLATIONS["frozen-mlp"], paper=(0.3155, 0.0461, 23.96)),
    "random-mlp": Ablation(change=ABLATIONS["random-mlp"], paper=(0.3341, 0.0565, 22.13)),
    "random-lrm": Ablation(change=ABLATIONS["random-lrm"], paper=(0.3543, 0.0563, 22.45)),
    "mlp-128x6": Ablation(change=ABLATIONS["mlp-128x6"], paper=(0.3211, 0.0483, 23.22)),
    "mlp-32x2": Ablation(change=ABLATIONS["mlp-32x2"], paper=(0.3325, 0.0501, 23.17)),
    "5-frames": Ablation(change=ABLATIONS["5-frames"], paper=(0.3352, 0.0517, 23.45)),
    "no-detail": Ablation(change=ABLATIONS["no-detail"]),
    "perspective": Ablation(change=ABLATIONS["perspective"]),
}


def run_ablation(
    name: str,
    base: LRMRecipe,
    out: Path,
    pool: ClipPool,
    cases: Callable[[str], Case],
    materials: Sequence[str],
    *,
    settings: dict[str, Any],
    weights: Path | None = None,
    prepared: Callable[[int], None] | None = None,
    report: Callable[[Report], None] | None = None,
) -> dict[str, Any]:
    """Train one row in out/name (or go on there) and measure it on `materials`: {"rows", "mean", "settings"}.

    cases(material) -> its Case. What out/name/results.json holds for the same settings is not made again.
    """
    path = out / name / RESULTS
    settings = settings | {"steps": base.loop.steps, "clips": len(pool), "materials": list(materials)}
    if path.exists():
        known = media.read_json(path)
        if not isinstance(known, dict) or known.get("settings") != settings:
            raise GonioError(f"{path}: holds results of other settings; choose another --out")
        return known
    recipe = ROWS[name].change(base)
    train_lrm(recipe, out / name, pool, weights=weights, prepared=prepared, report=report)
    model = lrm.load_model(LRM_SPECS["mini-lrm"], out / name / MODEL_FOLDER)

    def method(video: MaterialVideo) -> NeuralMaterial:
        given = video
        if recipe.inputs is not None:
            given = video.subset(list(range(0, video.frames.shape[0], stride_of(recipe.inputs))))
        return lrm.reconstruct(model, given, size=video.frames.shape[1])

    rows = []
    about = {"method": name, "views": recipe.inputs or 17, "resolution": settings["resolution"]}
    for material in materials:
        measured, _ = evaluate_case(cases(material), method)
        rows.append(make_row(material, about, measured, {}))
    found = {"rows": rows, "mean": mean_row(rows), "settings": settings}
    media.write_json(path, found)
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of the rows that were run, best PSNR first, beside the paper's."""
    lines = [
        "| row | PSNR | MAPE | LPIPS | the paper's PSNR | MAPE | LPIPS |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(found.items(), key=lambda item: -item[1]["mean"]["psnr"]):
        mean, paper = row["mean"], ROWS[name].paper
        ours = [f"{mean['psnr']:.2f}", *(_number(mean[key]) for key in ("mape", "lpips"))]
        theirs = ["", "", ""] if paper is None else [f"{paper[2]:.2f}", f"{paper[1]:.4f}", f"{paper[0]:.4f}"]
        lines.append("| " + " | ".join([name, *ours, *theirs]) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
