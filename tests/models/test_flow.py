"""Flow matching against the original code's numbers, and against what can be worked out by hand."""

import json

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from gonio.errors import GonioError, UsageError
from gonio.generate.tileable import circular_shift
from gonio.models import flow, wan_keys
from gonio.models.weight_files import open_weights

SHIFTS = (1.0, 3.0, 5.0)
SHAPE = (2, 3, 2, 4, 6)


@pytest.fixture(scope="module")
def golden(data_root):
    folder = data_root / "golden" / "flow_matching"
    meta = json.loads((folder / "meta.json").read_text())
    return (
        load_file(folder / "inputs.safetensors"),
        load_file(folder / "outputs.safetensors"),
        meta["tolerance"],
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def golden_velocity(x, timestep, conditional):
    """The velocity field of the fixture (its meta.json)."""
    t = timestep.reshape(-1, 1, 1, 1, 1)
    wave = torch.tanh(1.3 * x) * (0.6 + 0.8 * torch.cos(3 * t / 1000))
    return wave + 0.5 * torch.sin(2 * x + 5 * t / 1000) - 0.2


REFERENCES = [("unipc", "wan_unipc"), ("dpm++", "wan_dpmpp"), ("euler", "diffsynth_wan")]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("solver", "reference"), REFERENCES)
def test_schedules_are_those_of_the_reference(golden, solver, reference, shift):
    _, outputs, tolerance = golden
    for steps in (4, 20, 50):
        plan = flow.schedule(solver, steps, shift)
        key = f"{reference}.shift{shift:.0f}.steps{steps}"
        sigmas, timesteps = outputs[f"{key}.sigmas"], outputs[f"{key}.timesteps"]
        assert plan.timesteps.dtype == torch.float32
        assert (plan.sigmas[: len(sigmas)] - sigmas).abs().max() <= tolerance["sigmas"]
        assert torch.equal(plan.timesteps, timesteps.float())
        assert plan.sigmas[-1] == 0 and len(plan.sigmas) == steps + 1


def test_the_unipc_schedule_is_what_diffusers_makes_of_wans_levels(golden):
    for key in ("diffusers_unipc_wan_sigmas.shift5.steps20", "diffusers_unipc_v0.32.2.shift5.steps20"):
        plan = flow.schedule("unipc", 20, 5.0)
        assert (plan.sigmas - golden[1][f"{key}.sigmas"]).abs().max() <= 1e-6
        assert torch.equal(plan.timesteps, golden[1][f"{key}.timesteps"].float())


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("solver", "reference"), [*REFERENCES[:2], ("euler", "diffsynth_euler")])
def test_trajectories_are_those_of_the_reference(golden, solver, reference, shift):
    inputs, outputs, tolerance = golden
    compared = 0
    for steps in (4, 20, 50):
        key = f"{reference}.shift{shift:.0f}.steps{steps}"
        if f"{key}.samples" not in outputs:
            continue
        visited = []
        final = flow.sample(
            golden_velocity,
            inputs["x_T"],
            steps=steps,
            shift=shift,
            solver=solver,
            on_step=lambda index, total, latents, visited=visited: visited.append(latents),
        )
        chosen = inputs.get(f"{key}.sample_steps", torch.arange(steps))
        torch.testing.assert_close(
            torch.stack(visited)[chosen], outputs[f"{key}.samples"], **tolerance["samples"]
        )
        assert torch.equal(final, visited[-1])
        compared += 1
    assert compared >= 1


@pytest.mark.parametrize("shift", SHIFTS)
def test_training_targets_are_those_of_the_reference(golden, shift):
    inputs, outputs, tolerance = golden
    key = f"train.shift{shift:.0f}"
    index = inputs[f"{key}.timestep_id"]
    sigmas, weights = flow.training_sigmas(shift), flow.training_weights(shift)
    continuous = flow.shifted(inputs["train.u"], shift)
    pairs = {
        f"{key}.sigmas": sigmas,
        f"{key}.weights": weights,
        f"{key}.weight": weights[index],
        f"{key}.x_t": flow.noised(inputs["train.x0"], inputs["train.noise"], sigmas[index]),
        f"{key}.target": flow.velocity_target(inputs["train.x0"], inputs["train.noise"]),
        f"train_continuous.shift{shift:.0f}.sigma": continuous,
        f"train_continuous.shift{shift:.0f}.x_t": flow.noised(
            inputs["train.x0"], inputs["train.noise"], continuous
        ),
    }
    for name, value in pairs.items():
        assert (value - outputs[name]).abs().max() <= tolerance["train"], name
    assert (sigmas * 1000 - outputs[f"{key}.timesteps"]).abs().max() <= 1e-3


