"""LPIPS from files on disk: the network that metrics and trainings share, and why it is not there.

Nothing is ever downloaded: the linear heads come with the package, the trunk's weights from a file of
torchvision's.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio.errors import GonioError

LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"
LPIPS_MIN_SIZE = 32


def lpips_unavailable(shape: torch.Size | tuple[int, ...] | None = None) -> str | None:
    """Why LPIPS cannot be computed here (for frames shaped [F, H, W, 3]), and the cure; None if it can."""
    if find_spec("lpips") is None:
        return "lpips: the package is not installed; pip install gonio[lpips]"
    if not _weights().is_file():
        return f"lpips: no weights at {_weights()}; put torchvision's {LPIPS_WEIGHTS} there"
    if shape is not None and min(shape[1:3]) < LPIPS_MIN_SIZE:
        return f"lpips: {shape[2]}x{shape[1]} pixels; give frames of at least {LPIPS_MIN_SIZE} each way"
    return _import_problem()


def lpips_network(*, spatial: bool = False) -> Any:
    """The frozen network of `lpips_unavailable() is None`, made once; spatial: a map instead of its mean."""
    return _network(_weights(), spatial)


def lpips_distance(x: Tensor, y: Tensor) -> Tensor:
    """The package's value for display-encoded pictures [N, 3, H, W] in [0, 1]: [N], differentiable.

    Its own forward divides features by a square root whose derivative at zero is infinite: one patch whose
    features are all zero somewhere would turn every gradient to not-a-number.
    """
    network = lpips_network().to(x.device)
    found = [network.net(network.scaling_layer(2 * picture - 1)) for picture in (x, y)]
    total = x.new_zeros(len(x))
    for a, b, head in zip(*found, network.lins, strict=True):
        total = total + head((_unit(a) - _unit(b)).square()).mean((1, 2, 3))
    return total


def _unit(features: Tensor) -> Tensor:
    """Features [N, C, H, W] of unit length in C; zero stays zero."""
    return features / (features.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt() + 1e-10)


def _weights() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS


@cache
def _import_problem() -> str | None:
    """Why the installed package does not start; None if it does."""
    try:
        import_module("lpips")
    except ImportError as error:
        return f"lpips: {error}; pip install gonio[lpips]"
    except (RuntimeError, OSError):
        # A torchvision built for another torch fails while it registers its operators.
        return (
            f"lpips: the installed torchvision does not fit torch {torch.__version__}; "
            "install both from the same package index"
        )
    return None


@cache
@torch.inference_mode(False)  # a training may want what an evaluation has made
def _network(weights: Path, spatial: bool) -> Any:
    """The network with its linear heads (bundled with the package) and the trunk's weights from the file."""
    # A random trunk is asked for because the package would download a trained one; its weights are then
    # read from the file.
    network = import_module("lpips").LPIPS(net="alex", spatial=spatial, pnet_rand=True, verbose=False)
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    # The package spreads torchvision's `features` over five slices and keeps their numbers.
    trunk = network.net.state_dict()
    try:
        network.net.load_state_dict({key: stored["features." + key.split(".", 1)[1]] for key in trunk})
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise GonioError(f"{weights}: not torchvision's AlexNet ({reason}); replace it") from None
    return network.eval().requires_grad_(False)
