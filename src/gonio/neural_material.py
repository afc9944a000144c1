"""The neural material: two feature textures and two small MLPs (NeuMIP without the pyramid).

    du    = max_offset * tanh(M_off(T_off[u], wo_xy))                      (paper, equation 3)
    value = decode(M_rgb(T_rgb[u + du], wi_xy, wo_xy))                     (paper, equation 4)

`value` is f(u, wi, wo) cos(theta_i) in 1/sr when the manifest says `cosine_included`, never negative by
construction. Everything a reader must know to evaluate it is a field of `MaterialSpec`, stored with the file.
"""

from __future__ import annotations

import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from gonio import fused_linear
from gonio.blocks import BLOCK, for_each_block
from gonio.errors import GonioError
from gonio.texture import fetch


@dataclass(frozen=True, kw_only=True)
class MaterialSpec:
    """What a decoder's numbers mean. Released weights may differ in any of these, so none is assumed.

    max_offset: largest |du| in uv units. gain: the network's output y encodes value as
    log(1 + gain pi value) = softplus(y), so that equal errors of y look about equally large.
    """

    offset_channels: int = 12
    reflectance_channels: int = 12
    hidden_width: int = 64
    hidden_layers: int = 4
    max_offset: float = 0.2
    gain: float = 10.0
    cosine_included: bool = True
    wrap: Literal["repeat", "clamp", "mirror"] = "repeat"
    color_space: Literal["linear Rec.709"] = "linear Rec.709"
    encoding: Literal["log1p-softplus"] = "log1p-softplus"
    directions: Literal["projected xy", "projected xy, half vector"] = "projected xy, half vector"

    def __post_init__(self) -> None:
        limits = {
            "offset_channels": (1, 64),
            "reflectance_channels": (1, 64),
            "hidden_width": (4, 512),
            "hidden_layers": (1, 12),
            "max_offset": (0.0, 2.0),
            "gain": (1e-3, 1e4),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            whole = not name.startswith(("max", "gain"))
            kind_ok = type(value) is int if whole else isinstance(value, int | float)
            if not kind_ok or not low <= value <= high:
                raise GonioError(f"neural material: {name} = {value!r}, allowed are {low} to {high}")
        fixed = {
            "wrap": ("repeat", "clamp", "mirror"),
            "color_space": ("linear Rec.709",),
            "encoding": ("log1p-softplus",),
            "directions": ("projected xy", "projected xy, half vector"),
            "cosine_included": (True, False),
        }
        for name, allowed in fixed.items():
            value = getattr(self, name)
            if value not in allowed:
                raise GonioError(f"neural material: {name} = {value!r}, known are {list(allowed)}")

    @property
    def offset_widths(self) -> list[int]:
        return [self.offset_channels + 2, *[self.hidden_width] * self.hidden_layers, 2]

    @property
    def reflectance_widths(self) -> list[int]:
        inputs = self.reflectance_channels + self.direction_inputs
        return [inputs, *[self.hidden_width] * self.hidden_layers, 3]

    @property
    def direction_inputs(self) -> int:
        """How many numbers M_rgb is told about the two directions."""
        return 4 if self.directions == "projected xy" else 9

    @property
    def flops_per_point(self) -> int:
        """Multiply-adds of both MLPs, counted as two operations each."""
        pairs = [*_pairs(self.offset_widths), *_pairs(self.reflectance_widths)]
        return 2 * sum(a * b for a, b in pairs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _pairs(widths: list[int]) -> Iterator[tuple[int, int]]:
    return zip(widths[:-1], widths[1:], strict=True)


class MLP(nn.Module):
    """Linear layers with ReLU between. [N, widths[0]] -> [N, widths[-1]]."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers = [nn.Linear(a, b) for a, b in _pairs(widths)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        # A small last layer: the first pictures are neither black nor saturated.
        layers[-1].weight.data.mul_(0.1)
        self.layers = nn.ModuleList(layers)
        self.fused = False  # hidden layers by `fused_linear`, without gradients

    def forward(self, x: Tensor) -> Tensor:
        hidden, last = self.layers[:-1], self.layers[-1]
        for layer in hidden:
            if self.fused:
                x = fused_linear.linear_relu(x, cast(Tensor, layer.weight), cast(Tensor, layer.bias))
            else:
                x = layer(x).relu_()  # in place: a block's activations are what fills the cache
        return last(x)


class Decoder(nn.Module):
    """The two MLPs, M_off and M_rgb: universal over materials when pretrained, or one material's own."""

    def __init__(self, spec: MaterialSpec) -> None:
        super().__init__()
        self.spec = spec
        self.M_off = MLP(spec.offset_widths)
        self.M_rgb = MLP(spec.reflectance_widths)

    def offset(self, features: Tensor, wo: Tensor) -> Tensor:
        """features [N, C_off], wo [N, 3] -> du [N, 2] in uv units."""
        return self.spec.max_offset * torch.tanh(self.M_off(torch.cat([features, wo[:, :2]], -1)))

    def log_value(self, features: Tensor, wi: Tensor, wo: Tensor) -> Tensor:
        """log(1 + gain pi value): features [N, C_rgb], wi, wo [N, 3] -> [N, 3], >= 0."""
        encoded = self.M_rgb(torch.cat([features, *encode_directions(wi, wo, self.spec.directions)], -1))
        return nn.functional.softplus(encoded)

    def value(self, features: Tensor, wi: Tensor, wo: Tensor) -> Tensor:
        """features [N, C_rgb], wi, wo [N, 3] -> value [N, 3] in 1/sr, >= 0."""
        return value_from_log(self.log_value(features, wi, wo), self.spec)


def encode_directions(wi: Tensor, wo: Tensor, directions: str) -> list[Tensor]:
    """What M_rgb is told about wi, wo [N, 3]: columns to concatenate.

    The projected xy of both and, unless the spec has only those (as in the paper), the projected half vector,
    both cosines and the cosine of the difference angle: highlights, falloff and Fresnel follow from these
    directly, so a small network extrapolates them to angles it has not seen.
    """
    plain = [wi[:, :2], wo[:, :2]]
    if directions == "projected xy":
        return plain
    both = wi + wo
    length = both.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()
    half = both[:, :2] / length
    # |wi + wo| is twice the cosine between either direction and the half vector.
    return [*plain, half, wi[:, 2:], wo[:, 2:], 0.5 * length]


def value_from_log(log_value: Tensor, spec: MaterialSpec) -> Tensor:
    return torch.expm1(log_value) / (spec.gain * math.pi)


def log_value(
    decoder: Decoder,
    T_off: Tensor,
    T_rgb: Tensor,
    uv: Tensor,
    wi: Tensor,
    wo: Tensor,
    sinks: tuple[Tensor, Tensor] | tuple[None, None] = (None, None),
) -> Tensor:
    """log(1 + gain pi value) of one block of points, the domain of the losses. [N, 2], [N, 3] x2 -> [N, 3].

    `sinks` take the textures' gradients, see `fetch`.
    """
    return log_value_and_offset(decoder, T_off, T_rgb, uv, wi, wo, sinks)[0]


def log_value_and_offset(
    decoder: Decoder,
    T_off: Tensor,
    T_rgb: Tensor,
    uv: Tensor,
    wi: Tensor,
    wo: Tensor,
    sinks: tuple[Tensor, Tensor] | tuple[None, None] = (None, None),
) -> tuple[Tensor, Tensor]:
    """`log_value` [N, 3] and the du it was read at [N, 2]."""
    wrap = decoder.spec.wrap
    du = decoder.offset(fetch(T_off, uv, wrap, sinks[0]), wo)
    return decoder.log_value(fetch(T_rgb, uv + du, wrap, sinks[1]), wi, wo), du


def parallax_loss(du: Tensor, truth: Tensor) -> Tensor:
    """How far the offsets of one material [..., 2] are from the true parallax, by the size of its relief.

    Huber's loss of their difference over the root mean square of the truth (and a little, so that the flat
    ask for nothing): at an edge of the relief no smooth network is right; that must not outweigh the rest.
    """
    scale = truth.square().mean().sqrt() + 5e-4
    return nn.functional.huber_loss(du / scale, truth / scale)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a material came from; travels with its file. physical_size_m: metres a tile width."""

    name: str = "material"
    source: str = ""
    prompt: str | None = None
    seed: int | None = None
    model: str | None = None
    method: str | None = None
    licence: str | None = None
    author: str | None = None
    physical_size_m: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class NeuralMaterial(nn.Module):
    """T_off [H, W, C_off], T_rgb [H, W, C_rgb] (row 0 is v = 1) and their decoder."""

    def __init__(
        self, T_off: Tensor, T_rgb: Tensor, decoder: Decoder, provenance: Provenance | None = None
    ) -> None:
        super().__init__()
        spec = decoder.spec
        for name, texture, channels in (
            ("T_off", T_off, spec.offset_channels),
            ("T_rgb", T_rgb, spec.reflectance_channels),
        ):
            if texture.ndim != 3 or texture.shape[2] != channels or 0 in texture.shape:
                found = list(texture.shape)
                raise GonioError(f"neural material: {name} is {found}, expected [H, W, {channels}]")
        self.spec = spec
        self.T_off = nn.Parameter(T_off)
        self.T_rgb = nn.Parameter(T_rgb)
        self.decoder = decoder
        self.provenance = provenance or Provenance()

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the reflectance texture."""
        return self.T_rgb.shape[0], self.T_rgb.shape[1]

    def offset(self, uv: Tensor, wo: Tensor) -> Tensor:
        """The parallax du in uv units. uv [N, 2], wo [N, 3] -> [N, 2]."""
        return self.decoder.offset(fetch(self.T_off, uv, self.spec.wrap), wo)

    def evaluate(self, uv: Tensor, wi: Tensor, wo: Tensor) -> Tensor:
        """Reflectance value in 1/sr at any number of points, in blocks. [..., 2], [..., 3] x2 -> [..., 3].

        Directions are unit vectors in the local frame (s along +u, t along +v, n); below the horizon
        the value is 0. Differentiable in textures, decoder, uv and directions; the backward pass
        recomputes each block, so that memory does not grow with the number of points.
        """

        flat = (uv.reshape(-1, 2), wi.reshape(-1, 3), wo.reshape(-1, 3))
        weights = tuple(self.parameters())
        if flat[0].shape[0] > BLOCK and self._traceable(flat, weights):
            program = traced_value(self.spec, self.T_off.shape, self.T_rgb.shape, self.T_rgb.dtype)
            found = in_blocks(lambda *points: program(*points, *weights), flat)
        else:
            found = in_blocks(functools.partial(_value, self.decoder, self.T_off, self.T_rgb), flat, weights)
        return found.reshape(*uv.shape[:-1], 3)

    def _traceable(self, points: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> bool:
        """Whether `traced_value` says the same: on the CPU, one dtype, and nobody wants gradients."""
        everything = (*points, *weights)
        wanted = torch.is_grad_enabled() and any(t.requires_grad for t in everything)
        plain = all(t.device.type == "cpu" and t.dtype == self.T_rgb.dtype for t in everything)
        return plain and not wanted


def _value(decoder: Decoder, T_off: Tensor, T_rgb: Tensor, uv: Tensor, wi: Tensor, wo: Tensor) -> Tensor:
    """Reflectance value of one block of points, 0 below the horizon. [N, 2], [N, 3] x2 -> [N, 3]."""
    value = value_from_log(log_value(decoder, T_off, T_rgb, uv, wi, wo), decoder.spec)
    above = (wi[:, 2:] > 0) & (wo[:, 2:] > 0)
    return value.masked_fill(~above, 0.0)


# Torch's recorder breaks now and then when several workers record at once.
_RECORDING = threading.Lock()


def traced_value(
    spec: MaterialSpec, off_shape: torch.Size, rgb_shape: torch.Size, dtype: torch.dtype
) -> Callable[..., Tensor]:
    """`_value` as a recorded program of (uv, wi, wo, T_off, T_rgb, decoder's parameters), without gradients.

    Its operations follow each other without Python between them, so that several workers do not wait for
    each other there. Textures and weights are arguments: the program holds for every material of these
    shapes, however its weights change.
    """
    with _RECORDING:
        return _recorded_value(spec, off_shape, rgb_shape, dtype)


@functools.lru_cache(maxsize=16)
def _recorded_value(
    spec: MaterialSpec, off_shape: torch.Size, rgb_shape: torch.Size, dtype: torch.dtype
) -> Callable[..., Tensor]:
    """The recording that `traced_value` keeps for each of its arguments."""
    decoder = Decoder(spec).to(dtype)
    decoder.M_off.fused = decoder.M_rgb.fused = fused_linear.available(dtype)
    parameters = list(decoder.named_parameters())

    def program(uv: Tensor, wi: Tensor, wo: Tensor, T_off: Tensor, T_rgb: Tensor, *weights: Tensor) -> Tensor:
        for (name, _), weight in zip(parameters, weights, strict=True):
            owner, leaf = name.rsplit(".", 1)
            layer = decoder.get_submodule(owner)
            delattr(layer, leaf)
            setattr(layer, leaf, weight)
        return _value(decoder, T_off, T_rgb, uv, wi, wo)

    points = (torch.rand(8, 2, dtype=dtype), *(torch.rand(8, 3, dtype=dtype) for _ in range(2)))
    textures = (torch.zeros(off_shape, dtype=dtype), torch.zeros(rgb_shape, dtype=dtype))
    weights = tuple(parameter.detach() for _, parameter in parameters)
    with torch.no_grad(), warnings.catch_warnings():
        # Its warnings concern checks of argument sizes, which the key of this cache fixes.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return torch.jit.trace(program, (*points, *textures, *weights), check_trace=False)


class _Blocked(torch.autograd.Function):
    """Applies a point-wise function block by block; backward recomputes each block instead of storing it."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], count: int, *tensors: Tensor) -> Tensor:
        ctx.function, ctx.count = function, count
        ctx.save_for_backward(*tensors)
        return _plain_blocks(function, tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        points, parameters = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        needs = ctx.needs_input_grad[2:]
        wanted = [i for i in range(ctx.count) if needs[i]]
        parameters = [p for p, n in zip(parameters, needs[ctx.count :], strict=True) if n]

        def block(start: int, stop: int) -> tuple[Tensor | None, ...]:
            part = [p[start:stop].detach().requires_grad_(i in wanted) for i, p in enumerate(points)]
            with torch.enable_grad():
                out = ctx.function(*part)
                sources = [*(part[i] for i in wanted), *parameters]
                return torch.autograd.grad(out, sources, grad[start:stop], allow_unused=True)

        found = list(zip(*for_each_block(points[0].shape[0], block, points[0].device), strict=True))
        whole = [_join(parts, points[i]) for i, parts in zip(wanted, found, strict=False)]
        totals = [_total(parts, p) for p, parts in zip(parameters, found[len(wanted) :], strict=True)]
        point_grads, parameter_grads = iter(whole), iter(totals)
        result = [next(point_grads) if needs[i] else None for i in range(ctx.count)]
        result += [next(parameter_grads) if n else None for n in needs[ctx.count :]]
        return (None, None, *result)


def _join(parts: Sequence[Tensor | None], like: Tensor) -> Tensor:
    return torch.zeros_like(like) if parts[0] is None else torch.cat([p for p in parts if p is not None])


def _total(parts: Sequence[Tensor | None], like: Tensor) -> Tensor:
    return sum((p for p in parts if p is not None), torch.zeros_like(like))


def _plain_blocks(function: Callable[..., Tensor], points: tuple[Tensor, ...]) -> Tensor:
    def block(start: int, stop: int) -> Tensor:
        return function(*(p[start:stop] for p in points))

    return torch.cat(for_each_block(points[0].shape[0], block, points[0].device))


def in_blocks(
    function: Callable[..., Tensor], points: tuple[Tensor, ...], parameters: tuple[Tensor, ...] = ()
) -> Tensor:
    """function(*points) for point-wise functions, in blocks that fit the cache. points: [N, ...] each.

    `parameters` are the tensors the function closes over and that may need gradients.
    """
    if points[0].shape[0] == 0:
        return function(*points)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (*points, *parameters)):
        return _Blocked.apply(function, len(points), *points, *parameters)
    return _plain_blocks(function, points)
