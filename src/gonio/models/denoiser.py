"""The transformer as the flow sees it: noised latents and what is told beside them in, velocity out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gonio.models.condition import network_input
from gonio.models.flow import TRAINING_TIMESTEPS, velocity_from_residual
from gonio.models.spec import VideoModelSpec


class Denoiser(nn.Module):
    """deviation: [z] standard deviations of the latents' channels, for a preconditioned model."""

    deviation: Tensor

    def __init__(self, spec: VideoModelSpec, transformer: Any, autoencoder: Any) -> None:
        super().__init__()
        self.spec, self.transformer = spec, transformer
        self.register_buffer("deviation", latent_deviation(autoencoder), persistent=False)

    def forward(self, seen: Tensor, timestep: Tensor, text: Tensor, image: Tensor | None = None) -> Tensor:
        """Velocity [B, z, f, h, w] float32 where preconditioned, else as the transformer gives it.

        seen: latents and `condition` joined [B, z + C, f, h, w]; timestep [B] float32 in [0, 1000]; text
        [B, N, D]; image [B, M, D'], tokens of an image encoder.
        """
        found = self.transformer(
            hidden_states=network_input(self.spec, seen),
            timestep=timestep,
            encoder_hidden_states=text,
            encoder_hidden_states_image=image,
            return_dict=False,
        )[0]
        if not self.spec.preconditioned:
            return found
        latents = seen[:, : found.shape[1]].float()
        sigma = timestep.float() / TRAINING_TIMESTEPS
        return velocity_from_residual(found.float(), latents, sigma, self.deviation.to(latents))


def latent_deviation(autoencoder: Any) -> Tensor:
    """Standard deviations of the normalised latents' channels. [z]

    The mini autoencoder's latents are divided by sqrt(d mean(d)), d being a channel's deviation (see
    train.autoencoder), so what is left is sqrt(d / mean(d)), which is the divisor over mean(d).
    """
    scale = torch.tensor(autoencoder.config.latents_std, dtype=torch.float64)
    return (scale / scale.square().mean().sqrt()).float()
