"""Seam error: 1 where the wrap is like the inside, large where two sides do not belong together."""

import math

import pytest
import torch

from gonio.data.procedural.sampling import sample_material
from gonio.errors import GonioError
from gonio.evaluate.tileability import seam_error


def wave(height: int, width: int, down: float, right: float, phase: float = 0.0) -> torch.Tensor:
    y = torch.arange(height)[:, None] / height * down
    x = torch.arange(width)[None, :] / width * right
    return (0.5 + 0.4 * torch.sin(2 * math.pi * (y + x) + phase))[None, ..., None].expand(2, -1, -1, 3)


@pytest.mark.parametrize(("down", "right"), [(2, 3), (5, 1)])
def test_a_periodic_wave_has_no_seam(down, right):
    assert seam_error(wave(60, 80, down, right)) == pytest.approx(
        {"seam_error": 1, "seam_error_u": 1, "seam_error_v": 1}, abs=0.02
    )


@pytest.mark.parametrize("phase", [0.0, 0.7, math.pi / 2])
def test_nor_has_one_along_an_axis_wherever_the_wrap_falls(phase):
    result = seam_error(wave(40, 80, 0, 3, phase))
    assert result["seam_error_u"] < 1.05
    assert result["seam_error_v"] == pytest.approx(1)


def test_a_ramp_steps_over_its_whole_range_at_the_wrap():
    ramp = torch.linspace(0, 1, 101)[None, None, :, None].expand(3, 50, -1, 3)
    result = seam_error(ramp)
    floor = 0.5 / 255
    assert result["seam_error_u"] == pytest.approx((1 + floor) / (0.01 + floor), rel=1e-3)
    assert result["seam_error_v"] == pytest.approx(1)
    assert result["seam_error"] == result["seam_error_u"]
    turned = seam_error(ramp.transpose(1, 2))
    assert turned["seam_error_v"] == pytest.approx(result["seam_error_u"], rel=1e-5)


def test_white_noise_has_no_seam_and_a_constant_neither():
    noise = torch.rand(4, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    assert seam_error(noise)["seam_error"] == pytest.approx(1, abs=0.06)
    assert seam_error(torch.full((1, 8, 8, 3), 0.3))["seam_error"] == 1
    almost_flat = torch.full((1, 8, 8, 3), 0.3)
    almost_flat[:, :, 0] += 1e-5
    assert seam_error(almost_flat)["seam_error"] < 1.01


@pytest.mark.parametrize("family", ["brick", "terrazzo", "planks", "marble", "knit"])
def test_materials_that_tile_are_told_from_their_crops(family):
    whole = sample_material(7, family=family, resolution=192).basecolor
    for offset in (0, 53):
        assert seam_error(whole.roll((offset, offset), (0, 1)))["seam_error"] < 1.5
    assert seam_error(whole[17:140, 29:151])["seam_error"] > 1.6


def test_pictures_that_cannot_be_measured_are_refused():
    with pytest.raises(GonioError, match="at least 3x3"):
        seam_error(torch.zeros(1, 2, 8, 3))
    with pytest.raises(GonioError, match="at least 3x3"):
        seam_error(torch.zeros(8, 8))
    with pytest.raises(GonioError, match="NaN"):
        seam_error(torch.full((1, 8, 8, 3), torch.nan))
