"""Finetuning, or training from scratch, of the video transformer on cached latents by flow matching.

Only the transformer learns; autoencoder and text encoder are frozen and their outputs come from a
`LatentCache`. The recipes named `paper-*` hold the numbers of VideoNeuMat (section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gonio.data.cache import LatentCache
from gonio.data.clips import ClipSettings, hash_seed
from gonio.errors import GonioError
from gonio.models.condition import condition
from gonio.models.denoiser import Denoiser
from gonio.models.flow import NoiseLevels, draw_noise_levels, flow_loss, gaussian
from gonio.models.memory import Memory
from gonio.models.spec import VideoModelSpec
from gonio.train.loop import Batch, LoopSettings


@dataclass(frozen=True, kw_only=True)
class VideoRecipe:
    """model: spec to train. tuning: all weights of the transformer, or a LoRA of `rank`.

    batch: clips a step on each process (times the loop's `accumulate`). drop_text: share of clips whose
    prompt is replaced by the empty one, for classifier-free guidance. start: model whose weights are taken
    to begin with, None for random ones. clips, variants: the pool and how many symmetries of each clip are
    encoded, where the recipe makes its own data. photos: share of these clips that an image model is shown a
    photo with; the others it learns from their text alone, so that it stays a text model too.
    photos_of: of all materials, or of the real and varied ones alone. recognised: of the other procedural
    clips, only those that the judge of categories takes for what they are.
    drop_text_beside: as drop_text, of the clips with a photo. levels: how noise levels are drawn. keep: the
    weights of the best validation, or the last ones: a model trained from scratch can be judged only at its
    end.
    """

    model: str
    tuning: Literal["full", "lora"] = "full"
    rank: int = 32
    batch: int = 1
    drop_text: float = 0.1
    start: str | None = None
    clips: ClipSettings | None = None
    variants: int = 1
    photos: float = 1.0
    photos_of: Literal["all", "varied"] = "all"
    recognised: bool = False
    drop_text_beside: float = 0.1
    levels: NoiseLevels = "uniform"
    keep: Literal["best", "last"] = "best"
    resolution: int = 512
    checkpointing: bool = True
    validate_every: int = 250
    loop: LoopSettings = field(
        # The paper: AdamW, 1e-5, batch 1 a GPU on 4 GPUs. Length and decay are not stated.
        default_factory=lambda: LoopSettings(
            steps=6000, rate=1e-5, warmup=0, final_rate=1.0, betas=(0.9, 0.999), ema=0.9999, precision="bf16"
        )
    )
    seed: int = 0


_PAPER = VideoRecipe(model="wan2.1-t2v-14b", start="wan2.1-t2v-14b")
_MINI = VideoRecipe(
    model="mini-t2v",
    batch=16,
    clips=ClipSettings(),
    variants=2,
    levels="wide",
    keep="last",
    resolution=128,
    checkpointing=False,
    validate_every=500,
    loop=LoopSettings(steps=3000, rate=1e-3, muon_rate=5e-3, warmup=100, ema=0.999, precision="bf16"),
)
_MINI_PHOTO = replace(
    _MINI,
    model="mini-i2v",
    start="mini-t2v",
    photos=0.3,
    drop_text_beside=0.5,
    loop=replace(_MINI.loop, steps=2000, rate=4e-4, muon_rate=2e-3, warmup=50),
)
# Plain materials in layouts that a small model can learn by heart. Photos show real ones.
_MINI_LAYOUTS = replace(
    _MINI_PHOTO,
    start="mini-i2v",
    batch=8,
    variants=1,
    photos=1.0,
    photos_of="varied",
    recognised=True,
    clips=ClipSettings(procedural=2400, repeats=12, seed=4, plain=True, layouts=3),
    loop=replace(_MINI_PHOTO.loop, steps=7000, rate=6e-4, muon_rate=3e-3),
)
RECIPES: dict[str, VideoRecipe] = {
    "paper-t2v-full": _PAPER,
    "paper-t2v-lora": replace(_PAPER, tuning="lora", loop=replace(_PAPER.loop, ema=0.0)),
    "paper-i2v": replace(_PAPER, model="wan2.1-i2v-14b", start="wan2.1-i2v-14b"),
    # On clips of the source `matsynth`, which tile; --transformer: the finetune on `matsynth-all`.
    "paper-tileable": _PAPER,
    "mini-t2v": _MINI,
    "mini-i2v": _MINI_PHOTO,
    # Goes on from the bundled result of the two above, on materials it has not seen.
    "mini-more": replace(
        _MINI_PHOTO,
        start="mini-i2v",
        clips=ClipSettings(procedural=2400, repeats=24, seed=1),
        loop=replace(_MINI_PHOTO.loop, steps=3000),
    ),
    # Goes on from that one, on materials of which every kind is easily told.
    "mini-plain": replace(
        _MINI_PHOTO,
        start="mini-i2v",
        batch=8,
        variants=1,
        clips=ClipSettings(procedural=2000, repeats=8, seed=2, plain=True),
        loop=replace(_MINI_PHOTO.loop, steps=1800, rate=5e-4, muon_rate=2.5e-3),
    ),
    # And from that one: every family in three layouts.
    "mini-layouts": _MINI_LAYOUTS,
    # And from that one: layouts that are easily told, of as many patterns with a name as can be.
    "mini-chosen": replace(
        _MINI_LAYOUTS,
        clips=ClipSettings(procedural=2595, repeats=12, seed=6, plain=True, layouts="chosen"),
        loop=replace(_MINI_LAYOUTS.loop, steps=6400),
    ),
    # And from that one: photos of materials of any kind, not of the few real ones alone.
    "mini-photos": replace(
        _MINI_LAYOUTS,
        clips=ClipSettings(procedural=1903, varied=800, repeats=12, seed=7, plain=True, layouts="chosen"),
        loop=replace(_MINI_LAYOUTS.loop, steps=4000, rate=4e-4, muon_rate=2e-3),
    ),
    "smoke": replace(
        _MINI,
        batch=2,
        clips=ClipSettings(procedural=4, resolution=32),
        variants=1,
        resolution=32,
        validate_every=0,
        loop=LoopSettings(steps=4, rate=1e-3, warmup=2, ema=0.9),
    ),
}


class VideoObjective(nn.Module):
    """The velocity's mean squared error at one noise level a clip."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self,
        latents: Tensor,
        noise: Tensor,
        sigma: Tensor,
        weight: Tensor,
        text: Tensor,
        condition: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Tensor:
        """latents, noise [B, z, f, h, w]; sigma, weight [B]; text [B, N, D]; condition [B, C, f, h, w];
        image [B, M, D'], tokens of an image encoder."""

        def predict(seen: Tensor, timestep: Tensor) -> Tensor:
            told = seen if condition is None else torch.cat([seen, condition], 1)
            return self.denoiser(told, timestep, text, image)

        return flow_loss(predict, latents, noise, sigma, weight)


def batch_at(
    recipe: VideoRecipe,
    spec: VideoModelSpec,
    cache: LatentCache,
    step: int,
    index: int,
    memory: Memory | None = None,
) -> Batch:
    """Batch number `index` of a step; a function of its arguments, so that a resumed run repeats none."""
    draw = torch.Generator().manual_seed(hash_seed("video", recipe.seed, step, index))
    first = (step * MAX_BATCHES_A_STEP + index) * recipe.batch
    items = [cache.sample(first + i, recipe.seed) for i in range(recipe.batch)]
    given = [spec.task == "image" and "photo" in item for item in items]
    chance = [recipe.drop_text_beside if photo else recipe.drop_text for photo in given]
    dropped = (torch.rand(recipe.batch, generator=draw) < torch.tensor(chance)).tolist()
    texts = [
        padded_text(cache.empty_text if drop else item["text"], spec.text_tokens)
        for item, drop in zip(items, dropped, strict=True)
    ]
    latents = torch.stack([item["latents"] for item in items]).float()
    sigma, weight = draw_noise_levels(
        recipe.batch, generator=draw, shift=spec.training_shift, levels=recipe.levels
    )
    batch = {
        "latents": latents,
        "noise": gaussian(latents.shape, draw),
        "sigma": sigma,
        "weight": weight,
        "text": torch.stack(texts),
    }
    photos = None
    if spec.task == "image":
        if recipe.photos == 1 and recipe.photos_of == "all" and not all(given):
            name = items[given.index(False)]["id"]
            raise GonioError(f"clip {name} has no reference photo; make the data with --photos")
        photos = torch.stack([item.get("photo", torch.zeros_like(item["latents"])) for item in items]).float()
        if spec.image_encoder is not None:
            batch["image"] = torch.stack([item["image"] for item in items]).float()
    recalled = None if memory is None else _recalled(spec, memory, items, given, draw)
    told = condition(spec, latents, photos, torch.tensor(given), recalled)
    return batch if told is None else batch | {"condition": told}


def _recalled(
    spec: VideoModelSpec,
    memory: Memory,
    items: Sequence[Mapping[str, Any]],
    given: list[bool],
    draw: torch.Generator,
) -> Tensor:
    """What the memory holds of the clips' layouts: nothing for a clip with a photo, one of no layout, and now
    and then any other. [B, memory, f, h, w]"""
    forgotten = (torch.rand(len(items), generator=draw) < FORGOTTEN).tolist()
    found = []
    for item, photo, forget in zip(items, given, forgotten, strict=True):
        layout = item.get("layout")
        known = layout in memory.names and not photo and not forget
        nothing = torch.zeros(spec.memory, *item["latents"].shape[1:])
        found.append(memory.values[memory.names.index(layout)][:, None] if known else nothing)
    return torch.stack(found)


# Batches of a step are numbered below this: processes times accumulated batches.
MAX_BATCHES_A_STEP = 4096
FORGOTTEN = 0.1  # share of the clips whose layout is not recalled


def padded_text(text: Tensor, tokens: int) -> Tensor:
    """[N, D] -> [tokens, D] float32, zero beyond the prompt, cut where it is longer."""
    return pad(text.float(), (0, 0, 0, max(0, tokens - len(text))))[:tokens]


def widened_input(weights: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """A text model's weights for an image model: further input channels begin with weight zero."""
    found = dict(weights)
    old = found["patch_embedding.weight"]
    new = old.new_zeros(old.shape[0], channels, *old.shape[2:])
    new[:, : old.shape[1]] = old
    return found | {"patch_embedding.weight": new}
