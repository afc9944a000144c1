"""The stage: lamps and environment turn alike, and a turntable is a video or a folder of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gonio.environment import EnvironmentMap, direction_from_uv
from gonio.errors import GonioError, UsageError
from gonio.media import read_color, read_video, write_image
from gonio.render.lights import Light, PointLight, SphereLight
from gonio.render.stage import (
    RenderSettings,
    check_output,
    render_still,
    render_to_file,
    render_turntable,
    save_frames,
    save_turntable,
)
from gonio.render.surfaces import LambertianSurface

GREY = LambertianSurface(torch.full((3,), 0.5))


def quick(**changes: Any) -> RenderSettings:
    return RenderSettings(**({"shape": "sphere", "resolution": 16, "spp": 4} | changes))


# ------------------------------------------------------------------------ lamps in a light sweep


@pytest.mark.parametrize(
    ("lamp", "placed"),
    [
        (
            PointLight(position=(3.0, -2.0, 4.0), intensity=(90.0, 80.0, 70.0)),
            PointLight(position=(2.0, 3.0, 4.0), intensity=(90.0, 80.0, 70.0)),
        ),
        (
            SphereLight(position=(3.0, -2.0, 4.0), radius=0.5, radiance=(90.0, 80.0, 70.0)),
            SphereLight(position=(2.0, 3.0, 4.0), radius=0.5, radiance=(90.0, 80.0, 70.0)),
        ),
    ],
)
def test_a_lamp_turned_by_90_degrees_is_a_lamp_placed_there(lamp: Light, placed: Light) -> None:
    sweep = render_turntable(GREY, quick(lights=(lamp,)), frames=4, what="light")
    assert torch.allclose(sweep[0], render_still(GREY, quick(lights=(lamp,))), atol=1e-4)
    assert torch.allclose(sweep[1], render_still(GREY, quick(lights=(placed,))), atol=1e-3)
    assert float((sweep[1] - sweep[0]).abs().mean()) > 0.05


def patch_of_sky(x: float, y: float, z: float) -> EnvironmentMap:
    """A panorama that is bright around one direction and dark elsewhere."""
    v, u = torch.meshgrid(1 - (torch.arange(32) + 0.5) / 32, (torch.arange(64) + 0.5) / 64, indexing="ij")
    towards = torch.nn.functional.normalize(torch.tensor([x, y, z]), dim=0)
    bright = direction_from_uv(torch.stack([u, v], -1)) @ towards > 0.95
    return EnvironmentMap(radiance=bright.float()[..., None].expand(-1, -1, 3) * 20)


@pytest.mark.parametrize("kind", ["environment", "point", "sphere"])
def test_lamps_turn_as_the_environment_does(tmp_path: Path, kind: str) -> None:
    """From the camera's side (-y), a quarter turn brings the light to +x: the right of the picture."""
    lamps: dict[str, tuple[Light, ...]] = {
        "environment": (),
        "point": (PointLight(position=(0.0, -6.0, 3.0), intensity=(100.0,) * 3),),
        "sphere": (SphereLight(position=(0.0, -6.0, 3.0), radius=0.5, radiance=(100.0,) * 3),),
    }
    panorama = tmp_path / "sky.hdr"
    write_image(panorama, patch_of_sky(0.0, -6.0, 3.0).radiance)
    settings = quick(
        spp=16,
        floor=False,
        lights=lamps[kind],
        environment=None if lamps[kind] else panorama,
        background=False,
    )
    front, right, back, left = render_turntable(GREY, settings, frames=4, what="light").mean((1, 3))

    def share_of_the_right_half(columns: Tensor) -> float:
        return float(columns[8:].sum() / columns.sum())

    assert share_of_the_right_half(front) == pytest.approx(0.5, abs=0.05)
    assert share_of_the_right_half(right) > 0.85
    assert share_of_the_right_half(left) < 0.15


# ------------------------------------------------------------------------ frames in a folder


