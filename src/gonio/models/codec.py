"""Frames <-> the latents a video model's flow works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio.color import linear_from_srgb, luminance, srgb_from_linear
from gonio.models.autoencoder import channels_last, decode, encode, latent_statistics
from gonio.models.load import autoencoder_folder, load_autoencoder
from gonio.models.packing import Packing, load_packing
from gonio.models.spec import VideoModelSpec
from gonio.models.weight_files import PACKING_FILE


@dataclass(frozen=True, kw_only=True)
class Codec:
    """An autoencoder, and the packing of its latents where the model has one."""

    autoencoder: Any  # AutoencoderKLWan
    packing: Packing | None = None

    def encode(self, frames: Tensor) -> Tensor:
        """[B, F, H, W, 3] display-encoded in [0, 1] -> [B, C, f, h, w]."""
        latents = encode(self.autoencoder, frames)
        if self.packing is None:
            return latents
        center, scale = latent_statistics(self.autoencoder, latents)
        return self.packing.pack(latents * scale + center)

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse, as far as there is one."""
        if self.packing is not None:
            whole = self.packing.unpack(latents)
            center, scale = latent_statistics(self.autoencoder, whole)
            latents = (whole - center) / scale
        return decode(self.autoencoder, latents)

    def without_color(self, latents: Tensor) -> Tensor:
        """The latents [B, C, f, h, w] of the same frames in grey, each texel as bright as before."""
        brightness = luminance(linear_from_srgb(self.decode(latents).clamp(0, 1)))
        return self.encode(srgb_from_linear(brightness)[..., None].expand(*brightness.shape, 3))

    @property
    def deviation(self) -> Tensor | None:
        """Standard deviations of the channels of packed latents. [C]"""
        return None if self.packing is None else self.packing.packed_deviation

    @property
    def device(self) -> torch.device:
        return self.autoencoder.device


def load_codec(
    spec: VideoModelSpec, folder: Path | None = None, *, device: str | torch.device = "cpu"
) -> Codec:
    """The spec's autoencoder, and its packing; see `load_autoencoder`."""
    autoencoder = channels_last(load_autoencoder(spec, folder, device=device))
    packing = None
    if spec.packed:
        path = autoencoder_folder(spec, folder) / PACKING_FILE
        packing = load_packing(path, latents=spec.autoencoder["z_dim"], components=spec.packed)
    return Codec(autoencoder=autoencoder, packing=packing)
