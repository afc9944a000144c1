"""Blocks cover every point once, in order, whatever the number of workers."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from gonio.blocks import BLOCK, GPU_BLOCK, block_size, for_each_block


@pytest.fixture(params=[1, 3])
def workers(request) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_blocks_cover_the_range_in_order(workers, count):
    bounds = for_each_block(count, lambda start, stop: (start, stop), size=8)
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(count))
    assert all(stop - start <= 8 for start, stop in bounds)


def test_workers_share_the_blocks_and_run_each_on_one_thread(workers):
    started = threading.Barrier(workers, timeout=30)

    def block(start: int, stop: int) -> tuple[str, int]:
        if start < workers:
            started.wait()  # passes only when that many blocks run at once
        return threading.current_thread().name, torch.get_num_threads()

    seen = for_each_block(6, block, size=1)
    assert len({name for name, _ in seen}) == workers
    assert {threads for _, threads in seen} == {1}


@pytest.mark.parametrize("grad", [True, False])
def test_grad_mode_is_the_callers(workers, grad):
    with torch.set_grad_enabled(grad):
        modes = for_each_block(4, lambda *_: torch.is_grad_enabled(), size=1)
    assert modes == [grad] * 4


def test_an_error_in_a_block_reaches_the_caller(workers):
    def block(start: int, stop: int) -> None:
        if start == 2:
            raise ValueError("block 2")

    with pytest.raises(ValueError, match="block 2"):
        for_each_block(4, block, size=1)


def test_a_gpu_takes_larger_blocks():
    assert block_size(torch.device("cpu")) == BLOCK
    assert block_size(torch.device("cuda")) == GPU_BLOCK > BLOCK
