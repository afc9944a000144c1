"""What a language model is asked, what is accepted as its answer, and what happens otherwise."""

from __future__ import annotations

import re
import warnings

from gonio.data.captions import PREFIX
from gonio.errors import UsageError
from gonio.generate.expand.base import Expansion
from gonio.generate.expand.template import TemplateExpander
from gonio.models.text import check_prompt

SYSTEM = (
    "You write captions of close-up material videos. Given a short description of a material, answer "
    f'with one caption of 30 to 60 words that begins with "{PREFIX}". Keep everything the description says. '
    "Add surface micro-geometry, weathering, variations of the colours it has, and details typical of the "
    "material. The material is flat and fills the picture. Say nothing of light, shadows, camera, people or "
    "places. Answer with the caption alone."
)
MAX_TOKENS = 200


def question(text: str, image: bool) -> str:
    return f"Material: {text}" + (" (as in this photo)" if image else "")


def accepted(answer: object) -> str:
    """The answer as a prompt, with the prefix. Raises UsageError if it is not usable as one."""
    if not isinstance(answer, str):
        raise UsageError("an answer that is not text")
    answer = re.sub(r"<think>.*?</think>", "", answer, flags=re.DOTALL)
    text = check_prompt(answer).strip("\"'*` ")
    if not text:
        raise UsageError("an empty answer")
    return text if text.lower().startswith("the video") else f"{PREFIX} {text[0].lower()}{text[1:]}"


def instead(text: str, seed: int, backend: str, problem: str) -> Expansion:
    """The template's expansion in place of a backend that failed, and a warning of one line that says so."""
    problem = " ".join(problem.split())[:200]
    warnings.warn(f"prompt expansion: {backend} failed ({problem}); using the template", stacklevel=3)
    made = TemplateExpander().expand(text, seed=seed)
    return Expansion(text=made.text, backend=made.backend, ok=False, note=f"{backend}: {problem}")
