"""True parallax has closed forms; offsets that follow the relief correlate with it, others do not."""

import math

import pytest
import torch

from gonio.errors import GonioError
from gonio.evaluate.parallax import parallax_correlation, true_parallax, without_offsets
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial


def tilted(degrees, azimuth=0.0):
    t, a = math.radians(degrees), math.radians(azimuth)
    return torch.tensor([[math.sin(t) * math.cos(a), math.sin(t) * math.sin(a), math.cos(t)]])


@pytest.mark.parametrize("height", [-0.05, 0.0, 0.08])
def test_a_plane_is_seen_shifted_by_its_height_times_the_tangent(height):
    uv = torch.rand(20, 2)
    found = true_parallax(torch.full((8, 8), height), uv, tilted(40, 30).expand(20, 3))
    along = height * math.tan(math.radians(40))
    expected = torch.tensor([along * math.cos(math.radians(30)), along * math.sin(math.radians(30))])
    torch.testing.assert_close(found, expected.expand(20, 2), atol=1e-6, rtol=0)


def test_a_ramp_is_met_where_ray_and_ramp_cross():
    """Height 0.2 (u - 1/2) seen from +u: z = 0.2 (u + z tan - 1/2), so z = 0.2 (u - 1/2) / (1 - 0.2 tan)."""
    size = 512
    ramp = 0.2 * ((torch.arange(size) + 0.5) / size - 0.5)
    u = torch.linspace(0.3, 0.7, 9)
    found = true_parallax(
        ramp.expand(4, size), torch.stack([u, torch.full_like(u, 0.5)], -1), tilted(45).expand(9, 3)
    )
    z = 0.2 * (u - 0.5) / (1 - 0.2)
    torch.testing.assert_close(found[:, 0], z, atol=2e-4, rtol=0)
    assert float(found[:, 1].abs().max()) < 1e-6


def test_a_wall_is_seen_on_its_side_on_its_top_and_past_it():
    """From +u at 45 degrees, a wall 0.2 high from u 0.5 to 0.6."""
    surface = torch.zeros(4, 400)
    surface[:, 200:240] = 0.2
    u = torch.tensor([0.45, 0.35, 0.25])
    found = true_parallax(surface, torch.stack([u, torch.full_like(u, 0.5)], -1), tilted(45).expand(3, 3))
    torch.testing.assert_close(found[:, 0], torch.tensor([0.15, 0.2, 0.0]), atol=0.005, rtol=0)


def test_the_horizon_is_refused():
    with pytest.raises(GonioError, match="below the horizon"):
        true_parallax(torch.zeros(4, 4), torch.rand(1, 2), torch.tensor([[1.0, 0.0, 0.0]]))


def following(height, sign):
    """A material whose offset is sign times the height along wo, from its first latent."""
    spec = MaterialSpec(hidden_width=8, hidden_layers=1)
    decoder = Decoder(spec)
    texture = torch.zeros(*height.shape, spec.offset_channels)
    texture[..., 0] = height
    # relu(h + 4 wo) - relu(4 wo - h) is 2 h where wo is large, for either axis.
    with torch.no_grad():
        hidden, last = decoder.M_off.layers
        for layer in (hidden, last):
            layer.weight.zero_(), layer.bias.zero_()
        for axis in (0, 1):
            for place, (latent, view) in enumerate(((1, 4), (-1, 4), (1, -4), (-1, -4))):
                row = 4 * axis + place
                hidden.weight[row, 0], hidden.weight[row, spec.offset_channels + axis] = latent, view
                last.weight[axis, row] = sign * latent * (1 if view > 0 else -1)
    return NeuralMaterial(texture, torch.zeros(*height.shape, spec.reflectance_channels), decoder)


def test_offsets_along_the_relief_correlate_and_reversed_ones_do_the_opposite():
    place = torch.arange(64) / 64 * 2 * math.pi
    height = 0.02 * (place[:, None].sin() + (2 * place).cos())
    assert parallax_correlation(following(height, 1.0), height) > 0.9
    assert parallax_correlation(following(height, -1.0), height) < -0.9
    assert abs(parallax_correlation(following(height.roll(16, 0).T, 1.0), height)) < 0.7


def test_without_offsets_nothing_moves_and_the_original_is_left_alone():
    height = torch.rand(8, 8) * 0.1
    material = following(height, 1.0)
    flat = without_offsets(material)
    uv, wo = torch.rand(5, 2), tilted(30).expand(5, 3)
    assert bool((flat.offset(uv, wo) == 0).all()) and not bool((material.offset(uv, wo) == 0).all())
    assert parallax_correlation(flat, height) == 0.0
