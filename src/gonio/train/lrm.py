"""Training of the large reconstruction model by rendering: textures are judged by what they look like.

A step takes clips of a pool, lets the model predict textures, decodes these on patches of texels under views
and lights the model has not seen, and compares with the height-field renderer's answer there (VideoNeuMat,
section 4.3): the 81 frames of the trajectory, the 81 cross-joined ones, and random ones.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from gonio import media
from gonio.blocks import for_each_block, whole_blocks
from gonio.camera import Trajectory, cross_joined, random_places, two_phase
from gonio.color import linear_from_srgb, log_decode, log_encode, srgb_from_linear
from gonio.data.clips import ClipPool, ClipSettings, hash_seed
from gonio.data.faults import with_faults
from gonio.data.heightfield import HeightFieldBatch, parallax, shade
from gonio.errors import UsageError
from gonio.models.autoencoder import channels_last
from gonio.models.perceptual import lpips_distance, lpips_unavailable
from gonio.models.reconstruction import LRM_SPECS, MINI_LRM, ReconstructionModel, ReconstructionSpec
from gonio.models.small_attention import with_small_attention
from gonio.models.weight_files import save_sharded
from gonio.neural_material import MaterialSpec, log_value_and_offset, parallax_loss
from gonio.reconstruct.lrm import copy_weights, filled, new_model
from gonio.reconstruct.plane import geometry_at
from gonio.rectify import reproject
from gonio.train.consistency import GeneratedVideos
from gonio.train.loop import Batch, LoopSettings, Report, Training, train

MODEL_FOLDER = "model"
# Layers that no video model has: they learn at a rate of their own.
Perceptual = Literal["gradient", "lpips"]
HEADS = ("conv_out", "proj_out", "detail", "upsample")


@dataclass(frozen=True, kw_only=True)
class LRMRecipe:
    """What a model learns from.

    The clips of the pool are rectified; a model of perspective frames gets them as the cameras see them.

    start: "video" for the weights of the video model, or "random". decoder: "universal" MLPs or "random"
    ones, trained along unless frozen_decoder.

    batch: materials a step; patches, patch: of each so many squares of texels, every square under one view
    and light. random_share: of the patches under random views and lights; the rest is divided between the
    trajectory and the cross-joined frames. perceptual: weight of the perceptual loss; perceptual_kind:
    `gradient_loss` or `lpips_loss`, for which the former stands where LPIPS cannot be computed. parallax:
    weight of `parallax_loss`, for the clips whose relief is known. faulty: share of the clips that get the
    faults of generated videos. thinned: share of which every second frame is missing. inputs: so many evenly
    spaced frames are given, the others filled in; None: all. consistency: share of a batch that comes from
    generated videos, where there are any.
    """

    spec: ReconstructionSpec = MINI_LRM
    start: str = "video"
    decoder: str = "universal"
    frozen_decoder: bool = False
    batch: int = 4
    patches: int = 8
    patch: int = 32
    random_share: float = 0.5
    perceptual: float = 0.1
    perceptual_kind: Perceptual = "gradient"
    parallax: float = 0.03
    faulty: float = 0.3
    thinned: float = 0.15
    inputs: int | None = None
    consistency: float = 0.25
    clips: ClipSettings = field(default_factory=lambda: ClipSettings(procedural=1600, repeats=24))
    loop: LoopSettings = field(
        default_factory=lambda: LoopSettings(
            steps=4000,
            rate=5e-4,
            muon_rate=3e-3,
            warmup=100,
            ema=0.998,
            precision="bf16",
            heads=HEADS,
            head_rate=4.0,
            # Muon's steps are as large for a matrix whose gradient is tiny: they killed every unit of
            # M_off's last hidden layer, and with it all offsets.
            plain=("M_off", "M_rgb"),
        )
    )
    seed: int = 0


MINI = LRMRecipe()
# The paper: 256 pixels in fp32, then 1024 in bf16, on 64 GPUs for 75 and 60 hours; LPIPS with weight 0.1.
# Rates, batch and steps are not stated.
PAPER = LRMRecipe(
    spec=LRM_SPECS["lrm-wan1.3b"],
    batch=1,
    patch=64,
    perceptual_kind="lpips",
    faulty=0.0,
    thinned=0.0,
    clips=ClipSettings(resolution=256),
    loop=LoopSettings(steps=100_000, rate=1e-4, warmup=1000, precision="no", heads=HEADS, head_rate=5.0),
)
RECIPES: dict[str, LRMRecipe] = {
    "mini-lrm": MINI,
    # Goes on from a trained model (--model): smaller steps, each judged at twice as many places.
    "mini-lrm-more": replace(
        MINI, patches=16, loop=replace(MINI.loop, steps=1400, rate=2.5e-4, muon_rate=1.5e-3)
    ),
    "paper-lrm": PAPER,
    # Goes on from the result of paper-lrm (--model).
    "paper-lrm-1024": replace(
        PAPER,
        patch=128,
        clips=replace(PAPER.clips, resolution=1024),
        loop=replace(PAPER.loop, rate=5e-5, precision="bf16"),
    ),
    "smoke": replace(
        MINI,
        batch=2,
        patches=2,
        patch=8,
        clips=ClipSettings(procedural=4, resolution=32),
        loop=replace(MINI.loop, steps=3, warmup=1),
    ),
}
# The paper's ablations (table 2), by the name of the row.
ABLATIONS: dict[str, Callable[[LRMRecipe], LRMRecipe]] = {
    "linear-upsampler": lambda r: replace(r, spec=replace(r.spec, upsampler="linear", residual=False)),
    "frozen-mlp": lambda r: replace(r, frozen_decoder=True),
    "random-mlp": lambda r: replace(r, decoder="random"),
    "random-lrm": lambda r: replace(r, start="random"),
    "mlp-32x2": lambda r: replace(r, spec=replace(r.spec, decoder="32x2")),
    "mlp-128x6": lambda r: replace(r, spec=replace(r.spec, decoder="128x6"), decoder="random"),
    "5-frames": lambda r: replace(r, inputs=5, spec=replace(r.spec, fewest=5)),
    "no-detail": lambda r: replace(r, spec=replace(r.spec, detail=0, detail_blocks=0)),
    # As in the paper, whose frames are not aligned: to be compared with no-detail. It needs all its frames.
    "perspective": lambda r: replace(
        r, thinned=0.0, spec=replace(r.spec, projection="perspective", detail=0, detail_blocks=0)
    ),
}


def stride_of(inputs: int) -> int:
    """Every so manyth frame of 17 makes `inputs` evenly spaced ones."""
    strides = {5: 4, 9: 2, 17: 1}
    if inputs not in strides:
        raise UsageError(f"{inputs} input frames: of 17 frames 5, 9 or 17 are evenly spaced")
    return strides[inputs]


class LRMObjective(nn.Module):
    """Mean square error of log-encoded values, and by weight the perceptual loss and that of the offsets."""

    def __init__(self, model: ReconstructionModel, recipe: LRMRecipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(
        self, frames: Tensor, uv: Tensor, wi: Tensor, wo: Tensor, target: Tensor, shift: Tensor
    ) -> Tensor:
        """frames [B, F, H, W, 3] display-encoded; uv [B, K, s, s, 2], wi, wo, target [B, K, s, s, 3].

        shift [B, K, s, s, 2]: the true parallax, NaN for clips of which nobody knows it.
        """
        textures = self.model(frames).float()
        with torch.autocast(frames.device.type, enabled=False):
            estimates, offsets = [], []
            for index, found in enumerate(textures):
                T_off, T_rgb = self.model.split(found)
                at = [t[index].flatten(0, -2) for t in (uv, wi, wo)]
                value, du = log_value_and_offset(self.model.decoder, T_off, T_rgb, at[0], at[1], at[2])
                estimates.append(value)
                truth = shift[index].flatten(0, -2)
                if bool(torch.isfinite(truth).all()):
                    offsets.append(parallax_loss(du, truth))
            estimate = torch.stack(estimates).view_as(target)
            loss = (estimate - target).square().mean()
            if self.recipe.perceptual:
                judge = lpips_loss if self.recipe.perceptual_kind == "lpips" else gradient_loss
                loss = loss + self.recipe.perceptual * judge(estimate, target)
            if self.recipe.parallax and offsets:
                loss = loss + self.recipe.parallax * torch.stack(offsets).mean()
            return loss


def train_lrm(
    recipe: LRMRecipe,
    out: Path,
    pool: ClipPool,
    *,
    weights: Path | None = None,
    begin: Path | None = None,
    generated: GeneratedVideos | None = None,
    prepared: Callable[[int], None] | None = None,
    report: Callable[[Report], None] | None = None,
    stop_after_seconds: float = math.inf,
) -> bool:
    """Train, and write the averaged weights to out/model. Returns whether the last step was reached.

    weights: of the video model to begin with; begin: a trained reconstruction model to go on from. The state
    is kept in out/training.safetensors. generated: videos to learn from besides the pool.
    prepared(number of materials made): the pool's materials are made anew for the renderer.
    A recipe with LPIPS where there is none warns, and trains with the gradient loss; out/training.json names
    the loss that was used.
    """
    asked, recipe = recipe, with_available_loss(recipe)
    model = new_model(
        recipe.spec, start=recipe.start, decoder=recipe.decoder, weights=weights, seed=recipe.seed
    )
    if generated is not None and recipe.spec.projection != "rectified":
        raise UsageError(
            f"{recipe.spec.name} cannot learn from generated videos: it takes no half of the frames"
        )
    if begin is not None:
        copy_weights(model, begin)
    model.decoder.requires_grad_(not recipe.frozen_decoder)
    channels_last(model.autoencoder)
    size = recipe.clips.resolution
    with_small_attention(model.transformer, model.video_spec.token_count(recipe.spec.frames, size, size))
    materials = PoolMaterials(pool, prepared)
    training = Training(LRMObjective(model.train(), recipe), recipe.loop)
    done = train(
        training,
        lambda step, index: batch_at(recipe, materials, step, index, generated),
        checkpoint=out / "training.safetensors",
        identity={
            "recipe": repr(recipe),
            "maps": ",".join(f.name for f in pool.maps),
            "begin": str(begin),
            "generated": str(0 if generated is None else len(generated.clips)),
        },
        report=report,
        stop_after_seconds=stop_after_seconds,
    )
    averaged = {name.removeprefix("model."): value for name, value in training.averaged().items()}
    model.load_state_dict(averaged, strict=False)
    save_sharded(out / MODEL_FOLDER, model.stored(), model.config())
    facts = {
        "recipe": asdict(asked),
        "perceptual_used": recipe.perceptual_kind if recipe.perceptual else None,
        "clips": len(pool),
        "steps": training.step,
        "loss": training.smooth,
    }
    media.write_json(out / "training.json", facts)
    return done


def with_available_loss(recipe: LRMRecipe) -> LRMRecipe:
    """The recipe with the gradient loss where it asks for LPIPS and this machine has none; warns."""
    if not recipe.perceptual or recipe.perceptual_kind != "lpips":
        return recipe
    problem = lpips_unavailable((recipe.patches, recipe.patch, recipe.patch, 3))
    if problem is None:
        return recipe
    warnings.warn(f"{problem}; the weight-free gradient loss takes the place of LPIPS", stacklevel=3)
    return replace(recipe, perceptual_kind="gradient")


def lpips_loss(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean LPIPS of patches [..., s, s, 3] of log-encoded values, as a display shows them; white is 1.

    What is brighter than white under irradiance pi looks alike and has no gradient here: it is left to the
    other term.
    """
    gain = MaterialSpec().gain
    x, y = (srgb_from_linear(log_decode(t, gain)).flatten(0, -4).movedim(-1, 1) for t in (estimate, target))
    return lpips_distance(x, y).mean()


