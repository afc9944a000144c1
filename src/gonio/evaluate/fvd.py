"""Frechet video distance (Unterthiner et al. 2018): two sets of videos as Gaussians of I3D features.

Computed by the package cd-fvd with weights that the user has on disk; nothing is ever downloaded. Clips are
16 frames evenly spread over the video, the whole frame at 224 x 224. With few videos the value is biased
upwards: compare only values over equally many.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gonio.errors import GonioError

WEIGHTS = "i3d_pretrained_400.pt"
FRAMES = 16
SIZE = 224
MIN_VIDEOS = 2


def fvd_unavailable(weights: Path | None) -> str | None:
    """Why the distance cannot be computed here, and the cure; None if it can. weights: file or its folder."""
    if weights is None:
        return f"fvd: no weights; name {WEIGHTS} with --fvd-weights"
    if not _file(weights).is_file():
        return f"fvd: no weights at {_file(weights)}; put {WEIGHTS} there"
    if find_spec("cdfvd") is None:
        return "fvd: the package is not installed; pip install gonio[fvd]"
    try:
        import_module("cdfvd.fvd")
    except (ImportError, RuntimeError, OSError) as error:
        # A torchvision built for another torch fails while it registers its operators.
        return f"fvd: the package does not start ({str(error).splitlines()[0]}); pip install gonio[fvd]"
    return None


def clip(frames: Tensor) -> Tensor:
    """What the network is shown of a video [F, H, W, 3] display-encoded: uint8 [16, 224, 224, 3]."""
    chosen = torch.linspace(0, len(frames) - 1, FRAMES).round().long()
    planes = frames[chosen].movedim(-1, 1)
    resized = interpolate(planes, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    return (resized.clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1)


def frechet_video_distance(
    clips: Sequence[Tensor], reference: Sequence[Tensor], weights: Path, device: str = "cpu"
) -> float:
    """FVD between two sets of `clip`s; the order does not matter. GonioError where it cannot be computed."""
    reason = fvd_unavailable(weights)
    if reason:
        raise GonioError(reason)
    if min(len(clips), len(reference)) < MIN_VIDEOS:
        raise GonioError(
            f"fvd: {len(clips)} videos and {len(reference)} references; give {MIN_VIDEOS} or more"
        )
    package = import_module("cdfvd.fvd")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it says which model it loads
            measure = package.cdfvd(
                "i3d", ckpt_path=str(_file(weights)), n_real="full", n_fake="full", device=device
            )
    except Exception as error:  # a damaged file fails in many ways
        reason = type(error).__name__
        raise GonioError(f"{_file(weights)}: not the weights of I3D ({reason}); replace it") from error
    return float(measure.compute_fvd(torch.stack(list(reference)).numpy(), torch.stack(list(clips)).numpy()))


def _file(weights: Path) -> Path:
    return weights / WEIGHTS if weights.is_dir() else weights
