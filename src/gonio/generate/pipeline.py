"""Prompt or photo -> material video: text, noise, flow, autoencoder, and the frames' trajectory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from gonio import media
from gonio.camera import Trajectory, two_phase
from gonio.color import linear_from_srgb, srgb_from_linear
from gonio.errors import UsageError
from gonio.generate.tileable import blend_boundary, circular_shift, decode_periodic
from gonio.material_video import MaterialVideo, write_manifest, write_preview
from gonio.models.codec import Codec, load_codec
from gonio.models.condition import condition, photo_clip, without_memory, without_photo
from gonio.models.denoiser import Denoiser
from gonio.models.flow import Solver, gaussian, sample
from gonio.models.image import ImageEncoder, load_image_encoder
from gonio.models.load import load_memory_of, load_transformer
from gonio.models.lora import load_lora, merge_lora
from gonio.models.memory import Memory
from gonio.models.placement import Placement, at_work, place
from gonio.models.spec import VideoModelSpec, find_spec
from gonio.models.text import TextEncoder, check_prompt, load_text_encoder
from gonio.pbr import resized_map
from gonio.rectify import reproject

# `mini` names the family; the task chooses the member.
FAMILIES = {"mini": {"text": "mini-t2v", "image": "mini-i2v"}}
# Of the border that is corrected in a tileable video, as a share of its width.
BOUNDARY_BAND = 1 / 16


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """None: the model's own value. resolution: pixels per side; frames: of the two-phase trajectory."""

    seed: int = 0
    resolution: int | None = None
    frames: int | None = None
    steps: int | None = None
    guidance: float | None = None
    shift: float | None = None
    solver: Solver = "unipc"
    negative: str = ""
    tileable: bool = False


@dataclass(frozen=True, kw_only=True)
class Generator:
    """The loaded networks of one video model."""

    spec: VideoModelSpec
    transformer: Any  # WanTransformer3DModel
    codec: Codec
    text: TextEncoder
    memory: Memory | None = None
    image: ImageEncoder | None = None
    placement: Placement = field(default_factory=Placement)

    def video(
        self,
        prompt: str,
        settings: SamplingSettings,
        *,
        photo: Tensor | None = None,
        on_step: Callable[[int, int, Tensor], None] | None = None,
    ) -> MaterialVideo:
        """One video. photo: [H, W, 3] linear, for an image model only.

        Raises UsageError for sizes and prompts that do not fit the model, GonioError if sampling diverges.
        """
        spec = self.spec
        if (photo is not None) != (spec.task == "image"):
            needs = "a photo" if spec.task == "image" else "no photo"
            raise UsageError(f"model {spec.name} takes {needs}; choose a model for the other task")
        if settings.tileable and spec.projection != "rectified":
            # Shifting latents needs frames that all show the same texel at the same place.
            raise UsageError(
                f"--tileable: {spec.name} draws in perspective; take a finetune on tileable data"
            )
        frames, side = settings.frames or spec.frames, settings.resolution or spec.resolution
        draw = torch.Generator().manual_seed(settings.seed)
        noise = gaussian((1, *spec.latent_shape(frames, side, side)), draw)
        trajectory = two_phase(frames)
        steps = settings.steps or spec.steps
        # Not the transformer's own device: offloaded, that is the CPU until it is called.
        device, dtype = torch.device(self.placement.device), self.transformer.dtype
        prompts = [check_prompt(prompt) if prompt or photo is None else "", settings.negative]
        context, without = (tokens[None].to(device, dtype) for tokens in self._contexts(prompts))
        layout = recalled = None
        if self.memory is not None and photo is None:  # a photo says itself how things lie
            layout, values = self.memory.recalled(context[0].float().cpu(), settings.seed)
            recalled = self._fitted(values, side)
        photo_latents = tokens = None
        if photo is not None:
            picture = squared(photo, side)
            photo_latents = self._photo_latents(picture, frames)
            tokens = None if self.image is None else self._image_tokens(picture).to(device, dtype)
        latent_height, latent_width = noise.shape[-2:]
        shift = None
        if settings.tileable:
            patch = tuple(spec.transformer["patch_size"][1:])
            shift = circular_shift(latent_height, latent_width, steps=steps, patch=patch, generator=draw)

        denoiser = Denoiser(spec, self.transformer, self.codec.deviation)

        def predict(seen: Tensor, timestep: Tensor, conditional: bool) -> Tensor:
            if not conditional:
                seen = without_memory(spec, seen)
                seen = without_photo(spec, seen) if spec.photo_guided else seen
            text = context if conditional else without
            return denoiser(seen.to(device, dtype), timestep, text, tokens)

        with at_work(self.transformer, self.placement):
            latents = sample(
                predict,
                noise.to(device),
                steps=steps,
                shift=settings.shift or spec.sampling_shift,
                guidance=spec.guidance if settings.guidance is None else settings.guidance,
                solver=settings.solver,
                on_step=on_step,
                transform_latents=shift,
                condition=condition(spec, noise, photo_latents, recalled=recalled),
            )
        shown = self._decoded(latents, periodic=shift is not None)
        linear = linear_from_srgb(shown)
        if spec.projection == "rectified":
            linear, coverage = reproject(linear, trajectory, side, side)
        else:
            coverage = torch.ones(linear.shape[:3])
        return MaterialVideo(
            frames=linear,
            coverage=coverage,
            trajectory=trajectory,
            provenance=self._provenance(prompt, settings, steps) | {"layout": layout},
        )

    def _contexts(self, prompts: list[str]) -> Tensor:
        """[P, N, D] with the number of tokens the model was trained with."""
        with at_work(self.text.model, self.placement):
            tokens, _ = self.text.encode(prompts)
        count = self.spec.text_tokens
        return pad(tokens, (0, 0, 0, max(0, count - tokens.shape[1])))[:, :count]

    def _image_tokens(self, picture: Tensor) -> Tensor:
        """[1, M, D] float32"""
        assert self.image is not None
        with at_work(self.image.model, self.placement):
            return self.image.encode(picture)

    def _coding(self) -> AbstractContextManager[None]:
        return at_work(self.codec.autoencoder, self.placement, whole=True)

    @torch.no_grad()
    def _photo_latents(self, picture: Tensor, frames: int) -> Tensor:
        """[1, z, f, h, w]"""
        clip = photo_clip(self.spec, picture, frames)[None]
        with self._coding():
            return self.codec.encode(clip.to(self.codec.device)).cpu()

    @torch.no_grad()
    def _fitted(self, values: Tensor, side: int) -> Tensor:
        """What is recalled of a layout [C, h, w], for frames of another size too. [1, C, 1, h', w']"""
        known = values[None, :, None]
        if known.shape[-1] * self.spec.spatial_stride == side:
            return known
        latents = pad(known, (0,) * 7 + (self.spec.latent_channels - len(values),))
        with self._coding():
            frames = self.codec.decode(latents.to(self.codec.device))[0].float()
            frames = torch.stack([resized_map(frame, side, side, wrap=True) for frame in frames.cpu()])
            return self.codec.encode(frames[None].to(self.codec.device))[:, : len(values)].cpu()

    @torch.no_grad()
    def _decoded(self, latents: Tensor, *, periodic: bool) -> Tensor:
        """[F, H, W, 3] display-encoded."""
        with self._coding():
            latents = latents.to(self.codec.device, self.codec.autoencoder.dtype)
            if not periodic:
                return self.codec.decode(latents)[0].float().cpu()
            planes = decode_periodic(lambda z: self.codec.decode(z).permute(0, 4, 1, 2, 3), latents)
        frames = planes[0].permute(1, 2, 3, 0).float().cpu()
        return blend_boundary(frames, max(2, round(frames.shape[1] * BOUNDARY_BAND))).clamp(0, 1)

    def _provenance(self, prompt: str, settings: SamplingSettings, steps: int) -> dict[str, Any]:
        return {
            "name": prompt[:60] or "photo",
            "source": f"generated by {self.spec.name}",
            "prompt": prompt,
            "negative": settings.negative,
            "seed": settings.seed,
            "model": self.spec.name,
            "steps": steps,
            "solver": settings.solver,
            "tileable": settings.tileable,
        }


