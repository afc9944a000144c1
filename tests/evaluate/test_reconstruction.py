"""What a reconstruction is measured on where the truth is not a clean scan."""

import pytest
import torch

from gonio.camera import two_phase
from gonio.errors import GonioError
from gonio.evaluate.reconstruction import faulty_video, half_case
from gonio.material_video import MaterialVideo
from gonio.rectify import reproject


def grey_video(frames: int = 17, size: int = 32) -> MaterialVideo:
    """A flat grey sample with stripes, as the cameras of the two-phase path see it."""
    trajectory = two_phase(frames)
    stripes = (0.2 + 0.4 * (torch.arange(size) % 8 < 4)).expand(size, size)[..., None].expand(-1, -1, 3)
    linear, coverage = reproject(stripes.expand(frames, -1, -1, -1), trajectory, size, size)
    return MaterialVideo(frames=linear, coverage=coverage, trajectory=trajectory)


def test_halves_share_no_frame_and_together_are_the_video():
    video = grey_video()
    case = half_case(video)
    assert case.video.frames.shape[0] == 9 and case.truth.frames.shape[0] == 8
    assert torch.equal(case.video.frames[1], video.frames[2])
    assert torch.equal(case.truth.frames[1], video.frames[3])
    assert torch.equal(case.truth.trajectory.light_position[1], video.trajectory.light_position[3])
    with pytest.raises(GonioError, match="a video of 3 frames cannot be halved"):
        half_case(video.subset([0, 1, 2]))


def test_faults_spoil_every_frame_of_a_scan_and_leave_it_the_same_material():
    video = grey_video()
    worse = faulty_video(video)
    assert torch.equal(worse.trajectory.camera_position, video.trajectory.camera_position)
    mask = video.sample_mask() & worse.sample_mask()
    error = torch.stack(
        [(w - v)[m].square().mean() for w, v, m in zip(worse.frames, video.frames, mask, strict=True)]
    )
    assert float(error.min()) > 1e-5 and float(error.max()) < 0.05
    assert torch.equal(faulty_video(video).frames, worse.frames)
    assert not torch.equal(faulty_video(video, seed=1).frames, worse.frames)
