"""How a photo reaches an image model: as channels behind the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from gonio.models.spec import MASK_CHANNELS, VideoModelSpec


def photo_clip(spec: VideoModelSpec, picture: Tensor, frames: int) -> Tensor:
    """What is encoded of a photo [H, W, 3] display-encoded. [F, H, W, 3]

    It and grey frames after it, as in Wan; where frames are stacked, it in every frame, so that the
    autoencoder sees a clip of its kind.
    """
    if spec.stacked:
        return picture.expand(frames, *picture.shape)
    return torch.cat([picture[None], torch.full((frames - 1, *picture.shape), 0.5)])


def image_condition(photo_latents: Tensor) -> Tensor:
    """Mask, then latents of `photo_clip`.

    photo_latents [..., z, f, h, w] -> [..., 4 + z, f, h, w]. The mask says that the first frame is given.
    """
    mask = torch.zeros_like(photo_latents[..., :1, :, :, :]).repeat_interleave(MASK_CHANNELS, -4)
    mask[..., :1, :, :] = 1
    return torch.cat([mask, photo_latents], -4)
