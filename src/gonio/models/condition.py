"""How a photo reaches an image model: as channels behind the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from gonio.models.spec import MASK_CHANNELS


def image_condition(photo_latents: Tensor) -> Tensor:
    """Mask, then latents of a clip of the photo followed by grey frames.

    photo_latents [..., z, f, h, w] -> [..., 4 + z, f, h, w]. The mask says that the first frame is given.
    """
    mask = torch.zeros_like(photo_latents[..., :1, :, :, :]).repeat_interleave(MASK_CHANNELS, -4)
    mask[..., :1, :, :] = 1
    return torch.cat([mask, photo_latents], -4)
