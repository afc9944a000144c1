"""A whole training of a video model: data, weights to begin with, validation, and the checkpoint to keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio import media
from gonio.color import srgb_from_linear
from gonio.data.cache import CacheSettings, LatentCache
from gonio.data.clips import ClipPool, hash_seed
from gonio.data.photos import Environments, quick_photograph
from gonio.errors import GonioError, UsageError
from gonio.generate.pipeline import Generator, SamplingSettings
from gonio.material_video import MaterialVideo
from gonio.models.codec import Codec, load_codec
from gonio.models.denoiser import Denoiser
from gonio.models.image import load_image_encoder
from gonio.models.load import load_memory_of, load_transformer, random_transformer
from gonio.models.lora import add_lora, save_lora
from gonio.models.memory import MEMORY_FILE, Memory, save_memory
from gonio.models.placement import Placement
from gonio.models.small_attention import with_small_attention
from gonio.models.spec import VideoModelSpec, find_spec
from gonio.models.text import TextEncoder, load_text_encoder, prompt_tokens
from gonio.models.weight_files import save_model
from gonio.train.loop import Report, Training, has_fast_bf16, train
from gonio.train.memory import memory_of
from gonio.train.pool_cache import PHOTO_LAMPS, Accept, pool_cache
from gonio.train.video import VideoObjective, VideoRecipe, batch_at, widened_input

TRANSFORMER_FOLDER = "transformer"
# Two materials as they are trained on, and two that no catalogue has: those collapse first when a finetuned
# model forgets what it knew.
VALIDATION_PROMPTS = (
    "red brick wall with pale mortar",
    "hammered copper",
    "purple crystal moss glowing softly",
    "blue fish scales",
)
# Videos of different prompts that differ by less than this share of what they differed by at first.
COLLAPSE = 0.3


@dataclass(frozen=True, kw_only=True)
class Validation:
    """score: mean over the prompts, lower is better (RPC loss). spread: how much videos of different prompts
    differ, the root mean square of the difference of display-encoded values."""

    step: int
    score: float
    spread: float


def train_video(
    recipe: VideoRecipe,
    out: Path,
    *,
    data: Path | None = None,
    pool: ClipPool | None = None,
    environments: Path | None = None,
    weights: Path | None = None,
    transformer: Path | None = None,
    exclude: Sequence[str] = (),
    photos: Sequence[Tensor] = (),
    lora_format: str = "diffusers",
    score: Callable[[MaterialVideo], float] | None = None,
    accept: Accept | None = None,
    prepared: Callable[[int], None] | None = None,
    report: Callable[[Report], None] | None = None,
    stop_after_seconds: float = math.inf,
) -> bool:
    """Train; returns whether the last step was reached.

    Writes out/transformer (or out/lora.safetensors), validation videos and validation.json, and the state in
    out/training.safetensors. transformer: weights to begin with that are not those of the model in `weights`.
    photos: [H, W, 3] linear, what an image model is validated on; without any, it is not. With `score` the
    weights kept are those of the best validation that has not collapsed, else the last. accept: see
    `pool_cache`; asked where the recipe wants recognised clips. prepared is told how much of the pool is
    encoded, report of every step.
    """
    spec = find_spec(recipe.model)
    if photos and spec.task == "text":
        raise UsageError(f"{spec.name} takes no photos; validation is by prompts of our own")
    text = load_text_encoder(spec, weights)
    codec = load_codec(spec, weights if spec.bundled_autoencoder is None else None)
    cache = _data(recipe, spec, out, data, pool, environments, exclude, codec, text, accept, prepared)
    network = _start(recipe, spec, transformer or weights)
    memory = _memory(recipe, spec, cache, codec, transformer or weights)
    if recipe.tuning == "lora":
        add_lora(network, rank=recipe.rank)
    if recipe.checkpointing:
        network.enable_gradient_checkpointing()
    training = Training(VideoObjective(Denoiser(spec, network.train(), codec.deviation)), recipe.loop)
    device = training.accelerator.device
    if memory is not None and training.accelerator.is_main_process:
        save_memory(out / MEMORY_FILE, memory, {"recipe": asdict(recipe), "clips": len(cache)})
    codec.autoencoder.to(device)
    place = Placement(device=str(device))
    generator = Generator(
        spec=spec, transformer=network, codec=codec, text=text, memory=memory, placement=place
    )
    shown: list[tuple[str, Tensor | None]] = [("", photo) for photo in photos]
    if spec.task == "text":
        shown = [(prompt, None) for prompt in VALIDATION_PROMPTS]
    elif photos and spec.image_encoder is not None:
        generator = replace(generator, image=load_image_encoder(spec, weights))
    history = Validations(out, recipe, generator, training, shown, score, lora_format)
    with_small_attention(network, spec.token_count(spec.frames, recipe.resolution, recipe.resolution))
    pretrained = recipe.start is not None or weights is not None or transformer is not None
    first = training.accelerator.is_main_process and not history.found
    if shown and pretrained and recipe.keep == "best" and first:
        # What collapse is measured against: how much the model's videos differed before it was finetuned.
        history.validate(0)
    done = train(
        training,
        lambda step, index: batch_at(recipe, spec, cache, step, index, memory),
        checkpoint=out / "training.safetensors",
        identity={"recipe": repr(recipe), "data": str(cache.settings), "clips": str(len(cache))},
        report=report,
        every=recipe.validate_every,
        validate=history.validate if shown else None,
        stop_after_seconds=stop_after_seconds,
    )
    if training.accelerator.is_main_process:
        if not history.kept:
            history.keep()
        facts = {"recipe": asdict(recipe), "clips": len(cache), "steps": training.step}
        media.write_json(out / "training.json", facts | {"loss": training.smooth})
    return done


class Validations:
    """Videos of the same prompts or photos along a training, their measures, and the best weights so far.

    shown: (prompt, photo or None) of each video.
    """

    def __init__(
        self,
        out: Path,
        recipe: VideoRecipe,
        generator: Generator,
        training: Training,
        shown: Sequence[tuple[str, Tensor | None]],
        score: Callable[[MaterialVideo], float] | None = None,
        lora_format: str = "diffusers",
    ) -> None:
        self.out, self.recipe, self.generator = out, recipe, generator
        self.training, self.shown, self.score, self.lora_format = training, shown, score, lora_format
        path = out / "validation.json"
        self.found = [Validation(**v) for v in media.read_json(path)["rows"]] if path.exists() else []
        self.kept = any(validation.step > 0 for validation in self.found)

    def validate(self, step: int) -> None:
        """Generate with the averaged weights, measure, and keep the weights if they are the best.

        Step 0 is the model before its training: it is measured and never kept.
        """
        model, trained = self.generator.transformer, self._swap(self.training.averaged())
        model.eval()
        settings = SamplingSettings(seed=self.recipe.seed, resolution=self.recipe.resolution)
        with self.training.accelerator.autocast():
            videos = [self.generator.video(prompt, settings, photo=photo) for prompt, photo in self.shown]
        model.train()
        shown = [srgb_from_linear(video.frames) for video in videos]
        media.write_video(self.out / "validation" / f"{step:06d}.mp4", torch.cat(shown, 2), fps=6)
        scores = [self.score(video) for video in videos] if self.score else [math.nan]
        found = Validation(step=step, score=sum(scores) / len(scores), spread=_spread(shown))
        if step > 0 and self._is_best(found):
            self.keep()
        self._swap(trained)
        self.found.append(found)
        media.write_json(self.out / "validation.json", {"rows": [asdict(v) for v in self.found]})

    def _is_best(self, found: Validation) -> bool:
        if not self.score or self.recipe.keep == "last":
            return True
        first = self.found[0].spread if self.found else found.spread
        trained = [v for v in self.found if v.step > 0]
        sound = [v for v in trained if v.spread >= COLLAPSE * first and math.isfinite(v.score)]
        if found.spread < COLLAPSE * first or not math.isfinite(found.score):
            return not self.kept
        return all(found.score <= v.score for v in sound)

    def keep(self) -> None:
        """Write the weights as they are now in the model."""
        if self.recipe.tuning == "lora":
            path = self.out / "lora.safetensors"
            save_lora(path, self.generator.transformer, format=self.lora_format)
        else:
            trained = self._swap(self.training.averaged())
            save_model(self.out / TRANSFORMER_FOLDER, self.generator.transformer)
            self._swap(trained)
        self.kept = True

    @torch.no_grad()
    def _swap(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put weights into the objective and return those that were there."""
        place = dict(self.training.bare.named_parameters())
        before = {name: place[name].detach().clone() for name in weights}
        for name, value in weights.items():
            place[name].copy_(value)
        return before


