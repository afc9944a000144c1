"""Original Wan names of weights <-> diffusers names, and the configuration that the shapes tell.

The tables hold the names of modules and bare parameters ("blocks.0.self_attn.q" <-> "blocks.0.attn1.to_q");
a tensor's name is such a stem, followed by .weight, .bias or .gamma or by nothing. A table may name modules
that a configuration lacks: which tensors must exist is asked of the real class. The text encoder's other
names are those of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from gonio.errors import GonioError, UsageError
from gonio.models.spec import AUTOENCODER_DEFAULTS, TRANSFORMER_DEFAULTS
from gonio.models.weight_files import Shapes

RELEASED_HEAD_DIM = 128
_MAX_CHILDREN = 256
_LEAVES = (".weight", ".bias", ".gamma")

_TRANSFORMER = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
# diffusers numbers a block's norms in the order of their use; Wan's norm3 is the second one used. The norms
# before attention and feed-forward have no weights.
_BLOCK = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    **{
        f"{original}.{a}": f"{diffusers}.{b}"
        for original, diffusers in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for a, b in (
            ("q", "to_q"),
            ("k", "to_k"),
            ("v", "to_v"),
            ("o", "to_out.0"),
            ("norm_q", "norm_q"),
            ("norm_k", "norm_k"),
        )
    },
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
}
_RESIDUAL = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
# Wan's names are of T5's parts: the gate is the half of the feed-forward that goes through the activation.
_TEXT_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_RESAMPLE = {"resample.1": "resample.1", "time_conv": "time_conv"}
_ATTENTION = {"norm": "norm", "to_qkv": "to_qkv", "proj": "proj"}


def transformer_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Original stem -> diffusers stem for a WanTransformer3DModel of this configuration."""
    names = dict(_TRANSFORMER)
    for layer in range(config["num_layers"]):
        names |= _within(f"blocks.{layer}", f"blocks.{layer}", _BLOCK)
    return names


def autoencoder_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Original stem -> diffusers stem for an AutoencoderKLWan of this configuration."""
    names = {"conv1": "quant_conv", "conv2": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        names |= _within(half, half, {"conv1": "conv_in", "head.0": "norm_out", "head.2": "conv_out"})
        names |= _within(f"{half}.middle.0", f"{half}.mid_block.resnets.0", _RESIDUAL)
        names |= _within(f"{half}.middle.1", f"{half}.mid_block.attentions.0", _ATTENTION)
        names |= _within(f"{half}.middle.2", f"{half}.mid_block.resnets.1", _RESIDUAL)
    levels = len(config["dim_mult"])
    down = up = 0  # the originals number residual blocks and resamplers of all levels in one row
    for level in range(levels):
        for _ in range(config["num_res_blocks"]):
            names |= _within(f"encoder.downsamples.{down}", f"encoder.down_blocks.{down}", _RESIDUAL)
            down += 1
        for block in range(config["num_res_blocks"] + 1):
            place = f"decoder.up_blocks.{level}.resnets.{block}"
            names |= _within(f"decoder.upsamples.{up}", place, _RESIDUAL)
            up += 1
        if level < levels - 1:
            names |= _within(f"encoder.downsamples.{down}", f"encoder.down_blocks.{down}", _RESAMPLE)
            place = f"decoder.up_blocks.{level}.upsamplers.0"
            names |= _within(f"decoder.upsamples.{up}", place, _RESAMPLE)
            down, up = down + 1, up + 1
    return names


def text_encoder_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Original stem -> transformers stem for a UMT5EncoderModel of this configuration."""
    names = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}
    for layer in range(config["num_layers"]):
        names |= _within(f"blocks.{layer}", f"encoder.block.{layer}", _TEXT_BLOCK)
    return names


def _within(original: str, diffusers: str, names: Mapping[str, str]) -> dict[str, str]:
    return {f"{original}.{a}": f"{diffusers}.{b}" for a, b in names.items()}


def inverted(names: Mapping[str, str]) -> dict[str, str]:
    """diffusers stem -> original stem."""
    return {diffusers: original for original, diffusers in names.items()}


def renamed(key: str, names: Mapping[str, str]) -> str | None:
    """The other name of a tensor, None where the table has none."""
    stem, leaf = split_leaf(key)
    return names[stem] + leaf if stem in names else None


def split_leaf(key: str) -> tuple[str, str]:
    """ "a.b.weight" -> ("a.b", ".weight"); a bare parameter has no leaf."""
    for leaf in _LEAVES:
        if key.endswith(leaf):
            return key.removesuffix(leaf), leaf
    return key, ""


