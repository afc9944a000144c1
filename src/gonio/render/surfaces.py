"""What the wavefront integrator asks of a surface: values for two light directions a hit, and lobes.

Values are evaluated in torch, block by block; the lobes only steer where light is looked for. The result
is unbiased whatever the lobes, because a part of them always looks everywhere.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from gonio.neural_material import NeuralMaterial, encode_directions
from gonio.render.lobes import Lobes, fit_lobes
from gonio.texture import fetch

# exp(80) is the largest round exponent a float32 holds.
MAX_LOG_VALUE = 80.0


class Surface(Protocol):
    """lobes: parameters [H, W, 4] as in `gonio.render.lobes`, row 0 is v = 1, repeating."""

    @property
    def lobes(self) -> Tensor: ...

    def evaluate(
        self, uv: Tensor, wo: Tensor, wi_light: Tensor, lit: Tensor, wi_sampled: Tensor
    ) -> tuple[Tensor, Tensor]:
        """f(wi, wo) cos(theta_i) [1/sr] of one block of hits for the light's direction and the sampled one.

        uv [N, 2] of any range, directions [N, 3] in the local frame with z > 0, lit [N] bool: where
        `wi_light` matters; elsewhere the first result is 0. Returns two [N, 3].
        """
        ...


class LambertianSurface:
    """A constant or textured diffuse reflector, exact: for tests, clay renders and comparisons."""

    def __init__(self, albedo: Tensor) -> None:
        """albedo: [3] or [H, W, 3], linear."""
        self.albedo = albedo if albedo.ndim == 3 else albedo.reshape(1, 1, 3)
        self.lobes = torch.tensor([0.0, 0.0, 1.0, 0.0]).reshape(1, 1, 4)

    def evaluate(
        self, uv: Tensor, wo: Tensor, wi_light: Tensor, lit: Tensor, wi_sampled: Tensor
    ) -> tuple[Tensor, Tensor]:
        f = fetch(self.albedo, uv) / math.pi
        return f * (wi_light[:, 2] * lit)[:, None], f * wi_sampled[:, 2:]


class NeuralSurface:
    """A neural material with its lobes: M_off runs once a hit, M_rgb once for each light direction."""

    def __init__(self, material: NeuralMaterial, lobes: Lobes | None = None) -> None:
        """lobes: fitted here (about a second) when None."""
        self.spec = material.spec
        self.T_off = material.T_off.detach().float().contiguous()
        self.T_rgb = material.T_rgb.detach().float().contiguous()
        self.M_off = _weights(material.decoder.M_off)
        self.M_rgb = _weights(material.decoder.M_rgb)
        self.lobes = (lobes or fit_lobes(material)).parameters

    def evaluate(
        self, uv: Tensor, wo: Tensor, wi_light: Tensor, lit: Tensor, wi_sampled: Tensor
    ) -> tuple[Tensor, Tensor]:
        spec = self.spec
        raw = _run(self.M_off, torch.cat([fetch(self.T_off, uv, spec.wrap), wo[:, :2]], 1))
        features = fetch(self.T_rgb, uv + spec.max_offset * raw.tanh_(), spec.wrap)
        # Many hits see no light at their light sample: those are left out of the network.
        rows = lit.nonzero()[:, 0]
        wi = torch.cat([wi_sampled, wi_light[rows]])
        directions = encode_directions(wi, torch.cat([wo, wo[rows]]), spec.directions)
        inputs = torch.cat([torch.cat([features, features[rows]]), *directions], 1)
        # expm1(softplus(y)) = exp(y)
        value = _run(self.M_rgb, inputs).clamp_max_(MAX_LOG_VALUE).exp_().mul_(1 / (spec.gain * math.pi))
        if not spec.cosine_included:
            value = value * wi[:, 2:]
        towards_light = value.new_zeros(uv.shape[0], 3)
        towards_light[rows] = value[uv.shape[0] :]
        return towards_light, value[: uv.shape[0]]


Layers = list[tuple[Tensor, Tensor]]


def _weights(network: torch.nn.Module) -> Layers:
    """[(weight transposed [in, out], bias [out])] of an MLP."""
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    return [(layer.weight.detach().float().t().contiguous(), layer.bias.detach().float()) for layer in layers]


def _run(layers: Layers, x: Tensor) -> Tensor:
    """The MLP without autograd: one matrix product and an in-place ReLU a layer."""
    for weight, bias in layers[:-1]:
        x = torch.addmm(bias, x, weight).relu_()
    return torch.addmm(layers[-1][1], x, layers[-1][0])
