"""What a material video shows: colour, category, roughness, metal or not. Measured on the frames alone.

Colour is computed: over the light's circle the median radiance, divided by what a white diffuser would send
back, is the base colour wherever highlights are rarer than every second light. A metal has only highlights,
so its hue is that of the brightness it shows below clipping. The category is told by the bundled judge, which
has seen photographs; metal and roughness by the bundled network, which has seen light move over materials.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from gonio.camera import FIXED_HEIGHT, ORBIT_RADIUS, Trajectory
from gonio.color import linear_from_srgb, luminance, srgb_from_linear
from gonio.data.categories import COLORS, coarse_color, coarse_roughness, family_categories
from gonio.data.procedural.palettes import DIELECTRIC, METAL, oklab
from gonio.errors import UsageError
from gonio.material_video import MaterialVideo
from gonio.models.attributes import (
    CAMERAS,
    LIGHTS,
    AttributeNetwork,
    light_statistics,
    load_attribute_network,
    turned_statistics,
)
from gonio.models.category import (
    SIZE,
    CategoryJudge,
    enlarged,
    light_pictures,
    load_category_judge,
    turned_pictures,
)
from gonio.reconstruct.plane import geometry_at
from gonio.rectify import rectify_video

# Anchors that the finer names lack or call otherwise.
_EXTRA_ANCHORS = {"white": ("e6d8bc",), "cyan": ("48c8c8", "84dede"), "brown": ("a67c52",)}
# A pixel this close to being nearer another name counts for that name too: two just noticeable differences.
COLOR_TOLERANCE = 0.04
_CLIPPED = 0.95
# A metal's lightness depends on where its highlights happen to be: it decides little beside the hue.
_METAL_LIGHTNESS_WEIGHT = 0.35
_BLACK_METAL = 0.05
# Symmetries the judge looks at: upright and on the side, mirrored too. All eight are right no more often.
_LOOKS = (0, 1, 4, 5)
_ZENITH_RADIUS = 0.02
_TILT_TOLERANCE = 0.05
_AZIMUTH_TOLERANCE = math.radians(10.0)


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What was measured on one video.

    colour: the name of the largest area; colour_shares: area of each name, largest first, together 1;
    colour_reach: area that bears the name or nearly (so together more than 1). category: the most likely;
    category_scores: probability of each, largest first. roughness: glossy, satin or rough, from
    roughness_value, the mean perceptual roughness; metallic: metallic_probability above one half.
    """

    colour: str
    colour_shares: dict[str, float]
    colour_reach: dict[str, float]
    category: str
    category_scores: dict[str, float]
    roughness: str
    roughness_value: float
    metallic: bool
    metallic_probability: float

    def top_categories(self, count: int = 3) -> tuple[str, ...]:
        return tuple(self.category_scores)[:count]


def measure_attributes(
    video: MaterialVideo, network: AttributeNetwork | None = None, judge: CategoryJudge | None = None
) -> Attributes:
    """Measure a two-phase video of 17, 41 or 81 frames, of any size; the bundled network and judge unless
    others are given.

    Frames are taken as a display shows them: clipped to [0, 1]. Raises UsageError for other trajectories.
    """
    network, judge = network or bundled_network(), judge or bundled_judge()
    lights, cameras = _light_circle(video.trajectory), _camera_circle(video.trajectory)
    chosen = video.subset([*lights, *cameras])
    frames, seen = rectify_video(chosen, network.spec.size)
    frames = _filled(frames.clamp(0, 1), seen)
    overhead, orbit = frames[:LIGHTS], frames[LIGHTS:]
    statistics = light_statistics(srgb_from_linear(overhead), srgb_from_linear(orbit))
    # Every symmetry of the sample is the same material: the mean over them is steadier than one look.
    looks = torch.stack([turned_statistics(statistics, k) for k in range(8)])
    with torch.no_grad():
        # Its category head learned a few thousand materials by heart; the judge is right about real ones
        # nearly twice as often. The head stays for the metal and the roughness that were learned beside it.
        logits = network(looks)
    scores = category_scores(video.subset(lights), judge)
    probability = float(logits.metallic.sigmoid().mean())
    roughness = float(logits.roughness.mean())
    metallic = probability > 0.5
    if metallic:
        shares, reach = metal_colors(frames)
    else:
        shares, reach = diffuse_colors(overhead, video.trajectory.subset(lights))
    return Attributes(
        colour=next(iter(shares)),
        colour_shares=shares,
        colour_reach=reach,
        category=next(iter(scores)),
        category_scores=scores,
        roughness=coarse_roughness(roughness),
        roughness_value=roughness,
        metallic=metallic,
        metallic_probability=probability,
    )


