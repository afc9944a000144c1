"""Lamps: what the command line says of them, how bright they are when it does not say, how they turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gonio.errors import UsageError
from gonio.mitsuba_setup import use_mitsuba
from gonio.render.lights import Light, PointLight, SphereLight, point_light, sphere_light, turned_light
from gonio.render.shapes import plane
from gonio.render.stage import Setting, View, perspective
from gonio.render.surfaces import LambertianSurface
from gonio.render.wavefront import Quality, render

use_mitsuba()


def test_a_point_is_a_place_and_an_intensity() -> None:
    assert point_light("1,-2,3,50") == PointLight(position=(1, -2, 3), intensity=(50, 50, 50))
    assert point_light(" -1, 0, 2.5, 3,2,1 ") == PointLight(position=(-1, 0, 2.5), intensity=(3, 2, 1))
    assert point_light("0,0,1,0,0,4").intensity == (0, 0, 4)  # one channel may be dark


def test_a_sphere_is_a_place_a_radius_and_a_radiance() -> None:
    assert sphere_light("1,-2,3,.5,7") == SphereLight(position=(1, -2, 3), radius=0.5, radiance=(7, 7, 7))
    assert sphere_light("1,2,3,.5,7,8,9").radiance == (7, 8, 9)


@pytest.mark.parametrize("lamp", [point_light("0,0,3"), sphere_light("0,0,3,0.5")])
def test_a_lamp_of_unstated_power_gives_white_paper_at_the_origin_a_radiance_of_1(lamp: Light) -> None:
    setting = Setting(shape=plane(), environment=None, lights=(lamp,), floor_albedo=None)
    view = View(target=(0.0, 0.0, 0.0), elevation=45.0, distance=1.5, fov=1.0)
    paper = LambertianSurface(torch.ones(3))
    sensor = perspective(view, 4, 4)
    seen = render(setting.world(paper), sensor, paper, height=4, width=4, quality=Quality(spp=64))
    assert float(seen.mean()) == pytest.approx(1.0, abs=5e-3)


def complaint(read: Callable[[str], Any], text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2", "--light 1,2: give numbers X,Y,Z[,INTENSITY] or X,Y,Z,R,G,B"),
        ("1,2,3,4,5", "--light 1,2,3,4,5: give numbers"),
        ("1,2,3,4,5,6,7", "give numbers"),
        ("1;2;3", "--light 1;2;3: give numbers"),
        ("a,b,c", "--light a,b,c: give numbers"),
        ("", "--light : give numbers"),
        ("1,nan,3,5", "--light 1,nan,3,5: light position 1,nan,3: allowed are -1e+06 to 1e+06"),
        ("1,2,inf", "light position 1,2,inf"),
        ("1,2,3,inf", "--light 1,2,3,inf: light intensity inf,inf,inf: give positive numbers"),
        ("1,2,3,nan", "light intensity nan,nan,nan: give positive numbers"),
        ("1,2,3,0", "light intensity 0,0,0: give positive numbers"),
        ("1,2,3,4,-1,4", "light intensity 4,-1,4: give positive numbers"),
        ("0,0,0", "--light 0,0,0: the origin lies in it; add an INTENSITY"),
    ],
)
def test_what_is_wrong_with_a_point_is_one_line(text: str, message: str) -> None:
    found = complaint(point_light, text)
    assert message in found and "\n" not in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3", "--sphere-light 1,2,3: give numbers X,Y,Z,RADIUS[,RADIANCE] or X,Y,Z,RADIUS,R,G,B"),
        ("1,2,3,4,5,6", "give numbers"),
        ("1,2,3,0", "--sphere-light 1,2,3,0: light radius 0.0: give a positive number"),
        ("1,2,3,-1,5", "light radius -1.0: give a positive number"),
        ("1,2,3,nan,5", "light radius nan: give a positive number"),
        ("1,2,3,inf,5", "light radius inf: give a positive number"),
        ("inf,2,3,1", "light position inf,2,3"),
        ("1,2,3,1,-5", "--sphere-light 1,2,3,1,-5: light radiance -5,-5,-5: give positive numbers"),
        ("0,0,1,2", "--sphere-light 0,0,1,2: the origin lies in it; add a RADIANCE"),
    ],
)
def test_what_is_wrong_with_a_sphere_is_one_line(text: str, message: str) -> None:
    found = complaint(sphere_light, text)
    assert message in found and "\n" not in found


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": (0.0, math.nan, 1.0)},
        {"intensity": (1.0, math.inf, 1.0)},
        {"intensity": (1.0, -1.0, 1.0)},
    ],
)
def test_lamps_made_in_python_are_checked_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="light"):
        PointLight(**({"position": (0.0, 0.0, 1.0), "intensity": (1.0, 1.0, 1.0)} | wrong))


def test_lamps_turn_counter_clockwise_seen_from_above_and_keep_the_rest() -> None:
    for lamp in (point_light("2,0,3,5"), sphere_light("2,0,3,.5,5")):
        turned = turned_light(lamp, 90.0)
        assert turned.position == pytest.approx((0.0, 2.0, 3.0))
        assert turned_light(turned, -90.0).position == pytest.approx(lamp.position)
        assert type(turned) is type(lamp) and vars(turned) | {"position": lamp.position} == vars(lamp)
