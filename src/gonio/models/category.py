"""The judge of categories: a linear head on what EfficientNet-Lite sees in three pictures of a material.

A network trained on photographs of everything knows wood from brick where one trained on a few thousand
materials learns them by heart. So only the head is ours, and it is linear.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gonio import media
from gonio.errors import GonioError
from gonio.models.attributes import LIGHTS
from gonio.models.efficientnet_lite import VARIANTS, EfficientNetLite
from gonio.models.weight_files import read_small, require_shapes

SCHEMA = 1
SIZE = 192  # pixels a side of the pictures
# Lights at right angles: relief that runs along one of them shows under the other.
SINGLE_LIGHTS = (0, 2)
PICTURES = 1 + len(SINGLE_LIGHTS)
MAX_FILE_BYTES = 16 << 20
MAX_CATEGORIES = 1000


def light_pictures(overhead: Tensor, lights: Sequence[int] = SINGLE_LIGHTS) -> Tensor:
    """What the judge looks at: the mean over the light's circle, then the frames of single `lights`.

    overhead: [..., 8, S, S, 3] display-encoded in [0, 1], light at azimuth 0, 45 ... 315 degrees, camera at
    the zenith. [..., 3, S, S, 3]; any size, but what the judge expects is `SIZE`, see `enlarged`.
    """
    if overhead.shape[-4] != LIGHTS:
        raise GonioError(f"category judge: {overhead.shape[-4]} overhead frames, expected {LIGHTS}")
    mean = overhead.mean(-4, keepdim=True)
    return torch.cat([mean, overhead[..., list(lights), :, :, :]], -4)


def enlarged(pictures: Tensor, size: int = SIZE) -> Tensor:
    """Pictures [P, S, S, 3] -> [P, size, size, 3], bilinearly, as a small video is rectified to `size`."""
    if pictures.shape[-2] == size:
        return pictures
    planes = interpolate(pictures.movedim(-1, 1), (size, size), mode="bilinear", align_corners=False)
    return planes.movedim(1, -1)


def turned_pictures(pictures: Tensor, symmetry: int) -> Tensor:
    """Pictures [..., S, S, 3], mirrored in u (4 to 7), then turned counter-clockwise `symmetry` quarters."""
    pictures = pictures.flip(-2) if symmetry >= 4 else pictures
    return torch.rot90(pictures, symmetry % 4, (-3, -2))


class CategoryJudge(nn.Module):
    """Pictures [B, P, S, S, 3], display-encoded in [0, 1] -> logits [B, C] of `categories`."""

    def __init__(self, categories: Sequence[str], features: EfficientNetLite | None = None) -> None:
        super().__init__()
        if not 1 <= len(categories) <= MAX_CATEGORIES:
            raise GonioError(
                f"category judge: {len(categories)} categories, allowed are 1 to {MAX_CATEGORIES}"
            )
        self.categories = tuple(categories)
        self.features = features if features is not None else EfficientNetLite()
        self.head = nn.Linear(self.features.width, len(categories))

    def forward(self, pictures: Tensor) -> Tensor:
        """The mean of the logits of a material's pictures."""
        found = self.features(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        return self.head(found).mean(1)


def save_category_judge(path: Path, judge: CategoryJudge, provenance: dict[str, Any]) -> None:
    """Features as half floats; the head, which is small and sees the sums of many, as single ones."""
    tensors = {}
    for name, value in judge.state_dict().items():
        dtype = torch.float16 if name.startswith("features.") else torch.float32
        tensors[name] = value.detach().cpu().to(dtype).contiguous()
    metadata = {
        "schema": f"gonio-category/{SCHEMA}",
        "categories": json.dumps(judge.categories),
        "network": judge.features.variant,
        "provenance": json.dumps(provenance),
    }
    media.write_bytes(path, save(tensors, metadata=metadata))


def load_category_judge(path: Path) -> CategoryJudge:
    """A judge's file, ready to evaluate; every key and shape must fit. Raises GonioError."""
    metadata, tensors = read_small(path, f"gonio-category/{SCHEMA}", MAX_FILE_BYTES)
    variant = metadata.get("network", "lite0")
    if variant not in VARIANTS:
        raise GonioError(f"{path}: a judge on {variant[:20]!r}; known are {', '.join(VARIANTS)}")
    judge = CategoryJudge(_categories(path, metadata), EfficientNetLite(variant))
    expected = {name: tuple(value.shape) for name, value in judge.state_dict().items()}
    require_shapes(path, {name: tuple(value.shape) for name, value in tensors.items()}, expected)
    judge.load_state_dict({name: value.float() for name, value in tensors.items()})
    return judge.eval().requires_grad_(False)


def _categories(path: Path, metadata: dict[str, str]) -> list[str]:
    try:
        words = json.loads(metadata["categories"])
    except (KeyError, ValueError, RecursionError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise GonioError(f"{path}: its categories are no list of words; install gonio again")
    return words
