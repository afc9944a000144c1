"""The material file: one .safetensors with two textures (fp16), two MLPs (fp32) and a JSON manifest.

    T_off, T_rgb                        [H, W, C] float16, row 0 is v = 1
    decoder.M_off.layers.N.weight ...   float32
    metadata: manifest                  JSON

The manifest holds the schema version, every field of `MaterialSpec`, the textures' shapes, the provenance,
hashes of the tensors' bytes and of itself, and 16 reference evaluations made from the textures as stored, so
that any reader, in any language, can tell whether it decodes the material as its author did. The same
material always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import normalize

from gonio.errors import GonioError
from gonio.media import write_bytes
from gonio.media.limits import reason, shown
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial, Provenance

SCHEMA = "gonio-material/1"
SUFFIX = ".safetensors"
MAX_TEXTURE_SIDE = 16384  # texels
MAX_BYTES = 4 * 2**30  # of a whole file
MAX_HEADER_BYTES = 2**20
REFERENCES = 16
# Another machine adds the same float32 numbers in another order; a wrong decoder is far outside this.
RELATIVE_TOLERANCE = 1e-3
ABSOLUTE_TOLERANCE = 1e-4  # 1/sr; a white Lambertian has 1/pi
TEXTURES = ("T_off", "T_rgb")

_HASH = "manifest_sha256"  # of the manifest without this entry, keys sorted, as `json.dumps` writes it
_MANIFEST_KEYS = frozenset(
    {"schema", "spec", "textures", "provenance", "data_sha256", "references", "tolerance", _HASH}
)
_AGAIN = "copy the file again or make it again with gonio reconstruct"


def save_material(path: str | os.PathLike[str], material: NeuralMaterial) -> None:
    """Write the material, atomically. Textures are rounded to fp16: |error| <= 2^-11 of each value.

    Raises GonioError for values that are not finite or do not fit fp16, sizes beyond the limits, a name
    that does not end in .safetensors, and places that cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != SUFFIX:
        raise _bad(target, f"a material file ends in {SUFFIX}", "rename it")
    tensors = {name: _plain(getattr(material, name)).half() for name in TEXTURES}
    weights = material.decoder.state_dict()
    tensors |= {f"decoder.{name}": _plain(value).float() for name, value in weights.items()}
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise _bad(target, f"{name} is not finite as {value.dtype}", "fit the material again")
    provenance = asdict(material.provenance)
    _provenance(target, provenance)
    stored = NeuralMaterial(
        tensors["T_off"].float(),
        tensors["T_rgb"].float(),
        _decoder(material.spec, tensors),
        material.provenance,
    )
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "spec": material.spec.to_json(),
        "textures": {name: list(tensors[name].shape) for name in TEXTURES},
        "provenance": provenance,
        "data_sha256": _digest(tensors),
        "references": _make_references(target, stored),
        "tolerance": {"relative": RELATIVE_TOLERANCE, "absolute": ABSOLUTE_TOLERANCE},
    }
    try:
        text = _canonical(manifest | {_HASH: _manifest_hash(manifest)})
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"the provenance is not plain JSON ({reason(error)})"
        raise _bad(target, problem, "simplify it") from None
    header = len(json.dumps(text)) + 256 * len(tensors)
    _check_sizes(target, header, sum(t.numel() * t.element_size() for t in tensors.values()))
    _check_sides(target, {name: list(tensors[name].shape) for name in TEXTURES})
    write_bytes(target, save(tensors, metadata={"manifest": text}))


def load_material(path: str | os.PathLike[str], *, check: bool = True) -> NeuralMaterial:
    """Read a material file. Everything the header says is checked before anything is allocated.

    `check` also verifies the hash of the tensors and the 16 reference evaluations (relative tolerance 1e-3,
    absolute 1e-4 per steradian). Raises GonioError, one line that names the file and the cure.
    """
    source = Path(path)
    _check_file(source)
    try:
        with safe_open(source, "pt") as file:
            manifest = _manifest(source, file.metadata() or {})
            spec = _spec(source, manifest["spec"])
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            layout = {name: (entry.get_dtype(), entry.get_shape()) for name, entry in slices.items()}
            _check_layout(source, layout, spec, manifest["textures"])
            provenance = _provenance(source, manifest["provenance"])
            tensors = {name: file.get_tensor(name) for name in layout}
    except (SafetensorError, OSError) as error:
        raise _bad(source, f"not a whole safetensors file ({reason(error)})") from None
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise _bad(source, f"{name} holds NaN or infinite values")
    if check and _digest(tensors) != manifest["data_sha256"]:
        raise _bad(source, "the numbers are not those that were saved")
    material = NeuralMaterial(
        tensors["T_off"].float(), tensors["T_rgb"].float(), _decoder(spec, tensors), provenance
    )
    if check:
        _check_references(source, material, manifest["references"])
    return material


