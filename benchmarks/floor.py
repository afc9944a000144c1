"""The floor that work is measured against: its arithmetic at the rate of this machine's matrix product."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def settled(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def once(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one round."""
    settled(device)
    started = time.perf_counter()
    work()
    settled(device)
    return time.perf_counter() - started


def seconds(work: Callable[[], object], device: str, rounds: int = 3) -> float:
    """The fastest of a few rounds, after one that does not count."""
    work()
    return min(once(work, device) for _ in range(rounds))


def flops(work: Callable[[], object]) -> int:
    """Floating point operations of all matrix products, convolutions and attentions, gradients included."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def gemm_rate(device: str, dtype: torch.dtype, size: int | None = None) -> float:
    """FLOP/s of a square matrix product. size: None for 2048 on a CPU, 8192 on a GPU."""
    n = size or (8192 if device == "cuda" else 2048)
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, device)


def peak_gib(device: str) -> float:
    """Memory at its highest so far: of the GPU, else of the process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
