"""Training of the large reconstruction model by rendering."""

import json
import math
import warnings
from dataclasses import replace

import pytest
import torch
from lpips_files import empty_hub, put_weights
from tiny_models import TINY_WAN

from gonio.camera import two_phase
from gonio.color import log_encode, srgb_from_linear
from gonio.data.clips import ClipSettings, make_pool
from gonio.errors import GonioError, UsageError
from gonio.material_video import MaterialVideo
from gonio.models.codec import load_codec
from gonio.models.load import load_transformer, random_autoencoder, random_transformer
from gonio.models.perceptual import lpips_network
from gonio.models.reconstruction import ReconstructionSpec
from gonio.models.spec import SPECS, find_spec
from gonio.models.weight_files import open_weights, save_model, weights_path
from gonio.neural_material import MaterialSpec
from gonio.reconstruct import lrm
from gonio.reconstruct.plane import geometry_at
from gonio.train.loop import Training
from gonio.train.lrm import (
    ABLATIONS,
    RECIPES,
    LRMObjective,
    PoolMaterials,
    batch_at,
    gradient_loss,
    lpips_loss,
    patches,
    train_lrm,
    with_available_loss,
)

RECIPE = RECIPES["smoke"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GONIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_pool(ClipSettings(procedural=3, resolution=32))


@pytest.fixture(scope="module")
def materials(pool):
    return PoolMaterials(pool)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_model(folder / "transformer", random_transformer(find_spec("mini-t2v"), 1))
    return folder


def test_a_batch_is_the_truth_at_the_texels_it_names(pool, materials):
    """Under a frame's own camera and light the target is what the clip shows there."""
    recipe = replace(RECIPE, faulty=0.0, thinned=0.0, random_share=0.0, batch=4, patches=4)
    batch = batch_at(recipe, materials, 0, 0)
    assert batch["frames"].shape == (4, 17, 32, 32, 3) and batch["uv"].shape == (4, 4, 8, 8, 2)
    trajectory, gain, checked = two_phase(17), MaterialSpec().gain, 0
    column = (batch["uv"][..., 0] * 32 - 0.5).round().long()
    row = ((1 - batch["uv"][..., 1]) * 32 - 0.5).round().long()
    for frame in range(17):
        at = geometry_at(batch["uv"], trajectory.camera_position[frame], trajectory.light_position[frame])
        here = (at.wi - batch["wi"]).norm(dim=-1) + (at.wo - batch["wo"]).norm(dim=-1) < 1e-4
        for b, k in here.all(-1).all(-1).nonzero().tolist():
            radiance = (torch.expm1(batch["target"][b, k]) / (gain * math.pi)) * at.irradiance[b, k][
                ..., None
            ]
            shown = batch["frames"][b, frame, row[b, k], column[b, k]]
            torch.testing.assert_close(srgb_from_linear(radiance).clamp(0, 1), shown, atol=0.01, rtol=0)
            checked += 1
    if not checked:
        pytest.skip("no patch drew one of the clip's frames")


def test_a_batch_depends_on_its_number_alone(materials):
    first, again, other = (batch_at(RECIPE, materials, 3, i) for i in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["target"], other["target"])


def test_patches_are_squares_of_texels_under_one_view_each():
    uv, camera, light = patches(replace(RECIPE, patches=5, patch=4), 16, torch.Generator().manual_seed(0))
    texel = uv * 16 - 0.5
    torch.testing.assert_close(texel, texel.round(), atol=1e-4, rtol=0)
    assert torch.allclose(uv[:, :, 1:, 0] - uv[:, :, :-1, 0], torch.tensor(1 / 16))
    assert torch.allclose(uv[:, :-1, :, 1] - uv[:, 1:, :, 1], torch.tensor(1 / 16))
    for place in (camera, light):
        assert bool((place == place[:, :1, :1]).all())


def test_the_gradient_loss_ignores_constants_and_counts_edges():
    flat = torch.rand(2, 3, 8, 8, 3)
    assert float(gradient_loss(flat + 0.3, flat)) < 1e-6
    edge = flat.clone()
    edge[..., 4:, :] += 1
    # One of seven differences a row at full size, one of three at half, the only one at a quarter.
    assert float(gradient_loss(edge, flat)) == pytest.approx((1 / 7 + 1 / 3 + 1) / 3, rel=1e-4)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with empty_hub(tmp_path, monkeypatch) as folder:
        yield folder


def test_lpips_judges_what_a_display_shows(hub):
    put_weights(hub)
    generator = torch.Generator().manual_seed(0)
    linear, other = torch.rand(2, 1, 2, 32, 32, 3, generator=generator)
    estimate, target = (log_encode(t, MaterialSpec().gain) for t in (linear, other))
    estimate.requires_grad_()
    loss = lpips_loss(estimate, target)
    shown = (srgb_from_linear(t)[0].movedim(-1, 1) * 2 - 1 for t in (linear, other))
    assert float(loss.detach()) == pytest.approx(float(lpips_network()(*shown).mean()), rel=1e-4)
    loss.backward()
    assert bool(torch.isfinite(estimate.grad).all()) and float(estimate.grad.abs().max()) > 0
    assert float(lpips_loss(target, target)) == 0.0
    glaring = log_encode(linear + 1, MaterialSpec().gain)
    assert float(lpips_loss(glaring, glaring + 1)) < 1e-9


def test_the_objective_uses_the_loss_its_recipe_names(hub, materials, weights):
    put_weights(hub)
    recipe = replace(RECIPE, patch=32, patches=1)
    batch = batch_at(recipe, materials, 0, 0)
    model = lrm.new_model(recipe.spec, weights=weights)
    found = {}
    for kind, share in (("gradient", 0.0), ("gradient", 1.0), ("lpips", 1.0)):
        objective = LRMObjective(model, replace(recipe, perceptual_kind=kind, perceptual=share))
        found[kind, share] = objective(**batch)
        # The network is no part of what is trained, averaged or stored.
        assert all(name.startswith("model.") for name, _ in objective.named_parameters())
    plain, gradient, lpips = (float(loss.detach()) for loss in found.values())
    assert len({plain, gradient, lpips}) == 3 and lpips > plain
    found["lpips", 1.0].backward()
    assert bool(torch.isfinite(model.decoder.M_rgb.layers[0].weight.grad).all())


def test_the_papers_recipes_ask_for_lpips_and_say_when_there_is_none(hub):
    assert {name for name, r in RECIPES.items() if r.perceptual_kind == "lpips"} == {
        "paper-lrm",
        "paper-lrm-1024",
    }
    recipe = RECIPES["paper-lrm"]
    with pytest.warns(
        UserWarning, match="lpips: no weights at .*; the weight-free gradient loss takes"
    ) as told:
        assert with_available_loss(recipe) == replace(recipe, perceptual_kind="gradient")
    assert len(told) == 1 and "\n" not in str(told[0].message)
    put_weights(hub)
    with pytest.warns(UserWarning, match="8x8 pixels.*the weight-free gradient loss"):
        assert with_available_loss(replace(recipe, patch=8)).perceptual_kind == "gradient"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_available_loss(recipe) == recipe
        assert with_available_loss(RECIPE) == RECIPE
        unweighted = replace(recipe, patch=8, perceptual=0.0)
        assert with_available_loss(unweighted) == unweighted


@pytest.mark.parametrize("used", ["gradient", "lpips"])
def test_a_training_names_the_loss_it_used(hub, pool, weights, tmp_path, used):
    loop = replace(RECIPE.loop, steps=1, precision="no")
    recipe = replace(RECIPE, patch=32, patches=1, perceptual_kind="lpips", loop=loop)
    if used == "lpips":
        put_weights(hub)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train_lrm(recipe, tmp_path / "out", pool, weights=weights)
    assert any("gradient loss takes the place" in str(w.message) for w in told) == (used == "gradient")
    facts = json.loads((tmp_path / "out" / "training.json").read_text())
    assert facts["perceptual_used"] == used and facts["recipe"]["perceptual_kind"] == "lpips"


def test_the_truth_itself_has_no_loss(materials, weights):
    batch = batch_at(RECIPE, materials, 0, 0)
    model = lrm.new_model(RECIPE.spec, weights=weights)
    objective = LRMObjective(model, RECIPE)
    worse = float(objective(**batch).detach())
    with pytest.MonkeyPatch.context() as patch:
        truth = zip(batch["target"].flatten(1, 3), batch["shift"].flatten(1, 3), strict=True)
        patch.setattr("gonio.train.lrm.log_value_and_offset", lambda *_: next(truth))
        assert float(objective(**batch)) < 1e-9 < worse


@torch.no_grad()
def test_a_model_begins_with_the_video_models_transformer_unpacked(weights):
    """It sees in latents what the video model's first layer saw in their components."""
    source = load_transformer(find_spec("mini-t2v"), weights)
    model = lrm.new_model(RECIPE.spec, weights=weights)
    assert torch.equal(model.transformer.blocks[3].attn1.to_q.weight, source.blocks[3].attn1.to_q.weight)
    codec, frames = load_codec(find_spec("mini-t2v")), torch.rand(1, 17, 32, 32, 3)
    seen = torch.nn.functional.pad(codec.encode(frames), (0, 0) * 3 + (0, 10 + 48))
    latents = torch.nn.functional.pad(model.encode(frames), (0, 0) * 3 + (0, 10))
    shown = model.transformer.patch_embedding(latents)
    torch.testing.assert_close(shown, source.patch_embedding(seen), atol=1e-3, rtol=1e-3)


def test_training_lowers_the_loss_and_writes_a_model_that_loads(pool, weights, tmp_path):
    recipe = replace(
        RECIPE, faulty=0.0, thinned=0.0, loop=replace(RECIPE.loop, steps=30, precision="no", warmup=3)
    )
    losses = []
    assert train_lrm(recipe, tmp_path, pool, weights=weights, report=lambda r: losses.append(r.loss))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    model = lrm.load_model(recipe.spec, tmp_path / "model")
    trajectory = two_phase(17)
    video = MaterialVideo(
        frames=torch.rand(17, 32, 32, 3),
        coverage=torch.ones(17, 32, 32),
        trajectory=trajectory,
        provenance={},
    )
    made = lrm.reconstruct(model, video)
    assert made.resolution == (32, 32) and bool(torch.isfinite(made.T_rgb).all())
    with pytest.raises(UsageError, match="20 texels a side: mini-lrm makes multiples of 8"):
        lrm.reconstruct(model, video, size=20)
    with pytest.raises(GonioError, match="needs the 17 frames of the two-phase trajectory.*lacks 13"):
        lrm.reconstruct(model, video.subset([0, 1, 2]))
    assert lrm.reconstruct(model, video.subset(list(range(0, 17, 2)))).resolution == (32, 32)
    for spoil, message in ((torch.zeros, "black everywhere"), (torch.full, "NaN")):
        shape = (17, 32, 32, 3)
        frames = spoil(shape) if spoil is torch.zeros else spoil(shape, math.nan)
        with pytest.raises(GonioError, match=message):
            lrm.reconstruct(model, replace(video, frames=frames))


@pytest.fixture
def perspective(monkeypatch, tmp_path):
    """A recipe like the paper's of a model of perspective frames, and the weights of its video model."""
    wan = replace(TINY_WAN, transformer={**TINY_WAN.transformer, "text_dim": 384}, frames=17)
    monkeypatch.setitem(SPECS, "tiny-wan", wan)
    save_model(tmp_path / "weights" / "vae", random_autoencoder(wan, 0))
    save_model(tmp_path / "weights" / "transformer", random_transformer(wan, 0))
    spec = ReconstructionSpec(name="tiny-lrm", video="tiny-wan")
    loop = replace(RECIPE.loop, steps=2, precision="no")
    return replace(
        RECIPES["paper-lrm"], spec=spec, patch=8, perceptual_kind="gradient", clips=RECIPE.clips, loop=loop
    ), tmp_path / "weights"


def test_a_model_of_perspective_frames_learns_from_what_the_cameras_see(perspective, pool, materials):
    recipe, _ = perspective
    seen = batch_at(recipe, materials, 0, 0)["frames"][0]
    aligned = replace(recipe, spec=RECIPE.spec)
    clip = batch_at(aligned, materials, 0, 0)["frames"][0]
    # The standing camera looks down on the sample: nearly the texture. The orbiting one sees background.
    assert float((seen[0] - clip[0]).abs().mean()) < 0.05
    assert float(seen[12, 0].abs().max()) == 0.0 and float(clip[12, 0].min()) > 0.0


def test_the_second_stage_goes_on_from_the_first_ones_weights(perspective, pool, tmp_path):
    recipe, weights = perspective
    assert train_lrm(recipe, tmp_path / "first", pool, weights=weights)
    begin = tmp_path / "first" / "model"
    still = replace(recipe, loop=replace(recipe.loop, rate=1e-12, muon_rate=0.0, steps=1, ema=0.0))
    assert train_lrm(still, tmp_path / "second", pool, weights=weights, begin=begin)
    first, second = (load_state_of(folder / "model") for folder in (tmp_path / "first", tmp_path / "second"))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=1e-3, rtol=1e-2)
    with pytest.raises(GonioError, match="do not fit"):
        train_lrm(RECIPE, tmp_path / "third", pool, begin=begin)


