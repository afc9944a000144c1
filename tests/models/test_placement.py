"""Where networks live while they work. Devices are those of this machine: what moves is watched."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import TINY_WAN
from torch import nn

from gonio.models.autoencoder import decode, encode
from gonio.models.load import random_autoencoder
from gonio.models.placement import Placement, at_work, place


class Watched(nn.Linear):
    """A layer that writes down where it is sent."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.sent: list[str] = []

    def to(self, *args: Any, **kwargs: Any) -> "Watched":
        self.sent.append(str(args[0]))
        return self


def placement(offload: str) -> Any:
    """What Placement is where there is a GPU; here the GPU is the CPU."""
    options = {"fp8": False, "tiling": False, "slicing": False}
    return SimpleNamespace(device="cpu", offload=offload, **options)


def test_networks_that_take_turns_go_back_after_their_work_even_if_it_fails():
    network = Watched()
    turns = SimpleNamespace(device="gpu", offload="model")
    with at_work(network, turns):
        assert network.sent == ["gpu"]
    assert network.sent == ["gpu", "cpu"]
    with pytest.raises(ValueError), at_work(network, turns):
        raise ValueError
    assert network.sent == ["gpu", "cpu"] * 2


def test_a_network_that_is_placed_whole_stays_and_one_in_groups_moves_only_where_it_has_no_hooks():
    network = Watched()
    with at_work(network, Placement()), at_work(network, SimpleNamespace(device="gpu", offload="group")):
        assert network.sent == []
    with at_work(network, SimpleNamespace(device="gpu", offload="group"), whole=True):
        assert network.sent == ["gpu"]


def test_offload_leaves_the_networks_to_at_work():
    networks = [Watched() for _ in range(3)]
    place(networks[0], networks[1], placement("model"), encoders=[networks[2]])
    assert [network.sent for network in networks] == [[], [], []]
    place(networks[0], networks[1], placement("none"), encoders=[networks[2]])
    assert [network.sent for network in networks] == [["cpu"]] * 3


def test_a_network_in_groups_computes_what_it_computed_before():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(3, 4)
    expected = network(x)
    place(network, Watched(), placement("group"))
    torch.testing.assert_close(network(x), expected)


@torch.no_grad()
def test_tiles_and_slices_are_used_where_they_are_asked_for(monkeypatch):
    autoencoder = random_autoencoder(TINY_WAN, 0).eval()
    frames = torch.rand(2, 5, 32, 32, 3)
    latents = encode(autoencoder, frames)
    shown = decode(autoencoder, latents)
    calls = []
    for name in ("_decode", "tiled_decode"):
        original = getattr(autoencoder, name)
        monkeypatch.setattr(
            autoencoder, name, lambda *a, _n=name, _o=original, **k: calls.append(_n) or _o(*a, **k)
        )
    autoencoder.enable_slicing()
    torch.testing.assert_close(decode(autoencoder, latents), shown, atol=1e-4, rtol=1e-3)
    assert calls == ["_decode", "_decode"]
    autoencoder.enable_tiling(
        tile_sample_min_height=16,
        tile_sample_min_width=16,
        tile_sample_stride_height=8,
        tile_sample_stride_width=8,
    )
    assert decode(autoencoder, latents).shape == shown.shape
    assert "tiled_decode" in calls
