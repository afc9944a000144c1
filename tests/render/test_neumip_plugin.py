"""The Mitsuba BSDF `neumip` against the material it stands for, in torch."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gonio.camera import Trajectory
from gonio.color import srgb_from_linear
from gonio.errors import GonioError
from gonio.material_file import save_material
from gonio.mitsuba_setup import llvm_library, use_mitsuba
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial
from gonio.reconstruct.plane import render_plane
from gonio.render.lobes import Lobes, fit_lobes, lobe_pdf
from gonio.scan.scene import mesh, perspective, sheet

POINTS = 256


@pytest.fixture(scope="module", autouse=True)
def mitsuba_variant() -> Iterator[None]:
    import mitsuba as mi

    from gonio.render import register

    before = mi.variant()
    if llvm_library() is None:
        pytest.fail("these tests need libLLVM 16 or newer (Debian: apt install libllvm19)")
    use_mitsuba("llvm_ad_rgb")
    mi.set_variant("llvm_ad_rgb")
    register()
    yield
    if before is not None:
        mi.set_variant(before)


def random_material(seed: int = 0, contrast: float = 4.0, **spec: Any) -> NeuralMaterial:
    """Strong random weights on rectangular textures of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    decoder: Any = Decoder(MaterialSpec(**{"hidden_width": 8, "hidden_layers": 2, **spec}))
    for network in (decoder.M_off, decoder.M_rgb):
        for layer in network.layers:
            layer.weight.data.normal_(0, layer.in_features**-0.5 * 1.5, generator=generator)
            layer.bias.data.normal_(0, 0.3, generator=generator)
        network.layers[-1].weight.data.mul_(contrast / 4)
    T_off, T_rgb = (torch.randn(shape, generator=generator) for shape in ((6, 9, 12), (8, 5, 12)))
    return NeuralMaterial(T_off, T_rgb, decoder)


def plugin(material: NeuralMaterial, **properties: Any) -> Any:
    import mitsuba as mi

    from gonio.render.bsdf_plugin import share

    return mi.load_dict({"type": "neumip", "material": share(material), **properties})


def hemisphere(count: int, seed: int) -> Tensor:
    vector = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return normalize(torch.cat([vector[:, :2], vector[:, 2:].abs() + 0.02], -1), dim=-1)


def wide_uv(count: int, seed: int = 5) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 5 - 2


def vector(rows: Tensor) -> Any:
    import mitsuba as mi

    return mi.Vector3f(rows.T.contiguous().numpy())


def interaction(uv: Tensor, camera: Tensor) -> Any:
    """A surface point whose tangents are +x and, because Mitsuba's v runs down, -y. uv is Gonio's."""
    import drjit as dr
    import mitsuba as mi

    si = dr.zeros(mi.SurfaceInteraction3f, len(uv))
    si.uv = mi.Point2f(torch.stack([uv[:, 0], 1 - uv[:, 1]]).numpy())
    si.wi = vector(camera)
    si.sh_frame = mi.Frame3f(mi.Vector3f(1, 0, 0), mi.Vector3f(0, 1, 0), mi.Vector3f(0, 0, 1))
    si.dp_du, si.dp_dv = mi.Vector3f(1, 0, 0), mi.Vector3f(0, -1, 0)
    return si


def rows(value: Any) -> Tensor:
    """Mitsuba's [3, N] or [N] as [N, 3] or [N]."""
    return torch.from_numpy(np.array(value).T.copy())


def evaluated(bsdf: Any, si: Any, light: Tensor) -> Tensor:
    import mitsuba as mi

    return rows(bsdf.eval(mi.BSDFContext(), si, vector(light)))


def assert_same(found: Tensor, expected: Tensor, relative: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().div(expected.abs() + 1e-6).max()) < relative


def random_numbers(count: int) -> tuple[Any, Any]:
    """sample1, sample2 as an integrator hands them to a BSDF."""
    import mitsuba as mi

    sampler = mi.load_dict({"type": "independent"})
    sampler.seed(0, count)
    return sampler.next_1d(), sampler.next_2d()


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("wrap", ["repeat", "clamp", "mirror"])
def test_eval_is_the_material_everywhere(wrap: str) -> None:
    material = random_material(1, wrap=wrap)
    uv, wi, wo = wide_uv(POINTS), hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    with torch.no_grad():
        expected = material.evaluate(uv, wi, wo)
    assert_same(evaluated(plugin(material), interaction(uv, wo), wi), expected)


