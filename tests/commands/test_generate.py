"""gonio generate as a person calls it, with the bundled model and few steps."""

import json
from pathlib import Path

import pytest
import torch
from tiny_models import write_lora

from gonio import media
from gonio.commands.generate import Generate
from gonio.errors import GonioError, UsageError
from gonio.generate.pipeline import load_generator, member
from gonio.material_video import load_material_video
from gonio.models.weight_files import save_model

FAST = {"resolution": 32, "steps": 2, "video_only": True}


def frames(folder: Path) -> torch.Tensor:
    return load_material_video(folder).frames


def test_every_prompt_of_a_file_gets_a_folder_for_each_seed(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": p, "colour": None}) + "\n" for p in ("moss", "rust")))
    Generate(prompts=file, out=tmp_path / "made", count=2, seed=3, **FAST).run()
    found = sorted(path.name for path in (tmp_path / "made").iterdir() if path.is_dir())
    assert found == [f"prompt_{p:03d}_seed_{s:04d}" for p in (0, 1) for s in (3, 4)]
    assert load_material_video(tmp_path / "made" / found[2]).provenance["prompt"] == "rust"
    Generate(prompt="rust", out=tmp_path / "alone", seed=3, **FAST).run()
    assert torch.equal(frames(tmp_path / "alone"), frames(tmp_path / "made" / found[2]))


def test_several_videos_are_shown_in_one_picture_and_one_is_not(tmp_path):
    Generate(prompt="moss", out=tmp_path / "three", count=3, **FAST).run()
    height, width = media.read_color(tmp_path / "three" / "contact_sheet.png").shape[:2]
    assert width > 3 * 128 and height < 2 * 128
    Generate(prompt="moss", out=tmp_path / "one", **FAST).run()
    assert not (tmp_path / "one" / "contact_sheet.png").exists()


@pytest.mark.parametrize(
    ("content", "prompt", "message"),
    [
        ("\n", "", "holds no prompt"),
        ('{"prompt": "moss"}\n', "moss", "give one of them"),
        ('{"colour": "red"}\n', "", 'an object with a "prompt"'),
        ('{"prompt": "moss"}\n{"prompt": ""}\n', "", "prompt 2: an empty prompt"),
    ],
)
def test_a_file_that_holds_no_prompts_is_refused_before_anything_is_made(tmp_path, content, prompt, message):
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    with pytest.raises((UsageError, GonioError), match=message):
        Generate(prompt=prompt, prompts=file, out=tmp_path / "made", **FAST).run()
    assert not (tmp_path / "made").exists()


def test_a_finetuned_transformer_takes_the_rest_from_the_model(tmp_path):
    network = load_generator(member("mini", "text")).transformer
    with torch.no_grad():
        network.proj_out.bias += 0.3
    save_model(tmp_path / "tuned" / "transformer", network)
    out = tmp_path / "made"
    Generate(prompt="moss", out=out, **FAST).run()
    before = frames(out)
    Generate(prompt="moss", out=out, transformer=tmp_path / "tuned" / "transformer", **FAST).run()
    assert not torch.equal(frames(out), before)
    tuned = frames(out)
    Generate(prompt="moss", out=tmp_path / "again", weights=tmp_path / "tuned", **FAST).run()
    assert torch.equal(frames(tmp_path / "again"), tuned)


def test_what_other_weights_or_another_photo_made_is_made_again(tmp_path):
    write_lora(tmp_path / "lora.safetensors", 0.02)
    lora = {"lora": tmp_path / "lora.safetensors"}
    Generate(prompt="moss", out=tmp_path / "made", lora_strength=0.5, **lora, **FAST).run()
    weak = frames(tmp_path / "made")
    Generate(prompt="moss", out=tmp_path / "made", lora_strength=1.0, **lora, **FAST).run()
    assert not torch.equal(frames(tmp_path / "made"), weak)

    photo = tmp_path / "photo.png"
    media.write_image(photo, torch.full((32, 32, 3), 0.2))
    Generate(image=photo, out=tmp_path / "shown", **FAST).run()
    dark = frames(tmp_path / "shown")
    media.write_image(photo, torch.full((32, 32, 3), 0.8))
    Generate(image=photo, out=tmp_path / "shown", **FAST).run()
    assert not torch.equal(frames(tmp_path / "shown"), dark)
