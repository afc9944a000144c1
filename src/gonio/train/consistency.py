"""Self-consistency: learning on generated videos, whose truth nobody knows, from the videos themselves.

The model is given half of a video's frames and judged on the others: a material that explains frames it was
not made from is one that they agree on (VideoNeuMat names this as future work).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gonio.camera import Trajectory, two_phase
from gonio.color import linear_from_srgb, log_encode, srgb_from_linear
from gonio.errors import GonioError
from gonio.material_video import load_material_video
from gonio.neural_material import MaterialSpec
from gonio.reconstruct.lrm import filled
from gonio.reconstruct.plane import geometry_at
from gonio.rectify import rectify_video

# Squares of texels: count, side and size of the whole -> row and column of each texel. [K, s, s] twice
Squares = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


class GeneratedVideos:
    """Videos along one two-phase trajectory, rectified and kept as bytes [N, F, S, S, 3]."""

    def __init__(self, folders: Sequence[Path], *, frames: int, size: int) -> None:
        self.trajectory: Trajectory = two_phase(frames)
        clips = []
        for folder in folders:
            video = load_material_video(folder)
            same = video.trajectory.kind == self.trajectory.kind and video.frames.shape[0] == frames
            if not same:
                raise GonioError(f"{folder}: no two-phase video of {frames} frames; leave it out")
            linear, seen = rectify_video(video, size)
            weight = seen[..., None].to(linear)
            mean = (linear * weight).sum((1, 2), keepdim=True) / weight.sum((1, 2), keepdim=True).clamp_min(1)
            shown = srgb_from_linear(torch.where(seen[..., None], linear, mean).clamp(0, 1))
            clips.append((shown * 255).round().to(torch.uint8))
        if not clips:
            raise GonioError("no generated videos to learn from; name folders that gonio generate wrote")
        self.clips = torch.stack(clips)

    def example(
        self, squares: Squares, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Half of a video's frames with the others filled in [F, S, S, 3], and squares of the others.

        -> frames, uv [K, s, s, 2], wi, wo [K, s, s, 3] and the log-encoded value seen there [K, s, s, 3].
        """
        clip = self.clips[int(torch.randint(len(self.clips), (), generator=generator))].float().div(255)
        count, size = clip.shape[:2]
        odd = int(torch.randint(2, (), generator=generator))
        known = list(range(odd, count, 2))
        asked = list(range(1 - odd, count, 2))
        rows, columns = squares(size, generator)
        frame = torch.tensor(asked)[torch.randint(len(asked), (len(rows),), generator=generator)]
        uv = torch.stack([(columns + 0.5) / size, 1 - (rows + 0.5) / size], -1)
        camera, light = (
            place[frame][:, None, None].expand(*uv.shape[:-1], 3)
            for place in (self.trajectory.camera_position, self.trajectory.light_position)
        )
        at = geometry_at(uv, camera, light)
        radiance = linear_from_srgb(clip[frame[:, None, None], rows, columns])
        target = log_encode(radiance * (math.pi / at.irradiance)[..., None], MaterialSpec().gain)
        return filled(clip[known], known, self.trajectory), at.uv, at.wi, at.wo, target