def _spread(shown: list[Tensor]) -> float:
    """Root mean square difference over all pairs of videos [F, H, W, 3]; 0 of a single one."""
    stacked = torch.stack(shown)
    count = max(2, len(shown))
    variance = stacked.var(0, correction=0).mean()
    return float((2 * variance * count / (count - 1)).sqrt())


def _start(recipe: VideoRecipe, spec: VideoModelSpec, weights: Path | None) -> Any:
    """The transformer to train: given, of another model (with more input channels), or random."""
    if recipe.start is None and weights is None:
        return random_transformer(spec, recipe.seed)
    if recipe.start in (None, recipe.model):
        return load_transformer(spec, weights)
    source = load_transformer(find_spec(str(recipe.start)), weights)
    model = random_transformer(spec, recipe.seed)
    model.load_state_dict(widened_input(source.state_dict(), spec.transformer["in_channels"]))
    return model


def _memory(
    recipe: VideoRecipe, spec: VideoModelSpec, cache: LatentCache, codec: Codec, weights: Path | None
) -> Memory | None:
    """That of the layouts in the data; where it has none, that of the weights to begin with."""
    if not spec.memory:
        return None
    with torch.no_grad():
        found = memory_of(cache, spec.memory, codec.without_color)
    if found is None and (recipe.start is not None or weights is not None):
        found = load_memory_of(find_spec(recipe.start or recipe.model), weights)
    return found