def transformer_config(shapes: Shapes, head_dim: int | None = None) -> dict[str, Any]:
    """The complete configuration of a WanTransformer3DModel with these tensors (original names).

    The width of a head leaves no trace in the shapes: released models have 128, others must be told.
    """
    width, in_channels, *patch = _shape(shapes, "patch_embedding.weight", 5)
    head_dim = head_dim or RELEASED_HEAD_DIM
    if head_dim < 1 or width % head_dim:
        raise UsageError(f"{width} channels are not a multiple of heads of {head_dim}; give --head-dim")
    image_dim = _shape(shapes, "img_emb.proj.0.weight", 1)[0] if "img_emb.proj.0.weight" in shapes else None
    return {
        **TRANSFORMER_DEFAULTS,
        "patch_size": patch,
        "num_attention_heads": width // head_dim,
        "attention_head_dim": head_dim,
        "in_channels": in_channels,
        "out_channels": _shape(shapes, "head.head.weight", 2)[0] // prod(patch),
        "text_dim": _shape(shapes, "text_embedding.0.weight", 2)[1],
        "freq_dim": _shape(shapes, "time_embedding.0.weight", 2)[1],
        "ffn_dim": _shape(shapes, "blocks.0.ffn.0.weight", 2)[0],
        "num_layers": _count(shapes, "blocks."),
        "cross_attn_norm": "blocks.0.norm3.weight" in shapes,
        "image_dim": image_dim,
        "added_kv_proj_dim": width if "blocks.0.cross_attn.k_img.weight" in shapes else None,
    }


def autoencoder_config(shapes: Shapes) -> dict[str, Any]:
    """The complete configuration of an AutoencoderKLWan with these tensors (original names).

    The latents' statistics are no part of a checkpoint: those of the release for 16 channels, else none.
    """
    base, in_channels = _shape(shapes, "encoder.conv1.weight", 5)[:2]
    out_channels, decoder_width = _shape(shapes, "decoder.head.2.weight", 5)[:2]
    z_dim = _shape(shapes, "conv2.weight", 5)[0]
    widths: list[int] = []  # of the levels
    temporal: list[bool] = []
    blocks = per_level = 0
    for index in range(_count(shapes, "encoder.downsamples.")):
        place = f"encoder.downsamples.{index}"
        if f"{place}.resample.1.weight" in shapes:
            temporal.append(f"{place}.time_conv.weight" in shapes)
            per_level = per_level or blocks
            continue
        if len(widths) == len(temporal):
            widths.append(_shape(shapes, f"{place}.residual.2.weight", 5)[0])
        blocks += 1
    multiples = [width // base for width in widths]
    decoder_base = decoder_width // max(multiples[0], 1) if multiples else base
    patch = next((p for p in (1, 2, 4) if in_channels == 3 * p * p), None)
    if patch is None or z_dim < 1 or not multiples:
        raise GonioError(f"an autoencoder of {in_channels} input channels; Gonio knows 3, 12 and 48")
    statistics = z_dim == AUTOENCODER_DEFAULTS["z_dim"]
    return {
        **AUTOENCODER_DEFAULTS,
        "base_dim": base,
        "decoder_base_dim": None if decoder_base == base else decoder_base,
        "z_dim": z_dim,
        "dim_mult": multiples,
        "num_res_blocks": per_level or blocks,
        "temperal_downsample": temporal,
        "latents_mean": AUTOENCODER_DEFAULTS["latents_mean"] if statistics else [0.0] * z_dim,
        "latents_std": AUTOENCODER_DEFAULTS["latents_std"] if statistics else [1.0] * z_dim,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "patch_size": None if patch == 1 else patch,
        "scale_factor_spatial": 2 ** len(temporal) * patch,
        "scale_factor_temporal": 2 ** sum(temporal),
    }


def text_encoder_config(shapes: Shapes) -> dict[str, Any]:
    """The configuration of a UMT5EncoderModel with these tensors (original names).

    What leaves no trace in the shapes (the activation, the reach of the relative positions) is UMT5's own.
    """
    vocabulary, width = _shape(shapes, "token_embedding.weight", 2)
    buckets, heads = _shape(shapes, "blocks.0.pos_embedding.embedding.weight", 2)
    inner = _shape(shapes, "blocks.0.attn.q.weight", 2)[0]
    if inner % heads:
        raise GonioError(f"attention of {inner} channels for {heads} heads; fetch the checkpoint again")
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": inner // heads,
        "d_ff": _shape(shapes, "blocks.0.ffn.gate.0.weight", 2)[0],
        "num_layers": _count(shapes, "blocks."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        # The encoder's embedding is the shared one, which is stored once.
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "dropout_rate": 0.1,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def _shape(shapes: Shapes, key: str, rank: int) -> tuple[int, ...]:
    shape = shapes.get(key)
    if shape is None or len(shape) != rank or 0 in shape:
        found = "is missing" if shape is None else f"has shape {list(shape)}"
        raise GonioError(f"{key} {found}: not a whole Wan network; fetch the checkpoint again")
    return tuple(shape)


def _count(shapes: Shapes, prefix: str) -> int:
    """How many children are numbered 0, 1, 2, ... under a prefix (a gap ends the count)."""
    numbers = {key.removeprefix(prefix).split(".", 1)[0] for key in shapes if key.startswith(prefix)}
    count = 0
    while str(count) in numbers:
        count += 1
    if count > _MAX_CHILDREN:
        raise GonioError(f"{count} blocks {prefix}*; Gonio knows no network with more than {_MAX_CHILDREN}")
    return count
