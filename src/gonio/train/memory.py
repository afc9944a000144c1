"""The memory of layouts of cached clips; see `gonio.models.memory`."""

from __future__ import annotations

import torch
from torch import Tensor

from gonio.data.cache import LatentCache
from gonio.models.memory import Memory, mean_token, reading

L2 = 1e-5  # of the weights of the reading
# Of the layouts a caption means each is a little less meant than the one before: the best known come first.
NEXT = 0.9


def memory_of(cache: LatentCache, channels: int) -> Memory | None:
    """Mean latents of every layout in the cache, and a reading of its captions; None where it has none."""
    total: dict[str, Tensor] = {}
    count: dict[str, int] = {}
    texts, meant = [], []
    for index, record in enumerate(cache.records):
        layout = record.get("layout")
        if layout is None:
            continue
        whole, captions = cache.latents_and_texts(index)
        latents = whole[:channels, 0].float()
        total[layout] = total.get(layout, torch.zeros_like(latents)) + latents
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
    values = torch.stack([total[name] / count[name] for name in names])
    return Memory(names=names, values=values, weight=weight, bias=bias)
