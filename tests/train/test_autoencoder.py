"""Training the mini autoencoder."""

from dataclasses import replace

import pytest
import torch

from gonio.data.clips import ClipSettings, make_pool
from gonio.models.autoencoder import encode
from gonio.models.codec import load_codec
from gonio.models.load import load_autoencoder, random_autoencoder
from gonio.models.packing import principal_packing
from gonio.models.spec import find_spec
from gonio.train.autoencoder import (
    RECIPES,
    AutoencoderObjective,
    batch_at,
    latent_statistics,
    measure,
    pool_latents,
    train_autoencoder,
)

RECIPE = replace(RECIPES["smoke"], clips=ClipSettings(procedural=3, resolution=32))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GONIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_pool(RECIPE.clips)


def test_a_batch_depends_on_its_number_alone(pool):
    first, again, next_one = (batch_at(RECIPE, pool, 3, i) for i in (0, 0, 1))
    assert torch.equal(first["frames"], again["frames"]) and torch.equal(first["noise"], again["noise"])
    assert not torch.equal(first["frames"], next_one["frames"])
    assert first["frames"].shape == (2, 17, 32, 32, 3)
    assert float(first["frames"].min()) >= 0 and float(first["frames"].max()) <= 1


def test_the_noise_has_the_shape_of_the_latents(pool):
    batch = batch_at(RECIPE, pool, 3, 0)
    network = random_autoencoder(find_spec(RECIPE.model), 0)
    assert encode(network, batch["frames"]).shape == batch["noise"].shape


def test_training_lowers_the_loss(pool):
    network = random_autoencoder(find_spec(RECIPE.model), 0)
    objective = AutoencoderObjective(network, RECIPE)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    batch = batch_at(RECIPE, pool, 0, 0)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = objective(**batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_what_is_written_loads_as_the_models_autoencoder(pool, tmp_path):
    reports = []
    assert train_autoencoder(RECIPE, pool, [], tmp_path, report=reports.append)
    assert [r.step for r in reports] == [1, 2, 3, 4]
    network = load_autoencoder(find_spec(RECIPE.model), tmp_path)
    statistics = latent_statistics(network, pool)
    for key, values in statistics.items():
        torch.testing.assert_close(
            torch.tensor(values), torch.tensor(network.config[key]), atol=2e-2, rtol=2e-2
        )
    codec = load_codec(replace(find_spec(RECIPE.model), bundled_autoencoder=None), tmp_path)
    again = principal_packing(pool_latents(network, pool), 96)
    torch.testing.assert_close(codec.deviation[:8], again.packed_deviation[:8], atol=2e-2, rtol=2e-2)
    assert len(measure(codec, [pool.clip(0).float() / 255])) == 1


def test_the_measure_is_the_psnr_of_display_encoded_values():
    class Off:
        def encode(self, frames):
            return frames

        def decode(self, latents):
            return latents + 0.1

    assert measure(Off(), [torch.full((5, 8, 8, 3), 0.4)]) == pytest.approx([20.0], abs=1e-3)
