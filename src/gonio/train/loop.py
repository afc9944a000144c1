"""The one training loop: accelerate underneath, batches that are functions of the step, exact resume.

What is trained is an *objective*: a module whose forward turns a batch into a scalar loss. A batch is made
from nothing but the number of the step (and of the process), so a run that goes on from a checkpoint sees
the batches it would have seen.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gonio.errors import GonioError
from gonio.reconstruct.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from gonio.train.muon import SingleMuon

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """AdamW with a linear warm-up and a cosine decay to `final_rate` of the rate (1: constant).

    accumulate: batches a step on each process. ema: decay of the averaged weights, 0 for none.
    head_rate multiplies the rate of the parameters whose names contain one of `heads`.
    muon_rate: above 0, the matrices of numbered layers take steps of Muon (orthogonalized momentum, Jordan et
    al. 2024) of this rate instead of AdamW's; embeddings, heads and vectors never do, nor the parameters
    whose names contain one of `plain`.
    """

    steps: int
    rate: float
    warmup: int = 100
    final_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    accumulate: int = 1
    ema: float = 0.0
    precision: Literal["no", "bf16"] = "no"
    heads: tuple[str, ...] = ()
    head_rate: float = 1.0
    muon_rate: float = 0.0
    plain: tuple[str, ...] = ()

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, 0-based."""
        return self.rate * self.share_at(step)

    def share_at(self, step: int) -> float:
        """What warm-up and decay leave of a rate at a step, 0-based."""
        share = min(step / self.steps, 1.0)
        decay = self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * share))
        return min(1.0, (step + 1) / max(self.warmup, 1)) * decay


@dataclass(frozen=True, kw_only=True)
class Report:
    """One step's figures: loss of the step and its running mean, norm of the gradient before clipping."""

    step: int
    loss: float
    smooth: float
    gradient: float
    rate: float


def has_fast_bf16(device: torch.device | str) -> bool:
    """Whether bf16 gains time. A CPU without instructions for it emulates them, at a tenth of the speed; an
    x86 with AVX-512's, but without AMX, takes half again as long as with single precision."""
    if torch.device(device).type != "cpu":
        return True
    if torch.cpu._is_avx2_supported():
        return torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _accelerator(precision: str) -> Accelerator:
    """On the GPU where there is one; in single precision where bf16 gains nothing, whatever is asked for."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "bf16" and not has_fast_bf16(device):
        precision = "no"
    return Accelerator(mixed_precision=precision, cpu=device == "cpu")


class Training:
    """A running training: objective, optimizer, averaged weights and the place in the schedule."""

    def __init__(self, objective: nn.Module, settings: LoopSettings, accelerator: Accelerator | None = None):
        self.settings = settings
        self.accelerator = accelerator or _accelerator(settings.precision)
        self.bare = objective
        self.names = [name for name, p in objective.named_parameters() if p.requires_grad]
        if not self.names:
            raise GonioError("training: nothing is trainable; unfreeze a part of the model")
        groups = self._groups()
        muon = [group for group in groups if group["matrices"]]
        adamw = [group for group in groups if not group["matrices"]]
        optimizers: list[torch.optim.Optimizer] = []
        if adamw:
            optimizers.append(torch.optim.AdamW(adamw, betas=settings.betas))
        if muon:
            # Steps scaled to the size AdamW's have, so that the two rates can be compared.
            kind = torch.optim.Muon if has_fast_bf16(self.accelerator.device) else SingleMuon
            optimizers.append(kind(muon, adjust_lr_fn="match_rms_adamw"))
        self.objective, *self.optimizers = self.accelerator.prepare(objective, *optimizers)
        trainable = self._trainable()
        self.ema = {n: p.detach().clone() for n, p in trainable.items()} if settings.ema else {}
        self.step, self.smooth = 0, math.nan

    def _groups(self) -> list[dict[str, Any]]:
        """Heads apart, Muon's matrices apart; no weight decay on vectors (norms, biases, modulations)."""
        settings = self.settings
        groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.bare.named_parameters():
            if parameter.requires_grad:
                head = any(part in name for part in settings.heads)
                inner = any(part.isdigit() for part in name.split(".")) and parameter.ndim == 2
                plain = any(part in name for part in settings.plain)
                matrix = settings.muon_rate > 0 and inner and not head and not plain
                groups.setdefault((head, matrix, parameter.ndim > 1), []).append(parameter)
        listed = []
        for (head, matrix, decays), found in groups.items():
            rate = settings.muon_rate if matrix else settings.rate * (settings.head_rate if head else 1.0)
            decay = settings.weight_decay if decays else 0.0
            listed.append(
                {"params": found, "lr": rate, "full_rate": rate, "weight_decay": decay, "matrices": matrix}
            )
        return listed

    def _trainable(self) -> dict[str, Tensor]:
        return {n: p for n, p in self.bare.named_parameters() if p.requires_grad}

    def advance(self, batch_at: Callable[[int, int], Batch]) -> Report:
        """One optimizer step on `accumulate` batches; batch_at(step, number of the batch within it)."""
        settings, accelerator = self.settings, self.accelerator
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * settings.share_at(self.step)
        total = 0.0
        for index in range(settings.accumulate):
            batch = batch_at(self.step, accelerator.process_index * settings.accumulate + index)
            batch = {name: value.to(accelerator.device) for name, value in batch.items()}
            with accelerator.autocast():
                loss = self.objective(**batch) / settings.accumulate
            accelerator.backward(loss)
            total += float(loss.detach())
        if not math.isfinite(total):
            raise GonioError(f"training: the loss is not finite at step {self.step}; lower the learning rate")
        gradient = float(accelerator.clip_grad_norm_(self.objective.parameters(), settings.clip))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        rate = settings.rate_at(self.step)
        self.step += 1
        self._average()
        self.smooth = total if math.isnan(self.smooth) else 0.98 * self.smooth + 0.02 * total
        return Report(step=self.step, loss=total, smooth=self.smooth, gradient=gradient, rate=rate)

    def _average(self) -> None:
        """Averaged weights follow faster in the beginning: decay min(ema, (1 + n) / (10 + n))."""
        if self.ema:
            keep = min(self.settings.ema, (1 + self.step) / (10 + self.step))
            for name, parameter in self._trainable().items():
                self.ema[name].lerp_(parameter.detach(), 1 - keep)

    def averaged(self) -> dict[str, Tensor]:
        """The trainable weights to use: averaged when the settings ask for it."""
        return self.ema or {n: p.detach() for n, p in self._trainable().items()}

    def state(self) -> dict[str, Tensor]:
        tensors = {f"weight.{n}": p.detach() for n, p in self._trainable().items()}
        tensors |= {f"ema.{n}": p for n, p in self.ema.items()}
        for optimizer in self.optimizers:
            kind = type(optimizer.optimizer).__name__
            tensors |= optimizer_tensors(kind, optimizer.optimizer)
        tensors["where"] = torch.tensor([self.step, self.smooth], dtype=torch.float64)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._trainable().items():
                parameter.copy_(tensors[f"weight.{name}"])
            for name, average in self.ema.items():
                average.copy_(tensors[f"ema.{name}"])
        for optimizer in self.optimizers:
            restore_optimizer(type(optimizer.optimizer).__name__, optimizer.optimizer, tensors)
        self.step, self.smooth = int(tensors["where"][0]), float(tensors["where"][1])


