"""Which text encoder serves words it was never trained on: MiniLM, frozen, or a small one trained for it.

    python benchmarks/text_encoders.py --prompts prompts.jsonl

Both learn to tell the attributes (category, colour, roughness, metal) of captions of procedural materials;
both are asked about prompts people write, which neither saw. Rows: MiniLM's sentence embedding under a linear
and an MLP head, its tokens under attention, a two-layer transformer from scratch, the most frequent answer.
The prompts are JSON lines with "prompt", "family", "colour", "roughness" and "metallic"; null is not asked.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gonio.data.captions import caption_outside, describe
from gonio.data.categories import (
    CATEGORIES,
    COLORS,
    ROUGHNESS,
    ROUGHNESS_WORDS,
    coarse_color,
    family_categories,
)
from gonio.data.procedural import sample_material
from gonio.models.text import load_minilm
from gonio.progress import progress

TASKS: dict[str, tuple[Any, ...]] = {
    "colour": COLORS, "family": CATEGORIES, "roughness": ROUGHNESS, "metallic": (False, True),
}  # fmt: skip
KEYS = tuple(TASKS)
UNKNOWN = -100  # cross_entropy's own
LENGTH = 64
SEEDS = 2


class Heads(nn.Module):
    """One answer a task from a feature [B, D]."""

    def __init__(self, width: int, hidden: int = 0) -> None:
        super().__init__()
        self.trunk = (
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.2)) if hidden else nn.Identity()
        )
        self.heads = nn.ModuleList(nn.Linear(hidden or width, len(TASKS[key])) for key in KEYS)

    def forward(self, feature: Tensor) -> list[Tensor]:
        feature = self.trunk(feature)
        return [head(feature) for head in self.heads]


class AttentionHeads(nn.Module):
    """Tokens [B, N, D] and their mask pooled by one learned query a task, as cross-attention, then linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(KEYS), width) * width**-0.5)
        self.keys = nn.Linear(width, width)
        self.heads = nn.ModuleList(nn.Linear(width, len(TASKS[key])) for key in KEYS)

    def forward(self, tokens: Tensor, mask: Tensor) -> list[Tensor]:
        scores = torch.einsum("kd,bnd->bkn", self.queries, self.keys(tokens)) * tokens.shape[-1] ** -0.5
        pooled = scores.masked_fill(~mask[:, None], -1e4).softmax(-1) @ tokens
        return [head(pooled[:, i]) for i, head in enumerate(self.heads)]


