"""The training loop."""

import math

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from gonio.errors import GonioError
from gonio.train import loop
from gonio.train.loop import LoopSettings, Training, has_fast_bf16, train

SETTINGS = LoopSettings(steps=12, rate=0.05, warmup=3, ema=0.9, weight_decay=0.1)


class Line(nn.Module):
    """Learns y = 3 x - 1; `frozen` takes no part."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(1, 4)
        self.head = nn.Linear(4, 1)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)

    def forward(self, x):
        return (self.head(self.body(x).tanh()) - (3 * x - 1)).square().mean()


def batch_at(step, index):
    draw = torch.Generator().manual_seed(1000 * step + index)
    return {"x": torch.rand(8, 1, generator=draw)}


def run(settings=SETTINGS, **options):
    training = Training(Line(), settings)
    figures = []
    done = train(training, batch_at, report=figures.append, **options)
    return training, figures, done


def test_the_loss_falls():
    _, figures, done = run(LoopSettings(steps=150, rate=0.05, warmup=5, weight_decay=0.0))
    assert done and figures[-1].loss < 0.1 * figures[0].loss


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    whole, figures, _ = run()
    path = tmp_path / "state.safetensors"
    _, first, done = run(checkpoint=path, stop_after_seconds=0)
    assert not done and len(first) == 1
    _, second, _ = run(checkpoint=path, stop_after_seconds=0)
    resumed, rest, done = run(checkpoint=path)
    assert done and len(rest) == SETTINGS.steps - 2
    assert [f.loss for f in first + second + rest] == [f.loss for f in figures]
    assert [f.smooth for f in first + second + rest] == [f.smooth for f in figures]
    mine, theirs = resumed.state(), whole.state()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


class Deep(nn.Module):
    """Numbered layers between an embedding and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(1, 8)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        hidden = self.embed(x)
        for block in self.blocks:
            hidden = hidden + block(hidden.tanh())
        return (self.head(hidden) - (3 * x - 1)).square().mean()


def test_muon_moves_the_matrices_of_numbered_layers_and_nothing_else():
    settings = LoopSettings(steps=4, rate=0.0, warmup=0, final_rate=1.0, weight_decay=0.0, muon_rate=0.01)
    training = Training(Deep(), settings)
    before = {name: p.detach().clone() for name, p in training.bare.named_parameters()}
    training.advance(batch_at)
    moved = {n: p.detach() - before[n] for n, p in training.bare.named_parameters()}
    assert {n for n, change in moved.items() if change.any()} == {"blocks.0.weight", "blocks.1.weight"}
    # Orthogonalized: every direction of the gradient's space is stepped along by about the same length.
    strengths = torch.linalg.svdvals(moved["blocks.0.weight"])
    assert strengths.max() < 0.01 * 0.2 * 8**0.5 * 1.3


def test_plain_parameters_are_left_to_adamw_whatever_their_shape():
    settings = LoopSettings(
        steps=4, rate=0.0, warmup=0, final_rate=1.0, weight_decay=0.0, muon_rate=0.01, plain=("blocks.0",)
    )
    training = Training(Deep(), settings)
    before = {name: p.detach().clone() for name, p in training.bare.named_parameters()}
    training.advance(batch_at)
    moved = {n for n, p in training.bare.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"blocks.1.weight"}


def test_a_resumed_run_with_two_optimizers_is_the_uninterrupted_one(tmp_path):
    settings = LoopSettings(steps=6, rate=0.01, warmup=2, muon_rate=0.02)
    whole, broken = Training(Deep(), settings), Training(Deep(), settings)
    train(whole, batch_at)
    train(broken, batch_at, checkpoint=tmp_path / "s.safetensors", stop_after_seconds=0)
    resumed = Training(Deep(), settings)
    assert train(resumed, batch_at, checkpoint=tmp_path / "s.safetensors")
    assert all(torch.equal(v, whole.state()[k]) for k, v in resumed.state().items())


def test_a_finished_run_is_not_run_again(tmp_path):
    path = tmp_path / "state.safetensors"
    run(checkpoint=path)
    _, figures, done = run(checkpoint=path)
    assert done and figures == []


