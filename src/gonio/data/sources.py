"""Where training materials come from, behind one iterator: procedural, folders of maps, MatSynth.

A source is named by a text:

    procedural[:SEED]          endless procedural materials
    FOLDER                     a folder of maps, or any tree of such folders
    matsynth[:FOLDER]          MatSynth's tileable rows, from the hub or a local copy
    matsynth-all[:FOLDER]      with the crops that do not tile

The same names and seed give the same materials in the same order on every machine: ids hold no absolute path.
Whether a material is held out depends on its id alone, so it stays held out in any mixture, order and count.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from gonio.data import matsynth
from gonio.data.procedural import sample_material
from gonio.errors import GonioError, UsageError
from gonio.map_names import recognise
from gonio.media import IMAGE_SUFFIXES
from gonio.pbr import PBRMaterial, load_material_maps

Split = Literal["train", "held-out", "all"]
HELD_OUT_SHARE = 0.1
QUARTER_TURNS = 4
# Streams of different seeds must not share materials.
_MATERIALS_PER_SEED = 2**40


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A material that can be made: nothing is loaded before `load(resolution)` is called.

    material_id: the same for all turns of a material. quarter_turns: counter-clockwise, seen from above.
    `load` gives a square material of resolution^2 and raises GonioError where the source is damaged.
    """

    material_id: str
    quarter_turns: int
    load: Callable[[int], PBRMaterial]

    @property
    def id(self) -> str:
        """Of the turned material; fit for a file name."""
        return self.material_id + (f"_r{90 * self.quarter_turns}" if self.quarter_turns else "")


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceMaterial:
    """A loaded material with what must be said of it wherever it goes."""

    id: str
    material_id: str
    quarter_turns: int
    material: PBRMaterial
    licence: str
    attribution: str


def stream_sources(
    sources: Sequence[str],
    *,
    resolution: int,
    seed: int | None = None,
    split: Split = "all",
    turns: int = 1,
) -> Iterator[SourceMaterial]:
    """Materials of all sources in turn, loaded. Damaged ones are left out with a warning.

    seed: shuffles (None: the sources' own order). turns: how many quarter turns of every finite source follow
    one another (4 is the paper's augmentation); a procedural source never ends.
    """
    for candidate in candidates(sources, seed=seed, split=split, turns=turns):
        found = load_candidate(candidate, resolution)
        if found is not None:
            yield found


def load_candidate(candidate: Candidate, resolution: int) -> SourceMaterial | None:
    """The candidate's material, or None with a warning where its source is damaged."""
    try:
        material = candidate.load(resolution)
    except UsageError:
        raise
    except GonioError as error:
        warnings.warn(f"left out {candidate.id}: {error}", stacklevel=2)
        return None
    metadata = material.metadata
    return SourceMaterial(
        id=candidate.id,
        material_id=candidate.material_id,
        quarter_turns=candidate.quarter_turns,
        material=material.rotated(candidate.quarter_turns),
        licence=str(metadata.get("licence") or metadata.get("license") or "unstated"),
        attribution=str(metadata.get("attribution") or metadata.get("author") or material.name),
    )


def candidates(
    sources: Sequence[str], *, seed: int | None = None, split: Split = "all", turns: int = 1
) -> Iterator[Candidate]:
    """One candidate of each source after the other, until all have ended."""
    if not sources:
        raise UsageError("no source of materials; give procedural, matsynth or a folder of maps")
    if not 1 <= turns <= QUARTER_TURNS:
        raise UsageError(f"{turns} quarter turns; give 1 to {QUARTER_TURNS}")
    if split not in get_args(Split):
        raise UsageError(f"no split {split!r}; give one of {', '.join(get_args(Split))}")
    opened = [_open(source, seed) for source in sources]
    labels = [one.label for one in opened]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"two sources are called {label!r}; give each once, or rename one folder")
    running = [_turned(one, turns) for one in opened]
    while running:
        for stream in list(running):
            for candidate in stream:
                if split == "all" or is_held_out(candidate.material_id) == (split == "held-out"):
                    yield candidate
                    break
            else:
                running.remove(stream)


