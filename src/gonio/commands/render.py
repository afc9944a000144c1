"""gonio render: a neural material on a shape, under any light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg


@dataclass(frozen=True, kw_only=True)
class Render:
    """Render a material on a shape: a still (.exr, .hdr, .png, .jpg) or a turntable (.mp4, or frames).

    The shape stands on z = 0, about 2 high, and is seen from -y; +z is up. A lamp without an INTENSITY or
    RADIANCE gives white paper at the origin that faces it a radiance of 1.

    Example: gonio render moss.safetensors --shape shaderball --environment sky.hdr --out moss.png
    """

    material: Annotated[Positional[Path], arg(metavar="MATERIAL")]
    """Material file, .safetensors."""
    out: Path
    """Picture or video to write. A turntable also goes to a folder (one that exists, or a name without a
    suffix), as 0000.png, 0001.png and so on."""
    shape: Annotated[str, arg(metavar="SHAPE")] = "shaderball"
    """plane, sphere, cloth, shaderball, or a mesh file .obj, .ply, .glb."""
    environment: Annotated[Path | None, arg(metavar="FILE.hdr", help_behavior_hint="")] = None
    """Lat-long panorama .hdr or .exr; when left out, the lamps alone, or else the built-in studio."""
    light: Annotated[
        UseAppendAction[tuple[str, ...]], arg(metavar="X,Y,Z[,INTENSITY]", help_behavior_hint="(repeatable)")
    ] = ()
    """A lamp: a point with an intensity in W/sr, one number or R,G,B."""
    sphere_light: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(metavar="X,Y,Z,RADIUS[,RADIANCE]", help_behavior_hint="(repeatable)"),
    ] = ()
    """A lamp: a ball with an even radiance, one number or R,G,B."""
    rotate: float = 0.0
    """Turn of the environment about the vertical axis, degrees."""
    turntable: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Make a video of one full turn, or its frames."""
    turn: Literal["object", "camera", "light"] = "object"
    """What turns; light is the environment and all lamps."""
    frames: int = 48
    """Frames of the turntable."""
    frame_format: Annotated[
        Literal["png", "exr"] | None, arg(metavar="{png,exr}", help_behavior_hint="(default: png)")
    ] = None
    """Of a turntable in a folder: png is display-encoded, exr linear."""
    resolution: int = 512
    """Pixels per side."""
    spp: int = 64
    """Samples per pixel."""
    denoise: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Denoise the finished picture."""
    uv_scale: float = 1.0
    """Repeat the texture this many times as often."""
    exposure: float = 0.0
    """Stops, for .png, .jpg and .mp4; .exr and .hdr stay as rendered."""
    seed: int = 0
    """Seed of the path tracer."""

    resume: ClassVar[str] = "nothing was written; run the same command again"

    def run(self) -> None:
        from gonio.material_file import load_material
        from gonio.render.lights import point_light, sphere_light
        from gonio.render.stage import RenderSettings, render_to_file

        settings = RenderSettings(
            shape=self.shape,
            environment=self.environment,
            rotate=self.rotate,
            lights=(*map(point_light, self.light), *map(sphere_light, self.sphere_light)),
            resolution=self.resolution,
            spp=self.spp,
            uv_scale=self.uv_scale,
            exposure=self.exposure,
            seed=self.seed,
            denoise=self.denoise,
        )
        written = render_to_file(
            lambda: load_material(self.material),
            settings,
            self.out,
            turntable=self.turntable,
            frames=self.frames,
            what=self.turn,
            frame_format=self.frame_format,
        )
        print(written)
