"""Residual Parallax Coherence: low for parallax that follows the camera, high for any other picture."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from gonio.camera import Trajectory, cross_joined, two_phase
from gonio.errors import GonioError, UsageError
from gonio.evaluate.rpc import (
    RPCSettings,
    baselines,
    camera_phase,
    frame_pairs,
    rank_correlation,
    residual_parallax_coherence,
    rpc_loss,
)
from gonio.material_video import MaterialVideo
from gonio.rectify import reproject

cv2.setNumThreads(1)
SIZE = 40
SETTINGS = RPCSettings(resolution=SIZE, warps=3)


@pytest.fixture(scope="module")
def sanity() -> Iterator[ModuleType]:
    """benchmarks/rpc_sanity.py: how it spoils videos is part of what is tested here."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "rpc_sanity.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)  # as for a script that is run
        yield _module(path)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("rpc_sanity", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pattern(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """A picture of fine random waves, without repeats and defined everywhere. [..., 3]."""
    generator = torch.Generator().manual_seed(0)
    angle, phase = (2 * math.pi * torch.rand(2, 24, generator=generator)).unbind()
    frequency = 20 + 50 * torch.rand(24, generator=generator)  # radians per tile width
    along = u[..., None] * angle.cos() + v[..., None] * angle.sin()
    value = 0.5 + 0.07 * torch.sin(frequency * along + phase).sum(-1, keepdim=True)
    return value.clamp(0, 1).expand(*value.shape[:-1], 3)


def raised(height: float, *, highlight: float = 0.0) -> MaterialVideo:
    """A picture that floats above the sample's plane: exact parallax, known without a renderer.

    highlight: brightness of a broad spot that stands half-way to the camera's foot.
    """
    path = two_phase(17)
    ramp = (torch.arange(SIZE) + 0.5) / SIZE
    v, u = torch.meshgrid(1 - ramp, ramp, indexing="ij")
    rectified = []
    for camera in path.camera_position:
        # The ray through the plane's point p meets the level `height` at p + (camera - p) height / camera_z.
        share = height / camera[2]
        shown = pattern(u + (camera[0] + 0.5 - u) * share, v + (camera[1] + 0.5 - v) * share)
        spot = torch.exp(-((u - 0.5 - camera[0] * 0.4) ** 2 + (v - 0.5 - camera[1] * 0.4) ** 2) / 0.1)
        rectified.append(0.4 * shown + highlight * spot[..., None])
    frames, coverage = reproject(torch.stack(rectified), path, SIZE, SIZE)
    return MaterialVideo(frames=frames, coverage=coverage, trajectory=path)


def test_parallax_that_follows_the_camera_is_coherent_and_spoilt_videos_are_not(sanity):
    loss = {
        kind: residual_parallax_coherence(video, SETTINGS).loss
        for kind, video in sanity.variants(raised(0.04)).items()
    }
    assert loss["correct"] < 0.1
    assert loss["shuffled"] > 0.4 and loss["frozen"] > 0.4 and loss["flat"] > 0.4, loss


def test_the_flow_is_the_parallax_in_texels():
    result = residual_parallax_coherence(raised(0.04), SETTINGS)
    # Neighbouring cameras stand 2 sin(22.5 deg) apart, opposite ones 2: so far slides a level 0.04 / 1.5 up.
    for angle, flow in ((45, result.flow[0]), (180, result.flow[-1])):
        slide = 2 * math.sin(math.radians(angle / 2)) * 0.04 / 1.5 * SIZE
        assert flow == pytest.approx(slide, rel=0.35), angle


def test_with_even_contrast_a_highlight_that_moves_is_not_taken_for_parallax():
    matte, glossy = raised(0.04), raised(0.04, highlight=1.0)
    truth = residual_parallax_coherence(matte, SETTINGS).flow
    even = residual_parallax_coherence(glossy, replace(SETTINGS, contrast_sigma=0.05))
    raw = residual_parallax_coherence(glossy, SETTINGS)
    assert even.loss < 0.1
    assert np.median(abs(even.flow / truth - 1)) < 0.05
    assert np.median(abs(raw.flow / truth - 1)) > 0.4  # what evening the contrast is worth


def test_the_camera_phase_is_told_from_the_trajectory_not_from_the_index():
    assert camera_phase(two_phase(81)) == list(range(41, 81))
    assert camera_phase(two_phase(17)) == list(range(9, 17))
    swapped = two_phase(17).subset([*range(9, 17), *range(9)])
    assert camera_phase(swapped) == [*range(1, 8), 8]
    assert camera_phase(cross_joined()) == list(range(9, 81, 9))
    assert camera_phase(two_phase(17).subset([0])) == []


def test_a_camera_that_only_turns_moves_too():
    path = two_phase(17).subset([0, 0, 0])
    up = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    turned = Trajectory(
        camera_position=path.camera_position, camera_up=up, light_position=path.light_position
    )
    assert camera_phase(turned) == [2]


def test_the_baseline_is_equation_1():
    path = two_phase(17)
    pairs = np.array([[9, 10], [9, 13], [9, 16]])  # 45, 180 and 45 degrees around the circle
    chord = [2 * math.sin(math.radians(angle / 2)) for angle in (45, 180, 45)]
    angle = [math.radians(a) for a in (45, 180, 45)]
    for extent in (1.0, 0.5):
        expected = [math.hypot(a, c / extent) for a, c in zip(angle, chord, strict=True)]
        assert baselines(path, pairs, extent) == pytest.approx(expected, abs=1e-3)


def test_equal_baselines_are_equal_numbers():
    """What differs by rounding only must be tied, or the ranks of a circle's pairs would be made of noise."""
    path = two_phase(81).subset(camera_phase(two_phase(81)))
    for lag in (1, 7, 20):
        pairs = np.array([(t, t + lag) for t in range(40 - lag)])
        assert len(set(baselines(path, pairs, 1.0).tolist())) == 1


def test_pairs_have_many_lags_up_to_half_of_the_circle():
    pairs = frame_pairs(8, SETTINGS)
    assert sorted(set((pairs[:, 1] - pairs[:, 0]).tolist())) == [1, 2, 3, 4]
    assert len(pairs) == 7 + 6 + 5 + 4
    many = frame_pairs(40, SETTINGS)
    lags = sorted(set((many[:, 1] - many[:, 0]).tolist()))
    assert len(lags) == 8 and lags[0] == 1 and lags[-1] == 20
    assert len(many) <= 64 and many.min() == 0 and many.max() == 39


def test_only_the_ranks_count_and_falling_flow_is_as_bad_as_none():
    baseline = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(baseline, np.exp(baseline)) == (pytest.approx(1.0), None)
    assert rank_correlation(baseline, -baseline)[0] == pytest.approx(-1.0)
    assert [rpc_loss(rho) for rho in (1.0, 0.25, 0.0, -1.0, None)] == [0.0, 0.75, 1.0, 1.0, 1.0]


def test_a_video_in_which_nothing_moves_has_loss_one_and_a_reason():
    correlation, reason = rank_correlation(np.array([1.0, 2.0]), np.zeros(2))
    assert correlation is None and reason is not None and "nothing moves" in reason
    grey = raised(0.04)
    still = MaterialVideo(
        frames=grey.coverage[..., None] * torch.full_like(grey.frames, 0.5),
        coverage=grey.coverage,
        trajectory=grey.trajectory,
    )
    result = residual_parallax_coherence(still, SETTINGS)
    assert result.loss == 1.0 and result.correlation is None
    assert result.reason is not None and "nothing moves" in result.reason


def test_a_camera_that_stands_still_is_an_error():
    video = raised(0.04)
    with pytest.raises(GonioError, match="camera moves in 0 frames of 9"):
        residual_parallax_coherence(video.subset(list(range(9))), SETTINGS)
    with pytest.raises(GonioError, match="at least 4"):
        residual_parallax_coherence(video.subset([0, 9, 10]), SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": 8},
        {"max_lags": 1},
        {"percentiles": (90.0, 10.0)},
        {"extent": 0.0},
        {"contrast_sigma": -1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError, match="rpc"):
        RPCSettings(**wrong)