def wan_network(folder, head_dim):
    """A fixture's original weights in the diffusers class."""
    weights = open_weights(folder / "weights.safetensors")
    config = wan_keys.transformer_config(weights.shapes, head_dim)
    model = WanTransformer3DModel(**config).eval()
    names = wan_keys.transformer_names(config)
    model.load_state_dict({wan_keys.renamed(key, names): weights.read(key) for key in weights.shapes})
    return model


@pytest.mark.parametrize(
    ("fixture", "case"),
    [("wan_t2v", "sampler_unipc"), ("wan_t2v", "sampler_dpmpp"), ("wan_i2v", "sampler_unipc")],
)
def test_sample_reproduces_the_original_generate(data_root, fixture, case):
    folder = data_root / "golden" / fixture
    meta = json.loads((folder / "meta.json").read_text())
    settings = next(entry for entry in meta["cases"] if entry["case"] == case)
    inputs, outputs = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    model = wan_network(folder, meta["config"]["dim"] // meta["config"]["num_heads"])
    text = {
        conditional: torch.nn.functional.pad(context, (0, 0, 0, 512 - len(context)))[None]
        for conditional, context in (
            (True, inputs["sampler_context_pos"]),
            (False, inputs["sampler_context_neg"]),
        )
    }
    visited = []

    def predict(latents, timestep, conditional):
        return model(latents, timestep, text[conditional], inputs.get("sampler_clip_fea"), return_dict=False)[
            0
        ]

    latents = flow.sample(
        predict,
        inputs[f"{case}.noise"][None],
        steps=settings["steps"],
        shift=settings["shift"],
        guidance=settings["guide_scale"],
        solver=settings["solver"],
        on_step=lambda index, total, latents: visited.append(latents[0]),
        condition=outputs[f"{case}.y"][None] if f"{case}.y" in outputs else None,
    )
    tolerance = meta["tolerance"]["sampler"]
    close = {"atol": tolerance["atol"], "rtol": tolerance["rtol"]}
    for index, state in enumerate(visited[:-1]):
        torch.testing.assert_close(state, outputs[f"{case}.step{index + 1}.latent"], **close)
    torch.testing.assert_close(latents[0], outputs[f"{case}.final"], **close)


@pytest.mark.parametrize("solver", ["unipc", "dpm++", "euler"])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_a_straight_field_is_integrated_exactly(solver, steps):
    """Where all data is one point, the velocity along a path is constant: any solver must land on it."""
    data = torch.randn(SHAPE, generator=generator(1))
    noise = torch.randn(SHAPE, generator=generator(2))
    first = flow.schedule(solver, steps, 3.0).sigmas[0]
    start = flow.noised(data, noise, first.expand(2))
    latents = flow.sample(lambda x, t, c: noise - data, start, steps=steps, shift=3.0, solver=solver)
    torch.testing.assert_close(latents, data, atol=1e-5, rtol=0)


def test_shift_keeps_the_ends_and_raises_the_middle():
    sigma = torch.tensor([0.0, 0.5, 1.0])
    assert flow.shifted(sigma, 3.0).tolist() == [0.0, 0.75, 1.0]
    assert torch.equal(flow.shifted(sigma, 1.0), sigma)


def test_training_weights_have_mean_one_and_favour_the_middle():
    for shift in SHIFTS:
        weights, sigmas = flow.training_weights(shift), flow.training_sigmas(shift)
        assert weights.mean().item() == pytest.approx(1, abs=1e-5)
        assert (sigmas[weights.argmax()] - 0.5).abs() < 0.01
        assert weights.min() == 0


def test_guidance_extrapolates_from_the_unconditional_velocity():
    asked = []

    def predict(x, timestep, conditional):
        asked.append(conditional)
        return torch.full_like(x, 2.0 if conditional else 1.0)

    start = torch.zeros(1, 1, 1, 2, 2)
    guided = flow.sample(predict, start, steps=1, shift=1.0, guidance=5.0, solver="euler")
    assert guided.unique().tolist() == [-6.0]  # -(1 + 5 (2 - 1))
    asked.clear()
    plain = flow.sample(predict, start, steps=2, shift=1.0, guidance=1.0, solver="euler")
    assert plain.unique().tolist() == [-2.0] and asked == [True, True]


def test_the_network_is_told_float32_timesteps_of_the_whole_batch():
    told = []

    def predict(x, timestep, conditional):
        told.append(timestep)
        return x.bfloat16()

    latents = flow.sample(predict, SHAPE, steps=3, shift=5.0, solver="euler", generator=generator())
    assert latents.dtype == torch.float32
    assert all(t.dtype == torch.float32 and t.shape == (2,) for t in told)
    assert told[1][0].item() == pytest.approx(1000 * flow.shifted(2 / 3, 5.0))


def test_a_seed_gives_the_same_sample_again():
    def once(seed):
        return flow.sample(golden_velocity, SHAPE, steps=3, shift=3.0, generator=generator(seed))

    assert torch.equal(once(4), once(4))
    assert not torch.equal(once(4), once(5))


@pytest.mark.parametrize("solver", ["unipc", "dpm++", "euler"])
def test_a_network_that_ignores_position_gives_the_same_sample_under_circular_shifts(solver):
    """The shift is undone for the solver, whose memory of earlier steps stays valid."""
    noise = torch.randn(1, 4, 2, 6, 8, generator=generator())
    mask = torch.rand(1, 1, 2, 6, 8, generator=generator(1))

    def predict(x, timestep, conditional):
        return golden_velocity(x[:, :4], timestep, conditional) * x[:, 4:]

    moved = circular_shift(6, 8, steps=6, patch=(2, 2), generator=generator(2))
    assert any(offset != (0, 0) for offset in moved.offsets)
    results = [
        flow.sample(
            predict, noise, steps=6, shift=3.0, solver=solver, transform_latents=transform, condition=mask
        )
        for transform in (None, moved)
    ]
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=0)


