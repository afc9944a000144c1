"""Specs of networks in the released layouts at a hundredth of their size."""

from gonio.models.spec import VideoModelSpec

# Wan's layout: 5 frames are two latent frames of an eighth of their sides.
TINY_WAN = VideoModelSpec(
    name="tiny-wan",
    task="text",
    transformer={"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 2}
    | {"text_dim": 8, "freq_dim": 16, "in_channels": 4, "out_channels": 4},
    autoencoder={"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1}
    | {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4},
    text_encoder="minilm",
    text_tokens=8,
    frames=5,
    resolution=32,
)
