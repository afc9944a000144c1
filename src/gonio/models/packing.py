"""Principal components of patches of latents: what a small flow sees instead of all of them.

    packed = ((x - mean) B) / s,    x = mean + (s packed) B^T

x: the latents of one patch before they are normalised, B: orthonormal columns, s = sqrt(d mean(d)) with d the
components' deviations, so that packed latents have variance 1 on average and keep the root of their
differences (see train.autoencoder). Most of a patch's variance lies in few components; the others are fine
detail that a network of a few million weights cannot predict, only be kept busy with. What they most likely
are, given the patches around, a small network restores, which also closes the seams between patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import gelu, pixel_shuffle, pixel_unshuffle

from gonio.errors import GonioError
from gonio.models.spec import PATCH
from gonio.models.weight_files import open_weights, require_shapes

RESTORER_WIDTH = 192


class Restorer(nn.Module):
    """What patches are besides their components, from the components of those around. It begins with nothing.

    [B, K, h, w] -> [B, z p^2, h, w]
    """

    def __init__(self, components: int, numbers: int, width: int = RESTORER_WIDTH) -> None:
        super().__init__()
        self.seen = nn.Conv2d(components, width, 3, padding=1, padding_mode="replicate")
        self.mixed = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.told = nn.Conv2d(width, numbers, 1)
        for parameter in self.told.parameters():
            nn.init.zeros_(parameter)

    def forward(self, packed: Tensor) -> Tensor:
        return self.told(gelu(self.mixed(gelu(self.seen(packed)))))


@dataclass(frozen=True, kw_only=True)
class Packing:
    """mean [z p^2], basis [z p^2, K], deviation [K], all float32; p = PATCH latents along a side."""

    mean: Tensor
    basis: Tensor
    deviation: Tensor
    restorer: Restorer | None = None

    @property
    def scale(self) -> Tensor:
        """What the components are divided by. [K]"""
        return (self.deviation * self.deviation.mean()).sqrt()

    @property
    def packed_deviation(self) -> Tensor:
        """Standard deviations of the packed latents. [K]"""
        return self.deviation / self.scale

    def pack(self, latents: Tensor) -> Tensor:
        """[B, z, f, h, w] not normalised -> [B, K, f, h / p, w / p]."""
        matrix = (self.basis / self.scale).to(latents)
        patches = pixel_unshuffle(latents.transpose(1, 2), PATCH) - self.mean.to(latents).view(-1, 1, 1)
        return torch.einsum("bfphw,pk->bkfhw", patches, matrix)

    def unpack(self, packed: Tensor) -> Tensor:
        """[B, K, f, h, w] -> [B, z, f, h p, w p]: the likeliest latents with these components."""
        matrix = (self.basis * self.scale).to(packed)
        patches = torch.einsum("bkfhw,pk->bfphw", packed, matrix) + self.mean.to(packed).view(-1, 1, 1)
        if self.restorer is not None:
            patches = patches + self.restorer(packed.transpose(1, 2).flatten(0, 1)).view_as(patches)
        return pixel_shuffle(patches, PATCH).transpose(1, 2)


def principal_packing(latents: Tensor, components: int) -> Packing:
    """The packing fitted to latents [N, z, h, w], not normalised."""
    samples = pixel_unshuffle(latents, PATCH).double().transpose(0, 1).flatten(1).T  # [N h w / 4, z p^2]
    mean = samples.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((samples - mean).T, correction=0))
    basis, variance = vectors.flip(1)[:, :components], values.flip(0)[:components]
    # The sign of a component is arbitrary: its largest entry is positive, so that every run finds the same.
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return Packing(
        mean=mean.float(),
        basis=(basis * largest.sign()).float().contiguous(),
        deviation=variance.clamp_min(1e-12).sqrt().float(),
    )


def unpacked(
    weights: Mapping[str, Tensor], packing: Packing, center: Tensor, scale: Tensor
) -> dict[str, Tensor]:
    """A transformer's weights for packed latents, for the latents themselves in patches of 2x2.

    Its first layer absorbs the packing, exactly; channels behind the latents, which change slowly, are
    averaged over the patch. The last layer is left out: components do not give the patch back.
    center, scale: of the autoencoder's latents. [z]
    """
    found = {name: tensor for name, tensor in weights.items() if not name.startswith("proj_out")}
    old = found["patch_embedding.weight"]  # [D, K + C, 1, 1, 1]
    components, area = packing.basis.shape[1], PATCH**2
    numbers = packing.basis / packing.scale  # [z p^2, K], a patch's numbers with its channels outermost
    each = (old[:, :components, 0, 0, 0] @ numbers.T).unflatten(1, (-1, PATCH, PATCH))
    told = (old[:, components:, 0] / area).expand(-1, -1, PATCH, PATCH)
    offset = center.repeat_interleave(area) - packing.mean
    found["patch_embedding.weight"] = torch.cat([each * scale.view(-1, 1, 1), told], 1)[:, :, None]
    found["patch_embedding.bias"] = found["patch_embedding.bias"] + each.flatten(1) @ offset
    return found


def save_packing(path: Path, packing: Packing) -> None:
    """The linear part in fp32; the restorer's weights, where there is one, in fp16."""
    tensors = {name: getattr(packing, name) for name in _LINEAR}
    if packing.restorer is not None:
        weights = packing.restorer.state_dict()
        tensors |= {f"restorer.{name}": tensor.half() for name, tensor in weights.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def load_packing(path: Path, *, latents: int, components: int) -> Packing:
    """A packing of so many latent channels into so many components. GonioError where the file differs."""
    if not path.is_file():
        raise GonioError(f"{path}: not there; it belongs to the autoencoder's weights")
    weights = open_weights(path)
    numbers = latents * PATCH**2
    expected: dict[str, tuple[int, ...]] = {"mean": (numbers,), "basis": (numbers, components)}
    expected["deviation"] = (components,)
    restorer = None
    if any(name.startswith("restorer.") for name in weights.shapes):
        restorer = Restorer(components, numbers).eval().requires_grad_(False)
        expected |= {f"restorer.{name}": tuple(t.shape) for name, t in restorer.state_dict().items()}
    require_shapes(path, weights.shapes, expected)
    found = {name: weights.read(name).float() for name in expected}
    if not all(bool(tensor.isfinite().all()) for tensor in found.values()):
        raise GonioError(f"{path}: holds NaN or infinite values")
    if restorer is not None:
        restorer.load_state_dict({name: found[f"restorer.{name}"] for name in restorer.state_dict()})
    return Packing(**{name: found[name] for name in _LINEAR}, restorer=restorer)


_LINEAR = ("mean", "basis", "deviation")
