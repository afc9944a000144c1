"""gonio data cache: latents and text embeddings of a folder of clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class DataCache:
    """Encode a folder of clips for training: one file of latents and text embeddings a clip.

    A stopped run goes on where it was; what has changed or is damaged is encoded again.

    Example: gonio data cache clips --model mini-t2v --out latents
    """

    clips: Annotated[Positional[Path], arg(metavar="DIR")]
    """Folder written by gonio data videos."""
    model: str
    """Video model whose autoencoder and text encoder are used, or a spec file .json."""
    out: Path
    """Folder to write."""
    weights: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Model folder in diffusers layout, when the weights are not bundled or in the hub's cache."""
    numbers: Literal["bf16", "fp16", "fp32"] = "bf16"
    """How numbers are stored."""
    device: str = "cpu"
    """Where the encoders run: cpu or cuda."""

    resume: ClassVar[str] = "run the same command again to go on where it stopped"

    def run(self) -> None:
        from functools import partial

        import torch
        from torch import Tensor

        from gonio.data.cache import CacheSettings, build_cache
        from gonio.data.dataset import read_dataset
        from gonio.models.codec import load_codec
        from gonio.models.condition import photo_clip
        from gonio.models.image import load_image_encoder
        from gonio.models.spec import check_frames, check_size, find_spec
        from gonio.models.text import load_text_encoder, prompt_tokens

        spec = find_spec(self.model)
        rectified = spec.projection == "rectified"
        for record in read_dataset(self.clips).values():
            check_frames(spec, record["frames"])
            if not rectified:
                check_size(spec, record["resolution"], record["resolution"])
        settings = CacheSettings(
            model=spec.name,
            numbers=self.numbers,
            projection="rectified" if rectified else "perspective",
            size=spec.resolution if rectified else None,
        )
        codec = load_codec(spec, self.weights, device=self.device)
        text = load_text_encoder(spec, self.weights, device=self.device)
        image = load_image_encoder(spec, self.weights) if spec.image_encoder else None

        @torch.no_grad()
        def encode_video(frames: Tensor) -> Tensor:
            return codec.encode(frames[None].to(self.device))[0]

        cache = build_cache(
            self.clips,
            self.out,
            settings=settings,
            encode_video=encode_video,
            encode_text=lambda prompt: prompt_tokens(text, prompt),
            photo_clip=partial(photo_clip, spec),
            encode_image=(lambda photo: image.encode(photo)[0]) if image else None,
        )
        shape = list(cache[0]["latents"].shape)
        print(f"{self.out}: {len(cache)} clips of {spec.name}, latents {shape} in {self.numbers}")
