"""Images by content, not by name: integer formats, EXR and HDR into float tensors, and back."""

from __future__ import annotations

import io
import os
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from gonio.color import linear_from_srgb, srgb_from_linear
from gonio.errors import GonioError
from gonio.media.exr import EXR_MAGIC, exr_size, read_exr, read_exr_color, select_channels, write_exr
from gonio.media.hdr import HDR_MAGIC, hdr_size, read_hdr, write_hdr
from gonio.media.limits import check_finite, check_size, read_bytes, reason, require_file, shown
from gonio.media.output import write_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".exr", ".hdr")
_FORMATS = ["PNG", "JPEG", "TIFF", "BMP", "WEBP"]
_GREY_MODES = ("1", "L", "LA", "La")
_COLOR_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
_EXIF_ORIENTATION = 0x0112
_BLOCK_ROWS = 256


def read_color(path: str | os.PathLike[str]) -> Tensor:
    """[H, W, 3] linear Rec.709.

    Integer formats of 8 and 16 bits are sRGB-decoded (an embedded colour profile of an 8-bit image is
    converted to sRGB first), EXR and HDR are taken as linear and must be finite. Alpha is dropped, grey is
    repeated, EXIF orientation is applied, the first frame of an animation is taken.
    """
    kind = _kind(path)
    if kind == "exr":
        return check_finite(path, read_exr_color(path))
    if kind == "hdr":
        return check_finite(path, read_hdr(path))
    return _as_channels(_scaled(_integers(path, color=True), decode_srgb=True), 3)


def read_data(path: str | os.PathLike[str], channels: int) -> Tensor:
    """[H, W, channels] raw values, channels 1 or 3; integer formats in [0, 1], no colour decoding.

    One channel of a colour image is its first (red) channel, three channels of a grey image repeat it.
    EXR and HDR values are returned as stored and must be finite. EXIF orientation is applied.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    kind = _kind(path)
    if kind == "exr":
        return check_finite(path, select_channels(path, read_exr(path), channels))
    if kind == "hdr":
        return _as_channels(check_finite(path, read_hdr(path)), channels)
    return _as_channels(_scaled(_integers(path, color=False), decode_srgb=False), channels)


def read_display(path: str | os.PathLike[str]) -> Tensor:
    """[H, W, 3] display-encoded in [0, 1]: integers as stored, EXR and HDR sRGB-encoded, clipped."""
    if _kind(path) == "image":
        return _as_channels(_scaled(_integers(path, color=True), decode_srgb=False), 3)
    return srgb_from_linear(read_color(path))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) as the readers will return it, checked against the limits.

    Headers suffice, except for a PNG: its EXIF block may follow the pixels, so these are decoded.
    """
    kind = _kind(path)
    if kind == "exr":
        return exr_size(path)
    if kind == "hdr":
        return hdr_size(path)
    with _opened(path) as image:
        turned = _orientation(path, image) >= 5 and image.format != "TIFF"  # there Pillow states it turned
        return (image.width, image.height) if turned else (image.height, image.width)


def write_image(path: str | os.PathLike[str], linear: Tensor) -> None:
    """Write [H, W, 3] linear Rec.709: .exr half floats, .hdr RGBE, .png and .jpg sRGB-encoded and rounded."""
    _check_image(linear, "write_image", (3,))
    check_finite(path, linear)
    suffix = Path(path).suffix.lower()
    if suffix == ".exr":
        write_exr(path, dict(zip("RGB", linear.unbind(-1), strict=True)))
    elif suffix == ".hdr":
        write_hdr(path, linear)
    elif suffix in (".png", ".jpg", ".jpeg"):
        options = {"quality": 95, "subsampling": 0} if suffix != ".png" else {}
        pixels = Image.fromarray(_quantized(srgb_from_linear(linear), 8))
        buffer = io.BytesIO()
        pixels.save(buffer, "PNG" if suffix == ".png" else "JPEG", **options)
        write_bytes(path, buffer.getvalue())
    else:
        raise GonioError(f"cannot write {shown(path)}: name it .png, .jpg, .exr or .hdr")


def write_data_png(path: str | os.PathLike[str], data: Tensor, bits: int = 8) -> None:
    """Write [H, W] or [H, W, 3] raw values as an 8- or 16-bit PNG, clipped to [0, 1] and rounded."""
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, got {bits}")
    if data.ndim != 2:
        _check_image(data, "write_data_png", (3,))
    check_finite(path, data if data.ndim == 3 else data.unsqueeze(-1))
    pixels = _quantized(data, bits)
    if bits == 16 and data.ndim == 3:
        write_bytes(path, _encoded_rgb48_png(pixels))
        return
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def _kind(path: str | os.PathLike[str]) -> str:
    head = read_bytes(path, 4)
    if head == EXR_MAGIC:
        return "exr"
    return "hdr" if head.startswith(HDR_MAGIC) else "image"


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    """The image with its header read and its size checked; no pixel is decoded yet."""
    require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limits follow, and decoding reports real damage
            image = Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise GonioError(f"{shown(path)} is too large ({reason(error)}); scale it down") from error
    except Image.UnidentifiedImageError as error:
        raise GonioError(
            f"{shown(path)} is not an image Gonio reads; save it as PNG, JPEG, TIFF, BMP, WebP, EXR or HDR"
        ) from error
    except Exception as error:
        raise GonioError(f"{shown(path)} has a damaged header ({reason(error)}); export it again") from error
    check_size(path, image.height, image.width)
    return image


