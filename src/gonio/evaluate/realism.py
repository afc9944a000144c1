"""How real does a material look? A judge of the user's own: no published one can be run by others.

A scorer is any Python callable that is named `module:function`; what it returns stands in the results under
that name, so that nobody takes one scorer's numbers for another's.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Protocol

from torch import Tensor

from gonio.errors import GonioError, UsageError


class RealismScorer(Protocol):
    def __call__(self, frames: Tensor, prompt: str | None) -> float:
        """frames: [F, H, W, 3] display-encoded in [0, 1], as stored (perspective). Higher is more real."""
        ...


def load_scorer(name: str) -> RealismScorer:
    """The callable of `module:function`, the module found as Python finds any (see PYTHONPATH)."""
    module, _, function = name.partition(":")
    if not module or not function:
        raise UsageError(f"--realism {name}: give module:function")
    try:
        scorer = getattr(import_module(module), function, None)
    except ImportError as error:
        raise UsageError(f"--realism {name}: {error}; is its folder on PYTHONPATH?") from None
    if not callable(scorer):
        raise UsageError(f"--realism {name}: {module} has no function {function}")
    return scorer


def realism(scorer: RealismScorer, name: str, frames: Tensor, prompt: str | None) -> float:
    """The score of one video; GonioError naming the scorer where it fails or gives no finite number."""
    try:
        score = float(scorer(frames, prompt))
    except Exception as error:
        # Foreign code may raise anything; whatever it is, it is this scorer's and not ours.
        raise GonioError(f"--realism {name}: {type(error).__name__}: {error}") from error
    if not math.isfinite(score):
        raise GonioError(f"--realism {name}: the score is {score}")
    return score
