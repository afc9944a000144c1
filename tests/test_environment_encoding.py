"""What a video model is told of an environment: values and directions with known answers."""

import math

import pytest
import torch

from gonio.color import linear_from_srgb
from gonio.environment import EnvironmentMap
from gonio.environment_encoding import camera_radiance, env_dir, env_ldr, env_log
from gonio.errors import UsageError

# A camera that looks along the world's +y, +z up: right is +x, backward is -y.
LEVEL = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def test_black_is_0_and_the_brightest_of_each_encoding_is_1():
    assert env_ldr(torch.tensor([0.0, 16.0, 1e6])).tolist() == pytest.approx([0, 1, 1], abs=1e-6)
    assert env_log(torch.tensor([0.0, 1e4, math.inf])).tolist() == pytest.approx([0, 1, 1], abs=1e-6)


def test_values_between_follow_their_formulae():
    x = torch.tensor([0.18, 1.0, 7.0])
    reinhard = x * (1 + x / 256) / (1 + x)
    torch.testing.assert_close(linear_from_srgb(env_ldr(x)), reinhard)
    torch.testing.assert_close(linear_from_srgb(env_log(x)), (1 + x).log() / math.log(10001))


def test_the_centre_is_behind_the_camera_and_its_right_at_three_quarters():
    size = 512
    found = env_dir(size, 2 * size)
    middle = size // 2
    for column, axis in (
        (size, (0, 0, 1)),
        (3 * size // 2, (1, 0, 0)),
        (size // 2, (-1, 0, 0)),
        (0, (0, 0, -1)),
    ):
        torch.testing.assert_close(found[middle, column], torch.tensor(axis).float(), atol=0.01, rtol=0)
    torch.testing.assert_close(found[0, 0], torch.tensor([0.0, 1.0, 0.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(size, 2 * size))


def test_light_from_the_cameras_right_is_where_the_right_is():
    radiance = torch.zeros(64, 128, 3)
    radiance[30:34, 94:98] = 5.0  # of the world's +x
    told = camera_radiance(EnvironmentMap(radiance=radiance), 64, 128, camera_to_world=LEVEL)
    lit = env_dir(64, 128)[told[..., 0] > 2.5]
    torch.testing.assert_close(lit.mean(0), torch.tensor([1.0, 0.0, 0.0]), atol=0.02, rtol=0)
    # A camera turned to face +x has that light straight ahead, at the panorama's edges.
    facing = torch.tensor([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    told = camera_radiance(EnvironmentMap(radiance=radiance), 64, 128, camera_to_world=facing)
    assert float(told[31, [0, -1]].min()) > 2.5 and float(told[31, 32:96].max()) == 0


def test_the_sky_stays_above_a_level_camera():
    radiance = torch.zeros(32, 64, 3)
    radiance[:16] = 1.0
    told = camera_radiance(EnvironmentMap(radiance=radiance), 32, 64, camera_to_world=LEVEL)
    torch.testing.assert_close(told, radiance)


@pytest.mark.parametrize("turn", [torch.eye(4), 2 * torch.eye(3), torch.zeros(3, 3)])
def test_what_is_no_rotation_is_refused(turn):
    environment = EnvironmentMap(radiance=torch.ones(4, 8, 3))
    with pytest.raises(UsageError, match="no rotation"):
        camera_radiance(environment, 4, 8, camera_to_world=turn)
