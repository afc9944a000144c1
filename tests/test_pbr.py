"""PBRMaterial: conventions of normals and heights, names of maps, defaults, round trips."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gonio.errors import GonioError
from gonio.map_names import recognise
from gonio.media import read_json, write_data_png, write_exr, write_image, write_json
from gonio.pbr import (
    PBRMaterial,
    load_material_maps,
    normal_from_displacement,
    resized_map,
    save_material_maps,
)


def _bumps(rows: int, columns: int) -> Tensor:
    """A smooth, periodic, asymmetric height field [H, W] in [0, 1]."""
    v, u = torch.meshgrid(
        torch.arange(rows) / rows * 2 * math.pi, torch.arange(columns) / columns * 2 * math.pi, indexing="ij"
    )
    return 0.5 + 0.2 * torch.sin(u + 0.4) + 0.15 * torch.cos(2 * v + u) + 0.1 * torch.sin(v)


def _material(rows: int = 24, columns: int = 24, factor: float = 0.1) -> PBRMaterial:
    height = _bumps(rows, columns)
    noise = torch.rand(rows, columns, 5, generator=torch.Generator().manual_seed(1))
    return PBRMaterial(
        name="bumps",
        basecolor=noise[..., :3],
        normal=normal_from_displacement((height - 0.4) * factor),
        roughness=noise[..., 3],
        metallic=noise[..., 4],
        height=height,
        height_mean=0.4,
        height_factor=factor,
        has_height=True,
        metadata={"licence": "CC0-1.0"},
    )


def _write_maps(folder: Path, size: int = 8, **maps: Tensor) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in ({"basecolor": torch.full((size, size, 3), 0.5)} | maps).items():
        write_data_png(folder / f"{name}.png", data, 16)


# ---------------------------------------------------------------- geometry


def test_a_slope_along_u_and_v_has_the_normal_of_its_plane() -> None:
    """Rising by 0.1 tile widths per tile width along +u gives (-0.1, 0, 1); +v is up, towards row 0."""
    size = 64
    along_u = (torch.arange(size) / size * 0.1).expand(size, size)
    expected = torch.tensor([-0.1, 0, 1]) / math.sqrt(1.01)
    assert torch.allclose(normal_from_displacement(along_u)[5, 5], expected, atol=1e-5)
    along_v = along_u.flip(1).T  # highest at row 0
    expected = torch.tensor([0, -0.1, 1]) / math.sqrt(1.01)
    assert torch.allclose(normal_from_displacement(along_v)[5, 5], expected, atol=1e-5)


def test_normals_are_periodic() -> None:
    height = _bumps(16, 16) * 0.1
    shifted = normal_from_displacement(height.roll((5, 3), (0, 1)))
    assert torch.allclose(shifted, normal_from_displacement(height).roll((5, 3), (0, 1)), atol=1e-6)


def test_rectangular_maps_have_square_pixels() -> None:
    rows, columns = 32, 64
    along_v = (-torch.arange(rows) / columns * 0.1).unsqueeze(1).expand(rows, columns)
    normal = normal_from_displacement(along_v)[5, 5]
    assert float(-normal[1] / normal[2]) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize("turns", [1, 2, 3, 4, -1])
@pytest.mark.parametrize("size", [(24, 24), (16, 32)])
def test_normals_of_a_turned_height_are_turned_normals(turns: int, size: tuple[int, int]) -> None:
    turned = _material(*size).rotated(turns)
    assert torch.allclose(normal_from_displacement(turned.displacement), turned.normal, atol=1e-5)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    material = _material()
    turned = material.rotated(1)
    assert torch.equal(turned.roughness[-1, 0], material.roughness[0, 0]), "top left goes to bottom left"
    flat_x = torch.tensor([0.6, 0.0, 0.8]).expand(24, 24, 3).contiguous()
    tilted = PBRMaterial(**(vars(material) | {"normal": flat_x})).rotated(1)
    assert torch.allclose(tilted.normal[0, 0], torch.tensor([0.0, 0.6, 0.8])), "+u turns into +v"


@pytest.mark.parametrize("new_size", [(48, 48), (12, 12), (24, 48), (40, 20)])
def test_normals_of_a_resized_height_are_resized_normals(new_size: tuple[int, int]) -> None:
    resized = _material(24, 24).resized(*new_size)
    from_height = normal_from_displacement(resized.displacement)
    cosine = (from_height * resized.normal).sum(-1)
    assert float(cosine.mean()) > 0.997
    assert torch.allclose(resized.normal.norm(dim=-1), torch.ones(new_size), atol=1e-5)


def test_shrinking_averages_linear_colour() -> None:
    checker = torch.zeros(8, 8, 3)
    checker[::2, ::2] = checker[1::2, 1::2] = 1.0
    assert torch.allclose(resized_map(checker, 4, 4, wrap=True), torch.full((4, 4, 3), 0.5))
    noise = _material().basecolor
    assert torch.allclose(resized_map(noise, 6, 6, wrap=True).mean(), noise.mean(), atol=1e-6)


def test_growing_wraps_only_when_tileable() -> None:
    ramp = torch.arange(4.0).expand(4, 4)
    assert float(resized_map(ramp, 4, 8, wrap=True)[0, 0]) == pytest.approx(0.75)  # 3/4 of 0, 1/4 of 3
    assert float(resized_map(ramp, 4, 8, wrap=False)[0, 0]) == 0.0
    assert torch.allclose(resized_map(ramp, 4, 8, wrap=True)[0, 1:3], torch.tensor([0.25, 0.75]))


def test_displacement_is_in_tile_widths() -> None:
    material = _material(factor=0.2)
    assert torch.allclose(material.displacement, (material.height - 0.4) * 0.2)
    assert _material(8, 8).resized(4).size == (4, 4)


# ---------------------------------------------------------------- validation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roughness": torch.zeros(3, 3)}, "roughness map of shape"),
        ({"basecolor": torch.full((24, 24, 3), 1.5)}, "scale them to"),
        ({"metallic": torch.full((24, 24), math.nan)}, "576 NaN or infinite"),
        ({"height": torch.zeros(24, 24, dtype=torch.float64)}, "convert it to float32"),
        ({"normal": torch.full((24, 24, 3), 0.5)}, "not unit vectors"),
        ({"height_factor": math.inf}, "height_factor of inf"),
    ],
)
def test_validation(change: dict[str, object], message: str) -> None:
    with pytest.raises(GonioError, match=message):
        PBRMaterial(**(vars(_material()) | change))


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("basecolor", "basecolor"),
        ("Bricks102_2K-JPG_Color", "basecolor"),
        ("BASE_COLOR", "basecolor"),
        ("wood-Albedo-4k", "basecolor"),
        ("metal_plate_diff_1k", "basecolor"),
        ("metal_plate_metal_1k", "metallic"),
        ("Bricks102_2K-JPG_NormalGL", "normal"),
        ("rock_wall_07_nor_dx_1k", "normal"),
        ("stone nrm", "normal"),
        ("x_rgh", "roughness"),
        ("x_Gloss", "glossiness"),
        ("Metal049A_2K_Metalness", "metallic"),
        ("ground_disp_4k", "height"),
        ("Bricks102_2K-JPG_Displacement", "height"),
        ("x_bump", "height"),
        ("Metal049A", None),
        ("normality", None),
        ("colorful_roughed", None),
        ("brick_AmbientOcclusion", None),
    ],
)
def test_names(stem: str, expected: str | None) -> None:
    role = recognise(stem)
    assert (role[0] if role else None) == expected


def test_a_preview_named_after_a_metal_is_not_a_metallic_map(tmp_path: Path) -> None:
    for name in ("rusty_metal_diff_1k.png", "rusty_metal.png"):
        write_image(tmp_path / name, torch.full((4, 4, 3), 0.5))
    assert float(load_material_maps(tmp_path).metallic.max()) == 0


def test_gl_wins_over_dx_when_both_are_there(tmp_path: Path) -> None:
    up = torch.tensor([0.5, 0.8, 0.9]).expand(8, 8, 3)
    _write_maps(tmp_path, NormalGL=up, NormalDX=up * torch.tensor([1, 0.25, 1]))
    assert float(load_material_maps(tmp_path).normal[..., 1].mean()) > 0.5


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("name", "metadata", "sign"),
    [
        ("rock_nor_gl_1k", {}, 1),
        ("rock_nor_dx_1k", {}, -1),
        ("normal", {"normal_convention": "DX"}, -1),
        ("normal", {"normal_convention": "OpenGL"}, 1),
        ("NormalGL", {"normal_convention": "DX"}, 1),
        ("normal", {}, 1),
    ],
)
def test_normals_are_gl_in_memory(tmp_path: Path, name: str, metadata: dict[str, str], sign: int) -> None:
    vector = torch.tensor([0.36, 0.48, 0.8])
    _write_maps(tmp_path, **{name: (vector * 0.5 + 0.5).expand(8, 8, 3)})
    write_json(tmp_path / "metadata.json", metadata)
    material = load_material_maps(tmp_path)
    assert torch.allclose(material.normal[0, 0], vector * torch.tensor([1, sign, 1.0]), atol=1e-4)
    assert material.metadata["normal_convention"] == "GL"
    assumed = "no normal convention stated: GL" in material.metadata["defaults"]
    assert assumed == (name == "normal" and not metadata)


def test_defaults_are_stated(tmp_path: Path) -> None:
    _write_maps(tmp_path / "plain")
    material = load_material_maps(tmp_path / "plain")
    assert material.name == "plain" and not material.has_height
    assert material.metadata["defaults"] == [
        "no roughness map: 0.5",
        "no metallic map: 0",
        "no height map: flat",
        "no normal map: flat",
    ]
    assert float(material.roughness.min()) == float(material.roughness.max()) == 0.5
    assert torch.equal(material.normal, torch.tensor([0, 0, 1.0]).expand(8, 8, 3))
    assert float(material.displacement.abs().max()) == 0


def _rms_slope(normal: Tensor) -> float:
    return float((normal[..., :2] / normal[..., 2:]).square().sum(-1).mean().sqrt())


def test_a_height_without_a_scale_is_as_steep_as_its_normal_map_or_0_2(tmp_path: Path) -> None:
    rough = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    _write_maps(tmp_path / "alone", 32, height=rough)
    assert _rms_slope(load_material_maps(tmp_path / "alone").normal) == pytest.approx(0.2, rel=1e-3)
    steep = normal_from_displacement(rough * 0.02)
    _write_maps(tmp_path / "both", 32, height=rough, normal=steep * 0.5 + 0.5)
    both = load_material_maps(tmp_path / "both")
    assert both.height_factor == pytest.approx(0.02, rel=1e-2)


def test_height_without_a_normal_map_makes_normals(tmp_path: Path) -> None:
    _write_maps(tmp_path, 32, height=_bumps(32, 32))
    material = load_material_maps(tmp_path)
    assert material.height_factor == 0.05  # gentle bumps: at most this
    assert "no height scale: 0.05 tile widths, from slope 0.2" in material.metadata["defaults"]
    assert material.height_mean == pytest.approx(float(_bumps(32, 32).mean()), abs=1e-5)
    assert torch.allclose(material.normal, normal_from_displacement(material.displacement))
    assert float(material.normal[..., 0].abs().max()) > 0.01


@pytest.mark.parametrize(
    ("metadata", "factor", "mean"),
    [
        ({"height_factor": 0.05, "height_scale_tile_widths": 0.1, "height_mean": 0.25}, 0.05, 0.25),
        ({"height_scale_tile_widths": 0.1}, 0.1, 0.5),
        ({"height_factor": -3}, -0.3, 0.5),
    ],
)
def test_height_scale(tmp_path: Path, metadata: dict[str, float], factor: float, mean: float) -> None:
    _write_maps(tmp_path, height=torch.full((8, 8), 0.5))
    write_json(tmp_path / "metadata.json", metadata)
    material = load_material_maps(tmp_path)
    assert material.height_factor == pytest.approx(factor)
    assert material.height_mean == pytest.approx(mean, abs=1e-4)
    clamped = any("clamped to 0.3" in note for note in material.metadata["defaults"])
    assert clamped == (factor == -0.3)


def test_glossiness_is_inverted_and_sizes_are_fitted(tmp_path: Path) -> None:
    _write_maps(tmp_path, 8, gloss=torch.full((16, 16), 0.8), metal=torch.full((4, 4), 0.25))
    material = load_material_maps(tmp_path)
    assert torch.allclose(material.roughness, torch.full((8, 8), 0.2), atol=1e-4)
    assert torch.allclose(material.metallic, torch.full((8, 8), 0.25), atol=1e-4)


def test_exr_maps(tmp_path: Path) -> None:
    write_image(tmp_path / "rock_diff_1k.exr", torch.full((4, 4, 3), 0.25))
    write_exr(tmp_path / "rock_rough_1k.exr", {"Y": torch.full((4, 4), 0.75)})
    material = load_material_maps(tmp_path)
    assert torch.allclose(material.basecolor, torch.tensor(0.25))
    assert torch.allclose(material.roughness, torch.tensor(0.75))


def test_unknown_metadata_is_kept(tmp_path: Path) -> None:
    _write_maps(tmp_path)
    write_json(tmp_path / "metadata.json", {"name": "Old bricks", "licence": "CC0-1.0", "mood": {"calm": 3}})
    material = load_material_maps(tmp_path)
    assert material.name == "Old bricks"
    assert material.metadata["licence"] == "CC0-1.0" and material.metadata["mood"] == {"calm": 3}


# ---------------------------------------------------------------- saving


@pytest.mark.parametrize("size", [(24, 24), (16, 32)])
def test_round_trip(tmp_path: Path, size: tuple[int, int]) -> None:
    material = _material(*size)
    save_material_maps(material, tmp_path / "out")
    again = load_material_maps(tmp_path / "out")
    for name, tolerance in {
        "basecolor": 1.2 / 255,
        "normal": 5e-5,
        "roughness": 0.51 / 255,
        "metallic": 0.51 / 255,
        "height": 1e-5,
    }.items():
        assert float((getattr(again, name) - getattr(material, name)).abs().max()) <= tolerance, name
    for name in ("name", "height_mean", "height_factor", "has_height", "tileable"):
        assert getattr(again, name) == getattr(material, name)
    assert again.metadata["licence"] == "CC0-1.0" and again.metadata["defaults"] == []


def test_a_material_without_height_stays_without(tmp_path: Path) -> None:
    _write_maps(tmp_path / "in")
    loaded = load_material_maps(tmp_path / "in")
    save_material_maps(loaded, tmp_path / "out")
    again = load_material_maps(tmp_path / "out")
    assert not again.has_height and again.height_factor == 0
    assert "no roughness map: 0.5" in again.metadata["defaults"], "what was once assumed stays stated"


def test_a_dx_material_is_flipped_once(tmp_path: Path) -> None:
    vector = torch.tensor([0.36, 0.48, 0.8])
    _write_maps(tmp_path / "in", normaldx=(vector * 0.5 + 0.5).expand(8, 8, 3))
    loaded = load_material_maps(tmp_path / "in")
    save_material_maps(loaded, tmp_path / "out")
    again = load_material_maps(tmp_path / "out")
    assert torch.allclose(again.normal, loaded.normal, atol=1e-4)
    assert read_json(tmp_path / "out" / "metadata.json")["source_normal_convention"] == "DX"


# ---------------------------------------------------------------- real materials


@pytest.mark.parametrize(
    "folder",
    [
        "materials/acg_bricks102",
        "materials/acg_metal049a",
        "materials/acg_wallpaper001b",
        "materials/cc0tex_rock01",
        "materials/cgb_bark_02",
        "materials_nonormal/acg_moss001",
    ],
)
def test_real_materials(data_root: Path, folder: str) -> None:
    material = load_material_maps(data_root / folder)
    metadata = read_json(data_root / folder / "metadata.json")
    assert material.has_height == metadata["has_height"]
    mean = torch.tensor(metadata["stats"]["basecolor_mean_linear"])
    assert torch.allclose(material.basecolor.mean(dim=(0, 1)), mean, atol=0.01)
    assert float(material.normal[..., 2].mean()) > 0.5


def test_real_heights_agree_with_real_normals(data_root: Path) -> None:
    """An absolute check of every sign: slopes of a scanned height against the artist's GL normal map."""
    for slug, convention, wanted in (
        ("acg_bricks102", "GL", 0.8),  # a wrong sign would give about -0.8
        ("acg_rock020", "DX", 0.8),
        ("cc0tex_ground08", "DX", 0.8),
    ):
        material = load_material_maps(data_root / "materials" / slug)
        assert material.metadata["source_normal_convention"] == convention
        ours = normal_from_displacement(material.displacement)
        for axis in (0, 1):
            pair = torch.stack((ours[..., axis].flatten(), material.normal[..., axis].flatten()))
            assert float(torch.corrcoef(pair)[0, 1]) > wanted, (slug, axis)
