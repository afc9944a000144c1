"""Reference photographs: lamps that stand for an environment; pictures that agree with the path tracer."""

import math

import pytest
import torch

from gonio import media
from gonio.color import srgb_from_linear
from gonio.data.photos import Environments, Surroundings, lamps_from_environment, quick_photograph
from gonio.environment import EnvironmentMap
from gonio.errors import UsageError
from gonio.pbr import PBRMaterial, normal_from_displacement
from gonio.scan import ScanSettings, photograph


def _flat(roughness=1.0, metallic=0.0, size=16, displacement=None, color=1.0) -> PBRMaterial:
    bumps = torch.zeros(size, size) if displacement is None else displacement
    low, span = float(bumps.min()), max(float(bumps.max() - bumps.min()), 1e-9)
    return PBRMaterial(
        name="test",
        basecolor=torch.full((*bumps.shape, 3), color),
        normal=normal_from_displacement(bumps),
        roughness=torch.full_like(bumps, roughness),
        metallic=torch.full_like(bumps, metallic),
        height=((bumps - low) / span).clamp(0, 1),
        height_mean=-low / span,
        height_factor=span,
        has_height=displacement is not None,
    )


def _sky_and_sun(height=32, azimuth_u=0.75) -> EnvironmentMap:
    """A dim blue sky and a small white sun 45 degrees high; u = 0.75 is towards +x."""
    radiance = torch.zeros(height, 2 * height, 3)
    radiance[: height // 2] = torch.tensor([0.1, 0.2, 0.4])
    radiance[height // 4, int(azimuth_u * 2 * height)] = 300.0
    return EnvironmentMap(radiance=radiance)


def test_lamps_keep_the_irradiance_and_its_tint():
    environment = _sky_and_sun()
    lamps = lamps_from_environment(environment, 32)
    up = (lamps.irradiance * lamps.direction[:, 2:]).sum(0)
    torch.testing.assert_close(up, environment.irradiance(torch.tensor([0.0, 0.0, 1.0])), rtol=1e-4, atol=0)
    assert bool((lamps.direction[:, 2] > 0).all()) and len(lamps.angle) <= 32


def test_a_sun_stays_small_and_where_it_is():
    """The sun gives two thirds of the light; so do the lamps near it, and they are narrow."""
    environment = _sky_and_sun()
    lamps = lamps_from_environment(environment, 36)
    share = lamps.irradiance.sum(-1) * lamps.direction[:, 2]
    toward_sun = torch.tensor([1.0, 0.0, 1.0]) / math.sqrt(2)
    near = lamps.direction @ toward_sun > math.cos(math.radians(8))
    sky = EnvironmentMap(radiance=environment.radiance.clamp_max(1.0))
    up = torch.tensor([0.0, 0.0, 1.0])
    expected = 1 - float(sky.irradiance(up).sum() / environment.irradiance(up).sum())
    assert float(share[near].sum() / share.sum()) == pytest.approx(expected, abs=0.07)
    # A texel of a 32-row panorama is 5.6 degrees wide, and a bilinear look-up reaches its neighbours.
    assert math.degrees(float(lamps.angle[near].median())) < 6
    assert math.degrees(float(lamps.angle.max())) > 10  # the sky is wide


def test_a_lamp_is_as_wide_as_the_light_it_stands_for():
    """A round window of 30 degrees half-angle at the zenith, as one lamp."""
    radiance = torch.zeros(36, 72, 3)
    radiance[:6] = 1.0  # five degrees a row
    lamps = lamps_from_environment(EnvironmentMap(radiance=radiance), 1)
    assert math.degrees(float(lamps.angle)) == pytest.approx(30, abs=2.5)
    torch.testing.assert_close(lamps.direction[0], torch.tensor([0.0, 0.0, 1.0]), atol=1e-3, rtol=0)


def test_a_white_sample_has_radiance_one_under_any_sky():
    """Irradiance pi on a Lambertian of albedo 1; Burley's lobe at roughness 1 is within a few percent."""
    white = EnvironmentMap(radiance=torch.full((16, 32, 3), 5.0))
    picture = quick_photograph(_flat(), Surroundings(environment=white), 8)
    torch.testing.assert_close(picture.mean(), torch.tensor(1.0), atol=0.12, rtol=0)
    twice = EnvironmentMap(radiance=white.radiance * 2)
    torch.testing.assert_close(quick_photograph(_flat(), Surroundings(environment=twice), 8), picture)


def test_turning_the_environment_turns_the_shading():
    """A ridge along v is lit on the side of the sun."""
    x = torch.linspace(-0.5, 0.5, 33)[:-1].expand(32, 32)
    ridge = 0.05 * (1 - (x.abs() * 4).clamp_max(1))
    material = _flat(displacement=ridge)
    east, west = (
        quick_photograph(material, Surroundings(environment=_sky_and_sun(), degrees=degrees), 32, lamps=16)
        for degrees in (0.0, 180.0)
    )
    right, left = slice(18, 22), slice(10, 14)
    assert float(east[:, right].mean()) > 1.1 * float(east[:, left].mean())
    assert float(west[:, left].mean()) > 1.1 * float(west[:, right].mean())


def test_the_quick_photograph_agrees_with_the_path_tracer():
    """Relief, roughness 0.5, sun and sky, turned by 30 degrees: 27 dB at 32 pixels and 32 samples."""
    ramp = torch.arange(64) / 64 * 2 * math.pi
    bumps = 0.02 * (2 * ramp).sin()[None] * (2 * ramp).cos()[:, None]
    material = _flat(roughness=0.5, displacement=bumps, color=0.5)
    environment = _sky_and_sun()
    settings = ScanSettings(resolution=32, spp=32, denoise=False)
    truth = photograph(material, environment, settings=settings, rotate_degrees=30.0)

    def psnr(degrees: float) -> float:
        place = Surroundings(environment=environment, degrees=degrees)
        quick = quick_photograph(material, place, 32)
        quick = quick * (truth * quick).sum() / quick.square().sum()
        error = (srgb_from_linear(quick) - srgb_from_linear(truth)).square().mean()
        return float(-10 * torch.log10(error))

    assert psnr(30.0) > 27
    assert psnr(30.0) > psnr(-30.0) + 6  # and the sun is where Mitsuba has it


@pytest.fixture
def panoramas(tmp_path):
    for name, value in (("a.hdr", 0.5), ("deep/b.exr", 2.0), ("note.txt", None)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if value is None:
            path.write_text("no panorama")
        else:
            media.write_image(path, torch.full((4, 8, 3), value))
    return tmp_path


def test_a_draw_depends_on_its_key_alone(panoramas):
    environments = Environments(panoramas)
    assert [p.name for p in environments.paths] == ["a.hdr", "b.exr"]
    first, other, again = (environments.draw(key) for key in ("x", "y", "x"))
    assert (first.name, first.degrees) == (again.name, again.degrees)
    assert first.degrees != other.degrees
    assert {environments.draw(str(i)).name for i in range(20)} == {"a.hdr", "b.exr"}


def test_folders_without_panoramas_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="holds no .hdr or .exr"):
        Environments(tmp_path)
    with pytest.raises(UsageError, match="is no folder"):
        Environments(tmp_path / "absent")