def _data(
    recipe: VideoRecipe,
    spec: VideoModelSpec,
    out: Path,
    data: Path | None,
    pool: ClipPool | None,
    environments: Path | None,
    exclude: Sequence[str],
    codec: Codec,
    text: TextEncoder,
    accept: Accept | None,
    prepared: Callable[[int], None] | None,
) -> LatentCache:
    if data is not None:
        cache = LatentCache(data)
        if cache.settings.projection != spec.projection:
            raise GonioError(
                f"{data}: {cache.settings.projection} clips; {spec.name} needs {spec.projection}"
            )
        return cache
    if pool is None:
        raise UsageError("no data: give a folder of cached latents, or a recipe that makes its own")
    if recipe.recognised and accept is None:
        raise UsageError("the recipe trains on recognised clips; say by what they are")

    @torch.no_grad()
    def encode_video(frames: Tensor) -> Tensor:
        with torch.autocast(codec.device.type, torch.bfloat16, enabled=has_fast_bf16(codec.device)):
            return codec.encode(frames[None])[0].float()

    photo = None
    if spec.task == "image":
        if environments is None:
            raise UsageError("an image model learns from reference photos; give --environments FOLDER")
        surroundings = Environments(environments)

        def photo(index: int) -> Tensor:
            place = surroundings.draw(f"{recipe.seed}-{index}")
            material = pool.material(index)
            side, lamps = recipe.resolution, PHOTO_LAMPS
            return srgb_from_linear(quick_photograph(material, place, side, lamps=lamps, supersampling=1))

    return pool_cache(
        pool,
        out / "latents",
        spec=spec,
        settings=CacheSettings(
            model=recipe.model, numbers="fp16", projection=spec.projection, size=pool.settings.resolution
        ),
        variants=recipe.variants,
        seed=hash_seed(recipe.seed, "variants"),
        exclude=exclude,
        encode_video=encode_video,
        encode_text=lambda prompt: prompt_tokens(text, prompt),
        photo=photo,
        photos=recipe.photos,
        only_varied=recipe.photos_of == "varied",
        accept=accept if recipe.recognised else None,
        report=prepared,
    )
