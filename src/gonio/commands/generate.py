"""gonio generate: prompt or photo -> material video -> neural material -> a picture of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
# Of a sheet of several videos: videos, pixels a side, and which of the light's circle is shown.
MAX_SHOWN = 240
SHOWN_SIZE = 128
SHOWN_FRAME = 4


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Generate a material video from a prompt or a photo, and make it a material to render.

    Writes video.mp4, lossless frames, material.safetensors and preview.png. A video that is already
    there from the same command is not made again.

    Example: gonio generate "weathered green copper with rivets" --out copper
    """

    prompt: Annotated[Positional[str], arg(metavar="PROMPT")] = ""
    """What to make; may be left out with --image."""
    image: Annotated[Path | None, arg(metavar="PHOTO", help_behavior_hint="")] = None
    """Photo of a flat material to start from."""
    prompts: Annotated[Path | None, arg(metavar="FILE.jsonl", help_behavior_hint="")] = None
    """Many prompts instead of one: a JSON object with "prompt" a line, as gonio evaluate video reads them."""
    out: Path
    """Folder to write; with --count or --prompts, one folder a video in it, and contact_sheet.png of
    the first 240."""
    model: str = "mini"
    """mini, wan2.1-t2v-14b, wan2.1-i2v-14b, wan2.1-t2v-1.3b, or a spec file .json."""
    weights: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Folder of the model's weights in diffusers layout; the bundle or the hub's cache when left out."""
    transformer: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Weights of the transformer alone, such as a finetune of gonio train video; the rest is the model's."""
    download: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Fetch the model from the hub where its cache lacks it. Nothing is downloaded otherwise."""
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
    dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Numbers the transformer of a full-size model computes with on a GPU; on a CPU always fp32."""
    fp8: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Store the transformer's weights in 8 bits."""
    tiling: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """Decode in tiles: less memory, possible seams."""

    resume: ClassVar[str] = "run the same command again to go on after the last whole video"

    def run(self) -> None:
        from gonio.folders import make_folder

        started = time.perf_counter()
        photo = self._checked()
        prompts = self._prompts()
        make_folder(self.out)
        generator = self._generator("image" if photo is not None else "text")
        shown: list[tuple[str, Tensor]] = []
        for folder, prompt, seed in self._videos(prompts):
            video = self._video(generator, prompt, seed, photo, folder)
            if len(shown) < MAX_SHOWN:
                shown.append((f"{seed} {prompt}", _thumbnail(video)))
            seconds = time.perf_counter() - started
            print(f"{folder / 'video.mp4'}: {video.frames.shape[0]} frames, {seconds:.0f} s")
            if not self.video_only:
                self._material(video, folder)
                seconds = time.perf_counter() - started
                print(f"{folder / 'material.safetensors'}, {folder / 'preview.png'}: {seconds:.0f} s")
        if len(prompts) * self.count > 1:
            self._sheet(shown)

    def _sheet(self, shown: list[tuple[str, Tensor]]) -> None:
        """The first videos in one picture, each above its seed and prompt."""
        from gonio.color import linear_from_srgb
        from gonio.media import write_image
        from gonio.pictures import CONTACT_SHEET, picture_grid

        path = self.out / CONTACT_SHEET
        labels, pictures = zip(*shown, strict=True)
        sheet = picture_grid(list(pictures), list(labels), columns=10)
        write_image(path, linear_from_srgb(sheet))
        print(f"{path}: {len(shown)} videos")

    def _checked(self) -> Tensor | None:
        """What can be wrong with the arguments, before anything is loaded. The photo, if any."""
        from gonio.media import read_color
        from gonio.models.text import check_prompt

        if not 1 <= self.count <= MAX_COUNT:
            raise UsageError(f"--count {self.count}: allowed are 1 to {MAX_COUNT}")
        if self.prompts is None and (self.image is None or self.prompt):
            check_prompt(self.prompt)
        return None if self.image is None else read_color(self.image)

    def _prompts(self) -> list[str]:
        """The one of the command line, or those of the file, each of which must be fit to be asked."""
        from gonio.data.clip_captions import read_prompts
        from gonio.models.text import check_prompt

        if self.prompts is None:
            return [self.prompt]
        if self.prompt:
            raise UsageError(f"--prompts {self.prompts} and a prompt: give one of them")
        found = read_prompts(self.prompts)
        if not found:
            raise UsageError(f"{self.prompts}: holds no prompt; give one a line")
        for number, prompt in enumerate(found, 1):
            try:
                check_prompt(prompt)
            except UsageError as error:
                raise UsageError(f"{self.prompts}: prompt {number}: {error}") from None
        return found

    def _videos(self, prompts: list[str]) -> Iterator[tuple[Path, str, int]]:
        """Folder, prompt and seed of every video."""
        for number, prompt in enumerate(prompts):
            for seed in range(self.seed, self.seed + self.count):
                names = [] if self.prompts is None else [f"prompt_{number:03d}"]
                names += [] if self.count == 1 else [f"seed_{seed:04d}"]
                yield self.out.joinpath("_".join(names)), prompt, seed

    def _generator(self, task: str) -> Generator:
        from gonio.generate.pipeline import load_generator, member
        from gonio.models.hub import fetched_model
        from gonio.models.placement import DTYPES, Placement
        from gonio.models.spec import check_size

        spec = member(self.model, task)
        side = self.resolution or spec.resolution
        check_size(spec, side, side)
        placement = Placement(
            device=self.device,
            offload=self.offload,
            fp8=self.fp8,
            tiling=self.tiling,
            compute_dtype=DTYPES[self.dtype],
        )
        weights = self.weights
        if self.download and weights is None and spec.hub is not None:
            weights = fetched_model(spec.hub)
        return load_generator(
            spec,
            weights,
            placement,
            transformer=self.transformer,
            lora=self.lora,
            lora_strength=self.lora_strength,
        )

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

    def _video(
        self, generator: Generator, prompt: str, seed: int, photo: Tensor | None, folder: Path
    ) -> MaterialVideo:
        """The video of one prompt and seed."""
        from gonio.generate.run import video_shown

        return video_shown(
            generator,
            prompt,
            self._settings(seed),
            folder,
            photo=photo,
            expand=self.expand,
            expand_model=self.expand_model,
            facts=self._facts(),
        )

    def _facts(self) -> dict[str, object]:
        """What a video depends on besides its settings: with other facts it is made again."""
        from gonio.data.ledger import sha256
        from gonio.media.limits import read_bytes

        return {
            "image": "" if self.image is None else sha256(read_bytes(self.image)),
            "weights": str(self.weights or ""),
            "transformer": str(self.transformer or ""),
            "lora": str(self.lora or ""),
            "lora_strength": self.lora_strength,
            "expand_model": self.expand_model or "",
        }

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


def _thumbnail(video: MaterialVideo) -> Tensor:
    """One frame, small, as a display shows it. [SHOWN_SIZE, SHOWN_SIZE, 3]"""
    from gonio.color import srgb_from_linear
    from gonio.pbr import resized_map

    frame = video.frames[min(SHOWN_FRAME, len(video.frames) - 1)]
    return srgb_from_linear(resized_map(frame, SHOWN_SIZE, SHOWN_SIZE, wrap=False))
