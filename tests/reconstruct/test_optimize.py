"""Fitting: good enough on a small known material, and bit for bit the same after an interruption."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from gonio.camera import cross_joined, random_places, two_phase
from gonio.color import srgb_from_linear
from gonio.errors import GonioError
from gonio.material_video import MaterialVideo
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial, Provenance, log_value
from gonio.reconstruct import universal
from gonio.reconstruct.optimize import OPTIMIZE, SCRATCH, Fit, FitSettings, Progress, enlarge, fit
from gonio.reconstruct.plane import geometry_at, render_plane
from gonio.reconstruct.universal import LatentSpace, UniversalDecoder, save_universal

TINY = dataclasses.replace(
    SCRATCH,
    decoder="16x2",
    coarsest=8,
    coarse_steps=7,
    fine_steps=5,
    coarse_batch=256,
    fine_batch=512,
    effort=1.0,
)

# With a last level that goes on from a teacher.
LISTENING = dataclasses.replace(TINY, blend_steps=6)


def truth() -> NeuralMaterial:
    """A smooth coloured material that darkens towards grazing light, without parallax."""
    spec = MaterialSpec(offset_channels=1, reflectance_channels=3, hidden_width=16, hidden_layers=1)
    decoder = Decoder(spec)
    for parameter in decoder.parameters():
        parameter.data.zero_()
    first, last = decoder.M_rgb.layers
    first.weight.data[:3, :3] = torch.eye(3)
    for i, (axis, sign) in enumerate([(3, 1.0), (3, -1.0), (4, 1.0), (4, -1.0)]):
        first.weight.data[3 + i, axis] = sign  # |wi_xy|, roughly the sine of the light's zenith angle
    last.weight.data[:, :3] = torch.eye(3) * 2
    last.weight.data[:, 3:7] = -1.0
    v, u = torch.meshgrid((torch.arange(16) + 0.5) / 16, (torch.arange(16) + 0.5) / 16, indexing="ij")
    waves = torch.stack(
        [(2 * torch.pi * u).sin(), (2 * torch.pi * v).cos(), (2 * torch.pi * (u + v)).sin()], -1
    )
    return NeuralMaterial(torch.zeros(1, 1, 1), waves + 1, decoder).requires_grad_(False)


def filmed(trajectory, size: int = 16) -> MaterialVideo:
    frames = render_plane(truth(), trajectory, size, size)
    return MaterialVideo(frames=frames, coverage=torch.ones(frames.shape[:3]), trajectory=trajectory)


@functools.cache
def teacher() -> NeuralMaterial:
    """Another fit, for want of a reconstruction model."""
    return fit(filmed(two_phase(17)), dataclasses.replace(TINY, seed=5, coarse_steps=60, decoder_rate=5e-3))


def display_psnr(material: NeuralMaterial, video: MaterialVideo) -> float:
    with torch.no_grad():
        estimate = render_plane(material, video.trajectory, *video.frames.shape[1:3])
    error = (srgb_from_linear(estimate) - srgb_from_linear(video.frames)).square().mean(-1)
    return float(-10 * torch.log10(error[video.sample_mask()].mean()))


def same(one: NeuralMaterial, other: NeuralMaterial) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_small_material_is_fitted_and_predicts_unseen_views():
    settings = dataclasses.replace(
        SCRATCH, decoder="32x2", coarse_steps=500, coarse_batch=2048, texture_rate=0.05, decoder_rate=5e-3
    )
    material = fit(filmed(two_phase(17)), settings)
    assert material.resolution == (16, 16)
    assert display_psnr(material, filmed(two_phase(17))) > 32.0
    # 69 degrees from the zenith, where the input's 34 degrees say little; an unlit guess has 5 dB.
    assert display_psnr(material, filmed(cross_joined().subset([0, 2, 12, 50]))) > 13.0


def test_the_same_fit_twice_is_the_same():
    video = filmed(two_phase(5))
    assert same(fit(video, TINY), fit(video, TINY))
    assert not same(fit(video, TINY), fit(video, dataclasses.replace(TINY, seed=1)))


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 6, 7, 8, 11, 12, 15])  # in each of the three levels and between them
def test_an_interrupted_fit_goes_on_bit_for_bit(tmp_path, stop):
    video, checkpoint = filmed(two_phase(5)), tmp_path / "a.fit"
    steps: list[int] = []

    def interrupt(state: Progress) -> None:
        if state.step == stop + 1:
            raise Stop

    with pytest.raises(Stop):
        fit(
            video,
            LISTENING,
            teacher=teacher(),
            checkpoint=checkpoint,
            checkpoint_seconds=-1.0,
            report=interrupt,
        )
    assert checkpoint.exists()
    material = fit(
        video,
        LISTENING,
        teacher=teacher(),
        checkpoint=checkpoint,
        report=lambda state: steps.append(state.step),
    )
    assert steps[0] == stop + 1  # nothing done before was done again
    assert steps[-1] == 18
    assert not checkpoint.exists()
    assert same(material, fit(video, LISTENING, teacher=teacher()))


def interrupted(video: MaterialVideo, checkpoint: Path) -> None:
    def interrupt(state: Progress) -> None:
        if state.step == 3:
            raise Stop

    with pytest.raises(Stop):
        fit(video, TINY, checkpoint=checkpoint, checkpoint_seconds=-1.0, report=interrupt)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    video, checkpoint = filmed(two_phase(5)), tmp_path / "a.fit"
    interrupted(video, checkpoint)
    for other in (
        lambda: fit(video, dataclasses.replace(TINY, seed=1), checkpoint=checkpoint),
        lambda: fit(video, TINY, size=8, checkpoint=checkpoint),
        lambda: fit(filmed(two_phase(17)), TINY, checkpoint=checkpoint),
    ):
        with pytest.raises(GonioError, match=r"a\.fit: .*remove it"):
            other()
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(GonioError, match=r"a\.fit: .*remove it"):
        fit(video, TINY, checkpoint=checkpoint)


def test_progress_counts_every_step_and_provenance_arrives():
    seen: list[Progress] = []
    material = fit(
        filmed(two_phase(5)), TINY, report=seen.append, provenance=Provenance(name="waves", licence="CC0")
    )
    assert [state.step for state in seen] == list(range(1, seen[-1].steps + 1))
    assert all(state.loss > 0 and 0 < state.psnr < 100 for state in seen)
    assert material.provenance == Provenance(name="waves", licence="CC0")


def test_nan_in_the_video_is_reported_not_fitted():
    video = filmed(two_phase(5))
    frames = video.frames.clone()
    frames[:] = float("nan")
    broken = MaterialVideo(frames=frames, coverage=video.coverage, trajectory=video.trajectory)
    with pytest.raises(GonioError, match="not finite"):
        fit(broken, TINY)


def test_the_schedule_doubles_the_resolution():
    sizes = [level.size for level in FitSettings().levels(256)]
    assert sizes == [64, 128, 256]
    assert [level.size * level.shrink for level in FitSettings().levels(256)] == [256, 256, 256]
    assert [level.size for level in FitSettings().levels(48)] == [48]


def test_enlarge_is_periodic_and_keeps_constants():
    texture = torch.randn(4, 4, 2)
    torch.testing.assert_close(enlarge(torch.full((4, 4, 2), 3.0), 8), torch.full((8, 8, 2), 3.0))
    rolled = enlarge(texture.roll((1, 2), (0, 1)), 8)
    torch.testing.assert_close(rolled, enlarge(texture, 8).roll((2, 4), (0, 1)))
    # The new texels at 1/4 and 3/4 between the old centres.
    torch.testing.assert_close(enlarge(texture, 8)[1, 1], texture[:2, :2].mean((0, 1)) * 0 + (
        0.75 * 0.75 * texture[0, 0] + 0.75 * 0.25 * (texture[0, 1] + texture[1, 0]) + 0.0625 * texture[1, 1]
    ))  # fmt: skip


# ---------------------------------------------------------------- with a universal decoder


@pytest.fixture
def a_universal_decoder(tmp_path, monkeypatch) -> UniversalDecoder:
    """A small random one, found where the bundled 64x4 would be."""
    torch.manual_seed(0)
    spec = MaterialSpec(offset_channels=2, reflectance_channels=3, hidden_width=16, hidden_layers=2)
    basis = torch.tril(torch.randn(5, 5)) * 0.1 + torch.eye(5)
    made = UniversalDecoder(
        decoder=Decoder(spec), space=LatentSpace(mean=torch.randn(5), basis=basis), provenance={"by": "test"}
    )
    save_universal(tmp_path / "u.safetensors", made)
    monkeypatch.setattr(universal, "bundled_path", lambda size: tmp_path / "u.safetensors")
    universal._bundled.cache_clear()
    yield made
    universal._bundled.cache_clear()


def test_optimize_starts_from_the_universal_decoder(a_universal_decoder):
    video = filmed(two_phase(5))
    still = dataclasses.replace(
        OPTIMIZE,
        coarsest=8,
        coarse_steps=1,
        fine_steps=1,
        coarse_batch=64,
        texture_rate=0.0,
        decoder_rate=0.0,
    )
    material = fit(video, still, size=16)
    assert material.spec == a_universal_decoder.decoder.spec
    for name, value in a_universal_decoder.decoder.state_dict().items():
        assert torch.equal(material.decoder.state_dict()[name], value), name
    latents = torch.cat([material.T_off, material.T_rgb], -1)
    # It starts from the mean latent.
    torch.testing.assert_close(latents, a_universal_decoder.space.mean.expand(16, 16, 5))


def test_a_strong_prior_keeps_the_latents_near_the_mean(a_universal_decoder):
    video = filmed(two_phase(5))

    def spread(prior: float) -> float:
        settings = dataclasses.replace(OPTIMIZE, coarse_steps=30, coarse_batch=512, prior=prior)
        material = fit(video, settings)
        latents = torch.cat([material.T_off, material.T_rgb], -1).detach()
        return float((latents - a_universal_decoder.space.mean).square().mean())

    assert spread(100.0) < 0.5 * spread(1e-3)


def test_fitting_leaves_the_shared_decoder_alone(a_universal_decoder):
    fit(filmed(two_phase(5)), dataclasses.replace(OPTIMIZE, coarse_steps=3, coarse_batch=64))
    shared = universal.load_universal().decoder.state_dict()
    for name, value in a_universal_decoder.decoder.state_dict().items():
        assert torch.equal(shared[name], value), name


def said(material: NeuralMaterial) -> torch.Tensor:
    """At random places, views and lights."""
    draw = torch.Generator().manual_seed(0)
    uv = torch.rand(4000, 2, generator=draw)
    at = geometry_at(uv, random_places((4000,), draw), random_places((4000,), draw))
    with torch.no_grad():
        return log_value(material.decoder, material.T_off, material.T_rgb, at.uv, at.wi, at.wo)


def apart(one: NeuralMaterial, other: NeuralMaterial) -> float:
    return float((said(one) - said(other)).square().mean())


def test_the_last_level_begins_where_the_teacher_stands():
    still = dataclasses.replace(LISTENING, blend_steps=1, texture_rate=0.0, blend_decoder_rate=0.0)
    assert same(fit(filmed(two_phase(5)), still, teacher=teacher()), teacher())


def test_the_last_level_leads_from_the_teacher_towards_the_fit():
    video = filmed(two_phase(17))
    settings = dataclasses.replace(LISTENING, blend_steps=200, blend_decoder_rate=5e-3, texture_rate=0.05)
    alone = fit(video, dataclasses.replace(settings, blend_steps=0))
    taught = fit(video, settings, teacher=teacher())
    between = apart(alone, teacher())
    assert 0.1 * between < apart(taught, teacher()) < 0.6 * between
    assert apart(taught, alone) < 0.9 * between


def test_a_fit_leaves_its_teacher_alone():
    before = {name: tensor.clone() for name, tensor in teacher().state_dict().items()}
    fit(filmed(two_phase(5)), dataclasses.replace(LISTENING, blend_decoder_rate=5e-3), teacher=teacher())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher().state_dict().items())


def test_a_teacher_of_other_sizes_is_refused():
    with pytest.raises(GonioError, match="for a fit of 32"):
        Fit(LISTENING, 32, teacher())


def test_a_teacher_and_settings_that_listen_go_together():
    with pytest.raises(GonioError, match="go together"):
        Fit(LISTENING, 16)
    with pytest.raises(GonioError, match="go together"):
        Fit(TINY, 16, teacher())
