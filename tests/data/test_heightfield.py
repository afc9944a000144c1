"""The height-field renderer: closed-form radiances, orientation, parallax, shadows, and Mitsuba itself."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from gonio.data.heightfield import HeightFieldBatch, parallax, shade
from gonio.errors import GonioError
from gonio.pbr import PBRMaterial, normal_from_displacement

SIZE = 64


def _batch(displacement: Tensor, *, normal: Tensor | None = None, **values: float) -> HeightFieldBatch:
    """A white dielectric of the given displacement [B, H, W]; `values` overrides its constants."""
    constant = {"basecolor": 1.0, "roughness": 1.0, "metallic": 0.0} | values
    if normal is None:
        normal = torch.stack([normal_from_displacement(d) for d in displacement])
    return HeightFieldBatch(
        basecolor=torch.full((*displacement.shape, 3), constant["basecolor"]),
        normal=normal,
        roughness=torch.full_like(displacement, constant["roughness"]),
        metallic=torch.full_like(displacement, constant["metallic"]),
        displacement=displacement,
    )


def _at(*xyz: float) -> Tensor:
    return torch.tensor(xyz).reshape(1, 1, 3)


def _pillar(height: float) -> Tensor:
    """A square block of side 1/4 in the middle of a flat tile. [1, SIZE, SIZE]"""
    displacement = torch.zeros(1, SIZE, SIZE)
    displacement[:, 3 * SIZE // 8 : 5 * SIZE // 8, 3 * SIZE // 8 : 5 * SIZE // 8] = height
    return displacement


def test_white_sample_under_zenith_light_has_radiance_one() -> None:
    """Burley's diffuse at normal incidence is Lambert's, plus 4 % specular spread over alpha = 1."""
    batch = _batch(torch.zeros(1, 8, 8))
    radiance = shade(batch, torch.full((1, 1, 2), 0.5), _at(0.0, 0.0, 1.5), _at(0.0, 0.0, 1.5))
    specular = math.pi * 0.04 / (4 * math.pi)  # E * F D G / 4 at alpha 1
    torch.testing.assert_close(radiance, torch.full((1, 1, 3), 1.0 + specular), rtol=2e-3, atol=0.0)


def test_irradiance_at_the_centre_does_not_depend_on_the_lights_distance() -> None:
    batch, uv = _batch(torch.zeros(1, 8, 8)), torch.full((1, 1, 2), 0.5)
    near = shade(batch, uv, _at(0.3, 0.0, 1.5), _at(0.0, 0.2, 1.0))
    far = shade(batch, uv, _at(0.3, 0.0, 1.5), _at(0.0, 0.6, 3.0))
    torch.testing.assert_close(near, far, rtol=1e-3, atol=0.0)


def test_a_raised_plane_is_seen_shifted_towards_the_camera_by_its_height() -> None:
    """The ray from the camera c through p is at height h at p + h (c - p) / c_z."""
    uv, camera, height = torch.rand(1, 50, 2), torch.tensor([0.7, -0.3, 1.2]), 0.04
    found = parallax(_batch(torch.full((1, 8, 8), height)), uv, camera.reshape(1, 1, 3))
    torch.testing.assert_close(found, height * (camera[:2] - (uv - 0.5)) / camera[2], atol=1e-6, rtol=0.0)


def test_parallax_stops_at_the_top_at_the_side_and_at_the_ground() -> None:
    """A pillar 0.1 high from u 3/8 to 5/8, seen from the far right at a slope of about 45 degrees."""
    batch, camera = _batch(_pillar(0.1)), _at(1.5, 0.0, 1.5)
    uv = torch.tensor([[[0.20, 0.5], [0.45, 0.5], [0.60, 0.5], [0.70, 0.5]]])
    ground_before, top, side, ground_past = parallax(batch, uv, camera)[0]
    torch.testing.assert_close(ground_before, torch.zeros(2), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(top, torch.tensor([0.1 * (1.5 + 0.05) / 1.5, 0.0]), atol=0.005, rtol=0.0)
    torch.testing.assert_close(
        side, torch.tensor([0.025, 0.0]), atol=0.02, rtol=0.0
    )  # Its edge is a texel wide.
    torch.testing.assert_close(ground_past, torch.zeros(2), atol=1e-4, rtol=0.0)


def test_normals_lean_the_way_the_maps_say() -> None:
    """A normal leaning to +u (+v) is brighter under a light on the right (top): row 0 is the top."""
    tilt = math.sin(math.radians(30))
    for axis, light in ((0, _at(1.2, 0.0, 1.0)), (1, _at(0.0, 1.2, 1.0))):
        normal = torch.zeros(1, 8, 8, 3)
        normal[..., axis], normal[..., 2] = tilt, math.cos(math.radians(30))
        batch = _batch(torch.zeros(1, 8, 8), normal=normal)
        towards = shade(batch, torch.full((1, 1, 2), 0.5), _at(0.0, 0.0, 1.5), light)
        opposite = light * torch.tensor([-1.0, -1.0, 1.0])
        away = shade(batch, torch.full((1, 1, 2), 0.5), _at(0.0, 0.0, 1.5), opposite)
        assert float(towards.mean()) > 2 * float(away.mean())


def test_maps_have_row_zero_on_top_and_repeat() -> None:
    batch = _batch(torch.zeros(1, 4, 4))
    batch.basecolor[:, 0, 1] = 0.0  # upper row, second column: u in (.25, .5), v in (.75, 1)
    uv = torch.tensor([[[0.375, 0.875], [1.375, 0.875], [-0.625, -1.125], [0.375, 0.125]]])
    radiance = shade(batch, uv, _at(0.0, 0.0, 2.0), _at(0.0, 0.0, 2.0))[0, :, 0]
    assert (radiance[:3] < 0.05).all() and radiance[3] > 0.3


def test_parallax_moves_the_hit_towards_the_camera() -> None:
    """A plane raised by h is seen at uv + h tan(theta) along the camera's direction."""
    height, ramp = 0.1, torch.linspace(0.1, 0.9, SIZE)
    batch = _batch(torch.full((1, SIZE, SIZE), height))
    batch.basecolor[:] = ramp[None, None, :, None]
    camera = _at(10.0, 0.0, 10.0)  # nearly parallel rays at 45 degrees
    raised = shade(batch, torch.tensor([[[0.4, 0.5]]]), camera, _at(0.0, 0.0, 9.0), light_radius=1e-3)
    flat = _batch(torch.zeros(1, SIZE, SIZE))
    flat.basecolor[:] = ramp[None, None, :, None]
    seen = shade(flat, torch.tensor([[[0.4 + height, 0.5]]]), camera, _at(0.0, 0.0, 9.0), light_radius=1e-3)
    torch.testing.assert_close(raised, seen, rtol=0.04, atol=0.0)
    unmoved = shade(flat, torch.tensor([[[0.4, 0.5]]]), camera, _at(0.0, 0.0, 9.0), light_radius=1e-3)
    assert float((unmoved / seen).max()) < 0.85


