"""Checkpoints of running work: one safetensors file, written beside and renamed, tied to its work."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gonio import media
from gonio.errors import GonioError


def save_checkpoint(path: Path, tensors: dict[str, Tensor], identity: dict[str, str]) -> None:
    with media.atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata=identity)


def load_checkpoint(path: Path, identity: dict[str, str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint of exactly this work; anything else is an error, never a fresh start."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise GonioError(f"{path}: damaged checkpoint ({error}); remove it to start again") from None
    for key, value in identity.items():
        if metadata.get(key) != value:
            raise GonioError(f"{path}: checkpoint of another {key}; remove it to start again")
    return tensors


def optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's moments and step counts under flat names, for a checkpoint."""
    state = optimizer.state_dict()["state"]
    return {f"adam.{name}.{slot}.{key}": v for slot, entries in state.items() for key, v in entries.items()}


def restore_optimizer(name: str, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, into a new optimizer of the same parameters."""
    prefix = f"adam.{name}."
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix):
            slot, entry = key.removeprefix(prefix).split(".", 1)
            slots.setdefault(int(slot), {})[entry] = value.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def decoder_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries `decoder.*` of a file, as a module's state."""
    return {k.removeprefix("decoder."): v for k, v in tensors.items() if k.startswith("decoder.")}
