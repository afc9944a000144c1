"""Universal MLPs: an auto-decoder over streamed height-field materials.

Every training material owns feature textures; all share M_off and M_rgb. Points, views and lights are drawn
afresh each step and shaded by `data.heightfield`, so nothing is stored and nothing is seen twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from gonio.blocks import for_each_block, whole_blocks
from gonio.camera import random_places
from gonio.color import log_encode
from gonio.data.heightfield import HeightFieldBatch, parallax, shade
from gonio.data.procedural import sample_material
from gonio.errors import GonioError
from gonio.neural_material import Decoder, MaterialSpec, log_value_and_offset, parallax_loss
from gonio.pbr import PBRMaterial, load_material_maps
from gonio.reconstruct.checkpoint import (
    decoder_weights,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from gonio.reconstruct.optimize import enlarge
from gonio.reconstruct.plane import geometry_at
from gonio.reconstruct.universal import LatentSpace, UniversalDecoder


@dataclass(frozen=True, kw_only=True)
class UniversalRecipe:
    """The auto-decoder's settings. size: texels per side of a training material.

    Each step works on `groups` groups of `group` materials, each group on a core of its own. parallax: weight
    of `parallax_loss` beside the error of the values: M_off is shown what offsets are. Values alone hardly
    teach it, as an offset's gradient reaches no farther than the next texel.
    """

    hidden_width: int = 64
    hidden_layers: int = 4
    materials: int = 384
    size: int = 64
    group: int = 16
    groups: int = 2
    points: int = 1024
    steps: int = 6000
    coarse_share: float = 0.3
    texture_rate: float = 0.05
    decoder_rate: float = 2.5e-3
    prior: float = 1e-3
    parallax: float = 0.03
    seed: int = 0


RECIPES: dict[str, UniversalRecipe] = {
    "universal-64x4": UniversalRecipe(),
    "universal-32x2": UniversalRecipe(hidden_width=32, hidden_layers=2, steps=5000),
    "smoke": UniversalRecipe(materials=8, size=16, group=2, points=512, steps=40),
}

# Zenith angles of training views and lights reach a little beyond the cross-joined set's.


def training_materials(recipe: UniversalRecipe, folders: list[Path]) -> Iterator[PBRMaterial]:
    """The procedural materials of the recipe, then the maps of `folders`."""
    for index in range(recipe.materials - len(folders)):
        yield sample_material(recipe.seed * 1_000_003 + index, resolution=recipe.size)
    for folder in folders:
        yield load_material_maps(folder).resized(recipe.size, recipe.size)


class AutoDecoder:
    """Shared MLPs and, group by group, the textures of the training materials with their own optimizers."""

    def __init__(self, recipe: UniversalRecipe, materials: list[PBRMaterial]) -> None:
        if len(materials) % recipe.group:
            raise GonioError(
                f"{len(materials)} training materials are not a multiple of the group {recipe.group}"
            )
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.decoder = Decoder(
            MaterialSpec(hidden_width=recipe.hidden_width, hidden_layers=recipe.hidden_layers)
        )
        self.optimizer = torch.optim.Adam(self.decoder.parameters(), lr=1.0, betas=(0.9, 0.99), fused=True)
        spec = self.decoder.spec
        self.channels = spec.offset_channels + spec.reflectance_channels
        self.batches = [
            HeightFieldBatch.from_materials(materials[i : i + recipe.group])
            for i in range(0, len(materials), recipe.group)
        ]
        coarse = recipe.size // 2
        self.codes = [torch.randn(recipe.group, coarse, coarse, self.channels) * 0.1 for _ in self.batches]
        self.step = 0
        self.new_code_optimizers()

    def new_code_optimizers(self) -> None:
        self.code_optimizers = [
            torch.optim.Adam([code.requires_grad_(True)], lr=1.0, betas=(0.9, 0.99), fused=True)
            for code in self.codes
        ]

    def refine(self) -> None:
        """Double the textures' resolution."""
        size = self.recipe.size
        self.codes = [torch.stack([enlarge(t, size) for t in code.detach()]) for code in self.codes]
        self.new_code_optimizers()

    def rate(self) -> float:
        """Warm-up, then cosine decay to 2 %."""
        share = self.step / self.recipe.steps
        return min(1.0, (self.step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))

    def advance(self) -> float:
        """One gradient step on one group of materials; returns its mean square log error."""
        recipe = self.recipe
        if self.step == int(recipe.coarse_share * recipe.steps) and self.codes[0].shape[1] < recipe.size:
            self.refine()
        generator = torch.Generator().manual_seed(recipe.seed * 7_000_003 + self.step)
        chosen = torch.randperm(len(self.batches), generator=generator)[: recipe.groups].tolist()
        results = for_each_block(len(chosen), lambda i, _: self._gradients(chosen[i], i), size=1)
        losses, gradients = zip(*results, strict=True)
        loss = sum(losses) / len(losses)
        if not math.isfinite(loss):
            raise GonioError(f"training: the loss is not finite at step {self.step}; lower the rates")
        for parameter, *parts in zip(self.decoder.parameters(), *gradients, strict=True):
            parameter.grad = torch.stack(parts).mean(0)
        rate = self.rate()
        self.optimizer.param_groups[0]["lr"] = recipe.decoder_rate * rate
        self.optimizer.step()
        for index in chosen:
            self.code_optimizers[index].param_groups[0]["lr"] = recipe.texture_rate * rate
            self.code_optimizers[index].step()
        self.step += 1
        return loss

    def _gradients(self, index: int, stream: int) -> tuple[float, list[Tensor]]:
        """One group, fresh points: sets its codes' gradient; returns its loss and the decoder's gradient."""
        recipe, spec = self.recipe, self.decoder.spec
        batch, code = self.batches[index], self.codes[index]
        generator = torch.Generator().manual_seed(recipe.seed * 7_000_003 + self.step * 64 + stream)
        shape = (recipe.group, recipe.points)
        uv = torch.rand(*shape, 2, generator=generator)
        camera, light = random_places(shape, generator), random_places(shape, generator)
        radiance = shade(batch, uv, camera, light)
        at = geometry_at(uv, camera, light)
        target = log_encode(radiance * (math.pi / at.irradiance)[..., None], spec.gain)
        shift = parallax(batch, uv, camera)

        split = spec.offset_channels
        values = code.detach()
        T_off, T_rgb = values[..., :split].contiguous(), values[..., split:].contiguous()
        T_off.requires_grad_(True), T_rgb.requires_grad_(True)
        sinks = torch.zeros_like(T_off), torch.zeros_like(T_rgb)
        parameters = list(self.decoder.parameters())
        gradient = [torch.zeros_like(p) for p in parameters]
        total = 0.0
        for i in range(recipe.group):
            estimate, du = log_value_and_offset(
                self.decoder, T_off[i], T_rgb[i], at.uv[i], at.wi[i], at.wo[i], (sinks[0][i], sinks[1][i])
            )
            loss = (estimate - target[i]).square().sum() / target.numel()
            whole_loss = loss + recipe.parallax / recipe.group * parallax_loss(du, shift[i])
            found = torch.autograd.grad(whole_loss, [*parameters, T_off, T_rgb], allow_unused=True)
            for whole, part in zip(gradient, found, strict=False):
                whole += part
            total += loss.item()
        code.grad = torch.cat(sinks, -1) + (2 * recipe.prior / values.numel()) * values
        return total, gradient

    def latent_space(self) -> LatentSpace:
        """Mean and Cholesky factor of the covariance of all training latents."""
        latents = torch.cat([code.detach().reshape(-1, self.channels) for code in self.codes]).double()
        mean = latents.mean(0)
        covariance = torch.cov((latents - mean).T) + 1e-6 * torch.eye(self.channels, dtype=torch.float64)
        return LatentSpace(mean=mean.float(), basis=torch.linalg.cholesky(covariance).float())

    def state(self) -> dict[str, Tensor]:
        tensors = {f"decoder.{k}": v for k, v in self.decoder.state_dict().items()}
        tensors |= {f"code.{i}": code.detach() for i, code in enumerate(self.codes)}
        tensors["step"] = torch.tensor(self.step)
        for name, optimizer in self._optimizers():
            tensors |= optimizer_tensors(name, optimizer)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.step = int(tensors["step"])
        self.codes = [tensors[f"code.{i}"].clone() for i in range(len(self.codes))]
        self.new_code_optimizers()
        self.decoder.load_state_dict(decoder_weights(tensors))
        for name, optimizer in self._optimizers():
            restore_optimizer(name, optimizer, tensors)

    def _optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        yield "shared", self.optimizer
        for index, optimizer in enumerate(self.code_optimizers):
            yield f"group{index}", optimizer


def train_universal(
    recipe: UniversalRecipe,
    folders: list[Path],
    *,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    report: Callable[[int, float], None] | None = None,
) -> UniversalDecoder:
    """Run the recipe to its end; goes on from `checkpoint` when that exists. report(step, smoothed loss)."""
    trainer = AutoDecoder(recipe, list(training_materials(recipe, folders)))
    identity = {"recipe": repr(recipe), "folders": ",".join(f.name for f in folders)}
    if checkpoint is not None and checkpoint.exists():
        trainer.restore(load_checkpoint(checkpoint, identity))
    saved, smooth = time.monotonic(), math.nan
    with whole_blocks():
        while trainer.step < recipe.steps:
            loss = trainer.advance()
            smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
            if report is not None:
                report(trainer.step, smooth)
            if checkpoint is not None and time.monotonic() - saved > checkpoint_seconds:
                save_checkpoint(checkpoint, trainer.state(), identity)
                saved = time.monotonic()
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    provenance = {"recipe": asdict(recipe), "maps": [f.name for f in folders], "loss": smooth}
    return UniversalDecoder(
        decoder=trainer.decoder.requires_grad_(False), space=trainer.latent_space(), provenance=provenance
    )
