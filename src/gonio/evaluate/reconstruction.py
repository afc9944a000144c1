"""How good is a reconstruction? Measured on views and lights it never saw: the 81 cross-joined frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gonio.camera import Trajectory, cross_joined, two_phase
from gonio.evaluate.metrics import METRICS, frame_metrics
from gonio.folders import cache_folder
from gonio.material_video import MANIFEST, MaterialVideo, load_material_video
from gonio.neural_material import NeuralMaterial
from gonio.pbr import PBRMaterial
from gonio.reconstruct.plane import render_plane
from gonio.scan.measure import ScanSettings, fingerprint, scan

TRUTH_SPP = 16


def cached_scan(material: PBRMaterial, trajectory: Trajectory, settings: ScanSettings) -> MaterialVideo:
    """The scan of exactly these maps, trajectory and settings, from the cache or made now."""
    folder = cache_folder() / "scans" / fingerprint(material, trajectory, settings)[:24]
    if (folder / MANIFEST).exists():
        return load_material_video(folder)
    title = f"Scanning {material.name} ({trajectory.kind})"
    return scan(material, folder, trajectory=trajectory, settings=settings, title=title)[0]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One material's data: the frames a method may use and the frames it is measured on."""

    material: PBRMaterial
    video: MaterialVideo
    truth: MaterialVideo


def make_case(material: PBRMaterial, *, views: int, resolution: int, seed: int = 0) -> Case:
    """views 17 or 81: two-phase frames; 0: the truth's own frames (the upper bound)."""
    settings = ScanSettings(resolution=resolution, spp=TRUTH_SPP, denoise=False, aov=False, seed=seed)
    truth = cached_scan(material, cross_joined(), settings)
    video = truth if views == 0 else cached_scan(material, two_phase(views), settings)
    return Case(material=material, video=video, truth=truth)


def measure(estimate: NeuralMaterial, truth: MaterialVideo, *, samples_per_side: int = 2) -> dict[str, Any]:
    """Metrics of a neural material against a video of the truth, over the pixels on the sample.

    The truth's pixels are averages over their squares, so the estimate is decoded at 2 x 2 points a pixel.
    """
    rendered = render_truth_views(estimate, truth, samples_per_side)
    return frame_metrics(truth.frames, rendered, truth.sample_mask())


def render_truth_views(estimate: NeuralMaterial, truth: MaterialVideo, samples_per_side: int = 2) -> Tensor:
    """The estimate under the truth's cameras and lights. [F, H, W, 3] linear."""
    height, width = truth.frames.shape[1:3]
    with torch.no_grad():
        return render_plane(estimate, truth.trajectory, height, width, samples_per_side=samples_per_side)


def evaluate_case(
    case: Case, method: Callable[[MaterialVideo], NeuralMaterial]
) -> tuple[dict[str, Any], NeuralMaterial]:
    """Reconstruct and measure. Returns the metrics with `seconds` of the reconstruction, and the material."""
    started = time.perf_counter()
    estimate = method(case.video)
    seconds = time.perf_counter() - started
    return {**measure(estimate, case.truth), "seconds": seconds}, estimate


def offset_map(material: NeuralMaterial, size: int, degrees: float = 45.0) -> Tensor:
    """The parallax seen from `degrees` off the zenith towards +u, as a map. [size, size, 2] uv units."""
    ramp = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(1 - ramp, ramp, indexing="ij")
    angle = math.radians(degrees)
    wo = torch.tensor([math.sin(angle), 0.0, math.cos(angle)]).expand(size * size, 3)
    with torch.no_grad():
        return material.offset(torch.stack([u, v], -1).reshape(-1, 2), wo).reshape(size, size, 2)


def mean_row(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Means of the metrics over the rows that have them."""
    result: dict[str, float | None] = {}
    for key in (*METRICS, "seconds"):
        values = [row[key] for row in rows if row.get(key) is not None]
        result[key] = sum(values) / len(values) if values else None
    return result
