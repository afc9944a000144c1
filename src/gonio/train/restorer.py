"""Training of the network that restores what a packing of latents leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gonio.data.clips import hash_seed
from gonio.models.packing import Packing, Restorer
from gonio.train.loop import Batch, LoopSettings, Training, train


@dataclass(frozen=True, kw_only=True)
class RestorerRecipe:
    """noise: most that is added to packed latents, in deviations: what a flow generates is not quite right,
    and the patches around say how."""

    batch: int = 16
    noise: float = 0.3
    loop: LoopSettings = LoopSettings(steps=500, rate=1e-3, warmup=50, ema=0.98, precision="bf16")
    seed: int = 0


class RestorerObjective(nn.Module):
    """Mean square error of the latents, in units of what the packing alone leaves."""

    def __init__(self, packing: Packing, left: float) -> None:
        super().__init__()
        assert packing.restorer is not None
        self.restorer, self.packing, self.left = packing.restorer, packing, left

    def forward(self, packed: Tensor, truth: Tensor) -> Tensor:
        """packed [B, K, 1, h, w], truth [B, z, 1, p h, p w] latents."""
        return (self.packing.unpack(packed).float() - truth).square().mean() / self.left


def batch_at(recipe: RestorerRecipe, packing: Packing, latents: Tensor, step: int) -> Batch:
    """Latents [N, z, h, w] of some clips, at random places, and their packed form with noise."""
    draw = torch.Generator().manual_seed(hash_seed("restorer", recipe.seed, step))
    chosen = torch.randint(len(latents), (recipe.batch,), generator=draw)
    truth = latents[chosen][:, :, None]
    packed = packing.pack(truth)
    level = recipe.noise * torch.rand(recipe.batch, 1, 1, 1, 1, generator=draw)
    return {"packed": packed + level * torch.randn(packed.shape, generator=draw), "truth": truth}


def with_restorer(packing: Packing, latents: Tensor, recipe: RestorerRecipe) -> Packing:
    """The packing with a restorer trained on latents [N, z, h, w], not normalised."""
    components, numbers = packing.basis.shape[1], packing.basis.shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        restorer = Restorer(components, numbers)
    whole = replace(packing, restorer=restorer)
    some = latents[:64, :, None]
    left = float((packing.unpack(packing.pack(some)) - some).square().mean())
    training = Training(RestorerObjective(whole, max(left, 1e-12)), recipe.loop)
    train(training, lambda step, _: batch_at(recipe, packing, latents, step))
    averaged = {n.removeprefix("restorer."): w for n, w in training.averaged().items()}
    restorer.load_state_dict(averaged)
    return replace(whole, restorer=restorer.eval().requires_grad_(False))
