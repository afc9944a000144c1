"""The plane renderer: gradients in everything, and pictures known without it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from gonio.camera import Trajectory, cross_joined, pixel_from_point, point_from_uv, two_phase
from gonio.material_video import reference_uv
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial
from gonio.reconstruct.plane import geometry_at, render_plane

SPEC = MaterialSpec(offset_channels=1, reflectance_channels=1, hidden_width=4, hidden_layers=1)


def constant(value: float, spec: MaterialSpec = SPEC) -> NeuralMaterial:
    decoder = Decoder(spec)
    for parameter in decoder.parameters():
        parameter.data.zero_()
    log = math.log1p(spec.gain * math.pi * value)
    decoder.M_rgb.layers[-1].bias.data.fill_(math.log(math.expm1(log)))
    return NeuralMaterial(torch.zeros(2, 2, 1), torch.zeros(2, 2, 1), decoder)


def picture(texture: Tensor) -> NeuralMaterial:
    """A material without parallax whose log value is about its only texture channel [H, W]."""
    material = constant(1.0)
    material.decoder.M_rgb.layers[0].weight.data[0, 0] = 1.0
    last = material.decoder.M_rgb.layers[-1]
    last.weight.data[:, 0] = 10.0
    last.bias.data.fill_(-5.0)
    return NeuralMaterial(torch.zeros(*texture.shape, 1), texture[..., None], material.decoder)


def random_material(seed: int = 0) -> NeuralMaterial:
    torch.manual_seed(seed)
    decoder = Decoder(SPEC)
    for network in (decoder.M_off, decoder.M_rgb):
        network.layers[-1].weight.data.mul_(10)
    return NeuralMaterial(torch.randn(3, 4, 1), torch.randn(4, 3, 1), decoder).double()


def one_view(camera: Tensor, light: Tensor) -> Trajectory:
    up = torch.tensor([[0.0, 1.0, 0.0]], dtype=camera.dtype)
    return Trajectory(camera_position=camera[None], camera_up=up, light_position=light[None], fov=30.0)


@pytest.mark.parametrize("samples", [1, 2])
def test_gradients_in_textures_mlps_camera_and_light(samples):
    material = random_material()
    camera = torch.tensor([0.31, -0.42, 1.37], dtype=torch.float64, requires_grad=True)
    light = torch.tensor([-0.53, 0.64, 1.11], dtype=torch.float64, requires_grad=True)

    def frames(*_: Tensor) -> Tensor:
        return render_plane(material, one_view(camera, light), 3, 4, samples_per_side=samples)

    assert float(frames().detach().abs().min()) > 0  # every pixel sees the sample
    inputs = (camera, light, *material.parameters())
    assert gradcheck(frames, inputs, eps=1e-6, atol=1e-7, rtol=1e-4)


def test_gradients_are_finite_where_pixels_miss_the_sample():
    material = random_material()
    camera = torch.tensor([1.1, 0.0, 0.6], dtype=torch.float64, requires_grad=True)
    light = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    up = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    path = Trajectory(camera_position=camera[None], camera_up=up, light_position=light[None], fov=90.0)
    frames = render_plane(material, path, 8, 8)
    assert bool((frames == 0).any()) and bool((frames > 0).any())
    frames.sum().backward()
    for tensor in (camera, light, *material.parameters()):
        assert bool(torch.isfinite(tensor.grad).all())


@pytest.mark.parametrize("frame", [0, 9, 40, 80])
def test_a_constant_value_gives_value_times_intensity_over_squared_distance(frame):
    path = cross_joined().subset([frame])
    value = 0.37
    frames = render_plane(constant(value), path, 16, 16)
    uv = reference_uv(path, 16, 16)
    inside = ((uv >= 0) & (uv <= 1)).all(-1)
    light = path.light_position[0]
    squared = (light - point_from_uv(uv)).square().sum(-1)
    expected = value * math.pi * light.square().sum() / squared
    torch.testing.assert_close(frames[inside], expected[inside][:, None].expand(-1, 3), rtol=1e-5, atol=0)
    assert bool((frames[~inside] == 0).all())


def test_a_white_lambertian_has_radiance_1_at_the_centre_under_the_zenith_light():
    spec = MaterialSpec(
        offset_channels=1, reflectance_channels=1, hidden_width=4, hidden_layers=1, cosine_included=False
    )
    frames = render_plane(constant(1 / math.pi, spec), cross_joined().subset([0, 1, 9]), 33, 33)
    centre = frames[:, 16, 16, 0]
    cosines = torch.tensor([1.0, math.cos(math.radians(69)), 1.0])
    torch.testing.assert_close(centre, cosines, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 7), (7, 0), (7, 7), (2, 5)])
def test_a_bright_texel_appears_at_its_pixel(row, column):
    texture = torch.zeros(8, 8)
    texture[row, column] = 1.0
    frame = render_plane(picture(texture), two_phase(17).subset([0]), 8, 8)[0, ..., 0]
    assert divmod(int(frame.argmax()), 8) == (row, column)


@pytest.mark.parametrize("frame", [9, 11, 13, 14])
def test_the_orbiting_camera_sees_a_texel_where_the_projection_says(frame):
    row, column = 3, 5
    texture = torch.zeros(8, 8)
    texture[row, column] = 1.0
    path = two_phase(17).subset([frame])
    rendered = render_plane(picture(texture), path, 64, 64)[0, ..., 0]
    point = point_from_uv(torch.tensor([[(column + 0.5) / 8, 1 - (row + 0.5) / 8]]))
    place = pixel_from_point(point, path.camera_position[0], path.camera_up[0], path.fov, 64, 64)[0]
    y, x = divmod(int(rendered.argmax()), 64)
    assert abs(x + 0.5 - float(place[0])) < 2 and abs(y + 0.5 - float(place[1])) < 2


def test_rectangular_textures_are_stretched_over_the_unit_sample():
    texture = torch.zeros(2, 8)
    texture[0, 7] = 1.0
    frame = render_plane(picture(texture), two_phase(5).subset([0]), 16, 16)[0, ..., 0]
    y, x = divmod(int(frame.argmax()), 16)
    assert x in (14, 15) and y in (3, 4)


def test_samples_of_a_pixel_are_decoded_before_they_are_averaged():
    material, path = random_material().float(), two_phase(5).subset([1])
    fine = render_plane(material, path, 12, 12)
    coarse = render_plane(material, path, 6, 6, samples_per_side=2)
    averaged = fine.reshape(1, 6, 2, 6, 2, 3).mean((2, 4))
    torch.testing.assert_close(coarse, averaged, rtol=1e-5, atol=1e-6)


def test_directions_and_irradiance_are_per_point():
    uv = torch.tensor([[0.5, 0.5], [1.0, 0.5]])
    at = geometry_at(uv, torch.tensor([0.0, 0.0, 2.0]), torch.tensor([0.5, 0.0, 1.0]))
    s = math.sqrt(1.25)
    torch.testing.assert_close(at.wi, torch.tensor([[0.5 / s, 0.0, 1 / s], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(at.wo[0], torch.tensor([0.0, 0.0, 1.0]))
    assert float(at.wo[1, 0]) < 0  # the camera is to the left of the right border
    torch.testing.assert_close(at.irradiance, torch.tensor([math.pi, math.pi * 1.25]))
