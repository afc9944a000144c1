"""The virtual gonioreflectometer against analytic answers, and resuming."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
import torch

from gonio import media
from gonio.bsdf import principled
from gonio.camera import cross_joined, two_phase
from gonio.environment import EnvironmentMap, direction_from_uv
from gonio.errors import GonioError, UsageError
from gonio.material_video import load_material_video, reference_uv
from gonio.pbr import PBRMaterial
from gonio.reconstruct.plane import geometry_at
from gonio.scan import ScanSettings, photograph, scan, scene
from gonio.scan.measure import fingerprint

SETTINGS = ScanSettings(resolution=32, spp=16, denoise=False, aov=False)
WHITE = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 1.0}}


def flat(color: float = 0.5, roughness: float = 0.6, size: int = 8) -> PBRMaterial:
    """A flat dielectric of one colour."""
    maps = {
        "basecolor": torch.full((size, size, 3), color),
        "normal": torch.tensor([0.0, 0.0, 1.0]).expand(size, size, 3).contiguous(),
        "roughness": torch.full((size, size), roughness),
        "metallic": torch.zeros(size, size),
        "height": torch.zeros(size, size),
    }
    return PBRMaterial(name="flat", **maps, height_mean=0.0, height_factor=0.0, has_height=False)


@pytest.fixture
def lambertian(monkeypatch) -> None:
    """Every sample is a perfect white diffuser."""
    monkeypatch.setattr(scene, "surface", lambda material: WHITE)


def test_a_white_lambertian_has_radiance_1_at_the_centre_under_the_zenith_light(tmp_path, lambertian):
    path = cross_joined().subset([0, 9, 45])  # zenith light; camera at the zenith and at 69 degrees
    video, _ = scan(flat(), tmp_path, trajectory=path, settings=dataclasses.replace(SETTINGS, spp=64))
    centre = video.frames[:, 14:18, 14:18].mean((1, 2, 3))
    torch.testing.assert_close(centre, torch.ones(3), atol=0.01, rtol=0)


def test_every_pixel_of_a_flat_sample_is_brdf_times_irradiance(tmp_path):
    """Near-field light: direction and falloff per pixel; the light sphere is small against the highlight."""
    path = two_phase(17).subset([0, 3, 9, 13])
    material = flat(color=0.4, roughness=0.7)
    video, _ = scan(material, tmp_path, trajectory=path, settings=dataclasses.replace(SETTINGS, spp=64))
    uv = reference_uv(path, 32, 32)
    camera, light = (p[:, None, None] for p in (path.camera_position, path.light_position))
    at = geometry_at(uv, camera.expand(*uv.shape[:3], 3), light.expand(*uv.shape[:3], 3))
    shape = uv.shape[:3]
    value = principled(torch.full((*shape, 3), 0.4), torch.full(shape, 0.7), torch.zeros(shape), at.wi, at.wo)
    wanted = value * at.irradiance[..., None]
    mask = video.sample_mask()
    error = ((video.frames - wanted).abs() / wanted)[mask]
    assert float(error.mean()) < 0.02 and float(error.median()) < 0.01


def test_a_bright_corner_appears_at_the_right_pixel(tmp_path):
    color = torch.full((8, 8, 3), 0.02)
    color[1, 6] = 0.9  # row 0 is v = 1, column 7 is u = 1: near the top right corner, clear of the seams
    material = dataclasses.replace(flat(), basecolor=color)
    video, _ = scan(material, tmp_path, trajectory=two_phase(5), settings=SETTINGS)
    for frame in video.frames[:3]:  # the fixed camera: four pixels a texel
        y, x = divmod(int(frame[..., 1].argmax()), 32)
        assert 24 <= x <= 27 and 4 <= y <= 7
    # The reference coordinates of every pixel agree with what is seen there, from the orbiting camera too.
    uv, mask = reference_uv(video.trajectory, 32, 32), video.sample_mask()
    for index in range(5):
        bright = (video.frames[index, ..., 1] > 0.3) & mask[index]
        assert bool(bright.any())
        middle = uv[index][bright].mean(0)
        torch.testing.assert_close(middle, torch.tensor([6.5 / 8, 6.5 / 8]), atol=0.03, rtol=0)


@pytest.mark.parametrize(("axis", "brightest"), [(0, 0), (1, 1)])
def test_normal_maps_lean_towards_plus_u_and_plus_v(tmp_path, axis, brightest):
    normal = torch.zeros(8, 8, 3)
    normal[..., axis] = math.sin(math.radians(25))
    normal[..., 2] = math.cos(math.radians(25))
    path = two_phase(81).subset([0, 10, 20, 30])  # light at +x, +y, -x, -y
    video, _ = scan(dataclasses.replace(flat(), normal=normal), tmp_path, trajectory=path, settings=SETTINGS)
    means = video.frames.mean((1, 2, 3))
    assert int(means.argmax()) == brightest and int(means.argmin()) == brightest + 2


def test_height_becomes_geometry(tmp_path):
    """A wall along u = 0.5 throws its shadow away from the light."""
    height = torch.zeros(32, 32)
    height[:, 14:18] = 1.0
    material = dataclasses.replace(flat(size=32), height=height, height_factor=0.15, has_height=True)
    path = two_phase(81).subset([0, 20])  # light at +x, then at -x
    video, _ = scan(material, tmp_path, trajectory=path, settings=SETTINGS)
    left, right = video.frames[:, 8:24, 10:13].mean((1, 2, 3)), video.frames[:, 8:24, 19:22].mean((1, 2, 3))
    assert float(left[0]) < 0.6 * float(right[0])
    assert float(right[1]) < 0.6 * float(left[1])


# ---------------------------------------------------------------- without libLLVM

BRICKS = """
import sys
import torch
from gonio import mitsuba_setup
from gonio.camera import two_phase
from gonio.data.procedural import sample_material
from gonio.scan import ScanSettings, scan
torch.set_num_threads(1)
if sys.argv[1] == "no library":
    mitsuba_setup.llvm_library = lambda: None
