"""The wavefront integrator against closed forms, against Mitsuba's `path`, and against the plane renderer."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mitsuba as mi
import pytest
import torch
from torch import Tensor

from gonio.camera import light_intensity, two_phase
from gonio.environment import EnvironmentMap
from gonio.errors import GonioError, UsageError
from gonio.mitsuba_setup import use_mitsuba
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial
from gonio.reconstruct.plane import render_plane
from gonio.render.lights import PointLight, SphereLight
from gonio.render.shapes import Shape, load_shape, plane
from gonio.render.stage import (
    RenderSettings,
    Setting,
    View,
    check_output,
    perspective,
    render_still,
    render_to_file,
    render_turntable,
    save_still,
)
from gonio.render.surfaces import LambertianSurface, NeuralSurface, Surface
from gonio.render.wavefront import Quality, render

use_mitsuba()
WHITE_ROOM = EnvironmentMap(radiance=torch.ones(8, 16, 3))
ABOVE = View(target=(0.0, 0.0, 0.0), elevation=90.0, distance=1.5, fov=36.8699)
FRONT = View(target=(0.0, 0.0, 1.0), elevation=20.0, distance=6.0, fov=30.0)


def picture(setting: Setting, view: View, surface: Surface, size: int, **quality: Any) -> Tensor:
    wave = quality.pop("wave", None)
    world = setting.world(surface)
    sensor = perspective(view, size, size)
    return render(world, sensor, surface, height=size, width=size, quality=Quality(**quality), wave=wave)


def small_material(seed: int = 0, texels: int = 8) -> NeuralMaterial:
    """A smooth, coloured, anisotropic material with parallax."""
    torch.manual_seed(seed)
    decoder = Decoder(MaterialSpec(hidden_width=16, hidden_layers=2, max_offset=0.04, gain=10.0))
    for layer in (decoder.M_rgb.layers[-1], decoder.M_off.layers[-1]):
        layer.weight.data.mul_(8)
    decoder.M_rgb.layers[-1].bias.data.fill_(1.0)
    return NeuralMaterial(torch.randn(texels, texels, 12), torch.randn(texels, texels, 12), decoder)


def z_scores(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Per pixel and channel, the difference of two means over its standard error."""
    a, b = torch.stack(ours), torch.stack(theirs)
    error = (a.var(0) / len(ours) + b.var(0) / len(theirs)).sqrt()
    return (a.mean(0) - b.mean(0)) / error.clamp_min(1e-6)


