"""Latents and text embeddings of a folder of clips, computed once, verified whenever they are read.

    cache.json          model, numbers, projection: what the cache was made with
    manifest.jsonl      one record a clip: file, its SHA-256, model, source, captions, shapes, perhaps the
                        layout it shows and, for each caption, those that are meant by it
    items/ID.safetensors
        latents         [z, f, h, w]
        text.0, ...     [N, D] of each caption, without padding
        photo           [z, f, h, w] of the clip's reference photograph as a clip, if it has one
        image           [M, D] tokens of the photograph, where the model has an image encoder
    empty_text.safetensors
        text            [N, D] of "", for guidance without a prompt

Encoders are passed in as functions: this module knows no model.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gonio import media
from gonio.color import srgb_from_linear
from gonio.data.dataset import PHOTO, clip_folder, read_dataset, verify_clip
from gonio.data.ledger import Record, append_record, read_ledger, sha256, write_ledger
from gonio.errors import GonioError, UsageError
from gonio.folders import make_folder
from gonio.material_video import load_material_video
from gonio.media.limits import read_bytes, reason
from gonio.pbr import resized_map
from gonio.progress import progress
from gonio.rectify import rectify_video

Numbers = Literal["fp32", "bf16", "fp16"]
Projection = Literal["perspective", "rectified"]
# frames [F, H, W, 3] display-encoded in [0, 1] -> latents [z, f, h, w]
EncodeVideo = Callable[[Tensor], Tensor]
# a prompt -> embeddings [N, D] of its tokens, without padding
EncodeText = Callable[[str], Tensor]
# a photograph [H, W, 3] display-encoded and a number of frames -> what is encoded of it [F, H, W, 3]
PhotoClip = Callable[[Tensor, int], Tensor]
# a photograph [H, W, 3] display-encoded in [0, 1] -> tokens [M, D]
EncodeImage = Callable[[Tensor], Tensor]

SCHEMA = "gonio-latents/1"
MANIFEST = "manifest.jsonl"
_SETTINGS = "cache.json"
_EMPTY_TEXT = "empty_text.safetensors"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_AGAIN = "run gonio data cache again: it makes what is missing or damaged"


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """model: name of the encoders' model. size: pixels per side of rectified frames (None: the frames' own);
    perspective frames are taken as they are."""

    model: str
    numbers: Numbers = "bf16"
    projection: Projection = "perspective"
    size: int | None = None

    def __post_init__(self) -> None:
        if self.numbers not in get_args(Numbers):
            raise UsageError(f"no numbers {self.numbers!r}; give one of {', '.join(get_args(Numbers))}")
        if self.projection not in get_args(Projection):
            raise UsageError(
                f"no projection {self.projection!r}; give one of {', '.join(get_args(Projection))}"
            )

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **vars(self)}


def build_cache(
    dataset: Path,
    out: Path,
    *,
    settings: CacheSettings,
    encode_video: EncodeVideo,
    encode_text: EncodeText,
    photo_clip: PhotoClip,
    encode_image: EncodeImage | None = None,
) -> LatentCache:
    """Encode every clip of a folder of clips into `out`. What is there, whole and still up to date is kept.

    A clip is encoded again when its frames, its captions or its file in the cache have changed. A clip that
    is not what its manifest says stops the work.
    """
    clips = read_dataset(dataset)
    known = open_cache(out, settings, encode_text)
    kept = {name: r for name, r in known.items() if name in clips and _is_current(r, clips[name])}
    write_ledger(out / MANIFEST, kept.values())
    with progress("Encoding clips", len(clips)) as step:
        for name, clip in clips.items():
            if name not in kept:
                verify_clip(dataset, clip)
                tensors = _encoded(
                    dataset, clip, settings, encode_video, encode_text, photo_clip, encode_image
                )
                append_item(out, _credited(clip), tensors, settings)
            step(note=name)
    return LatentCache(out)


def open_cache(out: Path, settings: CacheSettings, encode_text: EncodeText) -> dict[str, Record]:
    """Make the folder, or go on in one made with the same settings. Returns the records of whole items by id.

    Items whose file is missing or damaged are struck from the manifest, so that they are made again.
    """
    make_folder(out / "items")
    path = out / _SETTINGS
    if not path.exists():
        media.write_json(path, settings.to_json())
    elif media.read_json(path) != settings.to_json():
        raise GonioError(f"{path}: this cache was made with another model or numbers; choose another --out")
    whole = {name: r for name, r in read_ledger(out / MANIFEST).items() if _is_whole(out, r)}
    write_ledger(out / MANIFEST, whole.values())
    if not (out / _EMPTY_TEXT).exists():
        empty = _checked("the empty prompt", "text.0", encode_text(""))
        media.write_bytes(out / _EMPTY_TEXT, save({"text": _stored(empty, settings)}))
    return whole


def append_item(out: Path, about: Record, tensors: dict[str, Tensor], settings: CacheSettings) -> None:
    """Write one item of an opened cache and enter it in the manifest.

    about: its "id" (fit for a file name), "captions", "source", "licence" and what else shall be said of it.
    tensors: "latents", "text.N" for every caption, and "photo" and "image" where there is a photograph.
    """
    wanted = {"latents", *(f"text.{number}" for number in range(len(about["captions"])))}
    if not about["captions"] or not wanted <= set(tensors) <= {*wanted, "photo", "image"}:
        raise GonioError(f"clip {about['id']}: its tensors are {sorted(tensors)}, expected {sorted(wanted)}")
    stored = {
        name: _stored(_checked(about["id"], name, tensor), settings) for name, tensor in tensors.items()
    }
    # One entry: the order of several in the file is not fixed, and the same item shall give the same bytes.
    credit = json.dumps({**about, "model": settings.model}, sort_keys=True)
    content = save(stored, metadata={"item": credit})
    record = about | {
        "file": f"items/{about['id']}.safetensors",
        "model": settings.model,
        "shapes": {name: list(tensor.shape) for name, tensor in stored.items()},
        "sha256": sha256(content),
        "bytes": len(content),
    }
    media.write_bytes(_item_path(out, record), content)
    append_record(out / MANIFEST, record)


class LatentCache:
    """Encoded clips by number, in the order of the manifest; every read checks the file's hash.

    `cache[i]` is {"id", "caption", "latents" [z, f, h, w], "text" [N, D], "layout"} and, where the clip has a
    reference photograph, "photo" [z, f, h, w] and perhaps "image" [M, D]. layout: None where the manifest
    names none. A file that is missing or damaged raises GonioError.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        settings = media.read_json(self.folder / _SETTINGS)
        if not isinstance(settings, dict) or settings.pop("schema", None) != SCHEMA:
            raise GonioError(f"{self.folder / _SETTINGS}: no cache of schema {SCHEMA}; make it again")
        try:
            self.settings = CacheSettings(**settings)
        except TypeError as error:
            raise GonioError(f"{self.folder / _SETTINGS}: {reason(error)}; make the cache again") from None
        self.records = list(read_ledger(self.folder / MANIFEST).values())
        if not self.records:
            raise GonioError(f"{self.folder / MANIFEST}: no clips in this cache; {_AGAIN}")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.item(index)

    def item(self, index: int, caption: int = 0) -> dict[str, Any]:
        """Clip number `index` with one of its captions (counted round)."""
        record = self.records[index]
        tensors = self._read(record)
        choice = caption % len(record["captions"])
        found = {
            "id": record["id"],
            "caption": record["captions"][choice],
            "latents": tensors["latents"],
            "text": tensors[f"text.{choice}"],
            "layout": record.get("layout"),
        }
        return found | {name: tensors[name] for name in ("photo", "image") if name in tensors}

    def latents_and_texts(self, index: int) -> tuple[Tensor, list[Tensor]]:
        """Latents [z, f, h, w] of clip number `index` and embeddings [N, D] of all its captions."""
        record = self.records[index]
        tensors = self._read(record)
        return tensors["latents"], [tensors[f"text.{number}"] for number in range(len(record["captions"]))]

    def sample(self, number: int, seed: int) -> dict[str, Any]:
        """Item `number` = 0, 1, 2, ... of an endless shuffled reading.

        Every epoch of len(self) numbers holds each clip once, in an order of its own; captions take turns by
        chance. A function of (number, seed) alone: training resumes exactly by remembering one number, and
        process r of n reads the numbers r, r + n, r + 2 n, ...
        """
        epoch, place = divmod(number, len(self))
        index = _order(seed, epoch, len(self))[place]
        draw = hashlib.sha256(f"gonio caption {seed} {number}".encode()).digest()
        return self.item(index, caption=int.from_bytes(draw[:4], "big"))

    def stream(self, seed: int, *, start: int = 0, stride: int = 1) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number, sample(number)) from `start` on, without end."""
        number = start
        while True:
            yield number, self.sample(number, seed)
            number += stride

    @functools.cached_property
    def empty_text(self) -> Tensor:
        """Embeddings of the empty prompt. [N, D]"""
        path = self.folder / _EMPTY_TEXT
        return _tensors(path, read_bytes(path))["text"]

    def _read(self, record: Record) -> dict[str, Tensor]:
        path = _item_path(self.folder, record)
        content = read_bytes(path) if path.is_file() else b""
        if sha256(content) != record["sha256"]:
            raise GonioError(f"{path}: missing, or not the file that was written; {_AGAIN}")
        return _tensors(path, content)


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    digest = hashlib.sha256(f"gonio order {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    return torch.randperm(count, generator=generator).tolist()


def _encoded(
    dataset: Path,
    clip: Record,
    settings: CacheSettings,
    encode_video: EncodeVideo,
    encode_text: EncodeText,
    photo_clip: PhotoClip,
    encode_image: EncodeImage | None,
) -> dict[str, Tensor]:
    folder = clip_folder(dataset, clip)
    video = load_material_video(folder)
    rectified = settings.projection == "rectified"
    frames = srgb_from_linear(rectify_video(video, settings.size)[0] if rectified else video.frames)
    tensors = {"latents": encode_video(frames)}
    if (folder / PHOTO).exists():
        photo = srgb_from_linear(_fitted(media.read_color(folder / PHOTO), frames))
        tensors["photo"] = encode_video(photo_clip(photo, len(frames)))
        if encode_image is not None:
            tensors["image"] = encode_image(photo)
    for number, caption in enumerate(clip["captions"]):
        tensors[f"text.{number}"] = encode_text(caption)
    return tensors


def _fitted(photo: Tensor, frames: Tensor) -> Tensor:
    """A photograph [h, w, 3] linear at the size of the frames [F, H, W, 3]."""
    size = (frames.shape[1], frames.shape[2])
    return photo if photo.shape[:2] == size else resized_map(photo, *size, wrap=False)


def _checked(name: str, role: str, tensor: Tensor) -> Tensor:
    axes = "[z, f, h, w]" if role in ("latents", "photo") else "[N, D]"
    if tensor.ndim != (4 if role in ("latents", "photo") else 2):
        raise GonioError(f"clip {name}: {role} is {list(tensor.shape)}, expected {axes}; check the encoder")
    if not bool(torch.isfinite(tensor).all()):
        raise GonioError(f"clip {name}: {role} holds NaN or infinite values; check the encoder")
    return tensor


def _stored(tensor: Tensor, settings: CacheSettings) -> Tensor:
    stored = tensor.detach().to("cpu", _DTYPES[settings.numbers]).contiguous()
    if not bool(torch.isfinite(stored).all()):
        raise GonioError(f"values up to {float(tensor.abs().max()):.3g} do not fit fp16; take --numbers bf16")
    return stored


def _credited(clip: Record) -> Record:
    """What the cache says of a clip."""
    said = {key: str(clip.get(key, "unstated")) for key in ("licence", "attribution")}
    return {"id": clip["id"], "captions": list(clip["captions"]), "source": _source(clip), **said}


def _is_current(record: Record, clip: Record) -> bool:
    """Is the record what today's clip would give?"""
    return record.get("source") == _source(clip) and record.get("captions") == list(clip["captions"])


def _is_whole(out: Path, record: Record) -> bool:
    path = _item_path(out, record)
    return path.is_file() and sha256(read_bytes(path)) == record.get("sha256")


def _source(clip: Record) -> str:
    """A hash of the clip's files."""
    return sha256("\n".join(f"{name} {digest}" for name, digest in sorted(clip["files"].items())).encode())


def _item_path(out: Path, record: Record) -> Path:
    path = out / str(record.get("file", ""))
    if not path.resolve().is_relative_to(out.resolve()):
        raise GonioError(f"{out / MANIFEST}: {record['id']} lies outside the cache; {_AGAIN}")
    return path


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return load(content)
    except SafetensorError as error:
        raise GonioError(f"{path}: no whole safetensors file ({reason(error)}); {_AGAIN}") from None
