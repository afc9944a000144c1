"""How well a picture tiles: the step across the wrap against the steps inside."""

from __future__ import annotations

import torch
from torch import Tensor

from gonio.errors import GonioError

# Half of an 8-bit step: flat pictures, and noise below what a picture file holds, do not rule the ratio.
_FLOOR = 0.5 / 255


def seam_error(frames: Tensor) -> dict[str, float]:
    """Seam of pictures aligned with the texture. frames: [F, H, W, 3] or one texture [H, W, C], finite.

    With D(i) the mean over all frames, channels and pixels of |x(i + 1) - x(i)| between neighbouring lines i
    of one axis, and D(wrap) that between the last line and the first,

        seam = D(wrap) / max(mean of D inside, mean of the two D next to the wrap)

    plus 1/510 above and below. 1: the wrap is like any other place; 2: its steps are twice as large. The
    second term of the maximum makes up for patterns that lie along the axes: where the wrap falls on the
    steep part of a stripe, or on the edge of a joint, its neighbours do too.
    -> seam_error_u (right border against left), seam_error_v (top against bottom), seam_error (the larger).
    """
    if frames.dim() == 3:
        frames = frames[None]
    if frames.dim() != 4 or min(frames.shape[1:3]) < 3:
        shape = list(frames.shape)
        raise GonioError(f"seam error: pictures of {shape}; give [F, H, W, C] of at least 3x3 pixels")
    if not bool(torch.isfinite(frames).all()):
        raise GonioError("seam error: the pictures hold NaN or infinite values; make them again")
    across = {"seam_error_u": _seam(frames, 2), "seam_error_v": _seam(frames, 1)}
    return {"seam_error": max(across.values()), **across}


def _seam(frames: Tensor, axis: int) -> float:
    lines = frames.movedim(axis, 0).float()
    steps = (lines.roll(-1, 0) - lines).abs().flatten(1).mean(1)  # the last is across the wrap
    inside, beside = steps[:-1].mean(), (steps[0] + steps[-2]) / 2
    return float((steps[-1] + _FLOOR) / (torch.maximum(inside, beside) + _FLOOR))