def assert_same_mean(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """With 12 runs each, z follows Student's t with about 22 degrees of freedom: variance 1.1."""
    z = z_scores(ours, theirs)
    assert float(z.square().mean()) < 1.35
    assert float(z.abs().max()) < 7.0
    # A small error everywhere shows in the sum.
    total_ours = torch.stack([p.mean() for p in ours])
    total_theirs = torch.stack([p.mean() for p in theirs])
    error = (total_ours.var() / len(ours) + total_theirs.var() / len(theirs)).sqrt()
    assert abs(float(total_ours.mean() - total_theirs.mean())) < 4 * float(error) + 1e-5


# ------------------------------------------------------------------------ closed forms


def test_white_furnace() -> None:
    """A white convex object in a white room cannot be told from the room."""
    setting = Setting(shape=load_shape("sphere"), environment=WHITE_ROOM, floor_albedo=None)
    seen = picture(setting, FRONT, LambertianSurface(torch.ones(3)), 16, spp=512)
    assert float(seen.mean()) == pytest.approx(1.0, abs=2e-3)
    assert float((seen - 1).abs().max()) < 0.15


def test_grey_furnace_by_depth() -> None:
    """Albedo a on a plane: direct light alone is a, and nothing else can come."""
    setting = Setting(shape=plane(), environment=WHITE_ROOM, floor_albedo=None)
    for depth in (2, 4):
        seen = picture(
            setting, ABOVE, LambertianSurface(torch.tensor([0.2, 0.5, 0.8])), 8, spp=1024, max_depth=depth
        )
        assert torch.allclose(seen.mean((0, 1)), torch.tensor([0.2, 0.5, 0.8]), atol=4e-3)


def test_point_and_sphere_light_agree_with_irradiance() -> None:
    """Irradiance pi on white paper makes radiance 1; a ball of radiance (d/r)^2 gives pi at its foot."""
    surface = LambertianSurface(torch.ones(3))
    lights = (
        PointLight(position=(0.0, 0.0, 2.0), intensity=(4 * math.pi,) * 3),
        SphereLight(position=(0.0, 0.0, 2.0), radius=0.05, radiance=((2.0 / 0.05) ** 2,) * 3),
    )
    for light in lights:
        setting = Setting(shape=plane(), environment=None, lights=(light,), floor_albedo=None)
        view = replace(ABOVE, fov=2.0)
        seen = picture(setting, view, surface, 8, spp=64)
        assert float(seen.mean()) == pytest.approx(1.0, abs=5e-3)


def test_agrees_with_the_plane_renderer() -> None:
    material = small_material()
    position = (0.6, -0.4, 1.3)
    light = torch.tensor(position)
    intensity = float(light_intensity(light))
    setting = Setting(
        shape=plane(),
        environment=None,
        lights=(PointLight(position=position, intensity=(intensity,) * 3),),
        floor_albedo=None,
    )
    seen = picture(setting, ABOVE, NeuralSurface(material), 48, spp=64)
    trajectory = replace(two_phase(5).subset([0]), light_position=light[None])
    with torch.no_grad():
        expected = render_plane(material, trajectory, 48, 48, samples_per_side=6)[0]
    error = (seen - expected).square().mean()
    assert float(-10 * torch.log10(error / expected.square().max())) > 40
    assert float(expected.std()) > 0.02  # there is something to see


# ------------------------------------------------------------------------ Mitsuba's path integrator

RUNS = 12


@pytest.mark.parametrize("shape", ["shaderball", "cloth"])
def test_agrees_with_mitsubas_path_and_diffuse(shape: str) -> None:
    generator = torch.Generator().manual_seed(3)
    room = EnvironmentMap(radiance=torch.rand(8, 16, 3, generator=generator) ** 3 * 4)
    setting = Setting(shape=load_shape(shape), environment=room, rotate=30.0, floor_albedo=0.5)
    reflectance = {"type": "rgb", "value": [0.7, 0.5, 0.3]}
    bsdf = {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": reflectance}}
    surface = LambertianSurface(torch.tensor([0.7, 0.5, 0.3]))
    compare(setting, FRONT, surface, bsdf)


def test_agrees_with_mitsubas_path_and_our_plugin() -> None:
    from gonio.render import register
    from gonio.render.bsdf_plugin import share

    register()
    material = small_material(seed=1)
    generator = torch.Generator().manual_seed(4)
    room = EnvironmentMap(radiance=torch.rand(8, 16, 3, generator=generator) ** 3 * 4)
    lamp = SphereLight(position=(1.5, -1.5, 3.0), radius=0.4, radiance=(6.0, 5.0, 4.0))
    setting = Setting(
        shape=load_shape("sphere", uv_scale=0.5), environment=room, lights=(lamp,), floor_albedo=0.5
    )
    bsdf = {"type": "twosided", "bsdf": {"type": "neumip", "material": share(material)}}
    compare(setting, FRONT, NeuralSurface(material), bsdf)


def compare(setting: Setting, view: View, surface: Surface, bsdf: dict[str, Any], size: int = 20) -> None:
    world, sensor = setting.world(surface), perspective(view, size, size)
    reference, _ = setting.mitsuba_scene(bsdf)
    integrator = mi.load_dict({"type": "path", "max_depth": 4, "rr_depth": 3})
    ours, theirs = [], []
    for seed in range(RUNS):
        quality = Quality(spp=64, max_depth=4, seed=seed)
        ours.append(render(world, sensor, surface, height=size, width=size, quality=quality))
        picture = mi.render(reference, sensor=sensor, integrator=integrator, spp=64, seed=seed)
        theirs.append(picture.torch().cpu().clone())
    assert_same_mean(ours, theirs)


# ------------------------------------------------------------------------ frames


class FrameProbe:
    """Not a reflector: its value under a light is the light's local direction, shifted to be positive."""

    lobes = torch.tensor([0.0, 0.0, 1.0, 0.0]).reshape(1, 1, 4)

    def evaluate(
        self, uv: Tensor, wo: Tensor, wi_light: Tensor, lit: Tensor, wi_sampled: Tensor
    ) -> tuple[Tensor, Tensor]:
        return torch.where(lit[:, None], wi_light + 1, 0 * wi_light), torch.zeros_like(wi_light)


@pytest.mark.parametrize("mirror_u", [False, True])
@pytest.mark.parametrize("mirror_v", [False, True])
@pytest.mark.parametrize("turn", [0.0, 90.0])
def test_frames_follow_uv_also_when_mirrored(mirror_u: bool, mirror_v: bool, turn: float) -> None:
    """s runs along +u and t along +v, whatever way round the chart lies on the face."""
    flat = plane()
    u, v = flat.uv.unbind(-1)
    uv = torch.stack([1 - u if mirror_u else u, 1 - v if mirror_v else v], -1)
    shape = replace(flat, uv=uv).rotated(turn)
    light = torch.tensor([1.2, 0.7, 1.0])
    setting = Setting(
        shape=shape,
        environment=None,
        lights=(PointLight(position=(12.0, 7.0, 10.0), intensity=(float(light.square().sum()) * 100,) * 3),),
        floor_albedo=None,
    )
    seen = picture(setting, replace(ABOVE, fov=1.0), FrameProbe(), 4, spp=4, max_depth=2).mean((0, 1)) - 1
    toward = torch.nn.functional.normalize(light, dim=0)
    along_u = torch.tensor([math.cos(math.radians(turn)), math.sin(math.radians(turn)), 0.0])
    along_v = torch.tensor([-math.sin(math.radians(turn)), math.cos(math.radians(turn)), 0.0])
    expected = torch.stack(
        [toward @ along_u * (-1 if mirror_u else 1), toward @ along_v * (-1 if mirror_v else 1), toward[2]]
    )
    assert torch.allclose(seen, expected, atol=2e-3)


def test_poles_have_finite_frames() -> None:
    setting = Setting(shape=load_shape("sphere"), environment=WHITE_ROOM, floor_albedo=None)
    view = View(target=(0.0, 0.0, 2.0), elevation=90.0, distance=2.0, fov=1.0)
    seen = picture(setting, view, NeuralSurface(small_material()), 16, spp=16)
    assert bool(torch.isfinite(seen).all())
    assert float(seen.amin()) > 0


def test_picture_shows_the_texture_the_right_way_up() -> None:
    """Red where v > 1/2, green where u > 1/2: top right of the picture is yellow, bottom left black."""
    albedo = torch.zeros(64, 64, 3)
    albedo[:32, :, 0] = 1.0
    albedo[:, 32:, 1] = 1.0
    setting = Setting(shape=plane(), environment=WHITE_ROOM, floor_albedo=None)
    seen = picture(setting, replace(ABOVE, fov=30.0), LambertianSurface(albedo), 8, spp=64).round()
    assert seen[1, 6].tolist() == [1, 1, 0]
    assert seen[1, 1].tolist() == [1, 0, 0]
    assert seen[6, 6].tolist() == [0, 1, 0]
    assert seen[6, 1].tolist() == [0, 0, 0]


# ------------------------------------------------------------------------ sampling


def test_seed_decides_and_waves_do_not() -> None:
    setting = Setting(shape=load_shape("sphere"), environment=WHITE_ROOM)
    surface = NeuralSurface(small_material())
    a = picture(setting, FRONT, surface, 16, spp=8, seed=5)
    b = picture(setting, FRONT, surface, 16, spp=8, seed=5)
    waves = picture(setting, FRONT, surface, 16, spp=8, seed=5, wave=600)
    other = picture(setting, FRONT, surface, 16, spp=8, seed=6)
    assert torch.equal(a, b)
    assert torch.allclose(a, waves, atol=1e-5)
    assert not torch.allclose(a, other, atol=1e-2)


def test_scalar_variant_gives_the_same_picture(tmp_path: Path) -> None:
    """The fall-back for machines without LLVM: the same kernels, path by path, and the same numbers."""
    program = """
import sys, torch
torch.set_num_threads(1)
import mitsuba as mi
mi.set_variant(sys.argv[1])
from gonio.render.stage import RenderSettings, render_still
from gonio.render.surfaces import NeuralSurface
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial
torch.manual_seed(0)
material = NeuralMaterial(torch.randn(4, 4, 12), torch.randn(4, 4, 12),
                          Decoder(MaterialSpec(hidden_width=8, hidden_layers=1, max_offset=0.02)))
settings = RenderSettings(shape="plane", resolution=8, spp=4, footprint_samples=2, denoise=True)
torch.save(render_still(material, settings), sys.argv[2])
"""
    pictures = []
    for variant in ("scalar_rgb", use_mitsuba()):
        path = tmp_path / f"{variant}.pt"
        subprocess.run([sys.executable, "-c", program, variant, path], check=True)
        pictures.append(torch.load(path))
    assert torch.allclose(pictures[0], pictures[1], atol=5e-3)
    assert float(pictures[0].mean()) > 0.05


def test_footprint_samples_keep_the_mean_and_calm_the_texture() -> None:
    """A texture much finer than a pixel: the footprint's mean is the pixel's, with less noise."""
    generator = torch.Generator().manual_seed(0)
    albedo = (torch.rand(64, 64, 1, generator=generator) > 0.5).float().expand(64, 64, 3)
    shape: Shape = replace(plane(), uv=plane().uv * 4)
    light = PointLight(position=(0.5, 0.5, 3.0), intensity=(30.0,) * 3)
    setting = Setting(shape=shape, environment=None, lights=(light,), floor_albedo=None)
    view = replace(ABOVE, fov=30.0)
    runs = {
        k: [
            picture(
                setting, view, LambertianSurface(albedo), 8, spp=2, seed=s, footprint_samples=k, max_depth=2
            )
            for s in range(16)
        ]
        for k in (1, 8)
    }
    z = z_scores(runs[1], runs[8])
    assert float(z[..., 0].square().mean()) < 1.6
    assert float(torch.stack(runs[8]).var(0).mean()) < 0.4 * float(torch.stack(runs[1]).var(0).mean())


# ------------------------------------------------------------------------ pictures and files


def quick(**changes: Any) -> RenderSettings:
    return RenderSettings(**({"shape": "sphere", "resolution": 16, "spp": 4} | changes))


@pytest.mark.parametrize("what", ["object", "camera", "light"])
def test_turntable_starts_with_the_still_and_turns(what: Any) -> None:
    albedo = torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(0))
    surface = LambertianSurface(albedo)
    still = render_still(surface, quick())
    turning = render_turntable(surface, quick(), frames=3, what=what)
    assert turning.shape == (3, 16, 16, 3)
    assert torch.allclose(turning[0], still, atol=1e-5)
    assert float((turning[1] - turning[0]).abs().mean()) > 0.01


def test_turning_the_object_against_the_camera_is_turning_the_camera() -> None:
    """Under light that does not change with azimuth both give the same pictures."""
    albedo = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0))
    surface = LambertianSurface(albedo)
    lamp = (PointLight(position=(0.0, 0.0, 8.0), intensity=(300.0,) * 3),)
    settings = quick(lights=lamp, spp=64, floor=False, uv_scale=0.25)
    by_object = render_turntable(surface, settings, frames=4, what="object")
    by_camera = render_turntable(surface, settings, frames=4, what="camera")
    assert torch.allclose(by_object[1], by_camera[3], atol=0.15)
    assert float((by_object[1] - by_camera[3]).abs().mean()) < 0.3 * float(
        (by_object[1] - by_camera[1]).abs().mean()
    )


