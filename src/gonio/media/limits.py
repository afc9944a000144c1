"""What Gonio agrees to decode. Sizes come from headers, so that nothing is allocated for a hostile file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import torch
from torch import Tensor

from gonio.errors import GonioError

MAX_SIDE = 16384  # pixels, either side of an image
MAX_PIXELS = 128 * 2**20  # of one image: 1.5 GiB as float32 RGB
MAX_EXR_SAMPLES = 3 * MAX_PIXELS  # pixels times channels of one EXR, over all its parts
MAX_FILE_BYTES = 2 * 2**30  # of one encoded file
MAX_FRAMES = 2000  # of one clip
MAX_FRAME_PIXELS = 4096 * 4096  # of one video frame
MAX_CLIP_BYTES = 6 * 2**30  # of one decoded clip, as float32 RGB


def shown(path: str | os.PathLike[str]) -> str:
    """The path as it may stand in a one-line message: unprintable characters become '?'."""
    return "".join(c if c.isprintable() else "?" for c in os.fspath(path))


def reason(error: BaseException) -> str:
    """The first line of a library's complaint, short enough for our own one line."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return "".join(c if c.isprintable() else "?" for c in text)[:160]


def require_file(path: str | os.PathLike[str]) -> Path:
    """The path, if it is a readable, non-empty regular file of at most MAX_FILE_BYTES."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        problem = "does not exist" if missing else f"cannot be read ({reason(error)})"
        raise GonioError(f"{shown(path)} {problem}; check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise GonioError(f"{shown(path)} is a folder; name a file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise GonioError(f"{shown(path)} is not a regular file; copy its content into one")
    if status.st_size == 0:
        raise GonioError(f"{shown(path)} is empty; fetch or export it again")
    if status.st_size > MAX_FILE_BYTES:
        raise GonioError(
            f"{shown(path)} has {status.st_size} bytes, the limit is {MAX_FILE_BYTES}; make it smaller"
        )
    if not os.access(path, os.R_OK):
        raise GonioError(f"{shown(path)} may not be read; change its permissions")
    return Path(path)


def read_bytes(path: str | os.PathLike[str], count: int = -1) -> bytes:
    """The first `count` bytes of a file (all of them by default)."""
    try:
        with require_file(path).open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise GonioError(f"{shown(path)} cannot be read ({reason(error)}); check the disk") from error


def check_size(path: str | os.PathLike[str], height: int, width: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a header that asks for more pixels than Gonio decodes."""
    if height < 1 or width < 1:
        raise GonioError(f"{shown(path)} states a size of {width}x{height} pixels; export it again")
    if max(height, width) > MAX_SIDE or height * width > max_pixels:
        raise GonioError(
            f"{shown(path)} is {width}x{height} pixels, the limits are {MAX_SIDE} a side and "
            f"{max_pixels} in all; scale it down"
        )


def check_finite(path: str | os.PathLike[str], values: Tensor) -> Tensor:
    """Refuse NaN and infinity. values: [H, W, C]; counts pixels, returns `values`."""
    bad = int((~torch.isfinite(values)).any(dim=-1).sum())
    if bad:
        total = values.shape[0] * values.shape[1]
        raise GonioError(
            f"{shown(path)} has {bad} of {total} pixels that are NaN or infinite; render or export it again"
        )
    return values
