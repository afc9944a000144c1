"""From a seed to a finished material whose attributes are measured on its maps."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gonio.data.procedural import (
    families_ground,
    families_masonry,
    families_metal,
    families_mineral,
    families_synthetic,
    families_textile,
    families_wood,
)
from gonio.data.procedural.captions import ROUGHNESS_CLASSES, caption, relief_class, roughness_class
from gonio.data.procedural.draw import Draw
from gonio.data.procedural.noise import noise
from gonio.data.procedural.palettes import COLOR_NAMES, color_names, draw_color, name_shares
from gonio.data.procedural.surface import Family, Style, Surface
from gonio.data.procedural.weathering import weather
from gonio.errors import UsageError
from gonio.pbr import PBRMaterial, normal_from_displacement

FAMILIES: dict[str, Family] = {
    **families_masonry.FAMILIES,
    **families_wood.FAMILIES,
    **families_textile.FAMILIES,
    **families_metal.FAMILIES,
    **families_mineral.FAMILIES,
    **families_ground.FAMILIES,
    **families_synthetic.FAMILIES,
}
LICENCE = "Apache-2.0 (procedural)"
MAX_RESOLUTION = 4096
_WORKING_RESOLUTION = 192  # patterns are evaluated on at least this many pixels a side, then averaged down
_SECOND_COLOR_SHARE = 0.12
_UNRELATED_HEIGHT = 0.03  # how often the height has nothing to do with the colours, as in some real prints
_QUIET = ("grey", "brown", "beige", "white", "black", "grey", "olive")


def sample_material(
    seed: int,
    *,
    family: str | None = None,
    resolution: int = 256,
    color: str | None = None,
    roughness_class: str | None = None,
    metallic: bool | None = None,
    plain: bool = False,
    layout: int | None = None,
) -> PBRMaterial:
    """One tileable material [resolution, resolution], the same for the same arguments on every run.

    What is left None is drawn. plain: the family at its simplest and upright, of few and large elements that
    begin at the corner, without age. layout: the number of a plain family's layout, so that only colour,
    roughness and metal are drawn (on which a few layouts of cloth depend). A seed looks the same at every
    resolution. metadata["attributes"]
    says what was measured on the finished maps.
    Raises UsageError for unknown names, for colours a metal or a dielectric cannot have, and for the
    layout of a material that is not plain.
    """
    _check_request(family, resolution, color, roughness_class, metallic)
    if layout is not None and not plain:
        raise UsageError(f"layout {layout}; only plain materials have numbered layouts")
    supersampling = math.ceil(_WORKING_RESOLUTION / resolution)
    name = family or random.Random(f"gonio-family-{seed}").choice(tuple(FAMILIES))
    draw = Draw(f"gonio-material-{seed}-{name}", resolution * supersampling, plain=plain)
    kind = FAMILIES[name]
    style = _draw_style(draw, kind, color, roughness_class, metallic)
    if plain:
        if layout is not None:
            draw = Draw(f"gonio-layout-{layout}-{name}", draw.n, plain=True)
        draw.simplify()
        surface = kind.generate(draw, style)
        maps = _pooled(surface, style, supersampling)
    else:
        surface = _disturbed(draw, kind, kind.generate(draw, style))
        maps = _oriented(draw, _pooled(surface, style, supersampling))
    metal = _metallic_kept(maps["metallic"].clamp(0.0, 1.0), style.metallic)
    target = style.roughness if roughness_class is not None else None
    rough = _roughness_kept(maps["roughness"], target)
    basecolor = maps["basecolor"].clamp(0.008, 0.97)
    if color is not None:
        basecolor = _color_kept(draw, basecolor, metal, color, style.metallic)
    height = maps["height"]
    height = ((height - height.min()) / (height.max() - height.min()).clamp_min(1e-9)).clamp(0.0, 1.0)
    mean = float(height.mean())
    displacement = (height - mean) * surface.relief
    material = PBRMaterial(
        name=f"procedural_{name}_{seed}",
        basecolor=basecolor.contiguous(),
        normal=normal_from_displacement(displacement),
        roughness=rough.contiguous(),
        metallic=metal.contiguous(),
        height=height.contiguous(),
        height_mean=mean,
        height_factor=surface.relief,
        has_height=True,
        tileable=True,
    )
    attributes = {
        "family": name,
        "nouns": list(kind.nouns),
        "pattern_family": surface.pattern,
        "adjectives": list(surface.adjectives),
        **measured_attributes(material),
    }
    return replace(
        material,
        metadata={
            "attributes": attributes,
            "caption": caption(attributes, seed),
            "seed": seed,
            "licence": LICENCE,
        },
    )


def stream_materials(seed: int, *, resolution: int = 256) -> Iterator[PBRMaterial]:
    """Endless materials: stream `seed` never repeats itself, and two streams never share a material."""
    index = 0
    while True:
        yield sample_material(seed * 2**40 + index, resolution=resolution)
        index += 1


def measured_attributes(material: PBRMaterial) -> dict[str, Any]:
    """What can be read off the maps: colours by area, classes of roughness and relief, metal or not."""
    names = list(name_shares(material.basecolor, material.metallic).items())
    second = names[1][0] if len(names) > 1 and names[1][1] >= _SECOND_COLOR_SHARE else None
    return {
        "dominant_color": names[0][0],
        "secondary_color": second,
        "roughness_class": roughness_class(float(material.roughness.mean())),
        "metallic": bool(material.metallic.mean() > 0.5),
        "relief": relief_class(float(material.displacement.std())),
    }


def _check_request(
    family: str | None, resolution: int, color: str | None, finish: str | None, metallic: bool | None
) -> None:
    if family is not None and family not in FAMILIES:
        raise UsageError(f"no material family {family!r}; choose one of {', '.join(FAMILIES)}")
    if not 8 <= resolution <= MAX_RESOLUTION:
        raise UsageError(f"a resolution of {resolution}; give one from 8 to {MAX_RESOLUTION}")
    if finish is not None and finish not in ROUGHNESS_CLASSES:
        raise UsageError(f"no roughness class {finish!r}; choose one of {', '.join(ROUGHNESS_CLASSES)}")
    allowed = COLOR_NAMES if metallic is None else color_names(metallic)
    if color is not None and color not in allowed:
        matter = {None: "material", True: "metal", False: "dielectric"}[metallic]
        raise UsageError(f"no {matter} is called {color!r}; choose one of {', '.join(allowed)}")


def _draw_style(
    draw: Draw, kind: Family, color: str | None, finish: str | None, metallic: bool | None
) -> Style:
    is_metal = draw.chance(max(kind.metal, 0.04))
    if metallic is not None:
        is_metal = metallic
    elif color is not None and color not in color_names(is_metal):
        is_metal = not is_metal
    natural = [name for name in kind.colors if name in color_names(is_metal)]
    if is_metal:
        natural = ["silver", "silver", "gold", "copper", "grey", "black"]
    drawn = draw.choice(natural) if draw.chance(0.76) else draw.choice(color_names(is_metal))
    second = draw.choice(color_names(False) if draw.chance(0.45) else _QUIET)
    low, high = ROUGHNESS_CLASSES[finish] if finish else kind.roughness
    if finish:  # stay clear of the limits of the class
        low, high = max(low, 0.045) + 0.02, min(high, 1.0) - 0.02
    elif draw.chance(0.2):  # varnished, wet or polished, whatever it is; or anything at all
        low, high = draw.choice(((0.04, 0.25), (0.04, 1.0)))
    return Style(
        color=color or drawn, second_color=second, roughness=draw.uniform(low, high), metallic=is_metal
    )


def _disturbed(draw: Draw, kind: Family, surface: Surface) -> Surface:
    """Aged as often as the family is; now and then with a height of its own."""
    if draw.chance(kind.weathering):
        surface = weather(draw, surface)
    if draw.chance(_UNRELATED_HEIGHT):
        frequency = draw.log_uniform(2.0, 30.0)
        bumps = noise(draw, frequency, slope=draw.uniform(2.0, 4.0))
        surface = replace(surface, height=bumps, relief=min(surface.relief, 0.2 / frequency))
    return surface


def _pooled(surface: Surface, style: Style, factor: int) -> dict[str, Tensor]:
    """The surface's maps [H, W] (basecolor [H, W, 3]) averaged down by a whole factor."""
    metallic = surface.metallic
    if metallic is None:
        metallic = torch.full_like(surface.height, float(style.metallic))
    planes = torch.cat(
        (
            torch.stack((surface.height, surface.roughness.expand_as(surface.height), metallic)),
            surface.basecolor.clamp(0.0, 1.0).permute(2, 0, 1),
        )
    )
    if factor > 1:
        planes = avg_pool2d(planes[None], factor)[0]
    return {
        "height": planes[0],
        "roughness": planes[1],
        "metallic": planes[2],
        "basecolor": planes[3:].permute(1, 2, 0),
    }


