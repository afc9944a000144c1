"""Conversion of Wan's text encoder: released names in, what transformers computes is what Wan computes."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from gonio.commands.convert import Convert
from gonio.errors import GonioError
from gonio.models import convert as conversion
from gonio.models.convert import convert
from gonio.models.load import TEXT_ENCODER, expected_shapes
from gonio.models.text import load_umt5
from gonio.models.wan_keys import text_encoder_config

WORDS = ["<pad>", "</s>", "<unk>", "green", "moss", "on", "stone", "red", "bricks"]
WIDTH, HEADS, HEAD, HIDDEN, LAYERS, BUCKETS = 16, 2, 6, 37, 2, 32
NAME = "models_t5_umt5-xxl-enc-bf16.pth"


def wan_weights(seed: int = 0) -> dict[str, Tensor]:
    """A tiny twin of the released file, by its names. Large values: every part must matter."""
    inner = HEADS * HEAD
    shapes: dict[str, tuple[int, ...]] = {"token_embedding.weight": (len(WORDS), WIDTH)}
    for i in range(LAYERS):
        shapes |= {f"blocks.{i}.attn.{x}.weight": (inner, WIDTH) for x in "qkv"}
        shapes |= {
            f"blocks.{i}.attn.o.weight": (WIDTH, inner),
            f"blocks.{i}.norm1.weight": (WIDTH,),
            f"blocks.{i}.norm2.weight": (WIDTH,),
            f"blocks.{i}.ffn.gate.0.weight": (HIDDEN, WIDTH),
            f"blocks.{i}.ffn.fc1.weight": (HIDDEN, WIDTH),
            f"blocks.{i}.ffn.fc2.weight": (WIDTH, HIDDEN),
            f"blocks.{i}.pos_embedding.embedding.weight": (BUCKETS, HEADS),
        }
    shapes["norm.weight"] = (WIDTH,)
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def wan_states(weights: dict[str, Tensor], ids: Tensor) -> Tensor:
    """What Wan's own encoder makes of the tokens [L], written out from its code. [L, WIDTH]"""

    def norm(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * weights[name]

    x = weights["token_embedding.weight"][ids]
    for i in range(LAYERS):
        block = {
            name.removeprefix(f"blocks.{i}.").removesuffix(".weight"): weight
            for name, weight in weights.items()
        }
        h = norm(x, f"blocks.{i}.norm1.weight")
        q, k, v = ((h @ block[f"attn.{part}"].T).unflatten(-1, (HEADS, HEAD)) for part in "qkv")
        # No scaling of the scores, and biases of this layer's own.
        scores = torch.einsum("inc,jnc->nij", q, k) + block["pos_embedding.embedding"][
            buckets(len(ids))
        ].movedim(-1, 0)
        attended = torch.einsum("nij,jnc->inc", scores.softmax(-1), v).flatten(1)
        x = x + attended @ block["attn.o"].T
        h = norm(x, f"blocks.{i}.norm2.weight")
        gate = gelu(h @ block["ffn.gate.0"].T, approximate="tanh")
        x = x + (h @ block["ffn.fc1"].T * gate) @ block["ffn.fc2"].T
    return norm(x, "norm.weight")


def buckets(length: int) -> Tensor:
    """The bucket of every pair of positions, query and key. [L, L]"""
    offset = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    half, exact = BUCKETS // 2, BUCKETS // 4
    far = offset.abs().clamp_min(1).float()
    far = exact + (torch.log(far / exact) / math.log(128 / exact) * (half - exact)).long()
    return (offset > 0) * half + torch.where(offset.abs() < exact, offset.abs(), far.clamp(max=half - 1))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A released folder: the checkpoint, and the tokenizer's files where Wan keeps them."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    folder = tmp_path / "Wan2.1-T2V-1.3B"
    tokenizer.save_pretrained(folder / "google" / "umt5-xxl")
    torch.save(wan_weights(), folder / NAME)
    return folder


def test_the_command_writes_what_load_umt5_reads_and_it_computes_what_wan_does(release, tmp_path, capsys):
    Convert(checkpoint=release / NAME, to=tmp_path / "out").run()
    weights = wan_weights()
    count = sum(weight.numel() for weight in weights.values())
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert printed[0].endswith(f"wan-text-encoder, {len(weights)} tensors, {count:,} parameters")
    encoder = load_umt5(tmp_path / "out", length=40, dtype="fp32")
    assert encoder.width == WIDTH
    assert encoder.model.encoder.embed_tokens.weight is encoder.model.shared.weight
    prompt = "green moss on stone red bricks " * 6  # far enough for the wide buckets
    tokens, lengths = encoder.encode([prompt, "moss"])
    assert lengths.tolist() == [37, 2]
    for row, text in enumerate((prompt, "moss")):
        ids = torch.tensor([WORDS.index(word) for word in text.split()] + [1])
        torch.testing.assert_close(tokens[row, : len(ids)], wan_states(weights, ids), atol=1e-4, rtol=1e-4)
        assert not tokens[row, len(ids) :].any()


def test_it_converts_shard_by_shard_in_the_stored_type(release, tmp_path, monkeypatch):
    torch.save({name: weight.bfloat16() for name, weight in wan_weights().items()}, release / NAME)
    monkeypatch.setattr(conversion, "MAX_SHARD_BYTES", 4000)
    done = convert(release / NAME, tmp_path / "out")
    assert len(list(done.folder.glob("model-*.safetensors"))) > 2
    assert (done.folder / "model.safetensors.index.json").is_file()
    state = load_umt5(tmp_path / "out", dtype="bf16").model.state_dict()
    gate = state["encoder.block.1.layer.1.DenseReluDense.wi_0.weight"]
    assert torch.equal(gate, wan_weights()["blocks.1.ffn.gate.0.weight"].bfloat16())
    manifest = json.loads((done.folder / "conversion.json").read_text())
    assert manifest["kind"] == "wan-text-encoder" and manifest["source"][0]["name"] == NAME


def test_the_released_shapes_give_the_released_configuration():
    width, inner, hidden = 4096, 4096, 10240
    config = {"vocab_size": 256384, "d_model": width, "d_kv": 64, "d_ff": hidden, "num_heads": 64}
    shapes = {"token_embedding.weight": (256384, width)}
    for i in range(24):
        shapes[f"blocks.{i}.attn.q.weight"] = (inner, width)
        shapes[f"blocks.{i}.ffn.gate.0.weight"] = (hidden, width)
        shapes[f"blocks.{i}.pos_embedding.embedding.weight"] = (32, 64)
    found = text_encoder_config(shapes)
    assert found.items() >= {**config, "num_layers": 24, "relative_attention_num_buckets": 32}.items()
    expected = expected_shapes(TEXT_ENCODER, found)
    assert len(expected) == 2 + 24 * 10  # the released file's tensors
    assert sum(math.prod(shape) for shape in expected.values()) == 5_680_910_336


def test_without_a_tokenizer_one_line_says_where_to_get_it(release, tmp_path, capsys):
    alone = tmp_path / NAME
    (release / NAME).rename(alone)
    Convert(checkpoint=alone, to=tmp_path / "out").run()
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path / 'out' / 'tokenizer'} is missing") and "hf download Wan-AI/" in line
    assert not (tmp_path / "out" / "tokenizer").exists()
    (release / "google" / "umt5-xxl").rename(tmp_path / "out" / "tokenizer")
    assert convert(alone, tmp_path / "out").missing == ""
    load_umt5(tmp_path / "out")


