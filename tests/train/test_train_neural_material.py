"""The auto-decoder: it learns, goes on bit for bit after a stop, and knows its latents' statistics."""

import dataclasses

import pytest
import torch

from gonio.data.heightfield import parallax
from gonio.errors import GonioError
from gonio.reconstruct.plane import geometry_at
from gonio.texture import fetch
from gonio.train.neural_material import (
    RECIPES,
    AutoDecoder,
    train_universal,
    training_materials,
)

TINY = dataclasses.replace(RECIPES["smoke"], materials=4, size=8, points=128, steps=12)


class Stop(Exception):
    pass


def test_the_loss_goes_down():
    recipe = dataclasses.replace(TINY, steps=250)
    trainer = AutoDecoder(recipe, list(training_materials(recipe, [])))
    losses = [trainer.advance() for _ in range(recipe.steps)]
    assert sum(losses[-25:]) < 0.6 * sum(losses[:25])


def test_offsets_learn_the_parallax_they_are_shown():
    """Beside the values: with the truth of the offsets in the loss they follow it, without it they do not."""
    materials = list(training_materials(TINY, []))

    def correlation(weight: float) -> float:
        trainer = AutoDecoder(dataclasses.replace(TINY, steps=200, parallax=weight), materials)
        for _ in range(200):
            trainer.advance()
        split, total = trainer.decoder.spec.offset_channels, 0.0
        for batch, codes in zip(trainer.batches, trainer.codes, strict=True):
            for index, code in enumerate(codes.detach()):
                one = dataclasses.replace(
                    batch,
                    **{f.name: getattr(batch, f.name)[index : index + 1] for f in dataclasses.fields(batch)},
                )
                uv, camera = torch.rand(1, 500, 2), torch.tensor([[[1.0, 0.4, 1.2]]])
                at = geometry_at(uv[0], camera[0], camera[0])
                with torch.no_grad():
                    du = trainer.decoder.offset(fetch(code[..., :split].contiguous(), at.uv), at.wo)
                pair = torch.stack([du[:, 0], parallax(one, uv, camera)[0, :, 0]])
                total += float(torch.corrcoef(pair)[0, 1])
        return total / len(materials)

    assert correlation(0.3) > 0.4 > correlation(0.0)


@pytest.mark.parametrize("stop", [2, 4, 9])  # in the coarse part, at the change, after it
def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path, stop):
    whole = train_universal(TINY, [])
    checkpoint = tmp_path / "decoder.train"

    def interrupt(step: int, _: float) -> None:
        if step == stop + 1:
            raise Stop

    with pytest.raises(Stop):
        train_universal(TINY, [], checkpoint=checkpoint, checkpoint_seconds=-1.0, report=interrupt)
    resumed = train_universal(TINY, [], checkpoint=checkpoint)
    for name, value in whole.decoder.state_dict().items():
        assert torch.equal(value, resumed.decoder.state_dict()[name]), name
    assert torch.equal(whole.space.basis, resumed.space.basis)
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    checkpoint = tmp_path / "decoder.train"

    def interrupt(step: int, _: float) -> None:
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        train_universal(TINY, [], checkpoint=checkpoint, checkpoint_seconds=-1.0, report=interrupt)
    with pytest.raises(GonioError, match="recipe"):
        train_universal(dataclasses.replace(TINY, seed=1), [], checkpoint=checkpoint)
    assert checkpoint.exists()


def test_the_latent_space_whitens_the_training_latents():
    trainer = AutoDecoder(TINY, list(training_materials(TINY, [])))
    space = trainer.latent_space()
    latents = torch.cat([code.detach().reshape(-1, trainer.channels) for code in trainer.codes])
    white = torch.linalg.solve_triangular(space.basis, (latents - space.mean).T, upper=False).T
    torch.testing.assert_close(torch.cov(white.T), torch.eye(trainer.channels), atol=2e-2, rtol=0)


def test_materials_must_fill_whole_groups():
    with pytest.raises(GonioError, match="multiple"):
        AutoDecoder(TINY, list(training_materials(TINY, []))[:3])
