"""MatSynth (Vecchio and Deschaintre 2024): rows of the data set -> PBRMaterial, licence and credit included.

A row has `name`, `category` (a number into `CATEGORIES`, or its name), `metadata` and one image per map. It
comes from the hub or a local copy in the hub's layout through the optional package `datasets`, or from a
folder of extracted materials, `.../<name>/{basecolor.png, ..., metadata.json}`, which needs no package.

Facts the conversion rests on: normals are OpenGL (+y up); height is 16 bit and the displacement is
(height - height_mean) * height_factor in tile widths; physical_size is in centimetres, mostly not a number.

No field says "tileable". The 1,600 or so rows that are not are crops of the data of Deschaintre et al. 2018;
they are recognised by their metadata's source, `deschaintre_2020`.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gonio.errors import GonioError
from gonio.map_names import recognise
from gonio.media import IMAGE_SUFFIXES, read_data, read_json, write_bytes, write_json
from gonio.media.limits import reason, shown
from gonio.pbr import PBRMaterial, load_material_maps

HUB = "gvecchio/MatSynth"
CATEGORIES = (
    "ceramic", "concrete", "fabric", "ground", "leather", "marble", "metal",
    "misc", "plaster", "plastic", "stone", "terracotta", "wood",
)  # fmt: skip
MAPS = ("basecolor", "normal", "roughness", "metallic", "height", "opacity")
COLUMNS = ("name", "category", "metadata", *MAPS)
CROPS_SOURCE = "deschaintre_2020"
# 95 % of the rows stay below 0.061 tile widths per unit of height; the largest say 2.5, which is no surface.
MAX_HEIGHT_FACTOR = 0.1
# A share of pixels this large that lets light through makes a material that the maps alone cannot describe.
_MAX_TRANSPARENT = 0.01
# Undecoded rows are 75 MB each: few can wait. The order of the files is shuffled as well.
_SHUFFLE_BUFFER = 8
_CURE = "or give a local copy: matsynth:/folder"

Row = Mapping[str, Any]


def rows(location: Path | None, *, seed: int | None = None) -> Iterator[Row]:
    """The training rows of the hub (None) or a local copy, undecoded; in the hub's layout shuffled by seed.

    The official test rows are left alone. Raises GonioError in one line: no package, no network, no rows.
    """
    if location is None:
        yield from _streamed(HUB, seed)
        return
    if not location.is_dir():
        raise GonioError(f"{shown(location)} is no folder; name a copy of MatSynth, {_CURE}")
    if any(location.glob("*.parquet")) or any(location.glob("data/*.parquet")):
        yield from _streamed(str(location), seed)
        return
    found = False
    for row in extracted_rows(location):
        found = True
        yield row
    if not found:
        problem = "holds neither parquet files nor folders with a basecolor map"
        raise GonioError(f"{shown(location)} {problem}; name a copy of MatSynth")


def extracted_rows(location: Path) -> Iterator[Row]:
    """Rows of a tree `[train/]<category>/<name>/`, in the order of their paths; images are paths."""
    root = location / "train" if (location / "train").is_dir() else location
    for basecolor in sorted(root.rglob("basecolor.*")):
        folder = basecolor.parent
        if basecolor.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        images: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            known = recognise(path.stem) if path.suffix.lower() in IMAGE_SUFFIXES else None
            name = path.stem.lower() if path.stem.lower() in MAPS else known[0] if known else None
            if name in MAPS:
                images.setdefault(name, path)
        images["basecolor"] = basecolor
        yield {"name": folder.name, "category": folder.parent.name, "metadata": _read(folder)} | images


def reason_to_skip(row: Row, *, crops: bool = False) -> str | None:
    """Why this row is left out, judged without decoding an image; None when it is wanted.

    crops: take the crops that do not tile as well, as the paper's main model does.
    """
    metadata = _metadata(row)
    if not crops and metadata.get("source") == CROPS_SOURCE:
        return "a crop that does not tile"
    if not metadata.get("license"):
        return "it states no licence"
    if row.get("basecolor") is None:
        return "it has no base colour"
    return None


def row_name(row: Row) -> str:
    """The row's name as part of an id: lower case letters, digits, '-' and '_'."""
    name = re.sub(r"[^a-z0-9_-]+", "_", str(row.get("name") or _metadata(row).get("name") or "").lower())
    if not name.strip("_"):
        raise GonioError("MatSynth: a row without a name; fetch that file again")
    return name


