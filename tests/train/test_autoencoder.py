"""Training the mini autoencoder."""

from dataclasses import replace

import pytest
import torch

from gonio.data.clips import ClipSettings, make_pool
from gonio.models.load import load_autoencoder, random_autoencoder
from gonio.models.spec import find_spec
from gonio.train.autoencoder import (
    RECIPES,
    AutoencoderObjective,
    batch_at,
    latent_statistics,
    measure,
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
    assert torch.equal(first["clip"], again["clip"]) and torch.equal(first["noise"], again["noise"])
    assert not torch.equal(first["clip"], next_one["clip"])
    assert first["clip"].shape == (2, 3, 17, 32, 32)
    assert batch_at(RECIPE, pool, 0, 0)["clip"].shape == (2, 3, 1, 32, 32)
    assert float(first["clip"].min()) >= -1 and float(first["clip"].max()) <= 1


def test_the_noise_has_the_shape_of_the_latents(pool):
    batch = batch_at(RECIPE, pool, 3, 0)
    network = random_autoencoder(find_spec(RECIPE.model), 0)
    assert network.encode(batch["clip"]).latent_dist.mode().shape == batch["noise"].shape


def test_training_lowers_the_loss(pool):
    network = random_autoencoder(find_spec(RECIPE.model), 0)
    objective = AutoencoderObjective(network, RECIPE)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    batch = batch_at(RECIPE, pool, 3, 0)
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
    assert len(measure(network, [pool.clip(0)])) == 1


def test_the_measure_is_the_psnr_of_display_encoded_values():
    class Off:
        """Gives back a clip that is off by a tenth of the range everywhere."""

    import gonio.train.autoencoder as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "encode_clip", lambda network, clip: torch.cat([clip, clip], 1))
        patch.setattr(module, "decode_clip", lambda network, latents: latents + 0.2)
        found = measure(Off(), [torch.full((5, 8, 8, 3), 100, dtype=torch.uint8)])
    assert found == pytest.approx([20.0], abs=1e-3)
