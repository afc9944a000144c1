"""Low-rank adapters (LoRA, Hu et al. 2021) on the Wan transformer: add, save, load, merge.

An adapted layer computes W x + (alpha / rank) B A x; A [rank, in] and B [out, rank] are trained, W is not.
Files are safetensors in the key formats that other programs write and read:

    diffusers   transformer.blocks.0.attn1.to_q.lora_A.weight
    diffsynth   blocks.0.self_attn.q.lora_A.default.weight
    comfyui     diffusion_model.blocks.0.self_attn.q.lora_down.weight, .alpha
    musubi      lora_unet_blocks_0_self_attn_q.lora_down.weight, .alpha

The first two carry no alpha: the factor alpha / rank is multiplied into B when they are written. A file is
matched against the model as a whole; a key that fits nothing is an error, because an adapter of which a part
is silently left out still makes plausible pictures.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gonio import media
from gonio.errors import GonioError, UsageError
from gonio.media.limits import shown
from gonio.models.wan_keys import inverted, transformer_names
from gonio.models.weight_files import Shapes, open_weights

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
IMAGE_TARGETS = ("add_k_proj", "add_v_proj")  # of the image tokens, in image-conditioned models
_ADAPTER = "default"
_SPELLINGS = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "alpha": "alpha",
}


@dataclass(frozen=True, kw_only=True)
class LoraFormat:
    """How a program spells an adapter's keys. prefixes: all are read, the first is written."""

    prefixes: tuple[str, ...]
    wan_names: bool  # the layers are called as in Wan's own code, not as in diffusers
    separator: str = "."
    down: str
    up: str
    stores_alpha: bool


FORMATS: Mapping[str, LoraFormat] = {
    "diffusers": LoraFormat(
        prefixes=("transformer.", ""),
        wan_names=False,
        down="lora_A.weight",
        up="lora_B.weight",
        stores_alpha=False,
    ),
    "diffsynth": LoraFormat(
        prefixes=("", "pipe.dit."),
        wan_names=True,
        down="lora_A.default.weight",
        up="lora_B.default.weight",
        stores_alpha=False,
    ),
    "comfyui": LoraFormat(
        prefixes=("diffusion_model.",),
        wan_names=True,
        down="lora_down.weight",
        up="lora_up.weight",
        stores_alpha=True,
    ),
    "musubi": LoraFormat(
        prefixes=("lora_unet_",),
        wan_names=True,
        separator="_",
        down="lora_down.weight",
        up="lora_up.weight",
        stores_alpha=True,
    ),
}


def add_lora(
    model: Any, *, rank: int = 32, alpha: float | None = None, image_attention: bool = False
) -> None:
    """Give a WanTransformer3DModel new adapters, in place. They alone are trainable and start without effect.

    alpha: None for the rank itself, a factor of 1. The adapters are float32 whatever the model is: steps of
    a usual learning rate vanish in the rounding of bfloat16.
    """
    if rank < 1:
        raise UsageError(f"a LoRA of rank {rank}; give at least 1")
    alpha = float(rank if alpha is None else alpha)
    if not 0 < alpha < math.inf:
        raise UsageError(f"a LoRA alpha of {alpha}; give a positive number")
    if image_attention and not any(name.endswith(IMAGE_TARGETS) for name in _linear_layers(model)):
        raise UsageError("the model takes no image, so it has no image attention to adapt; leave that out")
    targets = [*TARGETS, *(IMAGE_TARGETS if image_attention else ())]
    _inject(model, rank=rank, alpha=alpha, targets=targets)


def save_lora(
    path: str | os.PathLike[str], model: Any, *, format: str = "diffusers", metadata: Mapping[str, str] = {}
) -> None:
    """Write the model's adapters in float32, atomically. The file's metadata names format, rank and alpha.

    Raises GonioError where the adapters are not finite or the file cannot be written.
    """
    layers = _lora_layers(model)
    if not layers:
        raise UsageError(f"{shown(path)}: the model has no LoRA to save; add or load one first")
    adapters = {}
    for name, layer in layers.items():
        down, up = (part[_ADAPTER].weight.detach().float().cpu() for part in (layer.lora_A, layer.lora_B))
        adapters[name] = down, up, float(layer.scaling[_ADAPTER])
    _write(path, model, adapters, format, metadata)


def convert_lora(
    source: str | os.PathLike[str], path: str | os.PathLike[str], model: Any, *, format: str
) -> str:
    """The adapters of a file, written in another format. -> the format they had.

    model: the transformer they fit; its names and shapes count alone, so it may be on the meta device.
    Raises GonioError as `load_lora` and `save_lora` do.
    """
    found, adapters = _read(Path(source), model)
    _write(path, model, {name: (down, up, 1.0) for name, (down, up) in adapters.items()}, format)
    return found