def member(model: str, task: str) -> VideoModelSpec:
    """The spec of a model or of a family's member for "text" or "image"."""
    return find_spec(FAMILIES[model][task] if model in FAMILIES else model)


def load_generator(
    spec: VideoModelSpec,
    folder: Path | None = None,
    placement: Placement | None = None,
    *,
    transformer: Path | None = None,
    lora: Path | None = None,
    lora_strength: float = 1.0,
) -> Generator:
    """All networks of a model, from a folder in diffusers layout, the bundle, or the hub's cache.

    transformer: a folder of its own for the transformer, such as a finetune. lora: merged into it.
    """
    placement = placement or Placement()
    on_cpu = placement.device == "cpu"
    dtype = torch.float32 if on_cpu or spec.text_encoder == "minilm" else placement.compute_dtype
    network = load_transformer(spec, transformer or folder, dtype=dtype)
    if lora is not None:
        load_lora(lora, network)
        # Before the weights are stored in 8 bits, in which a small difference would vanish.
        merge_lora(network, lora_strength)
    memory = load_memory_of(spec, transformer or folder)
    codec = load_codec(spec, folder)
    text = load_text_encoder(spec, folder, dtype="fp32" if on_cpu else "bf16")
    image = None if spec.image_encoder is None else load_image_encoder(spec, folder)
    encoders = [text.model] if image is None else [text.model, image.model]
    place(network, codec.autoencoder, placement, encoders=encoders)
    return Generator(
        spec=spec,
        transformer=network,
        codec=codec,
        text=text,
        memory=memory,
        image=image,
        placement=placement,
    )


def squared(photo: Tensor, side: int) -> Tensor:
    """The middle square of a picture [H, W, 3] linear, resized, display-encoded. [side, side, 3]"""
    height, width = photo.shape[:2]
    size = min(height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return srgb_from_linear(resized_map(photo[top : top + size, left : left + size], side, side, wrap=False))


def save_video(folder: Path, video: MaterialVideo) -> None:
    """Lossless frames, video.mp4 for eyes, and the manifest last."""
    for index, frame in enumerate(video.frames):
        media.write_image(folder / "frames" / f"{index:04d}.png", frame)
    write_preview(folder, video.frames)
    write_manifest(folder, video.trajectory, video.provenance, ".png")


def is_whole(folder: Path, trajectory: Trajectory) -> bool:
    """Whether `save_video` finished there."""
    return (folder / "material_video.json").exists() and all(
        (folder / "frames" / f"{index:04d}.png").exists() for index in range(trajectory.frames)
    )
