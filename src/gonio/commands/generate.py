"""gonio generate: prompt or photo -> material video -> neural material -> a picture of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from gonio.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from gonio.generate.pipeline import Generator, SamplingSettings
    from gonio.material_video import MaterialVideo

MAX_COUNT = 1000


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Generate a material video from a prompt or a photo, and make it a material to render.

    Writes video.mp4, lossless frames, material.safetensors and preview.png. What is already there from the
    same command is not made again.

    Example: gonio generate "weathered green copper with rivets" --out copper
    """

    prompt: Annotated[Positional[str], arg(metavar="PROMPT")] = ""
    """What to make; may be left out with --image."""
    image: Annotated[Path | None, arg(metavar="PHOTO", help_behavior_hint="")] = None
    """Photo of a flat material to start from."""
    out: Path
    """Folder to write; with --count, one folder a seed in it."""
    model: str = "mini"
    """mini, wan2.1-t2v-14b, wan2.1-i2v-14b, wan2.1-t2v-1.3b, or a spec file .json."""
    weights: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Folder of the model's weights in diffusers layout; the bundle or the hub's cache when left out."""
    lora: Annotated[Path | None, arg(metavar="FILE.safetensors", help_behavior_hint="")] = None
    """LoRA for the transformer, in diffusers, DiffSynth or diffusion_model naming."""
    lora_strength: float = 1.0
    """How much of the LoRA."""
    negative: str = ""
    """What not to make."""
    expand: Annotated[str | None, arg(metavar="BACKEND", help_behavior_hint="")] = None
    """Prompt expansion: template (Wan's default), none (mini's), a folder with a chat model, or the URL of a
    chat server."""
    expand_model: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Name of the model to ask the server for."""
    seed: int = 0
    """Seed of the first video."""
    count: int = 1
    """How many videos, with seeds counting up."""
    resolution: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Pixels per side; the model's own when left out."""
    frames: Annotated[Literal[17, 41, 81] | None, arg(metavar="{17,41,81}", help_behavior_hint="")] = None
    """Frames of the trajectory; the model's own when left out."""
    steps: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """Sampling steps."""
    guidance: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Strength of the prompt (classifier-free guidance)."""
    shift: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Shift of the noise levels."""
    solver: Literal["unipc", "dpm++", "euler"] = "unipc"
    """Sampler."""
    tileable: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Make a material that tiles without a seam."""
    video_only: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Stop after the video."""
    device: str = "cpu"
    """Where the networks run: cpu, cuda, cuda:1."""
    offload: Literal["none", "model", "group"] = "none"
    """Keep only the network, or the layers, at work on the device."""
    fp8: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Store the transformer's weights in 8 bits."""
    tiling: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Decode in tiles: less memory, possible seams."""

    resume: ClassVar[str] = "run the same command again to go on after the last whole video"

    def run(self) -> None:
        from gonio.folders import make_folder

        started = time.perf_counter()
        photo = self._checked()
        make_folder(self.out)
        generator = self._generator("image" if photo is not None else "text")
        for seed in range(self.seed, self.seed + self.count):
            folder = self.out / f"seed_{seed:04d}" if self.count > 1 else self.out
            video = self._video(generator, seed, photo, folder)
            seconds = time.perf_counter() - started
            print(f"{folder / 'video.mp4'}: {video.frames.shape[0]} frames, {seconds:.0f} s")
            if not self.video_only:
                self._material(video, folder)
                seconds = time.perf_counter() - started
                print(f"{folder / 'material.safetensors'}, {folder / 'preview.png'}: {seconds:.0f} s")

    def _checked(self) -> Tensor | None:
        """What can be wrong with the arguments, before anything is loaded. The photo, if any."""
        from gonio.media import read_color
        from gonio.models.text import check_prompt

        if not 1 <= self.count <= MAX_COUNT:
            raise UsageError(f"--count {self.count}: allowed are 1 to {MAX_COUNT}")
        if self.image is None or self.prompt:
            check_prompt(self.prompt)
        return None if self.image is None else read_color(self.image)

    def _generator(self, task: str) -> Generator:
        from gonio.generate.pipeline import load_generator, member
        from gonio.models.lora import load_lora, merge_lora
        from gonio.models.placement import Placement
        from gonio.models.spec import check_size

        spec = member(self.model, task)
        side = self.resolution or spec.resolution
        check_size(spec, side, side)
        placement = Placement(device=self.device, offload=self.offload, fp8=self.fp8, tiling=self.tiling)
        generator = load_generator(spec, self.weights, placement)
        if self.lora is not None:
            load_lora(self.lora, generator.transformer)
            merge_lora(generator.transformer, self.lora_strength)
        return generator

    def _settings(self, seed: int) -> SamplingSettings:
        from gonio.generate.pipeline import SamplingSettings

        return SamplingSettings(
            seed=seed,
            resolution=self.resolution,
            frames=self.frames,
            steps=self.steps,
            guidance=self.guidance,
            shift=self.shift,
            solver=self.solver,
            negative=self.negative,
            tileable=self.tileable,
        )

    def _video(self, generator: Generator, seed: int, photo: Tensor | None, folder: Path) -> MaterialVideo:
        """The video of one seed."""
        from gonio.generate.run import video_shown

        facts = {"image": str(self.image or ""), "lora": str(self.lora or "")}
        return video_shown(
            generator,
            self.prompt,
            self._settings(seed),
            folder,
            photo=photo,
            expand=self.expand,
            expand_model=self.expand_model,
            facts=facts,
        )

    def _material(self, video: MaterialVideo, folder: Path) -> None:
        """Reconstruct and show it."""
        from gonio.material_file import save_material
        from gonio.reconstruct.run import Reconstruction, chosen_method, reconstruct_shown
        from gonio.render.stage import RenderSettings, render_still, save_still

        path = folder / "material.safetensors"
        how = Reconstruction(method=chosen_method(video), tileable=self.tileable)
        checkpoint = path.with_name(path.name + ".fit")
        material, _ = reconstruct_shown(video, how, source=folder, checkpoint=checkpoint)
        save_material(path, material)
        settings = RenderSettings(resolution=384, spp=32, denoise=True)
        save_still(folder / "preview.png", render_still(material, settings), settings.exposure)
