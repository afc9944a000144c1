"""`neumip`: a neural material as a Mitsuba 3 BSDF, in Dr.Jit alone (no torch in the renderer's loop).

    {"type": "neumip", "filename": "moss.safetensors", "uv_scale": 2.0}
    <bsdf type="neumip"><string name="filename" value="moss.safetensors"/></bsdf>

The material seen from its back is black; put the BSDF into `twosided` where that shows.

Mitsuba's `si.wi` points to the camera when light is gathered (our wo) and its `wo` to the light (our wi).
Row 0 of the textures lies at si.uv.y = 0, so t, along +v, runs against dp_dv; mirrored uvs turn it around,
lane by lane.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import drjit as dr
import mitsuba as mi
import numpy as np

from gonio.errors import GonioError, UsageError
from gonio.render import neumip_network
from gonio.render.neumip_lobes import Mixture

if TYPE_CHECKING:
    from gonio.neural_material import MaterialSpec, NeuralMaterial

# exp(80) is the largest round exponent a float32 holds.
_MAX_LOG_VALUE = 80.0

_shared: weakref.WeakValueDictionary[str, NeuralMaterial] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def share(material: NeuralMaterial) -> str:
    """A name under which `{"type": "neumip", "material": name}` finds a material of this process.

    The material must live until the scene is loaded; later changes of it do not reach the scene.
    """
    name = f"material-{next(_numbers)}"
    _shared[name] = material
    return name


@functools.cache
def _follow_variants() -> None:
    mi.detail.add_variant_callback(lambda *_: _register_here())


def register() -> None:
    """Register `neumip` in the current variant and in every variant set later. Cheap when repeated."""
    _follow_variants()
    if mi.variant() is not None:
        _register_here()


def _register_here() -> None:
    mi.register_bsdf("neumip", _plugin_class(mi.variant()))


@functools.cache
def _plugin_class(variant: str) -> type:
    # Mitsuba's base class differs per variant and tolerates no second base, so the methods are copied.
    methods = {name: item for name, item in vars(NeuMIP).items() if name not in ("__dict__", "__weakref__")}
    return type("NeuMIP", (mi.BSDF,), methods)


@dataclass(frozen=True, kw_only=True)
class Baked:
    """What the renderer needs of a material, as float32 arrays [rows, columns, channels], row 0 on top."""

    name: str
    spec: MaterialSpec
    T_off: np.ndarray
    T_rgb: np.ndarray
    lobes: np.ndarray
    offset_layers: neumip_network.Layers
    reflectance_layers: neumip_network.Layers


def bake(material: NeuralMaterial) -> Baked:
    """Arrays and fitted sampling lobes of a material (about a second)."""
    from gonio.render.lobes import fit_lobes

    def array(tensor: Any) -> np.ndarray:
        return np.ascontiguousarray(tensor.detach().cpu().float().numpy())

    def layers(network: Any) -> neumip_network.Layers:
        return tuple((array(layer.weight), array(layer.bias)) for layer in network.layers)

    return Baked(
        name=material.provenance.name,
        spec=material.spec,
        T_off=array(material.T_off),
        T_rgb=array(material.T_rgb),
        lobes=array(fit_lobes(material).parameters),
        offset_layers=layers(material.decoder.M_off),
        reflectance_layers=layers(material.decoder.M_rgb),
    )


@functools.lru_cache(maxsize=8)
def _bake_file(path: Path, digest: str) -> Baked:
    from gonio.material_file import load_material

    return bake(load_material(path))


def _baked(properties: Any) -> Baked:
    named = [key for key in ("filename", "material") if key in properties]
    if len(named) != 1:
        raise UsageError("neumip: give either filename (a .safetensors material) or material (from share())")
    if named == ["material"]:
        name = properties["material"]
        material = _shared.get(name)
        if material is None:
            raise UsageError(f"neumip: no shared material {name!r}; keep alive what share() was given")
        return bake(material)
    file_resolver: Any = mi.file_resolver
    path = Path(str(file_resolver().resolve(properties["filename"])))
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise GonioError(f"{path}: {error.strerror}; name a material file (.safetensors)") from error
    return _bake_file(path, digest)


class NeuMIP:
    """The methods of the plugin; `_plugin_class` joins them with the BSDF of a variant.

    uv_scale: how often the material repeats over the unit uv square. The textures T_off and T_rgb can be
    differentiated and changed through `mi.traverse`; the sampling lobes then stay, and sampling unbiased.
    """

    m_flags: Any
    m_components: list[Any]

    def __init__(self, properties: Any) -> None:
        mi.BSDF.__init__(self, properties)  # type: ignore[arg-type]
        self.baked = baked = _baked(properties)
        self.uv_scale = float(properties.get("uv_scale", 1.0))
        if not (math.isfinite(self.uv_scale) and self.uv_scale > 0):
            raise UsageError(f"neumip: uv_scale is {self.uv_scale}, it must be positive")
        self.textures = {"T_off": _texture(baked, baked.T_off), "T_rgb": _texture(baked, baked.T_rgb)}
        self.T_off, self.T_rgb = mi.TensorXf(baked.T_off), mi.TensorXf(baked.T_rgb)
        self.lobes = _texture(baked, baked.lobes)
        flags = (
            mi.BSDFFlags.GlossyReflection
            | mi.BSDFFlags.SpatiallyVarying
            | mi.BSDFFlags.Anisotropic
            | mi.BSDFFlags.NonSymmetric
            | mi.BSDFFlags.FrontSide
        )
        self.m_components = [flags]
        self.m_flags = flags

    # ------------------------------------------------------------ what Mitsuba calls

    def eval(self, ctx: Any, si: Any, wo: Any, active: Any = True) -> Any:
        active = self._enabled(ctx, active)
        to_material, uv = _Tangents(si), self._uv(si)
        return self._value(ctx, uv, to_material(wo), to_material(si.wi), si, active)

    def pdf(self, ctx: Any, si: Any, wo: Any, active: Any = True) -> Any:
        active = self._enabled(ctx, active)
        to_material = _Tangents(si)
        camera = to_material(si.wi)
        mixture = self._mixture(self._uv(si), camera, active)
        return dr.select(active, mixture.pdf(to_material(wo), camera), 0)

    def eval_pdf(self, ctx: Any, si: Any, wo: Any, active: Any = True) -> tuple[Any, Any]:
        return self.eval(ctx, si, wo, active), self.pdf(ctx, si, wo, active)

    def sample(self, ctx: Any, si: Any, sample1: Any, sample2: Any, active: Any = True) -> tuple[Any, Any]:
        active = self._enabled(ctx, active)
        to_material, uv = _Tangents(si), self._uv(si)
        camera = to_material(si.wi)
        mixture = self._mixture(uv, camera, active & (camera.z > 0))
        light = mixture.sample(camera, sample1, sample2)
        pdf = mixture.pdf(light, camera)
        active &= (pdf > 0) & dr.isfinite(pdf)

        result: Any = dr.zeros(mi.BSDFSample3f)
        result.wo = dr.select(active, to_material.inverse(light), mi.Vector3f(0, 0, 1))
        result.pdf = dr.select(active, pdf, 0)
        result.eta = 1.0
        result.sampled_type = mi.UInt32(+mi.BSDFFlags.GlossyReflection)
        result.sampled_component = mi.UInt32(0)
        value = self._value(ctx, uv, light, camera, si, active)
        return result, value / dr.select(active, pdf, 1)

    def eval_diffuse_reflectance(self, si: Any, active: Any = True) -> Any:
        """The albedo of a matte surface as bright as this one under light at 45 degrees, seen from above."""
        cosine = math.sqrt(0.5)
        light, camera = mi.Vector3f(cosine, 0, cosine), mi.Vector3f(0, 0, 1)
        rgb = self._decode(self._uv(si), light, camera, active) * (math.pi / self._cosine_factor(cosine))
        return _spectrum(dr.clip(rgb, 0, 1), si)

    def traverse(self, callback: Any) -> None:
        for name in self.textures:
            callback.put(name, getattr(self, name), mi.ParamFlags.Differentiable)

    def parameters_changed(self, keys: Any = ()) -> None:
        for name, texture in self.textures.items():
            if not keys or name in keys:
                texture.set_tensor(getattr(self, name))

    def to_string(self) -> str:
        height, width, _ = self.baked.T_rgb.shape
        spec = self.baked.spec
        return (
            f"NeuMIP[\n  name = {self.baked.name!r},\n  texels = {width}x{height},\n"
            f"  decoder = {spec.hidden_width}x{spec.hidden_layers},\n  wrap = {spec.wrap},\n"
            f"  uv_scale = {self.uv_scale:g}\n]"
        )

    # ------------------------------------------------------------ the material

    def _uv(self, si: Any) -> Any:
        """Texture coordinates with row 0 at y = 0."""
        return mi.Point2f(si.uv) * self.uv_scale

    def _enabled(self, ctx: Any, active: Any) -> Any:
        return mi.Bool(active) & mi.Bool(ctx.is_enabled(mi.BSDFFlags.GlossyReflection))

    def _mixture(self, uv: Any, camera: Any, active: Any) -> Mixture:
        return Mixture.of(self.lobes.eval(uv, active), camera)

    def _value(self, ctx: Any, uv: Any, wi: Any, wo: Any, si: Any, active: Any) -> Any:
        """f cos as Mitsuba wants it: the cosine is that of the direction Mitsuba asks about, its `wo`."""
        active = active & (wi.z > 0) & (wo.z > 0)
        if ctx.mode == mi.TransportMode.Radiance:
            rgb = self._decode(uv, wi, wo, active) * (wi.z / self._cosine_factor(wi.z))
        else:  # particles travel the other way: Mitsuba's si.wi is the light's direction
            rgb = self._decode(uv, wo, wi, active) * (wi.z / self._cosine_factor(wo.z))
        return dr.select(active, _spectrum(rgb, si), 0)

    def _cosine_factor(self, cosine: Any) -> Any:
        """What decoded values carry of the light's cosine: it, or nothing."""
        return cosine if self.baked.spec.cosine_included else 1.0

    def _decode(self, uv: Any, wi: Any, wo: Any, active: Any) -> Any:
        """value(uv, wi, wo) [1/sr] as mi.Color3f; directions in the material's frame."""
        spec, layers = self.baked.spec, self.baked
        features = self.textures["T_off"].eval(uv, active)
        along_u, along_v = neumip_network.evaluate(layers.offset_layers, [*features, wo.x, wo.y])
        shift = mi.Vector2f(dr.tanh(along_u), -dr.tanh(along_v)) * spec.max_offset
        features = self.textures["T_rgb"].eval(uv + shift, active)
        directions = _encode_directions(wi, wo, spec.directions)
        encoded = neumip_network.evaluate(layers.reflectance_layers, [*features, *directions])
        # expm1(softplus(y)) = exp(y)
        return dr.exp(dr.minimum(mi.Color3f(encoded), _MAX_LOG_VALUE)) / (spec.gain * math.pi)


