"""Models of the transformers library from local files: offline, safetensors only, complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from gonio.errors import GonioError, UsageError

T = TypeVar("T")
DTYPES = ("fp32", "bf16")


def load_pretrained(source: str | os.PathLike[str], what: str, load: Callable[[], T]) -> T:
    """load(), without the library's chatter, and any complaint of it as a GonioError of one line.

    `load` reads a folder of strangers' files: whatever is damaged there may raise anything.
    """
    cure = "give a complete model folder, or download or install it again"
    try:
        with _quiet():
            return load()
    except UsageError:
        raise
    except Exception as error:
        problem = " ".join((str(error) or type(error).__name__).split())[:200]
        raise GonioError(f"{os.fspath(source)}: no {what} can be loaded ({problem}); {cure}") from None


def complete_model(
    model_class: Any, source: str | os.PathLike[str], *, dtype: str = "fp32", **options: Any
) -> Any:
    """A frozen model with every weight from files: transformers would draw absent ones at random.

    Raises GonioError for absent weights, and what from_pretrained raises; call it inside `load_pretrained`.
    """
    import torch

    if dtype not in DTYPES:
        raise UsageError(f"weights in {dtype}; choose one of {', '.join(DTYPES)}")
    model, found = model_class.from_pretrained(
        source,
        dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    absent = sorted(found["missing_keys"]) + sorted(str(key[0]) for key in found["mismatched_keys"])
    if absent:
        raise GonioError(f"{len(absent)} weights are absent or of another shape, {absent[0]} among them")
    return model.eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """No reports and no bars of transformers: what matters is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
