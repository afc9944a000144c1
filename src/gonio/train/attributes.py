"""The attribute network: rendered from streamed procedural materials and folders of real maps, then fitted.

Every example is rendered once, degraded as generated videos are (soft, noisy, flickering) and kept as the
statistics the network sees. Real materials come in many crops, and only those that `held_out` spares.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, log_softmax, mse_loss

from gonio.camera import two_phase
from gonio.color import srgb_from_linear
from gonio.data.categories import CATEGORIES, FAMILY_CATEGORIES, catalogue_category, family_categories
from gonio.data.clips import rectified_frames
from gonio.data.heightfield import HeightFieldBatch
from gonio.data.procedural import sample_material
from gonio.errors import GonioError
from gonio.models.attributes import (
    AttributeNetwork,
    AttributeSpec,
    light_statistics,
    turned_statistics,
)
from gonio.pbr import PBRMaterial, load_material_maps, normal_from_displacement

# Of the 17 two-phase frames: the light's eight azimuths, and four of the camera.
OVERHEAD_FRAMES = tuple(range(8))
ORBIT_FRAMES = (16, 10, 12, 14)
_RENDER_BATCH = 16

# A material and its accepted categories, the most apt first.
Labelled = tuple[PBRMaterial, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class AttributeRecipe:
    """size: pixels per side, half of it for the first `coarse_share` of the steps (a quarter of the cost);
    real_crops: crops of every real material; real_share: their part of a batch."""

    size: int = 96
    materials: int = 3600
    real_crops: int = 24
    real_share: float = 0.25
    steps: int = 5000
    coarse_share: float = 0.7
    batch: int = 32
    rate: float = 4e-3
    decay: float = 0.05
    seed: int = 0


RECIPES: dict[str, AttributeRecipe] = {
    "attributes": AttributeRecipe(),
    "smoke": AttributeRecipe(size=48, materials=16, real_crops=2, steps=10, batch=8),
}


@dataclass(frozen=True, kw_only=True)
class Examples:
    """statistics: [N, 13, S, S] half floats; category: [N, C] target shares; metallic: [N] 0 or 1;
    roughness: [N] mean roughness."""

    statistics: Tensor
    category: Tensor
    metallic: Tensor
    roughness: Tensor

    @property
    def count(self) -> int:
        return self.statistics.shape[0]


def held_out(slug: str) -> bool:
    """Whether a real material is kept for tests: a coin that its name tosses."""
    return hashlib.sha256(slug.encode()).digest()[0] % 2 == 1


def category_target(accepted: Sequence[str]) -> Tensor:
    """Accepted categories, the most apt first -> target shares [C]: half to the first, half to all alike."""
    target = torch.zeros(len(CATEGORIES))
    for word in accepted:
        target[CATEGORIES.index(word)] = 0.5 / len(accepted)
    target[CATEGORIES.index(accepted[0])] += 0.5
    return target


def drawn_families(count: int, seed: int) -> Iterator[str]:
    """Procedural families, drawn so that every category that has any is about as frequent."""
    families: dict[str, list[str]] = {}
    for family, categories in FAMILY_CATEGORIES.items():
        families.setdefault(categories[0], []).append(family)
    words = (*families, "metal")  # metal twice: much of it is told apart by more than its pattern
    choose = random.Random(f"gonio-attributes-{seed}")
    for _ in range(count):
        yield choose.choice(families[choose.choice(words)])


def procedural_materials(count: int, size: int, seed: int) -> Iterator[Labelled]:
    """Materials of drawn families and their accepted categories."""
    for index, family in enumerate(drawn_families(count, seed)):
        material = sample_material(seed * 2**40 + 2**39 + index, family=family, resolution=size)
        metallic = bool(material.metallic.mean() > 0.5)
        yield material, family_categories(family, metallic=metallic)


def real_materials(folders: Sequence[Path], crops: int, size: int, seed: int) -> Iterator[Labelled]:
    """Random square crops of folders of maps, and the category their metadata.json says."""
    choose = random.Random(f"gonio-attributes-real-{seed}")
    for folder in folders:
        material = load_material_maps(folder)
        word = material.metadata.get("category")
        if not isinstance(word, str):
            raise GonioError(f"{folder}: metadata.json says no category; the network cannot learn from it")
        accepted = (catalogue_category(word),)
        for _ in range(crops):
            yield cropped(material, size, choose), accepted


def cropped(material: PBRMaterial, size: int, choose: random.Random) -> PBRMaterial:
    """A random square of the tile, 45 to 100 % wide, a little brighter or darker, at `size` pixels a side."""
    height, width = material.size
    share = choose.uniform(0.45, 1.0)
    rows, columns = round(height * share), round(width * share)
    top, left = choose.randrange(height), choose.randrange(width)

    def cut(image: Tensor) -> Tensor:
        return image.roll((-top, -left), (0, 1))[:rows, :columns]

    gain = choose.uniform(0.8, 1.2)
    part = replace(
        material,
        basecolor=(cut(material.basecolor) * gain).clamp(0, 1),
        normal=cut(material.normal).contiguous(),
        roughness=cut(material.roughness),
        metallic=cut(material.metallic),
        height=cut(material.height),
        height_factor=material.height_factor / share,
        tileable=False,
    ).resized(size)
    if not material.has_height:
        return part
    return replace(part, normal=_detailed_normal(part))


def _detailed_normal(material: PBRMaterial) -> Tensor:
    """The crop's own normals, those of its height where they are flat (some sources have only one map)."""
    if float(material.normal[..., :2].abs().mean()) > 1e-3:
        return material.normal
    return normal_from_displacement(material.displacement)


