"""An environment as three pictures that a video model is told: two of its light, one of its directions.

    env_ldr = srgb(x (1 + x / 16^2) / (1 + x))        extended Reinhard: what a display would show
    env_log = srgb(log(1 + x) / log(1 + 10^4))        what of the sun is left when a display has clipped
    env_dir = direction of the pixel in the camera's frame: +x right, +y up, +z towards the viewer

(DiffusionRenderer, section 4.2; x is radiance.) The panorama of the camera's frame is not that of the world:
its centre column is +z, behind the camera, its edges are -z, and +x is at three quarters of the width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gonio.color import log_encode, srgb_from_linear
from gonio.environment import EnvironmentMap
from gonio.errors import UsageError

WHITE = 16.0  # radiance that env_ldr shows as 1
BRIGHTEST = 1e4  # radiance that env_log shows as 1
_LARGEST_HALF = 65504.0  # the encodings were defined on half floats


def env_ldr(radiance: Tensor) -> Tensor:
    """Tone-mapped, display-encoded radiance in [0, 1]. Any shape, radiance >= 0."""
    x = radiance.clamp(0, _LARGEST_HALF)
    return srgb_from_linear(x * (1 + x / WHITE**2) / (1 + x))


def env_log(radiance: Tensor) -> Tensor:
    """Radiance on a logarithmic scale, display-encoded, in [0, 1]. Any shape, radiance >= 0."""
    return srgb_from_linear(log_encode(radiance.clamp(0, _LARGEST_HALF)) / math.log1p(BRIGHTEST))


def env_dir(height: int, width: int) -> Tensor:
    """Unit directions of the pixels' centres in the camera's frame. [height, width, 3]"""
    theta = math.pi * (torch.arange(height) + 0.5) / height
    phi = 2 * math.pi * ((torch.arange(width) + 0.5) / width - 0.5)
    theta, phi = torch.meshgrid(theta, phi, indexing="ij")
    return torch.stack([theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()], -1)


def camera_radiance(
    environment: EnvironmentMap, height: int, width: int, *, camera_to_world: Tensor
) -> Tensor:
    """The environment's radiance from the directions of `env_dir`. [height, width, 3] linear

    camera_to_world: [3, 3] rotation; its columns are the camera's right, up and backward in the world.
    UsageError where it is no rotation.
    """
    turn = camera_to_world.to(environment.radiance)
    if turn.shape != (3, 3) or not torch.allclose(turn @ turn.T, torch.eye(3).to(turn), atol=1e-4):
        raise UsageError("camera_to_world is no rotation; its columns are the camera's right, up, backward")
    return environment.lookup(env_dir(height, width).to(turn) @ turn.T)
