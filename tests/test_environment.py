"""Environment maps: the frame pinned by colours and by Mitsuba, the sampler by statistics."""

import math
from collections.abc import Callable

import mitsuba as mi
import numpy as np
import pytest
import torch
from scipy import stats

from gonio.environment import EnvironmentMap, direction_from_uv, mitsuba_to_world, uv_from_direction
from gonio.errors import GonioError, UsageError
from gonio.media import write_image

HEIGHT, WIDTH = 8, 16
AXES = torch.cat([torch.eye(3), -torch.eye(3)])


def random_map(height: int = HEIGHT, seed: int = 0) -> EnvironmentMap:
    """Radiance over four decades."""
    noise = torch.rand(height, 2 * height, 3, generator=torch.Generator().manual_seed(seed))
    return EnvironmentMap(radiance=10 ** (4 * noise - 2))


def hot_pixel(row: int, column: int) -> EnvironmentMap:
    radiance = torch.zeros(HEIGHT, WIDTH, 3)
    radiance[row, column] = 1000.0
    return EnvironmentMap(radiance=radiance)


MAPS = {
    "constant": EnvironmentMap(radiance=torch.full((HEIGHT, WIDTH, 3), 2.0)),
    "black": EnvironmentMap(radiance=torch.zeros(HEIGHT, WIDTH, 3)),
    "hot pixel": hot_pixel(3, 5),
    "hot pixel at the left seam": hot_pixel(4, 0),
    "hot pixel at the right seam": hot_pixel(4, WIDTH - 1),
    "hot pixel at the zenith": hot_pixel(0, 7),
    "hot pixel at the nadir": hot_pixel(HEIGHT - 1, 2),
    "random": random_map(),
}