bricks, path = sample_material(5, resolution=16, family="brick"), two_phase(17).subset([0, 5, 12])
for folder, seed in ((sys.argv[2], 0), (sys.argv[3], 1)):
    settings = ScanSettings(resolution=16, spp=2, denoise=False, seed=seed)
    scan(bricks, folder, trajectory=path, settings=settings)
print(mitsuba_setup.use_mitsuba())
"""


def test_without_libllvm_a_scan_is_the_same_but_for_its_noise(tmp_path):
    frames, features = {}, {}
    for library in ("library", "no library"):
        folders = [tmp_path / library / str(seed) for seed in (0, 1)]
        done = subprocess.run(
            [sys.executable, "-c", BRICKS, library, *folders], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        variant, warned = done.stdout.strip(), "no libLLVM" in done.stderr
        if library == "no library":
            assert (variant, warned) == ("scalar_rgb", True)
        frames[library] = torch.stack([load_material_video(folder).frames for folder in folders])
        features[library] = media.read_exr(folders[0] / "frames" / "0002.exr")
    compiled, scalar = frames["library"], frames["no library"]

    def difference(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).abs().mean())

    # As far from each other as two seeds are, and much farther from another picture.
    noise = difference(compiled[0], compiled[1])
    assert difference(scalar, compiled) < 1.5 * noise
    assert difference(scalar.flip(3), compiled) > 3 * noise
    torch.testing.assert_close(scalar.mean((0, 2, 3, 4)), compiled.mean((0, 2, 3, 4)), atol=0, rtol=0.05)
    # What the camera sees is traced without noise.
    for name in ("depth.Z", "normal.X", "normal.Y", "normal.Z"):
        one, other = (features[library][name] for library in ("library", "no library"))
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)
        assert float(one.std()) > 0.01


# ---------------------------------------------------------------- photographs


def sky(columns: int = 64) -> EnvironmentMap:
    generator = torch.Generator().manual_seed(2)
    grey = torch.rand(columns // 2, columns, 1, generator=generator) ** 4
    return EnvironmentMap(radiance=grey.expand(-1, -1, 3).contiguous())


@pytest.mark.parametrize("degrees", [0.0, 33.0])
def test_furnace_a_white_sample_has_radiance_1_under_any_environment(lambertian, degrees):
    settings = dataclasses.replace(SETTINGS, resolution=16, spp=256)
    photo = photograph(flat(), sky(), settings=settings, rotate_degrees=degrees)
    assert photo.shape == (16, 16, 3)
    assert float(photo.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(photo.std()) < 0.1


def test_the_environment_lights_from_where_its_directions_say():
    """A patch of light at +x: a sample that leans towards +x is brightest before the patch is turned away."""
    v, u = torch.meshgrid(1 - (torch.arange(32) + 0.5) / 32, (torch.arange(64) + 0.5) / 64, indexing="ij")
    direction = direction_from_uv(torch.stack([u, v], -1))
    towards = torch.nn.functional.normalize(torch.tensor([1.0, 0.0, 0.7]), dim=0)
    patch = ((direction @ towards) > 0.97).float()[..., None].expand(-1, -1, 3)
    environment = EnvironmentMap(radiance=patch.contiguous())
    normal = torch.zeros(8, 8, 3)
    normal[..., 0], normal[..., 2] = math.sin(math.radians(25)), math.cos(math.radians(25))
    means = [
        float(
            photograph(
                dataclasses.replace(flat(), normal=normal), environment, settings=SETTINGS, rotate_degrees=d
            ).mean()
        )
        for d in (0.0, 90.0, 180.0, 270.0)
    ]
    assert means[0] == max(means) and means[2] == min(means)
    assert means[1] == pytest.approx(means[3], rel=0.05)


def test_an_environment_without_light_from_above_is_refused():
    dark = torch.zeros(16, 32, 3)
    dark[15] = 1.0  # shines from below only
    with pytest.raises(GonioError, match="no light"):
        photograph(flat(), EnvironmentMap(radiance=dark), settings=SETTINGS)


# ---------------------------------------------------------------- resuming


def test_a_stopped_scan_goes_on_frame_by_frame_with_identical_frames(tmp_path, monkeypatch):
    path = two_phase(5)
    whole, _ = scan(flat(), tmp_path / "whole", trajectory=path, settings=SETTINGS)
    rendered: list[int] = []
    from gonio.scan import measure

    frame = measure.Stage.frame

    def counted(self, index):
        if len(rendered) == 2:
            raise KeyboardInterrupt
        rendered.append(index)
        return frame(self, index)

    monkeypatch.setattr(measure.Stage, "frame", counted)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        scan(flat(), folder, trajectory=path, settings=SETTINGS)
    assert not (folder / "material_video.json").exists()
    # The last whole frame is damaged, as by a crash: it is made again, not trusted.
    damaged = folder / "frames" / "0001.exr"
    damaged.write_bytes(damaged.read_bytes()[:200])
    rendered.clear()
    monkeypatch.setattr(measure.Stage, "frame", lambda self, i: (rendered.append(i), frame(self, i))[1])
    resumed, _ = scan(flat(), folder, trajectory=path, settings=SETTINGS)
    assert rendered == [1, 2, 3, 4]
    assert torch.equal(resumed.frames, whole.frames)
    rendered.clear()
    scan(flat(), folder, trajectory=path, settings=SETTINGS)
    assert rendered == []


def test_a_folder_with_another_scan_is_refused(tmp_path):
    path = two_phase(5).subset([0])
    scan(flat(), tmp_path, trajectory=path, settings=SETTINGS)
    for material, trajectory, settings in (
        (flat(color=0.6), path, SETTINGS),
        (flat(), two_phase(5).subset([1]), SETTINGS),
        (flat(), path, dataclasses.replace(SETTINGS, spp=17)),
        (flat(), path, dataclasses.replace(SETTINGS, seed=1)),
    ):
        with pytest.raises(GonioError, match="choose another --out"):
            scan(material, tmp_path, trajectory=trajectory, settings=settings)
    (tmp_path / "scan.json").write_text("[]")
    with pytest.raises(GonioError, match="choose another --out"):
        scan(flat(), tmp_path, trajectory=path, settings=SETTINGS)


def test_the_fingerprint_sees_every_map():
    path = two_phase(5)
    prints = {fingerprint(flat(), path, SETTINGS)}
    for name in ("basecolor", "roughness", "metallic", "normal"):
        values = getattr(flat(), name).clone()
        if name == "normal":
            values[0, 0] = torch.tensor([0.6, 0.0, 0.8])
        else:
            values[0, 0] = 0.123
        prints.add(fingerprint(dataclasses.replace(flat(), **{name: values}), path, SETTINGS))
    assert len(prints) == 5


def test_what_a_scan_leaves_behind(tmp_path):
    settings = ScanSettings(resolution=32, spp=4)  # denoised, with features
    material = dataclasses.replace(flat(), metadata={"licence": "CC0", "author": "A"})
    video, times = scan(material, tmp_path, trajectory=two_phase(5), settings=settings)
    assert media.read_video(tmp_path / "video.mp4").shape == (5, 32, 32, 3)
    assert video.provenance["name"] == "flat" and video.provenance["licence"] == "CC0"
    assert torch.equal(load_material_video(tmp_path).frames, video.frames)
    channels = media.read_exr(tmp_path / "frames" / "0003.exr")
    uv = reference_uv(two_phase(5), 32, 32)[3]
    torch.testing.assert_close(channels["reference.U"], uv[..., 0], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(channels["reference.V"], uv[..., 1], atol=2e-3, rtol=1e-3)
    centre = (16, 16)
    assert float(channels["normal.Z"][centre]) == pytest.approx(1.0, abs=1e-2)
    assert float(channels["depth.Z"][centre]) == pytest.approx(math.hypot(1.5, 1.0), abs=0.05)
    assert times.total >= times.render > 0 and times.denoise > 0


@pytest.mark.parametrize("wrong", [{"resolution": 15}, {"resolution": 5000}, {"spp": 0}, {"max_depth": 1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(UsageError, match="allowed are"):
        ScanSettings(**wrong)


def test_denoising_is_automatic_below_64_samples():
    assert ScanSettings(spp=63).denoises and not ScanSettings(spp=64).denoises
    assert not ScanSettings(spp=4, denoise=False).denoises and ScanSettings(spp=256, denoise=True).denoises
