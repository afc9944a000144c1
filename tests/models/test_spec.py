"""Specs: the published numbers, what fits together, what sizes a model takes."""

import inspect
import json
from dataclasses import replace

import pytest

from gonio.errors import GonioError, UsageError
from gonio.models.load import meta_autoencoder, meta_transformer
from gonio.models.spec import (
    AUTOENCODER_DEFAULTS,
    SPECS,
    TRANSFORMER_DEFAULTS,
    VideoModelSpec,
    check_frames,
    check_size,
    find_spec,
    plain,
    read_spec,
)

T2V, I2V, SMALL = (SPECS[f"wan2.1-{name}"] for name in ("t2v-14b", "i2v-14b", "t2v-1.3b"))
MINI = SPECS["mini-t2v"]


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("spec", "count"), [(SMALL, 1_418_996_800), (T2V, 14_288_491_584), (I2V, 16_394_878_784)]
)
def test_released_transformers_have_the_released_number_of_parameters(spec, count):
    assert parameters(meta_transformer(spec)) == count


def test_the_released_autoencoder_has_126_9_million_parameters():
    assert parameters(meta_autoencoder(T2V)) == 126_892_531


def test_released_configurations_are_the_published_ones():
    published = {"attention_head_dim": 128, "freq_dim": 256, "text_dim": 4096, "out_channels": 16}
    for spec, heads, layers, ffn, inputs in (
        (SMALL, 12, 30, 8960, 16),
        (T2V, 40, 40, 13824, 16),
        (I2V, 40, 40, 13824, 36),
    ):
        expected = published | {"num_attention_heads": heads, "num_layers": layers, "ffn_dim": ffn}
        assert {k: spec.transformer[k] for k in expected} == expected
        assert spec.transformer["in_channels"] == inputs
        assert spec.text_tokens == 512 and spec.frames == 81
    assert (I2V.transformer["image_dim"], I2V.transformer["added_kv_proj_dim"]) == (1280, 5120)
    assert (T2V.sampling_shift, I2V.sampling_shift) == (5.0, 3.0)


def test_the_defaults_are_those_of_the_diffusers_classes():
    import diffusers

    for name, defaults in (
        ("WanTransformer3DModel", TRANSFORMER_DEFAULTS),
        ("AutoencoderKLWan", AUTOENCODER_DEFAULTS),
    ):
        signature = inspect.signature(getattr(diffusers, name).__init__).parameters
        assert {k: plain(v.default) for k, v in signature.items() if k != "self"} == defaults


def test_both_mini_models_share_one_autoencoder_and_rectified_frames():
    image = SPECS["mini-i2v"]
    assert image.autoencoder == MINI.autoencoder and image.bundled_autoencoder == MINI.bundled_autoencoder
    assert image.projection == MINI.projection == "rectified"
    z, places = MINI.latent_channels, MINI.position_channels
    assert places == image.position_channels == 2 + 4 * 2 and T2V.position_channels == 0
    inputs = (MINI.transformer["in_channels"], image.transformer["in_channels"])
    told = places + MINI.memory
    assert MINI.memory == image.memory == 48 and inputs == (z + told, z + told + 4 + z)


def test_packed_latents_are_half_as_many_along_a_side():
    assert MINI.packed == MINI.latent_channels == 96
    assert MINI.spatial_stride == 2 * MINI.autoencoder_stride == 8
    assert MINI.latent_shape(17, 128, 64) == (96, 1, 16, 8)
    unpacked = SPECS["mini-unpacked"]
    assert unpacked.latent_shape(17, 128, 64) == (60, 1, 32, 16)
    assert unpacked.token_count(17, 128, 64) == MINI.token_count(17, 128, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"packed": 241}, "packed is 241"),
        ({"packed": True}, "packed is True"),
        ({"token_shift": 1}, "token_shift is 1; it must be true or false"),
        ({"memory": -1}, "memory is -1; it must be a whole number up to 96"),
        ({"memory": True}, "memory is True"),
    ],
)
def test_what_a_small_model_is_given_is_checked(changes, message):
    with pytest.raises(UsageError, match=message):
        replace(MINI, **changes)


def test_preconditioning_needs_packed_latents():
    with pytest.raises(UsageError, match="preconditioned needs packed latents"):
        replace(SPECS["mini-unpacked"], preconditioned=True)