def _write(
    path: str | os.PathLike[str],
    model: Any,
    adapters: Mapping[str, tuple[Tensor, Tensor, float]],
    format: str,
    metadata: Mapping[str, str] = {},
) -> None:
    """adapters: A, B and the factor alpha / rank by layer."""
    style = _format(format)
    stems = _stems(model, style)
    tensors: dict[str, Tensor] = {}
    for name, (down, up, scale) in adapters.items():
        stem = style.prefixes[0] + stems[name]
        tensors[f"{stem}.{style.down}"] = down.contiguous()
        tensors[f"{stem}.{style.up}"] = (up if style.stores_alpha else up * scale).contiguous()
        if style.stores_alpha:
            tensors[f"{stem}.alpha"] = torch.tensor(scale * len(down))
    for key, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise GonioError(f"{shown(path)}: {key} is not finite; train again with a lower learning rate")
    ranks = {len(down) for down, _, _ in adapters.values()}
    alphas = {len(down) * scale for down, _, scale in adapters.values()}
    about = {
        "format": format,
        "rank": _shared(ranks),
        "alpha": _shared(alphas if style.stores_alpha else ranks),
    }
    with media.atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={**metadata, **about})


def load_lora(path: str | os.PathLike[str], model: Any) -> str:
    """Give a WanTransformer3DModel the adapters of a file, in place. -> the file's format.

    The keys say which format it is and which layers are adapted; alpha is multiplied into B. Every key must
    fit the model, and its shape is checked before it is read. Raises GonioError.
    """
    format, adapters = _read(Path(path), model)
    ranks = {name: len(down) for name, (down, _) in adapters.items()}
    rank = max(ranks.values())
    others = {name: value for name, value in ranks.items() if value != rank}
    _inject(model, rank=rank, alpha=float(rank), targets=list(adapters), ranks=others)
    injected = _lora_layers(model)
    with torch.no_grad():
        for name, (down, up) in adapters.items():
            injected[name].lora_A[_ADAPTER].weight.copy_(down)
            injected[name].lora_B[_ADAPTER].weight.copy_(up)
    return format


def _read(source: Path, model: Any) -> tuple[str, dict[str, tuple[Tensor, Tensor]]]:
    """A file's format, and A and B of every adapted layer with alpha / rank multiplied into B."""
    file = open_weights(source)
    layers = _linear_layers(model)
    format, places = _matched(source, list(file.shapes), model)
    for name, keys in places.items():
        _check_shapes(source, keys, file.shapes, layers[name])
    alpha = _adapter_alpha(file.files[0])
    adapters = {
        name: _adapter({part: file.read(key).float() for part, key in keys.items()}, alpha)
        for name, keys in places.items()
    }
    for name, pair in adapters.items():
        if not all(bool(torch.isfinite(value).all()) for value in pair):
            raise GonioError(f"{shown(source)}: the adapter of {name} is not finite; export the LoRA again")
    return format, adapters


def merge_lora(model: Any, strength: float = 1.0) -> None:
    """W += strength (alpha / rank) B A in float32, and the adapters are gone. The model stays frozen."""
    layers = _lora_layers(model)
    if not layers:
        raise UsageError("the model has no LoRA to merge; add or load one first")
    if not math.isfinite(strength):
        raise UsageError(f"a LoRA strength of {strength}; give a finite number, 1 for the trained one")
    with torch.no_grad():
        for layer in layers.values():
            weight = layer.get_base_layer().weight
            weight.copy_(weight.float() + strength * layer.get_delta_weight(_ADAPTER))
    model.unload_lora()


def _format(name: str) -> LoraFormat:
    if name not in FORMATS:
        raise UsageError(f"no LoRA format {name!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _shared(values: set[Any]) -> str:
    return f"{float(next(iter(values))):g}" if len(values) == 1 else "by layer"


def _inject(
    model: Any, *, rank: int, alpha: float, targets: list[str], ranks: Mapping[str, int] | None = None
) -> None:
    """ranks: of the layers that differ; their factor alpha / rank is 1."""
    from peft import LoraConfig

    if _lora_layers(model):
        raise UsageError("the model has a LoRA already; merge it before another is added")
    ranks = dict(ranks or {})
    settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "target_modules": targets}
    config = LoraConfig(**settings, rank_pattern=ranks, alpha_pattern=dict(ranks))
    model.add_adapter(config, adapter_name=_ADAPTER)
    for layer in _lora_layers(model).values():
        for part in (layer.lora_A, layer.lora_B):
            part[_ADAPTER].float().requires_grad_(True)