def is_held_out(material_id: str, share: float = HELD_OUT_SHARE) -> bool:
    """Does this material belong to the held-out share? By a hash of the id, so for ever and everywhere."""
    digest = hashlib.sha256(f"gonio held out {material_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def square(material: PBRMaterial) -> PBRMaterial:
    """The material on a square tile, undistorted: whole repetitions where it tiles, else its middle.

    The tile width is the unit of displacement, so height_factor follows where the width of the maps changes.
    """
    rows, columns = material.size
    if rows == columns:
        return material
    long, short = max(rows, columns), min(rows, columns)
    if material.tileable and long % short == 0:
        times = long // short
        repeats = (times, 1) if rows < columns else (1, times)
        turned = material.each_map(lambda m: m.tile(*repeats, *(1,) * (m.ndim - 2)))
        return replace(turned, height_factor=material.height_factor / (times if rows > columns else 1))
    top, left = (rows - short) // 2, (columns - short) // 2
    turned = material.each_map(lambda m: m[top : top + short, left : left + short].contiguous())
    return replace(turned, height_factor=material.height_factor * columns / short, tileable=False)


# ---------------------------------------------------------------- the sources


@dataclass(frozen=True, kw_only=True)
class _Source:
    """label: what its ids begin with. listing(turn): ids and loaders of one pass; shuffled anew each pass."""

    label: str
    endless: bool
    listing: Callable[[int], Iterator[tuple[str, Callable[[int], PBRMaterial]]]]


def _turned(source: _Source, turns: int) -> Iterator[Candidate]:
    for turn in range(1 if source.endless else turns):
        for name, load in source.listing(turn):
            yield Candidate(material_id=name, quarter_turns=turn, load=load)


def _open(source: str, seed: int | None) -> _Source:
    kind, _, rest = source.partition(":")
    if kind == "procedural":
        return _procedural(source, rest)
    if kind in ("matsynth", "matsynth-all"):
        return _matsynth(Path(rest) if rest else None, kind == "matsynth-all", seed)
    folder = Path(source)
    if not folder.is_dir():
        raise UsageError(
            f"no source of materials {source!r}; give procedural[:seed], matsynth[:folder] or a folder"
        )
    return _folders(folder, seed)


def _procedural(source: str, rest: str) -> _Source:
    try:
        start = int(rest or 0)
    except ValueError:
        raise UsageError(f"{source}: the seed is a whole number, as in procedural:7") from None

    def listing(turn: int) -> Iterator[tuple[str, Callable[[int], PBRMaterial]]]:
        number = start * _MATERIALS_PER_SEED
        while True:
            yield f"procedural-{number}", _procedural_loader(number)
            number += 1

    return _Source(label=f"procedural:{start}", endless=True, listing=listing)


def _procedural_loader(number: int) -> Callable[[int], PBRMaterial]:
    return lambda resolution: sample_material(number, resolution=resolution)


def _folders(root: Path, seed: int | None) -> _Source:
    label = _slug(root.resolve().name)
    found = {
        _slug(f"{label}-{path.relative_to(root)}") if path != root else label: path for path in _maps(root)
    }
    if not found:
        raise UsageError(f"{root} holds no folder of maps with a base colour; name one that does")

    def listing(turn: int) -> Iterator[tuple[str, Callable[[int], PBRMaterial]]]:
        names = sorted(found)
        if seed is not None:
            random.Random(f"gonio-sources-{seed}-{turn}-{label}").shuffle(names)
        for name in names:
            yield name, _folder_loader(found[name])

    return _Source(label=label, endless=False, listing=listing)


def _maps(root: Path) -> Iterator[Path]:
    """The folders at or below `root` that hold a base colour map."""
    for place, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in files:
            path = Path(file)
            role = recognise(path.stem) if path.suffix.lower() in IMAGE_SUFFIXES else None
            if role is not None and role[0] == "basecolor" and not file.startswith("."):
                yield Path(place)
                break


def _folder_loader(folder: Path) -> Callable[[int], PBRMaterial]:
    return lambda resolution: square(load_material_maps(folder)).resized(resolution)


def _matsynth(location: Path | None, crops: bool, seed: int | None) -> _Source:
    def listing(turn: int) -> Iterator[tuple[str, Callable[[int], PBRMaterial]]]:
        found = matsynth.rows(location, seed=None if seed is None else seed + turn)
        for row in found:
            if matsynth.reason_to_skip(row, crops=crops) is None:
                yield f"matsynth-{matsynth.row_name(row)}", _row_loader(row)

    return _Source(label="matsynth", endless=False, listing=listing)


def _row_loader(row: matsynth.Row) -> Callable[[int], PBRMaterial]:
    return lambda resolution: square(matsynth.material_from_row(row)).resized(resolution)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "materials"
