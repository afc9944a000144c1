"""Pools of rectified clips: what the mini video models and the mini reconstruction model learn from.

A rectified clip shows a material along a trajectory with every frame unwarped to the sample's uv, so all
frames are aligned with the texture. The height-field renderer shades such frames directly, without a camera's
pixels between. A pool is rendered once, shard by shard, into the cache folder and read from there.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gonio import media
from gonio.blocks import for_each_block, whole_blocks
from gonio.camera import Trajectory, two_phase
from gonio.color import srgb_from_linear
from gonio.data.heightfield import HeightFieldBatch, shade
from gonio.data.procedural import measured_attributes, sample_material
from gonio.data.procedural.layouts import CHOSEN
from gonio.errors import GonioError
from gonio.folders import cache_folder
from gonio.pbr import PBRMaterial, load_material_maps

SCHEMA = 1
SHARD = 32  # clips a file
# Rendered together by one worker: few enough that the march's tensors stay in its cache.
GROUP = 4
MAP_SIZE = 512  # pixels per side to which real maps are brought first


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What a pool holds: `procedural` materials, and real maps `repeats` times each, cropped and turned anew.

    resolution: texels per side. frames: of the two-phase trajectory. plain: procedural materials at their
    simplest and upright, which a small model learns sooner; layouts: and so many of each family, or those
    of `LAYOUTS`, one as often as another, which it learns sooner still. varied: so many procedural
    materials beside them, of any kind, neither plain nor in a layout.
    """

    procedural: int = 2000
    resolution: int = 128
    frames: int = 17
    seed: int = 0
    repeats: int = 8
    plain: bool = False
    layouts: int | Literal["chosen"] | None = None
    varied: int = 0


def texel_centers(size: int) -> Tensor:
    """uv of the texel centres, row 0 at v = 1. [size * size, 2]"""
    ramp = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(1 - ramp, ramp, indexing="ij")
    return torch.stack([u, v], -1).reshape(-1, 2)


def rectified_frames(batch: HeightFieldBatch, trajectory: Trajectory, size: int) -> Tensor:
    """The batch along a trajectory, unwarped to the sample's uv. [B, F, size, size, 3] linear radiance."""
    uv = texel_centers(size).expand(batch.batch, -1, -1)
    frames = []
    for camera, light in zip(trajectory.camera_position, trajectory.light_position, strict=True):
        places = (place.expand(batch.batch, 1, 3) for place in (camera, light))
        frames.append(shade(batch, uv, *places).reshape(batch.batch, size, size, 3))
    return torch.stack(frames, 1)


def symmetries(trajectory: Trajectory) -> list[tuple[int, bool, list[int]]]:
    """The turns and mirrorings of the sample that map the trajectory onto itself.

    Each is (quarter turns counter-clockwise, mirrored in u first, source frame of every frame): a clip
    transformed so is exactly the clip of the transformed material. The identity comes first.
    """
    found = []
    places = torch.cat([trajectory.camera_position, trajectory.light_position], -1)
    for mirrored in (False, True):
        for turns in range(4):
            moved = []
            for place in (trajectory.camera_position, trajectory.light_position):
                x, y, z = (-place[:, 0] if mirrored else place[:, 0]), place[:, 1], place[:, 2]
                for _ in range(turns):
                    x, y = -y, x
                moved.append(torch.stack([x, y, z], -1))
            moved_places = torch.cat(moved, -1)
            distance = (places[:, None] - moved_places).norm(dim=-1)
            if float(distance.amin(1).max()) < 1e-3:
                found.append((turns, mirrored, distance.argmin(1).tolist()))
    return found


def transformed(clip: Tensor, symmetry: tuple[int, bool, list[int]]) -> Tensor:
    """The clip of the turned or mirrored material. clip [..., F, H, W, 3]."""
    turns, mirrored, source = symmetry
    clip = clip.index_select(-4, torch.tensor(source, device=clip.device))
    clip = clip.flip(-2) if mirrored else clip
    return torch.rot90(clip, turns, (-3, -2))