def sphere_grid(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Midpoint directions [rows, columns, 3] and exact solid angles [rows, 1] of a grid on the sphere."""
    v = 1 - (torch.arange(rows, dtype=torch.float64) + 0.5) / rows
    u = (torch.arange(columns, dtype=torch.float64) + 0.5) / columns
    grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
    edges = torch.cos(torch.arange(rows + 1, dtype=torch.float64) * math.pi / rows)
    solid_angle = -edges.diff() * 2 * math.pi / columns
    return direction_from_uv(torch.stack([grid_u, grid_v], -1)), solid_angle[:, None]


def random_directions(count: int, seed: int = 0) -> torch.Tensor:
    normal = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(normal, dim=-1)


# ------------------------------------------------------------------------ frame


def test_the_centre_looks_along_y_with_x_to_its_right_and_z_up():
    uv = torch.tensor([[0.5, 0.5], [0.75, 0.5], [0.25, 0.5], [0.5, 1.0], [0.3, 0.0], [0.0, 0.5]])
    expected = torch.tensor([[0, 1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1], [0, -1, 0]]).float()
    torch.testing.assert_close(direction_from_uv(uv), expected, atol=1e-6, rtol=0)


def test_uv_and_direction_invert_each_other():
    uv = torch.rand(500, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(uv_from_direction(3.0 * direction_from_uv(uv)), uv, atol=1e-12, rtol=0)


def test_lookup_at_texel_centres_is_the_texel():
    environment = random_map()
    directions, _ = sphere_grid(HEIGHT, WIDTH)
    found = environment.lookup(directions.float())
    torch.testing.assert_close(found, environment.radiance, rtol=2e-3, atol=0)


def test_lookup_wraps_at_the_seam_and_is_constant_at_the_poles():
    environment = random_map()
    seam = environment.lookup(direction_from_uv(torch.tensor([0.0, 1 - 3.5 / HEIGHT])))
    torch.testing.assert_close(seam, environment.radiance[3, [0, -1]].mean(0), rtol=1e-4, atol=0)
    above = torch.tensor([2.5 / WIDTH, 1 - 0.1 / HEIGHT])
    torch.testing.assert_close(
        environment.lookup(direction_from_uv(above)), environment.radiance[0, 2], rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("quarters", [0, 1, 2, 3, 5, -1])
def test_six_axis_colours_turn_exactly(quarters):
    colours = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]).float()
    directions, _ = sphere_grid(16, 32)
    environment = EnvironmentMap(radiance=colours[(directions.float() @ AXES.T).argmax(-1)])
    # After a counter-clockwise quarter turn, +y shows what +x showed.
    angle = math.radians(90 * quarters)
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    ).round()
    assert torch.equal(environment.lookup(AXES), colours)
    assert torch.equal(environment.rotated(90.0 * quarters).lookup(AXES @ turn.T), colours)


def test_any_rotation_keeps_the_light_and_follows_the_angle():
    turned = hot_pixel(3, 5).rotated(10.0)
    assert torch.allclose(turned.radiance.sum((1, 2)), hot_pixel(3, 5).radiance.sum((1, 2)))
    # 10 degrees are 4/9 of a column; counter-clockwise moves to smaller columns.
    torch.testing.assert_close(turned.radiance[3, [4, 5], 0], torch.tensor([4000 / 9, 5000 / 9]))


@pytest.mark.parametrize("degrees", [0.0, 90.0, 33.0])
def test_mitsuba_shows_the_same_light(degrees):
    before = mi.variant()
    mi.set_variant("scalar_rgb")
    try:
        environment = random_map(16)
        emitter = mi.load_dict(
            {
                "type": "envmap",
                "bitmap": mi.Bitmap(environment.mitsuba_bitmap().numpy()),
                "to_world": mi.ScalarTransform4f(mitsuba_to_world(degrees).numpy()),
            }
        )
        # Not the poles themselves: there the azimuth, hence the column, is anyone's choice.
        directions = torch.cat([random_directions(400), AXES[[0, 1, 3, 4]].double()])
        interaction = mi.SurfaceInteraction3f()
        theirs = []
        for direction in directions.tolist():
            interaction.wi = -mi.Vector3f(*direction)
            theirs.append(np.array(emitter.eval(interaction)))
    finally:
        if before is not None:
            mi.set_variant(before)
    angle = math.radians(-degrees)
    turn_back = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    ).double()
    ours = environment.lookup((directions @ turn_back.T).float())
    torch.testing.assert_close(torch.tensor(np.array(theirs)).float(), ours, rtol=1e-3, atol=1e-3)


def test_the_bitmap_for_mitsuba_holds_our_rows_and_their_means():
    environment = random_map()
    bitmap = environment.mitsuba_bitmap()
    assert bitmap.shape == (2 * HEIGHT + 1, WIDTH, 3)
    assert torch.equal(bitmap[1::2], environment.radiance)
    torch.testing.assert_close(bitmap[2], environment.radiance[:2].mean(0))
    torch.testing.assert_close(bitmap[[0, -1]], environment.radiance[[0, -1]])


# ------------------------------------------------------------------------ sampler


def chi_squared_p(environment: EnvironmentMap, pdf: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """p-value of the hypothesis that `sample` draws from `pdf`, integrated over a finer grid."""
    count, rows, columns, fine = 60_000, 2 * HEIGHT, 2 * WIDTH, 3
    u = torch.rand(count, 2, generator=torch.Generator().manual_seed(7))
    direction, _, _ = environment.sample(u)
    uv = uv_from_direction(direction.double())
    cell_x = (uv[:, 0] * columns).long().clamp_max(columns - 1)
    cell_y = ((1 - uv[:, 1]) * rows).long().clamp(0, rows - 1)
    observed = torch.bincount(cell_y * columns + cell_x, minlength=rows * columns).double()

    directions, solid_angle = sphere_grid(rows * fine, columns * fine)
    mass = pdf(directions) * solid_angle
    expected = mass.reshape(rows, fine, columns, fine).sum((1, 3)).reshape(-1) * count

    # Cells expected to hold fewer than 5 are pooled, as the test's approximation wants.
    rare = expected < 5
    seen = torch.cat([observed[~rare], observed[rare].sum()[None]])
    hoped = torch.cat([expected[~rare], expected[rare].sum()[None]])
    if hoped[-1] < 5:
        if seen[-1] > hoped[-1] + 20:
            return 0.0
        seen, hoped = seen[:-1], hoped[:-1]
    statistic = float(((seen - hoped).square() / hoped).sum())
    return float(stats.chi2.sf(statistic, df=len(seen) - 1))


@pytest.mark.parametrize("name", MAPS)
def test_samples_follow_their_density(name):
    assert chi_squared_p(MAPS[name], MAPS[name].pdf) > 0.01


def test_wrong_densities_are_rejected():
    environment = MAPS["random"]
    flipped = EnvironmentMap(radiance=environment.radiance.flip(1))
    assert chi_squared_p(environment, flipped.pdf) < 1e-6

    def without_sine(direction):
        sine = torch.hypot(direction[..., 0], direction[..., 1])
        return environment.pdf(direction) * sine * 4 / math.pi

    assert chi_squared_p(environment, without_sine) < 1e-6
    assert chi_squared_p(environment, lambda d: environment.pdf(d) * 1.05) < 1e-6


@pytest.mark.parametrize("name", MAPS)
def test_the_density_integrates_to_one(name):
    directions, solid_angle = sphere_grid(2 * HEIGHT, 2 * WIDTH)
    assert float((MAPS[name].pdf(directions) * solid_angle).sum()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_a_sample_comes_with_its_own_radiance_and_density(name):
    u = torch.rand(4000, 2, generator=torch.Generator().manual_seed(3))
    direction, radiance, density = MAPS[name].sample(u)
    assert (density > 0).all()
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(4000))
    assert torch.equal(radiance, MAPS[name].lookup(direction))
    # A direction rounded across a cell's edge may look up the neighbour's density: at most a few.
    assert (MAPS[name].pdf(direction) != density).sum() <= 8


@pytest.mark.parametrize("corner", [0.0, 1.0 - 2**-24, 1.0])
def test_the_ends_of_the_random_numbers_are_safe(corner):
    for environment in MAPS.values():
        direction, radiance, density = environment.sample(torch.full((1, 2), corner))
        assert torch.isfinite(direction).all() and torch.isfinite(radiance).all() and (density > 0).all()


@pytest.mark.parametrize("name", [name for name in MAPS if name != "black"])
def test_importance_sampling_estimates_the_mean_radiance(name):
    """Monte Carlo with the sampler against quadrature of `lookup`: no light is missed."""
    directions, solid_angle = sphere_grid(256, 512)
    light = MAPS[name].lookup(directions.float()).double() * solid_angle[..., None]
    truth = light.sum((0, 1)) / (4 * math.pi)
    u = torch.rand(100_000, 2, generator=torch.Generator().manual_seed(5))
    _, radiance, density = MAPS[name].sample(u)
    values = (radiance / density[:, None]).double() / (4 * math.pi)
    error = values.std(0) / math.sqrt(len(u))
    assert ((values.mean(0) - truth).abs() <= 4 * error + 2e-3 * truth).all()


# ------------------------------------------------------------------------ integrals


def test_the_furnace_gives_pi_on_every_surface():
    environment = EnvironmentMap(radiance=torch.ones(32, 64, 3))
    irradiance = environment.irradiance(random_directions(50).float())
    torch.testing.assert_close(irradiance, torch.full((50, 3), math.pi), atol=4e-3, rtol=0)
    upright = environment.irradiance(torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(upright, torch.full((3,), math.pi), atol=1e-5, rtol=0)
    torch.testing.assert_close(environment.mean_radiance, torch.ones(3))
    torch.testing.assert_close(environment.mean_irradiance, torch.full((3,), math.pi))


def test_irradiance_of_a_random_map_matches_quadrature():
    environment = random_map(16)
    normals = random_directions(6, seed=2)
    directions, solid_angle = sphere_grid(256, 512)
    light = environment.lookup(directions.float()).double() * solid_angle[..., None]
    truth = torch.einsum("hwn,hwc->nc", (directions @ normals.T).clamp_min(0), light)
    torch.testing.assert_close(environment.irradiance(normals.float()), truth.float(), rtol=0.02, atol=0)


def test_light_from_above_reaches_only_what_faces_up():
    radiance = torch.zeros(16, 32, 3)
    radiance[:4] = 1.0
    environment = EnvironmentMap(radiance=radiance)
    assert environment.irradiance(torch.tensor([0.0, 0.0, -1.0])).abs().max() == 0
    assert environment.irradiance(torch.tensor([0.0, 0.0, 1.0])).min() > 1


def test_normalizing_sets_the_mean_or_the_irradiance():
    environment = random_map()
    assert float(environment.normalized(mean=0.5).mean_radiance.mean()) == pytest.approx(0.5, rel=1e-5)
    lit = environment.normalized(irradiance=math.pi)
    assert float(lit.irradiance(torch.tensor([0.0, 0.0, 1.0])).mean()) == pytest.approx(math.pi, rel=1e-5)
    with pytest.raises(UsageError, match="exactly one"):
        environment.normalized()
    with pytest.raises(UsageError, match="positive"):
        environment.normalized(mean=-1.0)
    with pytest.raises(GonioError, match="no light"):
        MAPS["black"].normalized(mean=1.0)


# ------------------------------------------------------------------------ limits


def test_load_reads_linear_radiance(tmp_path):
    environment = random_map()
    write_image(tmp_path / "sky.exr", environment.radiance)
    again = EnvironmentMap.load(tmp_path / "sky.exr")
    torch.testing.assert_close(again.radiance, environment.radiance, rtol=1e-3, atol=1e-4)


def broken(kind: str) -> torch.Tensor:
    radiance = torch.ones(8, 16, 3)
    if kind == "square":
        return torch.ones(8, 8, 3)
    radiance[2, 3, 1] = {"nan": math.nan, "infinite": math.inf, "negative": -0.5}[kind]
    return radiance


@pytest.mark.parametrize(
    "kind, cure", [("square", "2:1"), ("nan", "clamp"), ("infinite", "clamp"), ("negative", "clamp")]
)
def test_unusable_maps_are_one_line_errors(kind, cure, tmp_path):
    with pytest.raises(GonioError, match=cure) as error:
        EnvironmentMap(radiance=broken(kind))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_two_to_one_is_named(tmp_path):
    write_image(tmp_path / "photo.exr", torch.ones(8, 8, 3))
    with pytest.raises(GonioError, match="photo.exr.*2:1.*crop"):
        EnvironmentMap.load(tmp_path / "photo.exr")