def test_repeat_is_continuous_across_the_seam() -> None:
    material = random_material(2)
    side = torch.full((POINTS,), 1e-5)
    along = torch.linspace(0, 1, POINTS)
    wi, wo = hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    bsdf = plugin(material)
    for left, right in (
        (torch.stack([-side, along], -1), torch.stack([1 - side, along], -1)),
        (torch.stack([along, side], -1), torch.stack([along, 1 + side], -1)),
    ):
        expected = evaluated(bsdf, interaction(left, wo), wi)
        assert_same(evaluated(bsdf, interaction(right, wo), wi), expected, 2e-3)


def test_uv_scale_repeats_the_material() -> None:
    material = random_material(3)
    uv, wi, wo = wide_uv(POINTS), hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    mitsuba_uv = torch.stack([uv[:, 0], 1 - uv[:, 1]], -1) * 2.5
    with torch.no_grad():
        scaled = torch.stack([mitsuba_uv[:, 0], 1 - mitsuba_uv[:, 1]], -1)
        expected = material.evaluate(scaled, wi, wo)
    assert_same(evaluated(plugin(material, uv_scale=2.5), interaction(uv, wo), wi), expected)


def test_cosine_is_multiplied_when_the_values_lack_it() -> None:
    material = random_material(4, cosine_included=False)
    uv, wi, wo = wide_uv(POINTS), hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    with torch.no_grad():
        expected = material.evaluate(uv, wi, wo) * wi[:, 2:]
    assert_same(evaluated(plugin(material), interaction(uv, wo), wi), expected)


def test_black_below_the_horizon_and_when_inactive() -> None:
    import mitsuba as mi

    bsdf = plugin(random_material(5))
    uv, wi, wo = wide_uv(POINTS), hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    below = torch.tensor([1.0, 1.0, -1.0])
    for light, camera in ((wi * below, wo), (wi, wo * below), (wi * below, wo * below)):
        si = interaction(uv, camera)
        assert float(evaluated(bsdf, si, light).abs().max()) == 0
        assert float(rows(bsdf.pdf(mi.BSDFContext(), si, vector(light))).abs().max()) == 0
    si = interaction(uv, wo)
    assert float(rows(bsdf.eval(mi.BSDFContext(), si, vector(wi), mi.Bool(False))).abs().max()) == 0
    diffuse_only = mi.BSDFContext(mi.TransportMode.Radiance, +mi.BSDFFlags.DiffuseReflection, 0xFFFFFFFF)
    assert float(rows(bsdf.eval(diffuse_only, si, vector(wi))).abs().max()) == 0


def test_frame_follows_the_tangents_lane_by_lane() -> None:
    """Turned, mirrored, skewed and missing tangents in one call: each lane has its own handedness."""
    import mitsuba as mi

    material = random_material(6)
    uv, wi, wo = wide_uv(POINTS), hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    generator = torch.Generator().manual_seed(3)
    angle = torch.rand(POINTS, generator=generator) * 2 * math.pi
    mirrored = torch.rand(POINTS, generator=generator) > 0.5
    s = torch.stack([angle.cos(), angle.sin(), torch.zeros(POINTS)], -1)
    t = torch.stack([-angle.sin(), angle.cos(), torch.zeros(POINTS)], -1)
    t = torch.where(mirrored[:, None], -t, t)
    si = interaction(uv, wo)
    si.dp_du = vector(3 * s + torch.tensor([0.0, 0.0, 0.4]))  # the component along the normal does not count
    si.dp_dv = vector(-0.5 * t + 0.2 * s)
    missing = torch.arange(POINTS) % 7 == 0
    si.dp_du = mi.Vector3f(np.where(missing[None], 0, np.array(si.dp_du)))
    si.dp_dv = mi.Vector3f(np.where(missing[None], 0, np.array(si.dp_dv)))
    s[missing], t[missing] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])

    def local(w: Tensor) -> Tensor:
        return torch.stack([(w * s).sum(-1), (w * t).sum(-1), w[:, 2]], -1)

    with torch.no_grad():
        expected = material.evaluate(uv, local(wi), local(wo))
    bsdf = plugin(material)
    assert_same(evaluated(bsdf, si, wi), expected)
    pdf = torch.from_numpy(np.array(bsdf.pdf(mi.BSDFContext(), si, vector(wi))))
    assert bool(torch.isfinite(pdf).all()) and float(pdf.min()) > 0