Job = Callable[[], tuple[PBRMaterial, dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class ClipPool:
    """Rendered clips on disk. records: one per clip, with `attributes`, `name`, `category`, `licence`."""

    folder: Path
    settings: ClipSettings
    maps: tuple[Path, ...]
    records: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.records)

    @functools.cached_property
    def trajectory(self) -> Trajectory:
        return two_phase(self.settings.frames)

    @functools.cached_property
    def symmetries(self) -> list[tuple[int, bool, list[int]]]:
        """Those a clip may be shown under: of plain materials, those that leave them upright; where
        their layouts are counted, the identity, or there would be more."""
        found = symmetries(self.trajectory)
        if self.settings.layouts is not None:
            return found[:1]
        return [symmetry for symmetry in found if symmetry[0] == 0] if self.settings.plain else found

    def material(self, index: int) -> PBRMaterial:
        """The material that a clip shows, made again."""
        return self._jobs[index]()[0]

    @functools.cached_property
    def _jobs(self) -> list[Job]:
        return list(_jobs(self.settings, self.maps))

    @functools.cached_property
    def _shards(self) -> list[Any]:
        count = -(-len(self.records) // SHARD)
        return [safe_open(_shard_path(self.folder, i), "pt").get_slice("frames") for i in range(count)]

    def clip(self, index: int, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """One clip, or a crop of it. [F, h, w, 3] uint8 display-encoded."""
        shard, place = divmod(index, SHARD)
        return self._shards[shard][place : place + 1, :, rows, columns][0]


def make_pool(
    settings: ClipSettings,
    folders: Sequence[Path] = (),
    *,
    report: Callable[[int], None] | None = None,
) -> ClipPool:
    """The pool of these settings and maps, from the cache or rendered now; goes on after the last shard."""
    identity = {**asdict(settings), "maps": [f.name for f in folders], "schema": SCHEMA}
    if settings.layouts == "chosen":
        identity["chosen"] = CHOSEN
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_folder() / "clips" / key
    jobs = list(_jobs(settings, folders))
    trajectory = two_phase(settings.frames)
    records: list[dict[str, Any]] = []
    with whole_blocks():
        for start in range(0, len(jobs), SHARD):
            path = _shard_path(folder, start // SHARD)
            found = _shard_records(path)
            if found is None:
                found = _render_shard(jobs[start : start + SHARD], trajectory, settings, path)
            records += found
            if report is not None:
                report(len(records))
    return ClipPool(folder=folder, settings=settings, maps=tuple(folders), records=records)


def _jobs(settings: ClipSettings, folders: Sequence[Path]) -> Iterator[Job]:
    """Real maps spread evenly among the procedural ones, so that every part of the pool has both."""
    real = [functools.partial(_real, f, n, settings) for n in range(settings.repeats) for f in folders]
    procedural = settings.procedural + settings.varied
    of_any_kind = replace(settings, plain=False, layouts=None)
    every = max(1, procedural // len(real)) if real else procedural + 1
    for index in range(procedural):
        if index % every == every - 1 and real:
            yield real.pop(0)
        varied = index >= settings.procedural
        seed = settings.seed * 1_000_003 + index
        yield functools.partial(_procedural, seed, of_any_kind if varied else settings, varied=varied)
    yield from real


def _procedural(seed: int, settings: ClipSettings, *, varied: bool) -> tuple[PBRMaterial, dict[str, Any]]:
    family = layout = None
    if settings.layouts == "chosen":
        family, layout = CHOSEN[seed % len(CHOSEN)]
    elif settings.layouts is not None:
        layout = seed % settings.layouts
    material = sample_material(
        seed, family=family, resolution=settings.resolution, plain=settings.plain, layout=layout
    )
    notes = material.metadata
    if settings.layouts == "chosen":
        notes["attributes"]["layout"] = layout
    record = {"name": material.name, "attributes": notes["attributes"], "licence": notes["licence"]}
    return material, record | {"varied": varied}


@functools.cache
def _maps(folder: Path) -> PBRMaterial:
    return load_material_maps(folder).resized(MAP_SIZE)


def _real(folder: Path, repeat: int, settings: ClipSettings) -> tuple[PBRMaterial, dict[str, Any]]:
    """Real maps: whole the first time, then windows of the whole or half the width anywhere.

    The renderer takes a window for periodic too: a few texels at its border see what lies across.
    """
    maps = _maps(folder)
    draw = torch.Generator().manual_seed(hash_seed(folder.name, repeat, settings.seed))
    top, left = torch.randint(MAP_SIZE, (2,), generator=draw).tolist() if repeat else (0, 0)
    size = MAP_SIZE // (1 + repeat % 2)
    material = maps.window(top, left, size).resized(settings.resolution)
    record = {
        "name": folder.name,
        "category": maps.metadata.get("category"),
        "tags": maps.metadata.get("tags", []),
        "attributes": measured_attributes(material),
        "licence": maps.metadata.get("licence"),
    }
    return material, record


def hash_seed(*parts: object) -> int:
    """A seed from anything printable, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def _render_shard(
    jobs: list[Job], trajectory: Trajectory, settings: ClipSettings, path: Path
) -> list[dict[str, Any]]:
    def group(start: int, stop: int) -> tuple[Tensor, list[dict[str, Any]]]:
        made = [job() for job in jobs[start:stop]]
        batch = HeightFieldBatch.from_materials([material for material, _ in made])
        frames = srgb_from_linear(rectified_frames(batch, trajectory, settings.resolution))
        return (frames * 255).round().to(torch.uint8), [record for _, record in made]

    results = for_each_block(len(jobs), group, size=GROUP)
    records = [record for _, found in results for record in found]
    with media.atomic_path(path) as beside:
        frames = torch.cat([frames for frames, _ in results])
        save_file({"frames": frames}, beside, metadata={"records": json.dumps(records)})
    return records


def _shard_path(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.safetensors"


def _shard_records(path: Path) -> list[dict[str, Any]] | None:
    """The records of a shard that is there, None where it is not."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})["records"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise GonioError(f"{path}: damaged clips ({error}); remove the file to render it again") from None