def test_files_by_suffix(tmp_path: Path) -> None:
    from gonio.media import read_color, read_video

    surface = LambertianSurface(torch.full((3,), 0.5))
    still = render_still(surface, quick())
    save_still(tmp_path / "a.exr", still, exposure=3.0)
    assert torch.allclose(read_color(tmp_path / "a.exr"), still, rtol=2e-3, atol=1e-4)
    save_still(tmp_path / "a.png", still, exposure=-1.0)
    assert torch.allclose(read_color(tmp_path / "a.png"), (still * 0.5).clamp(0, 1), atol=0.01)
    render_to_file(surface, quick(), tmp_path / "a.mp4", turntable=True, frames=3)
    assert read_video(tmp_path / "a.mp4").shape == (3, 16, 16, 3)


def test_denoised_picture_is_smoother() -> None:
    surface = LambertianSurface(torch.full((3,), 0.5))
    noisy, calm = (render_still(surface, quick(denoise=d, resolution=32, spp=1)) for d in (False, True))
    assert float(calm.diff(dim=1).abs().mean()) < 0.5 * float(noisy.diff(dim=1).abs().mean())
    assert float(calm.mean()) == pytest.approx(float(noisy.mean()), rel=0.1)


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a"])
def test_a_still_needs_a_picture_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="still"):
        check_output(tmp_path / name, moving=False)


@pytest.mark.parametrize(
    "wrong",
    [{"spp": 0}, {"resolution": 4}, {"resolution": 10**6}, {"max_depth": 1}, {"aspect": float("nan")},
     {"seed": -1}, {"exposure": float("inf")}],
)  # fmt: skip
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--"):
        quick(**wrong)


def test_missing_environment_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GonioError, match="missing.hdr") as caught:
        render_still(LambertianSurface(torch.ones(3)), quick(environment=tmp_path / "missing.hdr"))
    assert "\n" not in str(caught.value)
