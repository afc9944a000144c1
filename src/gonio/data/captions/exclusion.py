"""No training caption may equal a prompt that a model is judged by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gonio.errors import GonioError

_TRIES = 100


def comparable(text: str) -> str:
    """A caption without what does not tell two apart: case, punctuation, articles, American spelling."""
    words = re.findall(r"[^\W_]+", text.lower().replace("gray", "grey"))
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def caption_outside(caption: Callable[[int], str], seed: int, prompts: Iterable[str]) -> str:
    """caption(seed), or that of the first later attempt that equals none of the prompts.

    Raises GonioError if the captioner says nothing else.
    """
    excluded = {comparable(prompt) for prompt in prompts}
    for attempt in range(_TRIES):
        text = caption(seed + attempt * 2**40)  # far from the seeds of other materials
        if comparable(text) not in excluded:
            return text
    raise GonioError(f"every caption is an excluded prompt, {text!r} the last; exclude fewer prompts")