def test_particles_see_the_adjoint() -> None:
    """Towards the camera f is the same function with its arguments swapped, times the other cosine."""
    import mitsuba as mi

    bsdf = plugin(random_material(7))
    uv, light, camera = wide_uv(POINTS), hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    radiance = evaluated(bsdf, interaction(uv, camera), light) / light[:, 2:]
    context = mi.BSDFContext(mi.TransportMode.Importance)
    importance = rows(bsdf.eval(context, interaction(uv, light), vector(camera))) / camera[:, 2:]
    assert_same(importance, radiance)


def test_matte_albedo_and_description() -> None:
    bsdf = plugin(random_material(8))
    albedo = rows(bsdf.eval_diffuse_reflectance(interaction(wide_uv(POINTS), hemisphere(POINTS, 2))))
    assert albedo.shape == (POINTS, 3)
    assert 0 <= float(albedo.min()) < float(albedo.max()) <= 1
    assert "8x2" in str(bsdf) and "5x8" in str(bsdf)


def test_textures_can_be_differentiated_and_changed() -> None:
    import drjit as dr
    import mitsuba as mi

    material = random_material(9)
    bsdf = plugin(material)
    uv, wi, wo = wide_uv(64), hemisphere(64, 1), hemisphere(64, 2)
    parameters = mi.traverse(bsdf)
    assert {"T_off", "T_rgb"} <= set(parameters.keys())
    dr.enable_grad(parameters["T_rgb"])
    parameters.update()
    dr.backward(dr.sum(dr.sum(bsdf.eval(mi.BSDFContext(), interaction(uv, wo), vector(wi)), axis=0)))
    gradient = torch.from_numpy(np.array(dr.grad(parameters["T_rgb"])))
    material.evaluate(uv, wi, wo).sum().backward()
    assert material.T_rgb.grad is not None
    assert torch.allclose(gradient, material.T_rgb.grad, rtol=1e-3, atol=1e-4)

    changed = material.T_rgb.detach() * 0.5
    parameters["T_rgb"] = mi.TensorXf(changed.numpy())
    parameters.update()
    other = NeuralMaterial(material.T_off.detach(), changed, material.decoder)
    with torch.no_grad():
        expected = other.evaluate(uv, wi, wo)
    assert_same(evaluated(bsdf, interaction(uv, wo), wi), expected)


# ---------------------------------------------------------------- sampling


def test_pdf_is_that_of_the_fitted_lobes_in_torch() -> None:
    """At texel centres of the lobe grid nothing is interpolated, and both implementations must agree."""
    import mitsuba as mi

    material = random_material(10, contrast=12)
    parameters = fit_lobes(material).parameters
    assert float(parameters[..., 3].max()) > 0.2, "no lobe to test"
    height, width, _ = parameters.shape
    row, column = (torch.arange(POINTS) * 7) % height, (torch.arange(POINTS) * 3) % width
    uv = torch.stack([(column + 0.5) / width, 1 - (row + 0.5) / height], -1)
    wi, wo = hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    expected = lobe_pdf(parameters[row, column], wi, wo)
    found = torch.from_numpy(
        np.array(plugin(material).pdf(mi.BSDFContext(), interaction(uv, wo), vector(wi)))
    )
    assert_same(found, expected, 2e-3)


def test_sample_weight_is_eval_over_pdf() -> None:
    import mitsuba as mi

    count = 4096
    bsdf = plugin(random_material(11, contrast=12))
    si = interaction(wide_uv(count), hemisphere(count, 2))
    angle = torch.linspace(0, 50, count)  # every lane has its own frame, every other a mirrored one
    s = torch.stack([angle.cos(), angle.sin(), torch.zeros(count)], -1)
    t = torch.stack([-angle.sin(), angle.cos(), torch.zeros(count)], -1)
    si.dp_du, si.dp_dv = vector(s), vector(t * (-1.0) ** torch.arange(count)[:, None])
    choice, point = random_numbers(count)
    sample, weight = bsdf.sample(mi.BSDFContext(), si, choice, point)
    value, pdf = bsdf.eval_pdf(mi.BSDFContext(), si, sample.wo)
    kept = np.array(sample.pdf) > 0
    assert kept.mean() > 0.7
    assert np.allclose(np.array(sample.pdf)[kept], np.array(pdf)[kept], rtol=1e-3)
    expected = np.array(value)[:, kept] / np.array(pdf)[kept]
    assert np.allclose(np.array(weight)[:, kept], expected, rtol=2e-3)
    assert np.array(weight)[:, ~kept].max(initial=0) == 0
    assert np.array(sample.eta).min() == 1


