"""The mini autoencoder: AutoencoderKLWan from scratch on rectified clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from gonio import media
from gonio.data.clips import ClipPool, ClipSettings, hash_seed, transformed
from gonio.models.autoencoder import channels_last, decode_clip, encode_clip
from gonio.models.load import load_autoencoder, random_autoencoder
from gonio.models.spec import SPECS, find_spec
from gonio.models.weight_files import save_model
from gonio.train.loop import Batch, LoopSettings, Report, Training, train


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training: `steps` on `batch` crops of `frames` successive frames (4 n + 1)."""

    steps: int
    frames: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """crop: pixels per side of a training crop; kl weighs the posterior's divergence.

    Short pieces come first: they teach the layers in space at a fraction of a clip's cost. (Single frames
    would not: a causal convolution works through two frames of padding for each.)
    """

    model: str = "mini-t2v"
    clips: ClipSettings = field(default_factory=ClipSettings)
    crop: int = 64
    stages: tuple[Stage, ...] = (
        Stage(steps=600, frames=5, batch=12),
        Stage(steps=350, frames=17, batch=8),
    )
    squared: float = 4.0
    kl: float = 1e-6
    rate: float = 2e-3
    ema: float = 0.995
    seed: int = 0

    @property
    def loop(self) -> LoopSettings:
        return LoopSettings(
            steps=sum(stage.steps for stage in self.stages),
            rate=self.rate,
            warmup=100,
            weight_decay=0.0,
            ema=self.ema,
            precision="bf16",
        )

    def stage_at(self, step: int) -> Stage:
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


AUTOENCODER_FOLDER = "vae"
RECIPES: dict[str, AutoencoderRecipe] = {
    "mini": AutoencoderRecipe(),
    "smoke": AutoencoderRecipe(
        clips=ClipSettings(procedural=4, resolution=32),
        crop=32,
        stages=(Stage(steps=2, frames=1, batch=2), Stage(steps=2, frames=17, batch=2)),
    ),
}


class AutoencoderObjective(nn.Module):
    """L1 + squared * MSE on display-encoded values in [-1, 1], + kl * KL of the posterior."""

    def __init__(self, autoencoder: AutoencoderKLWan, recipe: AutoencoderRecipe) -> None:
        super().__init__()
        self.autoencoder, self.recipe = autoencoder, recipe

    def forward(self, clip: Tensor, noise: Tensor) -> Tensor:
        """clip [B, 3, F, h, w] in [-1, 1], noise like the latents."""
        mean, log_variance = encode_clip(self.autoencoder, clip).float().chunk(2, 1)
        log_variance = log_variance.clamp(-30.0, 20.0)
        latents = mean + noise * (0.5 * log_variance).exp()
        error = decode_clip(self.autoencoder, latents).float() - clip
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return error.abs().mean() + self.recipe.squared * error.square().mean() + self.recipe.kl * divergence


def batch_at(recipe: AutoencoderRecipe, pool: ClipPool, step: int, index: int) -> Batch:
    """Random pieces of random clips under random symmetries, and the posterior's noise."""
    config = SPECS[recipe.model].autoencoder
    draw = torch.Generator().manual_seed(hash_seed("autoencoder", recipe.seed, step, index))

    def number(limit: int) -> int:
        return int(torch.randint(limit, (), generator=draw))

    stage, crops = recipe.stage_at(step), []
    for _ in range(stage.batch):
        top, left = (number(recipe.clips.resolution - recipe.crop + 1) for _ in range(2))
        clip = pool.clip(number(len(pool)), slice(top, top + recipe.crop), slice(left, left + recipe.crop))
        first = number(recipe.clips.frames - stage.frames + 1)
        turned = transformed(clip, pool.symmetries[number(len(pool.symmetries))])
        crops.append(turned[first : first + stage.frames])
    clip = torch.stack(crops).float().div_(127.5).sub_(1).permute(0, 4, 1, 2, 3)
    side = recipe.crop // (config["patch_size"] * 2 ** (len(config["dim_mult"]) - 1))
    shape = (stage.batch, config["z_dim"], (stage.frames + 3) // 4, side, side)
    return {"clip": clip, "noise": torch.randn(shape, generator=draw)}


@torch.no_grad()
def measure(autoencoder: AutoencoderKLWan, clips: list[Tensor]) -> list[float]:
    """PSNR of the round trip of whole clips [F, H, W, 3] uint8, dB each."""
    found = []
    for clip in clips:
        values = clip[None].float().div(127.5).sub(1).permute(0, 4, 1, 2, 3)
        latents = encode_clip(autoencoder, values).chunk(2, 1)[0]
        error = (decode_clip(autoencoder, latents).clamp(-1, 1) - values) / 2
        found.append(-10 * math.log10(max(float(error.square().mean()), 1e-12)))
    return found


@torch.no_grad()
def latent_statistics(
    autoencoder: AutoencoderKLWan, pool: ClipPool, count: int = 128
) -> dict[str, list[float]]:
    """Mean and standard deviation of every latent channel over the pool, for the configuration."""
    total = square = torch.zeros(autoencoder.config.z_dim, dtype=torch.float64)
    numbers = 0
    for index in range(0, len(pool), max(1, len(pool) // count)):
        values = pool.clip(index)[None].float().div(127.5).sub(1).permute(0, 4, 1, 2, 3)
        latents = encode_clip(autoencoder, values).chunk(2, 1)[0].double().transpose(0, 1).flatten(1)
        total, square = total + latents.sum(1), square + latents.square().sum(1)
        numbers += latents.shape[1]
    mean = total / numbers
    deviation = (square / numbers - mean.square()).clamp_min(1e-8).sqrt()
    return {"latents_mean": mean.tolist(), "latents_std": deviation.tolist()}


def train_autoencoder(
    recipe: AutoencoderRecipe,
    pool: ClipPool,
    folders: list[Path],
    out: Path,
    *,
    start: Path | None = None,
    report: Callable[[Report], None] | None = None,
    stop_after_seconds: float = math.inf,
) -> bool:
    """Train, and write the averaged weights with the latents' statistics to out/vae (diffusers layout).

    The state is kept in out/training.safetensors. Returns whether the last step was reached.
    """
    spec = find_spec(recipe.model)
    autoencoder = random_autoencoder(spec, recipe.seed) if start is None else load_autoencoder(spec, start)
    training = Training(AutoencoderObjective(channels_last(autoencoder).train(), recipe), recipe.loop)
    names = ",".join(f.name for f in folders)
    done = train(
        training,
        lambda step, index: batch_at(recipe, pool, step, index),
        checkpoint=out / "training.safetensors",
        identity={"recipe": repr(recipe), "folders": names, "start": str(start or "")},
        report=report,
        stop_after_seconds=stop_after_seconds,
    )
    autoencoder.load_state_dict({n.removeprefix("autoencoder."): w for n, w in training.averaged().items()})
    autoencoder.register_to_config(**latent_statistics(autoencoder.eval(), pool))
    save_model(out / AUTOENCODER_FOLDER, autoencoder)
    facts = {"recipe": asdict(recipe), "maps": names, "steps": training.step, "loss": training.smooth}
    media.write_json(out / "training.json", facts)
    return done
