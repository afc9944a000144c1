"""Released checkpoints -> diffusers layout: every tensor accounted for, or nothing written.

A kind of checkpoint is a row of KINDS: how its keys look, how its configuration follows from the shapes, how
its names translate. Checkpoints that people try and Gonio cannot use are rows of REFUSALS.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gonio import __version__, media
from gonio.errors import GonioError, UsageError
from gonio.media.limits import reason
from gonio.models import wan_keys
from gonio.models.load import AUTOENCODER, SUBFOLDERS, TEXT_ENCODER, TRANSFORMER, expected_shapes
from gonio.models.weight_files import (
    MAX_SHARD_BYTES,
    MAX_TENSORS,
    STEM,
    TRANSFORMERS_STEM,
    Shapes,
    Weights,
    check_total,
    open_weights,
    require_shapes,
    save_sharded,
)
from gonio.progress import progress

MANIFEST = "conversion.json"
# What trainers and wrappers put before every name of a network, in any combination.
_WRAPPERS = ("pipe", "dit", "vae", "model", "diffusion_model", "first_stage_model", "module", "_orig_mod")
# Names under which a .pt file may hold the tensors one level down.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "ema")
_HASH_BLOCK = 1 << 24
# Where a released Wan folder keeps the tokenizer of its text encoder, and what it consists of. Either of the
# first two holds the whole vocabulary.
_RELEASED_TOKENIZER = Path("google", "umt5-xxl")
_VOCABULARIES = ("tokenizer.json", "spiece.model")
_TOKENIZER_FILES = (*_VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json")
_TOKENIZER_HUB = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
_MAX_TOKENIZER_BYTES = 128 << 20  # of a file; the released tokenizer.json has 17 MB


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of checkpoint, recognised by a prefix of names that no other kind has.

    config: shapes (original names), head_dim -> configuration of the class.
    names: configuration -> table of original stems and those of the class.
    library: whose class it is, and whose names its files get.
    """

    name: str
    mark: str
    class_name: str
    config: Callable[[Shapes, int | None], dict[str, Any]]
    names: Callable[[Mapping[str, Any]], dict[str, str]]
    library: Literal["diffusers", "transformers"] = "diffusers"

    def document(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """config.json, with the class as its library names it."""
        if self.library == "transformers":
            return {"architectures": [self.class_name], "model_type": "umt5", **config}
        return {"_class_name": self.class_name, **config}


KINDS = (
    Kind(
        name="wan-transformer",
        mark="blocks.0.self_attn.",
        class_name=TRANSFORMER,
        config=wan_keys.transformer_config,
        names=wan_keys.transformer_names,
    ),
    Kind(
        name="wan-vae",
        mark="encoder.downsamples.0.residual.",
        class_name=AUTOENCODER,
        config=lambda shapes, _: wan_keys.autoencoder_config(shapes),
        names=wan_keys.autoencoder_names,
    ),
    Kind(
        name="wan-text-encoder",
        mark="blocks.0.pos_embedding.",
        class_name=TEXT_ENCODER,
        config=lambda shapes, _: wan_keys.text_encoder_config(shapes),
        names=wan_keys.text_encoder_names,
        library="transformers",
    ),
)
# Part of a name -> what the file is and what to do instead. The first that fits is told.
REFUSALS = (
    (".lora_", "a LoRA, not a whole network; load it with --lora, or rewrite it with --lora-format"),
    ("vace_blocks.", "a VACE checkpoint, which is not supported; use a text or image model of Wan 2.1"),
    (
        "encoder.downsamples.0.downsamples.",
        "a Wan 2.2 autoencoder, which is not supported; use the one of Wan 2.1",
    ),
    ("net.x_embedder.", "a Cosmos checkpoint, which is not supported yet"),
    ("net.blocks.block0.", "a Cosmos checkpoint, which is not supported yet"),
    ("condition_embedder.", "in diffusers naming already; use its folder as it is"),
    ("decoder.up_blocks.", "in diffusers naming already; use its folder as it is"),
    ("encoder.block.0.layer.", "a text encoder in transformers naming already; use its folder as it is"),
    ("visual.transformer.", "an image encoder; use the image_encoder folder of the diffusers layout"),
)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written. missing: what the text encoder still needs and where to get it, or nothing."""

    folder: Path
    kind: str
    tensors: int
    parameters: int
    config: dict[str, Any]
    missing: str = ""


def convert(checkpoint: Path, to: Path, *, kind: str = "auto", head_dim: int | None = None) -> Conversion:
    """Write `to`/transformer, `to`/vae or `to`/text_encoder, as `load` and `text` read them, with a manifest.

    checkpoint: .safetensors, its index, a folder of shards, .pt or .pth. kind: a name of KINDS or "auto".
    head_dim: channels of an attention head, for transformers that have not the released 128.
    A text encoder's tokenizer is copied to `to`/tokenizer where the release has it beside the checkpoint.
    The stored type of the weights stays. Tensors are read one output shard at a time.
    Raises UsageError for an unknown kind, GonioError for a checkpoint that is not wholly understood.
    """
    source = read_checkpoint(checkpoint)
    prefix = _prefix(source.shapes)
    shapes = {key.removeprefix(prefix): shape for key, shape in source.shapes.items()}
    chosen = _kind(checkpoint, shapes, kind)
    try:
        config = chosen.config(shapes, head_dim)
    except UsageError as error:
        raise UsageError(f"{checkpoint}: {error}") from None
    except GonioError as error:
        raise GonioError(f"{checkpoint}: {error}") from None
    names = chosen.names(config)
    keys = _original_keys(checkpoint, shapes, names, expected_shapes(chosen.class_name, config))
    tensors = _Renamed({new: prefix + old for new, old in keys.items()}, source.read)
    folder = to / SUBFOLDERS[chosen.class_name]
    tokenizer = _tokenizer_files(source.files[0].parent) if chosen.class_name == TEXT_ENCODER else []
    manifest = {
        "gonio": __version__,
        "kind": chosen.name,
        "source": _hashed(source.files),
        "prefix": prefix,
        "names": {prefix + old: new for new, old in keys.items()},
    }
    with progress("Writing tensors", len(keys)) as step:
        save_sharded(
            folder,
            tensors,
            chosen.document(config),
            max_bytes=MAX_SHARD_BYTES,
            dtype=None,
            documents={MANIFEST: manifest},
            stem=TRANSFORMERS_STEM if chosen.library == "transformers" else STEM,
            report=step,
        )
    missing = _put_tokenizer(tokenizer, to) if chosen.class_name == TEXT_ENCODER else ""
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    return Conversion(
        folder=folder,
        kind=chosen.name,
        tensors=len(keys),
        parameters=parameters,
        config=config,
        missing=missing,
    )


class _Renamed(Mapping[str, Tensor]):
    """Tensors under new names, each read when it is asked for."""

    def __init__(self, sources: Mapping[str, str], read: Callable[[str], Tensor]) -> None:
        self._sources = sources
        self._read = read

    def __getitem__(self, name: str) -> Tensor:
        return self._read(self._sources[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _prefix(keys: Collection[str]) -> str:
    """The wrappers' names that stand before every key."""
    prefix = ""
    while True:
        first = next(iter(keys), "").removeprefix(prefix)
        word = first.split(".", 1)[0]
        longer = f"{prefix}{word}."
        if word not in _WRAPPERS or not all(key.startswith(longer) for key in keys):
            return prefix
        prefix = longer


def _kind(checkpoint: Path, shapes: Shapes, wanted: str) -> Kind:
    """The one kind whose mark the keys bear; it must be the wanted one."""
    known = {kind.name: kind for kind in KINDS}
    if wanted not in ("auto", *known):
        raise UsageError(f"--kind {wanted}: known are auto, {', '.join(known)}")
    for part, what in REFUSALS:
        if any(part in key for key in shapes):
            raise GonioError(f"{checkpoint}: {what}")
    found = [kind for kind in KINDS if any(key.startswith(kind.mark) for key in shapes)]
    if len(found) != 1:
        example = ", ".join(list(shapes)[:2]) or "no tensors at all"
        raise GonioError(
            f"{checkpoint}: no known kind of checkpoint ({example}); known are {', '.join(known)}"
        )
    if wanted not in ("auto", found[0].name):
        raise UsageError(f"--kind {wanted}: {checkpoint} is a {found[0].name}")
    return found[0]


def _original_keys(
    checkpoint: Path, shapes: Shapes, names: Mapping[str, str], expected: Shapes
) -> dict[str, str]:
    """diffusers key -> original key, for every tensor of the class; anything missing or left over is told."""
    back = wan_keys.inverted(names)
    original = {key: wan_keys.renamed(key, back) or f"(unnamed) {key}" for key in expected}
    require_shapes(checkpoint, shapes, {old: expected[new] for new, old in original.items()})
    return original


def read_checkpoint(path: Path) -> Weights:
    """The tensors of .safetensors, an index, a folder of shards, .pt or .pth; none is read yet."""
    if not path.exists():
        raise GonioError(f"{path} does not exist; check the path")
    return _pickled(path) if path.suffix in (".pt", ".pth") else open_weights(path)


def _pickled(path: Path) -> Weights:
    """The tensors of a .pt file, mapped, not read. Only torch's zip form without compression is taken."""
    try:
        size = path.stat().st_size
        check_total(path, size)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except OSError as error:
        raise GonioError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise GonioError(f"{path}: no PyTorch checkpoint of this decade; save it as safetensors") from None
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if compressed or sum(entry.file_size for entry in entries) > size:
        raise GonioError(f"{path}: a compressed archive, not a PyTorch checkpoint; save it as safetensors")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever the unpickler refuses: its errors have no common base
        raise GonioError(
            f"{path}: holds more than tensors ({reason(error)}); save it as safetensors"
        ) from None
    tensors = _tensors_in(path, content)
    claimed = sum(tensor.numel() * tensor.itemsize for tensor in tensors.values())
    if claimed > size:
        raise GonioError(f"{path}: claims {claimed} bytes of tensors in a file of {size}; save it again")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return Weights(files=(path,), shapes=shapes, read=tensors.__getitem__)


def _tensors_in(path: Path, content: Any) -> dict[str, Tensor]:
    """The state dictionary, whether bare or the only container of a training state."""
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = [content[name] for name in _CONTAINERS if isinstance(content.get(name), dict)]
        if len(inner) != 1:
            held = ", ".join(map(str, list(content)[:4])) or "nothing"
            raise GonioError(f"{path}: no state dictionary found (it holds {held}); save the network alone")
        content = inner[0]
    if not isinstance(content, dict) or len(content) > MAX_TENSORS:
        raise GonioError(f"{path}: no state dictionary of a network; save the network alone")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or not value.is_floating_point():
            raise GonioError(f"{path}: {name!r} is no floating point tensor; save the network alone")
    return dict(content)


def _tokenizer_files(release: Path) -> list[Path]:
    """The files of the tokenizer in a released folder; none where no vocabulary is among them."""
    found = [release / _RELEASED_TOKENIZER / name for name in _TOKENIZER_FILES]
    found = [file for file in found if file.is_file()]
    for file in found:
        if file.stat().st_size > _MAX_TOKENIZER_BYTES:
            raise GonioError(f"{file}: larger than any tokenizer; fetch it again")
    return found if any(file.name in _VOCABULARIES for file in found) else []


def _put_tokenizer(files: list[Path], to: Path) -> str:
    """Copy the tokenizer; where there is none to copy and none in place, what is missing and the cure."""
    place = to / "tokenizer"
    if files:
        with media.atomic_folder(place) as fresh:
            for file in files:
                try:
                    content = file.read_bytes()
                except OSError as error:
                    raise GonioError(f"{file}: cannot be read ({reason(error)}); fetch it again") from None
                (fresh / file.name).write_bytes(content)
        return ""
    if any((place / name).is_file() for name in _VOCABULARIES):
        return ""
    return (
        f"{place} is missing; copy the release's folder {_RELEASED_TOKENIZER} to it, or: hf download "
        f"{_TOKENIZER_HUB} --include 'tokenizer/*' --local-dir {to}"
    )


def _hashed(files: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Name, size and SHA-256 of the files."""
    total = sum(file.stat().st_size for file in files)
    rows = []
    with progress("Hashing MiB", total >> 20) as step:
        for file in files:
            digest = hashlib.sha256()
            with file.open("rb") as stream:
                while block := stream.read(_HASH_BLOCK):
                    digest.update(block)
                    step(len(block) >> 20)
            rows.append({"name": file.name, "bytes": file.stat().st_size, "sha256": digest.hexdigest()})
    return rows
