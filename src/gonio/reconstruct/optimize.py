"""Fitting a neural material to a video by gradient descent, coarse to fine.

`scratch` is the paper's baseline: random MLPs and textures. `optimize` starts from the universal MLPs, keeps
them close with a small learning rate, and looks for latents in the coordinates in which the universal latents
are a standard normal, with that normal as their prior. `refine` makes a short such fit, and then goes on from
a teacher's textures and MLPs instead, with the fit as a second opinion: a last level learns what both say
at random views and lights (`opinions`), and the frames beside it.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from gonio.blocks import BLOCK, for_each_block, whole_blocks, worker_count
from gonio.color import log_decode, srgb_from_linear
from gonio.errors import GonioError
from gonio.material_video import MaterialVideo
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial, Provenance, log_value
from gonio.reconstruct.checkpoint import (
    decoder_weights,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from gonio.reconstruct.observations import Observations, joined, observe
from gonio.reconstruct.opinions import Opinions
from gonio.reconstruct.universal import LatentSpace, load_universal


@dataclass(frozen=True, kw_only=True)
class Level:
    """One step of the coarse-to-fine schedule. size: texels per side; batch: observations a step.

    imagined: share of the batch that is not observed, but what two opinions say: see `opinions`.
    """

    size: int
    shrink: int
    steps: int
    batch: int
    imagined: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Everything a fit depends on besides the video.

    prior weighs the mean square of the whitened latents against the mean square log error. robust: above 0,
    errors much larger than this count for less than their square (Cauchy): frames that disagree do not pull
    the others along. effort scales the number of steps. final_rate is the fraction of the rates left at the
    end of each level. blend_steps: of the last level, which goes on from a teacher; 0 for none. Its decoder
    has the rate blend_decoder_rate, higher because what is imagined holds it.
    """

    universal: bool = True
    decoder: str = "64x4"
    texture_rate: float = 0.06
    decoder_rate: float = 5e-5
    prior: float = 1e-2
    robust: float = 0.0
    scratch_latent: float = 0.1
    final_rate: float = 0.1
    effort: float = 1.0
    seed: int = 0
    coarsest: int = 64
    coarse_steps: int = 300
    fine_steps: int = 70
    coarse_batch: int = 8192
    fine_batch: int = 32768
    blend_steps: int = 0
    blend_decoder_rate: float = 1e-3

    def levels(self, size: int) -> list[Level]:
        """The schedule for a texture of `size` texels per side."""
        shrinks = [1]
        while size // (shrinks[-1] * 2) >= self.coarsest:
            shrinks.append(shrinks[-1] * 2)
        result = []
        for index, shrink in enumerate(reversed(shrinks)):
            steps = self.coarse_steps if index == 0 else self.fine_steps
            batch = min(self.coarse_batch * 2**index, self.fine_batch)
            result.append(
                Level(size=size // shrink, shrink=shrink, steps=self._with_effort(steps), batch=batch)
            )
        if self.blend_steps:
            steps = self._with_effort(self.blend_steps)
            result.append(Level(size=size, shrink=1, steps=steps, batch=self.fine_batch, imagined=0.5))
        return result

    def _with_effort(self, steps: int) -> int:
        return max(1, round(steps * self.effort))


OPTIMIZE = FitSettings()
# The baseline's rates are the best of those tried (docs/RESULTS.md), and it gets a fifth more steps.
SCRATCH = FitSettings(universal=False, texture_rate=0.02, decoder_rate=2e-3, prior=0.0, effort=1.2)
REFINE = FitSettings(robust=0.3, effort=0.5, blend_steps=120)


@dataclass(frozen=True, kw_only=True)
class Progress:
    step: int
    steps: int
    loss: float
    psnr: float


class Fit:
    """The state of a running fit: whitened latents, decoder, their optimizers, the place in the schedule.

    opinions: of the teacher, and of the fit itself as it was when the level with imagined observations began.
    """

    def __init__(self, settings: FitSettings, size: int, teacher: NeuralMaterial | None = None) -> None:
        if (teacher is not None) != (settings.blend_steps > 0):
            raise GonioError("fit: a teacher and settings with blend_steps go together; give both or none")
        if teacher is not None and tuple(teacher.resolution) != (size, size):
            raise GonioError(f"fit: a teacher of {teacher.resolution} texels for a fit of {size}")
        self.settings, self.teacher = settings, teacher
        self.levels = settings.levels(size)
        self.opinions: Opinions | None = None
        torch.manual_seed(settings.seed)
        if settings.universal:
            universal = load_universal(settings.decoder)
            self.decoder, self.space = universal.decoder, universal.space
        else:
            width, layers = (int(n) for n in settings.decoder.split("x"))
            self.decoder = Decoder(MaterialSpec(hidden_width=width, hidden_layers=layers))
            spec = self.decoder.spec
            self.space = LatentSpace.plain(
                spec.offset_channels + spec.reflectance_channels, settings.scratch_latent
            )
        side = self.levels[0].size
        channels = self.space.mean.numel()
        make = torch.zeros if settings.universal else torch.randn
        self.code = make(side, side, channels)
        self.level, self.step = 0, 0
        self.sinks: list[tuple[Tensor, Tensor]] = []
        self.new_optimizers()

    def new_optimizers(self) -> None:
        self.code.requires_grad_(True)
        self.code_optimizer = torch.optim.Adam([self.code], lr=1.0, betas=(0.9, 0.99), fused=True)
        self.decoder_optimizer = torch.optim.Adam(
            self.decoder.parameters(), lr=1.0, betas=(0.9, 0.99), fused=True
        )

    def enter_level(self, level: int) -> None:
        """Go on at the next resolution from the bilinearly enlarged textures."""
        self.level, self.step = level, 0
        if self.code.shape[0] != self.levels[level].size:
            self.code = enlarge(self.code.detach(), self.levels[level].size)
        self.new_optimizers()

    def listen(self, observations: Observations) -> None:
        """Go on from the teacher, around whose latents the prior lies then, with both opinions in mind."""
        assert self.teacher is not None
        self._follow(Opinions.weighed(self.teacher, self.material(), observations))
        self.code = torch.zeros_like(self.code.detach())
        self.new_optimizers()

    def _follow(self, opinions: Opinions) -> None:
        self.opinions = opinions
        teacher = opinions.teacher
        self.decoder = _copied(teacher.decoder)
        latents = torch.cat([teacher.T_off, teacher.T_rgb], -1).detach()
        self.space = LatentSpace(mean=latents, basis=self.space.basis)

    @property
    def done_steps(self) -> int:
        return sum(level.steps for level in self.levels[: self.level]) + self.step

    @property
    def total_steps(self) -> int:
        return sum(level.steps for level in self.levels)

    def textures(self) -> tuple[Tensor, Tensor]:
        """T_off, T_rgb [R, R, C] of the present latents."""
        latents = self.space.latents(self.code.detach())
        split = self.decoder.spec.offset_channels
        return latents[..., :split].contiguous(), latents[..., split:].contiguous()

    def material(self, provenance: Provenance | None = None) -> NeuralMaterial:
        return NeuralMaterial(*self.textures(), _copied(self.decoder), provenance)

    def state(self) -> dict[str, Tensor]:
        tensors = {"code": self.code.detach(), "where": torch.tensor([self.level, self.step])}
        tensors |= {f"decoder.{k}": v for k, v in self.decoder.state_dict().items()}
        for name, optimizer in self._optimizers():
            tensors |= optimizer_tensors(name, optimizer)
        return tensors | (self.opinions.state() if self.opinions else {})

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.level, self.step = (int(n) for n in tensors["where"])
        self.code = tensors["code"].clone()
        if "own_share" in tensors and self.teacher is not None:
            self._follow(Opinions.restored(self.teacher, self.material(), tensors))
        self.decoder.load_state_dict(decoder_weights(tensors))
        self.new_optimizers()
        for name, optimizer in self._optimizers():
            restore_optimizer(name, optimizer, tensors)

    def _optimizers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        return [("code", self.code_optimizer), ("decoder", self.decoder_optimizer)]

    def rate(self) -> float:
        """Cosine decay and a short warm-up in each level: every resolution gets large steps, then small."""
        share = self.step / self.levels[self.level].steps
        low = self.settings.final_rate
        cosine = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * share))
        return cosine * min(1.0, (self.step + 1) / 10)

    def advance(self, observations: Observations) -> tuple[float, float]:
        """One gradient step. Returns the mean square log error and that of display-encoded values."""
        settings, level = self.settings, self.levels[self.level]
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.done_steps)
        imagined = round(level.batch * level.imagined)
        chosen = torch.randint(observations.count, (level.batch - imagined,), generator=generator)
        batch = observations.batch(chosen, self.decoder.spec.gain)
        if imagined and self.opinions:
            batch = joined(batch, self.opinions.imagined(imagined, generator))
        T_off, T_rgb = self.textures()
        T_off.requires_grad_(True), T_rgb.requires_grad_(True)
        parameters = list(self.decoder.parameters())
        workers = worker_count()
        if len(self.sinks) != workers or self.sinks[0][0].shape != T_off.shape:
            self.sinks = [(torch.zeros_like(T_off), torch.zeros_like(T_rgb)) for _ in range(workers)]
        share = -(-level.batch // workers)

        def work(worker: int, _: int) -> tuple[float, float, list[Tensor]]:
            """A fixed share of the batch, so that sums come out the same each time, bit for bit."""
            sinks = self.sinks[worker]
            for sink in sinks:
                sink.zero_()
            totals = [torch.zeros_like(p) for p in parameters]
            loss = display = 0.0
            end = min((worker + 1) * share, level.batch)
            for start in range(worker * share, end, BLOCK):
                part = slice(start, min(start + BLOCK, end))
                estimate = log_value(
                    self.decoder, T_off, T_rgb, batch.uv[part], batch.wi[part], batch.wo[part], sinks
                )
                error = self._error(estimate - batch.target[part]) / batch.target.numel()
                found = torch.autograd.grad(error, [*parameters, T_off, T_rgb], allow_unused=True)
                for total, gradient in zip(totals, found, strict=False):
                    total += gradient
                loss += error.item()
                display += display_error(estimate.detach(), batch.target[part], self.decoder.spec.gain)
            return loss, display / batch.target.numel(), totals

        losses, displays, totals = zip(*for_each_block(workers, work, size=1), strict=True)
        loss, display = sum(losses), sum(displays)
        if not math.isfinite(loss):
            raise GonioError(
                f"fit: the loss is not finite at step {self.done_steps}; check the video for NaN"
            )
        for parameter, *gradients in zip(parameters, *totals, strict=True):
            parameter.grad = functools.reduce(torch.add, gradients)
        for sinks in self.sinks[1:]:
            for whole, sink in zip(self.sinks[0], sinks, strict=True):
                whole += sink
        gradient = self.space.gradient(torch.cat(self.sinks[0], -1))
        # d/de of prior * mean(e^2)
        self.code.grad = gradient + (2 * settings.prior / self.code.numel()) * self.code.detach()
        rate = self.rate()
        self.code_optimizer.param_groups[0]["lr"] = settings.texture_rate * rate
        decoder_rate = settings.blend_decoder_rate if imagined else settings.decoder_rate
        self.decoder_optimizer.param_groups[0]["lr"] = decoder_rate * rate
        self.code_optimizer.step()
        self.decoder_optimizer.step()
        self.step += 1
        return loss, display

    def _error(self, difference: Tensor) -> Tensor:
        """The summed loss of differences in the log domain."""
        scale = self.settings.robust
        square = difference.square()
        return (scale**2 * torch.log1p(square / scale**2) if scale else square).sum()


def _copied(decoder: Decoder) -> Decoder:
    copy = Decoder(decoder.spec)
    copy.load_state_dict(decoder.state_dict())
    return copy


def display_error(estimate: Tensor, target: Tensor, gain: float) -> float:
    """Sum of squared errors of display-encoded values; estimate and target [N, 3] in the log domain."""
    shown, truth = (srgb_from_linear(log_decode(t, gain)) for t in (estimate, target))
    return (shown - truth).square().sum().item()


def enlarge(texture: Tensor, size: int) -> Tensor:
    """Bilinear, periodic resampling. [h, w, C] -> [size, size, C]."""
    old = texture.shape[0]
    ramp = (torch.arange(size) + 0.5) / size * old - 0.5
    padded = torch.cat([texture[-1:], texture, texture[:1]])
    padded = torch.cat([padded[:, -1:], padded, padded[:, :1]], 1)
    place = (ramp + 1 + 0.5) / (old + 2) * 2 - 1
    grid = torch.stack(torch.meshgrid(place, place, indexing="ij")[::-1], -1)[None]
    return (
        grid_sample(padded.permute(2, 0, 1)[None], grid, align_corners=False)[0].permute(1, 2, 0).contiguous()
    )


def fit(
    video: MaterialVideo,
    settings: FitSettings = OPTIMIZE,
    *,
    size: int | None = None,
    teacher: NeuralMaterial | None = None,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 10.0,
    report: Callable[[Progress], None] | None = None,
    provenance: Provenance | None = None,
) -> NeuralMaterial:
    """Fit a neural material to the video's frames.

    size: texels per side, the frames' shorter side when None. teacher: a material of the same sample, for
    settings with `blend_steps` (`REFINE`). With a `checkpoint` path the state is written there now and then;
    a fit of the same video, settings and teacher goes on from it, bit for bit, and removes it at the end.
    """
    size = size or min(video.frames.shape[1:3])
    state = Fit(settings, size, teacher)
    identity: dict[str, str] = {}
    if checkpoint is not None:
        identity = {"settings": repr(settings), "size": str(size), "video": _digest(video)}
        if teacher is not None:
            identity["teacher"] = tensors_digest(teacher.state_dict().values())
        if checkpoint.exists():
            state.restore(load_checkpoint(checkpoint, identity))
    with whole_blocks():
        _run(state, video, identity, checkpoint, checkpoint_seconds, report)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return state.material(provenance)


def _digest(video: MaterialVideo) -> str:
    """A hash of all a fit sees of a video."""
    seen = tensors_digest((video.frames, video.coverage))
    return hashlib.sha256(f"{video.trajectory.to_json()!r} {seen}".encode()).hexdigest()


def tensors_digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(np.ascontiguousarray(tensor.detach().numpy()).tobytes())
    return digest.hexdigest()


def _run(
    state: Fit,
    video: MaterialVideo,
    identity: dict[str, str],
    checkpoint: Path | None,
    checkpoint_seconds: float,
    report: Callable[[Progress], None] | None,
) -> None:
    """Through the levels and their steps, from wherever the state stands."""
    saved = time.monotonic()
    while state.level < len(state.levels):
        level = state.levels[state.level]
        observations = observe(video, level.shrink)
        if level.imagined and state.opinions is None:
            state.listen(observations)
        while state.step < level.steps:
            loss, display = state.advance(observations)
            if report is not None:
                psnr = -10 * math.log10(max(display, 1e-12))
                report(Progress(step=state.done_steps, steps=state.total_steps, loss=loss, psnr=psnr))
            if checkpoint is not None and time.monotonic() - saved > checkpoint_seconds:
                save_checkpoint(checkpoint, state.state(), identity)
                saved = time.monotonic()
        if state.level + 1 == len(state.levels):
            break
        state.enter_level(state.level + 1)
