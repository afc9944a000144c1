"""gonio convert: a released checkpoint into the layout Gonio reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Convert a checkpoint in original naming (Wan 2.1, DiffSynth) to the diffusers layout.

    Writes DIR/transformer or DIR/vae: run it once for each part of a model. Every tensor must be known and
    fit; otherwise nothing is written.

    Example: gonio convert Wan2.1_VAE.pth --to wan2.1
    """

    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT")]
    """.safetensors, a folder of shards or their index, .pt or .pth."""
    to: Annotated[Path, arg(metavar="DIR")]
    """Folder of the model to write into."""
    kind: str = "auto"
    """auto, wan-transformer or wan-vae."""
    head_dim: Annotated[int | None, arg(help_behavior_hint="")] = None
    """Channels of an attention head, if not the 128 of the released models."""

    resume: ClassVar[str] = "nothing was written; run the same command again"

    def run(self) -> None:
        from gonio.folders import make_folder
        from gonio.models.convert import convert

        make_folder(self.to)
        done = convert(self.checkpoint, self.to, kind=self.kind, head_dim=self.head_dim)
        print(f"{done.folder}: {done.kind}, {done.tensors} tensors, {done.parameters:,} parameters")