def expected_shapes(spec: MaterialSpec) -> dict[str, list[int]]:
    """Shapes of the decoder's tensors in the file, from the spec alone."""
    shapes = {}
    for network, widths in (("M_off", spec.offset_widths), ("M_rgb", spec.reflectance_widths)):
        for layer, (inputs, outputs) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            shapes[f"decoder.{network}.layers.{layer}.weight"] = [outputs, inputs]
            shapes[f"decoder.{network}.layers.{layer}.bias"] = [outputs]
    return shapes


def _bad(path: Path, problem: str, cure: str = _AGAIN) -> GonioError:
    return GonioError(f"{shown(path)}: {problem}; {cure}")


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _decoder(spec: MaterialSpec, tensors: dict[str, Tensor]) -> Decoder:
    """A decoder that owns the given weights; made on the meta device, so that no random number is drawn."""
    with torch.device("meta"):
        decoder = Decoder(spec)
    weights = {name.removeprefix("decoder."): t for name, t in tensors.items() if name.startswith("decoder.")}
    decoder.load_state_dict(weights, strict=True, assign=True)
    return decoder


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the tensors' bytes in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ---------------------------------------------------------------- references


def _make_references(path: Path, material: NeuralMaterial) -> list[dict[str, list[float]]]:
    """16 points, some beyond the border so that they tell wrap modes apart, from all over the hemispheres."""
    generator = torch.Generator().manual_seed(16)
    uv = torch.rand(REFERENCES, 2, generator=generator) * 2 - 0.5
    wi, wo = (_hemisphere(generator) for _ in range(2))
    with torch.no_grad():
        value = material.evaluate(uv, wi, wo)
    if not bool(torch.isfinite(value).all()):
        raise _bad(path, "the material evaluates to values that are not finite", "fit again")
    columns = {"uv": uv, "wi": wi, "wo": wo, "value": value}
    # Nine digits hold a float32. Of more, the last could change without changing the number that is read.
    return [
        {name: [float(f"{x:.9g}") for x in column[i].tolist()] for name, column in columns.items()}
        for i in range(REFERENCES)
    ]


def _hemisphere(generator: torch.Generator) -> Tensor:
    """Unit directions above the horizon. [16, 3]"""
    vector = torch.randn(REFERENCES, 3, generator=generator)
    return normalize(torch.cat([vector[:, :2], vector[:, 2:].abs() + 0.05], -1), dim=-1)


def _check_references(path: Path, material: NeuralMaterial, references: Any) -> None:
    try:
        columns = {
            name: torch.tensor([entry[name] for entry in references], dtype=torch.float32)
            for name in ("uv", "wi", "wo", "value")
        }
    except (KeyError, TypeError, ValueError):
        raise _bad(path, "malformed reference evaluations") from None
    widths = {"uv": 2, "wi": 3, "wo": 3, "value": 3}
    if any(columns[name].shape != (REFERENCES, width) for name, width in widths.items()):
        raise _bad(path, f"does not hold {REFERENCES} whole reference evaluations")
    with torch.no_grad():
        found = material.evaluate(columns["uv"], columns["wi"], columns["wo"])
    wanted = columns["value"]
    allowed = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * wanted.abs()
    wrong = ~((found - wanted).abs() <= allowed).all(-1)  # not-a-number is wrong, too
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        problem = f"gives {_short(found[index])}, its author had {_short(wanted[index])}"
        raise _bad(path, f"reference evaluation {index} {problem}", f"update gonio, or {_AGAIN}")


def _short(color: Tensor) -> str:
    return "(" + ", ".join(f"{c:.4g}" for c in color.tolist()) + ")"


# ---------------------------------------------------------------- checks, all before allocation


def _check_file(path: Path) -> None:
    """A regular file within the limits whose header length is believable."""
    try:
        if path.is_dir():
            raise _bad(path, "is a folder", f"name a material file ({SUFFIX})")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise _bad(path, "does not exist", "make it with gonio reconstruct") from None
    except (OSError, ValueError) as error:
        raise _bad(path, f"cannot be read ({reason(error)})", "check its permissions") from None
    if len(head) < 8:
        raise _bad(path, f"{size} bytes are no material")
    header = int.from_bytes(head, "little")
    if header > max(size, MAX_HEADER_BYTES):
        raise _bad(path, "not a safetensors file, or truncated")
    _check_sizes(path, header, size - 8 - header)
    if header + 8 > size:
        raise _bad(path, f"truncated at {size} bytes")