def chi_squared(material: NeuralMaterial, camera: list[float], uv: list[float], spoil: bool = False) -> Any:
    import mitsuba as mi

    from gonio.render.bsdf_plugin import share

    sample, pdf = mi.chi2.BSDFAdapter(
        "neumip", {"type": "neumip", "material": share(material)}, wi=camera, uv=uv
    )

    def spoiled(wo: Any, *args: Any) -> Any:
        return pdf(wo, *args) * (1 + 0.1 * wo.x)

    test = mi.chi2.ChiSquareTest(
        domain=mi.chi2.SphericalDomain(),
        sample_func=sample,
        pdf_func=spoiled if spoil else pdf,
        sample_dim=3,
        sample_count=100_000,
        res=51,
        ires=16,
    )
    return test


CHI_SQUARED = [
    (seed, camera, uv)
    for seed, uv in ((12, [0.3, 0.6]), (13, [0.83, 0.11]))
    for camera in ([0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [-0.5, 0.7, 0.509902])
]


def random_lobes(material: NeuralMaterial) -> Lobes:
    """Anything a lobe grid may hold: the pdf must be right for all of it."""
    generator = torch.Generator().manual_seed(20)
    x = torch.rand(3, 4, 4, generator=generator)
    low, high = torch.tensor([-0.4, -0.4, 0.15, 0.3]), torch.tensor([0.4, 0.4, 0.6, 0.75])
    return Lobes(parameters=low + (high - low) * x)


@pytest.mark.parametrize("fitted", [True, False])
def test_samples_follow_the_pdf_and_a_wrong_pdf_is_noticed(
    fitted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fitted:
        monkeypatch.setattr("gonio.render.lobes.fit_lobes", random_lobes)
    materials = {seed: random_material(seed, contrast=12) for seed, _, _ in CHI_SQUARED}
    for seed, camera, uv in CHI_SQUARED:
        test = chi_squared(materials[seed], camera, uv)
        assert test.run(0.01, test_count=2 * len(CHI_SQUARED), quiet=True), (seed, camera, test.messages)
    seed, camera, uv = CHI_SQUARED[1]
    assert not chi_squared(materials[seed], camera, uv, spoil=True).run(0.01, quiet=True)


def test_nothing_is_nan_at_grazing_angles() -> None:
    import mitsuba as mi

    count = 2048
    flat = torch.logspace(-9, -2, count)
    azimuth = torch.linspace(0, 40, count)
    camera = torch.stack([azimuth.cos(), azimuth.sin(), flat], -1)
    bsdf = plugin(random_material(14, contrast=12))
    si = interaction(wide_uv(count), camera)
    sample, weight = bsdf.sample(mi.BSDFContext(), si, *random_numbers(count))
    light = torch.stack([azimuth.sin(), azimuth.cos(), flat.flip(0)], -1)
    value, pdf = bsdf.eval_pdf(mi.BSDFContext(), si, vector(light))
    for result in (sample.wo, sample.pdf, weight, value, pdf):
        assert np.isfinite(np.array(result)).all()
    assert np.array(weight).min() >= 0


# ---------------------------------------------------------------- scenes


def letter_material() -> NeuralMaterial:
    """A bright L with a dot on the dark; features reach the output through a decoder that shows them.

    Shading leans on wi.x and, otherwise, on wi.y, so that turned or mirrored frames show as well.
    """
    decoder: Any = Decoder(MaterialSpec(hidden_width=4, hidden_layers=1, max_offset=0.05))
    first, last = decoder.M_rgb.layers
    for parameter in decoder.parameters():
        parameter.data.zero_()
    first.bias.data.fill_(2.0)
    first.weight.data[0, 0] = 1.0  # the pattern
    first.weight.data[1, 12] = 1.0  # wi.x
    first.weight.data[2, 13] = 1.0  # wi.y
    last.weight.data = torch.tensor([[1.0, 0.8, 0, 0], [1.0, 0, 1.2, 0], [1.0, 0, 0, 0]])
    decoder.M_off.layers[-1].bias.data = torch.tensor([0.8, 0.3])
    pattern = torch.zeros(32, 48)
    pattern[4:28, 6:14] = 1.0
    pattern[22:28, 14:34] = 1.0
    pattern[5:10, 38:44] = 1.0
    T_rgb = torch.zeros(32, 48, 12)
    T_rgb[..., 0] = pattern * 1.5 - 0.5
    return NeuralMaterial(torch.zeros(4, 4, 12), T_rgb, decoder)


def decibels(found: Tensor, expected: Tensor) -> float:
    difference = srgb_from_linear(found.clamp(0, 1)) - srgb_from_linear(expected.clamp(0, 1))
    return float(-10 * torch.log10(difference.square().mean()))


CAMERA, LIGHT = torch.tensor([0.5, -0.9, 1.1]), torch.tensor([0.7, 0.5, 1.2])


def render_flat(bsdf: dict[str, Any], integrator: str = "direct") -> Tensor:
    import mitsuba as mi

    size = 48
    flat = sheet(torch.zeros(4, 4), 1, skirt=False)
    scene = mi.load_dict(
        {
            "type": "scene",
            "integrator": {"type": integrator},
            "sample": mesh(*flat, bsdf),
            "light": {
                "type": "point",
                "position": LIGHT.tolist(),
                "intensity": math.pi * float(LIGHT.square().sum()),
            },
        }
    )
    sensor = perspective(CAMERA, torch.tensor([0.0, 0.0, 1.0]), 50.0, size, size)
    image = torch.from_numpy(np.array(mi.render(scene, sensor=sensor, spp=64)))
    return image[..., :3]


@pytest.mark.parametrize("integrator", ["direct", "path"])
def test_flat_sample_is_the_plane_renderers_picture(integrator: str) -> None:
    from gonio.render.bsdf_plugin import share

    material = letter_material()
    trajectory = Trajectory(
        camera_position=CAMERA[None],
        camera_up=torch.tensor([[0.0, 0.0, 1.0]]),
        light_position=LIGHT[None],
        fov=50.0,
    )
    with torch.no_grad():
        expected = render_plane(material, trajectory, 48, 48, samples_per_side=8)[0]
    inside = torch.ones(48, 48, dtype=torch.bool)
    found = render_flat({"type": "neumip", "material": share(material)}, integrator)
    # The plane renderer averages over the covered part of a border pixel; compare pixels inside.
    inside = (expected.sum(-1) > 0) & (found.sum(-1) > 0)
    inside &= -torch.nn.functional.max_pool2d(-inside.float()[None, None], 3, 1, 1)[0, 0] > 0
    assert 400 < int(inside.sum())
    assert decibels(found[inside], expected[inside]) > 40
    # The same comparison must fail for a mirrored or turned material.
    for wrong in (material.T_rgb.flip(0), material.T_rgb.flip(1)):
        other = NeuralMaterial(material.T_off.detach(), wrong.detach(), material.decoder)
        with torch.no_grad():
            picture = render_plane(other, trajectory, 48, 48)[0]
        assert decibels(found[inside], picture[inside]) < 25


def test_back_is_black_unless_twosided() -> None:
    import mitsuba as mi

    from gonio.render.bsdf_plugin import share

    material = letter_material()
    inner = {"type": "neumip", "material": share(material)}
    two = mi.load_dict({"type": "twosided", "bsdf": inner})
    uv, wi, wo = wide_uv(POINTS), hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    back = torch.tensor([1.0, 1.0, -1.0])
    assert_same(
        evaluated(two, interaction(uv, wo * back), wi * back), evaluated(two, interaction(uv, wo), wi)
    )
    assert float(evaluated(mi.load_dict(inner), interaction(uv, wo * back), wi * back).abs().max()) == 0


def test_white_sky_reflects_the_same_light_by_sampling_bsdf_and_light() -> None:
    """Sampling by the BSDF alone and by the emitter alone must give one mean."""
    import mitsuba as mi

    count = 1 << 16
    bsdf = plugin(random_material(15, contrast=8))
    camera = normalize(torch.tensor([[0.4, -0.3, 0.7]]), dim=-1).expand(count, 3)
    si = interaction(torch.tensor([[0.3, 0.7]]).expand(count, 2), camera)
    choice, point = random_numbers(count)
    _, weight = bsdf.sample(mi.BSDFContext(), si, choice, point)
    by_bsdf = rows(weight)
    wi = mi.warp.square_to_uniform_hemisphere(point)
    uniform = rows(bsdf.eval(mi.BSDFContext(), si, wi)) * (2 * math.pi)
    error = (by_bsdf.var(0) + uniform.var(0)).div(count).sqrt()
    assert float(((by_bsdf.mean(0) - uniform.mean(0)) / error).abs().max()) < 4


# ---------------------------------------------------------------- loading


def test_xml_file_name_and_cache(tmp_path: Path) -> None:
    import mitsuba as mi

    from gonio.render import bsdf_plugin

    material = random_material(16)
    save_material(tmp_path / "moss.safetensors", material)
    scene = tmp_path / "scene.xml"
    scene.write_text(
        '<scene version="3.0.0"><shape type="rectangle"><bsdf type="neumip">'
        '<string name="filename" value="moss.safetensors"/><float name="uv_scale" value="2"/>'
        "</bsdf></shape></scene>"
    )
    bsdf = mi.load_file(str(scene)).shapes()[0].bsdf()
    uv, wi, wo = wide_uv(POINTS), hemisphere(POINTS, 1), hemisphere(POINTS, 2)
    expected = evaluated(plugin(material, uv_scale=2.0), interaction(uv, wo), wi)
    assert_same(evaluated(bsdf, interaction(uv, wo), wi), expected, 2e-2)  # textures are stored in fp16
    hits = bsdf_plugin._bake_file.cache_info().hits
    mi.load_file(str(scene))
    assert bsdf_plugin._bake_file.cache_info().hits == hits + 1


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({}, "filename"),
        ({"filename": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"material": "material-unknown"}, "material-unknown"),
        ({"filename": "a.safetensors", "material": "b"}, "either"),
    ],
)
def test_bad_properties_name_the_cure(properties: dict[str, Any], says: str) -> None:
    import mitsuba as mi

    with pytest.raises((GonioError, RuntimeError), match=says):
        mi.load_dict({"type": "neumip", **properties})


