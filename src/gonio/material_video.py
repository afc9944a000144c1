"""A material video: frames, the trajectory they were made under, and where they came from.

On disk a folder: `material_video.json`, lossless `frames/0000.exr ...` (linear half floats, coverage in A) or
`frames/0000.png ...` (display-encoded, from generators), and `video.mp4` for eyes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio import media
from gonio.camera import Trajectory, camera_rays, plane_points, two_phase, uv_from_point
from gonio.color import linear_from_srgb, srgb_from_linear
from gonio.errors import GonioError

SCHEMA = 1
MANIFEST = "material_video.json"


@dataclass(frozen=True, kw_only=True)
class MaterialVideo:
    """frames: [F, H, W, 3] linear. coverage: [F, H, W] in [0, 1], 1 where the sample fills the pixel."""

    frames: Tensor  # [F, H, W, 3] linear
    coverage: Tensor  # [F, H, W]
    trajectory: Trajectory
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
            raise GonioError(f"material video: frames are {list(shape)}, expected [F, H, W, 3]")
        if self.coverage.shape != shape[:3]:
            sizes = f"coverage is {list(self.coverage.shape)}, frames are {list(shape)}"
            raise GonioError(f"material video: {sizes}")
        if shape[0] != self.trajectory.frames:
            raise GonioError(
                f"material video: {shape[0]} frames but {self.trajectory.frames} places in the trajectory"
            )

    def subset(self, indices: list[int]) -> MaterialVideo:
        return MaterialVideo(
            frames=self.frames[indices],
            coverage=self.coverage[indices],
            trajectory=self.trajectory.subset(indices),
            provenance=self.provenance,
        )

    def sample_mask(self, full_coverage: float = 0.999) -> Tensor:
        """Pixels that see the sample and nothing else. [F, H, W] bool."""
        uv = reference_uv(self.trajectory, *self.frames.shape[1:3])
        inside = ((uv >= 0) & (uv <= 1)).all(-1)
        return inside & (self.coverage >= full_coverage)


def reference_uv(trajectory: Trajectory, height: int, width: int) -> Tensor:
    """Reference-plane texture coordinates of every pixel centre. [F, H, W, 2]."""
    rays = camera_rays(trajectory.camera_position, trajectory.camera_up, trajectory.fov, height, width)
    return uv_from_point(plane_points(trajectory.camera_position, rays))


def load_material_video(path: str | Path) -> MaterialVideo:
    """Read a folder written by `scan` or `generate`, or any mp4 or folder of frames.

    A video without a trajectory file is taken to follow the two-phase path; that is said as a warning.
    """
    path = Path(path)
    if path.is_dir() and (path / MANIFEST).exists():
        return _load_folder(path)
    frames = linear_from_srgb(media.read_video(path))
    count = frames.shape[0]
    if count < 2 or 80 % (count - 1):
        raise GonioError(
            f"{path}: {count} frames and no {MANIFEST}; without a trajectory it must have 81, 41, 17 or 5"
        )
    warnings.warn(f"{path}: no {MANIFEST}; assuming the two-phase trajectory of {count} frames", stacklevel=2)
    _check_content(frames, path)
    return MaterialVideo(
        frames=frames,
        coverage=torch.ones(frames.shape[:3]),
        trajectory=two_phase(count),
        provenance={"source": path.name},
    )


def _load_folder(folder: Path) -> MaterialVideo:
    manifest = media.read_json(folder / MANIFEST, max_bytes=4 << 20)
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else None
        raise GonioError(f"{folder / MANIFEST}: schema {found!r}, this version reads {SCHEMA}")
    try:
        trajectory = Trajectory.from_json(manifest["trajectory"])
        suffix = manifest["frame_suffix"]
    except (KeyError, TypeError):
        raise GonioError(f"{folder / MANIFEST}: lacks the trajectory or frame_suffix; scan again") from None
    except GonioError as error:
        raise GonioError(f"{folder / MANIFEST}: {error}") from None
    if suffix not in (".exr", ".png"):
        raise GonioError(f"{folder / MANIFEST}: frame_suffix {suffix!r}, known are .exr and .png")
    frames: list[Tensor] = []
    coverage: list[Tensor] = []
    for index in range(trajectory.frames):
        image, alpha = read_frame(folder / "frames" / f"{index:04d}{suffix}")
        if frames and image.shape != frames[0].shape:
            raise GonioError(
                f"{folder / 'frames' / f'{index:04d}{suffix}'}: {image.shape[1]}x{image.shape[0]}, "
                f"the first frame is {frames[0].shape[1]}x{frames[0].shape[0]}"
            )
        frames.append(image)
        coverage.append(alpha)
    stacked = torch.stack(frames)
    _check_content(stacked, folder)
    return MaterialVideo(
        frames=stacked,
        coverage=torch.stack(coverage),
        trajectory=trajectory,
        provenance=dict(manifest.get("provenance", {})),
    )


def _check_content(frames: Tensor, path: Path) -> None:
    if not bool(torch.isfinite(frames).all()):
        raise GonioError(f"{path}: frames hold NaN or infinite values; make the video again")
    if float(frames.max()) <= 1e-4:
        raise GonioError(f"{path}: every frame is black; make the video again")


def read_frame(path: Path) -> tuple[Tensor, Tensor]:
    """One lossless frame: [H, W, 3] linear and coverage [H, W]."""
    if path.suffix == ".png":
        image = media.read_color(path)
        return image, torch.ones(image.shape[:2])
    channels = media.read_exr(path)
    missing = [name for name in ("R", "G", "B") if name not in channels]
    if missing:
        raise GonioError(f"{path}: lacks channel {missing[0]}; found {sorted(channels)}")
    image = torch.stack([channels[c] for c in "RGB"], -1)
    return image, channels.get("A", torch.ones(image.shape[:2]))


def write_manifest(folder: Path, trajectory: Trajectory, provenance: dict[str, Any], suffix: str) -> None:
    """material_video.json: written last, so that a folder with one is whole."""
    encoding = "linear Rec.709, half float" if suffix == ".exr" else "sRGB display-encoded, 8 bit"
    media.write_json(
        folder / MANIFEST,
        {
            "schema": SCHEMA,
            "frame_suffix": suffix,
            "color": encoding,
            "trajectory": trajectory.to_json(),
            "provenance": provenance,
        },
    )


def write_preview(folder: Path, frames: Tensor, fps: int = 12) -> Path:
    """video.mp4 for eyes. frames [F, H, W, 3] linear."""
    path = folder / "video.mp4"
    media.write_video(path, srgb_from_linear(frames), fps=fps)
    return path
