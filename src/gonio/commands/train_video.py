"""gonio train autoencoder, gonio train video, gonio train lrm."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from gonio.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from gonio.data.clips import ClipPool, ClipSettings
    from gonio.train.consistency import GeneratedVideos
    from gonio.train.loop import Report
    from gonio.train.lrm import LRMRecipe

RESUME = "run the same command again to go on from the checkpoint in the output folder"


@dataclass(frozen=True, kw_only=True)
class TrainAutoencoder:
    """Train the mini autoencoder on streamed procedural materials and, if given, folders of maps.

    Writes config.json and weights in diffusers layout. Clips are rendered once, into the cache folder.

    Example: gonio train autoencoder --recipe smoke --out autoencoder
    """

    out: Path
    """Folder to write."""
    recipe: str = "mini"
    """mini, or smoke (seconds, for a try)."""
    maps: Annotated[tuple[Path, ...], arg(metavar="MAPS...", help_behavior_hint="")] = ()
    """Folders of PBR maps to train on besides the procedural materials."""
    start: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Weights to begin with, in diffusers layout; random ones when left out."""
    minutes: float = math.inf
    """Stop after so many minutes; the same command goes on."""

    resume: ClassVar[str] = RESUME

    def run(self) -> None:
        from gonio.folders import make_folder
        from gonio.train.autoencoder import RECIPES, train_autoencoder

        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe {self.recipe}: known are {', '.join(RECIPES)}")
        recipe = RECIPES[self.recipe]
        make_folder(self.out)
        pool = shown_pool(recipe.clips, self.maps)
        with ShownTraining(f"Training autoencoder {self.recipe}", recipe.loop.steps) as shown:
            done = train_autoencoder(
                recipe,
                pool,
                list(self.maps),
                self.out,
                start=self.start,
                report=shown.report,
                stop_after_seconds=self.minutes * 60,
            )
        print(f"{self.out}: {shown.note}" + ("" if done else "; not done, " + RESUME))


