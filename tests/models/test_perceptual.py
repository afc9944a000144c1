"""LPIPS as a loss: the package's value, and gradients that a training survives."""

import pytest
import torch
from lpips_files import empty_hub, put_weights

from gonio.models.perceptual import LPIPS_WEIGHTS, lpips_distance, lpips_network


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with empty_hub(tmp_path, monkeypatch) as folder:
        yield folder


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(2, 3, 3, 40, 48, generator=generator)
    return x, y


def test_the_distance_is_the_packages(hub):
    put_weights(hub)
    x, y = pictures()
    theirs = lpips_network()(2 * x - 1, 2 * y - 1)[:, 0, 0, 0]
    torch.testing.assert_close(lpips_distance(x, y), theirs, atol=1e-7, rtol=1e-5)
    assert float(theirs.min()) > 0


def test_gradients_lead_to_the_target_and_none_to_the_network(hub):
    put_weights(hub)
    x, y = pictures()
    x.requires_grad_()
    before = lpips_distance(x, y).sum()
    before.backward()
    assert bool(torch.isfinite(x.grad).all()) and float(x.grad.abs().max()) > 0
    after = lpips_distance(x.detach() - 0.01 * x.grad / x.grad.abs().max(), y).sum()
    assert float(after) < float(before.detach())
    assert not any(p.requires_grad for p in lpips_network().parameters())


def test_gradients_stay_finite_where_every_feature_is_zero(hub):
    weights = put_weights(hub)
    weights["features.10.bias"].fill_(-1e3)
    torch.save(weights, hub / LPIPS_WEIGHTS)
    x, y = pictures()
    x.requires_grad_()
    lpips_distance(x, y).sum().backward()
    assert bool(torch.isfinite(x.grad).all()) and float(x.grad.abs().max()) > 0


def test_a_network_that_an_evaluation_has_made_still_trains(hub):
    put_weights(hub)
    x, y = pictures()
    with torch.inference_mode():
        lpips_network()
    lpips_distance(x.requires_grad_(), y).sum().backward()
    assert x.grad is not None