def _lora_layers(model: Any) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _linear_layers(model: Any) -> dict[str, nn.Linear]:
    """The model's linear layers by the names they have without adapters."""
    return {
        name.removesuffix(".base_layer"): module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name
    }


def _stems(model: Any, style: LoraFormat) -> dict[str, str]:
    """Each linear layer of the model -> what a format calls it, without the prefix."""
    names = inverted(transformer_names(model.config)) if style.wan_names else {}
    return {layer: names.get(layer, layer).replace(".", style.separator) for layer in _linear_layers(model)}


def _places(model: Any, style: LoraFormat) -> dict[str, str]:
    """Every stem a file of this format may use -> the layer."""
    stems = _stems(model, style)
    return {prefix + stem: layer for layer, stem in stems.items() for prefix in style.prefixes}


def _split(key: str) -> tuple[str, str]:
    """A key's layer and part ("down", "up", "alpha"; "" for what no LoRA has)."""
    for spelling, part in _SPELLINGS.items():
        if key.endswith("." + spelling):
            return key.removesuffix("." + spelling), part
    return key, ""


def _matched(source: Path, keys: list[str], model: Any) -> tuple[str, dict[str, dict[str, str]]]:
    """The file's format, the one that fits most keys, and for each adapted layer its keys by part."""
    parts = {key: _split(key) for key in keys}
    tables = {format: _places(model, style) for format, style in FORMATS.items()}
    format = max(tables, key=lambda name: sum(stem in tables[name] for stem, _ in parts.values()))
    places: dict[str, dict[str, str]] = defaultdict(dict)
    unmatched = []
    for key, (stem, part) in parts.items():
        layer = tables[format].get(stem)
        if layer is None or not part or part in places[layer]:
            unmatched.append(key)
        else:
            places[layer][part] = key
    if unmatched or not keys:
        raise GonioError(
            f"{shown(source)}: {len(unmatched)} of {len(keys)} keys fit no layer of this model: "
            f"{_listed(unmatched)}; take the LoRA of this model, or export it again without them"
        )
    halves = [layer for layer, found in places.items() if not {"down", "up"} <= set(found)]
    if halves:
        problem = f"{len(halves)} layers have one of A and B only: {_listed(halves)}"
        raise GonioError(f"{shown(source)}: {problem}; export it again")
    return format, places


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + more


def _check_shapes(source: Path, keys: Mapping[str, str], shapes: Shapes, layer: nn.Linear) -> None:
    inputs, outputs = layer.in_features, layer.out_features
    down, up = shapes[keys["down"]], shapes[keys["up"]]
    rank = down[0] if len(down) == 2 else 0
    if not 1 <= rank <= max(inputs, outputs) or down != (rank, inputs) or up != (outputs, rank):
        problem = f"{shown(keys['down'])} {list(down)} with B {list(up)} does not fit {inputs} -> {outputs}"
        raise GonioError(f"{shown(source)}: {problem}; take the LoRA of this model")
    if "alpha" in keys and math.prod(shapes[keys["alpha"]]) != 1:
        raise GonioError(f"{shown(source)}: {shown(keys['alpha'])} is not one number; export it again")


def _adapter_alpha(source: Path) -> float | None:
    """alpha of a file that diffusers wrote with its configuration; None where the metadata says nothing."""
    with safe_open(source, "pt") as file:
        text = (file.metadata() or {}).get("lora_adapter_metadata", "{}")
    try:
        config = {key.removeprefix("transformer."): value for key, value in json.loads(text).items()}
        alpha = None if config.get("lora_alpha") is None else float(config["lora_alpha"])
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise GonioError(f"{shown(source)}: lora_adapter_metadata is damaged; export it again") from None
    for unknown in ("use_dora", "use_rslora", "alpha_pattern"):
        if config.get(unknown):
            raise GonioError(f"{shown(source)}: {unknown} is not supported; export it as a plain LoRA")
    return alpha


def _adapter(parts: Mapping[str, Tensor], default_alpha: float | None) -> tuple[Tensor, Tensor]:
    """A and B of a layer with alpha / rank multiplied into B; without any alpha the factor is 1."""
    down, up = parts["down"], parts["up"]
    alpha = float(parts["alpha"]) if "alpha" in parts else default_alpha
    return down, up if alpha is None else up * (alpha / len(down))
