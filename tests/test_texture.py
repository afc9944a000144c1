"""Texture look-up: where texels lie, how the borders wrap, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from gonio.texture import fetch, wrap_index


def beyond_the_borders(count: int) -> Tensor:
    """uv [count, 2] in and around the texture, double precision."""
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 - 1


def test_gradients_of_fetch_with_and_without_a_sink():
    texture = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    uv = beyond_the_borders(6).requires_grad_(True)
    assert gradcheck(fetch, (texture, uv), eps=1e-6, atol=1e-8, rtol=1e-4)
    weight = torch.randn(6, 2, dtype=torch.float64)
    wanted = torch.autograd.grad((fetch(texture, uv) * weight).sum(), [texture, uv])
    sink = torch.ones_like(texture)  # what is there already stays
    texture.grad = uv.grad = None
    (fetch(texture, uv, "repeat", sink) * weight).sum().backward()
    assert texture.grad is None
    torch.testing.assert_close(sink - 1, wanted[0])
    torch.testing.assert_close(uv.grad, wanted[1])


def test_texel_centres_and_orientation():
    """Row 0 is v = 1; texel (row, column) is centred on u = (column + .5) / W, v = 1 - (row + .5) / H."""
    texture = torch.arange(12.0).reshape(3, 4, 1)
    row, column = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    uv = torch.stack([(column + 0.5) / 4, 1 - (row + 0.5) / 3], -1).reshape(-1, 2)
    torch.testing.assert_close(fetch(texture, uv), texture.reshape(-1, 1), atol=1e-5, rtol=0)
    # Top right texel: large u, large v.
    torch.testing.assert_close(fetch(texture, torch.tensor([[0.875, 5 / 6]])), torch.tensor([[3.0]]))


@pytest.mark.parametrize(("wrap", "padding"), [("clamp", "border"), ("mirror", "reflection")])
def test_fetch_agrees_with_grid_sample(wrap, padding):
    texture, uv = torch.randn(5, 7, 3, dtype=torch.float64), beyond_the_borders(200)
    grid = torch.stack([uv[:, 0] * 2 - 1, 1 - uv[:, 1] * 2], -1)[None, :, None]
    wanted = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1)[None], grid, padding_mode=padding, align_corners=False
    )[0, :, :, 0].T
    torch.testing.assert_close(fetch(texture, uv, wrap), wanted)


def test_repeat_is_periodic_and_continuous_across_the_seams():
    texture, uv = torch.randn(3, 6, 2, dtype=torch.float64), beyond_the_borders(100)
    torch.testing.assert_close(fetch(texture, uv), fetch(texture, uv + torch.tensor([2.0, -3.0])))
    along = torch.linspace(0, 1, 21, dtype=torch.float64)
    for axis in (0, 1):
        left, right = (
            fetch(texture, torch.stack([torch.full_like(along, at), along], -1).roll(axis, -1))
            for at in (-1e-9, 1e-9)
        )
        torch.testing.assert_close(left, right, atol=1e-6, rtol=0)


def test_wrap_indices():
    index = torch.arange(-4, 7)
    assert wrap_index(index, 3, "repeat").tolist() == [2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert wrap_index(index, 3, "clamp").tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2]
    assert wrap_index(index, 3, "mirror").tolist() == [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]
