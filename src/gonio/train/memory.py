"""The memory of layouts of cached clips; see `gonio.models.memory`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gonio.data.cache import LatentCache
from gonio.models.memory import Memory, mean_token, reading

L2 = 1e-5  # of the weights of the reading
# Of the layouts a caption means each is a little less meant than the one before: the best known come first.
NEXT = 0.9


def memory_of(
    cache: LatentCache, channels: int, without_color: Callable[[Tensor], Tensor] | None = None
) -> Memory | None:
    """Mean latents of every layout in the cache, and a reading of its captions; None where it has none.

    without_color: from latents [1, C, f, h, w] to those in grey. The mean of a dozen clips has a tint of its
    own, which a model that is shown it gives to what it makes.
    """
    total: dict[str, Tensor] = {}
    count: dict[str, int] = {}
    texts, meant = [], []
    for index, record in enumerate(cache.records):
        layout = record.get("layout")
        if layout is None:
            continue
        whole, captions = cache.latents_and_texts(index)
        total[layout] = total.get(layout, torch.zeros(whole.shape)) + whole.float()
        count[layout] = count.get(layout, 0) + 1
        texts += [mean_token(text) for text in captions]
        meant += record["meant"]
    if not total:
        return None
    names = tuple(sorted(total))
    share = torch.zeros(len(meant), len(names))
    for row, layouts in enumerate(meant):
        fitting = [names.index(name) for name in layouts if name in total]
        weights = NEXT ** torch.arange(len(fitting))
        share[row, fitting] = weights / weights.sum()
    weight, bias = reading(torch.stack(texts), share, l2=L2)
    means = [total[name][None] / count[name] for name in names]
    if without_color is not None:
        means = [without_color(mean) for mean in means]
    values = torch.cat(means)[:, :channels, 0]
    return Memory(names=names, values=values, weight=weight, bias=bias)
