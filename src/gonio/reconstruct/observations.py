"""A material video as observations: which point was seen from where under which light, and how bright.

Nothing is stored per pixel but its colour: geometry is computed for the pixels a batch draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gonio.camera import Trajectory, camera_axes
from gonio.color import log_encode
from gonio.errors import GonioError
from gonio.material_video import MaterialVideo
from gonio.reconstruct.plane import geometry_at


@dataclass(frozen=True, kw_only=True)
class Batch:
    """uv [N, 2], wi, wo [N, 3], target [N, 3]: log(1 + gain pi value) of what was observed."""

    uv: Tensor
    wi: Tensor
    wo: Tensor
    target: Tensor


def joined(*batches: Batch) -> Batch:
    names = ("uv", "wi", "wo", "target")
    return Batch(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in names})


class Observations:
    """The pixels of a video that see only the sample, at one resolution."""

    def __init__(self, frames: Tensor, mask: Tensor, trajectory: Trajectory) -> None:
        """frames [F, H, W, 3] linear, mask [F, H, W]."""
        self.frames, self.trajectory = frames, trajectory
        self.pixels = mask.reshape(-1).nonzero()[:, 0]
        if self.pixels.numel() == 0:
            raise GonioError("the video shows the sample in no pixel; is its trajectory the right one?")
        self.colors = frames.reshape(-1, 3)
        self.axes = camera_axes(trajectory.camera_position, trajectory.camera_up)

    @property
    def count(self) -> int:
        return self.pixels.numel()

    def batch(self, chosen: Tensor, gain: float) -> Batch:
        """Observations number `chosen` [N] of range(count)."""
        pixel = self.pixels[chosen]
        height, width = self.frames.shape[1:3]
        frame, row, column = pixel // (height * width), (pixel // width) % height, pixel % width
        half = math.tan(math.radians(self.trajectory.fov) / 2)
        x = ((column + 0.5) / width * 2 - 1) * half
        y = (1 - (row + 0.5) / height * 2) * half * height / width
        right, up, forward = (axis[frame] for axis in self.axes)
        direction = forward + x[:, None] * right + y[:, None] * up
        camera = self.trajectory.camera_position[frame]
        point = camera - direction * (camera[:, 2] / direction[:, 2])[:, None]
        at = geometry_at(point[:, :2] + 0.5, camera, self.trajectory.light_position[frame])
        # The network's log domain is of pi * value, which is radiance under the irradiance pi.
        white = self.colors[pixel] * (math.pi / at.irradiance)[:, None]
        return Batch(uv=at.uv, wi=at.wi, wo=at.wo, target=log_encode(white, gain))


def observe(video: MaterialVideo, shrink: int = 1) -> Observations:
    """The observations of a video averaged down by `shrink` (partly covered pixels are left out)."""
    mask = video.sample_mask()
    if shrink == 1:
        return Observations(video.frames, mask, video.trajectory)
    frames, height, width, _ = video.frames.shape
    height, width = height // shrink, width // shrink

    def blocks(t: Tensor) -> Tensor:
        cut = t[:, : height * shrink, : width * shrink]
        return cut.reshape(frames, height, shrink, width, shrink, -1)

    mean = blocks(video.frames).mean((2, 4))
    whole = blocks(mask[..., None]).all(4).all(2)[..., 0]
    return Observations(mean, whole, video.trajectory)