def test_latents_that_stop_being_finite_stop_the_sampling_at_their_step():
    def predict(x, timestep, conditional):
        return x / 0.0 if timestep[0] < 500 else x

    steps = []
    with pytest.raises(GonioError, match="after step 3 of 4.*float32"):
        flow.sample(
            predict, SHAPE, steps=4, shift=1.0, solver="unipc", generator=generator(),
            on_step=lambda index, total, latents: steps.append(index),
        )  # fmt: skip
    assert steps == [0, 1]
    with pytest.raises(GonioError, match="before the first step"):
        flow.sample(predict, torch.full(SHAPE, torch.nan), steps=1, shift=1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "0 sampling steps"),
        ({"steps": 1001}, "1001 sampling steps"),
        ({"shift": 0.0}, "shift of 0"),
        ({"guidance": float("nan")}, "guidance of nan"),
        ({"solver": "heun"}, "no solver 'heun'"),
        ({"generator": None}, "give a generator"),
    ],
)
def test_settings_without_sense_are_refused(wrong, message):
    settings = {"steps": 2, "shift": 1.0, "generator": generator()} | wrong
    with pytest.raises(UsageError, match=message):
        flow.sample(golden_velocity, SHAPE, **settings)


def loss_of(predict, latents, *, shift, levels="logit-normal"):
    """The loss at drawn levels and noise."""
    draw = generator()
    sigma, weight = flow.draw_noise_levels(len(latents), generator=draw, shift=shift, levels=levels)
    return flow.flow_loss(predict, latents, flow.gaussian(latents.shape, draw), sigma, weight)


def test_the_loss_of_the_true_velocity_is_zero_and_of_nothing_is_its_power():
    latents = torch.randn(4, 3, 2, 8, 8, generator=generator(1))

    def true_velocity(x, timestep):  # eps - x_0 = (x - x_0) / sigma
        return (x - latents) / (timestep / 1000).reshape(-1, 1, 1, 1, 1)

    for levels in ("logit-normal", "uniform"):
        loss = loss_of(true_velocity, latents, shift=3.0, levels=levels)
        assert loss.item() < 1e-8
    loss = loss_of(lambda x, t: torch.zeros_like(x), latents, shift=3.0)
    assert loss.item() == pytest.approx(2.0, rel=0.1)  # variance of eps plus that of x_0


def test_uniform_levels_weigh_each_sample_as_the_reference_does():
    sigmas, weights = flow.training_sigmas(5.0), flow.training_weights(5.0)
    sigma, weight = flow.draw_noise_levels(64, generator=generator(3), shift=5.0, levels="uniform")
    index = (sigmas[:, None] - sigma).abs().argmin(0)
    assert torch.equal(sigma, sigmas[index]) and torch.equal(weight, weights[index])
    # A velocity that is off by 1 everywhere leaves nothing of the loss but the weights.
    latents = torch.zeros(64, 1, 1, 4, 4)
    noise = flow.gaussian(latents.shape, generator(4))
    loss = flow.flow_loss(
        lambda x, t: x / (t / 1000).reshape(-1, 1, 1, 1, 1) + 1, latents, noise, sigma, weight
    )
    assert loss.item() == pytest.approx(weight.mean().item(), rel=1e-4)


def test_logit_normal_levels_have_the_shifted_median_and_no_weights():
    sigma, weight = flow.draw_noise_levels(20_000, generator=generator(), shift=3.0)
    assert sigma.median().item() == pytest.approx(0.75, abs=0.01)
    assert torch.equal(weight, torch.ones(20_000))
    with pytest.raises(UsageError, match="no noise levels 'cosine'"):
        flow.draw_noise_levels(1, generator=generator(), shift=1.0, levels="cosine")


def test_gradients_reach_the_network():
    scale = torch.ones((), requires_grad=True)
    loss_of(lambda x, t: scale * x, torch.ones(SHAPE), shift=1.0).backward()
    assert scale.grad is not None and scale.grad.abs() > 0
