"""Progress bars for work that takes more than a moment; silent where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Step(Protocol):
    def __call__(self, advance: int = 1, note: str = "") -> None: ...


def counted(step: Step) -> Callable[..., None]:
    """step, for work that tells how much is done in all: (done, note) instead of (advance, note)."""
    before = 0

    def report(done: int, note: str = "") -> None:
        nonlocal before
        step(done - before, note)
        before = done

    return report


@contextmanager
def progress(title: str, total: int) -> Iterator[Step]:
    """A bar on standard error; yields step(advance, note). The note stands behind it (a PSNR, a loss)."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(title, total=total, note="")

        def step(advance: int = 1, note: str = "") -> None:
            bar.update(task, advance=advance)
            if note:
                bar.update(task, note=note)

        yield step
