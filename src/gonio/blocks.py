"""Point-wise work in blocks that fit a core's cache, one worker thread a core.

A small MLP over many points is bound by memory traffic when its activations leave the cache, and by barriers
when every little operation is shared between cores. So each worker takes whole blocks and runs them alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

BLOCK = 2048
# On a GPU one large call is best; this only bounds the memory of its activations.
GPU_BLOCK = 1 << 19


def block_size(device: torch.device) -> int:
    return BLOCK if device.type == "cpu" else GPU_BLOCK


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "gonio-block", initializer=torch.set_num_threads, initargs=(1,))


T = TypeVar("T")


def for_each_block(
    count: int,
    function: Callable[[int, int], T],
    device: torch.device | None = None,
    size: int | None = None,
) -> list[T]:
    """function(start, stop) for consecutive blocks covering range(count), in order of the results.

    On the CPU blocks run on as many workers as torch has threads; grad mode is the caller's.
    """
    device = device or torch.device("cpu")
    size = size or block_size(device)
    bounds = [(start, min(start + size, count)) for start in range(0, count, size)]
    workers = torch.get_num_threads()
    if device.type != "cpu" or workers == 1 or len(bounds) == 1:
        return [function(*b) for b in bounds]
    grad = torch.is_grad_enabled()

    def run(bound: tuple[int, int]) -> T:
        with torch.set_grad_enabled(grad):
            return function(*bound)

    return list(_pool(workers).map(run, bounds))
