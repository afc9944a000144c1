"""The transformer as a regressor: the class's own output for the first latent frame, without the rest."""

import pytest
import torch
from diffusers import WanTransformer3DModel

from gonio.models.regressor import first_frame_tokens, unpatched


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = WanTransformer3DModel(
        **{"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 5, "out_channels": 3},
        **{"text_dim": 8, "freq_dim": 16, "ffn_dim": 32, "num_layers": 3, "rope_max_seq_len": 32},
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def first_frame(network, latents, text, **options):
    tokens = network.proj_out(first_frame_tokens(network, latents, text, **options))
    return unpatched(tokens, latents.shape[-2] // 2, latents.shape[-1] // 2, (2, 2))


@pytest.mark.parametrize("frames", [1, 3])
def test_it_is_the_first_frame_of_the_whole_output(network, frames):
    latents, text = torch.randn(2, 5, frames, 4, 6), torch.randn(7, 8)
    with torch.no_grad():
        whole = network(latents, torch.zeros(2), text.expand(2, -1, -1), return_dict=False)[0]
        torch.testing.assert_close(first_frame(network, latents, text), whole[:, :, 0], atol=1e-5, rtol=1e-5)


def test_later_frames_are_seen_but_not_answered_for(network):
    latents, text = torch.randn(1, 5, 3, 4, 4), torch.randn(7, 8)
    with torch.no_grad():
        before = first_frame(network, latents, text)
        latents[:, :, 2] += 1
        after = first_frame(network, latents, text)
    assert before.shape == (1, 3, 4, 4) and float((after - before).abs().max()) > 1e-4


def test_recomputing_blocks_gives_the_same_gradients(network):
    latents, text = torch.randn(1, 5, 3, 4, 4), torch.randn(7, 8)
    found = []
    for checkpointing in (False, True):
        network.zero_grad()
        first_frame(network, latents, text, checkpointing=checkpointing).square().sum().backward()
        found.append(network.patch_embedding.weight.grad.clone())
    torch.testing.assert_close(*found)


def test_unpatched_places_every_channel():
    picture = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    blocks = picture.unflatten(2, (2, 2)).unflatten(4, (3, 2))  # B C r p c q
    tokens = blocks.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    assert torch.equal(unpatched(tokens, 2, 3, (2, 2)), picture)