def category_scores(overhead: MaterialVideo, judge: CategoryJudge) -> dict[str, float]:
    """Probability of each category, largest first. overhead: the 8 frames of the light's circle."""
    frames, seen = rectify_video(overhead, SIZE)
    return overhead_scores(srgb_from_linear(_filled(frames.clamp(0, 1), seen)), judge)


def is_recognised(frames: Tensor, trajectory: Trajectory, family: str, *, metallic: bool) -> bool:
    """Whether the bundled judge takes a rectified clip of a procedural family for what it is.

    frames: [F, H, W, 3] display-encoded, along a two-phase trajectory of 17, 41 or 81 frames.
    """
    scores = overhead_scores(enlarged(frames[_light_circle(trajectory)], SIZE), bundled_judge())
    return next(iter(scores)) in family_categories(family, metallic=metallic)


def overhead_scores(
    overhead: Tensor, judge: CategoryJudge, looks: Sequence[int] = _LOOKS
) -> dict[str, float]:
    """Probability of each category, largest first. overhead: [8, SIZE, SIZE, 3] display-encoded, the light's
    circle; looks: symmetries of the sample that are looked at."""
    pictures = light_pictures(overhead)
    with torch.no_grad():
        scores = judge(torch.stack([turned_pictures(pictures, k) for k in looks])).mean(0).softmax(-1)
    pairs = zip(judge.categories, scores.tolist(), strict=True)
    return dict(sorted(pairs, key=lambda item: -item[1]))


@functools.cache
def bundled_network() -> AttributeNetwork:
    return load_attribute_network(_weights() / "attributes.safetensors")


@functools.cache
def bundled_judge() -> CategoryJudge:
    return load_category_judge(_weights() / "category.safetensors")


def _weights() -> Path:
    return Path(str(resources.files("gonio"))) / "weights"


def diffuse_colors(overhead: Tensor, trajectory: Trajectory) -> tuple[dict[str, float], dict[str, float]]:
    """Shares and reach of colour names by area, of a dielectric. overhead: [F, S, S, 3] linear, rectified."""
    white = _white_radiance(trajectory, overhead.shape[1])
    albedo = (overhead / white[..., None]).median(0).values
    return _named_areas(albedo, metallic=False)


