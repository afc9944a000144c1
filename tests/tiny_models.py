"""Networks for tests: the released layouts at a hundredth of their size, and mini with random weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gonio.generate.pipeline import Generator
from gonio.models.codec import load_codec
from gonio.models.load import load_transformer, random_transformer
from gonio.models.lora import add_lora, save_lora
from gonio.models.spec import VideoModelSpec, find_spec
from gonio.models.text import load_minilm

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


def random_generator(name: str, **changes: Any) -> Generator:
    """A generator of the mini family, with `changes` of its spec, whose transformer has learned nothing."""
    spec = replace(find_spec(name), **changes)
    transformer = random_transformer(spec, 0).eval()
    with torch.no_grad():  # a head of zeros would predict nothing
        transformer.proj_out.weight.normal_(std=0.02)
    text = load_minilm(length=spec.text_tokens)
    return Generator(spec=spec, transformer=transformer, codec=load_codec(spec), text=text)


def write_lora(path: Path, size: float, rank: int = 1) -> None:
    """A LoRA of the bundled mini-t2v in which every B is `size`, so that it has an effect."""
    network = load_transformer(find_spec("mini-t2v"))
    add_lora(network, rank=rank)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.fill_(size)
    save_lora(path, network)
