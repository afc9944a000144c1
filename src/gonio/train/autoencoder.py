"""The mini autoencoder: AutoencoderKLWan on stacked frames of rectified clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from gonio import media
from gonio.data.clips import ClipPool, ClipSettings, hash_seed, transformed
from gonio.models.autoencoder import (
    channels_last,
    clip_from_frames,
    decode_clip,
    encode_clip,
)
from gonio.models.codec import Codec
from gonio.models.load import load_autoencoder, random_autoencoder
from gonio.models.packing import principal_packing, save_packing
from gonio.models.single_frame import fold
from gonio.models.spec import find_spec
from gonio.models.weight_files import PACKING_FILE, save_model
from gonio.train.loop import Batch, LoopSettings, Report, Training, train
from gonio.train.principal import principal_start
from gonio.train.restorer import RestorerRecipe, with_restorer

AUTOENCODER_FOLDER = "vae"


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """crop: pixels per side of a training crop; batch: crops a step; kl weighs the posterior's divergence.
    restorer: how what a packing of the latents leaves out is learned, in the loop's precision."""

    model: str = "mini-t2v"
    clips: ClipSettings = field(default_factory=ClipSettings)
    crop: int = 64
    batch: int = 16
    squared: float = 4.0
    kl: float = 1e-6
    restorer: RestorerRecipe = field(default_factory=RestorerRecipe)
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            steps=600, rate=1e-4, warmup=50, weight_decay=0.0, ema=0.99, precision="bf16"
        )
    )
    seed: int = 0


RECIPES: dict[str, AutoencoderRecipe] = {
    "mini": AutoencoderRecipe(),
    "smoke": AutoencoderRecipe(
        clips=ClipSettings(procedural=4, resolution=32),
        crop=32,
        batch=2,
        restorer=RestorerRecipe(loop=LoopSettings(steps=3, rate=1e-3)),
        loop=LoopSettings(steps=4, rate=1e-4, warmup=2, ema=0.9),
    ),
}


class AutoencoderObjective(nn.Module):
    """L1 + squared * MSE on display-encoded values in [-1, 1], + kl * KL of the posterior."""

    def __init__(self, autoencoder: AutoencoderKLWan, recipe: AutoencoderRecipe) -> None:
        super().__init__()
        self.autoencoder, self.recipe = autoencoder, recipe

    def forward(self, frames: Tensor, noise: Tensor) -> Tensor:
        """frames [B, F, h, w, 3] in [0, 1], noise like the latents."""
        clip = clip_from_frames(self.autoencoder, frames)
        mean, log_variance = encode_clip(self.autoencoder, clip).float().chunk(2, 1)
        log_variance = log_variance.clamp(-30.0, 20.0)
        latents = mean + noise * (0.5 * log_variance).exp()
        error = decode_clip(self.autoencoder, latents).float() - clip
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return error.abs().mean() + self.recipe.squared * error.square().mean() + self.recipe.kl * divergence


def batch_at(recipe: AutoencoderRecipe, pool: ClipPool, step: int, index: int) -> Batch:
    """Random pieces of random clips under random symmetries, and the posterior's noise."""
    spec = find_spec(recipe.model)
    draw = torch.Generator().manual_seed(hash_seed("autoencoder", recipe.seed, step, index))

    def number(limit: int) -> int:
        return int(torch.randint(limit, (), generator=draw))

    crops = []
    for _ in range(recipe.batch):
        top, left = (number(recipe.clips.resolution - recipe.crop + 1) for _ in range(2))
        clip = pool.clip(number(len(pool)), slice(top, top + recipe.crop), slice(left, left + recipe.crop))
        crops.append(transformed(clip, pool.symmetries[number(len(pool.symmetries))]))
    side = recipe.crop // spec.autoencoder_stride
    latents = (spec.autoencoder["z_dim"], 1, side, side)
    return {
        "frames": torch.stack(crops).float().div_(255),
        "noise": torch.randn(recipe.batch, *latents, generator=draw),
    }


@torch.no_grad()
def measure(codec: Codec, clips: Iterable[Tensor]) -> list[float]:
    """PSNR of the round trip of clips [F, H, W, 3] in [0, 1], dB each."""
    found = []
    for clip in clips:
        error = codec.decode(codec.encode(clip[None]))[0] - clip
        found.append(-10 * math.log10(max(float(error.square().mean()), 1e-12)))
    return found


@torch.no_grad()
def latent_statistics(
    autoencoder: AutoencoderKLWan, pool: ClipPool, count: int = 128
) -> dict[str, list[float]]:
    """What the latents are normalised by, for the configuration: mean and scale of every channel.

    The scale is sqrt(d mean(d)), d being a channel's standard deviation: normalised latents have variance 1
    on average, but the channels keep the root of their differences. Were each brought to variance 1, fine
    detail nobody could predict would count as much for a video model as colour and shape.
    """
    total = square = torch.zeros(autoencoder.config.z_dim, dtype=torch.float64)
    numbers = 0
    for index in range(0, len(pool), max(1, len(pool) // count)):
        clip = clip_from_frames(autoencoder, pool.clip(index)[None].float().div(255))
        latents = encode_clip(autoencoder, clip).chunk(2, 1)[0].double().transpose(0, 1).flatten(1)
        total, square = total + latents.sum(1), square + latents.square().sum(1)
        numbers += latents.shape[1]
    mean = total / numbers
    deviation = (square / numbers - mean.square()).clamp_min(1e-8).sqrt()
    scale = (deviation * deviation.mean()).sqrt()
    return {"latents_mean": mean.tolist(), "latents_std": scale.tolist()}


@torch.no_grad()
def pool_latents(autoencoder: AutoencoderKLWan, pool: ClipPool, count: int = 1024) -> Tensor:
    """Latents of about so many clips, not normalised. [N, z, h, w]"""
    found = []
    for index in range(0, len(pool), max(1, len(pool) // count)):
        clip = clip_from_frames(autoencoder, pool.clip(index)[None].float().div(255))
        found.append(encode_clip(autoencoder, clip).chunk(2, 1)[0][:, :, 0])
    return torch.cat(found)


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
    """Train, and write the averaged weights with the latents' statistics to out/vae (diffusers layout), and
    the packing of the latents beside them where the model has one.

    The state is kept in out/training.safetensors. Returns whether the last step was reached.
    """
    spec = find_spec(recipe.model)
    if start is None:
        autoencoder = random_autoencoder(spec, recipe.seed)
        principal_start(autoencoder, pool)
    else:
        autoencoder = load_autoencoder(spec, start)
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
    packing = None
    if spec.packed:
        latents = pool_latents(autoencoder, pool)
        packing = with_restorer(principal_packing(latents, spec.packed), latents, recipe.restorer)
    if spec.stacked:
        fold(autoencoder)
    save_model(out / AUTOENCODER_FOLDER, autoencoder)
    if packing is not None:
        save_packing(out / AUTOENCODER_FOLDER / PACKING_FILE, packing)
    facts = {"recipe": asdict(recipe), "maps": names, "steps": training.step, "loss": training.smooth}
    media.write_json(out / "training.json", facts)
    return done
