"""Prompt expansion by a chat model of transformers from a local folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio.errors import GonioError, UsageError
from gonio.generate.expand.base import Expansion
from gonio.generate.expand.chat import MAX_TOKENS, SYSTEM, accepted, instead, question
from gonio.models.pretrained import complete_model, load_pretrained
from gonio.models.text import check_prompt


class LocalExpander:
    """A causal language model with a chat template. It does not see photos."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str, temperature: float = 0.7) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.temperature = temperature

    def expand(self, text: str, image: Tensor | None = None, seed: int = 0) -> Expansion:
        text = check_prompt(text)
        try:
            written = accepted(self._ask(text, seed))
        except UsageError as error:
            return instead(text, seed, self.name, str(error))
        note = "" if image is None else f"{self.name} reads words only, the photo was not looked at"
        return Expansion(text=written, backend=self.name, note=note)

    @torch.inference_mode()
    def _ask(self, text: str, seed: int) -> str:
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": question(text, image=False)},
        ]
        inputs = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            generated = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                temperature=self.temperature,
                max_new_tokens=MAX_TOKENS,
            )
        new = generated[0, inputs["input_ids"].shape[1] :]
        return str(self.tokenizer.decode(new, skip_special_tokens=True))


def load_expander(
    folder: str | os.PathLike[str], *, dtype: str = "bf16", device: str | torch.device = "cpu"
) -> LocalExpander:
    """A chat model (config.json, safetensors, a tokenizer with a chat template). Raises GonioError."""
    if not (Path(folder) / "config.json").is_file():
        raise GonioError(f"{folder}: no config.json; give the folder of a chat model of transformers")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def load() -> LocalExpander:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not tokenizer.chat_template:
            raise GonioError("its tokenizer has no chat template")
        model = complete_model(AutoModelForCausalLM, folder, dtype=dtype)
        return LocalExpander(model.to(device), tokenizer, name=Path(folder).name)

    return load_pretrained(folder, "chat model", load)