def _check_sizes(path: Path, header: int, data: int) -> None:
    if header > MAX_HEADER_BYTES:
        problem = f"a header of {header} bytes, the limit is {MAX_HEADER_BYTES}"
        raise _bad(path, problem, "shorten the provenance")
    if data > MAX_BYTES:
        raise _bad(path, f"{data} bytes, the limit is {MAX_BYTES}", "take fewer texels")


def _check_sides(path: Path, textures: dict[str, list[int]]) -> None:
    for name, (height, width, _) in textures.items():
        if max(height, width) > MAX_TEXTURE_SIDE:
            problem = f"{name} is {width}x{height} texels, the limit is {MAX_TEXTURE_SIDE} a side"
            raise _bad(path, problem, "take fewer texels")


def _canonical(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, sort_keys=True, allow_nan=False)


def _manifest_hash(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != _HASH}
    return hashlib.sha256(_canonical(rest).encode()).hexdigest()


def _manifest(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    if "manifest" not in metadata:
        raise _bad(path, "a safetensors file without a manifest is no material")
    _check_keys(path, "metadata", set(metadata), {"manifest"})
    try:
        manifest = json.loads(metadata["manifest"], parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"the manifest is not JSON ({reason(error)})") from None
    if not isinstance(manifest, dict):
        raise _bad(path, "the manifest is not a JSON object")
    schema = manifest.get("schema")
    if schema != SCHEMA:
        raise _bad(path, f"schema {_quoted(schema)}, this version reads {SCHEMA}", "update gonio")
    _check_keys(path, "manifest", set(manifest), _MANIFEST_KEYS)
    if _manifest_hash(manifest) != manifest[_HASH]:
        raise _bad(path, "the manifest is not the one that was saved")
    return manifest


def _quoted(value: Any) -> str:
    return shown(repr(value))[:60]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def _check_keys(path: Path, what: str, found: set[str], wanted: set[str] | frozenset[str]) -> None:
    missing, unknown = sorted(wanted - found), sorted(found - wanted)
    if missing:
        raise _bad(path, f"the {what} lacks {shown(missing[0])}")
    if unknown:
        raise _bad(path, f"unknown {what} entry {_quoted(unknown[0])}", f"update gonio, or {_AGAIN}")


def _spec(path: Path, data: Any) -> MaterialSpec:
    if not isinstance(data, dict):
        raise _bad(path, "the spec is not a JSON object")
    _check_keys(path, "spec", set(data), {f.name for f in fields(MaterialSpec)})
    try:
        return MaterialSpec(**data)
    except GonioError as error:
        raise _bad(path, str(error), f"update gonio, or {_AGAIN}") from None


def _provenance(path: Path, data: Any) -> Provenance:
    if not isinstance(data, dict):
        raise _bad(path, "the provenance is not a JSON object")
    _check_keys(path, "provenance", set(data), {f.name for f in fields(Provenance)})
    kinds: dict[str, tuple[type, ...]] = {"seed": (int,), "physical_size_m": (int, float), "extra": (dict,)}
    for name, value in data.items():
        required = name in ("name", "source", "extra")
        kind = kinds.get(name, (str,))
        if (value is None and required) or (value is not None and (type(value) not in kind)):
            raise _bad(path, f"the provenance has a {name} of the wrong type")
    size = data["physical_size_m"]
    if size is not None and not (math.isfinite(size) and size > 0):
        raise _bad(path, f"a physical size of {size} m")
    return Provenance(**data)


def _check_layout(
    path: Path, layout: dict[str, tuple[str, list[int]]], spec: MaterialSpec, textures: Any
) -> None:
    """Names, types and shapes of the tensors against spec and manifest."""
    shapes = expected_shapes(spec)
    _check_keys(path, "tensor", set(layout), {*TEXTURES, *shapes})
    for name, shape in shapes.items():
        if layout[name] != ("F32", shape):
            raise _bad(path, f"{name} is {_named(layout[name])}, expected F32 {shape}")
    for name, channels in zip(TEXTURES, (spec.offset_channels, spec.reflectance_channels), strict=True):
        kind, shape = layout[name]
        if kind != "F16" or len(shape) != 3 or shape[2] != channels or 0 in shape:
            raise _bad(path, f"{name} is {_named(layout[name])}, expected F16 [H, W, {channels}]")
    found = {name: layout[name][1] for name in TEXTURES}
    _check_sides(path, found)
    if textures != found:
        raise _bad(path, "the manifest's texture sizes are not those of the tensors")


def _named(entry: tuple[str, list[int]]) -> str:
    return f"{entry[0]} {entry[1]}"
