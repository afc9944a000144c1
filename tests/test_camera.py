"""Trajectories and projection: pinned by their analytic answers."""

import math

import pytest
import torch

from gonio.camera import (
    Trajectory,
    camera_axes,
    camera_rays,
    cross_joined,
    light_intensity,
    pixel_from_point,
    plane_points,
    point_from_uv,
    random_places,
    two_phase,
    uv_from_point,
)
from gonio.errors import GonioError


def elevation(position: torch.Tensor) -> torch.Tensor:
    return torch.rad2deg(torch.asin(torch.nn.functional.normalize(position.double(), dim=-1)[..., 2]))


def test_two_phase_has_two_symmetric_phases_at_the_papers_elevation():
    trajectory = two_phase()
    assert trajectory.frames == 81
    overhead = torch.tensor([0.0, 0.0, 1.5])
    assert (trajectory.camera_position[:41] == overhead).all()
    assert (trajectory.light_position[41:] == overhead).all()
    expected = torch.full((41,), math.degrees(math.atan(1.5)), dtype=torch.float64)
    torch.testing.assert_close(elevation(trajectory.light_position[:41]), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(elevation(trajectory.camera_position[41:]), expected[:40], atol=1e-5, rtol=0)
    torch.testing.assert_close(trajectory.light_position[0], trajectory.light_position[40], atol=1e-6, rtol=0)
    torch.testing.assert_close(trajectory.camera_position[41:], trajectory.light_position[1:41])


def test_azimuth_starts_at_plus_x_and_turns_counter_clockwise():
    light = two_phase().light_position
    torch.testing.assert_close(light[0], torch.tensor([1.0, 0.0, 1.5]))
    torch.testing.assert_close(light[10], torch.tensor([0.0, 1.0, 1.5]), atol=1e-6, rtol=0)
    camera = two_phase().camera_position
    torch.testing.assert_close(camera[50], torch.tensor([0.0, 1.0, 1.5]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("frames", [5, 17, 41])
def test_subsets_are_evenly_spaced_frames_of_the_full_path(frames):
    full, some = two_phase(), two_phase(frames)
    step = 80 // (frames - 1)
    assert some.frames == frames
    assert torch.equal(some.light_position, full.light_position[::step])


@pytest.mark.parametrize("frames", [0, 1, 16, 18, 82])
def test_other_frame_counts_are_refused(frames):
    with pytest.raises(GonioError, match="17"):
        two_phase(frames)


def test_cross_joined_is_every_camera_with_every_light():
    trajectory = cross_joined()
    pairs = {
        tuple(torch.cat([c, light]).mul(1e4).round().int().tolist())
        for c, light in zip(trajectory.camera_position, trajectory.light_position, strict=True)
    }
    assert trajectory.frames == 81 == len(pairs)
    zenith_angle = 90 - elevation(trajectory.camera_position)
    assert set(zenith_angle.round().int().tolist()) == {0, 69}


def test_the_unit_sample_exactly_fills_the_frame_of_the_fixed_camera():
    trajectory = two_phase()
    corners = point_from_uv(torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    pixels = pixel_from_point(
        corners, trajectory.camera_position[0], trajectory.camera_up[0], trajectory.fov, 64, 64
    )
    # Top left of the picture is (u, v) = (0, 1).
    expected = torch.tensor([[0.0, 0.0], [64.0, 0.0], [0.0, 64.0], [64.0, 64.0]])
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frame", [0, 45, 63])
def test_projection_inverts_the_rays(frame):
    trajectory = two_phase()
    position = trajectory.camera_position[frame].double()
    up = trajectory.camera_up[frame].double()
    rays = camera_rays(position, up, trajectory.fov, 48, 64)
    points = plane_points(position, rays)
    pixels = pixel_from_point(points.reshape(-1, 3), position, up, trajectory.fov, 48, 64)
    y, x = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    expected = torch.stack([x, y], -1).reshape(-1, 2).double()
    assert (pixels - expected).abs().max() < 1e-4
    torch.testing.assert_close(point_from_uv(uv_from_point(points)), points, atol=1e-9, rtol=0)


def test_camera_axes_are_right_handed_and_upright():
    right, up, forward = camera_axes(torch.tensor([0.0, -1.0, 1.5]), torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(right, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(torch.linalg.cross(right, up), -forward)


def test_light_keeps_the_irradiance_at_the_centre_at_pi():
    position = torch.cat([two_phase().light_position, cross_joined().light_position])
    torch.testing.assert_close(
        light_intensity(position) / position.square().sum(-1), torch.full((162,), math.pi)
    )


def test_a_trajectory_survives_json():
    trajectory = two_phase(17)
    again = Trajectory.from_json(trajectory.to_json())
    torch.testing.assert_close(again.camera_position, trajectory.camera_position)
    assert again.kind == "two-phase" and again.fov == pytest.approx(trajectory.fov)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"camera_position": [[0, 0, 1]]},
        {**two_phase(5).to_json(), "light_position": [[0, 0, -1]] * 5},
        {**two_phase(5).to_json(), "fov_degrees": 400},
        {**two_phase(5).to_json(), "camera_up": [[0, 1]] * 5},
        {**two_phase(5).to_json(), "camera_position": [[float("nan"), 0, 1]] * 5},
    ],
)
def test_malformed_trajectories_are_one_line_errors(broken):
    with pytest.raises(GonioError) as error:
        Trajectory.from_json(broken)
    assert "\n" not in str(error.value)


def test_places_cover_the_hemisphere_to_78_degrees():
    places = random_places((20_000,), torch.Generator().manual_seed(0))
    direction = torch.nn.functional.normalize(places, dim=-1)
    zenith = torch.rad2deg(torch.acos(direction[:, 2]))
    assert 77 < float(zenith.max()) <= 78.01
    assert float(direction[:, :2].mean().abs()) < 0.02
    # Uniform over the projected disk: half of the places lie inside 1/sqrt(2) of its radius.
    radius = direction[:, :2].norm(dim=-1)
    limit = float(torch.deg2rad(torch.tensor(78.0)).sin()) / 2**0.5
    assert abs(float((radius < limit).float().mean()) - 0.5) < 0.02
