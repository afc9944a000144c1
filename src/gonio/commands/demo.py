"""gonio demo: the whole material pipeline, ending with a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gonio.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Make a material, scan it, reconstruct it from 17 frames, render it, and write a report.

    Needs no GPU, no network and no input. Opens nothing; prints the path of report.html.

    Example: gonio demo --out gonio-demo --seed 3
    """

    out: Path = Path("gonio-demo")
    """Folder to write."""
    seed: int = 0
    """Which procedural material."""
    resolution: int = 256
    """Pixels of the frames and texels of the material, per side."""

    resume: ClassVar[str] = "run the same command again to go on where it stopped"

    def run(self) -> None:
        from gonio.demo import MAX_RESOLUTION, MIN_RESOLUTION, run_demo

        if not MIN_RESOLUTION <= self.resolution <= MAX_RESOLUTION:
            limits = f"{MIN_RESOLUTION} to {MAX_RESOLUTION}"
            raise UsageError(f"--resolution {self.resolution}: allowed are {limits}")
        print(run_demo(self.out, seed=self.seed, resolution=self.resolution))