def material_from_row(row: Row) -> PBRMaterial:
    """The row's maps at the size of its base colour. Its metadata says licence, attribution and what was
    assumed. Raises GonioError for damaged maps and for materials that let light through."""
    name = row_name(row)
    with tempfile.TemporaryDirectory(prefix="gonio-matsynth-") as place:
        folder = Path(place)
        try:
            for map_name in MAPS:
                if row.get(map_name) is not None:
                    _stage(row[map_name], folder / f"{map_name}.png")
            _refuse_transparent(folder / "opacity.png")
            write_json(folder / "metadata.json", _described(row, name))
            material = load_material_maps(folder)
        except GonioError as error:
            raise GonioError(f"MatSynth {name}: {str(error).replace(f'{folder}/', '')}") from None
    factor = material.height_factor
    if abs(factor) <= MAX_HEIGHT_FACTOR:
        return material
    note = f"height factor {factor:g} clamped to {MAX_HEIGHT_FACTOR} tile widths"
    notes = [*material.metadata["defaults"], note]
    return replace(
        material,
        height_factor=math.copysign(MAX_HEIGHT_FACTOR, factor),
        metadata=material.metadata | {"defaults": notes},
    )


def _described(row: Row, name: str) -> dict[str, Any]:
    """metadata.json of the row: Gonio's words for what MatSynth says, and the credit it asks for."""
    given = _metadata(row)
    licence = str(given.get("license") or "unstated")
    author = ", ".join(str(name) for name in given.get("authors") or [])
    link = str(given.get("link") or "")
    by = f" by {author}" if author else ""
    said: dict[str, Any] = {
        "name": name,
        "category": _category(row),
        "licence": licence,
        "author": author,
        "attribution": f"{name}{by}{f' ({link})' if link else ''}, {licence}, from MatSynth ({HUB})",
        "source": str(given.get("source") or "unstated"),
        "link": link,
        "tags": [str(tag) for tag in given.get("tags") or []],
        "description": str(given.get("description") or ""),
        "method": str(given.get("method") or ""),
        "stationary": given.get("stationary"),
        "tileable": given.get("source") != CROPS_SOURCE,
        "normal_convention": "GL",
    }
    mean, factor = _finite(given.get("height_mean")), _finite(given.get("height_factor"))
    if mean is not None and 0 <= mean <= 1:
        said["height_mean"] = mean
    if factor is not None:
        said["height_factor"] = factor
    size = _finite(given.get("physical_size"))
    if size is not None and size > 0:
        said["physical_size_m"] = size / 100
    return said


def _category(row: Row) -> str:
    given = row.get("category")
    if isinstance(given, int) and 0 <= given < len(CATEGORIES):
        return CATEGORIES[given]
    stated = _metadata(row).get("category") or given
    return str(stated).lower() if isinstance(stated, str) else "misc"


def _metadata(row: Row) -> Mapping[str, Any]:
    given = row.get("metadata")
    return given if isinstance(given, Mapping) else {}


def _finite(value: Any) -> float | None:
    """A number, also one that an extraction script wrote as text; None for nan and nothing."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _read(folder: Path) -> dict[str, Any]:
    """metadata.json of an extracted material: the row's metadata, or an object that holds it."""
    path = folder / "metadata.json"
    if not path.exists():
        return {}
    document = read_json(path)
    if not isinstance(document, dict):
        raise GonioError(f"{shown(path)} holds no JSON object; extract that material again")
    inner = document.get("metadata")
    return inner if isinstance(inner, dict) else document


def _stage(image: Any, path: Path) -> None:
    """Put one map, however the row holds it, where the reader of map folders looks for it."""
    if isinstance(image, Path):
        path.symlink_to(image.resolve())
    elif isinstance(image, Mapping) and isinstance(image.get("bytes"), bytes):
        write_bytes(path, image["bytes"])
    elif callable(getattr(image, "save", None)):  # decoded by `datasets`
        image.save(path, "PNG")
    else:
        raise GonioError(f"{path.stem} is neither encoded bytes nor a picture; stream with undecoded images")


def _refuse_transparent(path: Path) -> None:
    if path.exists():
        share = float((read_data(path, 1) < 0.5).float().mean())
        path.unlink()
        if share > _MAX_TRANSPARENT:
            raise GonioError(f"{share:.0%} of it lets light through; leave it out")


def _streamed(location: str, seed: int | None) -> Iterator[Row]:
    try:
        from datasets import Image, load_dataset
    except ImportError:
        raise GonioError(
            f"MatSynth in its own files needs the package datasets: pip install 'gonio[datasets]', {_CURE}"
        ) from None
    try:
        stream = load_dataset(location, split="train", streaming=True)
        columns = stream.column_names or list(COLUMNS)
        stream = stream.select_columns([name for name in COLUMNS if name in columns])
        for name in MAPS:
            if name in columns:
                stream = stream.cast_column(name, Image(decode=False))
        if seed is not None:
            stream = stream.shuffle(seed=seed, buffer_size=_SHUFFLE_BUFFER)
        yield from stream
    except Exception as error:  # of a network, a hub, a parquet reader: theirs are many
        raise GonioError(
            f"MatSynth cannot be read from {location} ({reason(error)}); check the network, {_CURE}"
        ) from None
