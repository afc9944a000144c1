"""gonio convert of a LoRA."""

import pytest
import torch
from safetensors import safe_open

from gonio.commands.convert import Convert
from gonio.errors import UsageError
from gonio.models.load import load_transformer
from gonio.models.lora import add_lora, save_lora
from gonio.models.spec import find_spec


def test_a_lora_is_rewritten_without_the_models_weights(tmp_path):
    network = load_transformer(find_spec("mini-t2v"))
    add_lora(network, rank=2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    save_lora(tmp_path / "a.safetensors", network)
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
