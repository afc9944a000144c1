"""Names of weights: complete both ways, and the configuration that the shapes tell."""

import pytest

from gonio.errors import GonioError, UsageError
from gonio.models import wan_keys
from gonio.models.load import AUTOENCODER, TRANSFORMER, expected_shapes
from gonio.models.spec import AUTOENCODER_DEFAULTS, SPECS, TRANSFORMER_DEFAULTS

TWIN = {
    **TRANSFORMER_DEFAULTS,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "ffn_dim": 20,
    "num_layers": 2,
}
IMAGE_TWIN = {**TWIN, "in_channels": 36, "image_dim": 10, "added_kv_proj_dim": 24}
AUTOENCODERS = [
    {"base_dim": 4},
    {"base_dim": 4, "num_res_blocks": 1, "z_dim": 5},
    {"base_dim": 4, "num_res_blocks": 3, "decoder_base_dim": 8},
    {
        **{"base_dim": 4, "dim_mult": [1, 2, 4], "temperal_downsample": [True, True], "num_res_blocks": 1},
        **{"patch_size": 2, "in_channels": 12, "out_channels": 12, "z_dim": 32},
    },
    {"base_dim": 4, "dim_mult": [1, 2, 4], "temperal_downsample": [True, True], "scale_factor_spatial": 4},
    {"base_dim": 4, "dim_mult": [2, 2, 2, 4, 4], "temperal_downsample": [False, True, False, True]},
]


def autoencoder(changes: dict) -> dict:
    config = {**AUTOENCODER_DEFAULTS, **changes}
    z = config["z_dim"]
    neutral = {} if z == 16 else {"latents_mean": [0.0] * z, "latents_std": [1.0] * z}
    levels = len(config["dim_mult"])
    return {**config, **neutral, "scale_factor_spatial": 2 ** (levels - 1) * (config["patch_size"] or 1)}


def originals(class_name: str, config: dict) -> dict[str, tuple[int, ...]]:
    """The tensors of a network in original naming."""
    table = wan_keys.transformer_names if class_name == TRANSFORMER else wan_keys.autoencoder_names
    back = wan_keys.inverted(table(config))
    return {wan_keys.renamed(key, back): s for key, s in expected_shapes(class_name, config).items()}


CASES = [
    (TRANSFORMER, TWIN),
    (TRANSFORMER, IMAGE_TWIN),
    *((TRANSFORMER, spec.transformer) for spec in SPECS.values()),
    *((AUTOENCODER, autoencoder(changes)) for changes in AUTOENCODERS),
]


@pytest.mark.parametrize(("class_name", "config"), CASES)
def test_every_tensor_has_one_original_name_and_comes_back(class_name, config):
    table = wan_keys.transformer_names if class_name == TRANSFORMER else wan_keys.autoencoder_names
    names = table(config)
    back = wan_keys.inverted(names)
    assert len(back) == len(names)
    for key in expected_shapes(class_name, config):
        original = wan_keys.renamed(key, back)
        assert original is not None, key
        assert wan_keys.renamed(original, names) == key


@pytest.mark.parametrize(
    ("original", "diffusers"),
    [
        ("blocks.1.self_attn.q.weight", "blocks.1.attn1.to_q.weight"),
        ("blocks.1.cross_attn.o.bias", "blocks.1.attn2.to_out.0.bias"),
        ("blocks.0.cross_attn.norm_k_img.weight", "blocks.0.attn2.norm_added_k.weight"),
        ("blocks.0.norm3.weight", "blocks.0.norm2.weight"),
        ("blocks.0.modulation", "blocks.0.scale_shift_table"),
        ("head.modulation", "scale_shift_table"),
        ("head.head.bias", "proj_out.bias"),
        ("img_emb.proj.3.weight", "condition_embedder.image_embedder.ff.net.2.weight"),
        ("blocks.2.self_attn.q.weight", None),
        ("blocks.0.norm1.weight", None),
    ],
)
def test_names_of_a_transformer(original, diffusers):
    assert wan_keys.renamed(original, wan_keys.transformer_names(TWIN)) == diffusers


@pytest.mark.parametrize(
    ("original", "diffusers"),
    [
        ("conv1.weight", "quant_conv.weight"),
        ("decoder.conv1.bias", "decoder.conv_in.bias"),
        ("encoder.downsamples.3.shortcut.weight", "encoder.down_blocks.3.conv_shortcut.weight"),
        ("encoder.middle.2.residual.3.gamma", "encoder.mid_block.resnets.1.norm2.gamma"),
        ("decoder.upsamples.3.time_conv.weight", "decoder.up_blocks.0.upsamplers.0.time_conv.weight"),
        ("decoder.upsamples.4.shortcut.bias", "decoder.up_blocks.1.resnets.0.conv_shortcut.bias"),
        ("decoder.upsamples.14.residual.6.weight", "decoder.up_blocks.3.resnets.2.conv2.weight"),
        ("decoder.upsamples.15.residual.6.weight", None),
    ],
)
def test_names_of_the_released_autoencoder(original, diffusers):
    assert wan_keys.renamed(original, wan_keys.autoencoder_names(AUTOENCODER_DEFAULTS)) == diffusers


@pytest.mark.parametrize("config", [TWIN, IMAGE_TWIN, *(spec.transformer for spec in SPECS.values())])
def test_the_shapes_tell_a_transformers_configuration(config):
    shapes = originals(TRANSFORMER, config)
    assert wan_keys.transformer_config(shapes, config["attention_head_dim"]) == config


@pytest.mark.parametrize("changes", AUTOENCODERS)
def test_the_shapes_tell_an_autoencoders_configuration(changes):
    config = autoencoder(changes)
    assert wan_keys.autoencoder_config(originals(AUTOENCODER, config)) == config


def test_heads_have_128_channels_unless_told():
    shapes = originals(TRANSFORMER, SPECS["wan2.1-t2v-1.3b"].transformer)
    assert wan_keys.transformer_config(shapes)["num_attention_heads"] == 12
    with pytest.raises(UsageError, match="24 channels are not a multiple of heads of 128; give --head-dim"):
        wan_keys.transformer_config(originals(TRANSFORMER, TWIN))


@pytest.mark.parametrize("key", ["patch_embedding.weight", "head.head.weight", "text_embedding.0.weight"])
def test_a_configuration_without_its_tensor_is_an_error(key):
    shapes = originals(TRANSFORMER, TWIN)
    with pytest.raises(GonioError, match=f"{key} has shape .*not a whole Wan network"):
        wan_keys.transformer_config({**shapes, key: (4,)}, 12)
    del shapes[key]
    with pytest.raises(GonioError, match=f"{key} is missing"):
        wan_keys.transformer_config(shapes, 12)


def test_a_checkpoint_with_a_thousand_layers_is_refused_before_anything_is_built():
    shapes = originals(TRANSFORMER, TWIN) | {f"blocks.{i}.modulation": (1, 6, 24) for i in range(1000)}
    with pytest.raises(GonioError, match="1000 blocks"):
        wan_keys.transformer_config(shapes, 12)
