"""Frames of a camera that looks at the sample, and the same frames as seen on the sample's plane.

`rectify` unwarps every frame to the plane's texture coordinates by the known camera: what stays of the
camera's motion is parallax of the relief and view-dependent shading. `reproject` is the way back. Both
average several bilinear look-ups a pixel, so that neither direction aliases, and are differentiable in the
frames.

A rectified frame is a picture of the texture: row 0 is v = 1, column 0 is u = 0. From the overhead camera
of the two-phase trajectory the rectified frame of the same size is the frame itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from gonio.camera import (
    Trajectory,
    camera_axes,
    camera_rays,
    pixel_from_point,
    plane_points,
    point_from_uv,
    uv_from_point,
)
from gonio.errors import GonioError
from gonio.material_video import MaterialVideo

# A texel of which less is covered, or in view, has no colour worth dividing out.
_MIN_COVERAGE = 0.5
# Look-ups this much wider apart than the source's pixels still miss nothing a viewer would see.
_SPACING_TOLERANCE = 0.1
_MAX_SAMPLES_PER_SIDE = 16


def rectify_video(video: MaterialVideo, size: int | None = None) -> tuple[Tensor, Tensor]:
    """The frames on the sample's plane. Returns [F, S, S, 3] linear and what was seen, bool [F, S, S].

    size: texels per side, None for the frames' height. A video that stores no coverage (ones everywhere) is
    taken to be covered as the flat sample covers it.
    """
    height, width = video.frames.shape[1:3]
    coverage = video.coverage
    if bool((coverage >= 1).all()):
        coverage = plane_coverage(video.trajectory, height, width).to(coverage)
    return rectify(video.frames, coverage, video.trajectory, size or height)


def rectify(frames: Tensor, coverage: Tensor, trajectory: Trajectory, size: int) -> tuple[Tensor, Tensor]:
    """Perspective frames unwarped to the plane z = 0.

    frames: [F, H, W, C], over black; coverage: [F, H, W], the sample's share of each pixel, which is
    divided out. Returns [F, S, S, C] and bool [F, S, S], true where the texel lies in the frame and on the
    sample; the others are 0. GonioError where the shapes do not fit.
    """
    _check(frames, trajectory)
    if coverage.shape != frames.shape[:3]:
        raise GonioError(f"rectify: coverage {list(coverage.shape)} does not fit frames {list(frames.shape)}")
    rectified, seen = [], []
    for index in range(trajectory.frames):
        source = torch.cat([frames[index], coverage[index, ..., None].to(frames)], -1)
        found = _resampled(source, size, size, _pixels_of_texels(trajectory, index, source))
        weight = found[..., -1:]
        valid = weight >= _MIN_COVERAGE
        rectified.append(torch.where(valid, found[..., :-1] / weight.clamp_min(_MIN_COVERAGE), 0.0))
        seen.append(valid[..., 0])
    return torch.stack(rectified), torch.stack(seen)


def reproject(rectified: Tensor, trajectory: Trajectory, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Frames on the plane as the trajectory's cameras see them, over black: the inverse of `rectify`.

    rectified: [F, S, S, C], one per place of the trajectory. Returns [F, H, W, C] and coverage [F, H, W],
    the share of each pixel that the unit sample fills.
    """
    _check(rectified, trajectory)
    if rectified.shape[1] != rectified.shape[2]:
        raise GonioError(f"reproject: {list(rectified.shape)} is not [F, S, S, C]")
    frames, coverage = [], []
    for index in range(trajectory.frames):
        source = torch.cat([rectified[index], torch.ones_like(rectified[index, ..., :1])], -1)
        found = _resampled(source, height, width, _texels_of_pixels(trajectory, index, source))
        frames.append(found[..., :-1])
        coverage.append(found[..., -1])
    return torch.stack(frames), torch.stack(coverage)


def plane_coverage(trajectory: Trajectory, height: int, width: int) -> Tensor:
    """The share of every pixel that the flat unit sample fills. [F, H, W]."""
    # Sampled as densely as a texture of the frames' own size would be.
    size = min(height, width)
    return reproject(torch.ones(trajectory.frames, size, size, 1), trajectory, height, width)[1]


