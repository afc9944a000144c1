"""Age laid over any surface: cavity dirt, dust, stains, moss, wetness, edge wear, speckle."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import blur, coverage, noise
from gonio.data.procedural.surface import Surface, mix, shade, smoothstep

KINDS = ("cavity dirt", "dust", "stains", "moss", "wet", "worn edges", "faded")
ADJECTIVE = {
    "cavity dirt": "dirty",
    "dust": "dusty",
    "stains": "stained",
    "moss": "mossy",
    "wet": "wet",
    "worn edges": "worn",
    "faded": "faded",
}


def _relative(height: Tensor, sigma: float) -> Tensor:
    """How far a point stands above its surroundings, in deviations, clipped to [-2, 2]."""
    difference = height - blur(height, sigma)
    return (difference / difference.std().clamp_min(1e-6)).clamp(-2.0, 2.0)


def weather(draw: Draw, surface: Surface) -> Surface:
    """Lay one kind of age over a surface, somewhere between faint and heavy."""
    kind = draw.choice(KINDS)
    strength = draw.uniform(0.2, 0.8)
    raised = _relative(surface.height, draw.log_uniform(0.01, 0.06))
    patch = coverage(noise(draw, draw.log_uniform(1.5, 8), slope=draw.uniform(1.5, 2.3)))
    color, rough = surface.basecolor, surface.roughness
    metallic = surface.metallic if surface.metallic is not None else torch.zeros_like(rough)
    had_metal = surface.metallic is not None
    if kind == "cavity dirt":
        mask = strength * smoothstep(0.0, -1.5, raised) * smoothstep(0.1, 0.7, patch)
        color, rough = mix(color, color * 0.25, mask), rough + 0.25 * mask
    elif kind == "dust":
        mask = 0.7 * strength * smoothstep(0.4, 0.95, patch)
        color, rough = mix(color, torch.tensor([0.38, 0.33, 0.26]), mask), rough + (0.9 - rough) * mask
        metallic = metallic * (1 - mask)
    elif kind == "stains":
        ring = smoothstep(0.62, 0.7, patch) * (1.25 - smoothstep(0.7, 0.8, patch))
        mask = strength * ring.clamp(0, 1)
        color, rough = shade(color, -0.8 * mask), rough + 0.15 * mask * draw.choice((-1.0, 1.0))
    elif kind == "moss":
        mask = smoothstep(0.62, 0.85, patch - 0.12 * raised) * strength
        green = shade(torch.tensor([0.09, 0.14, 0.03]), 0.3 * noise(draw, 60, slope=1.1))
        color, rough, metallic = mix(color, green, mask), rough + (0.95 - rough) * mask, metallic * (1 - mask)
    elif kind == "wet":
        mask = smoothstep(0.45, 0.7, patch - 0.1 * raised)
        color, rough = shade(color, -0.5 * strength * mask), rough * (1 - 0.75 * strength * mask)
    elif kind == "worn edges":
        mask = strength * smoothstep(0.6, 1.8, raised) * smoothstep(0.3, 0.7, patch)
        color, rough = mix(color, color * 1.6 + 0.05, mask), rough + (0.4 - rough) * 0.6 * mask
    else:
        mask = strength * smoothstep(0.4, 0.9, patch)
        grey = color.mean(-1, keepdim=True).expand_as(color)
        color, rough = mix(color, 0.6 * grey + 0.4 * color + 0.04, mask), rough + 0.1 * mask
    return replace(
        surface,
        basecolor=color,
        roughness=rough,
        metallic=metallic if had_metal else None,
        adjectives=(*surface.adjectives, ADJECTIVE[kind]),
    )
