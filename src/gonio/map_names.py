"""Which file in a folder is which map: the file-name habits of texture libraries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gonio.errors import GonioError
from gonio.media import IMAGE_SUFFIXES

# Earlier spellings win over later ones when a folder holds several.
MAP_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "basecolor": (
        ("basecolor",),
        ("base", "color"),
        ("basecolour",),
        ("base", "colour"),
        ("albedo",),
        ("diffuse",),
        ("diff",),
        ("color",),
        ("colour",),
        ("col",),
    ),
    "normal": (
        ("normalgl",),
        ("normal", "gl"),
        ("nor", "gl"),
        ("nrm", "gl"),
        ("normal", "opengl"),
        ("normal", "ogl"),
        ("normal",),
        ("nor",),
        ("nrm",),
        ("normaldx",),
        ("normal", "dx"),
        ("nor", "dx"),
        ("nrm", "dx"),
        ("normal", "directx"),
    ),
    "roughness": (("roughness",), ("rough",), ("rgh",)),
    "glossiness": (("glossiness",), ("gloss",)),
    "metallic": (("metallic",), ("metalness",), ("metal",), ("met",)),
    "height": (("height",), ("displacement",), ("disp",), ("bump",)),
}
# What may follow the map's name: resolution, file kind, bit depth, a running number.
_TRAILING = re.compile(
    r"\d+k?|\d+x\d+|\d+bit|jpe?g|png|tiff?|exr|srgb|raw|lin(ear)?|map|tex(ture)?|tile[ds]?"
)
_CONVENTION_TOKENS = {"gl": "GL", "opengl": "GL", "ogl": "GL", "dx": "DX", "directx": "DX"}


@dataclass(frozen=True, kw_only=True)
class FoundMaps:
    """`files` by map name, and the normal convention ("GL" or "DX") if the normal map's name states one."""

    files: dict[str, Path]
    convention: str | None


def find_maps(folder: Path) -> FoundMaps:
    """The map files of a folder. Base colour must be there; two equally good files are an error."""
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise GonioError(f"{folder} {problem}; name a folder of material maps")
    try:
        names = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        )
    except OSError as error:
        raise GonioError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error

    ranked: dict[str, list[tuple[tuple[int, int], Path]]] = {}
    for path in names:
        role = recognise(path.stem)
        if role is not None:
            ranked.setdefault(role[0], []).append((role[1], path))
    _drop_previews(ranked)
    files: dict[str, Path] = {}
    for map_name, candidates in ranked.items():
        best = min(rank for rank, _ in candidates)
        winners = [path for rank, path in candidates if rank == best]
        if len(winners) > 1:
            raise GonioError(
                f"{folder} has {winners[0].name} and {winners[1].name} for the {map_name} map; keep one"
            )
        files[map_name] = winners[0]
    if "basecolor" not in files:
        accepted = ", ".join("_".join(tokens) for tokens in MAP_NAMES["basecolor"])
        raise GonioError(
            f"{folder} has no base colour map; name it one of {accepted} (.png, .jpg, .exr, ...)"
        )
    return FoundMaps(files=files, convention=_stated_convention(files.get("normal")))


def _drop_previews(ranked: dict[str, list[tuple[tuple[int, int], Path]]]) -> None:
    """Libraries add a rendered "rusty_metal.png" to "rusty_metal_diff.png": that is no metallic map."""
    others = [path.stem.lower() for name, found in ranked.items() if name != "metallic" for _, path in found]
    kept = [
        (rank, path)
        for rank, path in ranked.pop("metallic", [])
        if not any(re.match(re.escape(path.stem.lower()) + "[^0-9a-z]", other) for other in others)
    ]
    if kept:
        ranked["metallic"] = kept


def recognise(stem: str) -> tuple[str, tuple[int, int]] | None:
    """(map name, rank) of a file name without its suffix, or None. A lower rank is a better match.

    The right-most name counts, because materials are called "metal_plate" but maps "metal_plate_diff".
    A name that only resolution and the like follow is better than one in the middle.
    """
    tokens = [token for token in re.split(r"[^0-9a-z]+", stem.lower()) if token]
    found: tuple[int, int, str, int] | None = None  # (end, length, map, preference)
    for map_name, spellings in MAP_NAMES.items():
        for preference, spelling in enumerate(spellings):
            for end in range(len(tokens), len(spelling) - 1, -1):
                if tuple(tokens[end - len(spelling) : end]) == spelling:
                    if found is None or (end, len(spelling)) > found[:2]:
                        found = (end, len(spelling), map_name, preference)
                    break
    if found is None:
        return None
    end, _, map_name, preference = found
    trailing = all(_TRAILING.fullmatch(token) for token in tokens[end:])
    return map_name, (0 if trailing else 1, preference)


def _stated_convention(path: Path | None) -> str | None:
    if path is None:
        return None
    tokens = re.split(r"[^0-9a-z]+", path.stem.lower())
    for token in reversed(tokens):
        stated = _CONVENTION_TOKENS.get(token.removeprefix("normal").removeprefix("nor"))
        if stated:
            return stated
    return None
