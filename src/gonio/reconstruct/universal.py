"""Universal decoders: MLPs shared by all materials, with the statistics of their training latents."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from gonio import media
from gonio.errors import GonioError, UsageError
from gonio.models.weight_files import read_small
from gonio.neural_material import Decoder, MaterialSpec
from gonio.reconstruct.checkpoint import decoder_weights

SCHEMA = 1
MAX_FILE_BYTES = 16 << 20
DECODERS = ("64x4", "32x2")


@dataclass(frozen=True, kw_only=True)
class LatentSpace:
    """Gaussian statistics of the concatenated latents (offset channels first): latent = mean + basis @ e.

    mean [C], basis [C, C] lower triangular (the Cholesky factor of the covariance), C = C_off + C_rgb.
    """

    mean: Tensor
    basis: Tensor

    def latents(self, whitened: Tensor) -> Tensor:
        """[..., C] standard normal coordinates -> [..., C] latents."""
        return self.mean + whitened @ self.basis.T

    def whitened(self, latents: Tensor) -> Tensor:
        """The inverse of `latents`."""
        centred = (latents - self.mean).reshape(-1, latents.shape[-1]).T
        return torch.linalg.solve_triangular(self.basis, centred, upper=False).T.reshape(latents.shape)

    def gradient(self, latent_gradient: Tensor) -> Tensor:
        """Gradient with respect to the whitened coordinates."""
        return latent_gradient @ self.basis

    @staticmethod
    def plain(channels: int, scale: float) -> LatentSpace:
        return LatentSpace(mean=torch.zeros(channels), basis=torch.eye(channels) * scale)


@dataclass(frozen=True, kw_only=True)
class UniversalDecoder:
    decoder: Decoder
    space: LatentSpace
    provenance: dict[str, Any]


def save_universal(path: Path, universal: UniversalDecoder) -> None:
    weights = universal.decoder.state_dict()
    tensors = {f"decoder.{k}": v.detach().float().contiguous() for k, v in weights.items()}
    tensors |= {"space.mean": universal.space.mean, "space.basis": universal.space.basis.contiguous()}
    metadata = {
        "schema": f"gonio-universal-decoder/{SCHEMA}",
        "spec": json.dumps(universal.decoder.spec.to_json()),
        "provenance": json.dumps(universal.provenance),
    }
    media.write_bytes(path, save(tensors, metadata=metadata))


def read_universal(path: Path) -> UniversalDecoder:
    """A universal decoder's file; every key and shape must fit."""
    metadata, tensors = read_small(path, f"gonio-universal-decoder/{SCHEMA}", MAX_FILE_BYTES)
    try:
        spec = MaterialSpec(**json.loads(metadata["spec"]))
        provenance = json.loads(metadata.get("provenance", "{}"))
    except (KeyError, TypeError, ValueError) as error:
        raise GonioError(f"{path}: malformed spec ({error})") from None
    decoder = Decoder(spec)
    try:
        decoder.load_state_dict(decoder_weights(tensors), strict=True)
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
        raise GonioError(f"{path}: weights do not fit the spec ({problem})") from None
    channels = spec.offset_channels + spec.reflectance_channels
    mean, basis = tensors.get("space.mean"), tensors.get("space.basis")
    if mean is None or basis is None or mean.shape != (channels,) or basis.shape != (channels, channels):
        raise GonioError(f"{path}: lacks the latent statistics of {channels} channels")
    return UniversalDecoder(decoder=decoder, space=LatentSpace(mean=mean, basis=basis), provenance=provenance)


def bundled_path(size: str) -> Path:
    return Path(str(resources.files("gonio"))) / "weights" / f"universal-{size}.safetensors"


@functools.cache
def _bundled(size: str) -> UniversalDecoder:
    return read_universal(bundled_path(size))


def load_universal(size: str = "64x4") -> UniversalDecoder:
    """The bundled decoder "64x4" or "32x2". The returned decoder is the caller's own copy."""
    if size not in DECODERS:
        raise UsageError(f"--decoder {size}: known are {', '.join(DECODERS)}")
    shared = _bundled(size)
    decoder = Decoder(shared.decoder.spec)
    decoder.load_state_dict(shared.decoder.state_dict())
    return UniversalDecoder(decoder=decoder, space=shared.space, provenance=shared.provenance)