def _oriented(draw: Draw, maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mirrored half of the time, turned by a quarter now and then."""
    mirror, turn = draw.chance(0.5), draw.chance(0.2)
    for name, image in maps.items():
        image = image.flip(1) if mirror else image
        maps[name] = torch.rot90(image, 1, (0, 1)) if turn else image
    return maps


def _metallic_kept(metallic: Tensor, wanted: bool) -> Tensor:
    """The map moved just far enough that its mean says what the style said."""
    mean = float(metallic.mean())
    if (mean > 0.5) == wanted:
        return metallic
    return metallic + (1 - metallic) * (0.58 - mean) / (1 - mean) if wanted else metallic * (0.42 / mean)


def _roughness_kept(roughness: Tensor, target: float | None) -> Tensor:
    """Roughness within [0.03, 1], shifted to the target mean when there is one."""
    if target is None:
        return roughness.clamp(0.03, 1.0)
    low, high = -1.0, 1.0
    for _ in range(14):
        shift = 0.5 * (low + high)
        if float((roughness + shift).clamp(0.03, 1.0).mean()) < target:
            low = shift
        else:
            high = shift
    return (roughness + 0.5 * (low + high)).clamp(0.03, 1.0)


def _color_kept(draw: Draw, basecolor: Tensor, metallic: Tensor, color: str, is_metal: bool) -> Tensor:
    """The base colour drawn towards the asked colour until that name takes the largest area."""
    target = draw_color(draw, color, is_metal, jitter=0.0)
    light = basecolor.mean(-1, keepdim=True)
    detail = light / light.mean()
    for pull, contrast in ((0.0, 1.0), (0.35, 0.7), (0.6, 0.5), (0.8, 0.35), (0.9, 0.2), (0.97, 0.1)):
        pulled = basecolor.lerp((target * detail.clamp_min(0.05) ** contrast).clamp(0.008, 0.97), pull)
        if next(iter(name_shares(pulled, metallic))) == color:
            return pulled
    return pulled
