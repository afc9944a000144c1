"""Captions by Qwen2-VL, with the two strategies of VideoNeuMat (section 3.2) against words about the light.

"free": the model describes the video, then sentences with lighting words are removed. "material": the model
is told to speak of the material alone. Materials get one or the other by a hash of their name, half and half.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gonio.errors import GonioError
from gonio.models.pretrained import complete_model, load_pretrained

STRATEGIES = ("free", "material")
INSTRUCTIONS = {
    "free": "Describe what this video shows in one short paragraph.",
    "material": (
        "Describe only the material in this video in one short paragraph: what it is, its colours, pattern, "
        "relief, wear, and how rough, shiny or metallic it is by nature. Ignore the lighting, the "
        "shadows, the highlights, the camera and the background, and do not mention them."
    ),
}
MAX_FRAMES = 16
_LIGHTING = re.compile(
    r"\b(light(s|ing|ed)?|lit|illuminat\w+|shadow(s|ed|y)?|shading|glare|sunlight|daylight|spotlights?|lamps?)\b",
    re.IGNORECASE,
)
# "light" before a colour is a shade, not a lamp.
_SHADE = re.compile(
    r"\blight[- ](?=(colou?red|red|orange|yellow|green|teal|blue|purple|violet|pink|brown|tan|beige|gr[ae]y|"
    r"gr[ae]yish|brownish|reddish|yellowish|bluish|greenish|cream|gold|golden|wood|shade|tone|hue)s?\b)",
    re.IGNORECASE,
)


def strategy_of(name: str) -> str:
    """The caption strategy of a material, by a hash of its name: each for half of all names."""
    return STRATEGIES[hashlib.sha256(name.encode()).digest()[0] % 2]


def without_lighting(text: str) -> str:
    """The whole sentences of a description that say nothing of the light; "" if none is left.

    A last sentence without an end was cut off by the token limit and goes too.
    """
    sentences = re.findall(r"[^.!?]+(?:\.(?=\d)[^.!?]*)*[.!?]+", " ".join(text.split()))
    kept = [s.strip() for s in sentences if not _LIGHTING.search(_SHADE.sub("pale ", s))]
    return " ".join(kept)


class VideoCaptioner:
    """A Qwen2-VL chat model that describes frames; greedy, so the same frames give the same words."""

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any, *, max_tokens: int = 160) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.max_tokens = max_tokens

    def caption(self, frames: Tensor, name: str) -> str:
        """A caption of the video of the material `name`; frames [F, H, W, 3] display-encoded in [0, 1].

        When the free description speaks of nothing but light, the material is asked for.
        Raises GonioError when the model has nothing to say.
        """
        if strategy_of(name) == "free":
            text = without_lighting(self.answer(frames, INSTRUCTIONS["free"]))
            if text:
                return text
        text = without_lighting(self.answer(frames, INSTRUCTIONS["material"]))
        if not text:
            raise GonioError(f"{name}: the captioner said nothing usable; caption it with templates")
        return text

    @torch.inference_mode()
    def answer(self, frames: Tensor, instruction: str) -> str:
        """The model's answer to an instruction about frames [F, H, W, 3], display-encoded in [0, 1].

        Frames are given as pictures in their order, evenly chosen when there are more than MAX_FRAMES.
        """
        chosen = torch.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().long()
        pictures = [(frames[i].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy() for i in chosen]
        pixels = self.image_processor(images=pictures, return_tensors="pt")
        grid = pixels["image_grid_thw"]  # [F, 3] patches of 14x14 pixels
        merged = self.image_processor.merge_size**2
        vision = "".join(
            f"<|vision_start|>{'<|image_pad|>' * (int(g.prod()) // merged)}<|vision_end|>" for g in grid
        )
        prompt = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{vision}{instruction}<|im_end|>\n<|im_start|>assistant\n"
        )
        inputs = self.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        device = self.model.device
        ids = inputs["input_ids"].to(device)
        generated = self.model.generate(
            input_ids=ids,
            attention_mask=inputs["attention_mask"].to(device),
            pixel_values=pixels["pixel_values"].to(device, self.model.dtype),
            image_grid_thw=grid.to(device),
            mm_token_type_ids=(ids == self.model.config.image_token_id).long(),
            do_sample=False,
            max_new_tokens=self.max_tokens,
        )
        return str(self.tokenizer.decode(generated[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def load_captioner(
    folder: str | os.PathLike[str], *, dtype: str = "bf16", device: str | torch.device = "cpu"
) -> VideoCaptioner:
    """Qwen2-VL-Instruct (any size) from a local folder as published. Raises GonioError."""
    if not (Path(folder) / "config.json").is_file():
        raise GonioError(f"{folder}: no config.json; give the folder of a Qwen2-VL-Instruct model")
    from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    def load() -> VideoCaptioner:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        images = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        model = complete_model(Qwen2VLForConditionalGeneration, folder, dtype=dtype)
        return VideoCaptioner(model.to(device), tokenizer, images)

    return load_pretrained(folder, "Qwen2-VL captioner", load)
