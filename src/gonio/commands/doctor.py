"""gonio doctor: what this machine can run, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gonio.errors import GonioError


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say what this machine can run, what is missing and the cure. Exits with 0 when Gonio can work.

    Example: gonio doctor
    """

    resume: ClassVar[str] = "run gonio doctor again"

    def run(self) -> None:
        from gonio.doctor import examine

        marks = {"good": "ok    ", "lost": "lost  ", "broken": "BROKEN"}
        broken = []
        for finding in examine():
            print(f"{marks[finding.state]}  {finding.name:<9} {finding.text}")
            broken += [finding.name] * (finding.state == "broken")
        if broken:
            raise GonioError(f"{', '.join(broken)}: broken; see the cures above")
        print("Gonio can work on this machine.")