def test_stacked_frames_are_one_latent_frame():
    assert MINI.stacked_frames == 17 and MINI.latent_shape(17, 128, 128)[1] == 1
    assert not T2V.stacked and T2V.latent_shape(17, 128, 128)[1] == 5
    with pytest.raises(UsageError, match="81 frames: mini-t2v makes 17, no more and no less"):
        check_frames(MINI, 81)


def test_latents_of_the_published_resolution():
    assert T2V.latent_shape(81, 480, 832) == (16, 21, 60, 104)
    assert T2V.token_count(81, 512, 512) == 21504


def test_an_unknown_model_is_told_the_known_ones():
    with pytest.raises(UsageError, match="no model 'wan3'; known are mini-t2v, .*wan2.1-i2v-14b"):
        find_spec("wan3")
    assert find_spec("mini-i2v") is SPECS["mini-i2v"]


@pytest.mark.parametrize(
    ("frames", "nearest"),
    [
        (16, "nearest 13 and 17"),
        (20, "nearest 17 and 21"),
        (0, "nearest 1$"),
        (-3, "nearest 1$"),
        (2, "1 and 5"),
    ],
)
def test_frames_that_would_be_dropped_are_refused(frames, nearest):
    with pytest.raises(UsageError, match=nearest):
        check_frames(T2V, frames)
    for good in (1, 5, 17, 81):
        check_frames(T2V, good)


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (128, 100, "a width of 100 pixels: .* multiples of 16.*nearest 96 and 112"),
        (8, 128, "a height of 8 pixels: .*nearest 16$"),
        (128, 20000, "a width of 20000 pixels: .*nearest 16384$"),
    ],
)
def test_sizes_off_the_grid_are_refused(height, width, message):
    with pytest.raises(UsageError, match=message):
        check_size(T2V, height, width)
    check_size(T2V, 480, 832)


def changed(**fields) -> dict:
    return {
        "name": "mine",
        "task": "text",
        "transformer": {},
        "autoencoder": {},
        "text_encoder": "umt5-xxl",
        "text_tokens": 512,
    } | fields


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "sound"}, "task is 'sound'"),
        ({"transformer": {"depth": 3}}, "transformer has no field 'depth'"),
        ({"autoencoder": {"z_dim": 8}}, "out_channels of the transformer is 16; it must be 8"),
        ({"task": "image"}, "in_channels of the transformer is 16; it must be 36"),
        ({"image_encoder": "clip-vit-h"}, "added_kv_proj_dim of the transformer is None; it must be 5120"),
        ({"autoencoder": {"dim_mult": [1, 2, 4]}}, "one entry less than dim_mult"),
        ({"autoencoder": {"patch_size": 2}}, "scale_factor_spatial of the autoencoder is 8; it must be 16"),
        ({"frames": 80}, "80 frames"),
        ({"frames": "81"}, "frames is '81'"),
        ({"steps": 0}, "steps is 0"),
        ({"sampling_shift": -1.0}, "sampling_shift is -1.0"),
    ],
)
def test_a_spec_whose_parts_do_not_fit_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        VideoModelSpec(**changed(**fields))


def test_a_spec_is_read_from_a_file_and_unknown_fields_are_errors(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(changed(transformer={"num_layers": 3}, steps=7)))
    spec = find_spec(str(path))
    assert (spec.transformer["num_layers"], spec.transformer["ffn_dim"], spec.steps) == (3, 13824, 7)
    path.write_text(json.dumps(changed(colour="red")))
    with pytest.raises(UsageError, match="mine.json: unknown field 'colour'; known are "):
        read_spec(path)
    path.write_text(json.dumps(changed(autoencoder=[1])))
    with pytest.raises(UsageError, match="mine.json"):
        read_spec(path)
    path.write_text('{"name": "mine"}')
    with pytest.raises(UsageError, match="mine.json: malformed spec"):
        read_spec(path)
    path.write_text("[]")
    with pytest.raises(UsageError, match="mine.json: a spec is a JSON object"):
        read_spec(path)
    with pytest.raises(GonioError, match="gone.json does not exist"):
        find_spec(str(tmp_path / "gone.json"))