def test_a_block_casts_its_shadow_away_from_the_light() -> None:
    """The light's centre at height 1 and x = 1 clears a block's top at (1/8, h) down to a known point."""
    h = 0.05
    batch = _batch(_pillar(h))
    edge = -0.125  # the block's shaded side
    end = edge - (1.0 - edge) / (1.0 - h) * h  # where the ray over that edge lands
    offsets = torch.tensor([-0.03, 0.025]) + end  # past the shadow, and in it
    uv = torch.stack([offsets + 0.5, torch.full((2,), 0.5)], -1)[None]
    light = _at(1.0, 0.0, 1.0)
    lit, shaded = shade(batch, uv, _at(0.0, 0.0, 3.0), light)[0, :, 0]
    open_ground = shade(_batch(torch.zeros(1, SIZE, SIZE)), uv, _at(0.0, 0.0, 3.0), light)[0, :, 0]
    torch.testing.assert_close(lit, open_ground[0], rtol=1e-3, atol=0.0)
    assert float(shaded) < 0.02 * float(open_ground[1])


def test_the_penumbra_is_half_lit_in_its_middle() -> None:
    h, edge = 0.05, -0.125 + 0.5 / SIZE  # the block's side is a ramp over one texel; this is its top
    batch = _batch(_pillar(h))
    x = torch.linspace(-0.3, -0.14, 200)
    uv = torch.stack([x + 0.5, torch.full_like(x, 0.5)], -1)[None]
    light = _at(1.0, 0.0, 1.0)
    share = (
        shade(batch, uv, _at(0.0, 0.0, 3.0), light)[0, :, 0]
        / shade(_batch(torch.zeros(1, SIZE, SIZE)), uv, _at(0.0, 0.0, 3.0), light)[0, :, 0]
    )
    end = edge - (1.0 - edge) / (1.0 - h) * h
    middle = float(x[(share - 0.5).abs().argmin()])
    assert abs(middle - end) < 0.5 / SIZE
    assert ((share > 0.1) & (share < 0.9)).sum() > 2  # soft, not a step


