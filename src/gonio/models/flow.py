"""Flow matching: how latents are noised for training and how the noise is taken away again.

    x_sigma = (1 - sigma) x_0 + sigma eps        a straight line from latents to noise
    v = eps - x_0                                its velocity, what the network predicts
    sigma' = s sigma / (1 + (s - 1) sigma)       the shift: s > 1 spends more steps at high noise
    timestep = 1000 sigma                        what the network is told, always float32

(Lipman et al. 2023; Esser et al. 2024 for the shift and the logit-normal levels.) The schedules are those of
Wan 2.1 and of the trainer the paper used; they differ in where the grid starts and in rounding, and a network
notices. Latents are [B, C, F, H, W] here, but nothing depends on the layout behind the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from gonio.errors import GonioError, UsageError

TRAINING_TIMESTEPS = 1000
# Wan's UniPC grid begins at the last of its 1000 training levels, stored as float32.
_WAN_FIRST_SIGMA = float(np.float32(1 - 1 / TRAINING_TIMESTEPS))

Solver = Literal["unipc", "dpm++", "euler"]
NoiseLevels = Literal["logit-normal", "wide", "uniform"]
Levels = TypeVar("Levels", float, Tensor, np.ndarray)


class LatentTransform(Protocol):
    """Another view of the latents for the network in each step, and the way back for what it predicts."""

    def forward(self, latents: Tensor, step: int) -> Tensor: ...

    def backward(self, velocity: Tensor, step: int) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The noise levels a sampler visits and what it tells the network at each of them."""

    sigmas: Tensor  # [N + 1] float32, falling, the last is 0
    timesteps: Tensor  # [N] float32


