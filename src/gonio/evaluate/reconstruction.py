"""How good is a reconstruction? Measured on views and lights it never saw: the 81 cross-joined frames."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gonio.camera import Trajectory, cross_joined, two_phase
from gonio.color import linear_from_srgb, srgb_from_linear
from gonio.data.clips import texel_centers
from gonio.data.faults import with_faults
from gonio.errors import GonioError
from gonio.evaluate.metrics import METRICS, frame_metrics
from gonio.folders import cache_folder
from gonio.material_video import MANIFEST, MaterialVideo, load_material_video
from gonio.models.autoencoder import channels_last, decode, encode, stacked_frames
from gonio.models.load import load_autoencoder
from gonio.models.spec import find_spec
from gonio.neural_material import NeuralMaterial
from gonio.pbr import PBRMaterial
from gonio.reconstruct.plane import render_plane
from gonio.rectify import rectify_video, reproject
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

    video: MaterialVideo
    truth: MaterialVideo


def make_case(
    material: PBRMaterial, *, views: int, resolution: int, seed: int = 0, faulty: bool = False
) -> Case:
    """views 17 or 81: two-phase frames; 0: the truth's own frames (the upper bound). faulty: those frames get
    the faults of generated videos, see `faulty_video`."""
    settings = ScanSettings(resolution=resolution, spp=TRUTH_SPP, denoise=False, aov=False, seed=seed)
    truth = cached_scan(material, cross_joined(), settings)
    video = truth if views == 0 else cached_scan(material, two_phase(views), settings)
    return Case(video=faulty_video(video, seed) if faulty else video, truth=truth)


def half_case(video: MaterialVideo) -> Case:
    """Every second frame of a video to reconstruct from, the others to measure on.

    The truth of a generated video is unknown, but a material that explains frames it was not made from is
    one that they agree on.
    """
    count = video.frames.shape[0]
    if count < 5:
        raise GonioError(f"a video of {count} frames cannot be halved; give 17 or more")
    return Case(video=video.subset(list(range(0, count, 2))), truth=video.subset(list(range(1, count, 2))))


@torch.no_grad()
def faulty_video(video: MaterialVideo, seed: int = 0) -> MaterialVideo:
    """A scan with the faults of generated videos: frames that jitter and drift, are soft and noisy, went
    through the mini autoencoder and lack whatever is brighter than white."""
    size = video.frames.shape[1]
    frames, seen = rectify_video(video, size)
    shown = srgb_from_linear(torch.where(seen[..., None], frames, frames.mean((1, 2), keepdim=True)))
    worse = with_faults(shown.clamp(0, 1), torch.Generator().manual_seed(seed))
    autoencoder = _mini_autoencoder()
    if stacked_frames(autoencoder.config) == len(worse):
        worse = decode(autoencoder, encode(autoencoder, worse[None]))[0]
    linear, coverage = reproject(linear_from_srgb(worse.clamp(0, 1)), video.trajectory, size, size)
    return replace(video, frames=linear, coverage=coverage)


@functools.cache
def _mini_autoencoder() -> Any:
    return channels_last(load_autoencoder(find_spec("mini-t2v")))


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
    angle = math.radians(degrees)
    wo = torch.tensor([math.sin(angle), 0.0, math.cos(angle)]).expand(size * size, 3)
    with torch.no_grad():
        return material.offset(texel_centers(size), wo).reshape(size, size, 2)


def mean_row(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Means of the metrics over the rows that have them."""
    result: dict[str, float | None] = {}
    for key in (*METRICS, "seconds"):
        values = [row[key] for row in rows if row.get(key) is not None]
        result[key] = sum(values) / len(values) if values else None
    return result
