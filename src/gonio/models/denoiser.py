"""The transformer as the flow sees it: noised latents and what is told beside them in, velocity out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gonio.errors import GonioError
from gonio.models.flow import TRAINING_TIMESTEPS, velocity_from_residual
from gonio.models.spec import VideoModelSpec


class Denoiser(nn.Module):
    """deviation: [C] standard deviations of the latents' channels, for a preconditioned model."""

    deviation: Tensor | None

    def __init__(self, spec: VideoModelSpec, transformer: Any, deviation: Tensor | None = None) -> None:
        super().__init__()
        if spec.preconditioned and deviation is None:
            raise GonioError(f"model {spec.name}: preconditioned, but its latents' deviations are not known")
        self.transformer = transformer
        self.register_buffer("deviation", deviation if spec.preconditioned else None, persistent=False)

    def forward(self, seen: Tensor, timestep: Tensor, text: Tensor, image: Tensor | None = None) -> Tensor:
        """Velocity [B, C, f, h, w], float32 where preconditioned, else as the transformer gives it.

        seen: latents and `condition` joined [B, C + D, f, h, w]; timestep [B] float32 in [0, 1000]; text
        [B, N, D]; image [B, M, D'], tokens of an image encoder.
        """
        found = self.transformer(
            hidden_states=seen,
            timestep=timestep,
            encoder_hidden_states=text,
            encoder_hidden_states_image=image,
            return_dict=False,
        )[0]
        if self.deviation is None:
            return found
        latents = seen[:, : found.shape[1]].float()
        sigma = timestep.float() / TRAINING_TIMESTEPS
        return velocity_from_residual(found.float(), latents, sigma, self.deviation.to(latents))