class SmallEncoder(nn.Module):
    """Word embeddings and two transformer layers; a word never seen is <unknown>."""

    def __init__(self, words: int, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(LENGTH, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.heads = Heads(width)

    def forward(self, ids: Tensor) -> list[Tensor]:
        mask = ids != 0
        states = self.embedding(ids) + self.positions[: ids.shape[1]]
        states = self.layers(states, src_key_padding_mask=~mask) * mask[..., None]
        return self.heads(states.sum(1) / mask.sum(1, keepdim=True))


def training_captions(materials: int, each: int, prompts: list[str]) -> tuple[list[str], Tensor]:
    """Captions and their answers [captions, tasks]; no caption is one of the prompts."""
    texts, answers = [], []
    with progress("Describing materials", materials) as step:
        for seed in range(materials):
            attributes = sample_material(seed, resolution=32).metadata["attributes"]
            answer = {
                "colour": coarse_color(attributes["dominant_color"]),
                "family": family_categories(attributes["family"], metallic=attributes["metallic"])[0],
                "roughness": ROUGHNESS_WORDS[attributes["roughness_class"]],
                "metallic": attributes["metallic"],
            }
            for i in range(each):
                texts.append(
                    caption_outside(lambda s, a=attributes: describe(a, s), seed * each + i, prompts)
                )
                answers.append([TASKS[key].index(answer[key]) for key in KEYS])
            step()
    return texts, torch.tensor(answers)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def fit(
    model: nn.Module, inputs: tuple[Tensor, ...], answers: Tensor, *, steps: int, rate: float
) -> nn.Module:
    """Trained on all captions with AdamW, batches of 256, cosine schedule."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for _ in range(steps):
        batch = torch.randint(len(answers), (256,))
        outputs = model(*(x[batch] for x in inputs))
        loss = sum(cross_entropy(out, answers[batch, i]) for i, out in enumerate(outputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def hits(outputs: list[Tensor], answers: Tensor) -> Tensor:
    """[prompts, tasks]: 1 right, 0 wrong, NaN not asked."""
    found = torch.stack([out.argmax(-1) for out in outputs], 1)
    return torch.where(answers == UNKNOWN, torch.nan, (found == answers).float())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--materials", type=int, default=2000)
    parser.add_argument("--each", type=int, default=3, help="captions a material")
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    if options.prompts is None:
        print("skipped: name a file of prompts with --prompts")
        return
    torch.set_flush_denormal(True)
    asked = [json.loads(line) for line in options.prompts.read_text("utf-8").splitlines() if line.strip()]
    prompts = [row["prompt"] for row in asked]
    truth = torch.tensor(
        [[UNKNOWN if row[key] is None else TASKS[key].index(row[key]) for key in KEYS] for row in asked]
    )
    texts, answers = training_captions(options.materials, options.each, prompts)
    seen = Counter(word for text in texts for word in words(text))
    vocabulary = {word: i + 2 for i, word in enumerate(sorted(seen))}
    new = torch.tensor([any(word not in seen for word in words(prompt)) for prompt in prompts])
    print(
        f"{len(texts)} captions of {options.materials} materials, {len(seen)} words; {len(prompts)} prompts,"
    )
    print(f"{int(new.sum())} of them with words never seen; right answers, mean of {SEEDS} trainings\n")

    def word_ids(batch: list[str]) -> Tensor:
        ids = torch.zeros(len(batch), LENGTH, dtype=torch.int64)
        for row, text in zip(ids, batch, strict=True):
            found = torch.tensor([vocabulary.get(word, 1) for word in words(text)][:LENGTH])
            row[: len(found)] = found
        return ids[:, : int((ids != 0).sum(1).max())]

    started = time.perf_counter()
    minilm = load_minilm(length=LENGTH)
    parts = [minilm.encode(texts[i : i + 500]) for i in range(0, len(texts), 500)]
    lengths = torch.cat([part[1] for part in parts])
    tokens = torch.cat([part[0][:, : int(lengths.max())].half() for part in parts])
    print(f"MiniLM: {len(texts) / (time.perf_counter() - started):.0f} captions a second")
    asked_tokens, asked_lengths = minilm.encode(prompts)

    def mean(states: Tensor, count: Tensor) -> Tensor:
        return (
            nn.functional.normalize(states.float().sum(1) / count[:, None], dim=-1) * states.shape[-1] ** 0.5
        )

    def mask(states: Tensor, count: Tensor) -> Tensor:
        return torch.arange(states.shape[1])[None] < count[:, None]

    class OnTokens(AttentionHeads):
        def forward(self, states: Tensor, mask: Tensor) -> list[Tensor]:
            return super().forward(states.float(), mask)

    class WithUnknowns(SmallEncoder):
        """Words go missing in training, so that <unknown> means something."""

        def forward(self, ids: Tensor) -> list[Tensor]:
            missing = self.training & (torch.rand(ids.shape) < 0.1) & (ids != 0)
            return super().forward(ids.masked_fill(missing, 1))

    width = minilm.width
    sentence = ((mean(tokens, lengths),), (mean(asked_tokens, asked_lengths),))
    on_tokens = ((tokens, mask(tokens, lengths)), (asked_tokens, mask(asked_tokens, asked_lengths)))
    by_word = ((word_ids(texts),), (word_ids(prompts),))
    rows: dict[str, tuple[Callable[[], nn.Module], Any, float]] = {
        "MiniLM sentence, linear": (lambda: Heads(width), sentence, 3e-3),
        "MiniLM sentence, MLP": (lambda: Heads(width, 256), sentence, 1e-3),
        "MiniLM tokens, attention": (lambda: OnTokens(width), on_tokens, 1e-3),
        "from scratch, 2 layers": (lambda: WithUnknowns(len(vocabulary) + 2), by_word, 1e-3),
    }
    print(f"{'':26}" + "".join(f"{key:>11}" for key in (*KEYS, "mean", "unseen", "seconds")))
    common = [answers[:, i].mode().values.expand(len(prompts)) for i in range(len(KEYS))]
    show("most frequent answer", hits([nn.functional.one_hot(c, 99) for c in common], truth), new, 0.0)
    for name, (make, (train, test), rate) in rows.items():
        started, found = time.perf_counter(), []
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            model = fit(make(), train, answers, steps=options.steps, rate=rate)
            with torch.inference_mode():
                found.append(hits(model(*test), truth))
        show(name, torch.stack(found).mean(0), new, (time.perf_counter() - started) / SEEDS)


def show(name: str, found: Tensor, new: Tensor, seconds: float) -> None:
    """A row: right answers a task, over all tasks, and over all tasks on prompts with unseen words."""
    each = found.nanmean(0).tolist()
    shares = [*each, sum(each) / len(each), float(found[new].nanmean(0).mean())]
    print(f"{name:26}" + "".join(f"{share:>11.0%}" for share in shares) + f"{seconds:>11.0f}", flush=True)


if __name__ == "__main__":
    main()
