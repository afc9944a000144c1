"""The transformer as the flow sees it."""

import pytest
import torch

from gonio.errors import GonioError
from gonio.models.denoiser import Denoiser
from gonio.models.flow import noised, velocity_from_residual, velocity_target
from gonio.models.spec import SPECS


def test_the_residual_of_the_truth_gives_its_velocity():
    """output = (x_0 - linear guess) n / (sigma d), by the formula of the docstring."""
    draw = torch.Generator().manual_seed(0)
    d = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    latents = torch.randn(5, 3, 4, 4, generator=draw, dtype=torch.float64) * d.view(1, 3, 1, 1)
    noise = torch.randn(5, 3, 4, 4, generator=draw, dtype=torch.float64)
    sigma = torch.tensor([0.05, 0.3, 0.6, 0.95, 1.0], dtype=torch.float64)
    x, s = noised(latents, noise, sigma), sigma.view(-1, 1, 1, 1)
    width = d.view(1, 3, 1, 1)
    n = (((1 - s) * width) ** 2 + s**2).sqrt()
    output = (latents - (1 - s) * width**2 / n**2 * x) * n / (s * width)
    found = velocity_from_residual(output, x, sigma, d)
    torch.testing.assert_close(found, velocity_target(latents, noise), atol=1e-9, rtol=1e-9)


def test_the_residual_has_unit_deviation_where_latents_have_theirs():
    draw = torch.Generator().manual_seed(1)
    d, sigma = torch.tensor([0.4, 2.0]), torch.full((4000,), 0.55)
    latents = torch.randn(4000, 2, generator=draw) * d
    noise = torch.randn(4000, 2, generator=draw)
    x = noised(latents, noise, sigma)
    zero = velocity_from_residual(torch.zeros_like(x), x, sigma, d)
    one = velocity_from_residual(torch.ones_like(x), x, sigma, d)
    residual = (velocity_target(latents, noise) - zero) / (one - zero)
    torch.testing.assert_close(residual.std(0), torch.ones(2), atol=0.04, rtol=0)
    # The linear guess is the best one: what is left does not depend on x.
    assert (
        float(
            torch.stack([torch.corrcoef(torch.stack([residual[:, c], x[:, c]]))[0, 1] for c in (0, 1)])
            .abs()
            .max()
        )
        < 0.04
    )


@pytest.mark.parametrize("name", ["mini-t2v", "wan2.1-t2v-1.3b"])
def test_only_a_preconditioned_model_is_read_so(name):
    spec = SPECS[name]
    z = spec.latent_channels

    class Zero(torch.nn.Module):
        def forward(self, hidden_states, **_):
            return (torch.zeros(len(hidden_states), z, *hidden_states.shape[2:]),)

    seen = torch.randn(1, z + spec.position_channels, 1, 4, 4)
    denoiser = Denoiser(spec, Zero(), torch.ones(z))
    found = denoiser(seen, torch.tensor([300.0]), torch.zeros(1, 2, 8))
    assert found.shape == (1, z, 1, 4, 4) and bool(found.any()) == spec.preconditioned


def test_a_preconditioned_model_needs_its_latents_deviations():
    with pytest.raises(GonioError, match="mini-t2v: preconditioned, but"):
        Denoiser(SPECS["mini-t2v"], torch.nn.Identity())