def test_every_material_of_a_batch_is_shaded_as_if_alone() -> None:
    g = torch.Generator().manual_seed(0)
    relief = torch.tensor([0.08, 0.008, 0.0])[:, None, None]
    displacement = relief * torch.rand(3, SIZE, SIZE, generator=g)
    batch = _batch(displacement, roughness=0.4)
    uv = torch.rand(3, 500, 2, generator=g)
    camera, light = _at(0.7, 0.2, 1.2).expand(3, 1, 3), _at(-0.5, 0.9, 1.1).expand(3, 1, 3)
    together = shade(batch, uv, camera, light)
    for i in range(3):
        alone = shade(_batch(displacement[i : i + 1], roughness=0.4), uv[i : i + 1], camera[:1], light[:1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-3, atol=1e-4)


def test_a_footprint_averages_a_checkerboard() -> None:
    batch = _batch(torch.zeros(1, 32, 32))
    checks = (torch.arange(32)[:, None] + torch.arange(32)) % 2
    batch.basecolor[:] = checks[None, :, :, None].float()
    uv = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(1)
    options = {"footprint": 0.25, "supersampling": 8, "generator": g}
    wide = shade(batch, uv, _at(0.0, 0.0, 1.5), _at(0.0, 0.0, 1.5), **options)
    sharp = shade(batch, uv, _at(0.0, 0.0, 1.5), _at(0.0, 0.0, 1.5))
    assert wide.shape == sharp.shape == (1, 50, 3)
    assert float(wide.std()) < 0.3 * float(sharp.std())


def test_materials_of_different_sizes_are_refused() -> None:
    def material(size: int) -> PBRMaterial:
        flat = torch.zeros(size, size)
        return PBRMaterial(
            name="flat", basecolor=torch.full((size, size, 3), 0.5), roughness=flat, metallic=flat,
            normal=torch.tensor([0.0, 0.0, 1.0]).expand(size, size, 3), height=flat,
            height_mean=0.0, height_factor=0.0, has_height=False,
        )  # fmt: skip

    assert HeightFieldBatch.from_materials([material(8), material(8)]).batch == 2
    with pytest.raises(GonioError, match="resize"):
        HeightFieldBatch.from_materials([material(8), material(16)])


def _benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "heightfield_vs_mitsuba.py"
    spec = importlib.util.spec_from_file_location("heightfield_vs_mitsuba", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _bumps(name: str, relief: float, roughness: float, metallic: float, seed: int) -> PBRMaterial:
    """Smooth periodic bumps: a few random waves."""
    g = torch.Generator().manual_seed(seed)
    x = (torch.arange(128) + 0.5) / 128
    waves = torch.randint(-6, 7, (24, 2), generator=g).float()
    phase = 6.28 * torch.rand(24, 1, 1, generator=g)
    angle = 2 * math.pi * (waves[:, 0, None, None] * x + waves[:, 1, None, None] * x[:, None]) + phase
    height = angle.sin().sum(0)
    height = (height - height.min()) / (height.max() - height.min())
    colour = torch.stack([0.2 + 0.6 * height, 0.7 - 0.4 * height, 0.3 + 0.2 * height], -1)
    return PBRMaterial(
        name=name, basecolor=colour, normal=normal_from_displacement(height * relief),
        roughness=roughness * (0.8 + 0.4 * height), metallic=torch.full_like(height, metallic), height=height,
        height_mean=float(height.mean()), height_factor=relief, has_height=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("relief", "roughness", "metallic"), [(0.06, 0.6, 0.0), (0.02, 0.12, 1.0), (0.2, 0.4, 0.0)]
)
def test_agrees_with_mitsuba(relief: float, roughness: float, metallic: float) -> None:
    """The same scene under Mitsuba's direct light: 30 dB on every view, lights and views to 70 degrees."""
    torch.set_num_threads(1)
    benchmark = _benchmark()
    material = _bumps("bumps", relief, roughness, metallic, seed=3)
    pairs = (((0, 0), (40, 200)), ((50, 250), (55, 75)), ((70, 140), (60, 20)))
    expected = benchmark.mitsuba_images(material, 48, 64, pairs)
    ours = benchmark.torch_images(material, 48, pairs)
    assert float(expected.std()) > 0.02  # there is something to see
    assert float(benchmark.psnr(ours, expected).min()) > 30.0
