"""What a prompt expander is, and which one a person asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from gonio.errors import UsageError
from gonio.models.text import check_prompt


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """An expanded prompt. Not `ok`: the backend asked for failed, `note` says how, `backend` did the work."""

    text: str
    backend: str
    ok: bool = True
    note: str = ""


class Expander(Protocol):
    def expand(self, text: str, image: Tensor | None = None, seed: int = 0) -> Expansion:
        """A longer prompt for a person's short one. image: [H, W, 3] linear, the photo given with it, if any.

        Raises UsageError for what is no prompt.
        """
        ...


class NoExpander:
    """Leaves prompts as they are, but for white space."""

    def expand(self, text: str, image: Tensor | None = None, seed: int = 0) -> Expansion:
        return Expansion(text=check_prompt(text), backend="none")


def choose_expander(choice: str, *, model: str | None = None) -> Expander:
    """The expander called "none" or "template", or by the address or folder of a language model.

    An address (http or https) is that of an OpenAI-compatible server, as "http://localhost:8000/v1"; `model`
    names one of its models. Anything else is the folder of a chat model of transformers.
    Raises UsageError for neither, GonioError for a folder without a usable model.
    """
    if choice == "none":
        return NoExpander()
    if choice == "template":
        from gonio.generate.expand.template import TemplateExpander

        return TemplateExpander()
    if choice.startswith(("http://", "https://")):
        from gonio.generate.expand.openai import OpenAIExpander

        if not model:
            raise UsageError(f"{choice}: which model? Name one that the server offers")
        return OpenAIExpander(url=choice, model=model)
    if not Path(choice).is_dir():
        raise UsageError(f'no expander {choice!r}; choose "template", "none", an address or a model folder')
    from gonio.generate.expand.local import load_expander

    return load_expander(os.fspath(choice))
