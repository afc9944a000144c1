"""gonio demo: the whole material pipeline from a prompt, ending with a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

PROMPT = "weathered green copper with rivets"


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Generate a material from a prompt, reconstruct it from the video, render it, and write a report.

    Needs no GPU, no network and no input. Opens nothing; prints the path of report.html.

    Example: gonio demo "red brick wall with pale mortar" --out gonio-demo --seed 3
    """

    prompt: Annotated[Positional[str], arg(metavar="PROMPT")] = PROMPT
    """What to make."""
    out: Path = Path("gonio-demo")
    """Folder to write."""
    seed: int = 0
    """Seed of the video."""

    resume: ClassVar[str] = "run the same command again to go on where it stopped"

    def run(self) -> None:
        from gonio.demo import run_demo
        from gonio.generate.pipeline import SamplingSettings
        from gonio.models.text import check_prompt

        check_prompt(self.prompt)
        print(run_demo(self.out, self.prompt, sampling=SamplingSettings(seed=self.seed)))
