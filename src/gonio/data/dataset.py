"""A folder of training clips: material videos with captions, licences and reference photographs.

    dataset.json        what every clip was made with; another run with other settings is refused
    manifest.jsonl      one record a finished clip (`gonio.data.ledger`)
    clips/ID/           a material video (`gonio.material_video`), and photo.png
    unfinished/ID/      the clip a killed run was at

A clip is made in unfinished/, moved to clips/ whole, then entered in the manifest. So a run that was killed
goes on where it was, and what the manifest lists is complete. Everything about a clip follows from its id and
the settings: the order, the number and the interruptions of runs change nothing.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gonio import media
from gonio.camera import Trajectory, two_phase
from gonio.data.heightfield import HeightFieldBatch, shade
from gonio.data.ledger import Record, append_record, read_ledger, sha256, write_ledger
from gonio.data.photos import Environments, quick_photograph
from gonio.data.procedural import measured_attributes
from gonio.data.sources import SourceMaterial, Split, candidates, is_held_out, load_candidate
from gonio.errors import GonioError, UsageError
from gonio.folders import make_folder
from gonio.material_video import reference_uv, write_manifest, write_preview
from gonio.media.limits import read_bytes
from gonio.pbr import PBRMaterial
from gonio.progress import progress

Renderer = Literal["heightfield", "mitsuba"]
# (attributes of a material, a key that varies the wording) -> its captions, at least one.
Describe = Callable[[Mapping[str, Any], str], Sequence[str]]

SCHEMA = "gonio-clips/1"
MANIFEST = "manifest.jsonl"
MAX_COUNT = 1_000_000
PHOTO = "photo.png"


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """What every clip of a data set is made with.

    resolution: pixels per side. spp: samples per pixel of Mitsuba. turns: quarter turns of every finite
    source (4 is the paper's augmentation). photos: a folder of panoramas for reference photographs.
    """

    frames: int = 17
    resolution: int = 128
    renderer: Renderer = "heightfield"
    spp: int = 32
    seed: int = 0
    split: Split = "train"
    turns: int = 1
    photos: Path | None = None

    def __post_init__(self) -> None:
        if self.renderer not in get_args(Renderer):
            raise UsageError(f"no renderer {self.renderer!r}; give one of {', '.join(get_args(Renderer))}")
        if not 16 <= self.resolution <= 2048:
            raise UsageError(f"--resolution {self.resolution}: allowed are 16 to 2048")
        if not 1 <= self.spp <= 65536:
            raise UsageError(f"--spp {self.spp}: allowed are 1 to 65536")
        try:
            two_phase(self.frames)
        except GonioError as error:
            raise UsageError(f"--frames: {error}") from None

    @property
    def map_resolution(self) -> int:
        """Two texels a pixel: the orbiting camera is no nearer than that."""
        return 2 * self.resolution


def make_videos(
    sources: Sequence[str], out: Path, *, count: int, settings: VideoSettings, describe: Describe
) -> list[Record]:
    """The first `count` clips of the sources into `out`; those that are there already are kept.

    Returns the records in the order of the sources. Fewer come when the sources end (a warning says so).
    """
    if not 1 <= count <= MAX_COUNT:
        raise UsageError(f"--count {count}: allowed are 1 to {MAX_COUNT}")
    environments = Environments(settings.photos) if settings.photos else None
    stream = candidates(sources, seed=settings.seed, split=settings.split, turns=settings.turns)
    done = _opened(out, sources, settings)
    records: list[Record] = []
    with progress("Making clips", count) as step:
        for candidate in stream:
            record = done.get(candidate.id)
            if record is None:
                source = load_candidate(candidate, settings.map_resolution)
                if source is None:
                    continue
                record = _make_clip(source, out, settings, environments, describe)
                append_record(out / MANIFEST, record)
            records.append(record)
            step(note=candidate.id)
            if len(records) == count:
                break
    shutil.rmtree(out / "unfinished", ignore_errors=True)
    if len(records) < count:
        warnings.warn(f"{out}: the sources end after {len(records)} clips of {count}", stacklevel=2)
    return records


def read_dataset(folder: Path) -> dict[str, Record]:
    """The records of a folder of clips, by id. GonioError where there are none."""
    records = read_ledger(folder / MANIFEST)
    if not records:
        raise GonioError(f"{folder}: no clips here (no {MANIFEST}); make some with gonio data videos")
    for record in records.values():
        missing = [key for key in ("folder", "captions", "files", "attributes") if key not in record]
        if missing:
            raise GonioError(f"{folder / MANIFEST}: clip {record['id']} has no {missing[0]!r}; make it again")
    return records


def verify_clip(folder: Path, record: Record) -> None:
    """Compare the clip's files with the hashes in its record; GonioError names the first that differs."""
    clip = clip_folder(folder, record)
    for name, digest in record["files"].items():
        path = clip / name
        if not path.is_file() or sha256(read_bytes(path)) != digest:
            cure = f"remove {clip} and run gonio data videos again"
            raise GonioError(f"{path}: missing, or not the file that was written; {cure}")


def clip_folder(folder: Path, record: Record) -> Path:
    """The clip's folder; a record cannot lead out of the data set."""
    clip = (folder / str(record["folder"])).resolve()
    if not clip.is_relative_to(folder.resolve()):
        raise GonioError(f"{folder / MANIFEST}: clip {record['id']} lies outside the folder; make it again")
    return clip


def rewrite_captions(folder: Path, caption: Callable[[Path, Record], Sequence[str]]) -> list[Record]:
    """New captions for every clip: caption(clip's folder, record). The manifest is replaced when all are
    done, so that an interrupted run leaves the old ones."""
    records = read_dataset(folder)
    written = []
    with progress("Writing captions", len(records)) as step:
        for record in records.values():
            captions = [str(text) for text in caption(clip_folder(folder, record), record)]
            if not any(text.strip() for text in captions):
                raise GonioError(f"{folder}: clip {record['id']} got no caption; try another captioner")
            written.append(record | {"captions": captions})
            step()
    write_ledger(folder / MANIFEST, written)
    return written


def perspective_frames(
    batch: HeightFieldBatch, trajectory: Trajectory, resolution: int, *, supersampling: int = 2
) -> tuple[Tensor, Tensor]:
    """Every material of the batch as the trajectory's cameras see it, by the height-field renderer.

    Returns frames [B, F, H, W, 3] linear, black beyond the sample, and the sample's share of each pixel
    [F, H, W]. The border of the sample is cut in its plane: relief that rises over it from this side, or
    hides behind it, is that of the next tile.
    """
    side = resolution * supersampling
    device = batch.displacement.device
    frames, coverage = [], []
    for index in range(trajectory.frames):
        uv = reference_uv(trajectory.subset([index]), side, side)[0].to(device)
        inside = ((uv >= 0) & (uv <= 1)).all(-1)
        points = uv[inside][None].expand(batch.batch, -1, -1)
        camera, light = (
            position[index].to(device).reshape(1, 1, 3).expand(batch.batch, 1, 3)
            for position in (trajectory.camera_position, trajectory.light_position)
        )
        picture = torch.zeros(batch.batch, side, side, 3, device=device)
        picture[:, inside] = shade(batch, points, camera, light)
        planes = avg_pool2d(picture.permute(0, 3, 1, 2), supersampling)
        frames.append(planes.permute(0, 2, 3, 1))
        coverage.append(avg_pool2d(inside.float()[None], supersampling)[0])
    return torch.stack(frames, 1), torch.stack(coverage)


def _opened(out: Path, sources: Sequence[str], settings: VideoSettings) -> dict[str, Record]:
    """The finished clips of a folder that was made with these settings; a fresh folder is set up."""
    make_folder(out)
    identity = {
        "schema": SCHEMA,
        "sources": list(sources),
        **asdict(settings),
        "photos": str(settings.photos) if settings.photos else None,
    }
    path = out / "dataset.json"
    if path.exists():
        if media.read_json(path) != identity:
            raise GonioError(f"{path}: the clips here were made with other settings; choose another --out")
    else:
        media.write_json(path, identity)
    records = read_ledger(out / MANIFEST)
    kept = {name: record for name, record in records.items() if clip_folder(out, record).is_dir()}
    write_ledger(out / MANIFEST, kept.values())  # ends in a whole line, whatever stood there
    return kept


def _make_clip(
    source: SourceMaterial,
    out: Path,
    settings: VideoSettings,
    environments: Environments | None,
    describe: Describe,
) -> Record:
    """Render one clip and put it in its place. Returns its record."""
    attributes = _attributes(source.material)
    captions = [str(text) for text in describe(attributes, f"{settings.seed}-{source.id}")]
    provenance = {
        "licence": source.licence,
        "attribution": source.attribution,
        "material_id": source.material_id,
        "quarter_turns": source.quarter_turns,
    }
    material = source.material
    work, clip = out / "unfinished" / source.id, out / "clips" / source.id
    render = _scan_clip if settings.renderer == "mitsuba" else _stream_clip
    render(material, work, settings, provenance)
    photo = _take_photo(material, work, source.id, settings, environments) if environments else None
    files = {
        p.relative_to(work).as_posix(): sha256(read_bytes(p)) for p in sorted(work.rglob("*")) if p.is_file()
    }
    shutil.rmtree(clip, ignore_errors=True)  # moved there by a run that was killed before it said so
    clip.parent.mkdir(parents=True, exist_ok=True)
    os.replace(work, clip)
    return {
        "id": source.id,
        **provenance,
        "held_out": is_held_out(source.material_id),
        "captions": captions,
        "attributes": attributes,
        "frames": settings.frames,
        "resolution": settings.resolution,
        "renderer": settings.renderer,
        "photo": photo,
        "folder": f"clips/{source.id}",
        "files": files,
    }


def _attributes(material: PBRMaterial) -> dict[str, Any]:
    """What is known of a material, for captions and scores: said by its source, or measured on its maps."""
    metadata = material.metadata
    said = {key: metadata[key] for key in ("category", "tags", "description") if metadata.get(key)}
    known = metadata.get("attributes")
    attributes = {"name": material.name, **said, **measured_attributes(material)}
    if any("metallic" in note for note in metadata.get("defaults", [])):
        attributes["metallic"] = None  # nobody knows: there was no map
    return attributes | (known if isinstance(known, dict) else {})


def _scan_clip(
    material: PBRMaterial, work: Path, settings: VideoSettings, provenance: dict[str, Any]
) -> None:
    from gonio.scan import ScanSettings, scan

    credited = replace(material, metadata=material.metadata | provenance)
    scan_settings = ScanSettings(
        resolution=settings.resolution, spp=settings.spp, seed=settings.seed, aov=False
    )
    scan(credited, work, trajectory=two_phase(settings.frames), settings=scan_settings, title=material.name)


def _stream_clip(
    material: PBRMaterial, work: Path, settings: VideoSettings, provenance: dict[str, Any]
) -> None:
    shutil.rmtree(work, ignore_errors=True)
    make_folder(work / "frames")
    trajectory = two_phase(settings.frames)
    rendered, coverage = perspective_frames(
        HeightFieldBatch.from_materials([material]), trajectory, settings.resolution
    )
    frames = rendered[0]
    for index in range(settings.frames):
        channels = dict(zip("RGB", frames[index].unbind(-1), strict=True))
        media.write_exr(work / "frames" / f"{index:04d}.exr", channels | {"A": coverage[index]})
    described = {"name": material.name, "kind": "height field", **material.metadata, **provenance}
    write_preview(work, frames)
    write_manifest(work, trajectory, described, ".exr")


def _take_photo(
    material: PBRMaterial, work: Path, name: str, settings: VideoSettings, environments: Environments
) -> dict[str, Any]:
    place = environments.draw(f"{settings.seed}-{name}")
    if settings.renderer == "mitsuba":
        from gonio.scan import ScanSettings, photograph

        scan_settings = ScanSettings(resolution=settings.resolution, spp=settings.spp, seed=settings.seed)
        picture = photograph(
            material, place.environment, settings=scan_settings, rotate_degrees=place.degrees
        )
    else:
        picture = quick_photograph(material, place, settings.resolution)
    media.write_image(work / PHOTO, picture)
    return {"environment": place.name, "degrees": place.degrees}