def _integers(path: str | os.PathLike[str], *, color: bool) -> np.ndarray:
    """[H, W] or [H, W, 3], uint8 or uint16, upright. `color` honours an embedded colour profile."""
    with _opened(path) as image:
        deep = "16" in _raw_mode(image)
        orientation = _orientation(path, image)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                codec = "tiff" if image.format == "TIFF" else "png"
                image.load()
        except Exception as error:
            raise GonioError(
                f"{shown(path)} is truncated or damaged ({reason(error)}); fetch or export it again"
            ) from error
        if image.format == "TIFF":  # Pillow turns TIFF itself, when its own decoder is used
            if deep and orientation != 1:
                raise GonioError(f"{shown(path)} is a turned 16-bit TIFF; save it upright, or as PNG")
            orientation = 1
        if image.mode.startswith("I;16"):
            pixels = np.asarray(image).astype(np.uint16)
        elif deep:
            pixels = _decoded_16_bit(path, codec)
        elif image.mode in _GREY_MODES:
            pixels = np.asarray(image.convert("L"))
        elif image.mode in _COLOR_MODES:
            pixels = np.asarray(_as_rgb(path, image) if color else image.convert("RGB"))
        else:
            raise GonioError(f"{shown(path)} has the pixel type {image.mode}; save it as PNG or EXR")
    return _upright(pixels, orientation)


def _raw_mode(image: Image.Image) -> str:
    """How the samples are stored, e.g. "RGB;16B": Pillow itself reduces 16-bit colour to 8 bits."""
    tiles: list = getattr(image, "tile", [])
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _as_rgb(path: str | os.PathLike[str], image: Image.Image) -> Image.Image:
    """RGB in sRGB primaries and encoding, by the embedded profile where there is one that says otherwise."""
    embedded = image.info.get("icc_profile")
    if not embedded or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image.convert("RGB")
        source = image if image.mode == "CMYK" else image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(source, profile, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise GonioError(
            f"{shown(path)} has a damaged colour profile ({reason(error)}); save it as sRGB without a profile"
        ) from error
    assert converted is not None  # only in-place conversion returns None
    return converted


def _decoded_16_bit(path: str | os.PathLike[str], codec: str) -> np.ndarray:
    """[H, W] or [H, W, 3] uint16. Pillow has checked the stream; FFmpeg keeps all 16 bits of it."""
    try:
        decoder = av.CodecContext.create(codec, "r")
        packet = av.Packet(read_bytes(path))
        frame = (decoder.decode(packet) or decoder.decode(None))[0]  # type: ignore[attr-defined]
        channels = {"gray16": 1, "ya16": 2, "rgb48": 3, "rgba64": 4}[frame.format.name[:-2]]
    except Exception as error:
        raise GonioError(
            f"{shown(path)} holds 16-bit samples in an uncommon layout ({reason(error)}); save it as PNG"
        ) from error
    samples = np.dtype(">u2" if frame.format.name.endswith("be") else "<u2")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, dtype=samples).reshape(frame.height, plane.line_size // 2)
    pixels = rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels).astype(np.uint16)
    return pixels[..., 0] if channels <= 2 else pixels[..., :3]


def _encoded_rgb48_png(pixels: np.ndarray) -> bytes:
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = pixels.shape[:2]  # type: ignore[attr-defined]
    encoder.pix_fmt = "rgb48be"  # type: ignore[attr-defined]
    encoder.time_base = Fraction(1, 1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb48be")
    packets = [*encoder.encode(frame), *encoder.encode(None)]  # type: ignore[attr-defined]
    return b"".join(bytes(packet) for packet in packets)


def _orientation(path: str | os.PathLike[str], image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except OSError as error:
        raise GonioError(
            f"{shown(path)} is truncated or damaged ({reason(error)}); fetch or export it again"
        ) from error
    except Exception as error:
        raise GonioError(f"{shown(path)} has damaged EXIF data ({reason(error)}); save it without") from error
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply the EXIF orientation (EXIF 2.32, tag 0x0112)."""
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _scaled(pixels: np.ndarray, *, decode_srgb: bool) -> Tensor:
    """uint8 or uint16 -> float32 in [0, 1], through a table and in blocks of rows to bound the memory."""
    top = np.iinfo(pixels.dtype).max
    table = torch.arange(top + 1, dtype=torch.float64) / top
    values = (linear_from_srgb(table) if decode_srgb else table).to(torch.float32).numpy()
    scaled = np.empty(pixels.shape, dtype=np.float32)
    for row in range(0, pixels.shape[0], _BLOCK_ROWS):
        scaled[row : row + _BLOCK_ROWS] = values[pixels[row : row + _BLOCK_ROWS]]
    return torch.from_numpy(scaled)


def _as_channels(values: Tensor, channels: int) -> Tensor:
    if values.ndim == 2:
        return values.unsqueeze(-1).repeat(1, 1, channels)
    return values if channels == 3 else values[..., :1].contiguous()


def _quantized(values: Tensor, bits: int) -> np.ndarray:
    top = 2**bits - 1
    scaled = (values.detach().to("cpu", torch.float64).clamp(0.0, 1.0) * top).round()
    return scaled.numpy().astype(np.uint8 if bits == 8 else np.uint16)


def _check_image(values: Tensor, function: str, channels: tuple[int, ...]) -> None:
    if values.ndim != 3 or values.shape[-1] not in channels or 0 in values.shape:
        raise ValueError(f"{function} takes [H, W, {channels[0]}], got {list(values.shape)}")
