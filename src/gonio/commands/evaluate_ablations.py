"""gonio evaluate ablations: the paper's second table, at the scale of mini."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import Positional, arg

from gonio.errors import UsageError

if TYPE_CHECKING:
    from gonio.evaluate.reconstruction import Case


@dataclass(frozen=True, kw_only=True)
class EvaluateAblations:
    """Train the reconstruction model with one part changed at a time, and measure every one alike.

    Each row is trained in a folder of its own and kept there; measured are the 81 cross-joined frames of
    INPUTS, which should not be among the --maps it is trained on. Prints a table beside the paper's.

    Example: gonio evaluate ablations maps/moss maps/brick --steps 300 --out ablations
    """

    inputs: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="INPUTS...", help_behavior_hint="(one or more)")
    ]
    """Folders of PBR maps to measure on."""
    out: Path
    """Folder to write: models, results.json of each row, table.md."""
    rows: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="(default: all)")] = ()
    """Rows to run; all when left out."""
    maps: Annotated[tuple[Path, ...], arg(metavar="MAPS...", help_behavior_hint="")] = ()
    """Folders of PBR maps to train on besides the procedural materials."""
    steps: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Another number of training steps."""
    materials: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Train on the first so many clips of the pool."""
    resolution: int = 128
    """Pixels of the measured frames and texels of the materials, per side."""
    weights: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Weights of the video model to begin with; the bundled ones when left out."""
    recipe: str = "mini-lrm"
    """mini-lrm, or smoke (seconds, for a try)."""

    resume: ClassVar[str] = "run the same command again to go on after the last whole row"

    def run(self) -> None:
        from gonio.commands.train_video import ShownTraining, shown_pool
        from gonio.evaluate.ablations import ROWS, run_ablation, table
        from gonio.folders import make_folder
        from gonio.map_names import find_maps
        from gonio.media import write_bytes
        from gonio.progress import counted, progress
        from gonio.train.lrm import RECIPES

        names = self.rows or tuple(ROWS)
        for name in names:
            if name not in ROWS:
                raise UsageError(f"--rows {name}: known are {', '.join(ROWS)}")
        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe {self.recipe}: known are {', '.join(RECIPES)}")
        if not self.inputs:
            raise UsageError("no materials; name one folder of maps or more")
        folders = {path.resolve().name: path for path in self.inputs}
        for folder in folders.values():
            find_maps(folder)
        recipe = RECIPES[self.recipe]
        if self.steps is not None:
            recipe = replace(recipe, loop=replace(recipe.loop, steps=self.steps))
        make_folder(self.out)
        pool = shown_pool(recipe.clips, self.maps)
        pool = replace(pool, records=pool.records[: self.materials])
        found = {}
        for name in names:
            with (
                progress("Preparing materials", len(pool)) as step,
                ShownTraining(f"Training {name}", recipe.loop.steps) as shown,
            ):
                found[name] = run_ablation(
                    name,
                    recipe,
                    self.out,
                    pool,
                    lambda material: self._case(folders[material]),
                    list(folders),
                    settings={"resolution": self.resolution},
                    weights=self.weights,
                    prepared=counted(step),
                    report=shown.report,
                )
            print(f"{name}: {found[name]['mean']['psnr']:.2f} dB on {len(folders)} materials")
        write_bytes(self.out / "table.md", (table(found) + "\n").encode())
        print(table(found))

    def _case(self, folder: Path) -> Case:
        from gonio.evaluate.reconstruction import make_case
        from gonio.pbr import load_material_maps

        return make_case(load_material_maps(folder), views=17, resolution=self.resolution)
