"""The fitted sampling lobes: a density, and one that finds the light."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gonio.bsdf import principled
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial
from gonio.render.lobes import MAX_TILT, MAX_WEIGHT, fit_lobes, lobe_pdf
from gonio.render.mixture import MIN_TILTED_COSINE, UNIFORM_SHARE


class Analytic(NeuralMaterial):
    """A material whose values are those of a principled surface, its right half tilted and glossy."""

    def __init__(self, roughness: float, tilt: float) -> None:
        spec = MaterialSpec(hidden_width=4, hidden_layers=1)
        super().__init__(torch.zeros(8, 8, 12), torch.zeros(8, 8, 12), Decoder(spec))
        self.roughness, self.normal = roughness, torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)])

    def evaluate(self, uv: Tensor, wi: Tensor, wo: Tensor) -> Tensor:
        glossy = uv[..., 0] > 0.5
        s = torch.stack([self.normal[2], torch.tensor(0.0), -self.normal[0]])
        turn = torch.stack([s, torch.tensor([0.0, 1.0, 0.0]), self.normal])
        shape = uv.shape[:-1]
        plain = principled(torch.full((*shape, 3), 0.5), torch.ones(shape), torch.zeros(shape), wi, wo)
        metal = principled(
            torch.full((*shape, 3), 0.9),
            torch.full(shape, self.roughness),
            torch.ones(shape),
            wi @ turn.T,
            wo @ turn.T,
        )
        return torch.where(glossy[..., None], metal, plain)


def hemisphere_grid(side: int) -> tuple[Tensor, float]:
    """Directions of equal solid angle. [side * 4 side, 3] and the solid angle of each."""
    z = (torch.arange(side) + 0.5) / side
    phi = (torch.arange(4 * side) + 0.5) * (math.pi / (2 * side))
    z, phi = (x.reshape(-1) for x in torch.meshgrid(z, phi, indexing="ij"))
    sine = (1 - z * z).sqrt()
    return torch.stack([sine * phi.cos(), sine * phi.sin(), z], -1), 2 * math.pi / len(z)


def test_density_integrates_to_one_without_tilt_and_to_no_more_with() -> None:
    wi, solid_angle = hemisphere_grid(400)
    for cosine in (0.95, 0.5, 0.1):
        wo = torch.tensor([math.sqrt(1 - cosine**2), 0.0, cosine])
        matte = lobe_pdf(torch.tensor([0.0, 0.0, 0.2, 0.0]), wi, wo).sum() * solid_angle
        assert abs(float(matte) - 1) < 1e-3
        for normal in ((0.0, 0.0), (0.3, -0.2), (-0.5, 0.3)):
            total = float(lobe_pdf(torch.tensor([*normal, 0.2, 0.7]), wi, wo).sum() * solid_angle)
            assert 0.25 < total < 1.003
    # From above, what is lost are the half vectors beyond 45 degrees: alpha^2 / (1 + alpha^2) of the lobe.
    overhead, alpha = torch.tensor([0.0, 0.0, 1.0]), 0.2
    total = float(lobe_pdf(torch.tensor([0.0, 0.0, alpha, 0.7]), wi, overhead).sum() * solid_angle)
    assert abs(total - (1 - 0.7 * alpha**2 / (1 + alpha**2))) < 1e-3


def test_fit_finds_the_glossy_half_and_its_tilt() -> None:
    tilt = math.radians(15)
    parameters = fit_lobes(Analytic(roughness=0.35, tilt=tilt)).parameters
    assert parameters.shape == (8, 8, 4)
    matte, glossy = parameters[:, :4], parameters[:, 4:]
    assert float(matte[..., 3].max()) <= 0.5 < float(glossy[..., 3].min())
    assert float((glossy[..., 0] - math.sin(tilt)).abs().max()) < 0.1
    assert float(glossy[..., 1].abs().max()) < 0.1
    assert float(glossy[..., 2].max()) <= 0.2


def test_fit_stays_within_its_bounds_for_random_materials() -> None:
    torch.manual_seed(0)
    decoder: Any = Decoder(MaterialSpec(hidden_width=8, hidden_layers=2))
    decoder.M_rgb.layers[-1].weight.data.mul_(20)
    parameters = fit_lobes(NeuralMaterial(torch.randn(5, 9, 12), torch.randn(5, 9, 12), decoder)).parameters
    assert parameters.shape == (5, 9, 4) and bool(torch.isfinite(parameters).all())
    assert float(parameters[..., :2].norm(dim=-1).max()) <= MAX_TILT + 1e-5
    assert float(parameters[..., 3].max()) <= MAX_WEIGHT
    assert (1 - MAX_WEIGHT) * (1 - UNIFORM_SHARE) >= 0.2


def test_fit_cuts_the_variance_of_a_glossy_material() -> None:
    material = Analytic(roughness=0.35, tilt=math.radians(15))
    parameters = fit_lobes(material).parameters[4, 6]
    wi, solid_angle = hemisphere_grid(200)
    wo = torch.tensor([0.5, 0.0, math.sqrt(0.75)]).expand_as(wi)
    value = material.evaluate(torch.full((len(wi), 2), 0.8), wi, wo)[:, 0]

    def second_moment(density: Tensor) -> float:
        return float((value.square() / density).sum() * solid_angle)

    fitted = second_moment(lobe_pdf(parameters, wi, wo))
    cosine = second_moment(wi[:, 2] / math.pi)
    mean = float(value.sum() * solid_angle)
    assert fitted - mean**2 < 0.2 * (cosine - mean**2)


def test_lobe_is_left_out_where_the_camera_does_not_see_the_tilted_surface() -> None:
    wi, _ = hemisphere_grid(20)
    wo = torch.tensor([math.sqrt(1 - 0.1**2), 0.0, 0.1])
    tilted_away = torch.tensor([-0.5, 0.0, 0.1, 0.75])
    normal = torch.tensor([-0.5, 0.0, math.sqrt(0.75)])
    assert float(normal @ wo) < MIN_TILTED_COSINE
    without = lobe_pdf(torch.tensor([0.0, 0.0, 0.1, 0.0]), wi, wo)
    assert torch.allclose(lobe_pdf(tilted_away, wi, wo), without)
