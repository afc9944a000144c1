"""Point-wise work in blocks that fit a core's cache, one worker thread a core.

A small MLP over many points is bound by memory traffic when its activations leave the cache, and by barriers
when every little operation is shared between cores. So each worker takes whole blocks and runs them alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

# Points; of the sizes from 1024 to 8192 the one that ran the 64x4 decoder fastest.
BLOCK = 6144
# On a GPU one large call is best; this only bounds the memory of its activations.
GPU_BLOCK = 1 << 19


def block_size(device: torch.device) -> int:
    return BLOCK if device.type == "cpu" else GPU_BLOCK


_workers: ContextVar[int] = ContextVar("workers", default=0)


def worker_count() -> int:
    """How many blocks run at once: as many as torch has threads, or had outside `whole_blocks`."""
    return _workers.get() or torch.get_num_threads()


@contextmanager
def whole_blocks() -> Iterator[None]:
    """Inside, torch's own operations use one thread and only blocks run side by side.

    For loops of blocks with small operations between: sharing each of those between cores costs more in
    barriers than it gains, and very much more when another program wants a core.
    """
    threads = torch.get_num_threads()
    token = _workers.set(worker_count())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _workers.reset(token)


def _one_thread() -> None:
    # Asking first matters: a thread's first use of torch adopts the process's number, undoing an earlier set.
    torch.get_num_threads()
    torch.set_num_threads(1)


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, "gonio-block", initializer=_one_thread)


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
    workers = worker_count()
    if device.type != "cpu" or workers == 1 or len(bounds) == 1:
        return [function(*b) for b in bounds]
    grad = torch.is_grad_enabled()

    def run(bound: tuple[int, int]) -> T:
        with torch.set_grad_enabled(grad):
            return function(*bound)

    return list(_pool(workers).map(run, bounds))