def render_frames(materials: Sequence[PBRMaterial]) -> tuple[Tensor, Tensor]:
    """Rectified frames of materials of one size, display-encoded: [B, 8, S, S, 3] and [B, 4, S, S, 3]."""
    frames = _rendered(materials, (*OVERHEAD_FRAMES, *ORBIT_FRAMES))
    return frames[:, : len(OVERHEAD_FRAMES)], frames[:, len(OVERHEAD_FRAMES) :]


def render_overhead(materials: Sequence[PBRMaterial]) -> Tensor:
    """The first of `render_frames` alone: [B, 8, S, S, 3]."""
    return _rendered(materials, OVERHEAD_FRAMES)


def _rendered(materials: Sequence[PBRMaterial], indices: Sequence[int]) -> Tensor:
    """Frames `indices` of the 17, rectified, display-encoded. [B, F, S, S, 3]"""
    batch = HeightFieldBatch.from_materials(materials)
    trajectory = two_phase(17).subset(list(indices))
    return srgb_from_linear(rectified_frames(batch, trajectory, batch.displacement.shape[-1]))


def degraded(frames: Tensor, choose: random.Random, generator: torch.Generator) -> Tensor:
    """One material's frames [F, S, S, 3] as a generator might make them: softer, noisier, less steady."""
    planes = frames.movedim(-1, 1)
    for _ in range(choose.choice((0, 0, 0, 1, 1, 2, 3))):
        planes = avg_pool2d(planes, 3, stride=1, padding=1, count_include_pad=False)
    flicker = 1 + 0.04 * choose.random() * torch.randn(len(frames), 1, 1, 1, generator=generator)
    tint = 1 + 0.02 * torch.randn(1, 3, 1, 1, generator=generator)
    noise = 0.02 * choose.random() * torch.randn(planes.shape, generator=generator)
    gain = choose.uniform(0.88, 1.12)
    return (planes * (gain * flicker * tint) + noise).clamp(0, 1).movedim(1, -1)


def render_examples(
    source: Iterator[Labelled],
    *,
    seed: int,
    degrade: bool = True,
    report: Callable[[int], None] | None = None,
) -> Examples:
    """Render materials as they come. report(number of materials just done)."""
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    statistics, category, metallic, roughness = [], [], [], []
    for group in _groups(source, _RENDER_BATCH):
        overhead, orbit = render_frames([material for material, _ in group])
        for index, (material, accepted) in enumerate(group):
            frames = torch.cat([overhead[index], orbit[index]])
            frames = degraded(frames, choose, generator) if degrade else frames
            statistics.append(
                light_statistics(frames[: len(OVERHEAD_FRAMES)], frames[len(OVERHEAD_FRAMES) :]).half()
            )
            category.append(category_target(accepted))
            metallic.append(float(material.metallic.mean() > 0.5))
            roughness.append(float(material.roughness.mean()))
        if report is not None:
            report(len(group))
    if not statistics:
        raise GonioError("no materials to learn from; give at least one")
    return Examples(
        statistics=torch.stack(statistics),
        category=torch.stack(category),
        metallic=torch.tensor(metallic),
        roughness=torch.tensor(roughness),
    )


