"""Pictures for eyes: display-encoded [H, W, 3] in [0, 1] made of tensors that are not pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gonio.errors import GonioError, UsageError

# Diverging scale of the offset maps: red below zero, near-white at zero, blue above.
_NEGATIVE = (0.73, 0.10, 0.13)
_ZERO = (0.97, 0.97, 0.96)
_POSITIVE = (0.10, 0.32, 0.68)
# Ten evenly spaced colours of the magma scale, dark for no error.
_MAGMA = (
    (0x00, 0x00, 0x04),
    (0x18, 0x0F, 0x3D),
    (0x44, 0x0F, 0x76),
    (0x72, 0x1F, 0x81),
    (0x9E, 0x2F, 0x7F),
    (0xCD, 0x40, 0x71),
    (0xF1, 0x60, 0x5D),
    (0xFD, 0x96, 0x68),
    (0xFE, 0xCA, 0x8D),
    (0xFC, 0xFD, 0xBF),
)
# What commands call a sheet of the things they made beside it.
CONTACT_SHEET = "contact_sheet.png"
_GAP = 8
_PAPER = 250
_INK = (40, 40, 40)


def offset_picture(offset: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """The two axes of an offset map [H, W, 2] as pictures (U, V), each [H, W, 3].

    Red is -limit, near-white is zero, blue is +limit; the unit is the offset's own.
    """
    if offset.ndim != 3 or offset.shape[-1] != 2:
        raise GonioError(f"offset picture: {list(offset.shape)} is not [H, W, 2]")
    if not limit > 0:
        raise UsageError(f"offset picture: limit {limit}; give a positive number")
    share = (offset.detach().cpu().float() / limit).clamp(-1, 1)[..., None]  # [H, W, 2, 1]
    zero = torch.tensor(_ZERO)
    end = torch.where(share < 0, torch.tensor(_NEGATIVE), torch.tensor(_POSITIVE))
    picture = torch.lerp(zero, end, share.abs())
    return picture[:, :, 0], picture[:, :, 1]


def latent_picture(texture: Tensor) -> Tensor:
    """First three principal components of a texture [H, W, C] as red, green and blue [H, W, 3].

    Each component runs from its 1st to its 99th percentile; a component that carries nothing is mid-grey.
    Signs are fixed by the largest loading, so the same texture always looks the same.
    """
    if texture.ndim != 3:
        raise GonioError(f"latent picture: {list(texture.shape)} is not [H, W, C]")
    height, width, channels = texture.shape
    flat = texture.detach().cpu().double().reshape(-1, channels)
    flat = flat - flat.mean(0)
    variance, axes = torch.linalg.eigh(flat.T @ flat / flat.shape[0])
    picture = torch.full((height * width, 3), 0.5, dtype=torch.float64)
    for component in range(min(3, channels)):
        # eigh sorts upwards.
        axis = axes[:, -1 - component]
        if variance[-1 - component] <= 1e-9 * variance[-1] or variance[-1] <= 0:
            continue
        values = flat @ (axis * axis[axis.abs().argmax()].sign())
        low, high = np.percentile(values.numpy(), [1, 99])
        if high > low:
            picture[:, component] = ((values - low) / (high - low)).clamp(0, 1)
    return picture.reshape(height, width, 3).float()


def error_picture(error: Tensor) -> Tensor:
    """An error map [H, W] in [0, 1] (FLIP) in the magma scale [H, W, 3]: black is none, pale yellow is 1."""
    if error.ndim != 2:
        raise GonioError(f"error picture: {list(error.shape)} is not [H, W]")
    colours = torch.tensor(_MAGMA, dtype=torch.float32) / 255
    place = error.detach().cpu().float().clamp(0, 1) * (len(_MAGMA) - 1)
    below = place.floor().long().clamp_max(len(_MAGMA) - 2)
    return torch.lerp(colours[below], colours[below + 1], (place - below)[..., None])


def contact_sheet(rows: list[list[Tensor]], labels: list[list[str]]) -> Tensor:
    """Pictures [H, W, 3] (display-encoded, any sizes) in rows, each with its label below it -> [H, W, 3].

    `labels` has the shape of `rows`; an empty label leaves its place free.
    """
    if not rows or not all(rows) or [len(row) for row in rows] != [len(row) for row in labels]:
        raise GonioError("contact sheet: give at least one picture per row and one label per picture")
    for picture in (picture for row in rows for picture in row):
        if picture.ndim != 3 or picture.shape[-1] != 3:
            raise GonioError(f"contact sheet: {list(picture.shape)} is not [H, W, 3]")
    cell_height = [max(picture.shape[0] for picture in row) for row in rows]
    columns = max(len(row) for row in rows)
    cell_width = [max(row[i].shape[1] for row in rows if i < len(row)) for i in range(columns)]
    size = min(16, max(9, min(cell_width) // 10))
    font = ImageFont.load_default(size=size)
    caption = size + _GAP

    width = sum(cell_width) + _GAP * (columns + 1)
    height = sum(cell_height) + (caption + _GAP) * len(rows) + _GAP
    sheet = Image.new("RGB", (width, height), (_PAPER,) * 3)
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for row, texts, row_height in zip(rows, labels, cell_height, strict=True):
        left = _GAP
        for picture, text, column_width in zip(row, texts, cell_width, strict=False):
            sheet.paste(image_from_display(picture), (left, top))
            label = _shortened(text, font, column_width)
            draw.text((left, top + row_height + 2), label, fill=_INK, font=font)
            left += column_width + _GAP
        top += row_height + caption + _GAP
    return torch.from_numpy(np.asarray(sheet).copy()).float() / 255


def picture_grid(pictures: list[Tensor], labels: list[str], columns: int) -> Tensor:
    """A contact sheet of pictures in rows of `columns`."""
    columns = min(columns, len(pictures))
    starts = range(0, len(pictures), columns)
    rows = [pictures[i : i + columns] for i in starts]
    return contact_sheet(rows, [labels[i : i + columns] for i in starts])


def image_from_display(picture: Tensor) -> Image.Image:
    """A display-encoded picture [H, W, 3] as an 8-bit Pillow image; values are clipped and rounded."""
    values = picture.detach().cpu().float().nan_to_num(0.0).clamp(0, 1)
    return Image.fromarray((values * 255).round().to(torch.uint8).numpy(), "RGB")


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, or as much of it as fits the width with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
