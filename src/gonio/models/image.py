"""The image encoder of Wan's image model: CLIP ViT-H, of which the layer before the last is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gonio.errors import GonioError
from gonio.models.hub import cached_part
from gonio.models.pretrained import complete_model, load_pretrained
from gonio.models.spec import VideoModelSpec

# Of CLIP's training pictures, per channel, display-encoded.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder:
    """A picture to the tokens [1, M, D] an image model attends to beside its text."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.size = int(model.config.image_size)

    @torch.inference_mode()
    def encode(self, picture: Tensor) -> Tensor:
        """picture [H, W, 3] display-encoded in [0, 1], square -> [1, M, D] float32 (257 x 1280 for ViT-H)."""
        planes = interpolate(
            picture.permute(2, 0, 1)[None].float(),
            size=(self.size, self.size),
            mode="bicubic",
            antialias=True,
            align_corners=False,
        ).clamp(0, 1)
        center, scale = (planes.new_tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _DEVIATION))
        pixels = ((planes - center) / scale).to(self.model.device, self.model.dtype)
        return self.model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2].float()


def load_image_encoder(
    spec: VideoModelSpec, folder: Path | None = None, *, dtype: torch.dtype = torch.float32
) -> ImageEncoder:
    """A model's, from a folder in diffusers layout (with image_encoder/, or its own) or the hub's cache."""
    from transformers import CLIPVisionModel

    if folder is None:
        folder = cached_part(str(spec.hub), "image_encoder")
    place = folder / "image_encoder" if (folder / "image_encoder").is_dir() else folder
    if not (place / "config.json").is_file():
        raise GonioError(f"{folder}: has no image_encoder/config.json; name a folder in diffusers layout")

    def load() -> ImageEncoder:
        return ImageEncoder(complete_model(CLIPVisionModel, place).to(dtype).eval())

    return load_pretrained(place, "CLIP image encoder", load)