def gradient_loss(estimate: Tensor, target: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute error of differences between neighbours, at full, half and quarter size.

    A perceptual loss without weights: it asks for edges where they are, at any brightness. [..., s, s, 3]
    """
    error = (estimate - target).movedim(-1, -3).flatten(0, -4)
    total = error.new_zeros(())
    for _ in range(scales):
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = nn.functional.avg_pool2d(error, 2)
    return total / scales


class PoolMaterials:
    """The materials of a pool, made once and kept for the renderer."""

    def __init__(self, pool: ClipPool, report: Callable[[int], None] | None = None) -> None:
        self.pool = pool
        done = 0

        def make(start: int, stop: int) -> list[HeightFieldBatch]:
            nonlocal done
            made = [HeightFieldBatch.from_materials([pool.material(i)]) for i in range(start, stop)]
            done += stop - start
            if report is not None:
                report(done)
            return made

        with whole_blocks():
            found = for_each_block(len(pool), make, size=16)
        self.fields = [item for group in found for item in group]

    def __len__(self) -> int:
        return len(self.fields)


def batch_at(
    recipe: LRMRecipe,
    materials: PoolMaterials,
    step: int,
    index: int,
    generated: GeneratedVideos | None = None,
) -> Batch:
    """Batch number `index` of a step: clips, and patches with what they look like under other views."""
    draw = torch.Generator().manual_seed(hash_seed("lrm", recipe.seed, step, index))
    chosen = torch.randint(len(materials), (recipe.batch,), generator=draw).tolist()
    seeds = torch.randint(2**40, (recipe.batch,), generator=draw).tolist()
    gain = MaterialSpec().gain

    def truth(start: int, _: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seeds[start])
        if generated is not None and float(torch.rand((), generator=generator)) < recipe.consistency:
            seen = generated.example(lambda size, draw: _squares(recipe, size, draw), generator)
            return *seen, torch.full_like(seen[1], math.nan)
        clip = materials.pool.clip(chosen[start]).float().div(255)
        if float(torch.rand((), generator=generator)) < recipe.faulty:
            clip = with_faults(clip, generator)
        thin = float(torch.rand((), generator=generator)) < recipe.thinned
        if thin or recipe.inputs is not None:
            kept = list(range(0, len(clip), 2 if recipe.inputs is None else stride_of(recipe.inputs)))
            clip = filled(clip[kept], kept, materials.pool.trajectory)
        uv, camera, light = patches(recipe, clip.shape[-2], generator)
        field, flat = materials.fields[chosen[start]], [t.flatten(0, -2)[None] for t in (uv, camera, light)]
        radiance = shade(field, *flat).view(*uv.shape[:-1], 3)
        shift = parallax(field, *flat[:2]).view_as(uv)
        if recipe.spec.projection == "perspective":
            clip = _as_seen(clip, materials.pool.trajectory)
        at = geometry_at(uv, camera, light)
        target = log_encode(radiance * (math.pi / at.irradiance)[..., None], gain)
        return clip, at.uv, at.wi, at.wo, target, shift

    with whole_blocks():
        found = for_each_block(recipe.batch, truth, size=1)
    names = ("frames", "uv", "wi", "wo", "target", "shift")
    return {name: torch.stack(parts) for name, parts in zip(names, zip(*found, strict=True), strict=True)}


def _as_seen(clip: Tensor, trajectory: Trajectory) -> Tensor:
    """A rectified clip [F, S, S, 3] display-encoded as the trajectory's cameras see it."""
    size = clip.shape[1]
    return srgb_from_linear(reproject(linear_from_srgb(clip), trajectory, size, size)[0])


def patches(recipe: LRMRecipe, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Squares of texels and the camera and light of each: uv [K, s, s, 2], places [K, s, s, 3] twice."""
    rows, columns = _squares(recipe, size, generator)
    camera, light = _places(recipe, generator)
    camera, light = (place[:, None, None].expand(*rows.shape, 3) for place in (camera, light))
    return torch.stack([(columns + 0.5) / size, 1 - (rows + 0.5) / size], -1), camera, light


def _squares(recipe: LRMRecipe, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Row and column of every texel of squares anywhere. [K, s, s] twice"""
    count, side = recipe.patches, recipe.patch
    corner = torch.randint(size - side + 1, (count, 2), generator=generator)
    ramp = torch.arange(side)
    rows, columns = corner[:, :1] + ramp, corner[:, 1:] + ramp
    shape = (count, side, side)
    return rows[:, :, None].expand(shape), columns[:, None, :].expand(shape)


def _places(recipe: LRMRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Camera and light of each patch. [K, 3] twice"""
    count = recipe.patches
    free = round(count * recipe.random_share)
    camera, light = random_places((count,), generator), random_places((count,), generator)
    for trajectory, start in ((two_phase(81), free), (cross_joined(), (free + count) // 2)):
        stop = count if trajectory.kind == "cross" else (free + count) // 2
        frame = torch.randint(trajectory.frames, (stop - start,), generator=generator)
        camera[start:stop] = trajectory.camera_position[frame]
        light[start:stop] = trajectory.light_position[frame]
    return camera, light
