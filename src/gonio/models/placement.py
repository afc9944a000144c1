"""Where networks live while they work: whole on a device, or in parts to save its memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gonio.errors import UsageError

OFFLOADS = ("none", "model", "group")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How networks share a device's memory.

    offload: "none"; "model" keeps one network at a time on the device; "group" keeps a few of its layers
    there, the slowest and smallest (the autoencoder stays one piece). fp8: the transformer's weights are
    stored as float8_e4m3fn and computed in `compute_dtype`. tiling: the autoencoder works on tiles of 256
    pixels (seams are possible); slicing: on one clip of a batch at a time.
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


def place(transformer: Any, autoencoder: Any, placement: Placement, *, encoders: Sequence[Any] = ()) -> None:
    """Prepare diffusers' transformer and autoencoder, and encoders used before them, as `placement` wants.

    Works in place. What `offload` leaves on the CPU comes to the device in `at_work`.
    """
    if placement.tiling:
        autoencoder.enable_tiling()
    if placement.slicing:
        autoencoder.enable_slicing()
    if placement.fp8:
        transformer.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=placement.compute_dtype
        )
    if placement.offload == "none":
        for network in (*encoders, transformer, autoencoder):
            network.to(placement.device)
    elif placement.offload == "group":
        for network in (*encoders, transformer):
            _offload_groups(network, placement.device)


@contextmanager
def at_work(network: nn.Module, placement: Placement, *, whole: bool = False) -> Iterator[None]:
    """The network is on the device inside and, where networks take turns, on the CPU again afterwards.

    whole: of "group" too; for networks whose parts are called one by one, which has no hook.
    """
    if placement.offload == "none" or (placement.offload == "group" and not whole):
        yield
        return
    network.to(placement.device)
    try:
        yield
    finally:
        network.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _offload_groups(network: nn.Module, device: str) -> None:
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(
        network,
        onload_device=torch.device(device),
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        use_stream=torch.device(device).type == "cuda",
    )
