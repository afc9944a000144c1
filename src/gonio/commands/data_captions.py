"""gonio data captions: new captions for a folder of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

from gonio.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DataCaptions:
    """Write the captions of a folder of clips anew; the manifest is replaced when all are done.

    Example: gonio data captions clips --captioner qwen2-vl --model Qwen2-VL-7B-Instruct
    """

    clips: Annotated[Positional[Path], arg(metavar="DIR")]
    """Folder written by gonio data videos."""
    captioner: Literal["template", "qwen2-vl"] = "template"
    """template: from what is known of the material. qwen2-vl: a vision-language model looks at the frames."""
    model: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Folder of a Qwen2-VL-Instruct model as published."""
    device: str = "cpu"
    """Where qwen2-vl runs: cpu or cuda."""
    captions: int = 4
    """Captions a clip of template, at most."""
    seed: int = 0
    """Wording of template."""
    exclude: Annotated[Path | None, arg(metavar="PROMPTS", help_behavior_hint="")] = None
    """File of prompts, one a line (or .jsonl), that no caption of template may equal."""

    resume: ClassVar[str] = "the old captions are still there; run the same command again"

    def run(self) -> None:
        from gonio.data.dataset import MANIFEST, rewrite_captions

        caption = self._by_model() if self.captioner == "qwen2-vl" else self._by_template()
        records = rewrite_captions(self.clips, caption)
        example = records[0]["captions"][0]
        print(f"{self.clips / MANIFEST}: captions of {len(records)} clips, such as {example!r}")

    def _by_template(self) -> Any:
        from gonio.data.clip_captions import check_count, read_prompts, template_captions

        count = check_count(self.captions)
        exclude = read_prompts(self.exclude) if self.exclude else []

        def caption(folder: Path, record: dict[str, Any]) -> Sequence[str]:
            key = f"{self.seed}-{record['id']}"
            return template_captions(record["attributes"], key, count=count, exclude=exclude)

        return caption

    def _by_model(self) -> Any:
        from gonio.color import srgb_from_linear
        from gonio.data.captions.vision import load_captioner
        from gonio.material_video import load_material_video

        if self.model is None:
            raise UsageError("--captioner qwen2-vl needs --model FOLDER of a Qwen2-VL-Instruct model")
        captioner = load_captioner(self.model, device=self.device)

        def caption(folder: Path, record: dict[str, Any]) -> Sequence[str]:
            frames = srgb_from_linear(load_material_video(folder).frames)
            return [captioner.caption(frames, record["id"])]

        return caption
