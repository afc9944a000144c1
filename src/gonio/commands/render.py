"""gonio render: a neural material on a shape, under any light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg


@dataclass(frozen=True, kw_only=True)
class Render:
    """Render a material on a shape: a still (.exr, .hdr, .png, .jpg) or a turntable (.mp4).

    Example: gonio render moss.safetensors --shape shaderball --environment sky.hdr --out moss.png
    """

    material: Annotated[Positional[Path], arg(metavar="MATERIAL")]
    """Material file, .safetensors."""
    out: Path
    """Picture or video to write."""
    shape: Annotated[str, arg(metavar="SHAPE")] = "shaderball"
    """plane, sphere, cloth, shaderball, or a mesh file .obj, .ply, .glb."""
    environment: Annotated[Path | None, arg(metavar="FILE.hdr", help_behavior_hint="")] = None
    """Lat-long panorama .hdr or .exr; the built-in studio when left out."""
    rotate: float = 0.0
    """Turn of the environment about the vertical axis, degrees."""
    turntable: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Make a video of one full turn."""
    turn: Literal["object", "camera", "light"] = "object"
    """What turns."""
    frames: int = 48
    """Frames of the turntable."""
    resolution: int = 512
    """Pixels per side."""
    spp: int = 64
    """Samples per pixel."""
    denoise: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Denoise the finished picture."""
    uv_scale: float = 1.0
    """Repeat the texture this many times as often."""
    exposure: float = 0.0
    """Stops, for .png, .jpg and .mp4."""
    seed: int = 0
    """Seed of the path tracer."""

    resume: ClassVar[str] = "nothing was written; run the same command again"

    def run(self) -> None:
        from gonio.material_file import load_material
        from gonio.render.stage import RenderSettings, render_to_file

        settings = RenderSettings(
            shape=self.shape,
            environment=self.environment,
            rotate=self.rotate,
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
        )
        print(written)