def test_a_turntable_in_a_folder_is_png_frames_for_eyes(tmp_path: Path) -> None:
    settings = quick(exposure=-1.0)
    pictures = render_turntable(GREY, settings, frames=2)
    written = render_to_file(GREY, settings, tmp_path / "made" / "turn", turntable=True, frames=2)
    assert written == tmp_path / "made" / "turn"
    assert sorted(path.name for path in written.iterdir()) == ["0000.png", "0001.png"]
    for index, picture in enumerate(pictures):
        assert torch.allclose(
            read_color(written / f"{index:04d}.png"), (picture * 0.5).clamp(0, 1), atol=0.01
        )


def test_exr_frames_are_linear_and_not_exposed(tmp_path: Path) -> None:
    settings = quick(exposure=-1.0)
    pictures = render_turntable(GREY, settings, frames=2)
    folder = tmp_path / "a.mp4"  # a folder that exists may be called anything
    folder.mkdir()
    render_to_file(GREY, settings, folder, turntable=True, frames=2, frame_format="exr")
    assert sorted(path.name for path in folder.iterdir()) == ["0000.exr", "0001.exr"]
    for index, picture in enumerate(pictures):
        assert torch.allclose(read_color(folder / f"{index:04d}.exr"), picture, rtol=2e-3, atol=1e-4)


def test_a_name_with_a_video_suffix_is_a_video(tmp_path: Path) -> None:
    path = render_to_file(GREY, quick(), tmp_path / "a.mp4", turntable=True, frames=2)
    assert path.is_file() and read_video(path).shape[0] == 2


def grey_pictures(count: int) -> Iterator[Tensor]:
    return (torch.full((8, 8, 3), 0.5) for _ in range(count))


def test_pictures_that_are_there_are_saved_by_the_same_names(tmp_path: Path) -> None:
    pictures = torch.stack([torch.full((8, 8, 3), value) for value in (0.1, 0.4)])
    save_turntable(tmp_path / "turn", pictures, exposure=1.0)
    assert [path.name for path in sorted((tmp_path / "turn").iterdir())] == ["0000.png", "0001.png"]
    assert torch.allclose(read_color(tmp_path / "turn" / "0001.png"), pictures[1] * 2, atol=0.01)
    save_turntable(tmp_path / "a.mp4", pictures)
    assert read_video(tmp_path / "a.mp4").shape == (2, 8, 8, 3)


def test_frames_appear_together_or_not_at_all(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Tensor]:
        yield from grey_pictures(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_frames(tmp_path / "turn", interrupted(), 3)
    assert list(tmp_path.iterdir()) == []


def test_frames_replace_their_like_but_do_not_mix_with_a_longer_sequence(tmp_path: Path) -> None:
    save_frames(tmp_path, grey_pictures(3), 3)
    save_frames(tmp_path, grey_pictures(3), 3)
    save_frames(tmp_path, grey_pictures(2), 2, "exr")  # beside the others, not among them
    with pytest.raises(GonioError, match="0002.png: is of a longer sequence; .* choose another --out"):
        save_frames(tmp_path, grey_pictures(2), 2)
    assert len(list(tmp_path.iterdir())) == 5


def test_where_frames_cannot_go_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GonioError, match="file: is a file; name a folder"):
        check_output(tmp_path / "file", moving=True)
    with pytest.raises(GonioError, match="cannot write here"):
        check_output(tmp_path / "file" / "turn", moving=True)
    with pytest.raises(UsageError, match="a turntable is written as .mp4, or as frames into a folder"):
        check_output(tmp_path / "turn.gif", moving=True)
    with pytest.raises(UsageError, match="a still is written as"):
        check_output(tmp_path / "still", moving=False)


@pytest.mark.parametrize(("name", "turntable"), [("a.png", False), ("a.mp4", True)])
def test_a_frame_format_is_for_frames(tmp_path: Path, name: str, turntable: bool) -> None:
    with pytest.raises(UsageError, match="--frame-format exr: .* give --turntable and a folder"):
        render_to_file(GREY, quick(), tmp_path / name, turntable=turntable, frame_format="exr")
