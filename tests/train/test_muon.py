"""Muon in single precision."""

import pytest
import torch
from torch import nn

from gonio.train import loop
from gonio.train.loop import LoopSettings, Training
from gonio.train.muon import SingleMuon, orthogonalized

COEFFICIENTS = (3.4445, -4.775, 2.0315)
OPTIONS = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}


@pytest.mark.parametrize("shape", [(32, 80), (80, 32), (24, 24)])
def test_its_steps_are_those_of_torchs_own_up_to_rounding(shape):
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=draw)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = SingleMuon([mine], **OPTIONS), torch.optim.Muon([theirs], **OPTIONS)
    for _ in range(4):
        mine.grad = torch.randn(shape, generator=draw)
        theirs.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs - start).norm()
    assert (mine - theirs).norm() < 0.02 * moved  # bf16 has three digits
    state = [optimizer.state_dict()["state"][0] for optimizer in optimizers]
    assert state[0].keys() == state[1].keys()


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_singular_values_come_near_one_and_their_vectors_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalized(matrix, COEFFICIENTS, 5, 1e-7)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    core = left.T @ found @ right.T
    assert 0.6 < core.diagonal().min() and core.diagonal().max() < 1.3
    assert (core - torch.diag(core.diagonal())).abs().max() < 1e-4


def test_a_training_takes_it_where_bf16_is_no_faster(monkeypatch):
    for fast, kind in ((True, torch.optim.Muon), (False, SingleMuon)):
        monkeypatch.setattr(loop, "has_fast_bf16", lambda device, fast=fast: fast)
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
        training = Training(model, LoopSettings(steps=1, rate=0.1, muon_rate=0.1))
        assert type(training.optimizers[-1].optimizer) is kind