def load_state_of(folder):
    weights = open_weights(weights_path(folder))
    return {name: weights.read(name).float() for name in weights.shapes}


def test_the_mlps_of_the_material_are_no_matter_for_muon(weights):
    """Its steps do not shrink with the gradient, which kills the units of a layer that gets little of it."""
    recipe = RECIPES["mini-lrm"]
    objective = LRMObjective(lrm.new_model(recipe.spec, weights=weights), recipe)
    training = Training(objective, replace(recipe.loop, precision="no"))
    groups = [g for optimizer in training.optimizers for g in optimizer.param_groups if g["matrices"]]
    matrices = {id(p) for group in groups for p in group["params"]}
    mine = {name for name, p in objective.named_parameters() if id(p) in matrices}
    assert any("transformer.blocks" in name for name in mine)
    assert not any("M_off" in name or "M_rgb" in name for name in mine)


def test_missing_frames_are_the_mean_of_their_neighbours_on_the_circle():
    trajectory = two_phase(17)
    frames = torch.arange(17.0)[:, None]
    kept = list(range(0, 17, 2))
    whole = lrm.filled(frames[kept], kept, trajectory)[:, 0]
    assert torch.equal(whole[kept], frames[kept, 0])
    assert whole[[1, 3, 5, 11, 13, 15]].tolist() == [1, 3, 5, 11, 13, 15]
    # The circles close: frame 8 stands where frame 0 does, and frame 16 is a neighbour of frame 9.
    assert whole[7] == (6 + 0) / 2 and whole[9] == (10 + 16) / 2
    assert torch.equal(lrm.filled(frames, list(range(17)), trajectory), frames)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_builds_and_takes_a_step(name, materials, weights):
    recipe = ABLATIONS[name](RECIPE)
    model = lrm.new_model(recipe.spec, start=recipe.start, decoder=recipe.decoder, weights=weights)
    model.decoder.requires_grad_(not recipe.frozen_decoder)
    loss = LRMObjective(model, recipe)(**batch_at(recipe, materials, 0, 0))
    loss.backward()
    learned = model.decoder.M_rgb.layers[0].weight.grad
    assert torch.isfinite(loss) and (learned is None) == recipe.frozen_decoder


def test_log_targets_are_of_white_under_irradiance_pi():
    value = torch.tensor([0.0, 1 / math.pi])
    torch.testing.assert_close(log_encode(value * math.pi, 10.0), torch.tensor([0.0, math.log(11)]))
