"""From the camera's picture to the sample's plane and back."""

from __future__ import annotations

import pytest
import torch

from gonio.camera import Trajectory, pixel_from_point, point_from_uv, two_phase
from gonio.errors import GonioError
from gonio.evaluate.metrics import psnr
from gonio.material_video import MaterialVideo
from gonio.rectify import plane_coverage, rectify, rectify_video, reproject

SIZE = 48


def texture(size: int = SIZE) -> torch.Tensor:
    """Smooth, asymmetric, bright at every border. [S, S, 3]."""
    ramp = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(ramp, ramp, indexing="ij")
    waves = [torch.sin(9 * x + 4 * y), torch.cos(7 * y - 3 * x), torch.sin(6 * x * y)]
    return torch.stack([0.5 + 0.4 * wave for wave in waves], -1)


def seen_by(trajectory: Trajectory, size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    return reproject(texture(size).expand(trajectory.frames, -1, -1, -1), trajectory, size, size)


def test_there_and_back_is_the_same_texture():
    path = two_phase(17)
    frames, coverage = seen_by(path)
    back, seen = rectify(frames, coverage, path, SIZE)
    truth = texture().expand_as(back)
    assert psnr(truth, back, seen).min() > 40
    # No texel that is called seen is far off, not even at the sample's edge.
    assert (back - truth).abs()[seen].max() < 0.1


def test_the_overhead_camera_already_looks_along_the_plane():
    path = two_phase(17).subset([0, 3])
    frames = torch.rand(2, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    back, seen = rectify(frames, torch.ones(2, SIZE, SIZE), path, SIZE)
    assert seen.all()
    torch.testing.assert_close(back, frames, atol=1e-5, rtol=0)


def test_a_spot_of_the_frame_comes_to_its_place_on_the_sample():
    path = two_phase(17).subset([10])  # camera at 90 degrees
    uv = torch.tensor([[0.8, 0.3]])
    pixel = pixel_from_point(
        point_from_uv(uv), path.camera_position[0], path.camera_up[0], path.fov, SIZE, SIZE
    )[0]
    frames = torch.zeros(1, SIZE, SIZE, 1)
    frames[0, int(pixel[1]), int(pixel[0])] = 1
    found, _ = rectify(frames, torch.ones(1, SIZE, SIZE), path, SIZE)
    row, column = divmod(int(found[0, ..., 0].argmax()), SIZE)
    assert abs(column / SIZE - 0.8) < 0.05 and abs(1 - row / SIZE - 0.3) < 0.05


def test_what_the_camera_cuts_off_is_not_seen():
    """The diagonal cameras of the two-phase path see but the far corner of four; the others see all."""
    path = two_phase(17)
    share = rectify(*seen_by(path), path, SIZE)[1].float().mean((1, 2))
    assert bool((share[:9] == 1).all()) and bool((share[10::2] > 0.998).all())
    assert bool((share[9::2] < 0.99).all()) and share.min() > 0.9
    corner = rectify(*seen_by(path), path, SIZE)[1][9]  # camera at 45 degrees: u and v large
    assert corner[-2, 1] and not (corner[0, -1] or corner[0, 0] or corner[-1, -1])


def test_a_point_behind_the_camera_is_not_seen():
    """A camera low above the sample has a part of it in its back."""
    path = Trajectory(
        camera_position=torch.tensor([[0.1, 0.0, 0.05]]),
        camera_up=torch.tensor([[0.0, 0.0, 1.0]]),
        light_position=torch.tensor([[0.0, 0.0, 1.5]]),
        fov=100.0,
    )
    _, seen = rectify(torch.ones(1, SIZE, SIZE, 3), torch.ones(1, SIZE, SIZE), path, SIZE)
    assert not seen[0, :, SIZE * 3 // 4 :].any() and seen[0, :, : SIZE // 2].any()


def test_the_edge_is_not_darkened_by_the_background():
    path = two_phase(17).subset([10])
    white = torch.ones(1, SIZE, SIZE, 3)
    frames, coverage = reproject(white, path, SIZE, SIZE)
    assert ((coverage > 0) & (coverage < 1)).any()
    back, seen = rectify(frames, coverage, path, SIZE)
    torch.testing.assert_close(back[seen], torch.ones_like(back[seen]), atol=1e-5, rtol=0)


def test_fine_stripes_are_averaged_not_aliased():
    """A texture of eight times the frame's resolution: grey, whatever camera looks."""
    path = two_phase(17).subset([0, 9, 10])
    stripes = (torch.arange(256) % 2).float().view(1, 1, 256, 1).expand(3, 256, 256, 1)
    frames, coverage = reproject(stripes, path, 32, 32)
    inside = coverage == 1
    assert (frames[..., 0][inside] - 0.5).abs().max() < 0.15
    small, _ = rectify(stripes[:1], torch.ones(1, 256, 256), path.subset([0]), 32)
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=1e-3, rtol=0)


def test_coverage_is_the_area_of_the_sample():
    overhead, side = plane_coverage(two_phase(17).subset([0, 10]), 64, 64)
    assert bool((overhead == 1).all())
    # Seen under 56.3 degrees from 1.8 tile widths: sin(56.3) / 1.8^2 * 1.5^2 of the frame, near enough.
    assert side.mean().item() == pytest.approx(0.576, abs=0.04)
    assert side[:4].max() == 0


def test_a_video_without_coverage_is_covered_as_the_plane_is():
    path = two_phase(17).subset([9, 10])
    frames, coverage = seen_by(path)
    known = MaterialVideo(frames=frames, coverage=coverage, trajectory=path)
    unknown = MaterialVideo(frames=frames, coverage=torch.ones_like(coverage), trajectory=path)
    for left, right in zip(rectify_video(known), rectify_video(unknown), strict=True):
        assert torch.equal(left, right)
    assert rectify_video(known, 20)[0].shape == (2, 20, 20, 3)


def test_both_ways_carry_gradients():
    path = two_phase(17).subset([9])
    picture = texture(12)[None].requires_grad_()
    frames, coverage = reproject(picture, path, 12, 12)
    rectify(frames, coverage, path, 12)[0].sum().backward()
    assert picture.grad is not None and picture.grad.abs().sum() > 1


@pytest.mark.parametrize("frames", [(4, 8, 8, 3), (5, 8, 8), (5, 0, 8, 3)])
def test_wrong_shapes_are_one_line_errors(frames):
    path = two_phase(5)
    with pytest.raises(GonioError, match="expected"):
        rectify(torch.ones(frames), torch.ones(frames[:3]), path, 8)
    with pytest.raises(GonioError, match="does not fit"):
        rectify(torch.ones(5, 8, 8, 3), torch.ones(5, 8, 9), path, 8)
    with pytest.raises(GonioError, match="S, S"):
        reproject(torch.ones(5, 8, 9, 3), path, 8, 8)
