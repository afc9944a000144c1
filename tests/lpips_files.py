"""Files and a stand-in for torchvision with which the real lpips package works, on random weights."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from gonio.models import perceptual


def alexnet(pretrained: bool = False) -> SimpleNamespace:
    """The trunk's layers, standing in for torchvision, whose build need not fit every machine's torch."""
    assert not pretrained, "tried to download"
    nn = torch.nn
    pool, relu = nn.MaxPool2d(3, 2), nn.ReLU()
    first, second = nn.Conv2d(3, 64, 11, 4, 2), nn.Conv2d(64, 192, 5, padding=2)
    third, fourth = nn.Conv2d(192, 384, 3, padding=1), nn.Conv2d(384, 256, 3, padding=1)
    fifth = nn.Conv2d(256, 256, 3, padding=1)
    layers = [first, relu, pool, second, relu, pool, third, relu, fourth, relu, fifth, relu, pool]
    return SimpleNamespace(features=nn.Sequential(*layers))


@contextmanager
def empty_hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty hub folder; the real lpips package on a stand-in for torchvision."""
    torchvision = ModuleType("torchvision")
    torchvision.models = SimpleNamespace(alexnet=alexnet)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setenv("TORCH_HOME", str(root))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    _forget()
    yield root / "hub" / "checkpoints"
    _forget()


def _forget() -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "lpips"]:
        del sys.modules[module]
    perceptual._network.cache_clear()
    perceptual._import_problem.cache_clear()


def put_weights(folder: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    weights = {f"features.{key}": value for key, value in alexnet().features.state_dict().items()}
    folder.mkdir(parents=True)
    torch.save(weights, folder / perceptual.LPIPS_WEIGHTS)
    return weights