def _groups(source: Iterator[Labelled], size: int) -> Iterator[list[Labelled]]:
    while group := list(islice(source, size)):
        yield group


def fit(
    recipe: AttributeRecipe,
    procedural: Examples,
    real: Examples | None,
    *,
    report: Callable[[int, float], None] | None = None,
) -> AttributeNetwork:
    """Train on examples, every one seen under random symmetries. report(step, smoothed loss)."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = AttributeNetwork(AttributeSpec(size=recipe.size, categories=CATEGORIES))
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    from_real = round(recipe.batch * recipe.real_share) if real is not None else 0
    smooth = math.nan
    for step in range(recipe.steps):
        parts = [_drawn(procedural, recipe.batch - from_real, generator)]
        if real is not None:
            parts.append(_drawn(real, from_real, generator))
        halves = step < recipe.coarse_share * recipe.steps
        value = _loss(network, _joined(parts), shrink=2 if halves else 1)
        optimizer.param_groups[0]["lr"] = recipe.rate * _rate(step / recipe.steps)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss = value.item()
        if not math.isfinite(loss):
            raise GonioError(f"training: the loss is not finite at step {step}; lower the rate")
        smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
        if report is not None:
            report(step + 1, smooth)
    return network.eval().requires_grad_(False)


def _rate(share: float) -> float:
    """Of the largest rate, after this share of the steps: warm-up, then cosine decay."""
    return min(1.0, 0.05 + 20 * share) * 0.5 * (1 + math.cos(math.pi * share))


def _drawn(examples: Examples, count: int, generator: torch.Generator) -> Examples:
    index = torch.randint(examples.count, (count,), generator=generator)
    symmetry = torch.randint(8, (count,), generator=generator).tolist()
    chosen = examples.statistics[index].float()
    return Examples(
        statistics=torch.stack([turned_statistics(s, k) for s, k in zip(chosen, symmetry, strict=True)]),
        category=examples.category[index],
        metallic=examples.metallic[index],
        roughness=examples.roughness[index],
    )


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        statistics=torch.cat([p.statistics for p in parts]),
        category=torch.cat([p.category for p in parts]),
        metallic=torch.cat([p.metallic for p in parts]),
        roughness=torch.cat([p.roughness for p in parts]),
    )


def _loss(network: AttributeNetwork, examples: Examples, shrink: int) -> Tensor:
    """Cross entropy of category and metal, and the roughness's square error (weighted to count as much)."""
    logits = network(avg_pool2d(examples.statistics, shrink))
    category = -(examples.category * log_softmax(logits.category, -1)).sum(-1).mean()
    metal = binary_cross_entropy_with_logits(logits.metallic, examples.metallic)
    return category + metal + 10.0 * mse_loss(logits.roughness, examples.roughness)


def train_attributes(
    recipe: AttributeRecipe,
    folders: Sequence[Path],
    *,
    rendered: Callable[[int], None] | None = None,
    report: Callable[[int, float], None] | None = None,
) -> tuple[AttributeNetwork, dict[str, Any]]:
    """Render and fit; of `folders` only those not `held_out` are learned from. The network and provenance.

    rendered(number of materials just rendered); report(step, smoothed loss).
    """
    used = [folder for folder in folders if not held_out(folder.name)]
    procedural = render_examples(
        procedural_materials(recipe.materials, recipe.size, recipe.seed), seed=recipe.seed, report=rendered
    )
    real = None
    if used:
        crops = real_materials(used, recipe.real_crops, recipe.size, recipe.seed)
        real = render_examples(crops, seed=recipe.seed + 1, report=rendered)
    network = fit(recipe, procedural, real, report=report)
    return network, {"recipe": asdict(recipe), "maps": [folder.name for folder in used]}
