"""Two reconstructions of one sample as the teacher of a third, where nothing was observed.

Two that agree on the frames differ where there are none, and their mean is nearer to the truth than either:
the nearer, the more each counts for what it knows. How well each explains the frames says how much that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gonio.blocks import for_each_block
from gonio.camera import random_places
from gonio.neural_material import NeuralMaterial, log_value
from gonio.reconstruct.observations import Batch, Observations
from gonio.reconstruct.plane import Geometry, geometry_at

# Of the observations, to measure an opinion's error on.
SAMPLE = 20_000
# A fit was made from the frames, so its error on them understates what it does not know.
UNDERSTATED = 2.0


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """teacher: of a reconstruction model. own: the fit as it was. own_share: how much the latter counts."""

    teacher: NeuralMaterial
    own: NeuralMaterial
    own_share: float

    @staticmethod
    def weighed(teacher: NeuralMaterial, own: NeuralMaterial, observations: Observations) -> Opinions:
        """Each counts for the inverse of its mean square log error on the frames, the fit's taken double."""
        generator = torch.Generator().manual_seed(0)
        chosen = torch.randint(observations.count, (SAMPLE,), generator=generator)

        def error(material: NeuralMaterial) -> float:
            batch = observations.batch(chosen, material.spec.gain)
            return float((_said(material, batch) - batch.target).square().mean())

        theirs, ours = error(teacher), error(own)
        share = theirs / max(theirs + UNDERSTATED * ours, 1e-12)
        return Opinions(teacher=teacher, own=own, own_share=share)

    @torch.no_grad()
    def imagined(self, count: int, generator: torch.Generator) -> Batch:
        """Their weighted mean, in the log domain, at random points, views and lights."""
        uv = torch.rand(count, 2, generator=generator)
        at = geometry_at(uv, *(random_places((count,), generator) for _ in range(2)))
        target = torch.lerp(_said(self.teacher, at), _said(self.own, at), self.own_share)
        return Batch(uv=at.uv, wi=at.wi, wo=at.wo, target=target)

    def state(self) -> dict[str, Tensor]:
        """All but the teacher, which is given again."""
        own = {f"opinion.{name}": tensor for name, tensor in self.own.state_dict().items()}
        return own | {"own_share": torch.tensor(self.own_share, dtype=torch.float64)}

    @staticmethod
    def restored(teacher: NeuralMaterial, own: NeuralMaterial, tensors: Mapping[str, Tensor]) -> Opinions:
        """From `state`; own: any material of the same sizes, which is overwritten."""
        own.load_state_dict({name: tensors[f"opinion.{name}"] for name in own.state_dict()})
        return Opinions(teacher=teacher, own=own, own_share=float(tensors["own_share"]))


@torch.no_grad()
def _said(material: NeuralMaterial, at: Batch | Geometry) -> Tensor:
    """Log-encoded values at points under their views and lights. [N, 3]"""

    def part(start: int, stop: int) -> Tensor:
        uv, wi, wo = (t[start:stop] for t in (at.uv, at.wi, at.wo))
        return log_value(material.decoder, material.T_off, material.T_rgb, uv, wi, wo)

    return torch.cat(for_each_block(len(at.uv), part))
