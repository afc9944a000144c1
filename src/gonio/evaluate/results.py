"""results.json of an evaluation: rows are added one by one, so that a stopped evaluation goes on.

    {"rows": [{material, method, views, resolution, psnr, ssim, flip, mse, mape, lpips, seconds}, ...],
     "mean": {psnr, ..., seconds}}

A value that could not be measured is null, and the row's (and the mean's) `notes` say why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gonio.errors import GonioError
from gonio.evaluate.metrics import METRICS
from gonio.evaluate.reconstruction import mean_row
from gonio.media import read_json, write_json

SETTINGS = ("method", "views", "resolution")
ROW_KEYS = ("material", *SETTINGS, *METRICS, "seconds")


def load_rows(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier, stopped or finished, run with the same settings; [] where there is no file.

    Rows of other settings are an error: a mean over both would say nothing, and nobody's results are erased.
    """
    if not path.exists():
        return []
    document = read_json(path)
    rows = document.get("rows") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise GonioError(f"{path}: holds no results of gonio evaluate; choose another --out")
    for row in rows:
        for key in SETTINGS:
            if row[key] != settings[key]:
                found = f"{key} {row[key]!r}, not {settings[key]!r}"
                raise GonioError(f"{path}: holds results with {found}; choose another --out")
    return rows


def save_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows and their mean, atomically."""
    notes = {key: note for row in rows for key, note in row.get("notes", {}).items()}
    mean = mean_row(rows)
    missing = {key: note for key, note in notes.items() if mean.get(key) is None}
    write_json(path, {"rows": rows, "mean": mean | ({"notes": missing} if missing else {})})


def make_row(
    material: str, settings: dict[str, Any], measured: dict[str, Any], notes: dict[str, str]
) -> dict[str, Any]:
    """One row from what was measured; `notes` give the reasons for what is None."""
    row = {"material": material, **settings} | {key: measured[key] for key in (*METRICS, "seconds")}
    missing = {key: notes.get(key, "no frame could be measured") for key in METRICS if row[key] is None}
    return row | ({"notes": missing} if missing else {})


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and set(row) - {"notes"} == set(ROW_KEYS)
