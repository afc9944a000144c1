"""Material videos on disk, and where their pixels lie on the sample."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gonio import media
from gonio.camera import Trajectory, cross_joined, pixel_from_point, point_from_uv, two_phase
from gonio.color import linear_from_srgb, srgb_from_linear
from gonio.errors import GonioError
from gonio.material_video import (
    MANIFEST,
    MaterialVideo,
    load_material_video,
    reference_uv,
    write_manifest,
    write_preview,
)


def noise(frames: int = 5, size: int = 16) -> torch.Tensor:
    return torch.rand(frames, size, size, 3, generator=torch.Generator().manual_seed(0))


def write(folder: Path, suffix: str = ".exr", frames: torch.Tensor | None = None) -> torch.Tensor:
    frames = noise() if frames is None else frames
    for index, frame in enumerate(frames):
        path = folder / "frames" / f"{index:04d}{suffix}"
        if suffix == ".exr":
            alpha = torch.full(frame.shape[:2], 0.25 * (index + 1)).clamp_max(1)
            media.write_exr(path, {**dict(zip("RGB", frame.unbind(-1), strict=True)), "A": alpha})
        else:
            media.write_image(path, frame)
    write_manifest(folder, two_phase(frames.shape[0]), {"name": "moss", "licence": "CC0"}, suffix)
    return frames


def test_lossless_frames_come_back_with_trajectory_coverage_and_provenance(tmp_path):
    frames = write(tmp_path)
    video = load_material_video(tmp_path)
    torch.testing.assert_close(video.frames, frames, atol=5e-4, rtol=5e-4)  # half floats
    assert video.coverage[:, 0, 0].tolist() == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert video.provenance == {"name": "moss", "licence": "CC0"}
    assert video.trajectory.kind == "two-phase"
    assert torch.equal(video.trajectory.light_position, two_phase(5).light_position)
    assert video.trajectory.fov == two_phase(5).fov


def test_png_frames_are_display_encoded_on_disk_and_linear_in_memory(tmp_path):
    frames = write(tmp_path, ".png")
    video = load_material_video(tmp_path)
    torch.testing.assert_close(
        srgb_from_linear(video.frames), srgb_from_linear(frames), atol=0.503 / 255, rtol=0
    )
    assert bool((video.coverage == 1).all())


def test_a_video_without_a_manifest_follows_the_two_phase_path_with_a_warning(tmp_path):
    encoded = torch.linspace(0.1, 0.9, 17)[:, None, None, None].expand(17, 32, 32, 3)
    media.write_video(tmp_path / "a.mp4", encoded)
    with pytest.warns(UserWarning, match=r"a\.mp4: no material_video.json; assuming the two-phase"):
        video = load_material_video(tmp_path / "a.mp4")
    assert video.trajectory.frames == 17
    torch.testing.assert_close(video.frames, linear_from_srgb(encoded), atol=0.03, rtol=0)


def test_a_folder_of_frames_is_a_video(tmp_path):
    for index in range(5):
        media.write_image(tmp_path / f"f{index}.png", torch.full((8, 8, 3), 0.5))
    with pytest.warns(UserWarning, match="two-phase"):
        assert load_material_video(tmp_path).frames.shape == (5, 8, 8, 3)


def test_preview(tmp_path):
    path = write_preview(tmp_path, noise())
    assert media.read_video(path).shape == (5, 16, 16, 3)


def edit(folder: Path, **changes) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    for key, value in changes.items():
        if value is None:
            manifest.pop(key)
        else:
            manifest[key] = value
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "this version reads 1"),
        ({"schema": None}, "this version reads 1"),
        ({"trajectory": None}, "lacks the trajectory"),
        ({"frame_suffix": None}, "lacks the trajectory or frame_suffix"),
        ({"frame_suffix": ".jpg"}, "known are"),
        ({"frame_suffix": ".png"}, "does not exist"),
        ({"trajectory": {"fov_degrees": 30}}, "malformed"),
        ({"trajectory": 7}, "malformed"),
    ],
)
def test_bad_manifests(tmp_path, changes, message):
    write(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(GonioError, match=message) as caught:
        load_material_video(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_bad_frames(tmp_path):
    write(tmp_path)
    frame = tmp_path / "frames" / "0003.exr"
    content = frame.read_bytes()
    frame.write_bytes(content[: len(content) // 2])
    with pytest.raises(GonioError, match=r"0003\.exr"):
        load_material_video(tmp_path)
    frame.unlink()
    with pytest.raises(GonioError, match=r"0003\.exr does not exist"):
        load_material_video(tmp_path)
    media.write_exr(frame, dict.fromkeys("RGB", torch.zeros(4, 4)))
    with pytest.raises(GonioError, match=r"0003\.exr: 4x4, the first frame is 16x16"):
        load_material_video(tmp_path)
    media.write_exr(frame, {"Y": torch.zeros(16, 16)})
    with pytest.raises(GonioError, match="lacks channel R"):
        load_material_video(tmp_path)


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "NaN"), (0.0, "every frame is black")])
def test_frames_without_content(tmp_path, value, message):
    write(tmp_path, frames=torch.full((5, 8, 8, 3), value))
    with pytest.raises(GonioError, match=message):
        load_material_video(tmp_path)


def test_frame_counts_that_say_nothing_about_the_trajectory(tmp_path):
    media.write_video(tmp_path / "a.mp4", torch.rand(16, 32, 32, 3))
    with pytest.raises(GonioError, match=r"a\.mp4: 16 frames .* 81, 41, 17 or 5"):
        load_material_video(tmp_path / "a.mp4")


def test_shapes_must_agree():
    frames, path = noise(), two_phase(5)
    with pytest.raises(GonioError, match="coverage"):
        MaterialVideo(frames=frames, coverage=torch.ones(5, 16, 15), trajectory=path)
    with pytest.raises(GonioError, match="17 places"):
        MaterialVideo(frames=frames, coverage=torch.ones(5, 16, 16), trajectory=two_phase(17))
    with pytest.raises(GonioError, match=r"\[F, H, W, 3\]"):
        MaterialVideo(frames=frames[0], coverage=torch.ones(16, 16), trajectory=path)


def test_subset_takes_frames_and_places_together():
    video = MaterialVideo(frames=noise(), coverage=torch.ones(5, 16, 16), trajectory=two_phase(5))
    some = video.subset([4, 0])
    assert torch.equal(some.frames, video.frames[[4, 0]])
    assert torch.equal(some.trajectory.light_position, video.trajectory.light_position[[4, 0]])


# ---------------------------------------------------------------- where pixels lie


def test_the_unit_sample_exactly_fills_the_frame_from_the_fixed_camera():
    """u to the right, v up, row 0 on top: u = (x + .5) / W, v = 1 - (y + .5) / H."""
    uv = reference_uv(two_phase(5).subset([0]), 6, 6)[0]
    ramp = (torch.arange(6) + 0.5) / 6
    torch.testing.assert_close(uv[..., 0], ramp.expand(6, 6), atol=1e-6, rtol=0)
    torch.testing.assert_close(uv[..., 1], (1 - ramp)[:, None].expand(6, 6), atol=1e-6, rtol=0)


@pytest.mark.parametrize("frame", [0, 12, 20, 40, 76])
def test_reference_uv_projects_back_to_the_pixel(frame):
    path = cross_joined().subset([frame])
    uv = reference_uv(path, 9, 9)[0]
    on_the_plane = uv.abs().amax(-1) < 10
    points = point_from_uv(uv[on_the_plane])
    pixel = pixel_from_point(points, path.camera_position[0], path.camera_up[0], path.fov, 9, 9)
    y, x = torch.meshgrid(torch.arange(9) + 0.5, torch.arange(9) + 0.5, indexing="ij")
    wanted = torch.stack([x, y], -1)[on_the_plane]
    torch.testing.assert_close(pixel, wanted, atol=1e-3, rtol=0)


def test_the_mask_keeps_what_is_on_the_sample_and_covered():
    path = two_phase(17).subset([0, 12])
    coverage = torch.ones(2, 16, 16)
    coverage[0, 0, 0] = 0.5
    video = MaterialVideo(frames=torch.ones(2, 16, 16, 3), coverage=coverage, trajectory=path)
    mask = video.sample_mask()
    assert int(mask[0].sum()) == 255 and not bool(mask[0, 0, 0])
    assert 60 < int(mask[1].sum()) < 256  # the oblique camera also sees what lies beside


def test_a_trajectory_survives_json():
    path = cross_joined()
    again = Trajectory.from_json(json.loads(json.dumps(path.to_json())))
    assert torch.equal(again.camera_position, path.camera_position)
    assert torch.equal(again.camera_up, path.camera_up)
    assert torch.equal(again.light_position, path.light_position)
    assert (again.fov, again.kind) == (path.fov, path.kind)
