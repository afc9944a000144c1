"""A memory of layouts for a small text model: what a prompt recalls is shown to it beside the noise.

A network of a few million parameters learns soon how a brick wall is lit, coloured and worn, and late where
each of its bricks lies. So the layouts are kept outside it, as means of the latents of clips that share one
in many colours and finishes, and it learns to draw a material on the layout that it is shown (as diffusion
models that are told what a search has found: Blattmann et al. 2022, "Semi-parametric neural image
synthesis"). What is searched by is a linear reading of the prompt's mean token. Guidance leads away from what
would be made with neither prompt nor layout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import normalize

from gonio import media
from gonio.errors import GonioError
from gonio.models.weight_files import read_small, require_shapes

SCHEMA = "gonio-memory/1"
MEMORY_FILE = "memory.safetensors"  # beside the folder of the transformer that was trained with it
MAX_FILE_BYTES = 64 << 20
MAX_LAYOUTS = 4096
# Of the likeliest layout's probability: what is less likely than this share is not meant.
FITTING = 0.3


@dataclass(frozen=True, kw_only=True)
class Memory:
    """names: of the layouts. values: [S, C, h, w] the first channels of their mean latents.
    weight [S, D], bias [S]: of the logits of the layouts that a prompt means. All float32."""

    names: tuple[str, ...]
    values: Tensor
    weight: Tensor
    bias: Tensor

    def probabilities(self, text: Tensor) -> Tensor:
        """How likely a prompt means each layout. text: [N, D] tokens, zero beyond the prompt -> [S]"""
        return (self.weight @ mean_token(text).to(self.weight) + self.bias).softmax(0)

    def recalled(self, text: Tensor, seed: int) -> tuple[str, Tensor]:
        """Name and values [C, h, w] of one of the layouts that the prompt means; seeds in a row take turns,
        from the likeliest on."""
        likely, order = self.probabilities(text).sort(descending=True)
        fitting = order[likely >= FITTING * likely[0]].tolist()
        chosen = fitting[seed % len(fitting)]
        return self.names[chosen], self.values[chosen]


def mean_token(text: Tensor) -> Tensor:
    """The direction of the mean of a prompt's tokens [N, D], zero beyond the prompt. [D]"""
    return normalize(text.float().sum(0), dim=0)


def save_memory(path: Path, memory: Memory, provenance: Mapping[str, Any]) -> None:
    """All in fp16: the values are means over few clips, and the reading knows no finer than that."""
    tensors = {name: getattr(memory, name).half().contiguous() for name in _TENSORS}
    about = {"schema": SCHEMA, "names": json.dumps(memory.names), "provenance": json.dumps(provenance)}
    media.write_bytes(path, save(tensors, metadata=about))


def load_memory(path: Path, *, channels: int) -> Memory:
    """A memory that tells so many channels. GonioError where the file differs."""
    about, tensors = read_small(path, SCHEMA, MAX_FILE_BYTES)
    names = _names(path, about)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    side, width = (found.get(name, (0, 0, 0, 0))[-1] for name in ("values", "weight"))
    expected: dict[str, tuple[int, ...]] = {
        "values": (len(names), channels, side, side),
        "weight": (len(names), width),
        "bias": (len(names),),
    }
    require_shapes(path, found, expected)
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise GonioError(f"{path}: holds NaN or infinite values")
    return Memory(names=names, **{name: tensors[name].float() for name in _TENSORS})


def _names(path: Path, about: Mapping[str, str]) -> tuple[str, ...]:
    try:
        names = json.loads(about["names"])
    except (KeyError, ValueError, RecursionError):
        names = None
    known = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not known or not 1 <= len(names) <= MAX_LAYOUTS or len(set(names)) != len(names):
        raise GonioError(f"{path}: its layouts are no list of up to {MAX_LAYOUTS} names; make it again")
    return tuple(names)


def reading(texts: Tensor, meant: Tensor, *, l2: float, steps: int = 200) -> tuple[Tensor, Tensor]:
    """weight [S, D] and bias [S] of a multinomial logistic regression, by L-BFGS.

    texts: [N, D] mean tokens; meant: [N, S] shares of the layouts that each means, which sum to 1. l2:
    penalty on the squared weights, beside the mean cross entropy.
    """
    weight = torch.zeros(meant.shape[1], texts.shape[1], requires_grad=True)
    bias = torch.zeros(meant.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        logits = (texts @ weight.T + bias).log_softmax(1)
        found = -(meant * logits).sum(1).mean() + l2 * weight.square().sum()
        found.backward()
        return found

    with torch.enable_grad():
        solver.step(loss)
    return weight.detach(), bias.detach()


_TENSORS: Sequence[str] = tuple(field.name for field in fields(Memory) if field.name != "names")
