"""A small network that tells what a material is from how its look changes with the light.

It does not see frames but pictures of their statistics over the light's circle: mean and maximum, spread, and
the first harmonic, which follows the slopes. Mirroring or turning the sample turns only the harmonic.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import relu

from gonio import media
from gonio.color import luminance
from gonio.errors import GonioError
from gonio.models.weight_files import read_small

SCHEMA = 1
LIGHTS = 8  # overhead frames, light every 45 degrees
CAMERAS = 4  # orbit frames, camera every 90 degrees
STATISTICS = 13
_COSINE, _SINE = 8, 9
MAX_FILE_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class AttributeSpec:
    """size: pixels per side of the pictures; categories: the words of the first head, in order."""

    size: int
    categories: tuple[str, ...]
    widths: tuple[int, ...] = (24, 48, 96, 128)

    def __post_init__(self) -> None:
        if not self.categories or not 1 <= len(self.widths) <= 6:
            raise GonioError("attribute network: give categories and 1 to 6 widths")
        if not all(1 <= width <= 1024 for width in self.widths):
            raise GonioError(f"attribute network: widths {self.widths}, each from 1 to 1024")
        # Deviations over the last layer need two pixels a side, at half the size too, as in training.
        smallest = 2 * (2 ** len(self.widths) + 1)
        if not smallest <= self.size <= 512:
            raise GonioError(f"attribute network: size {self.size}, allowed are {smallest} to 512")


def light_statistics(overhead: Tensor, orbit: Tensor) -> Tensor:
    """What the network sees. [..., 13, S, S], display-encoded units.

    overhead: [..., 8, S, S, 3] display-encoded, light at azimuth 0, 45 ... 315 degrees, camera at the zenith;
    orbit: [..., 4, S, S, 3] rectified, camera every 90 degrees, light at the zenith.
    Mean RGB, maximum RGB, least luminance, its deviation, its cosine and sine over the azimuth; mean, least
    and largest luminance over the orbit.
    """
    shade, seen = luminance(overhead), luminance(orbit)
    azimuth = torch.arange(LIGHTS).to(overhead) * (2 * math.pi / LIGHTS)
    waves = torch.stack([azimuth.cos(), azimuth.sin()]) * (2 / LIGHTS)
    harmonic = torch.einsum("kl,...lyx->...kyx", waves, shade)
    single = torch.stack([shade.amin(-3), shade.std(-3, correction=0)], -3)
    around = torch.stack([seen.mean(-3), seen.amin(-3), seen.amax(-3)], -3)
    mean, largest = overhead.mean(-4).movedim(-1, -3), overhead.amax(-4).movedim(-1, -3)
    return torch.cat([mean, largest, single, harmonic, around], -3)


def turned_statistics(statistics: Tensor, symmetry: int) -> Tensor:
    """The statistics of the sample after one of its 8 symmetries: mirrored in u (4 to 7), then turned
    counter-clockwise by `symmetry` quarters, under the same lights. [..., 13, S, S]"""
    mirror, quarters = symmetry >= LIGHTS // 2, symmetry % 4
    maps = statistics.flip(-1) if mirror else statistics
    maps = torch.rot90(maps, quarters, (-2, -1)).clone()
    cosine, sine = maps[..., _COSINE, :, :].clone(), maps[..., _SINE, :, :].clone()
    if mirror:
        cosine = -cosine
    for _ in range(quarters):
        cosine, sine = -sine, cosine
    maps[..., _COSINE, :, :], maps[..., _SINE, :, :] = cosine, sine
    return maps


@dataclass(frozen=True, kw_only=True)
class AttributeLogits:
    """category: [B, C] logits; metallic: [B] logit; roughness: [B] mean roughness in [0, 1]."""

    category: Tensor
    metallic: Tensor
    roughness: Tensor


class AttributeNetwork(nn.Module):
    """Statistics [B, 13, S, S] -> AttributeLogits."""

    def __init__(self, spec: AttributeSpec) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = []
        before = STATISTICS
        for width in spec.widths:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(inplace=True)]
            before = width
        self.features = nn.Sequential(*layers)
        self.refine = nn.Sequential(
            nn.Conv2d(before, before, 3, padding=1, bias=False), nn.BatchNorm2d(before)
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(3 * before + 2 * STATISTICS, len(spec.categories) + 2)

    def forward(self, statistics: Tensor) -> AttributeLogits:
        maps = self.features(statistics - 0.3)
        maps = relu(maps + self.refine(maps))
        pooled = [maps.mean((2, 3)), maps.amax((2, 3)), maps.std((2, 3)), *_moments(statistics)]
        output = self.head(self.dropout(torch.cat(pooled, 1)))
        return AttributeLogits(
            category=output[:, :-2], metallic=output[:, -2], roughness=output[:, -1].sigmoid()
        )


def _moments(statistics: Tensor) -> tuple[Tensor, Tensor]:
    return statistics.mean((2, 3)), statistics.std((2, 3))


def save_attribute_network(path: Path, network: AttributeNetwork, provenance: dict[str, Any]) -> None:
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    metadata = {
        "schema": f"gonio-attributes/{SCHEMA}",
        "spec": json.dumps(asdict(network.spec)),
        "provenance": json.dumps(provenance),
    }
    media.write_bytes(path, save(tensors, metadata=metadata))


def load_attribute_network(path: Path) -> AttributeNetwork:
    """A network's file, ready to evaluate; every key and shape must fit. Raises GonioError."""
    metadata, tensors = read_small(path, f"gonio-attributes/{SCHEMA}", MAX_FILE_BYTES)
    try:
        fields = json.loads(metadata["spec"])
        words, widths = tuple(fields.pop("categories")), tuple(fields.pop("widths"))
        network = AttributeNetwork(AttributeSpec(categories=words, widths=widths, **fields))
    except (KeyError, TypeError, ValueError) as error:
        raise GonioError(f"{path}: malformed spec ({error})") from None
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
        raise GonioError(f"{path}: weights do not fit the spec ({problem})") from None
    return network.eval().requires_grad_(False)
