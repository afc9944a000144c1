"""Pictures of a material on a shape: stills, turntables and light sweeps, and the files they go to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mitsuba as mi
import torch
from torch import Tensor

from gonio import media
from gonio.color import srgb_from_linear
from gonio.environment import EnvironmentMap
from gonio.errors import GonioError, UsageError
from gonio.folders import make_folder, make_room
from gonio.mitsuba_setup import use_mitsuba
from gonio.neural_material import NeuralMaterial
from gonio.progress import Step, progress
from gonio.render.kernels import Scene, lobe_texture
from gonio.render.lights import (
    Light,
    SphereLight,
    environment_description,
    light_description,
    studio,
    turned_light,
)
from gonio.render.shapes import Shape, load_shape
from gonio.render.surfaces import NeuralSurface, Surface
from gonio.render.wavefront import Quality, features, render
from gonio.scan.measure import denoise
from gonio.scan.scene import mesh

PICTURE_SUFFIXES = (".exr", ".hdr", ".png", ".jpg", ".jpeg")
VIDEO_SUFFIXES = (".mp4",)
FrameFormat = Literal["png", "exr"]
FLOOR_RADIUS = 60.0
# Below the shape's feet by less than a pixel, so that a plane does not fight with it.
FLOOR_HEIGHT = -2e-3
MAX_RESOLUTION = 8192


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """Everything a picture depends on besides the material.

    shape: plane, sphere, cloth, shaderball or a mesh file. environment: a 2:1 panorama; without one, and
    without `lights`, the built-in studio. rotate: the environment's turn in degrees. resolution: pixel
    rows; aspect: columns per row. exposure: stops, in files for eyes only. max_depth: longest path in
    segments, 2 is direct light only. floor_fade: distance over which the floor darkens like a lit backdrop,
    0 for an even one. background: whether the camera sees the environment. footprint_samples: texture
    places averaged per camera hit; None means more of them the fewer samples a pixel has. denoise: Open
    Image Denoise on the finished picture.
    """

    shape: str = "shaderball"
    environment: Path | None = None
    rotate: float = 0.0
    lights: tuple[Light, ...] = ()
    resolution: int = 512
    aspect: float = 1.0
    spp: int = 64
    uv_scale: float = 1.0
    exposure: float = 0.0
    seed: int = 0
    max_depth: int = 4
    denoise: bool = False
    floor: bool = True
    floor_albedo: float = 0.35
    floor_fade: float = 4.0
    background: bool = True
    footprint_samples: int | None = None

    def __post_init__(self) -> None:
        limits = {
            "resolution": (8, MAX_RESOLUTION),
            "aspect": (0.1, 10.0),
            "rotate": (-1e6, 1e6),
            "exposure": (-30.0, 30.0),
            "floor_albedo": (0.0, 0.95),
            "floor_fade": (0.0, 1e3),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"--{name.replace('_', '-')} {value}: allowed are {low:g} to {high:g}")
        self.quality()

    @property
    def width(self) -> int:
        return max(1, round(self.resolution * self.aspect))

    def quality(self) -> Quality:
        footprint = self.footprint_samples
        if footprint is None:
            footprint = max(1, min(4, 16 // max(1, self.spp)))
        return Quality(spp=self.spp, max_depth=self.max_depth, seed=self.seed, footprint_samples=footprint)


@dataclass(frozen=True, kw_only=True)
class View:
    """A camera. azimuth: counter-clockwise from +x, -90 looks along +y. fov [degrees] across the width."""

    target: tuple[float, float, float]
    azimuth: float = -90.0
    elevation: float = 20.0
    distance: float = 5.6
    fov: float = 30.0

    @property
    def position(self) -> tuple[float, float, float]:
        a, e = math.radians(self.azimuth), math.radians(self.elevation)
        away = (math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e))
        x, y, z = (t + self.distance * d for t, d in zip(self.target, away, strict=True))
        return x, y, z


def view_of(shape: Shape) -> View:
    """A camera that shows the shape however it is turned about +z; flat ones are seen more from above."""
    low, high = shape.positions.amin(0), shape.positions.amax(0)
    height = float(high[2] - low[2])
    middle = float(high[2] + low[2]) / 2
    around = float(shape.positions[:, :2].norm(dim=-1).max())
    elevation = 48.0 if height < 0.25 else 20.0
    reach = math.hypot(around, height / 2)
    distance = 1.0 * reach / math.sin(math.radians(15.0))
    return View(target=(0.0, 0.0, middle), elevation=elevation, distance=distance)


def perspective(view: View, height: int, width: int) -> Any:
    """The Mitsuba sensor of a view, one sample a pixel area (box filter)."""
    straight_down = abs(view.elevation) > 89.99
    up = [0.0, 1.0, 0.0] if straight_down else [0.0, 0.0, 1.0]
    to_world = mi.ScalarTransform4f().look_at(origin=list(view.position), target=list(view.target), up=up)
    film = {
        "type": "hdrfilm",
        "width": width,
        "height": height,
        "pixel_format": "rgb",
        "component_format": "float32",
        "rfilter": {"type": "box"},
    }
    sampler = {"type": "independent"}
    return mi.load_dict(
        {
            "type": "perspective",
            "fov": view.fov,
            "fov_axis": "x",
            "near_clip": 1e-2,
            "far_clip": 1e4,
            "to_world": to_world,
            "film": film,
            "sampler": sampler,
        }
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """A shape under light, before it is handed to Mitsuba."""

    shape: Shape
    environment: EnvironmentMap | None
    rotate: float = 0.0
    lights: tuple[Light, ...] = ()
    floor_albedo: float | None = 0.35
    floor_fade: float = 0.0

    def mitsuba_scene(self, bsdf: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """The Mitsuba scene and the shape in it, for which a floor is always even.

        bsdf: worn by the shape when Mitsuba's own integrators render it.
        """

        shape = self.shape
        worn = bsdf or {"type": "diffuse"}
        subject = mesh(shape.positions, shape.uv, shape.faces, worn, shape.normals)
        description: dict[str, Any] = {"type": "scene", "subject": subject}
        for index, light in enumerate(self.lights):
            description[f"light{index}"] = light_description(light)
        if self.environment is not None:
            description["environment"] = environment_description(self.environment, self.rotate)
        if self.floor_albedo is not None:
            place = (
                mi.ScalarTransform4f().translate([0, 0, FLOOR_HEIGHT]).scale([FLOOR_RADIUS, FLOOR_RADIUS, 1])
            )
            diffuse = {"type": "diffuse", "reflectance": {"type": "rgb", "value": [self.floor_albedo] * 3}}
            description["floor"] = {
                "type": "disk",
                "to_world": place,
                "bsdf": {"type": "twosided", "bsdf": diffuse},
            }
        return mi.load_dict(description), subject

    def world(self, surface: Surface, background: bool = True) -> Scene:
        """The scene as the wavefront integrator wants it."""
        scene, subject = self.mitsuba_scene()
        reachable = self.environment is not None or any(
            isinstance(light, SphereLight) for light in self.lights
        )
        return Scene(
            scene=scene,
            subject=(subject,),
            floor=self.floor_albedo or 0.0,
            floor_fade=self.floor_fade,
            lobes=lobe_texture(surface.lobes),
            lit_by_hits=reachable,
            show_environment=background,
        )


class Stage:
    """A material on a shape under light, from which pictures are taken."""

    def __init__(self, material: NeuralMaterial | Surface, settings: RenderSettings) -> None:
        use_mitsuba()
        self.settings = settings
        self.shape = load_shape(settings.shape, settings.uv_scale)
        environment = None
        if settings.environment is not None:
            environment = EnvironmentMap.load(settings.environment)
        elif not settings.lights:
            environment = studio()
        self.setting = Setting(
            shape=self.shape,
            environment=environment,
            rotate=settings.rotate,
            lights=settings.lights,
            floor_albedo=settings.floor_albedo if settings.floor else None,
            floor_fade=settings.floor_fade,
        )
        self.surface: Surface = NeuralSurface(material) if isinstance(material, NeuralMaterial) else material
        self.view = view_of(self.shape)

    @property
    def paths(self) -> int:
        """Camera paths in one picture."""
        return self.settings.resolution * self.settings.width * self.settings.spp

    def picture(self, setting: Setting, view: View, step: Step | None = None) -> Tensor:
        """[H, W, 3] linear."""
        height, width = self.settings.resolution, self.settings.width
        world = setting.world(self.surface, self.settings.background)
        sensor = perspective(view, height, width)
        quality = self.settings.quality()
        color = render(world, sensor, self.surface, height=height, width=width, quality=quality, step=step)
        if self.settings.denoise:
            color = denoise(color, *features(world, sensor, self.surface, height=height, width=width))
        return color

    def turned(self, degrees: float, what: Turn) -> tuple[Setting, View]:
        """The setting with the object, the camera or the light turned about the vertical axis."""
        if what == "object":
            return replace(self.setting, shape=self.shape.rotated(degrees)), self.view
        if what == "camera":
            return self.setting, replace(self.view, azimuth=self.view.azimuth + degrees)
        lamps = tuple(turned_light(light, degrees) for light in self.setting.lights)
        return replace(self.setting, rotate=self.setting.rotate + degrees, lights=lamps), self.view


Turn = Literal["object", "camera", "light"]
DEFAULT_FRAMES = 48


def render_still(material: NeuralMaterial | Surface, settings: RenderSettings) -> Tensor:
    """One picture [H, W, 3] linear."""
    stage = Stage(material, settings)
    with progress("Rendering", stage.paths) as step:
        return stage.picture(stage.setting, stage.view, step)


def turntable_pictures(
    material: NeuralMaterial | Surface,
    settings: RenderSettings,
    frames: int = DEFAULT_FRAMES,
    what: Turn = "object",
) -> Iterator[Tensor]:
    """One turn of the object, the camera or the light (environment and lamps alike), picture by picture.

    [H, W, 3] linear; the last leads to the first.
    """
    if not 1 <= frames <= media.MAX_FRAMES:
        raise UsageError(f"--frames {frames}: allowed are 1 to {media.MAX_FRAMES}")
    stage = Stage(material, settings)
    with progress("Rendering", stage.paths * frames) as step:
        for index in range(frames):
            setting, view = stage.turned(360.0 * index / frames, what)
            yield stage.picture(setting, view, step)


def render_turntable(
    material: NeuralMaterial | Surface,
    settings: RenderSettings,
    frames: int = DEFAULT_FRAMES,
    what: Turn = "object",
) -> Tensor:
    """The pictures of a whole turn, [F, H, W, 3] linear."""
    if frames * settings.resolution * settings.width * 12 > media.MAX_CLIP_BYTES:
        raise UsageError(
            f"{frames} frames of {settings.width}x{settings.resolution} are too large; take fewer or smaller"
        )
    return torch.stack(list(turntable_pictures(material, settings, frames, what)))


def render_light_sweep(
    material: NeuralMaterial | Surface, settings: RenderSettings, frames: int = DEFAULT_FRAMES
) -> Tensor:
    """Environment and lamps turn once around the resting object. [F, H, W, 3] linear."""
    return render_turntable(material, settings, frames, "light")


def check_output(path: str | Path, moving: bool) -> Path:
    """The path, if its suffix can hold the result and its folder can be written: asked before the work."""
    path = Path(path)
    if moving and is_for_frames(path):
        if path.is_file():
            raise GonioError(f"{path}: is a file; name a folder for the frames, or a video .mp4")
        make_folder(path if path.is_dir() else path.parent)
        return path
    allowed = VIDEO_SUFFIXES if moving else PICTURE_SUFFIXES
    if path.suffix.lower() not in allowed:
        kind = "turntable" if moving else "still"
        folder = ", or as frames into a folder (a name without a suffix)" if moving else ""
        raise UsageError(f"--out {path}: a {kind} is written as {', '.join(allowed)}{folder}")
    return make_room(path)


def is_for_frames(path: Path) -> bool:
    """Whether a turntable goes there frame by frame: into a folder that is there, or has no suffix."""
    return path.is_dir() or not path.suffix


def save_still(path: str | Path, picture: Tensor, exposure: float = 0.0) -> None:
    """[H, W, 3] linear -> .exr, .hdr as it is; .png, .jpg exposed by `exposure` stops, display-encoded."""
    path = check_output(path, moving=False)
    linear = path.suffix.lower() in (".exr", ".hdr")
    media.write_image(path, picture if linear else picture * 2.0**exposure)


def save_turntable(path: str | Path, pictures: Tensor, exposure: float = 0.0, fps: float = 24) -> None:
    """[F, H, W, 3] linear -> .mp4 or .png frames, exposed by `exposure` stops and display-encoded."""
    path = check_output(path, moving=True)
    if is_for_frames(path):
        return save_frames(path, iter(pictures), len(pictures), exposure=exposure)
    media.write_video(path, srgb_from_linear(pictures * 2.0**exposure), fps=fps)


def save_frames(
    folder: Path, pictures: Iterator[Tensor], count: int, kind: FrameFormat = "png", exposure: float = 0.0
) -> None:
    """`count` pictures [H, W, 3] linear -> 0000.png ... exposed and display-encoded, or 0000.exr ... linear.

    Each is written when it is made, and all appear in the folder when the last one is. Longer sequences
    that are there are not mixed with this one.
    """
    for path in sorted(folder.glob(f"*.{kind}")):
        if path.stem.isdecimal() and int(path.stem) >= count:
            raise GonioError(f"{path}: is of a longer sequence; remove that or choose another --out")
    with media.atomic_folder(folder) as target:
        for index, picture in enumerate(pictures):
            save_still(target / f"{index:04d}.{kind}", picture, exposure)


def render_to_file(
    material: NeuralMaterial | Surface | Callable[[], NeuralMaterial],
    settings: RenderSettings,
    out: str | Path,
    *,
    turntable: bool = False,
    frames: int = DEFAULT_FRAMES,
    what: Turn = "object",
    frame_format: FrameFormat | None = None,
) -> Path:
    """What `gonio render` does: check, render, save. A function as material is called after the checks.

    frame_format: of a turntable in a folder, PNG if None.
    """
    path = check_output(out, turntable)
    in_folder = turntable and is_for_frames(path)
    if frame_format is not None and not in_folder:
        raise UsageError(
            f"--frame-format {frame_format}: is of frames in a folder; give --turntable and a folder as --out"
        )
    ready: Any = material() if callable(material) and not isinstance(material, torch.nn.Module) else material
    if in_folder:
        pictures = turntable_pictures(ready, settings, frames, what)
        save_frames(path, pictures, frames, frame_format or "png", settings.exposure)
    elif turntable:
        save_turntable(path, render_turntable(ready, settings, frames, what), settings.exposure)
    else:
        save_still(path, render_still(ready, settings), settings.exposure)
    return path
