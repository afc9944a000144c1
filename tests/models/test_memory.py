"""A memory of layouts: which of them a prompt recalls, and its file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from gonio.errors import GonioError
from gonio.models.memory import SCHEMA, Memory, load_memory, mean_token, reading, save_memory

WIDTH = 8


def memory_of_three():
    """Two layouts that the first axis means, one more likely than the other, and one for the second axis."""
    weight = torch.zeros(3, WIDTH)
    weight[0, 0], weight[1, 0], weight[2, 1] = 10.0, 9.5, 10.0
    values = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 4, 2, 2).contiguous()
    return Memory(names=("brick 1", "brick 2", "moss 1"), values=values, weight=weight, bias=torch.zeros(3))


def prompt(axis, tokens=2):
    """A context of five tokens, those beyond the prompt zero."""
    text = torch.zeros(5, WIDTH)
    text[:tokens, axis] = 3.0
    return text


def test_a_prompt_recalls_what_it_means_and_seeds_take_turns_from_the_likeliest_on():
    memory = memory_of_three()
    assert [memory.recalled(prompt(0), seed)[0] for seed in range(3)] == ["brick 1", "brick 2", "brick 1"]
    assert [memory.recalled(prompt(1), seed)[0] for seed in range(3)] == ["moss 1"] * 3
    assert torch.equal(memory.recalled(prompt(0), 1)[1], memory.values[1])


def test_the_mean_token_knows_neither_padding_nor_length():
    torch.testing.assert_close(mean_token(prompt(0, tokens=1)), mean_token(prompt(0, tokens=4)))
    assert mean_token(prompt(0)).tolist() == [1.0] + [0.0] * (WIDTH - 1)


def test_probabilities_are_those_of_a_logistic_regression():
    memory = memory_of_three()
    found = memory.probabilities(prompt(0))
    expected = torch.tensor([10.0, 9.5, 0.0]).exp()
    torch.testing.assert_close(found, expected / expected.sum())


def test_a_reading_gives_prompts_back_the_shares_they_were_learned_with():
    texts = torch.eye(3)
    meant = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    weight, bias = reading(texts, meant, l2=1e-6)
    torch.testing.assert_close((texts @ weight.T + bias).softmax(1), meant, atol=0.02, rtol=0)


def test_a_reading_with_a_penalty_is_where_its_gradient_vanishes():
    draw = torch.Generator().manual_seed(0)
    texts = torch.randn(40, 5, generator=draw)
    meant = torch.rand(40, 3, generator=draw).softmax(1)
    weight, bias = reading(texts, meant, l2=0.01)
    difference = (texts @ weight.T + bias).softmax(1) - meant
    torch.testing.assert_close(
        difference.T @ texts / 40 + 0.02 * weight, torch.zeros(3, 5), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(difference.mean(0), torch.zeros(3), atol=1e-4, rtol=0)


def test_a_file_gives_the_memory_back_to_half_precision(tmp_path):
    memory, path = memory_of_three(), tmp_path / "memory.safetensors"
    save_memory(path, memory, {"clips": 3})
    again = load_memory(path, channels=4)
    assert again.names == memory.names and torch.equal(again.values, memory.values)
    torch.testing.assert_close(again.weight, memory.weight, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"names": ["brick 1"] * 3}, "no list of up to"),
        ({"names": "brick"}, "no list of up to"),
        ({"names": ["brick 1", "brick 2"]}, "values"),
        ({"values": torch.full((3, 4, 2, 2), torch.nan)}, "NaN"),
        ({"values": torch.zeros(3, 4, 2, 3)}, "values"),
        ({"weight": torch.zeros(2, WIDTH)}, "weight"),
        ({"bias": None}, "bias"),
        ({"schema": "other"}, "schema"),
    ],
)
def test_a_file_that_is_no_memory_is_refused(tmp_path, change, complaint):
    path = tmp_path / "memory.safetensors"
    save_memory(path, memory_of_three(), {})
    tensors = load_file(path)
    about = {"schema": SCHEMA, "names": json.dumps(["brick 1", "brick 2", "moss 1"])}
    for name, value in change.items():
        if name in ("names", "schema"):
            about[name] = json.dumps(value) if name == "names" else value
        elif value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path, metadata=about)
    with pytest.raises(GonioError, match=complaint):
        load_memory(path, channels=4)


def test_a_memory_of_other_channels_is_refused(tmp_path):
    save_memory(tmp_path / "memory.safetensors", memory_of_three(), {})
    with pytest.raises(GonioError, match="values"):
        load_memory(tmp_path / "memory.safetensors", channels=5)
