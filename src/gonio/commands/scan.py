"""gonio scan: PBR maps -> the video a moving camera and light would see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from gonio.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Measure a folder of PBR maps with the virtual gonioreflectometer.

    Writes lossless frames, video.mp4 and material_video.json. A stopped scan goes on where it was.

    Example: gonio scan maps/moss --out scans/moss --frames 17
    """

    maps: Annotated[Positional[Path], arg(metavar="MAPS")]
    """Folder with basecolor, normal, roughness, metallic and height images."""
    out: Path
    """Folder to write."""
    frames: Literal[81, 17] = 81
    """Frames of the two-phase trajectory; 17 is every fifth of the 81."""
    trajectory: Literal["two-phase", "cross"] = "two-phase"
    """two-phase: the light circles, then the camera does. cross: 9 cameras x 9 lights, 81 frames."""
    resolution: int = 256
    """Pixels per side, 16 to 4096."""
    spp: int = 64
    """Samples per pixel."""
    denoise: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Denoise every frame; without either flag frames of fewer than 64 samples are."""
    no_denoise: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Never denoise."""
    environment: Annotated[Path | None, arg(metavar="FILE.hdr", help_behavior_hint="")] = None
    """Lat-long .hdr or .exr: also photograph the sample under it, as photo.png and photo.exr."""
    seed: int = 0
    """Seed of the path tracer."""

    resume: ClassVar[str] = "run the same command again to go on where it stopped"

    def run(self) -> None:
        from gonio import media
        from gonio.camera import cross_joined, two_phase
        from gonio.environment import EnvironmentMap
        from gonio.pbr import load_material_maps
        from gonio.scan import ScanSettings, photograph, scan

        if self.trajectory == "cross" and self.frames != 81:
            raise UsageError(f"--frames {self.frames}: the cross trajectory has 81; leave --frames out")
        if self.denoise and self.no_denoise:
            raise UsageError("--denoise and --no-denoise: give one of them")
        settings = ScanSettings(
            resolution=self.resolution,
            spp=self.spp,
            denoise=True if self.denoise else False if self.no_denoise else None,
            seed=self.seed,
        )
        environment = EnvironmentMap.load(self.environment) if self.environment else None
        material = load_material_maps(self.maps)
        path = cross_joined() if self.trajectory == "cross" else two_phase(self.frames)
        video, times = scan(material, self.out, trajectory=path, settings=settings)
        if environment is not None:
            photo = photograph(material, environment, settings=settings)
            media.write_image(self.out / "photo.exr", photo)
            media.write_image(self.out / "photo.png", photo)
        count, height, width, _ = video.frames.shape
        rendered = f"{times.total:.1f} s, {times.render_share:.0%} of it rendering"
        print(f"{self.out}: {count} frames of {width}x{height} of {material.name} in {rendered}")
