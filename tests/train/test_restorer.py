"""What a packing leaves out is restored from the patches around."""

from dataclasses import replace

import torch

from gonio.models.packing import principal_packing
from gonio.train.loop import LoopSettings
from gonio.train.restorer import RestorerRecipe, with_restorer

# Stripes whose phase the components show, and whose detail follows from it.
RECIPE = RestorerRecipe(
    batch=8, loop=LoopSettings(steps=120, rate=2e-3, warmup=10, ema=0.9, precision="no"), noise=0.1
)


def stripes(count, seed):
    draw = torch.Generator().manual_seed(seed)
    phase = torch.rand(count, 1, 1, 1, generator=draw) * 6.28
    ramp = torch.arange(16.0).view(1, 1, 1, 16).expand(count, 1, 16, 16)
    angle = ramp * 0.4 + phase
    return torch.cat([angle.sin() * 3, (2 * angle).sin() * 0.3], 1)


def left(packing, latents):
    x = latents[:, :, None]
    return float((packing.unpack(packing.pack(x)) - x).square().mean())


def test_less_is_lost_with_a_restorer_also_on_latents_it_has_not_seen():
    seen, unseen = stripes(200, 0), stripes(50, 1)
    packing = principal_packing(seen, 2)
    restored = with_restorer(packing, seen, RECIPE)
    assert left(restored, unseen) < 0.6 * left(packing, unseen)
    assert packing.restorer is None


def test_training_it_is_a_function_of_its_recipe():
    seen = stripes(20, 0)
    packing = principal_packing(seen, 2)
    short = replace(RECIPE, loop=replace(RECIPE.loop, steps=2))
    one, again, other = (with_restorer(packing, seen, r) for r in (short, short, replace(short, seed=1)))
    assert torch.equal(one.restorer.seen.weight, again.restorer.seen.weight)
    assert not torch.equal(one.restorer.seen.weight, other.restorer.seen.weight)
