"""Imitated faults of generated videos."""

import torch

from gonio.data.faults import drift, jittered, with_faults


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_strength_changes_nothing_and_some_changes_every_frame_within_bounds():
    frames = torch.rand(5, 16, 16, 3, generator=draw(1))
    torch.testing.assert_close(with_faults(frames, draw(), strength=0.0), frames)
    worse = with_faults(frames, draw())
    assert worse.shape == frames.shape and 0 <= float(worse.min()) and float(worse.max()) <= 1
    assert bool(((worse - frames).abs().flatten(1).max(1).values > 0.01).all())
    assert torch.equal(worse, with_faults(frames, draw()))


def test_jitter_moves_a_ramp_by_up_to_so_many_texels():
    ramp = torch.arange(32.0).expand(8, 1, 32, 32)
    moved = (jittered(ramp, 1.5, draw()) - ramp)[:, 0, 16, 8:24]
    assert float(moved.std(1).max()) < 1e-3  # the whole frame by the same
    assert 0.3 < float(moved.abs().max()) <= 1.5 + 1e-3


def test_drift_wanders_around_one():
    gains = torch.stack([drift(17, 0.04, draw(seed)) for seed in range(50)])
    assert abs(float(gains.mean()) - 1) < 0.01 and 0.005 < float(gains.std()) < 0.05
    neighbours, ends = gains.diff(dim=1).abs().mean(), (gains[:, 0] - gains[:, -1]).abs().mean()
    assert float(neighbours) < 0.6 * float(ends)
