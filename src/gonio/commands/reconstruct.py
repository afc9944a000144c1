"""gonio reconstruct: a material video -> a neural material."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from gonio.errors import UsageError

MIN_TEXELS, MAX_TEXELS = 8, 4096


@dataclass(frozen=True, kw_only=True)
class Reconstruct:
    """Make a neural material of a material video.

    The state of a fit is kept beside the output (FILE.safetensors.fit) until the fit is done, so a stopped
    fit goes on where it was.

    Example: gonio reconstruct scans/moss --out moss.safetensors
    """

    video: Annotated[Positional[Path], arg(metavar="VIDEO_OR_DIR")]
    """Folder written by gonio scan, an mp4, or a folder of frames."""
    out: Path
    """Material file to write, .safetensors."""
    method: Literal["auto", "lrm", "refine", "optimize", "scratch"] = "auto"
    """lrm: one pass of the reconstruction model; optimize: a fit from the universal decoder; refine: goes on
    from the model's result with a fit's opinion, the best; scratch: from random numbers; auto: lrm for
    generated videos, else refine where the model knows the trajectory."""
    model: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Reconstruction model made by gonio train lrm; the bundled one when left out."""
    tileable: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """lrm and refine: let the textures tile; the model's convolutions wrap around."""
    views: Annotated[Literal[17, 81] | None, arg(metavar="{17,81}", help_behavior_hint="")] = None
    """Use this many frames of an 81-frame video; all when left out."""
    decoder: Annotated[Literal["64x4", "32x2"] | None, arg(metavar="{64x4,32x2}", help_behavior_hint="")] = (
        None
    )
    """Width x hidden layers of the two MLPs; 64x4, or the model's, when left out."""
    resolution: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Texels per side; the frames' shorter side when left out."""
    seed: int = 0
    """Seed of the fit."""

    resume: ClassVar[str] = "run the same command again to go on from the checkpoint beside the output"

    def run(self) -> None:
        from gonio.folders import make_folder
        from gonio.material_file import SUFFIX, save_material
        from gonio.material_video import load_material_video
        from gonio.reconstruct.run import Reconstruction, chosen_method, chosen_views, reconstruct_shown

        if self.out.suffix.lower() != SUFFIX:
            raise UsageError(f"--out {self.out}: a material file ends in {SUFFIX}; rename it")
        if self.resolution is not None and not MIN_TEXELS <= self.resolution <= MAX_TEXELS:
            raise UsageError(f"--resolution {self.resolution}: allowed are {MIN_TEXELS} to {MAX_TEXELS}")
        started = time.perf_counter()
        video = chosen_views(load_material_video(self.video), self.views)
        make_folder(self.out.parent)
        how = Reconstruction(
            method=chosen_method(video, self.resolution, self.decoder)
            if self.method == "auto"
            else self.method,
            size=self.resolution,
            decoder=self.decoder,
            seed=self.seed,
            model=self.model,
            tileable=self.tileable,
        )
        checkpoint = self.out.with_name(self.out.name + ".fit")
        material, psnr = reconstruct_shown(video, how, source=self.video, checkpoint=checkpoint)
        save_material(self.out, material)
        height, width = material.resolution
        made = f"{how.method}, {width}x{height} texels from {video.frames.shape[0]} frames"
        print(f"{self.out}: {made}, {psnr:.1f} dB on them, {time.perf_counter() - started:.1f} s")