# Continuous places (x right, y down, pixel centres at .5) in a source, for the centres of an H x W target,
# and which of them lie in the source: (H, W) -> [H, W, 2], bool [H, W].
Places = Callable[[int, int], tuple[Tensor, Tensor]]


def _pixels_of_texels(trajectory: Trajectory, index: int, frame: Tensor) -> Places:
    """Where the texels of the plane lie in a frame [H, W, C]."""
    position, up = (t[index].to(frame) for t in (trajectory.camera_position, trajectory.camera_up))
    height, width = frame.shape[:2]

    def places(rows: int, columns: int) -> tuple[Tensor, Tensor]:
        u = (torch.arange(columns).to(frame) + 0.5) / columns
        v = 1 - (torch.arange(rows).to(frame) + 0.5) / rows
        grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
        points = point_from_uv(torch.stack([grid_u, grid_v], -1))
        pixel = pixel_from_point(points.reshape(-1, 3), position, up, trajectory.fov, height, width)
        pixel = pixel.reshape(rows, columns, 2)
        before_camera = (points - position) @ camera_axes(position, up)[2] > 0
        inside = ((pixel >= 0) & (pixel <= pixel.new_tensor([width, height]))).all(-1)
        return pixel, inside & before_camera

    return places


def _texels_of_pixels(trajectory: Trajectory, index: int, texture: Tensor) -> Places:
    """Where the pixels of a frame lie on the plane's picture [S, S, C]."""
    position, up = (t[index].to(texture) for t in (trajectory.camera_position, trajectory.camera_up))

    def places(rows: int, columns: int) -> tuple[Tensor, Tensor]:
        rays = camera_rays(position, up, trajectory.fov, rows, columns)
        uv = uv_from_point(plane_points(position, rays))
        inside = ((uv >= 0) & (uv <= 1)).all(-1)
        return torch.stack([uv[..., 0], 1 - uv[..., 1]], -1) * texture.shape[0], inside

    return places


def _resampled(source: Tensor, height: int, width: int, places: Places) -> Tensor:
    """A source [h, w, C] at other places, 0 outside it, averaged over every target pixel. [H, W, C]."""
    n = _samples_per_side(*places(height, width))
    place, inside = places(height * n, width * n)
    values = _look_up(source, place.reshape(-1, 2)).reshape(height * n, width * n, -1) * inside[..., None]
    return values.reshape(height, n, width, n, -1).mean((1, 3))


def _samples_per_side(place: Tensor, inside: Tensor) -> int:
    """So many look-ups per side of a target pixel that they are about one source pixel apart, no more.

    Every further one only blurs, and a frame that needs no resampling stays as it is.
    """
    widest = 0.0
    for axis in (0, 1):
        step = place.diff(dim=axis).norm(dim=-1)
        both = inside.narrow(axis, 1, step.shape[axis]) & inside.narrow(axis, 0, step.shape[axis])
        if bool(both.any()):
            widest = max(widest, float(step[both].max()))
    return min(max(1, math.ceil(widest - _SPACING_TOLERANCE)), _MAX_SAMPLES_PER_SIDE)


def _look_up(picture: Tensor, place: Tensor) -> Tensor:
    """Bilinear values of a picture [H, W, C] at places [N, 2] in its pixels -> [N, C].

    Beyond the outermost pixel centres the border's values go on.
    """
    size = place.new_tensor([picture.shape[1], picture.shape[0]])
    grid = (place / size * 2 - 1)[None, None]
    planes = picture.movedim(-1, 0)[None]
    return grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0].T


def _check(frames: Tensor, trajectory: Trajectory) -> None:
    if frames.ndim != 4 or 0 in frames.shape or frames.shape[0] != trajectory.frames:
        expected = f"[{trajectory.frames}, H, W, C], one frame for each place of the trajectory"
        raise GonioError(f"rectify: frames are {list(frames.shape)}, expected {expected}")
