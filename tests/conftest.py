"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests are small; more threads only make them wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real, third-party test data: $GONIO_DATA, else ../shared/data beside the repository."""
    root = Path(os.environ.get("GONIO_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (root / "materials").is_dir():
        problem = f"no test data in {root}; set GONIO_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    return root
