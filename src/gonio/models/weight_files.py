"""Weights in files: known by their headers, read a tensor at a time, written in shards, never half."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gonio import media
from gonio.errors import GonioError, UsageError

Shapes = Mapping[str, tuple[int, ...]]

MAX_WEIGHT_BYTES = 128 * 2**30  # of one network: 16.4 G parameters in fp32 are 61 GiB
MAX_TENSORS = 65_536
STEM = "diffusion_pytorch_model"  # what diffusers calls the weights of a network
TRANSFORMERS_STEM = "model"  # what transformers calls them
PACKING_FILE = "packing.safetensors"  # beside an autoencoder's weights, see `packing`
# Files of a network that a repository shall hold, and of one that only the hub holds.
SMALL_SHARD_BYTES, SMALL_NETWORK_BYTES = 16_000_000, 256 << 20
MAX_SHARD_BYTES = 2 << 30
_HEADER_BYTES_PER_TENSOR = 256  # a name, a type, a shape and two offsets in a shard's header
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_SHOWN = 3  # keys named in a complaint


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Named tensors of one network, of which only the headers are read until `read(name)`."""

    files: tuple[Path, ...]
    shapes: Shapes
    read: Callable[[str], Tensor]


def open_weights(path: Path) -> Weights:
    """A .safetensors file, a .safetensors.index.json, or a folder that holds exactly one of either."""
    if path.is_dir():
        path = _weights_in(path)
    if path.name.endswith(".index.json"):
        places = _read_index(path)
    elif path.suffix == ".safetensors":
        places = None
    else:
        raise GonioError(f"{path}: not a .safetensors file; save the weights as safetensors")
    files = (path,) if places is None else tuple(dict.fromkeys(places.values()))
    check_total(path, sum(_size(file) for file in files))
    handles: dict[str, Any] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            handle = safe_open(file, "pt")
            names = list(handle.keys())
            if len(names) + len(shapes) > MAX_TENSORS:
                raise GonioError(f"{file}: more than {MAX_TENSORS} tensors; this is no network Gonio knows")
            for name in names:
                view = handle.get_slice(name)
                if view.get_dtype() not in _DTYPES:
                    raise GonioError(
                        f"{file}: {name} is {view.get_dtype()}, quantised; use the {', '.join(_DTYPES)} file"
                    )
                if places is not None and places.get(name) != file:
                    raise GonioError(f"{file}: {name} is not listed in {path.name}; fetch the files again")
                shapes[name], handles[name] = tuple(view.get_shape()), handle
        except (SafetensorError, OSError) as error:
            raise GonioError(f"{file}: not a readable safetensors file ({error}); fetch it again") from None
    lost = sorted(set(places or ()) - set(shapes))
    if lost:
        raise GonioError(f"{path}: lists {lost[0]}, which its file does not hold; fetch the files again")
    return Weights(files=files, shapes=shapes, read=lambda name: handles[name].get_tensor(name))


