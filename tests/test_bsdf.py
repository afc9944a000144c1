"""The torch `principled` against Mitsuba's, and its spherical-light average against quadrature."""

import math
from collections.abc import Iterator

import mitsuba as mi
import pytest
import torch

from gonio.bsdf import fresnel_dielectric, principled


@pytest.fixture(autouse=True)
def scalar_mitsuba() -> Iterator[None]:
    """One direction at a time needs no compiler; other tests get their own variant back."""
    before = mi.variant()
    mi.set_variant("scalar_rgb")
    yield
    if before is not None:
        mi.set_variant(before)


def _directions(count: int, generator: torch.Generator) -> torch.Tensor:
    """[count, 3] unit vectors of the upper hemisphere, some of them grazing."""
    cosine = torch.rand(count, generator=generator).clamp_min(0.02)
    azimuth = 2 * math.pi * torch.rand(count, generator=generator)
    sine = (1 - cosine**2).sqrt()
    return torch.stack([sine * azimuth.cos(), sine * azimuth.sin(), cosine], -1)


def _mitsuba_eval(
    color: list[float], roughness: float, metallic: float, wi: torch.Tensor, wo: torch.Tensor
) -> torch.Tensor:
    bsdf = mi.load_dict(
        {
            "type": "principled",
            "base_color": {"type": "rgb", "value": color},
            "roughness": roughness,
            "metallic": metallic,
        }
    )
    values = []
    for light, camera in zip(wi.tolist(), wo.tolist(), strict=True):
        si = mi.SurfaceInteraction3f()
        si.wi = mi.Vector3f(camera)  # Mitsuba's wi points to the camera
        values.append(list(bsdf.eval(mi.BSDFContext(), si, mi.Vector3f(light))))
    return torch.tensor(values)


@pytest.mark.parametrize("roughness", [0.0, 0.1, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("metallic", [0.0, 0.35, 1.0])
def test_matches_mitsuba(roughness: float, metallic: float) -> None:
    g = torch.Generator().manual_seed(5)
    wi, wo = _directions(120, g), _directions(120, g)
    # A third of the pairs near the mirror configuration, where the specular peak is.
    jitter = 0.1 * max(roughness, 0.05) * torch.randn(120, 3, generator=g)
    mirror = wi * torch.tensor([-1.0, -1.0, 1.0]) + jitter
    wo[::3] = torch.nn.functional.normalize(mirror, dim=-1)[::3]
    wo[:, 2].abs_()
    color = [0.8, 0.3, 0.05]
    expected = _mitsuba_eval(color, roughness, metallic, wi, wo)
    ours = principled(
        torch.tensor(color).expand(120, 3),
        torch.full((120,), roughness),
        torch.full((120,), metallic),
        wi,
        wo,
    )
    assert expected.max() > 0.01
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-6)


def test_is_black_below_the_surface() -> None:
    up = torch.nn.functional.normalize(torch.tensor([[0.3, 0.1, 0.8]]), dim=-1)
    down = up * torch.tensor([1.0, 1.0, -1.0])
    one = torch.ones(1)
    for wi, wo in ((up, down), (down, up), (down, down)):
        assert principled(torch.ones(1, 3), 0.5 * one, 0.5 * one, wi, wo).abs().max() == 0


def test_fresnel_at_normal_and_grazing_incidence() -> None:
    f = fresnel_dielectric(torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(f, torch.tensor([0.04, 1.0]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("roughness", [0.03, 0.15, 0.3, 0.7])
def test_sphere_light_is_the_mean_over_its_disc(roughness: float) -> None:
    """At near-normal incidence the closed form equals brute-force averaging over the light's directions."""
    angle, samples = 0.04, 200_000
    index = torch.arange(samples) + 0.5  # a golden-angle spiral covers the disc evenly
    radius = angle * (index / samples).sqrt()
    azimuth = (math.pi * (3 - math.sqrt(5)) * index.double()).remainder(2 * math.pi).float()
    offset = torch.stack([radius * azimuth.cos(), radius * azimuth.sin()], -1)
    color, metallic = torch.tensor([1.0, 0.5, 0.2]), torch.tensor(1.0)
    wo = torch.tensor([0.0, 0.0, 1.0])
    for centre in (0.0, 0.02, 0.06):
        xy = offset + torch.tensor([centre, 0.0])
        wi = torch.cat([xy, (1 - xy.square().sum(-1, keepdim=True)).sqrt()], -1)
        perceptual = torch.tensor(roughness)
        brute = principled(color.expand_as(wi), perceptual, metallic, wi, wo.expand_as(wi)).mean(0)
        middle = torch.tensor([centre, 0.0, math.sqrt(1 - centre**2)])
        closed = principled(color, perceptual, metallic, middle, wo, light_angle=torch.tensor(angle))
        torch.testing.assert_close(closed, brute, rtol=0.02, atol=2e-3)


def test_a_vanishing_light_is_a_point() -> None:
    g = torch.Generator().manual_seed(1)
    wi, wo = _directions(200, g), _directions(200, g)
    args = (torch.full((200, 3), 0.7), torch.rand(200, generator=g), torch.rand(200, generator=g), wi, wo)
    torch.testing.assert_close(
        principled(*args, light_angle=torch.full((200,), 1e-5)), principled(*args), rtol=1e-3, atol=1e-6
    )
