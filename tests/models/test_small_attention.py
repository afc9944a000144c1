"""Attention over few tokens is the attention of the class."""

import pytest
import torch

from gonio.models.load import random_transformer
from gonio.models.small_attention import FEW, SmallAttention, with_small_attention
from gonio.models.spec import SPECS


@pytest.fixture
def model():
    model = random_transformer(SPECS["mini-t2v"], 0).eval()
    with torch.no_grad():
        model.proj_out.weight.normal_()
    return model


def test_predictions_and_gradients_are_those_of_the_class(model):
    latents = torch.randn(2, model.config.in_channels, 1, 4, 6)
    rest = {"timestep": torch.tensor([500.0, 20.0]), "encoder_hidden_states": torch.randn(2, 64, 384)}

    def run():
        model.zero_grad()
        shown = model(hidden_states=latents, **rest).sample
        shown.square().mean().backward()
        return shown.detach(), model.blocks[0].attn1.to_q.weight.grad.clone()

    expected, gradient = run()
    with_small_attention(model, 24)
    assert isinstance(model.blocks[-1].attn2.processor, SmallAttention)
    shown, found = run()
    torch.testing.assert_close(shown, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, gradient, atol=1e-3 * float(gradient.abs().max()), rtol=1e-3)


def test_many_tokens_keep_the_attention_of_the_class(model):
    with_small_attention(model, FEW + 1)
    assert not isinstance(model.blocks[0].attn1.processor, SmallAttention)
