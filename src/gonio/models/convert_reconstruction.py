"""The released reconstruction model: latent_module.pth and mlp.pth -> a model `load_model` reads.

How the files are laid out is not published. What is taken: the transformer and the autoencoder's decoder,
each under any prefix of its own, in original (Wan, DiffSynth) or diffusers names; the two MLPs as chains of
linear layers, known by what goes in and comes out. The autoencoder's encoder may be there and is left out,
for it is frozen. A name that fits nowhere ends the conversion, and all such names are told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio.errors import GonioError
from gonio.models import wan_keys
from gonio.models.convert import read_checkpoint
from gonio.models.load import AUTOENCODER, TRANSFORMER, expected_shapes
from gonio.models.reconstruction import CLASS, ReconstructionSpec
from gonio.models.weight_files import Weights, folded_shape, require_shapes, save_sharded
from gonio.neural_material import MaterialSpec

OURS = {TRANSFORMER: "transformer.", AUTOENCODER: "autoencoder."}
# Of the autoencoder, what a reconstruction model keeps; the rest is the frozen encoder.
_KEPT = ("decoder.", "post_quant_conv.")
_SHARD_BYTES = 2 << 30


@dataclass(frozen=True, kw_only=True)
class ConvertedReconstruction:
    """What was written. skipped: tensors of the frozen encoder."""

    folder: Path
    tensors: int
    skipped: int


def convert_reconstruction(
    latent_module: Path, mlp: Path, to: Path, *, spec: ReconstructionSpec, null_text: Tensor
) -> ConvertedReconstruction:
    """Write the model into the folder `to`. null_text [N, D]: what the text encoder makes of "".

    Textures are taken as the decoder's own coordinates (no whitening), offsets before reflectance.
    GonioError where a tensor is missing, unknown or of another shape.
    """
    source = read_checkpoint(latent_module)
    material, layers = _material(mlp, read_checkpoint(mlp))
    channels = material.offset_channels + material.reflectance_channels
    networks = {TRANSFORMER: spec.video_spec.transformer, AUTOENCODER: spec.video_spec.autoencoder}
    expected = {name: dict(expected_shapes(name, config)) for name, config in networks.items()}
    patch = spec.video_spec.autoencoder["patch_size"] or 1
    for leaf in ("weight", "bias"):
        head = f"decoder.conv_out.{leaf}"
        expected[AUTOENCODER][head] = (channels * patch**2, *expected[AUTOENCODER][head][1:])
    tables = [
        (name, names)
        for name, config in networks.items()
        for names in ({key: key for key in expected[name]}, _originals(name, config, expected[name]))
    ]
    places = _sorted_names(latent_module, source.shapes, tables)
    wanted = {
        OURS[name] + key: shape
        for name, shapes in expected.items()
        for key, shape in shapes.items()
        if name == TRANSFORMER or key.startswith(_KEPT)
    }
    kept = {new: old for new, old in places.items() if new in wanted}
    require_shapes(latent_module, {new: source.shapes[old] for new, old in kept.items()}, wanted)
    tensors = {new: _folded(new, source.read(old)) for new, old in kept.items()}
    tensors |= layers
    tensors |= {"null_text": null_text, "mean": torch.zeros(channels), "basis": torch.eye(channels)}
    config = {"_class_name": CLASS, "spec": asdict(spec), "material": material.to_json()}
    save_sharded(to, tensors, config, max_bytes=_SHARD_BYTES, dtype=None)
    return ConvertedReconstruction(folder=to, tensors=len(tensors), skipped=len(places) - len(kept))


def _originals(name: str, config: Mapping[str, Any], expected: Iterable[str]) -> dict[str, str]:
    """Original name -> diffusers name."""
    make = wan_keys.transformer_names if name == TRANSFORMER else wan_keys.autoencoder_names
    back = wan_keys.inverted(make(config))
    return {old: key for key in expected if (old := wan_keys.renamed(key, back)) is not None}


def _sorted_names(
    path: Path, names: Iterable[str], tables: list[tuple[str, dict[str, str]]]
) -> dict[str, str]:
    """Our name -> name in the file. A file's name is known by its longest end that a network has."""
    found: dict[str, str] = {}
    unmatched = []
    for name in names:
        place = _place(name, tables)
        if place is None or place in found:
            unmatched.append(name)
        else:
            found[place] = name
    if unmatched:
        listed = "".join(f"\n  {name}" for name in unmatched)
        raise GonioError(f"{path}: {len(unmatched)} tensors are of no known part:{listed}")
    return found


def _place(name: str, tables: list[tuple[str, dict[str, str]]]) -> str | None:
    words = name.split(".")
    for start in range(len(words)):
        end = ".".join(words[start:])
        for network, table in tables:
            if end in table:
                return OURS[network] + table[end]
    return None


def _folded(name: str, tensor: Tensor) -> Tensor:
    """A causal convolution of the decoder keeps its last temporal tap, all that a single frame meets."""
    decoder = name.startswith(OURS[AUTOENCODER])
    return tensor[:, :, -1:].clone() if decoder and folded_shape(tensor.shape) != tensor.shape else tensor


def _material(path: Path, source: Weights) -> tuple[MaterialSpec, dict[str, Tensor]]:
    """The spec that two chains of linear layers tell, and their tensors under our names."""
    shapes = source.shapes
    chains: dict[str, list[str]] = {}
    for name in sorted(shapes, key=_numbers):
        stem, leaf = wan_keys.split_leaf(name)
        group = re.split(r"\d+$", stem)[0]
        if leaf == ".weight" and len(shapes[name]) == 2 and f"{stem}.bias" in shapes:
            chains.setdefault(group, []).append(stem)
    used = {f"{stem}{leaf}" for stems in chains.values() for stem in stems for leaf in (".weight", ".bias")}
    unmatched = sorted(set(shapes) - used)
    by_outputs = {shapes[f"{stems[-1]}.weight"][0]: stems for stems in chains.values()}
    if unmatched or set(by_outputs) != {2, 3} or len(chains) != 2:
        listed = "".join(f"\n  {name} {list(shapes[name])}" for name in unmatched or sorted(shapes))
        raise GonioError(f"{path}: not two chains of linear layers that end in 2 and 3 numbers:{listed}")
    widths = {}
    for outputs, stems in by_outputs.items():
        sizes = [shapes[f"{stem}.weight"] for stem in stems]
        if any(a[0] != b[1] for a, b in pairwise(sizes)) or len({a[0] for a in sizes[:-1]}) != 1:
            raise GonioError(f"{path}: the layers {', '.join(stems)} do not follow from one another")
        widths[outputs] = (sizes[0][1], sizes[0][0], len(sizes) - 1)
    (off_in, width, count), (rgb_in, *same) = widths[2], widths[3]
    if same != [width, count]:
        raise GonioError(f"{path}: the two MLPs differ in width or depth; Gonio's have one of each")
    material = MaterialSpec(
        offset_channels=off_in - 2,
        reflectance_channels=rgb_in - 4,
        hidden_width=width,
        hidden_layers=count,
        directions="projected xy",
    )
    layers = {
        f"decoder.{name}.layers.{number}{leaf}": source.read(f"{stem}{leaf}")
        for name, outputs in (("M_off", 2), ("M_rgb", 3))
        for number, stem in enumerate(by_outputs[outputs])
        for leaf in (".weight", ".bias")
    }
    return material, layers


def _numbers(name: str) -> list[str]:
    """A key that sorts layer 10 behind layer 9."""
    return [f"{int(word):09d}" if word.isdigit() else word for word in name.split(".")]