def test_bad_uv_scale_is_refused() -> None:
    with pytest.raises((GonioError, RuntimeError), match="uv_scale"):
        plugin(random_material(0), uv_scale=-1.0)


OTHER_VARIANT = """
import sys
import mitsuba as mi
mi.set_variant(sys.argv[1])
import gonio
import drjit as dr, numpy as np
assert "torch" not in sys.modules
bsdf = mi.load_dict({"type": "neumip", "filename": sys.argv[2]})
si = dr.zeros(mi.SurfaceInteraction3f)
si.uv, si.wi = mi.Point2f(0.3, 0.8), dr.normalize(mi.Vector3f(0.3, -0.4, 0.7))
si.sh_frame = mi.Frame3f(mi.Vector3f(0, 0, 1))
si.wavelengths = [620.0, 550.0, 450.0, 700.0] if mi.is_spectral else []
wo = dr.normalize(mi.Vector3f(-0.2, 0.5, 0.6))
value, pdf = bsdf.eval_pdf(mi.BSDFContext(), si, wo)
sample, weight = bsdf.sample(mi.BSDFContext(), si, 0.4, mi.Point2f(0.3, 0.6))
again = bsdf.eval_pdf(mi.BSDFContext(), si, sample.wo)
assert np.allclose(np.array(weight) * np.array(sample.pdf), np.array(again[0]), rtol=1e-3)
print(*np.array(value).ravel()[:3], *np.array(pdf).ravel())
"""