def test_only_the_tokenizers_own_files_are_copied(release, tmp_path):
    tokenizer = release / "google" / "umt5-xxl"
    (tokenizer / "tokenization.py").write_text("print('owned')")
    convert(release / NAME, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out" / "tokenizer").iterdir()} <= {
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
    }
    with (tokenizer / "spiece.model").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(GonioError, match="spiece.model: larger than any tokenizer"):
        convert(release / NAME, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("blocks.1.ffn.fc2.weight"), "1 missing: blocks.1.ffn.fc2.weight"),
        (lambda w: w.pop("blocks.1.pos_embedding.embedding.weight"), "1 missing: blocks.1.pos_embedding"),
        (lambda w: w.pop("norm.weight"), "1 missing: norm.weight"),
        (lambda w: w.update({"head.weight": torch.ones(1)}), "1 unknown: head.weight"),
        (
            lambda w: w.update({"blocks.1.attn.k.weight": torch.ones(HEADS * HEAD, 15)}),
            r"1 of another shape: blocks.1.attn.k.weight \[12, 15\] instead of \[12, 16\]",
        ),
        (
            lambda w: w.update({"blocks.0.pos_embedding.embedding.weight": torch.ones(32, 5)}),
            "attention of 12 channels for 5 heads",
        ),
        (lambda w: w["norm.weight"].fill_(torch.nan), "final_layer_norm.weight holds NaN"),
        (lambda w: w.pop("token_embedding.weight"), "token_embedding.weight is missing"),
    ],
)
def test_a_text_encoder_not_wholly_understood_leaves_nothing(release, tmp_path, change, message):
    weights = wan_weights()
    change(weights)
    torch.save(weights, release / NAME)
    with pytest.raises(GonioError, match=message) as caught:
        convert(release / NAME, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
