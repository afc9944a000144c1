"""gonio data videos: training clips of many materials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class DataVideos:
    """Make training clips: one folder a clip, and manifest.jsonl with captions, licences and hashes.

    A stopped run goes on where it was; more clips come with a larger --count. A tenth of all materials,
    chosen by a hash of their names, is held out.

    Example: gonio data videos procedural maps --out clips --count 100 --photos panoramas
    """

    sources: Annotated[
        Positional[tuple[str, ...]], arg(metavar="SOURCES...", help_behavior_hint="(one or more)")
    ]
    """procedural[:SEED], folders of maps (also nested), matsynth[:FOLDER], matsynth-all[:FOLDER]."""
    out: Path
    """Folder to write."""
    count: int = 100
    """How many clips the folder shall hold."""
    frames: Literal[17, 81] = 17
    """Frames of the two-phase trajectory."""
    resolution: int = 128
    """Pixels per side, 16 to 2048."""
    renderer: Literal["heightfield", "mitsuba"] = "heightfield"
    """heightfield: fast, direct light. mitsuba: the path tracer of gonio scan."""
    spp: int = 32
    """Samples per pixel of mitsuba."""
    seed: int = 0
    """Order of the materials, wording of the captions, light of the photographs."""
    split: Literal["train", "held-out", "all"] = "train"
    """Which part of the materials."""
    turns: int = 1
    """Quarter turns of every material of a folder or data set, 1 to 4, each a clip of its own."""
    photos: Annotated[Path | None, arg(metavar="ENVIRONMENTS", help_behavior_hint="")] = None
    """Folder of .hdr or .exr panoramas: add photo.png, the sample under one of them, to every clip."""
    captions: int = 4
    """Captions a clip, at most."""
    exclude: Annotated[Path | None, arg(metavar="PROMPTS", help_behavior_hint="")] = None
    """File of prompts, one a line (or .jsonl), that no caption may equal."""

    resume: ClassVar[str] = "run the same command again to go on where it stopped"

    def run(self) -> None:
        from functools import partial

        from gonio.data.clip_captions import check_count, read_prompts, template_captions
        from gonio.data.dataset import MANIFEST, VideoSettings, make_videos

        settings = VideoSettings(
            frames=self.frames,
            resolution=self.resolution,
            renderer=self.renderer,
            spp=self.spp,
            seed=self.seed,
            split=self.split,
            turns=self.turns,
            photos=self.photos,
        )
        exclude = read_prompts(self.exclude) if self.exclude else []
        describe = partial(template_captions, count=check_count(self.captions), exclude=exclude)
        records = make_videos(self.sources, self.out, count=self.count, settings=settings, describe=describe)
        licences = sorted({record["licence"] for record in records})
        print(f"{self.out / MANIFEST}: {len(records)} clips, licences {', '.join(licences) or 'none'}")