def test_other_variants_give_the_same_values_after_a_plain_import(tmp_path: Path) -> None:
    path = tmp_path / "moss.safetensors"
    save_material(path, random_material(17))
    numbers = {}
    for variant in ("llvm_ad_rgb", "scalar_rgb", "llvm_ad_spectral"):
        run = subprocess.run(
            [sys.executable, "-c", OTHER_VARIANT, variant, str(path)], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        numbers[variant] = [float(x) for x in run.stdout.split()]
    assert np.allclose(numbers["scalar_rgb"], numbers["llvm_ad_rgb"], rtol=1e-4)
    # Long wavelengths see red, 550 nm green, short ones blue.
    assert np.allclose(numbers["llvm_ad_spectral"], numbers["llvm_ad_rgb"], rtol=1e-4)


def test_plugin_follows_a_change_of_variant() -> None:
    import mitsuba as mi

    material = random_material(18)
    mi.set_variant("scalar_rgb")
    try:
        assert "NeuMIP" in str(plugin(material))
    finally:
        mi.set_variant("llvm_ad_rgb")
    assert "NeuMIP" in str(plugin(material))


def test_importing_gonio_alone_loads_neither_mitsuba_nor_torch() -> None:
    code = "import sys, gonio; assert not {'torch', 'mitsuba'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
