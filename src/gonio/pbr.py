"""PBRMaterial: the maps of one flat material, from a folder of images and back.

Conventions: row 0 is v = 1, normals are tangent space and OpenGL (+y = +v), displacement is in tile widths,
roughness is perceptual. A tile width is the width of the maps; pixels are square, so a map of W columns has
a pixel pitch of 1/W tile widths in both directions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from gonio.color import srgb_from_linear
from gonio.errors import GonioError
from gonio.map_names import find_maps
from gonio.media import atomic_folder, read_color, read_data, read_json, write_data_png, write_json

DEFAULT_ROUGHNESS = 0.5
DEFAULT_METALLIC = 0.0
# A height map without a scale gets the slopes of its normal map, or these, up to this many tile widths.
DEFAULT_SLOPE = 0.2
MAX_DEFAULT_HEIGHT_FACTOR = 0.05
MAX_HEIGHT_FACTOR = 0.3  # tile widths
MAX_METADATA_BYTES = 2**20
_FLAT_NORMAL = (0.0, 0.0, 1.0)
_CONVENTIONS = {"gl": "GL", "opengl": "GL", "ogl": "GL", "dx": "DX", "directx": "DX", "d3d": "DX"}


@dataclass(frozen=True, kw_only=True, eq=False)
class PBRMaterial:
    """A flat material. All maps share [H, W] and are float32.

    `metadata` holds licence, author, source, caption, physical_size_m (metres a tile width) and whatever
    else metadata.json said; its entry "defaults" lists, in words, what was assumed because the source did not
    say.
    """

    name: str
    basecolor: Tensor  # [H, W, 3] linear Rec.709 in [0, 1]
    normal: Tensor  # [H, W, 3] unit vectors, tangent space, +y = +v
    roughness: Tensor  # [H, W] perceptual, in [0, 1]
    metallic: Tensor  # [H, W] in [0, 1]
    height: Tensor  # [H, W] in [0, 1]
    height_mean: float  # the height that stays at z = 0
    height_factor: float  # tile widths per unit of height
    has_height: bool
    tileable: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.basecolor.shape[:2]
        expected = {
            "basecolor": (*size, 3),
            "normal": (*size, 3),
            "roughness": size,
            "metallic": size,
            "height": size,
        }
        for map_name, shape in expected.items():
            self._check_map(map_name, tuple(shape))
        lengths = self.normal.norm(dim=-1)
        if float((lengths - 1).abs().max()) > 1e-3:
            raise self._error("normals that are not unit vectors; normalise them")
        for number in ("height_mean", "height_factor"):
            if not math.isfinite(getattr(self, number)):
                raise self._error(f"a {number} of {getattr(self, number)}; give a finite number")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.basecolor.shape[0], self.basecolor.shape[1]

    @property
    def displacement(self) -> Tensor:
        """[H, W] in tile widths: (height - height_mean) * height_factor."""
        return (self.height - self.height_mean) * self.height_factor

    def rotated(self, quarter_turns: int) -> PBRMaterial:
        """The sample turned counter-clockwise, seen from above, by quarter turns.

        Maps and normal vectors turn. The tile width is the new map's width, so for rectangular maps an odd
        turn rescales height_factor to keep the slopes.
        """
        turns = quarter_turns % 4
        x, y, z = self.normal.unbind(-1)
        for _ in range(turns):
            x, y = -y, x
        rows, columns = self.size
        return replace(
            self,
            basecolor=_turned(self.basecolor, turns),
            normal=_turned(torch.stack((x, y, z), dim=-1), turns),
            roughness=_turned(self.roughness, turns),
            metallic=_turned(self.metallic, turns),
            height=_turned(self.height, turns),
            height_factor=self.height_factor * (columns / rows if turns % 2 else 1.0),
        )

    def resized(self, height: int, width: int | None = None) -> PBRMaterial:
        """The same sample in other pixels; square when only one number is given.

        Area average where it shrinks, bilinear where it grows (wrapping when tileable). Colour is averaged
        in linear light, normals as vectors, renormalised. Another aspect ratio stretches the surface along v,
        and the normals with it.
        """
        width = height if width is None else width
        if height < 1 or width < 1:
            raise GonioError(
                f"material {self.name!r} cannot be resized to {width}x{height}; give positive sizes"
            )
        rows, columns = self.size
        stretch = (height / width) / (rows / columns)

        def resized(image: Tensor) -> Tensor:
            return resized_map(image, height, width, wrap=self.tileable)

        slope_scale = self.normal.new_tensor([1.0, 1.0 / stretch, 1.0])
        return replace(
            self,
            basecolor=resized(self.basecolor).clamp(0, 1),
            normal=_unit(resized(normalize(self.normal * slope_scale, dim=-1))),
            roughness=resized(self.roughness).clamp(0, 1),
            metallic=resized(self.metallic).clamp(0, 1),
            height=resized(self.height).clamp(0, 1),
        )

    def each_map(self, change: Callable[[Tensor], Tensor]) -> PBRMaterial:
        """The same change of pixels, [H, W, ...] to [h, w, ...], made to every map."""
        return replace(
            self,
            basecolor=change(self.basecolor),
            normal=change(self.normal),
            roughness=change(self.roughness),
            metallic=change(self.metallic),
            height=change(self.height),
        )

    def window(self, top: int, left: int, size: int) -> PBRMaterial:
        """A square piece [size, size] that starts at a row and column and runs on across the border.

        It becomes a sample of its own: one tile width is the piece's width, so slopes stay.
        """
        if not 1 <= size <= min(self.size):
            raise GonioError(
                f"material {self.name!r} has no window of {size} pixels; take 1 to {min(self.size)}"
            )
        rows, columns = (
            (torch.arange(size) + start) % n for start, n in zip((top, left), self.size, strict=True)
        )

        def cut(image: Tensor) -> Tensor:
            return image[rows][:, columns].contiguous()

        return replace(
            self.each_map(cut),
            height_factor=self.height_factor * self.size[1] / size,
            tileable=self.tileable and (size, size) == self.size,
        )

    def _check_map(self, map_name: str, shape: tuple[int, ...]) -> None:
        values: Tensor = getattr(self, map_name)
        if tuple(values.shape) != shape or 0 in shape:
            raise self._error(f"a {map_name} map of shape {list(values.shape)}; it must be {list(shape)}")
        if values.dtype != torch.float32:
            raise self._error(f"a {map_name} map of type {values.dtype}; convert it to float32")
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise self._error(f"{bad} NaN or infinite values in its {map_name} map; export it again")
        low, high = float(values.min()), float(values.max())
        if map_name != "normal" and (low < -1e-6 or high > 1 + 1e-6):
            raise self._error(f"{map_name} values from {low:.4g} to {high:.4g}; scale them to [0, 1]")

    def _error(self, problem: str) -> GonioError:
        return GonioError(f"material {self.name!r} has {problem}")


def normal_from_displacement(displacement: Tensor) -> Tensor:
    """Unit normals [H, W, 3] (+y = +v) of a periodic surface [H, W] in tile widths, by central differences.

    One tile width is the width of the map and pixels are square: the pitch is 1/W in both directions.
    """
    per_two_pixels = displacement.shape[1] / 2
    along_u = (displacement.roll(-1, 1) - displacement.roll(1, 1)) * per_two_pixels
    along_v = (displacement.roll(1, 0) - displacement.roll(-1, 0)) * per_two_pixels  # row - 1 is higher v
    return normalize(torch.stack((-along_u, -along_v, torch.ones_like(along_u)), dim=-1), dim=-1)


def resized_map(image: Tensor, height: int, width: int, *, wrap: bool) -> Tensor:
    """[H, W] or [H, W, C] -> [height, width(, C)]: area average where it shrinks, bilinear where it grows."""
    planes = image.unsqueeze(-1) if image.ndim == 2 else image
    rows, columns = planes.shape[:2]
    small = (min(rows, height), min(columns, width))
    if small != (rows, columns):
        planes = interpolate(planes.permute(2, 0, 1)[None], size=small, mode="area")[0].permute(1, 2, 0)
    planes = _enlarged(_enlarged(planes, height, 0, wrap), width, 1, wrap)
    return (planes[..., 0] if image.ndim == 2 else planes).contiguous()


def load_material_maps(folder: str | os.PathLike[str]) -> PBRMaterial:
    """A folder of maps, with an optional metadata.json -> PBRMaterial at the size of the base colour.

    Common file-name variants are recognised (`gonio.map_names`). Base colour is required; what else is
    missing gets a default that metadata["defaults"] states. The normal convention comes from the file name,
    else from metadata `normal_convention`, else GL; DX is flipped to GL. `height_mean` comes from the
    metadata, else from the map; `height_factor` from metadata `height_factor`, else
    `height_scale_tile_widths`, else so that the surface is as steep as the normal map says (root mean
    square), or 0.2 without one, but at most 0.05 tile widths.
    """
    folder = Path(folder)
    maps = find_maps(folder)
    metadata = _read_metadata(folder)
    notes = _notes(metadata)
    if _number(folder, metadata, "physical_size_m", 1.0) <= 0:
        raise GonioError(f"{folder / 'metadata.json'} has a physical_size_m that is not positive; correct it")
    basecolor = read_color(maps.files["basecolor"])
    _check_unit_range(maps.files["basecolor"], basecolor)
    basecolor = basecolor.clamp(0, 1)
    size = (basecolor.shape[0], basecolor.shape[1])

    if "roughness" in maps.files:
        roughness = _read_grey(maps.files["roughness"], size)
    elif "glossiness" in maps.files:
        roughness = 1 - _read_grey(maps.files["glossiness"], size)
    else:
        roughness = torch.full(size, DEFAULT_ROUGHNESS)
        notes.append(f"no roughness map: {DEFAULT_ROUGHNESS}")
    if "metallic" in maps.files:
        metallic = _read_grey(maps.files["metallic"], size)
    else:
        metallic = torch.full(size, DEFAULT_METALLIC)
        notes.append(f"no metallic map: {DEFAULT_METALLIC:g}")

    has_height = "height" in maps.files and metadata.get("has_height") is not False
    height = _read_grey(maps.files["height"], size) if has_height else torch.zeros(size)
    normal: Tensor | None = None
    if "normal" in maps.files:
        normal, convention = _read_normal(maps.files["normal"], size, maps.convention, metadata, notes)
        metadata["source_normal_convention"] = metadata.get("source_normal_convention", convention)
    height_mean, height_factor = 0.0, 0.0
    if has_height:
        height_mean = _number(folder, metadata, "height_mean", float(height.double().mean()))
        height_factor = _height_factor(folder, metadata, height, normal, notes)
    else:
        notes.append("no height map: flat")
    if normal is None:
        normal = normal_from_displacement((height - height_mean) * height_factor)
        notes.append("no normal map: from the height map" if has_height else "no normal map: flat")
    metadata["normal_convention"] = "GL"
    metadata["defaults"] = notes

    name = metadata.get("name")
    return PBRMaterial(
        name=name if isinstance(name, str) and name.strip() else folder.resolve().name,
        basecolor=basecolor,
        normal=normal,
        roughness=roughness,
        metallic=metallic,
        height=height,
        height_mean=height_mean,
        height_factor=height_factor,
        has_height=has_height,
        tileable=metadata.get("tileable") is not False,
        metadata=metadata,
    )


def save_material_maps(material: PBRMaterial, folder: str | os.PathLike[str]) -> None:
    """Write basecolor.png (sRGB, 8 bit), normal.png (GL, 16 bit), roughness.png and metallic.png (8 bit),
    height.png (16 bit) and metadata.json. All files appear together or not at all.
    """
    document = material.metadata | {
        "name": material.name,
        "tileable": material.tileable,
        "has_height": material.has_height,
        "height_mean": material.height_mean,
        "height_factor": material.height_factor,
        "normal_convention": "GL",
    }
    with atomic_folder(folder) as target:
        write_data_png(target / "basecolor.png", srgb_from_linear(material.basecolor))
        write_data_png(target / "normal.png", material.normal * 0.5 + 0.5, bits=16)
        write_data_png(target / "roughness.png", material.roughness)
        write_data_png(target / "metallic.png", material.metallic)
        write_data_png(target / "height.png", material.height, bits=16)
        write_json(target / "metadata.json", document)


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / "metadata.json"
    if not path.exists():
        return {}
    metadata = read_json(path, MAX_METADATA_BYTES)
    if not isinstance(metadata, dict):
        raise GonioError(f"{path} holds no JSON object; write one or remove the file")
    return metadata


def _notes(metadata: dict[str, Any]) -> list[str]:
    """What an earlier load already assumed, when these maps were saved by Gonio."""
    earlier = metadata.get("defaults")
    return [note for note in earlier if isinstance(note, str)] if isinstance(earlier, list) else []


def _number(folder: Path, metadata: dict[str, Any], key: str, default: float) -> float:
    value = metadata.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise GonioError(f"{folder / 'metadata.json'} has a {key} that is not a finite number; correct it")
    return float(value)


def _height_factor(
    folder: Path, metadata: dict[str, Any], height: Tensor, normal: Tensor | None, notes: list[str]
) -> float:
    scale = _number(folder, metadata, "height_scale_tile_widths", math.nan)
    factor = _number(folder, metadata, "height_factor", scale)
    if math.isnan(factor):
        wanted = DEFAULT_SLOPE if normal is None else _slope(normal)
        # Slopes grow in proportion to the factor: one look at the surface at a small one tells.
        steepness = _slope(normal_from_displacement(height * 1e-3)) * 1e3
        factor = min(MAX_DEFAULT_HEIGHT_FACTOR, wanted / max(steepness, 1e-9))
        basis = f"slope {DEFAULT_SLOPE}" if normal is None else "the slopes of the normal map"
        notes.append(f"no height scale: {factor:.4g} tile widths, from {basis}")
    if abs(factor) > MAX_HEIGHT_FACTOR:
        notes.append(f"height factor {factor:g} clamped to {MAX_HEIGHT_FACTOR} tile widths")
        return math.copysign(MAX_HEIGHT_FACTOR, factor)
    return factor


def _slope(normal: Tensor) -> float:
    """Root mean square slope of a surface with these normals [H, W, 3]."""
    tangents = normal[..., :2] / normal[..., 2:].clamp_min(0.05)
    return float(tangents.double().square().sum(-1).mean().sqrt())


def _read_grey(path: Path, size: tuple[int, int]) -> Tensor:
    """[H, W] in [0, 1] at `size`."""
    values = read_data(path, 1)
    _check_unit_range(path, values)
    return _fitted(path, values[..., 0], size).clamp(0, 1)


def _read_normal(
    path: Path, size: tuple[int, int], named: str | None, metadata: dict[str, Any], notes: list[str]
) -> tuple[Tensor, str]:
    """([H, W, 3] unit vectors in the GL convention, the convention of the file)."""
    encoded = read_data(path, 3)
    _check_unit_range(path, encoded)
    vectors = encoded * 2 - 1
    stated = metadata.get("normal_convention")
    convention = named or (_CONVENTIONS.get(stated.strip().lower()) if isinstance(stated, str) else None)
    if convention is None:
        convention = "GL"
        notes.append("no normal convention stated: GL")
    if convention == "DX":
        vectors = vectors * vectors.new_tensor([1.0, -1.0, 1.0])
    if float(vectors[..., 2].mean()) < 0.1:
        raise GonioError(f"{path} is no tangent-space normal map (it does not point up); export one")
    return _unit(_fitted(path, _unit(vectors), size)), convention


def _check_unit_range(path: Path, values: Tensor) -> None:
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise GonioError(f"{path} has values from {low:.4g} to {high:.4g}; scale them to [0, 1]")


def _fitted(path: Path, image: Tensor, size: tuple[int, int]) -> Tensor:
    """The map at the size of the base colour; rounding aside, aspect ratios must agree."""
    rows, columns = image.shape[:2]
    skew = abs(math.log((rows / columns) / (size[0] / size[1])))
    if skew > 1.01 / min(rows, columns, *size):
        raise GonioError(
            f"{path} is {columns}x{rows} pixels, the base colour {size[1]}x{size[0]}; "
            "export all maps with one aspect ratio"
        )
    return image if (rows, columns) == size else resized_map(image, *size, wrap=True)


def _unit(vectors: Tensor) -> Tensor:
    """Unit vectors; where a vector vanishes (unused texels filled with mid grey) it points up."""
    flat = vectors.new_tensor(_FLAT_NORMAL)
    vanishing = vectors.norm(dim=-1, keepdim=True) < 1e-3
    return normalize(torch.where(vanishing, flat, vectors), dim=-1)


def _turned(image: Tensor, turns: int) -> Tensor:
    return torch.rot90(image, turns, dims=(0, 1)).contiguous()


def _enlarged(planes: Tensor, length: int, dim: int, wrap: bool) -> Tensor:
    """Bilinear along one axis, pixel centres at (i + 0.5) / length; the border wraps or repeats."""
    old = planes.shape[dim]
    if length == old:
        return planes
    position = (torch.arange(length, dtype=torch.float64) + 0.5) * (old / length) - 0.5
    left = position.floor()
    weight = (position - left).to(planes.dtype).reshape([-1 if axis == dim else 1 for axis in range(3)])
    first, second = left.long(), left.long() + 1
    if wrap:
        first, second = first % old, second % old
    else:
        first, second = first.clamp(0, old - 1), second.clamp(0, old - 1)
    return torch.lerp(planes.index_select(dim, first), planes.index_select(dim, second), weight)
