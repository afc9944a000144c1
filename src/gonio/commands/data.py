"""gonio data: make training data and look at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import FlagCreatePairsOff, Suppress, arg, subcommand

from gonio.commands.data_cache import DataCache
from gonio.commands.data_captions import DataCaptions
from gonio.commands.data_videos import DataVideos
from gonio.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

MAX_COUNT = 100_000
# A contact sheet of more would not be looked at.
MAX_SHOWN = 64
SHOWN_SIZE = 128  # pixels


@dataclass(frozen=True, kw_only=True)
class DataMaterials:
    """Make procedural materials as folders of PBR maps, with a contact sheet to look at.

    Material number i of seed s is the same on every run and at every resolution.

    Example: gonio data materials --out maps --count 12 --family brick
    """

    out: Path
    """Folder to write; one folder a material, and contact_sheet.png."""
    count: int = 12
    """How many."""
    seed: int = 0
    """Seed of the first; the others count up."""
    resolution: int = 512
    """Pixels per side of the maps."""
    family: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Only this family, such as brick or knit."""
    color: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Only this dominant colour, such as red."""
    roughness_class: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Only this roughness class, such as glossy."""
    metal: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Only metals."""

    resume: ClassVar[str] = "run the same command again: it makes the same materials"

    def run(self) -> None:
        from gonio import media
        from gonio.color import linear_from_srgb, srgb_from_linear
        from gonio.data.procedural import sample_material
        from gonio.folders import make_folder
        from gonio.pbr import save_material_maps
        from gonio.pictures import CONTACT_SHEET, picture_grid
        from gonio.progress import progress

        if not 1 <= self.count <= MAX_COUNT:
            raise UsageError(f"--count {self.count}: allowed are 1 to {MAX_COUNT}")
        make_folder(self.out)
        pictures: list[Tensor] = []
        captions: list[str] = []
        with progress("Making materials", self.count) as step:
            for seed in range(self.seed, self.seed + self.count):
                material = sample_material(
                    seed,
                    family=self.family,
                    resolution=self.resolution,
                    color=self.color,
                    roughness_class=self.roughness_class,
                    metallic=True if self.metal else None,
                )
                save_material_maps(material, self.out / material.name)
                if len(pictures) < MAX_SHOWN:
                    small = material.resized(SHOWN_SIZE)
                    pictures += [srgb_from_linear(small.basecolor), small.normal * 0.5 + 0.5]
                    captions += [str(material.metadata["caption"]), f"seed {seed}"]
                step()
        sheet = picture_grid(pictures, captions, columns=8)
        media.write_image(self.out / CONTACT_SHEET, linear_from_srgb(sheet))
        print(f"{self.out}: {self.count} materials, see {self.out / CONTACT_SHEET}")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Make, look at and check training data.

    Example: gonio data materials --out maps --count 12
    """

    command: (
        Annotated[DataMaterials, subcommand("materials")]
        | Annotated[DataVideos, subcommand("videos")]
        | Annotated[DataCaptions, subcommand("captions")]
        | Annotated[DataCache, subcommand("cache")]
        | Annotated[None, Suppress]
    )
    """Which data."""