def train(
    training: Training,
    batch_at: Callable[[int, int], Batch],
    *,
    checkpoint: Path | None = None,
    identity: dict[str, str] | None = None,
    checkpoint_seconds: float = 120.0,
    report: Callable[[Report], None] | None = None,
    every: int = 0,
    validate: Callable[[int], None] | None = None,
    stop_after_seconds: float = math.inf,
) -> bool:
    """Run to the last step. Returns whether it got there (`stop_after_seconds` may end it before).

    With a checkpoint path the state is kept there and a run of the same identity goes on from it exactly.
    Several processes keep theirs in a folder of that name through accelerate. `validate(step)` is called
    every `every` steps and at the end, by the first process.
    """
    identity = identity or {}
    # Autocast leaves the small weights of norms in float32, which torch says once a process.
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight", category=UserWarning)
    many = training.accelerator.num_processes > 1
    if checkpoint is not None and checkpoint.exists():
        _load(training, checkpoint, identity, many)
    started = saved = time.monotonic()
    while training.step < training.settings.steps:
        figures = training.advance(batch_at)
        last = training.step == training.settings.steps
        if report is not None:
            report(figures)
        if validate is not None and (last or (every and training.step % every == 0)):
            if training.accelerator.is_main_process:
                validate(training.step)
            training.accelerator.wait_for_everyone()
        stop = time.monotonic() - started > stop_after_seconds
        if checkpoint is not None and (stop or last or time.monotonic() - saved > checkpoint_seconds):
            _save(training, checkpoint, identity, many)
            saved = time.monotonic()
        if stop:
            break
    return training.step >= training.settings.steps


def _save(training: Training, checkpoint: Path, identity: dict[str, str], many: bool) -> None:
    if many:
        training.accelerator.save_state(str(checkpoint), safe_serialization=True)
        where = {"where": torch.tensor([training.step, training.smooth], dtype=torch.float64)}
        if training.accelerator.is_main_process:
            save_checkpoint(checkpoint / "where.safetensors", where | dict(training.ema), identity)
    else:
        save_checkpoint(checkpoint, training.state(), identity)


def _load(training: Training, checkpoint: Path, identity: dict[str, str], many: bool) -> None:
    if many:
        found = load_checkpoint(checkpoint / "where.safetensors", identity)
        training.accelerator.load_state(str(checkpoint))
        training.step, training.smooth = int(found["where"][0]), float(found["where"][1])
        training.ema = {name: found[name].to(value) for name, value in training.ema.items()}
    else:
        training.restore(load_checkpoint(checkpoint, identity))
