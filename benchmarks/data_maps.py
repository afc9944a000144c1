"""Which folders of maps a benchmark works on: those named, else those of the data folder ($GONIO_DATA)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from gonio.train.attributes import held_out


def chosen_maps(
    named: Sequence[Path], *, with_height: bool = False, unseen: bool = False, most: int | None = None
) -> list[Path]:
    """unseen: leave out those that bundled weights were trained on. most: the first so many.

    Ends the program where there are none.
    """
    if named:
        return list(named)
    root = Path(os.environ.get("GONIO_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    tests: list[Callable[[Path], bool]] = [lambda p: any(p.glob("basecolor.*"))]
    if with_height:
        tests.append(lambda p: any(p.glob("height.*")))
    if unseen:
        tests.append(lambda p: held_out(p.name))
    found = [p for p in sorted(root.glob("materials*/*")) if all(test(p) for test in tests)]
    if not found:
        print(f"skipped: no maps named, and none below {root}")
        raise SystemExit(0)
    return found[:most]
