"""gonio convert: a released checkpoint into the layout Gonio reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from gonio.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Convert a checkpoint in original naming (Wan 2.1, DiffSynth) to the diffusers layout.

    Writes DIR/transformer, DIR/vae or DIR/text_encoder: run it once for each part of a model. Every tensor
    must be known and fit; otherwise nothing is written. The text encoder's tokenizer is copied to
    DIR/tokenizer from google/umt5-xxl beside the checkpoint, where the release keeps it. With --mlp the
    checkpoint is a reconstruction model's, and DIR becomes what gonio reconstruct --model takes. With
    --lora-format it is a LoRA, and DIR the file to write it to in that format.

    Example: gonio convert Wan2.1_VAE.pth --to wan2.1
    """

    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT")]
    """.safetensors, a folder of shards or their index, .pt or .pth."""
    to: Annotated[Path, arg(metavar="DIR")]
    """Folder of the model to write into."""
    kind: str = "auto"
    """auto, wan-transformer, wan-vae or wan-text-encoder."""
    head_dim: Annotated[int | None, arg(help_behavior_hint="")] = None
    """Channels of an attention head, if not the 128 of the released models."""

    mlp: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """mlp.pth beside a reconstruction model's latent_module.pth."""
    base: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """With --mlp: the Wan 2.1 T2V 1.3B folder (diffusers layout) whose text encoder reads the empty prompt,
    when it is not in the hub's cache."""

    lora_format: Annotated[
        Literal["diffusers", "diffsynth", "comfyui", "musubi"] | None,
        arg(metavar="{diffusers,diffsynth,comfyui,musubi}", help_behavior_hint=""),
    ] = None
    """How the keys of the LoRA shall be spelled; how they are spelled now is found out."""
    model: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """With --lora-format: the model the LoRA is of, such as wan2.1-t2v-14b."""

    resume: ClassVar[str] = "nothing was written; run the same command again"

    def run(self) -> None:
        from gonio.folders import make_folder
        from gonio.models.convert import convert

        if self.lora_format is not None:
            self._lora(self.lora_format)
            return
        make_folder(self.to)
        if self.mlp is not None:
            self._reconstruction(self.mlp)
            return
        done = convert(self.checkpoint, self.to, kind=self.kind, head_dim=self.head_dim)
        print(f"{done.folder}: {done.kind}, {done.tensors} tensors, {done.parameters:,} parameters")
        if done.missing:
            print(done.missing)

    def _lora(self, format: str) -> None:
        from gonio.folders import make_folder
        from gonio.models.load import meta_transformer
        from gonio.models.lora import convert_lora
        from gonio.models.spec import find_spec

        if self.model is None:
            raise UsageError("--lora-format: say with --model what the LoRA is of, such as wan2.1-t2v-14b")
        if self.to.suffix != ".safetensors":
            raise UsageError(f"--to {self.to}: a LoRA is one file; name it .safetensors")
        network = meta_transformer(find_spec(self.model))
        make_folder(self.to.parent)
        found = convert_lora(self.checkpoint, self.to, network, format=format)
        print(f"{self.to}: {format}, from {found}")

    def _reconstruction(self, mlp: Path) -> None:
        from gonio.models.convert_reconstruction import convert_reconstruction
        from gonio.models.reconstruction import LRM_SPECS
        from gonio.models.text import load_text_encoder, prompt_tokens

        spec = LRM_SPECS["lrm-wan1.3b"]
        nothing = prompt_tokens(load_text_encoder(spec.video_spec, self.base), "")
        done = convert_reconstruction(self.checkpoint, mlp, self.to, spec=spec, null_text=nothing)
        print(f"{done.folder}: {spec.name}, {done.tensors} tensors; {done.skipped} of the encoder left out")
