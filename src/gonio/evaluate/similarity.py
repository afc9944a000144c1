"""Is a generated material new, and do seeds differ? Distances between the pictures of materials.

A material is compared by its *mean picture*: the rectified frames of its video averaged over time in linear
light (texels that were seen), 64 x 64 texels, display-encoded. Over a whole trajectory lights and cameras
stand evenly around the sample, so the mean of a turned sample is the turned mean. A plain picture is its
own mean picture.

    distance(a, b) = 1 - SSIM of the mean pictures, the smallest over b's 8 rotations and mirrorings

0 is the same picture, unrelated textures lie near 1. PSNR at the same orientation stands beside it. Shifted
copies of a tile are not recognised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gonio.color import srgb_from_linear
from gonio.errors import GonioError
from gonio.evaluate.metrics import psnr, ssim
from gonio.material_video import MANIFEST, MaterialVideo, load_material_video
from gonio.media import IMAGE_SUFFIXES, read_color
from gonio.pictures import CONTACT_SHEET, contact_sheet
from gonio.progress import progress
from gonio.rectify import rectify_video

SIZE = 64
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_MAX_DEPTH = 4
_SHOWN_SIZE = 256
# So many SSIMs at a time stay within a few hundred megabytes.
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """The nearest of a set. distance: 1 - SSIM; psnr [dB] of the same two mean pictures."""

    path: Path
    distance: float
    psnr: float


def find_videos(folder: Path) -> list[Path]:
    """The material videos at or below a path: folders with a manifest, and video files. Sorted."""
    return [path for path in _items(folder, 0) if path.suffix.lower() not in IMAGE_SUFFIXES or path.is_dir()]


def find_materials(folder: Path) -> list[Path]:
    """The material videos and pictures at or below a path, but for sheets of them; GonioError for none."""
    found = [path for path in _items(folder, 0) if path.name != CONTACT_SHEET]
    if not found:
        raise GonioError(f"{folder}: no material videos or pictures in it; name another folder")
    return found


def mean_picture(video: MaterialVideo, size: int = SIZE) -> Tensor:
    """[size, size, 3] display-encoded: the mean of the rectified frames; black where none saw the sample."""
    rectified, seen = rectify_video(video, size)
    weight = seen[..., None].to(rectified)
    return srgb_from_linear((rectified * weight).sum(0) / weight.sum(0).clamp_min(1))


def picture_of(path: Path, size: int = SIZE) -> Tensor:
    """The mean picture of a material video, or of a picture (its middle square). [size, size, 3]."""
    if path.is_dir() or path.suffix.lower() not in IMAGE_SUFFIXES:
        return mean_picture(load_material_video(path), size)
    image = read_color(path)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side].movedim(-1, 0)[None]
    return srgb_from_linear(interpolate(square, size=(size, size), mode="area")[0].movedim(0, -1))


def pictures_of(paths: Sequence[Path], title: str) -> Tensor:
    """Mean pictures of many items. [N, SIZE, SIZE, 3]."""
    pictures = []
    with progress(title, len(paths)) as step:
        for path in paths:
            pictures.append(picture_of(path))
            step()
    return torch.stack(pictures)


def distances(picture: Tensor, others: Tensor) -> Tensor:
    """Distance of one mean picture [S, S, 3] to each of others [N, S, S, 3]. [N]."""
    return _compared(picture, others)[0]


def nearest(picture: Tensor, others: Tensor, paths: Sequence[Path]) -> Neighbour:
    """The nearest of others [N, S, S, 3], which are the mean pictures of paths."""
    distance, decibels = _compared(picture, others)
    index = int(distance.argmin())
    return Neighbour(path=paths[index], distance=float(distance[index]), psnr=float(decibels[index]))


def diversity(pictures: Tensor) -> float | None:
    """Mean distance over all pairs of mean pictures [N, S, S, 3]; None for fewer than two."""
    pairs = list(combinations(range(len(pictures)), 2))
    if not pairs:
        return None
    return sum(float(distances(pictures[a], pictures[b : b + 1])) for a, b in pairs) / len(pairs)


def pair_sheet(pairs: Sequence[tuple[Path, Path, float]]) -> Tensor:
    """Generated beside nearest, one pair a row, nearest pairs first. (path, path, distance) -> [H, W, 3]."""
    rows, labels = [], []
    for generated, neighbour, distance in sorted(pairs, key=lambda pair: pair[2]):
        rows.append([picture_of(generated, _SHOWN_SIZE), picture_of(neighbour, _SHOWN_SIZE)])
        labels.append([generated.name, f"{distance:.3f}  {neighbour.name}"])
    return contact_sheet(rows, labels)


def symmetries(picture: Tensor) -> Tensor:
    """The 8 rotations and mirrorings of a square picture [S, S, 3]. [8, S, S, 3]."""
    turned = [torch.rot90(picture, turns, (0, 1)) for turns in range(4)]
    return torch.stack(turned + [image.flip(1) for image in turned])


def _compared(picture: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and PSNR to each of others, at the orientation that is nearest. [N] each."""
    similarity, decibels = [], []
    for looked_at in symmetries(picture):
        for block in others.split(_BLOCK):
            same = looked_at.expand_as(block)
            similarity.append(ssim(block, same))
            decibels.append(psnr(block, same))
    by_orientation = torch.cat(similarity).reshape(8, -1)
    best, orientation = by_orientation.max(0)
    chosen = torch.cat(decibels).reshape(8, -1).gather(0, orientation[None])[0]
    return (1 - best).clamp_min(0), chosen


def _items(path: Path, depth: int) -> Iterator[Path]:
    if path.is_dir():
        if (path / MANIFEST).exists():
            yield path
        elif depth <= _MAX_DEPTH:
            for child in sorted(path.iterdir()):
                yield from _items(child, depth + 1)
    elif path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
        yield path
