"""Material videos that tile: a circular shift while sampling, and a correction of what is left of the seam.

Both need pictures that are aligned with the texture, as rectified frames and textures are: only there is the
wrap of the picture the wrap of the material. In perspective frames that holds for the overhead camera alone;
the orbiting camera sees a trapezoid before a background. Shifting such latents joins sample and background at
random places and asks the network for videos it never saw; so give perspective models a prompt for a tileable
material instead, and correct the seam on the rectified frames or on the reconstructed textures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gonio.errors import UsageError
from gonio.models.periodic import MARGIN, on_torus


@dataclass(frozen=True, kw_only=True)
class CircularShift:
    """Rolls latents [..., H, W] by another offset in each sampling step, and the prediction back.

    Give it to `sample` as transform_latents: the network then sees the seam somewhere inside, where it
    denoises across it as across any other place, while the solver's latents stay where they are.
    """

    offsets: tuple[tuple[int, int], ...]  # rows and columns, by step

    def forward(self, latents: Tensor, step: int) -> Tensor:
        return latents.roll(self.offsets[step], (-2, -1))

    def backward(self, velocity: Tensor, step: int) -> Tensor:
        rows, columns = self.offsets[step]
        return velocity.roll((-rows, -columns), (-2, -1))


def circular_shift(
    height: int, width: int, *, steps: int, patch: tuple[int, int], generator: torch.Generator
) -> CircularShift:
    """Random shifts for latents of height x width, whole patches of the transformer: the same tokens move."""
    if height % patch[0] or width % patch[1]:
        raise UsageError(f"latents of {width}x{height} are not whole patches of {patch[1]}x{patch[0]}")
    draw = [
        (torch.randint(side // step, (steps,), generator=generator, device=generator.device) * step).tolist()
        for side, step in zip((height, width), patch, strict=True)
    ]
    return CircularShift(offsets=tuple(zip(*draw, strict=True)))


def decode_periodic(decode: Callable[[Tensor], Tensor], latents: Tensor, *, margin: int = MARGIN) -> Tensor:
    """Decode aligned latents [B, C, F, h, w] as one tile of many: [B, 3, T, H, W].

    A decoder pads its input with zeros, which alone makes a seam; here it sees `margin` latents of the
    neighbouring tiles instead, see `on_torus`.
    """
    height, width = latents.shape[-2:]
    if not 1 <= margin <= min(height, width):
        raise UsageError(f"a margin of {margin} latents; give 1 to {min(height, width)}")
    return on_torus(decode, latents, margin)


def blend_boundary(frames: Tensor, band: int) -> Tensor:
    """Take the seam out of aligned pictures [..., H, W, C], changing only `band` pixels along the borders.

    frames - w s, where s is the smooth part of Moisan's periodic-plus-smooth decomposition (2011): the
    picture on the torus whose Laplacian is that of the jumps across the borders. w falls from 1 at the
    border to 0 at `band`. As s is smooth, detail stays as it was; what is removed is the difference of the
    two sides. A structure cut by the border (a stone, a stripe) is not completed: its colour runs out softly.
    Values that were non-negative stay so.
    """
    height, width = frames.shape[-3:-1]
    if not 1 <= band <= min(height, width) // 2:
        raise UsageError(
            f"a band of {band} pixels; give 1 to {min(height, width) // 2}, half the shorter side"
        )
    weight = 1 - _inside(height, band)[:, None] * _inside(width, band)
    weight = weight.to(frames.device)[..., None]
    blended = torch.empty_like(frames)
    # One picture at a time: the spectra of a whole 81 frames would take gigabytes.
    for source, target in zip(
        frames.reshape(-1, *frames.shape[-3:]), blended.view(-1, *frames.shape[-3:]), strict=True
    ):
        target.copy_(source - weight * smooth_part(source))
    return blended.clamp_min(0) if bool((frames >= 0).all()) else blended


def smooth_part(picture: Tensor) -> Tensor:
    """The smooth part s of a picture [H, W, C] (Moisan 2011, equations 9 to 11), of mean zero.

    s solves, on the torus, Laplacian(s) = v, v being the jump to the opposite border on every border pixel
    and 0 inside; picture - s is periodic.
    """
    picture = picture.float()
    jumps = torch.zeros_like(picture)
    rows, columns = picture[-1] - picture[0], picture[:, -1] - picture[:, 0]
    jumps[0] += rows
    jumps[-1] -= rows
    jumps[:, 0] += columns
    jumps[:, -1] -= columns
    angles = [2 * torch.pi * torch.fft.fftfreq(n, device=picture.device) for n in picture.shape[:2]]
    laplacian = 2 * angles[0].cos()[:, None] + 2 * angles[1].cos() - 4
    laplacian[0, 0] = 1  # the jumps have mean zero, so this coefficient of the spectrum is zero anyway
    spectrum = torch.fft.fft2(jumps, dim=(0, 1)) / laplacian[..., None]
    return torch.fft.ifft2(spectrum, dim=(0, 1)).real


def _inside(size: int, band: int) -> Tensor:
    """0 on the outermost pixel, rising smoothly to 1 `band` pixels further in. [size]."""
    index = torch.arange(size)
    t = (torch.minimum(index, size - 1 - index) / band).clamp_max(1)
    return t * t * (3 - 2 * t)