def read_small(path: Path, schema: str, limit: int) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and tensors of one of Gonio's own files of at most `limit` bytes and of this schema."""
    if not path.is_file() or path.stat().st_size > limit:
        raise GonioError(
            f"{path}: no file of at most {limit >> 20} MiB; install gonio again, or name another file"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise GonioError(f"{path}: not a readable safetensors file ({error})") from None
    if metadata.get("schema") != schema:
        raise GonioError(f"{path}: schema {metadata.get('schema')!r}, expected {schema}")
    return metadata, tensors


def _weights_in(folder: Path) -> Path:
    for pattern in ("*.safetensors.index.json", "*.safetensors"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{folder}: holds {len(found)} files {pattern}; name one of them")
    raise UsageError(f"{folder}: holds no .safetensors file; name the checkpoint itself")


def _read_index(path: Path) -> dict[str, Path]:
    """Tensor name -> file beside the index."""
    document = media.read_json(path)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not places:
        raise GonioError(f"{path}: has no weight_map; fetch it again")
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise GonioError(f"{path}: {name!r} is not the name of a .safetensors file beside it")
    return {key: path.parent / name for key, name in places.items()}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise GonioError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def check_total(path: Path, total: int) -> None:
    """Refuse more bytes than any network Gonio knows, before anything is allocated for them."""
    if total > MAX_WEIGHT_BYTES:
        raise GonioError(f"{path}: {total} bytes of weights, the limit is {MAX_WEIGHT_BYTES}")


def require_shapes(path: Path, found: Shapes, expected: Shapes) -> None:
    """Every expected name is there with its shape, and nothing else; the complaint counts what is wrong."""
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    wrong = [
        f"{name} {list(found[name])} instead of {list(expected[name])}"
        for name in expected
        if name in found and tuple(found[name]) != tuple(expected[name])
    ]
    complaints = [
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", wrong))
        if names
    ]
    if complaints:
        raise GonioError(f"{path}: the weights do not fit; {'; '.join(complaints)}")


def save_model(
    folder: Path,
    model: torch.nn.Module,
    *,
    max_bytes: int | None = None,
    dtype: torch.dtype | None = torch.float16,
) -> None:
    """A diffusers network with its configuration, as `load` reads it; see `save_sharded`."""
    config = {key: value for key, value in dict(model.config).items() if not key.startswith("_")}  # type: ignore
    named = {"_class_name": type(model).__name__, **config}
    save_sharded(folder, model.state_dict(), named, max_bytes=max_bytes, dtype=dtype)


def save_sharded(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    max_bytes: int | None = None,
    dtype: torch.dtype | None = torch.float16,
    documents: Mapping[str, Any] | None = None,
    stem: str = STEM,
    report: Callable[[int], None] = lambda count: None,
) -> None:
    """config.json and safetensors files of at most max_bytes each, with an index where there are several.

    max_bytes: None for SMALL_SHARD_BYTES, or MAX_SHARD_BYTES of a network above SMALL_NETWORK_BYTES.
    `tensors` is read one shard at a time. dtype: of floating point tensors in the file; None keeps theirs.
    documents: further JSON files by name. stem: of the files' names. report is told how many tensors were
    written.
    `folder` is replaced as a whole. GonioError where a value is not finite in `dtype` or a tensor does not
    fit a file; UsageError where `folder` holds files of another kind.
    """
    _require_ours(folder, stem)
    if max_bytes is None:
        whole = sum(_stored_bytes(tensor, dtype) for tensor in tensors.values())
        max_bytes = SMALL_SHARD_BYTES if whole <= SMALL_NETWORK_BYTES else MAX_SHARD_BYTES
    shards = _shards(tensors, max_bytes, dtype)
    fresh = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.new")
    with media.atomic_folder(fresh) as place:
        for number, names in enumerate(shards, 1):
            content = {name: _stored(name, tensors[name], dtype) for name in names}
            save_file(content, place / _shard_name(stem, number, len(shards)), metadata={"format": "pt"})
            report(len(names))
        if len(shards) > 1:
            numbered = enumerate(shards, 1)
            places = {n: _shard_name(stem, i, len(shards)) for i, names in numbered for n in names}
            total = sum(_stored_bytes(tensors[name], dtype) for name in tensors)
            media.write_json(
                place / _index_name(stem),
                {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))},
            )
        for name, document in (documents or {}).items():
            media.write_json(place / name, document)
        media.write_json(place / "config.json", dict(config))
    _put(fresh, folder)


def weights_path(folder: Path) -> Path:
    """The index of a network's folder, or its only file."""
    index = folder / _index_name(STEM)
    return index if index.is_file() else folder / f"{STEM}.safetensors"


def _require_ours(folder: Path, stem: str) -> None:
    """A folder that is replaced as a whole must not take other files with it."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder}: is a file, not a folder; choose another place")
    foreign = [
        item.name
        for item in folder.iterdir()
        if item.suffix != ".json" and not item.name.startswith((stem, PACKING_FILE))
    ]
    if foreign:
        raise UsageError(
            f"{folder}: holds {foreign[0]}, which is no part of a network; choose another folder"
        )


def _put(fresh: Path, folder: Path) -> None:
    """Two renames: at every moment either the old or the new folder is whole, under its name or beside it."""
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _shards(tensors: Mapping[str, Tensor], max_bytes: int, dtype: torch.dtype | None) -> list[list[str]]:
    """Names in order, as many to a shard as fit."""
    shards: list[list[str]] = [[]]
    room = 0
    for name in tensors:
        needed = _stored_bytes(tensors[name], dtype) + _HEADER_BYTES_PER_TENSOR
        if needed > max_bytes:
            raise GonioError(f"{name} takes {needed} bytes, a file only {max_bytes}; allow larger files")
        if shards[-1] and needed > room:
            shards.append([])
        if not shards[-1]:
            room = max_bytes - _HEADER_BYTES_PER_TENSOR
        shards[-1].append(name)
        room -= needed
    return shards


def _shard_name(stem: str, number: int, count: int) -> str:
    return f"{stem}.safetensors" if count == 1 else f"{stem}-{number:05d}-of-{count:05d}.safetensors"


def _index_name(stem: str) -> str:
    return f"{stem}.safetensors.index.json"


def _stored_bytes(tensor: Tensor, dtype: torch.dtype | None) -> int:
    itemsize = dtype.itemsize if dtype and tensor.is_floating_point() else tensor.itemsize
    return tensor.numel() * itemsize


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    kept = tensor.detach().cpu()
    if dtype is not None and kept.is_floating_point():
        kept = kept.to(dtype)
    if not bool(torch.isfinite(kept).all()):
        raise GonioError(f"{name} holds NaN, infinity or a value too large for {kept.dtype}")
    return kept.contiguous()


def folded_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape `fold` leaves of a tensor of an autoencoder: five dimensions are a causal convolution's."""
    return (*shape[:2], 1, *shape[3:]) if len(shape) == 5 else tuple(shape)


def unfolded(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `fold` for one tensor: the taps a single frame never meets are zero."""
    if tuple(weight.shape) == tuple(shape):
        return weight
    whole = weight.new_zeros(tuple(shape))
    whole[:, :, -1:] = weight
    return whole
