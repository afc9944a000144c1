"""Nearest neighbours and diversity: copies are found however turned; different materials are apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gonio import media
from gonio.camera import two_phase
from gonio.color import linear_from_srgb, srgb_from_linear
from gonio.errors import GonioError
from gonio.evaluate.similarity import (
    SIZE,
    distances,
    diversity,
    find_materials,
    find_videos,
    mean_picture,
    nearest,
    pair_sheet,
    picture_of,
    symmetries,
)
from gonio.material_video import MaterialVideo, write_manifest
from gonio.rectify import reproject


def picture(seed: int, size: int = SIZE) -> torch.Tensor:
    """Soft random blobs. [size, size, 3] display-encoded."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[0].movedim(0, -1)


def video_of(texture: torch.Tensor, size: int = 32) -> MaterialVideo:
    """A flat print of a picture, under the five-frame two-phase path."""
    path = two_phase(5)
    frames, coverage = reproject(linear_from_srgb(texture).expand(5, -1, -1, -1), path, size, size)
    return MaterialVideo(frames=frames, coverage=coverage, trajectory=path)


def write_video(folder: Path, seed: int) -> Path:
    video = video_of(picture(seed))
    for index, frame in enumerate(video.frames):
        channels = {**dict(zip("RGB", frame.unbind(-1), strict=True)), "A": video.coverage[index]}
        media.write_exr(folder / "frames" / f"{index:04d}.exr", channels)
    write_manifest(folder, video.trajectory, {"prompt": "moss", "seed": seed}, ".exr")
    return folder


def test_the_mean_picture_of_a_print_is_the_print():
    texture = picture(0, 32)
    torch.testing.assert_close(mean_picture(video_of(texture), 32), texture, atol=0.08, rtol=0)


def test_a_copy_has_distance_zero_however_it_is_turned():
    known = torch.stack([picture(1), picture(2), picture(3)])
    for turned in symmetries(picture(2)):
        found = nearest(turned, known, [Path("a"), Path("b"), Path("c")])
        assert found.path == Path("b") and found.distance < 1e-4 and found.psnr > 60
    assert len({tuple(t.flatten().tolist()) for t in symmetries(picture(2))}) == 8


def test_other_materials_are_far():
    apart = distances(picture(1), torch.stack([picture(1), picture(2), picture(3)]))
    assert apart[0] < 1e-4 and bool((apart[1:] > 0.3).all())


def test_diversity_is_the_mean_over_all_pairs():
    a, b, c = picture(1), picture(2), picture(3)
    one = torch.stack([a, a, a])
    assert diversity(one) == pytest.approx(0, abs=1e-4)
    expected = (distances(a, b[None]) + distances(a, c[None]) + distances(b, c[None])) / 3
    assert diversity(torch.stack([a, b, c])) == pytest.approx(float(expected), abs=1e-5)
    assert diversity(a[None]) is None


def test_a_training_set_is_videos_and_pictures(tmp_path):
    video = write_video(tmp_path / "set" / "moss", 5)
    photo = tmp_path / "set" / "photos" / "brick.png"
    media.write_image(photo, linear_from_srgb(picture(6, 96)[:, :80]))
    (tmp_path / "set" / "notes.txt").write_text("not a material")
    assert find_materials(tmp_path / "set") == [video, photo]
    assert find_videos(tmp_path / "set") == [video] and find_videos(video) == [video]
    # The middle square of the picture, as the display shows it.
    assert picture_of(photo).shape == (SIZE, SIZE, 3)
    square = torch.nn.functional.interpolate(
        linear_from_srgb(picture(6, 96)[8:88, :80]).movedim(-1, 0)[None], size=(SIZE, SIZE), mode="area"
    )
    torch.testing.assert_close(
        picture_of(photo), srgb_from_linear(square[0].movedim(0, -1)), atol=0.01, rtol=0
    )
    with pytest.raises(GonioError, match="no material videos or pictures"):
        find_materials(tmp_path / "set" / "notes.txt")


def test_the_sheet_shows_every_pair(tmp_path):
    for seed in (1, 2):
        media.write_image(tmp_path / f"{seed}.png", linear_from_srgb(picture(seed)))
    sheet = pair_sheet([(tmp_path / "1.png", tmp_path / "2.png", 0.7)] * 2)
    assert sheet.shape[0] > 2 * 256 and sheet.shape[1] > 2 * 256 and sheet.std() > 0.05