def metal_colors(frames: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """Shares and reach of colour names by area, of a metal. frames: [F, S, S, 3] in [0, 1], rectified."""
    brightest = frames.amax(-1, keepdim=True)
    weight = luminance(frames)[..., None] * (brightest < _CLIPPED)
    hue = (frames * weight).sum(0)
    hue = hue / hue.amax(-1, keepdim=True).clamp_min(1e-9)
    mean, peak = float(brightest.mean()), float(torch.quantile(brightest.flatten(), 0.98))
    if mean < _BLACK_METAL and peak < _CLIPPED:
        return {"black": 1.0}, {"black": 1.0}
    return _named_areas(hue * max(peak, 2 * mean, 0.02), metallic=True)


def _named_areas(colors: Tensor, *, metallic: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Linear colours [..., 3] -> area share of every name's nearest, and of every name's nearly nearest."""
    anchors, owner = _anchors(metallic)
    weight = colors.new_tensor([_METAL_LIGHTNESS_WEIGHT if metallic else 1.0, 1.0, 1.0])
    lab = oklab(colors.clamp(0, 1).reshape(-1, 3))
    distance = torch.cdist(lab * weight, anchors * weight)
    by_name = torch.full((len(lab), len(COLORS)), math.inf)
    by_name = by_name.scatter_reduce(1, owner.expand(len(lab), -1), distance, "amin")
    nearest = by_name.amin(1, keepdim=True)
    share = torch.bincount(by_name.argmin(1), minlength=len(COLORS)) / len(lab)
    reach = (by_name <= nearest + COLOR_TOLERANCE).float().mean(0)
    return _sorted(share), _sorted(reach)


def _sorted(areas: Tensor) -> dict[str, float]:
    pairs = [(name, area) for name, area in zip(COLORS, areas.tolist(), strict=True) if area > 0]
    return dict(sorted(pairs, key=lambda item: -item[1]))


@functools.cache
def _anchors(metallic: bool) -> tuple[Tensor, Tensor]:
    """(anchors [A, 3] in OKLab, index into COLORS of each [1, A])."""
    extra = {} if metallic else _EXTRA_ANCHORS
    table = METAL if metallic else DIELECTRIC
    claimed = {code for codes in extra.values() for code in codes}
    words = [(code, coarse_color(name)) for name, codes in table.items() for code in codes]
    words = [(code, word) for code, word in words if code not in claimed]
    words += [(code, word) for word, codes in extra.items() for code in codes]
    encoded = torch.tensor([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code, _ in words])
    owner = torch.tensor([[COLORS.index(word) for _, word in words]])
    return oklab(linear_from_srgb(encoded)), owner


def _white_radiance(trajectory: Trajectory, size: int) -> Tensor:
    """What a white diffuser sends back in each frame. [F, S, S]"""
    ramp = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(1 - ramp, ramp, indexing="ij")
    uv = torch.stack([u, v], -1)
    places = trajectory.camera_position[:, None, None], trajectory.light_position[:, None, None]
    at = geometry_at(uv, *places)
    return at.irradiance * at.wi[..., 2] / math.pi


def _light_circle(trajectory: Trajectory) -> list[int]:
    """Frames seen from the zenith, light at azimuth 0, 45 ... 315 degrees."""
    return _circle(trajectory.light_position, trajectory.camera_position, LIGHTS, "the light circles")


def _camera_circle(trajectory: Trajectory) -> list[int]:
    """Frames lit from the zenith, camera at azimuth 0, 90, 180, 270 degrees."""
    return _circle(trajectory.camera_position, trajectory.light_position, CAMERAS, "the camera circles")


def _circle(moving: Tensor, fixed: Tensor, count: int, what: str) -> list[int]:
    tilt = moving[:, :2].norm(dim=-1) / moving[:, 2]
    on_orbit = (tilt - ORBIT_RADIUS / FIXED_HEIGHT).abs() < _TILT_TOLERANCE
    still = on_orbit & (fixed[:, :2].norm(dim=-1) < _ZENITH_RADIUS)
    azimuth = torch.atan2(moving[:, 1], moving[:, 0])
    frames = []
    for wanted in torch.arange(count) * (2 * math.pi / count):
        turn = torch.remainder(azimuth - wanted + math.pi, 2 * math.pi) - math.pi
        gap, index = torch.where(still, turn.abs(), math.inf).min(0)
        if float(gap) > _AZIMUTH_TOLERANCE:
            raise UsageError(
                "attributes are measured on a two-phase video of 17, 41 or 81 frames; "
                f"this one has no frame where {what} at {math.degrees(float(wanted)):.0f} degrees"
            )
        frames.append(int(index))
    return frames


def _filled(frames: Tensor, seen: Tensor) -> Tensor:
    """Texels a frame does not show take the frame's mean colour."""
    count = seen.sum((1, 2)).clamp_min(1)[:, None]
    mean = (frames * seen[..., None]).sum((1, 2)) / count
    return torch.where(seen[..., None], frames, mean[:, None, None])
