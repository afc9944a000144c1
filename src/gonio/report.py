"""One self-contained HTML file that shows what a material is, where it came from and how good it is."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import jinja2
from PIL import Image
from torch import Tensor

from gonio.errors import GonioError
from gonio.media import atomic_path
from gonio.pictures import image_from_display

MAX_BYTES = 15_000_000
# Pictures are shown no larger than this, and stored without loss up to this many bytes.
MAX_SIDE = 1024
LOSSLESS_BYTES = 300_000

# Metrics a reader knows by these names: (name, unit, which way is better, decimals).
_KNOWN = {
    "psnr": ("PSNR", "dB", "higher is better", 2),
    "ssim": ("SSIM", "", "higher is better", 4),
    "flip": ("FLIP", "", "lower is better", 4),
    "mse": ("MSE, linear", "", "lower is better", 5),
    "mape": ("MAPE", "", "lower is better", 4),
    "lpips": ("LPIPS", "", "lower is better", 4),
}
_HEADLINE = ("psnr", "ssim", "flip", "lpips")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One frame. truth, estimate: [H, W, 3] display-encoded; error: its picture [H, W, 3], if any."""

    label: str
    truth: Tensor  # [H, W, 3] display-encoded
    estimate: Tensor  # [H, W, 3] display-encoded
    error: Tensor | None = None  # [H, W, 3] display-encoded


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows, in its order. Whatever is empty or None is left out.

    facts: provenance, as label -> text (prompt or source, licence, method, views, resolution, seconds ...).
    video, turntable: mp4 files. images: caption -> [H, W, 3] display-encoded. metrics: name -> value, None
    when it was not measured; notes: metric -> why it was not. of_input: comparisons and metrics are of the
    frames the material was made from, not of unseen ones.
    """

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    video: Path | None = None
    images: dict[str, Tensor] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    turntable: Path | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    of_input: bool = False


def write_report(path: str | Path, report: Report) -> None:
    """Write the page to `path`: no network, no other files. GonioError when it would exceed MAX_BYTES."""
    page = render_report(report).encode()
    if len(page) > MAX_BYTES:
        raise GonioError(
            f"{path}: the report would be {len(page) / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f}; "
            "give fewer comparisons or shorter videos"
        )
    with atomic_path(path) as beside:
        Path(beside).write_bytes(page)


def render_report(report: Report) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files("gonio").joinpath("report_template.html").read_text("utf-8"))
    metrics = [_metric_row(name, value, report.notes) for name, value in report.metrics.items()]
    return template.render(
        title=report.title,
        facts=report.facts,
        headline=[row for row in metrics if row["key"] in _HEADLINE and row["measured"]],
        video=_video_uri(report.video),
        images=[
            {"caption": caption, "uri": _picture_uri(caption, picture), "coarse": _is_coarse(picture)}
            for caption, picture in report.images.items()
        ],
        comparisons=[_comparison(comparison) for comparison in report.comparisons],
        turntable=_video_uri(report.turntable),
        metrics=metrics,
        of_input=report.of_input,
        truth_word="Video" if report.of_input else "Truth",
    )


def _comparison(comparison: Comparison) -> dict[str, object]:
    truth, estimate = comparison.truth, comparison.estimate
    if truth.shape != estimate.shape:
        raise GonioError(
            f"report: truth {list(truth.shape)} and estimate {list(estimate.shape)} of "
            f"'{comparison.label}' differ in size"
        )
    return {
        "label": comparison.label,
        "width": truth.shape[1],
        "height": truth.shape[0],
        "truth": _picture_uri(comparison.label, truth),
        "estimate": _picture_uri(comparison.label, estimate),
        "error": None if comparison.error is None else _picture_uri(comparison.label, comparison.error),
        "coarse": _is_coarse(truth),
    }


def _metric_row(key: str, value: float | None, notes: dict[str, str]) -> dict[str, object]:
    name, unit, sense, decimals = _KNOWN.get(key, (key, "", "", 4))
    measured = value is not None and math.isfinite(value)
    return {
        "key": key,
        "name": name,
        "unit": unit,
        "sense": sense,
        "measured": measured,
        "value": f"{value:.{decimals}f}" if measured else "not measured",
        "note": "" if measured else notes.get(key, ""),
    }


def _is_coarse(picture: Tensor) -> bool:
    """Whether the page enlarges the picture, which should then show its pixels."""
    return max(picture.shape[:2]) < 200


def _picture_uri(caption: str, picture: Tensor) -> str:
    """A picture [H, W, 3] as a data URI: PNG, or JPEG when that is large."""
    if picture.ndim != 3 or picture.shape[-1] != 3 or not picture.numel():
        raise GonioError(f"report: '{caption}' is {list(picture.shape)}, not a picture [H, W, 3]")
    image = image_from_display(picture)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True)
    kind = "png"
    if buffer.tell() > LOSSLESS_BYTES:
        buffer, kind = io.BytesIO(), "jpeg"
        image.save(buffer, "jpeg", quality=92, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _video_uri(path: Path | None) -> str | None:
    if path is None:
        return None
    if path.suffix.lower() != ".mp4" or not path.is_file():
        raise GonioError(f"{path}: no such mp4 file; write the video before the report")
    # Base64 adds a third.
    size = path.stat().st_size
    if size * 4 / 3 > MAX_BYTES:
        raise GonioError(f"{path}: {size / 1e6:.1f} MB do not fit the report; shorten the video")
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
