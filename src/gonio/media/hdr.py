"""Radiance .hdr (RGBE). Mitsuba's bitmap decodes and encodes; the header is checked here first."""

from __future__ import annotations

import os
import re

import mitsuba as mi
import numpy as np
import torch
from torch import Tensor

from gonio.errors import GonioError
from gonio.media.limits import check_size, read_bytes, reason, shown
from gonio.media.output import write_bytes

HDR_MAGIC = b"#?"
_HEADER_BYTES = 65536
_RGBE_MAX = 255.0 * 2.0**119  # mantissa 255, exponent byte 255


def hdr_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) from the header; refuses layouts other than top-down, left-to-right RGBE."""
    head = read_bytes(path, _HEADER_BYTES)
    if not head.startswith(HDR_MAGIC):
        raise GonioError(f"{shown(path)} is not a Radiance HDR file; export it as .hdr")
    if b"FORMAT=32-bit_rle_xyze" in head:
        raise GonioError(f"{shown(path)} is stored as XYZE; convert it to RGBE")
    match = re.search(rb"\n([-+][XY]) +(\d{1,9}) +([-+][XY]) +(\d{1,9})\n", head)
    if match is None:
        raise GonioError(f"{shown(path)} has a damaged HDR header; fetch or export it again")
    if (match[1], match[3]) != (b"-Y", b"+X"):
        raise GonioError(f"{shown(path)} is stored mirrored or turned; export it top-down, left to right")
    height, width = int(match[2]), int(match[4])
    check_size(path, height, width)
    return height, width


def read_hdr(path: str | os.PathLike[str]) -> Tensor:
    """[H, W, 3] linear."""
    height, width = hdr_size(path)
    try:  # by path: Mitsuba's memory stream ends the process on a truncated file
        bitmap = mi.Bitmap(os.fspath(path), mi.Bitmap.FileFormat.RGBE)
        values = np.array(bitmap, dtype=np.float32)
    except Exception as error:
        raise GonioError(
            f"{shown(path)} is truncated or damaged HDR ({reason(error)}); fetch or export it again"
        ) from error
    if values.shape != (height, width, 3):
        raise GonioError(f"{shown(path)} decodes to another size than its header says; export it again")
    return torch.from_numpy(values)


def write_hdr(path: str | os.PathLike[str], linear: Tensor) -> None:
    """[H, W, 3] linear, non-negative; stored with a shared exponent and 8-bit mantissas, atomically."""
    stream = mi.MemoryStream()
    rounded = _rounded_to_rgbe(linear.detach().to("cpu", torch.float32))
    mi.Bitmap(np.ascontiguousarray(rounded.numpy())).write(stream, mi.Bitmap.FileFormat.RGBE)
    write_bytes(path, stream.raw_buffer())


def _rounded_to_rgbe(linear: Tensor) -> Tensor:
    """The nearest values that RGBE holds: the encoder truncates, which would darken by half a step."""
    clipped = linear.clamp(0.0, _RGBE_MAX)
    _, exponent = torch.frexp(clipped.amax(dim=-1, keepdim=True))
    step = torch.ldexp(torch.ones_like(clipped[..., :1]), exponent - 8)
    return (clipped / step).round().clamp_max(255.0) * step