def noised(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(1 - sigma) x_0 + sigma eps. latents, noise: [B, ...]; sigma: [B] in [0, 1]."""
    sigma = sigma.to(latents).reshape(-1, *[1] * (latents.dim() - 1))
    return (1 - sigma) * latents + sigma * noise


def velocity_target(latents: Tensor, noise: Tensor) -> Tensor:
    """eps - x_0, the same at every noise level. [B, ...]."""
    return noise - latents


def shifted(sigma: Levels, shift: float) -> Levels:
    """s sigma / (1 + (s - 1) sigma): keeps 0 and 1, raises what lies between for s > 1. Any shape."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def velocity_from_residual(output: Tensor, noised: Tensor, sigma: Tensor, deviation: Tensor) -> Tensor:
    """Velocity of a preconditioned network (Karras et al. 2022, by channel, for the straight line).

        x_0 ~ a d^2 / n^2 x + sigma d / n output,   a = 1 - sigma,   n^2 = a^2 d^2 + sigma^2

    The first term is the best linear guess from the channel's own noised value, d being its deviation; the
    output is what is left, in units of its own deviation. A narrow network need not pass the noise of every
    channel through to the velocity: that is done here. output, noised [B, C, ...]; sigma [B]; deviation [C].
    """
    shape = [1] * (output.dim() - 2)
    d = deviation.view(1, -1, *shape)
    s = sigma.clamp_min(1e-3).view(-1, 1, *shape)
    a = 1 - s
    square = (a * d).square() + s.square()
    return noised * (square - a * d.square()) / (s * square) - d / square.sqrt() * output


def training_sigmas(shift: float) -> Tensor:
    """The reference trainer's uniform grid of noise levels, shifted. [1000] falling from 1."""
    return shifted(torch.linspace(1, 0, TRAINING_TIMESTEPS + 1)[:-1], shift)


def training_weights(shift: float) -> Tensor:
    """The reference trainer's loss weights on `training_sigmas`. [1000], mean 1.

    w(sigma) ~ exp(-2 (sigma - 1/2)^2) - minimum: the middle of the path counts most, its noisy end nothing.
    """
    bell = torch.exp(-2 * (training_sigmas(shift) - 0.5).square())
    bell = bell - bell.min()
    return bell * (TRAINING_TIMESTEPS / bell.sum())


def draw_noise_levels(
    count: int, *, generator: torch.Generator, shift: float, levels: NoiseLevels = "logit-normal"
) -> tuple[Tensor, Tensor]:
    """Noise levels for a batch and the weights of their losses. -> sigma [count], weight [count].

    "uniform" draws from the reference trainer's grid and takes its weights; "logit-normal" is continuous,
    sigma = shifted(sigmoid(normal)), all weights 1; "wide" likewise with 1.6 normal: a tenth of the levels is
    then above .95, where the prompt decides, and a quarter below .5, where detail does, for a shift of 2.7.
    """
    if levels in ("logit-normal", "wide"):
        normal = torch.randn(count, generator=generator, device=generator.device)
        normal = 1.6 * normal if levels == "wide" else normal
        return shifted(normal.sigmoid(), shift), torch.ones(count, device=generator.device)
    if levels == "uniform":
        index = torch.randint(TRAINING_TIMESTEPS, (count,), generator=generator, device=generator.device)
        on_cpu = index.cpu()
        return training_sigmas(shift)[on_cpu].to(index.device), training_weights(shift)[on_cpu].to(
            index.device
        )
    raise UsageError(f"no noise levels {levels!r}; choose one of {', '.join(get_args(NoiseLevels))}")


def flow_loss(
    predict: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    noise: Tensor,
    sigma: Tensor,
    weight: Tensor,
) -> Tensor:
    """Weighted mean squared error of the velocity at one noise level per sample. -> scalar.

    predict(x [B, ...], timestep [B] float32) -> velocity [B, ...]; latents: clean, [B, ...]; noise like them;
    sigma, weight [B] of `draw_noise_levels`.
    """
    # The timestep stays float32: bf16 would round it to whole multiples of 4 and more.
    velocity = predict(noised(latents, noise, sigma), sigma.float() * TRAINING_TIMESTEPS)
    error = (velocity.float() - velocity_target(latents, noise).float()).square()
    return (weight * error.flatten(1).mean(1)).mean()


def gaussian(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Float32 noise on the generator's device: a CPU generator gives the same noise for every device."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device)


def schedule(solver: Solver, steps: int, shift: float) -> Schedule:
    """The levels of Wan's two solvers and of the reference trainer's Euler sampler.

    unipc   linspace(.999, 0, N + 1) without its end, timesteps truncated to whole numbers
    dpm++   linspace(1, 0, N + 1) without its end, timesteps truncated to whole numbers
    euler   linspace(1, 0, N + 1) without its end, timesteps as they are
    """
    if solver not in get_args(Solver):
        raise UsageError(f"no solver {solver!r}; choose one of {', '.join(get_args(Solver))}")
    if not 1 <= steps <= TRAINING_TIMESTEPS:
        raise UsageError(f"{steps} sampling steps; give 1 to {TRAINING_TIMESTEPS}")
    if not 0 < shift < math.inf:
        raise UsageError(f"a shift of {shift}; give a positive number, 1 for none")
    if solver == "euler":
        levels = shifted(torch.linspace(1, 0, steps + 1)[:-1], shift)
        timesteps = levels * TRAINING_TIMESTEPS
    else:
        first = _WAN_FIRST_SIGMA if solver == "unipc" else 1.0
        # In float64, as the truncation would else turn rounding into whole timesteps.
        exact = shifted(np.linspace(first, 0, steps + 1)[:-1], shift)
        levels = torch.from_numpy(exact.astype(np.float32))
        timesteps = torch.from_numpy((exact * TRAINING_TIMESTEPS).astype(np.int64)).float()
    return Schedule(sigmas=torch.cat([levels, torch.zeros(1)]), timesteps=timesteps)


@torch.no_grad()
def sample(
    predict: Callable[[Tensor, Tensor, bool], Tensor],
    start: Tensor | Sequence[int],
    *,
    steps: int,
    shift: float,
    guidance: float = 1.0,
    solver: Solver = "unipc",
    generator: torch.Generator | None = None,
    on_step: Callable[[int, int, Tensor], None] | None = None,
    transform_latents: LatentTransform | None = None,
    condition: Tensor | None = None,
) -> Tensor:
    """Clean latents [B, C, ...] float32 from noise, or from a shape and a generator that draws the noise.

    predict(x [B, C, ...], timestep [B] float32, conditional) -> velocity [B, C, ...]. guidance g is
    classifier-free: v_u + g (v_c - v_u); at 1 only the conditional velocity is asked for.
    condition: [B, C', ...] channels the network sees behind the latents (an image model's mask and image);
    transform_latents acts on both. on_step(index, steps, latents) is called after every step.
    Raises UsageError for settings without sense, GonioError naming the step where latents stop being finite.
    """
    if not math.isfinite(guidance):
        raise UsageError(f"a guidance of {guidance}; give a finite number, 1 for none")
    plan = schedule(solver, steps, shift)
    advance = _stepper(solver, plan)
    latents = _starting_noise(start, generator)
    _check_finite(latents, "before the first step")
    for index, level in enumerate(plan.timesteps):
        timestep = level.to(latents.device).expand(len(latents))
        seen = latents if condition is None else torch.cat([latents, condition.to(latents)], 1)
        if transform_latents is not None:
            seen = transform_latents.forward(seen, index)
        velocity = _guided(predict, seen, timestep, guidance)
        if transform_latents is not None:
            velocity = transform_latents.backward(velocity, index)
        latents = advance(velocity, index, latents)
        _check_finite(latents, f"after step {index + 1} of {steps}")
        if on_step is not None:
            on_step(index, steps, latents)
    return latents


def _starting_noise(start: Tensor | Sequence[int], generator: torch.Generator | None) -> Tensor:
    if isinstance(start, Tensor):
        return start.float()
    if generator is None:
        raise UsageError("sampling from a shape draws noise; give a generator, or the noise itself")
    return gaussian(start, generator)


def _guided(
    predict: Callable[[Tensor, Tensor, bool], Tensor], seen: Tensor, timestep: Tensor, guidance: float
) -> Tensor:
    conditional = predict(seen, timestep, True).float()
    if guidance == 1:
        return conditional
    unconditional = predict(seen, timestep, False).float()
    return unconditional + guidance * (conditional - unconditional)


def _stepper(solver: Solver, plan: Schedule) -> Callable[[Tensor, int, Tensor], Tensor]:
    """step(velocity, index, latents) -> latents at the next level."""
    if solver == "euler":
        widths = plan.sigmas.diff().tolist()
        return lambda velocity, index, latents: latents + widths[index] * velocity

    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    kind: Any = UniPCMultistepScheduler if solver == "unipc" else DPMSolverMultistepScheduler
    scheduler = kind(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    # The library's own grids are not Wan's. Only UniPC takes levels as an argument, and that moves a first
    # level of 1, so both are told directly.
    scheduler.set_timesteps(len(plan.timesteps))
    scheduler.sigmas = plan.sigmas
    scheduler.timesteps = plan.timesteps
    scheduler.set_begin_index(0)
    return lambda velocity, index, latents: scheduler.step(
        velocity, plan.timesteps[index], latents, return_dict=False
    )[0]


def _check_finite(latents: Tensor, when: str) -> None:
    if not bool(torch.isfinite(latents).all()):
        raise GonioError(
            f"sampling: the latents hold NaN or infinite values {when}; "
            "run the network in float32, lower the guidance, or check its weights"
        )