@dataclass(frozen=True, kw_only=True)
class TrainVideo:
    """Train or finetune the transformer of a video model on cached latents.

    Recipes mini-* make their own data; paper-* want --data, a folder made by gonio data cache. Writes weights
    in diffusers layout (a LoRA: one file), validation videos and their measures.

    Example: gonio train video --recipe paper-t2v-lora --data latents --weights Wan2.1-T2V-14B --out lora
    """

    out: Path
    """Folder to write."""
    recipe: str = "mini-t2v"
    """paper-t2v-full, paper-t2v-lora, paper-i2v, paper-tileable, mini-t2v, mini-i2v, mini-more, mini-plain,
    mini-layouts, mini-chosen, mini-photos, or smoke."""
    data: Annotated[Path | None, arg(metavar="CACHE", help_behavior_hint="")] = None
    """Folder of latents made by gonio data cache."""
    maps: Annotated[tuple[Path, ...], arg(metavar="MAPS...", help_behavior_hint="")] = ()
    """Folders of PBR maps to train on besides procedural materials (mini recipes)."""
    environments: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Panoramas that light the reference photos (mini-* but mini-t2v)."""
    weights: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Weights to begin with, in diffusers layout; the recipe's own when left out."""
    transformer: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Weights of the transformer alone to begin with, such as an earlier finetune."""
    photos: Annotated[tuple[Path, ...], arg(metavar="PHOTO...", help_behavior_hint="")] = ()
    """Photos an image model is validated on (text models: four prompts of our own)."""
    lora_format: Literal["diffusers", "diffsynth", "comfyui", "musubi"] = "diffusers"
    """How the keys of a LoRA are spelled in its file."""
    exclude: Annotated[Path | None, arg(metavar="FILE.jsonl", help_behavior_hint="")] = None
    """Prompts that no training caption may equal."""
    steps: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Another number of steps."""
    rate: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Another learning rate."""
    minutes: float = math.inf
    """Stop after so many minutes; the same command goes on."""

    resume: ClassVar[str] = RESUME

    def run(self) -> None:
        from gonio.data.clip_captions import read_prompts
        from gonio.evaluate.attributes import is_recognised
        from gonio.evaluate.rpc import residual_parallax_coherence
        from gonio.folders import make_folder
        from gonio.media import read_color
        from gonio.progress import counted, progress
        from gonio.train.video import RECIPES
        from gonio.train.video_run import train_video

        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe {self.recipe}: known are {', '.join(RECIPES)}")
        recipe = RECIPES[self.recipe]
        changes: dict[str, Any] = {"steps": self.steps, "rate": self.rate}
        loop = replace(recipe.loop, **{k: v for k, v in changes.items() if v is not None})
        recipe = replace(recipe, loop=loop)
        if self.data is None and recipe.clips is None:
            raise UsageError(f"--recipe {self.recipe} needs --data; make it with gonio data videos and cache")
        photos = [read_color(photo) for photo in self.photos]
        make_folder(self.out)
        pool = shown_pool(recipe.clips, self.maps) if self.data is None and recipe.clips else None

        def accept(frames: Tensor, attributes: dict[str, Any]) -> bool:
            family, metallic = attributes["family"], attributes["metallic"]
            return pool is not None and is_recognised(frames, pool.trajectory, family, metallic=metallic)

        with ExitStack() as bars:
            bar = progress("Encoding clips", len(pool) * recipe.variants) if pool else None
            shown = bars.enter_context(ShownTraining(f"Training {self.recipe}", recipe.loop.steps))
            done = train_video(
                recipe,
                self.out,
                data=self.data,
                pool=pool,
                environments=self.environments,
                weights=self.weights,
                transformer=self.transformer,
                photos=photos,
                lora_format=self.lora_format,
                exclude=read_prompts(self.exclude) if self.exclude else (),
                score=lambda video: residual_parallax_coherence(video).loss,
                accept=accept,
                prepared=counted(bars.enter_context(bar)) if bar else None,
                report=shown.report,
                stop_after_seconds=self.minutes * 60,
            )
        print(f"{self.out}: {shown.note}" + ("" if done else "; not done, " + RESUME))


@dataclass(frozen=True, kw_only=True)
class TrainLRM:
    """Train the large reconstruction model by rendering what it predicts.

    Learns from rendered clips of procedural materials and, if given, of maps. --ablation changes the recipe
    as a row of the paper's table 2 does.

    Example: gonio train lrm --recipe smoke --out lrm
    """

    out: Path
    """Folder to write; the model is in its folder model."""
    recipe: str = "mini-lrm"
    """mini-lrm, mini-lrm-more, paper-lrm, paper-lrm-1024, or smoke (seconds, for a try)."""
    ablation: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """linear-upsampler, frozen-mlp, random-mlp, random-lrm, mlp-32x2, mlp-128x6, 5-frames, no-detail or
    perspective."""
    maps: Annotated[tuple[Path, ...], arg(metavar="MAPS...", help_behavior_hint="")] = ()
    """Folders of PBR maps to train on besides the procedural materials."""
    weights: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Weights of the video model to begin with; the bundled ones when left out."""
    model: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Trained reconstruction model to go on from, instead of its video model."""
    generated: Annotated[tuple[Path, ...], arg(metavar="VIDEOS...", help_behavior_hint="")] = ()
    """Generated videos, or folders of them, to be made consistent with themselves."""
    steps: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Another number of steps."""
    minutes: float = math.inf
    """Stop after so many minutes; the same command goes on."""

    resume: ClassVar[str] = RESUME

    def run(self) -> None:
        from gonio.folders import make_folder
        from gonio.progress import counted, progress
        from gonio.train.lrm import ABLATIONS, RECIPES, train_lrm

        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe {self.recipe}: known are {', '.join(RECIPES)}")
        recipe = RECIPES[self.recipe]
        if self.ablation is not None:
            if self.ablation not in ABLATIONS:
                raise UsageError(f"--ablation {self.ablation}: known are {', '.join(ABLATIONS)}")
            recipe = ABLATIONS[self.ablation](recipe)
        if self.steps is not None:
            recipe = replace(recipe, loop=replace(recipe.loop, steps=self.steps))
        make_folder(self.out)
        pool = shown_pool(recipe.clips, self.maps)
        with (
            progress("Preparing materials", len(pool)) as step,
            ShownTraining(f"Training {self.recipe}", recipe.loop.steps) as shown,
        ):
            done = train_lrm(
                recipe,
                self.out,
                pool,
                weights=self.weights,
                begin=self.model,
                generated=self._generated(recipe),
                prepared=counted(step),
                report=shown.report,
                stop_after_seconds=self.minutes * 60,
            )
        print(f"{self.out}: {shown.note}" + ("" if done else "; not done, " + RESUME))

    def _generated(self, recipe: LRMRecipe) -> GeneratedVideos | None:
        from gonio.evaluate.similarity import find_videos
        from gonio.train.consistency import GeneratedVideos

        if not self.generated:
            return None
        folders = [video for path in self.generated for video in find_videos(path)]
        return GeneratedVideos(folders, frames=recipe.spec.frames, size=recipe.clips.resolution)


class ShownTraining:
    """A progress bar for a training: its report goes to the bar."""

    def __init__(self, title: str, steps: int) -> None:
        from gonio.progress import progress

        self._context = progress(title, steps)
        self.note = "nothing to do"

    def __enter__(self) -> ShownTraining:
        from gonio.progress import counted

        self._shown = counted(self._context.__enter__())
        return self

    def __exit__(self, *stop: Any) -> None:
        self._context.__exit__(*stop)

    def report(self, figures: Report) -> None:
        self.note = f"step {figures.step}, loss {figures.smooth:.4f}"
        self._shown(figures.step, f"loss {figures.smooth:.4f}")


def shown_pool(settings: ClipSettings, maps: tuple[Path, ...]) -> ClipPool:
    """The pool of clips, rendered now under a progress bar where it is not in the cache."""
    from gonio.data.clips import make_pool
    from gonio.progress import counted, progress

    total = settings.procedural + settings.repeats * len(maps)
    with progress("Rendering clips", total) as step:
        return make_pool(settings, maps, report=counted(step))
