"""Clips: a video file or a folder of frames into one tensor, and a tensor into H.264."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace, Interpolation
from torch import Tensor

from gonio.errors import GonioError
from gonio.media.images import IMAGE_SUFFIXES, image_size, read_display
from gonio.media.limits import (
    MAX_CLIP_BYTES,
    MAX_FRAME_PIXELS,
    MAX_FRAMES,
    check_size,
    reason,
    require_file,
    shown,
)
from gonio.media.output import write_bytes

# Containers that hold one file's own data: no playlists, no references to other files or the network.
_CONTAINERS = "mov,matroska,webm,avi,mpegts"
_RESAMPLING = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
_BT709 = 1
_UNSPECIFIED = 2
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


def read_video(path: str | os.PathLike[str]) -> Tensor:
    """A video file, or a folder of equally sized frames in natural order -> [F, H, W, 3] display-encoded.

    Values are float32 in [0, 1]. Every frame the container announces must decode: a truncated or damaged
    file is an error, never a shorter or patched clip. Rotation metadata in quarter turns is applied.
    Untagged video is taken as BT.709 from 720 rows on and BT.601 below. The pixel aspect ratio is ignored.
    """
    return _read_frames(Path(path)) if Path(path).is_dir() else _read_file(path)


def write_video(path: str | os.PathLike[str], frames: Tensor, fps: float = 15) -> None:
    """Write [F, H, W, 3] display-encoded frames as H.264 yuv420p (BT.709, limited range, near lossless).

    Odd sides grow by one repeated row or column, because 4:2:0 needs even ones.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"write_video takes [F, H, W, 3], got {list(frames.shape)}")
    if not torch.isfinite(frames).all():
        raise GonioError(f"cannot write {shown(path)}: the frames hold NaN or infinite values")
    height, width = frames.shape[1] + frames.shape[1] % 2, frames.shape[2] + frames.shape[2] % 2
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": "12", "preset": "medium"}
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1
        for index, values in enumerate(frames):
            rgb = (values.detach().to("cpu", torch.float32).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            rgb = np.pad(rgb, ((0, height - rgb.shape[0]), (0, width - rgb.shape[1]), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, interpolation=_RESAMPLING
            )
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    write_bytes(path, buffer.getvalue())


def _read_frames(folder: Path) -> Tensor:
    try:
        files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise GonioError(f"{shown(folder)} cannot be listed ({reason(error)}); check it") from error
    files = sorted((file for file in files if file.suffix.lower() in IMAGE_SUFFIXES), key=_natural)
    if not files:
        raise GonioError(f"{shown(folder)} holds no frames; put numbered images into it, or name a video")
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) > 1:
        raise GonioError(f"{shown(folder)} mixes {' and '.join(kinds)} frames; keep one kind")
    height, width = image_size(files[0])
    check_size(files[0], height, width, MAX_FRAME_PIXELS)
    _check_clip(folder, len(files), height, width)
    frames = torch.empty(len(files), height, width, 3)
    for index, file in enumerate(files):
        frame = read_display(file)
        if frame.shape != frames.shape[1:]:
            raise GonioError(
                f"{shown(file)} is {frame.shape[1]}x{frame.shape[0]} pixels, the frames before it are "
                f"{width}x{height}; make all frames equal"
            )
        frames[index] = frame
    return frames


def _natural(file: Path) -> list[tuple[int, int, str]]:
    """Numbers by value, text by letter: frame_2 before frame_10."""
    parts = re.findall(r"\d+|\D+", file.name.lower())
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts]


def _check_clip(path: str | os.PathLike[str], count: int, height: int, width: int) -> None:
    if count > MAX_FRAMES:
        raise GonioError(f"{shown(path)} has {count} frames, the limit is {MAX_FRAMES}; cut it")
    size = count * height * width * 12  # float32 RGB
    if size > MAX_CLIP_BYTES:
        raise GonioError(
            f"{shown(path)} decodes to {count} frames of {width}x{height}, {size} bytes, "
            f"the limit is {MAX_CLIP_BYTES}; cut it or scale it down"
        )


def _read_file(path: str | os.PathLike[str]) -> Tensor:
    with _opened_video(path) as (container, stream):
        check_size(path, stream.height, stream.width, MAX_FRAME_PIXELS)
        _check_clip(path, max(stream.frames, 1), stream.height, stream.width)
        frames = _decoded(path, container, stream)
    clip = torch.empty(len(frames), *frames[0].shape)
    for index, frame in enumerate(frames):
        clip[index] = torch.from_numpy(frame)
    return clip.div_(255.0)


@contextmanager
def _opened_video(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    require_file(path)
    with open(path, "rb") as file:
        try:
            container = av.open(file, "r", options={"format_whitelist": _CONTAINERS})
        except Exception as error:
            raise GonioError(
                f"{shown(path)} is not a complete video Gonio reads ({reason(error)}); "
                "fetch it again or convert it to mp4"
            ) from error
        with container:
            if not container.streams.video:
                raise GonioError(f"{shown(path)} has no picture; name a video file")
            stream: Any = container.streams.video[0]
            if stream.codec_context is None:
                raise GonioError(f"{shown(path)} uses an unknown codec; convert it to H.264")
            # Damage must be reported, not concealed; a stream may also ask for more than its container says.
            stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(MAX_FRAME_PIXELS)}
            stream.thread_type = "AUTO"
            yield container, stream


def _decoded(path: str | os.PathLike[str], container: Any, stream: Any) -> list[np.ndarray]:
    """Every frame as [H, W, 3] uint8, upright."""
    frames: list[np.ndarray] = []
    packets = 0
    damaged = f"{shown(path)} is truncated or damaged"
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0 and not packet.is_discard
            if packet.is_corrupt:
                raise GonioError(f"{damaged} at frame {packets - 1}; fetch or encode it again")
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise GonioError(f"{damaged} at frame {len(frames)}; fetch or encode it again")
                frames.append(_rgb(path, frame))
                if frames[-1].shape != frames[0].shape:
                    raise GonioError(f"{shown(path)} changes its size midway; encode it again")
                _check_clip(path, len(frames), *frames[0].shape[:2])
    except (av.error.FFmpegError, ValueError, EOFError) as error:
        raise GonioError(f"{damaged} ({reason(error)}); fetch or encode it again") from error
    expected = max(stream.frames, packets)
    if len(frames) < expected or not frames:
        raise GonioError(f"{damaged}: {len(frames)} of {expected} frames decode; fetch or encode it again")
    return frames


def _rgb(path: str | os.PathLike[str], frame: Any) -> np.ndarray:
    if int(frame.color_trc) in _HDR_TRANSFERS:
        name = _HDR_TRANSFERS[int(frame.color_trc)]
        raise GonioError(f"{shown(path)} is {name} high dynamic range video; convert it to BT.709")
    turns, rest = divmod(frame.rotation, 90)
    if rest:
        raise GonioError(f"{shown(path)} is turned by {frame.rotation} degrees; encode it upright")
    matrix = int(frame.colorspace)
    source = _MATRICES.get(matrix)  # None: already RGB, or left to the library
    if matrix == _UNSPECIFIED:
        source = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    rgb = frame.reformat(format="rgb24", src_colorspace=source, interpolation=_RESAMPLING).to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, turns))  # both count counter-clockwise
