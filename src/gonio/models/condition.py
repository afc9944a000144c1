"""What a model is told beside the prompt, in channels behind the noise: the place in the sample, a layout
that the prompt recalls, and a photo."""

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


def condition(
    spec: VideoModelSpec,
    latents: Tensor,
    photo_latents: Tensor | None = None,
    given: Tensor | None = None,
    recalled: Tensor | None = None,
) -> Tensor | None:
    """The channels behind latents [B, z, f, h, w]: [B, C, f, h, w], None where the model takes none.

    Places first, then what is recalled, then for an image model mask and photo, so that an image model
    widens a text model. photo_latents: of `photo_clip`, like the latents. given: [B] whether there is a
    photo; where there is none, its channels are zero, mask and all, and so the model's prediction is that of
    a text model. recalled: [B, memory, f, h, w]; where nothing is, zero.
    """
    parts = []
    if spec.position_octaves is not None:
        height, width = latents.shape[-2:]
        places = position_channels(height, width, spec.position_octaves)
        shape = (len(latents), len(places), *latents.shape[2:])
        parts.append(places[None, :, None].to(latents).expand(shape))
    if spec.memory:
        nothing = latents.new_zeros(len(latents), spec.memory, *latents.shape[2:])
        parts.append(nothing if recalled is None else recalled.to(latents))
    if photo_latents is not None:
        told = image_condition(photo_latents)
        parts.append(told if given is None else told * given.to(told)[:, None, None, None, None])
    return torch.cat(parts, 1) if parts else None


def without_photo(spec: VideoModelSpec, told: Tensor) -> Tensor:
    """What the model sees [B, C, f, h, w], noise and all, as if there were no photo."""
    told = told.clone()
    told[:, -spec.photo_channels :] = 0
    return told


def without_memory(spec: VideoModelSpec, told: Tensor) -> Tensor:
    """What the model sees [B, C, f, h, w], noise and all, as if nothing were recalled."""
    told = told.clone()
    first = spec.latent_channels + spec.position_channels
    told[:, first : first + spec.memory] = 0
    return told


def position_channels(height: int, width: int, octaves: int) -> Tensor:
    """Places x, y in (0, 1) of the latents' centres, rows downwards. [2 + 4 octaves, h, w]

    2 x - 1, 2 y - 1, then for every octave o sin and cos of 2 pi 2^o x, and of y.
    """
    rows, columns = ((torch.arange(n) + 0.5) / n for n in (height, width))
    down, right = torch.meshgrid(rows, columns, indexing="ij")
    found = [2 * right - 1, 2 * down - 1]
    for octave in range(octaves):
        for place in (right, down):
            angle = 2 * torch.pi * 2**octave * place
            found += [angle.sin(), angle.cos()]
    return torch.stack(found)


def image_condition(photo_latents: Tensor) -> Tensor:
    """Mask, then latents of `photo_clip`.

    photo_latents [..., z, f, h, w] -> [..., 4 + z, f, h, w]. The mask says that the first frame is given.
    """
    mask = torch.zeros_like(photo_latents[..., :1, :, :, :]).repeat_interleave(MASK_CHANNELS, -4)
    mask[..., :1, :, :] = 1
    return torch.cat([mask, photo_latents], -4)
