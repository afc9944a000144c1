"""gonio convert of a LoRA."""

import pytest
from safetensors import safe_open
from tiny_models import write_lora

from gonio.commands.convert import Convert
from gonio.errors import UsageError


def test_a_lora_is_rewritten_without_the_models_weights(tmp_path):
    write_lora(tmp_path / "a.safetensors", 0.1, rank=2)
    to = tmp_path / "new" / "b.safetensors"
    Convert(checkpoint=tmp_path / "a.safetensors", to=to, lora_format="comfyui", model="mini-t2v").run()
    with safe_open(to, "pt") as file:
        assert "diffusion_model.blocks.0.self_attn.q.lora_down.weight" in file.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"model": None}, "say with --model"), ({"to": "folder"}, "name it .safetensors")],
)
def test_a_rewriting_that_lacks_something_is_refused(tmp_path, changes, message):
    given = {"to": "b.safetensors", "model": "mini-t2v", **changes}
    given["to"] = tmp_path / given["to"]
    with pytest.raises(UsageError, match=message):
        Convert(checkpoint=tmp_path / "a.safetensors", lora_format="musubi", **given).run()
    assert not list(tmp_path.iterdir())