def test_a_checkpoint_of_other_work_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    run(checkpoint=path, identity={"recipe": "a"})
    with pytest.raises(GonioError, match="checkpoint of another recipe"):
        run(checkpoint=path, identity={"recipe": "b"})


def test_accumulated_batches_are_one_large_batch():
    parts = LoopSettings(steps=1, rate=0.05, warmup=1, accumulate=2, clip=100.0)
    training, _, _ = run(parts)
    whole = Training(Line(), LoopSettings(steps=1, rate=0.05, warmup=1, clip=100.0))
    both = torch.cat([batch_at(0, i)["x"] for i in (0, 1)])
    whole.advance(lambda step, index: {"x": both})
    for a, b in zip(training.bare.parameters(), whole.bare.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_only_what_is_trainable_moves_and_is_stored():
    training, _, _ = run()
    assert torch.equal(training.bare.frozen.weight, Line().frozen.weight)
    assert not any("frozen" in name for name in training.state())


def test_averaged_weights_trail_the_trained_ones():
    training, _, _ = run()
    start, end = Line().head.weight, training.bare.head.weight
    average = training.averaged()["head.weight"]
    with torch.no_grad():
        assert float((average - start).norm()) < float((end - start).norm())
    assert not torch.equal(average, end)


def test_vectors_do_not_decay_and_heads_have_their_own_rate():
    settings = LoopSettings(steps=4, rate=0.01, warmup=1, heads=("head",), head_rate=5.0, weight_decay=0.3)
    training = Training(Line(), settings)
    training.advance(batch_at)
    found = {
        (group["weight_decay"], round(group["lr"] / settings.rate_at(0), 3)): len(group["params"])
        for group in training.optimizers[0].param_groups
    }
    assert found == {(0.3, 1.0): 1, (0.0, 1.0): 1, (0.3, 5.0): 1, (0.0, 5.0): 1}


def test_the_rate_warms_up_and_falls_to_its_share():
    rates = [SETTINGS.rate_at(step) for step in range(12)]
    assert rates[0] == pytest.approx(0.05 / 3, rel=1e-3)
    assert max(rates) == rates[2]
    assert SETTINGS.rate_at(12) == pytest.approx(0.05 * SETTINGS.final_rate)
    constant = LoopSettings(steps=5, rate=0.1, warmup=0, final_rate=1.0)
    assert {constant.rate_at(step) for step in range(5)} == {0.1}


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_touched():
    training = Training(Line(), SETTINGS)
    before = training.bare.head.weight.detach().clone()
    with pytest.raises(GonioError, match="not finite at step 0"):
        training.advance(lambda step, index: {"x": torch.tensor([[math.nan]])})
    assert torch.equal(training.bare.head.weight, before)


def test_validation_comes_every_so_often_and_at_the_end():
    steps = []
    run(every=5, validate=steps.append)
    assert steps == [5, 10, 12]


def test_nothing_trainable_is_an_error():
    with pytest.raises(GonioError, match="nothing is trainable"):
        Training(Line().requires_grad_(False), SETTINGS)


def test_bf16_is_used_only_where_the_processor_is_faster_with_it(monkeypatch):
    settings = LoopSettings(steps=1, rate=0.1, precision="bf16")
    for fast, precision in ((False, "no"), (True, "bf16")):
        AcceleratorState._reset_state(True)
        monkeypatch.setattr(loop, "has_fast_bf16", lambda device, fast=fast: fast)
        assert Training(Line(), settings).accelerator.mixed_precision == precision
    AcceleratorState._reset_state(True)
    assert has_fast_bf16("cuda")
    for x86, tiles, supported, fast in ((1, 1, 1, True), (1, 0, 1, False), (0, 0, 1, True), (0, 0, 0, False)):
        monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda x86=x86: bool(x86))
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda tiles=tiles: bool(tiles))
        monkeypatch.setattr(
            torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda supported=supported: bool(supported)
        )
        assert has_fast_bf16("cpu") is fast
