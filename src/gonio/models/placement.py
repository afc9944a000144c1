"""Where networks live while they work: whole on a device, or in parts to save its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gonio.errors import UsageError

OFFLOADS = ("none", "model", "group")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How networks share a device's memory.

    offload: "none"; "model" keeps one network at a time on the device; "group" keeps a few of its layers
    there, the slowest and smallest. fp8: the transformer's weights are stored as float8_e4m3fn and computed
    in `compute_dtype`. tiling: the autoencoder works on tiles of 256 pixels (seams are possible);
    slicing: on one clip of a batch at a time.
    """

    device: str = "cpu"
    offload: str = "none"
    fp8: bool = False
    compute_dtype: torch.dtype = torch.bfloat16
    tiling: bool = False
    slicing: bool = False

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise UsageError(f"offload {self.offload!r}; choose one of {', '.join(OFFLOADS)}")
        kind = torch.device(self.device).type
        if kind == "cuda" and not torch.cuda.is_available():
            raise UsageError(f"device {self.device}: this machine has no CUDA device; take cpu")
        if kind == "cpu" and self.offload != "none":
            raise UsageError(f"offload {self.offload!r} moves weights to an accelerator; take --device cuda")


def place(
    transformer: Any,
    autoencoder: Any,
    placement: Placement,
    *,
    encoders: Sequence[nn.Module] = (),
) -> None:
    """Move diffusers' transformer and autoencoder, and encoders used before them, as `placement` wants.

    Works in place.
    """
    if placement.tiling:
        autoencoder.enable_tiling()
    if placement.slicing:
        autoencoder.enable_slicing()
    if placement.fp8:
        transformer.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=placement.compute_dtype
        )
    networks = (*encoders, transformer, autoencoder)
    if placement.offload == "none":
        for network in networks:
            network.to(placement.device)
    elif placement.offload == "model":
        _offload_models(networks, placement.device)
    else:
        _offload_groups(networks, placement.device)


def _offload_models(networks: Sequence[nn.Module], device: str) -> None:
    """Each network comes to the device when it is called and sends the one before it away."""
    from accelerate import cpu_offload_with_hook

    previous: Any = None
    for network in networks:
        _, previous = cpu_offload_with_hook(network, torch.device(device), prev_module_hook=previous)


def _offload_groups(networks: Sequence[nn.Module], device: str) -> None:
    from diffusers.hooks import apply_group_offloading

    for network in networks:
        apply_group_offloading(
            network,
            onload_device=torch.device(device),
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=torch.device(device).type == "cuda",
        )