def _encode_directions(wi: Any, wo: Any, directions: str) -> list[Any]:
    """`neural_material.encode_directions`, in Dr.Jit."""
    plain = [wi.x, wi.y, wo.x, wo.y]
    if directions == "projected xy":
        return plain
    half = dr.normalize(wi + wo)
    return [*plain, half.x, half.y, wi.z, wo.z, dr.dot(wi, half)]


class _Tangents:
    """Shading frame of Mitsuba -> (s along +u, t along +v, n): a turn, or a mirror, about the normal.

    Works on local coordinates, so that `twosided` and instances may do what they like with the frame.
    """

    def __init__(self, si: Any) -> None:
        along_u = si.sh_frame.to_local(si.dp_du)
        along_v = si.sh_frame.to_local(si.dp_dv)
        length = dr.sqrt(dr.square(along_u.x) + dr.square(along_u.y))
        usable = (length > 1e-20) & dr.isfinite(length)
        scale = 1 / dr.select(usable, length, 1)
        self.cos = dr.select(usable, along_u.x * scale, 1)
        self.sin = dr.select(usable, along_u.y * scale, 0)
        against_v = self.cos * along_v.y - self.sin * along_v.x > 0
        self.side = dr.select(against_v, mi.Float(-1), mi.Float(1))

    def __call__(self, w: Any) -> Any:
        return mi.Vector3f(
            self.cos * w.x + self.sin * w.y, self.side * (self.cos * w.y - self.sin * w.x), w.z
        )

    def inverse(self, w: Any) -> Any:
        y = self.side * w.y
        return mi.Vector3f(self.cos * w.x - self.sin * y, self.sin * w.x + self.cos * y, w.z)


def _texture(baked: Baked, array: np.ndarray) -> Any:
    """Without the GPU's texture units: their 8-bit interpolation weights are too coarse for features."""
    wrap = {"repeat": dr.WrapMode.Repeat, "clamp": dr.WrapMode.Clamp, "mirror": dr.WrapMode.Mirror}
    texture: Any = mi.Texture2f  # another class per variant
    return texture(mi.TensorXf(array), use_accel=False, wrap_mode=wrap[baked.spec.wrap])


def _spectrum(rgb: Any, si: Any) -> Any:
    """An RGB reflectance in the colour representation of the variant.

    Spectral variants get three smooth bands that sum to one: grey stays exactly grey, saturated colours are
    approximate.
    """
    if mi.is_rgb:
        value = rgb
    elif mi.is_monochromatic:
        value = mi.Color1f(mi.luminance(rgb))
    else:
        red = _ramp(si.wavelengths, 575, 605)
        not_blue = _ramp(si.wavelengths, 480, 505)
        value = rgb.z * (1 - not_blue) + rgb.y * (not_blue - red) + rgb.x * red
    return mi.depolarizer(value) if mi.is_polarized else value


def _ramp(x: Any, low: float, high: float) -> Any:
    t = dr.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
