"""The neural material: gradients against finite differences, and answers known without it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import gonio.blocks
from gonio.errors import GonioError
from gonio.neural_material import (
    Decoder,
    MaterialSpec,
    NeuralMaterial,
    encode_directions,
    log_value,
    parallax_loss,
    value_from_log,
)

TINY = MaterialSpec(offset_channels=2, reflectance_channels=3, hidden_width=5, hidden_layers=2)


def make(spec: MaterialSpec = TINY, height: int = 4, width: int = 5, seed: int = 0) -> NeuralMaterial:
    """Random textures and MLPs that say something, in double precision."""
    torch.manual_seed(seed)
    decoder = Decoder(spec)
    for network in (decoder.M_off, decoder.M_rgb):
        network.layers[-1].weight.data.mul_(10)
    T_off = torch.randn(height, width, spec.offset_channels)
    return NeuralMaterial(T_off, torch.randn(height, width, spec.reflectance_channels), decoder).double()


def places(count: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """uv beyond the borders, wi and wo above the horizon, double precision."""
    generator = torch.Generator().manual_seed(seed)

    def direction() -> Tensor:
        v = torch.randn(count, 3, generator=generator, dtype=torch.float64)
        v[:, 2] = v[:, 2].abs() + 0.3
        return torch.nn.functional.normalize(v, dim=-1)

    return torch.rand(count, 2, generator=generator, dtype=torch.float64) * 3 - 1, direction(), direction()


def constant(value: float, spec: MaterialSpec = TINY) -> NeuralMaterial:
    """A material whose value is `value` everywhere, and whose offset is zero."""
    material = make(spec)
    for parameter in material.decoder.parameters():
        parameter.data.zero_()
    log = math.log1p(spec.gain * math.pi * value)
    material.decoder.M_rgb.layers[-1].bias.data.fill_(math.log(math.expm1(log)))
    return material


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("wrap", ["repeat", "clamp", "mirror"])
@pytest.mark.parametrize("block", [2, 2048])
def test_gradients_of_evaluate_in_everything(monkeypatch, wrap, block):
    monkeypatch.setattr(gonio.blocks, "BLOCK", block)
    spec = MaterialSpec(offset_channels=2, reflectance_channels=2, hidden_width=4, hidden_layers=1, wrap=wrap)
    material = make(spec, 3, 4)
    uv, wi, wo = (t.requires_grad_(True) for t in places(5))
    inputs = (uv, wi, wo, *material.parameters())
    assert gradcheck(lambda *_: material.evaluate(uv, wi, wo), inputs, eps=1e-6, atol=1e-7, rtol=1e-4)


def test_the_backward_pass_does_not_depend_on_the_blocks(monkeypatch):
    material, (uv, wi, wo) = make(), places(50)
    results = []
    for block in (7, 2048):
        monkeypatch.setattr(gonio.blocks, "BLOCK", block)
        material.zero_grad()
        value = material.evaluate(uv, wi, wo)
        value.square().sum().backward()
        results.append([value.detach(), *(p.grad.clone() for p in material.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_only_what_asks_for_a_gradient_gets_one():
    material, (uv, wi, wo) = make().requires_grad_(False), places(5)
    wi.requires_grad_(True)
    material.evaluate(uv, wi, wo).sum().backward()
    assert wi.grad is not None and float(wi.grad.abs().sum()) > 0
    assert all(p.grad is None for p in material.parameters()) and uv.grad is None


# ---------------------------------------------------------------- known answers


@pytest.mark.parametrize("value", [0.0, 1e-3, 1 / math.pi, 20.0])
def test_a_constant_decoder_gives_its_constant(value):
    if value == 0:
        material = constant(1.0)
        material.decoder.M_rgb.layers[-1].bias.data.fill_(-800.0)
    else:
        material = constant(value)
    found = material.evaluate(*places(20)).detach()
    torch.testing.assert_close(found, torch.full_like(found, value), rtol=1e-9, atol=1e-12)


def test_value_and_log_value_are_inverse_encodings():
    material, (uv, wi, wo) = make(), places(20)
    log = log_value(material.decoder, material.T_off, material.T_rgb, uv, wi, wo)
    gain = TINY.gain
    torch.testing.assert_close(torch.log1p(gain * math.pi * value_from_log(log, TINY)), log)
    torch.testing.assert_close(material.evaluate(uv, wi, wo), value_from_log(log, TINY))


def test_the_recorded_program_says_what_the_plain_blocks_say_also_after_the_weights_changed():
    torch.manual_seed(3)
    spec = MaterialSpec(hidden_width=8, hidden_layers=2, wrap="mirror")
    material = NeuralMaterial(torch.randn(6, 5, 12), torch.randn(4, 7, 12), Decoder(spec))
    points = tuple(p.float() for p in places(gonio.blocks.BLOCK * 2 + 5))
    for _ in range(2):
        with torch.no_grad():
            recorded = material.evaluate(*points)
        torch.testing.assert_close(recorded, material.evaluate(*points).detach(), atol=1e-6, rtol=1e-5)
        with torch.no_grad():
            material.T_off.mul_(2)
        layer = material.decoder.M_rgb.layers[0]
        layer.weight = torch.nn.Parameter(layer.weight.detach() * 3)


def test_values_are_never_negative_and_black_below_the_horizon():
    material, (uv, wi, wo) = make(), places(200)
    assert bool((material.evaluate(uv, wi, wo) > 0).all())
    down = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    assert bool((material.evaluate(uv, wi * down, wo) == 0).all())
    assert bool((material.evaluate(uv, wi, wo * down) == 0).all())


def test_a_constant_offset_moves_the_texture():
    material, (uv, wi, wo) = make(), places(30)
    for parameter in material.decoder.M_off.parameters():
        parameter.data.zero_()
    plain = material.evaluate(uv + torch.tensor([0.03, -0.07]), wi, wo)
    bias = torch.atanh(torch.tensor([0.03, -0.07], dtype=torch.float64) / TINY.max_offset)
    material.decoder.M_off.layers[-1].bias.data.copy_(bias)
    torch.testing.assert_close(material.evaluate(uv, wi, wo), plain)
    torch.testing.assert_close(
        material.offset(uv, wo), torch.tensor([[0.03, -0.07]], dtype=torch.float64).expand(30, 2)
    )


def test_offsets_never_exceed_their_limit():
    material, (uv, _, wo) = make(), places(100)
    material.decoder.M_off.layers[-1].weight.data.mul_(1e3)
    assert float(material.offset(uv, wo).detach().abs().max()) <= TINY.max_offset


def test_parallax_loss_is_nothing_at_the_truth_and_does_not_depend_on_the_depth_of_the_relief():
    truth = torch.tensor([[0.01, 0.0], [0.0, -0.02], [0.004, 0.004]])
    assert parallax_loss(truth, truth) == 0.0
    shallow, deep = (parallax_loss(torch.zeros(3, 2), depth * truth) for depth in (1.0, 4.0))
    torch.testing.assert_close(shallow, deep, rtol=0.15, atol=0.0)
    assert (
        parallax_loss(1e-5 * torch.ones(3, 2), torch.zeros(3, 2)) < 1e-3 < shallow
    )  # The flat ask for little.


def test_any_leading_shape_and_no_points_at_all():
    material, (uv, wi, wo) = make(), places(12)
    flat = material.evaluate(uv, wi, wo)
    shaped = material.evaluate(uv.view(3, 4, 2), wi.view(3, 4, 3), wo.view(3, 4, 3))
    assert torch.equal(shaped, flat.view(3, 4, 3))
    assert material.evaluate(uv[:0], wi[:0], wo[:0]).shape == (0, 3)


def test_decoder_cost_is_counted_from_the_widths():
    spec = MaterialSpec()
    weights = [p for name, p in Decoder(spec).named_parameters() if name.endswith("weight")]
    assert spec.flops_per_point == 2 * sum(w.numel() for w in weights)
    assert spec.offset_widths == [14, 64, 64, 64, 64, 2]
    assert spec.reflectance_widths == [21, 64, 64, 64, 64, 3]
    assert MaterialSpec(directions="projected xy").reflectance_widths == [16, 64, 64, 64, 64, 3]


def test_what_the_reflectance_network_is_told_of_the_directions():
    wi = torch.tensor([[0.6, 0.0, 0.8]])
    wo = torch.tensor([[-0.6, 0.0, 0.8]])
    plain = torch.cat(encode_directions(wi, wo, "projected xy"), -1)
    torch.testing.assert_close(plain, torch.tensor([[0.6, 0.0, -0.6, 0.0]]))
    # A mirror pair about the normal: the half vector is the normal, and makes acos(0.8) with both.
    full = torch.cat(encode_directions(wi, wo, "projected xy, half vector"), -1)
    torch.testing.assert_close(full, torch.tensor([[0.6, 0.0, -0.6, 0.0, 0.0, 0.0, 0.8, 0.8, 0.8]]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset_channels": 0},
        {"hidden_width": 513},
        {"hidden_layers": 2.0},
        {"hidden_layers": True},
        {"max_offset": float("nan")},
        {"gain": 0.0},
        {"wrap": "border"},
        {"color_space": "ACEScg"},
        {"encoding": "exp"},
        {"directions": "angles"},
    ],
)
def test_specs_out_of_range_are_refused(wrong):
    with pytest.raises(GonioError, match=next(iter(wrong))):
        MaterialSpec(**wrong)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3), (0, 4, 2), (1, 4, 4, 2)])
def test_textures_that_do_not_fit_the_decoder_are_refused(shape):
    with pytest.raises(GonioError, match="T_off"):
        NeuralMaterial(torch.zeros(shape), torch.zeros(4, 4, 3), Decoder(TINY))
