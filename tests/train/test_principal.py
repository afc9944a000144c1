"""The start of the autoencoder's training."""

import math

import pytest

from gonio.data.clips import ClipSettings, make_pool
from gonio.errors import GonioError
from gonio.models.autoencoder import clip_from_frames
from gonio.models.codec import Codec
from gonio.models.load import random_autoencoder
from gonio.models.single_frame import patches
from gonio.models.spec import find_spec
from gonio.train.autoencoder import measure
from gonio.train.principal import principal_components, principal_start

SPEC = find_spec("mini-t2v")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GONIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_pool(ClipSettings(procedural=12, resolution=64))


def test_the_network_computes_the_projection_on_the_principal_components(pool):
    network = random_autoencoder(SPEC, 0).eval()
    principal_start(network, pool)
    mean, basis, _ = principal_components(network, pool, 800)
    frames = pool.clip(3)[None].float() / 255
    clip = clip_from_frames(network, frames)[:, :, 0]
    found = patches(clip, network.config.patch_size)[0].flatten(1).T
    projected = (found - mean) @ basis @ basis.T + mean
    linear = -10 * math.log10(float((projected - found).square().mean()) / 4)
    # The norms of the heads are not quite constant, and what leaves [0, 1] is clipped.
    assert measure(Codec(autoencoder=network), [frames[0]])[0] == pytest.approx(linear, abs=0.7)
    assert linear > 25


def test_it_is_far_better_than_random_weights(pool):
    network = random_autoencoder(SPEC, 0).eval()
    clip = pool.clip(0).float() / 255
    before = measure(Codec(autoencoder=network), [clip])[0]
    principal_start(network, pool)
    assert measure(Codec(autoencoder=network), [clip])[0] > before + 10


def test_every_weight_can_still_learn(pool):
    """Zeros end the residual branches, but nothing is cut off: their last layers have a gradient."""
    network = random_autoencoder(SPEC, 0)
    principal_start(network, pool)
    clip = clip_from_frames(network, pool.clip(0)[None].float() / 255)
    network.decode(network.encode(clip).latent_dist.mode()).sample.square().mean().backward()
    last = [m.conv2.weight for m in network.modules() if hasattr(m, "conv2")]
    assert last and all(bool(weight.grad.any()) for weight in last)


def test_other_layouts_are_refused(pool):
    class Small:
        config = type("Config", (), {"base_dim": 32, "z_dim": 16, "dim_mult": [1], "patch_size": 4})

    with pytest.raises(GonioError, match="needs one level and 33 channels, has 32"):
        principal_start(Small(), pool)
