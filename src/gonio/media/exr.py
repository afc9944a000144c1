"""OpenEXR: named channels in and out, sizes checked before any pixel is decoded."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import OpenEXR
import torch
from torch import Tensor

from gonio.errors import GonioError
from gonio.media.limits import MAX_EXR_SAMPLES, check_size, read_bytes, reason, require_file, shown
from gonio.media.output import write_bytes

EXR_MAGIC = b"\x76\x2f\x31\x01"
_HALF_MAX = 65504.0
_SINGLE_NAMES = ("Y", "V", "R", "Z")
_REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
_OWN_ATTRIBUTES = frozenset(
    "channels compression dataWindow displayWindow lineOrder pixelAspectRatio screenWindowCenter "
    "screenWindowWidth type tiles version chunkCount name view chromaticities".split()
)


def exr_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of the data window, from the header."""
    return _checked_headers(path)[0]


def read_exr(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All channels, each [H, W] float32, keyed by full name ("R", "normal.X").

    Half and integer channels are converted. The data window is returned; the display window is ignored.
    Values may be NaN or infinite (a depth of infinity is common): colour readers check that themselves.
    Parts of one size are merged, a name that occurs twice is prefixed with its part's name. Deep and
    sub-sampled images and parts of different sizes are refused.
    """
    _checked_headers(path)
    with _library_messages() as messages:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the binding prints and goes on without the part
                file = OpenEXR.File(str(path), separate_channels=True)
            decoded = bool(file.parts) and all(part.channels for part in file.parts)
        except Exception as error:
            messages.clear()
            raise GonioError(
                f"{shown(path)} cannot be decoded as EXR ({reason(error)}); export it again"
            ) from error
        if not decoded:
            messages.clear()
            raise GonioError(f"{shown(path)} is truncated or damaged; fetch or export it again")
    channels: dict[str, Tensor] = {}
    for index, part in enumerate(file.parts):
        for name, channel in part.channels.items():
            key = name if name not in channels else f"{part.name() or index}.{name}"
            channels[key] = torch.from_numpy(np.ascontiguousarray(channel.pixels, dtype=np.float32))
    return channels


def read_exr_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text attributes of the first part, as `write_exr` takes them."""
    header = _checked_headers(path)[1][0]
    return {
        key: value for key, value in header.items() if isinstance(value, str) and key not in _OWN_ATTRIBUTES
    }


def write_exr(
    path: str | os.PathLike[str],
    channels: dict[str, Tensor],
    half: bool = True,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write named channels, each [H, W], ZIP-compressed, atomically.

    With `half`, channels are stored as 16-bit floats, except those that hold finite values beyond 65504:
    they stay 32-bit, because a sun must not turn into infinity.
    """
    sizes = {tuple(channel.shape) for channel in channels.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2:
        raise ValueError(f"EXR channels need one common [H, W] shape, got {sorted(sizes)}")
    reserved = sorted(_OWN_ATTRIBUTES.intersection(metadata or {}))
    if reserved:
        raise ValueError(f"EXR metadata may not use the reserved names {reserved}")
    header: dict[str, Any] = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    pixels = {name: _encoded(channel, half) for name, channel in channels.items()}
    buffer = io.BytesIO()
    OpenEXR.File(header | (metadata or {}), pixels).write(buffer)
    write_bytes(path, buffer.getvalue())


def read_exr_color(path: str | os.PathLike[str]) -> Tensor:
    """[H, W, 3] linear Rec.709 from R, G, B, else Y, else the only layer that has R, G, B."""
    header = _checked_headers(path)[1][0]
    primaries = header.get("chromaticities")
    if primaries is not None and not _is_rec709(primaries):
        raise GonioError(f"{shown(path)} has primaries other than Rec.709; convert it to linear Rec.709")
    return select_channels(path, read_exr(path), 3)


def select_channels(path: str | os.PathLike[str], channels: dict[str, Tensor], count: int) -> Tensor:
    """[H, W, count]: R, G, B (or X, Y, Z) for 3, the first of Y, V, R, Z or the only channel for 1."""
    if count == 1:
        usual = [name for name in _SINGLE_NAMES if name in channels]
        if usual or len(channels) == 1:
            return channels[usual[0] if usual else next(iter(channels))].unsqueeze(-1)
    else:
        layers = sorted({name.rpartition(".")[0] for name in channels})  # "" comes first
        found = []
        for layer in layers:
            prefix = f"{layer}." if layer else ""
            for triple in ("RGB", "rgb", "XYZ"):
                if all(prefix + letter in channels for letter in triple):
                    found.append([channels[prefix + letter] for letter in triple])
                    break
        if len(found) == 1 or (found and layers[0] == "" and "R" in channels):
            return torch.stack(found[0], dim=-1)
        if not found and "Y" in channels:
            return channels["Y"].unsqueeze(-1).expand(-1, -1, 3).contiguous()
    listed = ", ".join(shown(name) for name in sorted(channels)[:12])
    wanted = "R, G, B" if count == 3 else "a single channel"
    raise GonioError(f"{shown(path)} has the channels {listed}; export it with {wanted}")


def _is_rec709(primaries: Any) -> bool:
    values = np.asarray(primaries, dtype=float).ravel()
    return values.shape == (8,) and bool(np.allclose(values, _REC709, atol=2e-3))


def _encoded(channel: Tensor, half: bool) -> np.ndarray:
    values = channel.detach().to("cpu", torch.float32)
    finite = values[torch.isfinite(values)]
    fits = finite.numel() == 0 or float(finite.abs().max()) <= _HALF_MAX
    return np.ascontiguousarray(values.numpy(), dtype=np.float16 if half and fits else np.float32)


def _checked_headers(path: str | os.PathLike[str]) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """((height, width), one header per part), after every limit has been checked."""
    require_file(path)
    if read_bytes(path, 4) != EXR_MAGIC:
        raise GonioError(f"{shown(path)} is not an EXR file; export it as OpenEXR")
    with _library_messages() as messages:
        try:
            headers = [part.header for part in OpenEXR.File(str(path), header_only=True).parts]
            windows = [np.asarray(header["dataWindow"], dtype=np.int64) for header in headers]
            layouts = [
                [(int(c.xSampling), int(c.ySampling)) for c in header["channels"]] for header in headers
            ]
        except Exception as error:
            messages.clear()
            raise GonioError(
                f"{shown(path)} has a damaged EXR header ({reason(error)}); fetch or export it again"
            ) from error
    sizes = [(int(w[1, 1] - w[0, 1]) + 1, int(w[1, 0] - w[0, 0]) + 1) for w in windows]
    for height, width in sizes:
        check_size(path, height, width)
    if not sizes or not all(layouts):
        raise GonioError(f"{shown(path)} holds no channels; export it again")
    if len(set(sizes)) != 1:
        raise GonioError(f"{shown(path)} has parts of different sizes; export one part")
    if any(header.get("type") in (OpenEXR.deepscanline, OpenEXR.deeptile) for header in headers):
        raise GonioError(f"{shown(path)} is a deep image; flatten it")
    if any(sampling != (1, 1) for layout in layouts for sampling in layout):
        raise GonioError(f"{shown(path)} has sub-sampled channels; export it as RGB")
    samples = sizes[0][0] * sizes[0][1] * sum(len(layout) for layout in layouts)
    if samples > MAX_EXR_SAMPLES:
        raise GonioError(
            f"{shown(path)} holds {samples} samples over all channels, the limit is {MAX_EXR_SAMPLES}; "
            "scale it down or drop channels"
        )
    return sizes[0], headers


_stderr_lock = threading.Lock()


@contextlib.contextmanager
def _library_messages() -> Iterator[_Messages]:
    """Hold back what the C library prints to stderr; it is replayed on success, dropped by `clear()`.

    The library reports a damaged file both as an exception and as a line of its own. Ours is the one line a
    person should see.
    """
    with _stderr_lock, tempfile.TemporaryFile() as store:
        messages = _Messages()
        saved = os.dup(2)
        os.dup2(store.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            store.seek(0)
            held = store.read()
            if held and messages.wanted:
                os.write(2, held)


class _Messages:
    """Whether the held-back lines are still wanted."""

    def __init__(self) -> None:
        self.wanted = True

    def clear(self) -> None:
        self.wanted = False
