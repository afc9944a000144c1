"""EfficientNet-Lite0's features: the published network, its batch norms folded, without its end."""

from __future__ import annotations

import pytest
import torch
from efficientnet_files import LARGER, ROWS, published_weights
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, pad

from gonio.errors import GonioError
from gonio.models.efficientnet_lite import (
    EfficientNetLite,
    SameConv2d,
    convert_efficientnet_lite,
)


def published_stages(weights: dict[str, Tensor], pictures: Tensor) -> list[Tensor]:
    """Outputs of stages 4 to 6 as the published network computes them: batch norms apart, padded by hand."""

    def convolved(maps: Tensor, name: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        # Sizes here are even: a stride of two takes one pixel less of padding, on the left and above.
        much = kernel.shape[-1] - 1
        first, last = (much // 2, much // 2) if stride == 1 else ((much - 1) // 2, much // 2)
        maps = conv2d(pad(maps, (first, last, first, last)), kernel, stride=stride, groups=groups)
        mean, variance, weight, bias = (
            weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return batch_norm(maps, mean, variance, weight, bias, eps=1e-3)

    maps = (pictures.movedim(-1, 1) * 255 - 127) / 128
    maps = convolved(maps, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    found, number = [], 0
    for blocks, _, first_stride, expansion, _ in ROWS[:6]:
        for index in range(blocks):
            block, given = f"_blocks.{number}", maps
            stride = first_stride if index == 0 else 1
            if expansion > 1:
                maps = convolved(maps, f"{block}._expand_conv", f"{block}._bn0").clamp(0, 6)
            depthwise = (f"{block}._depthwise_conv", f"{block}._bn1")
            maps = convolved(maps, *depthwise, stride=stride, groups=maps.shape[1]).clamp(0, 6)
            maps = convolved(maps, f"{block}._project_conv", f"{block}._bn2")
            maps = maps + given if index > 0 else maps
            number += 1
        found.append(maps)
    return found[3:]


def test_folding_the_batch_norms_changes_nothing():
    weights, pictures = published_weights(), torch.rand(2, 64, 64, 3)
    found = convert_efficientnet_lite(weights).maps(pictures)
    expected = published_stages(weights, pictures)
    assert [tuple(maps.shape) for maps in found] == [(2, 80, 4, 4), (2, 112, 4, 4), (2, 192, 2, 2)]
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3 * float(theirs.std()))


def test_features_are_means_and_deviations_stage_by_stage():
    network, pictures = convert_efficientnet_lite(published_weights()), torch.rand(2, 64, 64, 3)
    features, maps = network(pictures), network.maps(pictures)
    assert features.shape == (2, network.width) == (2, 768)
    assert torch.allclose(features[:, :80], maps[0].mean((2, 3)), atol=1e-5)
    assert torch.allclose(features[:, 80:160], maps[0].std((2, 3), correction=0), atol=1e-5)
    assert torch.allclose(features[:, 576:], maps[2].std((2, 3), correction=0), atol=1e-5)


@pytest.mark.parametrize(("side", "kernel"), [(8, 3), (8, 5), (7, 3), (7, 5)])
def test_the_odd_pixel_of_padding_is_right_and_below(side: int, kernel: int):
    """TensorFlow's rule: output k of a stride of two looks from 2 k less half of the padding onwards."""
    convolution = SameConv2d(1, 1, kernel, stride=2, bias=False)
    convolution.requires_grad_(False)
    convolution.weight.data.fill_(0)
    convolution.weight.data[..., 0, 0] = 1.0  # shows the first pixel each output looks at
    picture = torch.arange(1.0, side * side + 1).reshape(1, 1, side, side)
    found = convolution(picture)[0, 0]
    outputs = -(-side // 2)
    before = ((outputs - 1) * 2 + kernel - side) // 2
    assert found.shape == (outputs, outputs)
    assert float(found[1, 1]) == float(picture[0, 0, 2 - before, 2 - before])


def test_what_does_not_fit_is_named():
    weights = published_weights()
    lacking = {name: value for name, value in weights.items() if name != "_blocks.3._bn1.running_var"}
    with pytest.raises(GonioError, match="_blocks.3._bn1.running_var is missing"):
        convert_efficientnet_lite(lacking)
    with pytest.raises(GonioError, match="_blocks.3._se_reduce.weight is unknown"):
        convert_efficientnet_lite(weights | {"_blocks.3._se_reduce.weight": torch.zeros(1)})
    with pytest.raises(GonioError, match="stem do not fit each other"):
        convert_efficientnet_lite(weights | {"_bn0.bias": torch.zeros(7)})
    with pytest.raises(GonioError, match="size mismatch"):
        convert_efficientnet_lite(weights | {"_conv_stem.weight": torch.zeros(32, 3, 5, 5)})


def test_the_network_looks_at_every_pixel():
    network = convert_efficientnet_lite(published_weights())
    picture = torch.rand(1, 64, 64, 3, requires_grad=True)
    network(picture).sum().backward()
    assert picture.grad is not None
    assert float((picture.grad.abs().sum(-1) > 0).float().mean()) > 0.98


def test_the_network_stays_small():
    assert sum(value.numel() for value in EfficientNetLite().parameters()) < 2_400_000


def test_a_larger_variant_takes_the_weights_of_its_own_file_only():
    network = convert_efficientnet_lite(published_weights(rows=LARGER), "lite2")
    assert network(torch.rand(1, 64, 64, 3)).shape == (1, network.width) == (1, 2 * (88 + 120 + 208))
    with pytest.raises(GonioError, match="not EfficientNet-Lite0"):
        convert_efficientnet_lite(published_weights(rows=LARGER))
    with pytest.raises(GonioError, match="not EfficientNet-Lite2"):
        convert_efficientnet_lite(published_weights(), "lite2")
