"""Observations: what a frame says about a point is what the material rendered into it has there."""

from __future__ import annotations

import pytest
import torch

from gonio.camera import cross_joined, two_phase
from gonio.errors import GonioError
from gonio.material_video import MaterialVideo, reference_uv
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial, log_value
from gonio.reconstruct.observations import observe
from gonio.reconstruct.plane import render_plane

SPEC = MaterialSpec(offset_channels=2, reflectance_channels=3, hidden_width=8, hidden_layers=2)


def material() -> NeuralMaterial:
    torch.manual_seed(4)
    decoder = Decoder(SPEC)
    for network in (decoder.M_off, decoder.M_rgb):
        network.layers[-1].weight.data.mul_(10)
    return NeuralMaterial(torch.randn(6, 5, 2), torch.randn(5, 6, 3), decoder).requires_grad_(False)


def filmed(trajectory, height: int = 12, width: int = 12) -> MaterialVideo:
    frames = render_plane(material(), trajectory, height, width)
    return MaterialVideo(frames=frames, coverage=torch.ones(frames.shape[:3]), trajectory=trajectory)


@pytest.mark.parametrize("trajectory", [two_phase(17), cross_joined().subset([0, 5, 40, 77])])
def test_a_rendered_plane_inverts_exactly(trajectory):
    observations = observe(filmed(trajectory))
    batch = observations.batch(torch.arange(observations.count), SPEC.gain)
    truth = material()
    wanted = log_value(truth.decoder, truth.T_off, truth.T_rgb, batch.uv, batch.wi, batch.wo)
    assert float(wanted.std()) > 0.1
    torch.testing.assert_close(batch.target, wanted, atol=2e-4, rtol=1e-4)


def test_observations_are_the_pixels_on_the_sample_in_order():
    video = filmed(two_phase(17), 10, 14)
    observations = observe(video)
    uv = reference_uv(video.trajectory, 10, 14)
    inside = ((uv >= 0) & (uv <= 1)).all(-1)
    assert 0 < observations.count == int(inside.sum()) < inside.numel()
    batch = observations.batch(torch.arange(observations.count), SPEC.gain)
    torch.testing.assert_close(batch.uv, uv[inside], atol=1e-5, rtol=0)
    ones = torch.ones(observations.count)
    torch.testing.assert_close(batch.wi.norm(dim=-1), ones)
    torch.testing.assert_close(batch.wo.norm(dim=-1), ones)


def test_partly_covered_pixels_are_left_out():
    video = filmed(two_phase(5))
    coverage = video.coverage.clone()
    coverage[0, 3, 4] = 0.5
    partly = MaterialVideo(frames=video.frames, coverage=coverage, trajectory=video.trajectory)
    assert observe(partly).count == observe(video).count - 1


def test_shrinking_averages_whole_squares_of_pixels():
    video = filmed(two_phase(5), 13, 12)  # the odd row is dropped
    small = observe(video, shrink=2)
    assert small.frames.shape == (5, 6, 6, 3)
    torch.testing.assert_close(small.frames[1, 2, 3], video.frames[1, 4:6, 6:8].mean((0, 1)))
    kept = video.sample_mask()[:, :12].reshape(5, 6, 2, 6, 2).all(4).all(2)
    assert small.count == int(kept.sum())


def test_a_video_that_never_sees_the_sample_is_refused():
    video = filmed(two_phase(5))
    empty = MaterialVideo(frames=video.frames, coverage=video.coverage * 0, trajectory=video.trajectory)
    with pytest.raises(GonioError, match="trajectory"):
        observe(empty)
