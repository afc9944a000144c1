"""Generation as a person runs it: an expanded prompt, a progress bar, and nothing made twice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gonio.generate.expand import choose_expander
from gonio.generate.pipeline import Generator, SamplingSettings, save_video
from gonio.material_video import MANIFEST, MaterialVideo, load_material_video
from gonio.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping


def video_shown(
    generator: Generator,
    prompt: str,
    settings: SamplingSettings,
    folder: Path,
    *,
    photo: Tensor | None = None,
    expand: str | None = None,
    expand_model: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> MaterialVideo:
    """The video of a prompt or photo in `folder`: what is there if the same settings made it, else a new one.

    expand: the backend that expands the prompt, the model's own if None. facts: what else the video depends
    on (photo, LoRA), kept with the settings in its provenance.
    """
    expand = expand or generator.spec.expand
    recipe = {**vars(settings), "model": generator.spec.name, "prompt": prompt, "expand": expand}
    recipe |= facts or {}
    if (folder / MANIFEST).exists():
        known = load_material_video(folder)
        if known.provenance.get("recipe") == recipe:
            return known
    asked = prompt
    if prompt:
        asked = choose_expander(expand, model=expand_model).expand(prompt, photo, settings.seed).text
    steps = settings.steps or generator.spec.steps
    with progress(f"Sampling, seed {settings.seed}", steps) as step:
        video = generator.video(asked, settings, photo=photo, on_step=lambda *_: step())
    video.provenance.update(recipe=recipe, expanded=asked)
    if prompt:
        video.provenance["prompt"] = prompt
    save_video(folder, video)
    return load_material_video(folder)
