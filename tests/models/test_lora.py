"""LoRA: without effect at first, trainable alone, the same through every file format, and mergeable."""

import copy

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders import WanLoraLoaderMixin
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gonio.errors import GonioError, UsageError
from gonio.models.lora import (
    FORMATS,
    IMAGE_TARGETS,
    TARGETS,
    add_lora,
    convert_lora,
    load_lora,
    merge_lora,
    save_lora,
)

TWIN = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 10,
    "freq_dim": 16,
    "ffn_dim": 20,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}
LAYERS = 2 * 10  # blocks x (4 + 4 attention + 2 feed-forward)


def twin(seed: int = 0, **changes) -> WanTransformer3DModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return WanTransformer3DModel(**TWIN | changes).eval()


def image_twin() -> WanTransformer3DModel:
    return twin(image_dim=6, added_kv_proj_dim=24)


def trained(model, seed: int = 1, **settings):
    """The model with adapters that have an effect, as after training."""
    add_lora(model, **{"rank": 3, **settings})
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in adapters(model).values():
            for part in (layer.lora_A, layer.lora_B):
                weight = part["default"].weight
                weight.copy_(0.3 * torch.randn(weight.shape, generator=draw))
    return model


def adapters(model) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def output(model, dtype=torch.float32):
    draw = torch.Generator().manual_seed(9)
    latents = torch.randn(1, 4, 2, 4, 6, generator=draw).to(dtype)
    text = torch.randn(1, 512 if model.config.image_dim else 5, 10, generator=draw).to(dtype)
    image = torch.randn(1, 7, 6, generator=draw).to(dtype) if model.config.image_dim else None
    return model(latents, torch.tensor([700.0]), text, image, return_dict=False)[0]


def test_new_adapters_change_nothing_and_sit_on_attention_and_feed_forward():
    model = twin()
    before = output(model)
    add_lora(model, rank=4)
    assert torch.equal(output(model), before)
    assert len(adapters(model)) == LAYERS
    assert all(name.endswith(TARGETS) for name in adapters(model))
    assert {layer.r["default"] for layer in adapters(model).values()} == {4}


def test_image_attention_is_adapted_on_request():
    model = image_twin()
    add_lora(model, rank=2, image_attention=True)
    added = [name for name in adapters(model) if name.endswith(IMAGE_TARGETS)]
    assert len(added) == 4 and len(adapters(model)) == LAYERS + 4
    with pytest.raises(UsageError, match="takes no image"):
        add_lora(twin(), image_attention=True)


def test_adapters_receive_gradient_and_the_base_does_not():
    model = twin()
    add_lora(model, rank=2)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 2 * LAYERS and all(".lora_" in name for name in trainable)
    for _ in range(2):  # B starts at zero, so A has a gradient after the first step only
        output(model).square().mean().backward()
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    for name, parameter in model.named_parameters():
        if name in trainable:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


def test_adapters_of_a_bfloat16_model_are_float32():
    model = twin().to(torch.bfloat16)
    add_lora(model, rank=2)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if ".lora_" in name else torch.bfloat16), name
    result = output(model, torch.bfloat16)
    assert result.dtype == torch.bfloat16
    result.float().square().mean().backward()


@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
def test_a_merged_model_computes_what_the_adapters_did(strength):
    model = trained(twin(), alpha=6)
    for layer in adapters(model).values():
        layer.scale_layer(strength)
    expected = output(model)
    for layer in adapters(model).values():
        layer.unscale_layer()
    plain = output(twin())
    merge_lora(model, strength)
    assert not adapters(model) and set(model.state_dict()) == set(twin().state_dict())
    assert (output(model) - expected).abs().max() < 1e-5
    assert (expected - plain).abs().max() > 1e-2


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("alpha", [None, 12.0])
def test_every_format_gives_the_same_model_back(tmp_path, format, alpha):
    model = trained(image_twin(), alpha=alpha, image_attention=True)
    save_lora(tmp_path / "lora.safetensors", model, format=format, metadata={"prompt": "moss"})
    loaded = image_twin()
    assert load_lora(tmp_path / "lora.safetensors", loaded) == format
    torch.testing.assert_close(output(loaded), output(model), atol=1e-6, rtol=1e-6)
    with safe_open(tmp_path / "lora.safetensors", "pt") as file:
        about = file.metadata()
    kept = alpha is not None and FORMATS[format].stores_alpha
    expected = {"format": format, "rank": "3", "alpha": "12" if kept else "3", "prompt": "moss"}
    assert about == expected
    # Training goes on from there.
    assert {p.requires_grad for n, p in loaded.named_parameters() if ".lora_" in n} == {True}


@pytest.mark.parametrize(
    ("format", "keys"),
    [
        ("diffusers", ("transformer.blocks.0.attn1.to_q.lora_A.weight",)),
        ("diffusers", ("transformer.blocks.1.ffn.net.0.proj.lora_B.weight",)),
        ("diffsynth", ("blocks.0.self_attn.q.lora_A.default.weight",)),
        (
            "diffsynth",
            ("blocks.1.cross_attn.o.lora_B.default.weight", "blocks.1.ffn.2.lora_B.default.weight"),
        ),
        ("comfyui", ("diffusion_model.blocks.0.self_attn.q.lora_down.weight",)),
        (
            "comfyui",
            ("diffusion_model.blocks.0.ffn.0.lora_up.weight", "diffusion_model.blocks.0.ffn.0.alpha"),
        ),
        (
            "musubi",
            ("lora_unet_blocks_1_cross_attn_k_img.lora_down.weight", "lora_unet_blocks_1_ffn_2.alpha"),
        ),
    ],
)
def test_keys_are_spelled_as_the_other_program_does(tmp_path, format, keys):
    model = trained(image_twin(), image_attention=True)
    save_lora(tmp_path / "lora.safetensors", model, format=format)
    stored = load_file(tmp_path / "lora.safetensors")
    assert set(keys) <= set(stored)
    assert len(stored) == (LAYERS + 4) * (3 if FORMATS[format].stores_alpha else 2)


@pytest.mark.parametrize("format", ["comfyui", "musubi"])
def test_diffusers_reads_the_other_formats_as_we_do(tmp_path, format):
    """The library's own converter, given our file, must come to the weights of our diffusers file."""
    model = trained(image_twin(), alpha=12.0, image_attention=True)
    save_lora(tmp_path / "theirs.safetensors", model, format=format)
    save_lora(tmp_path / "ours.safetensors", model, format="diffusers")
    ours = load_file(tmp_path / "ours.safetensors")
    theirs = WanLoraLoaderMixin.lora_state_dict(load_file(tmp_path / "theirs.safetensors"))
    assert set(theirs) == set(ours)
    for stem in {key.split(".lora_")[0] for key in ours}:
        products = [
            tensors[f"{stem}.lora_B.weight"] @ tensors[f"{stem}.lora_A.weight"] for tensors in (theirs, ours)
        ]
        torch.testing.assert_close(*products)


def test_diffusers_itself_loads_our_file_with_the_same_effect(tmp_path):
    model = trained(twin(), alpha=12.0)
    save_lora(tmp_path / "lora.safetensors", model)
    other = twin()
    WanLoraLoaderMixin.load_lora_into_transformer(load_file(tmp_path / "lora.safetensors"), other)
    torch.testing.assert_close(output(other), output(model), atol=1e-6, rtol=1e-6)


def test_variants_that_other_programs_write_are_read(tmp_path):
    path = tmp_path / "lora.safetensors"
    model = trained(twin())
    expected = output(model)
    save_lora(path, model, format="diffsynth")
    stored = load_file(path)
    for rename in (
        lambda key: "pipe.dit." + key,
        lambda key: key.replace(".default", ""),
        lambda key: "diffusion_model." + key.replace(".default", ""),
    ):
        save_file({rename(key): value for key, value in stored.items()}, path)
        loaded = twin()
        load_lora(path, loaded)
        torch.testing.assert_close(output(loaded), expected, atol=1e-6, rtol=1e-6)


def test_a_file_may_adapt_some_layers_with_ranks_of_their_own(tmp_path):
    stored = {
        "diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 24),
        "diffusion_model.blocks.0.self_attn.q.lora_B.weight": torch.ones(24, 2).bfloat16(),
        "diffusion_model.blocks.1.ffn.0.lora_A.weight": torch.ones(5, 24),
        "diffusion_model.blocks.1.ffn.0.lora_B.weight": torch.ones(20, 5),
        "diffusion_model.blocks.1.ffn.0.alpha": torch.tensor(10.0),
        "diffusion_model.head.head.lora_A.weight": torch.ones(1, 24),
        "diffusion_model.head.head.lora_B.weight": torch.ones(16, 1),
    }
    save_file(stored, tmp_path / "lora.safetensors")
    model, plain = twin(), twin()
    load_lora(tmp_path / "lora.safetensors", model)
    merge_lora(model)
    gained = {
        name: (value - plain.get_parameter(name)).mean().item()
        for name, value in model.named_parameters()
        if not torch.equal(value, plain.get_parameter(name))
    }
    # B A = rank everywhere, times alpha / rank where the file says alpha
    assert gained == {
        "blocks.0.attn1.to_q.weight": pytest.approx(2, abs=1e-5),
        "blocks.1.ffn.net.0.proj.weight": pytest.approx(10, abs=1e-5),
        "proj_out.weight": pytest.approx(1, abs=1e-5),
    }


def test_alpha_in_the_metadata_of_diffusers_counts(tmp_path):
    path = tmp_path / "lora.safetensors"
    model = trained(twin())
    save_lora(path, model)
    config = '{"transformer.r": 3, "transformer.lora_alpha": 6, "transformer.use_dora": false}'
    save_file(load_file(path), path, metadata={"lora_adapter_metadata": config})
    loaded = twin()
    load_lora(path, loaded)
    for layer in adapters(model).values():
        layer.scale_layer(2.0)
    torch.testing.assert_close(output(loaded), output(model), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.update({"transformer.blocks.7.attn1.to_q.lora_A.weight": torch.ones(3, 24)}),
            "1 of 41 keys",
        ),
        (
            lambda t: t.update({"transformer.blocks.0.attn1.to_q.lora_B.bias": torch.ones(24)}),
            "to_q.lora_B.bias",
        ),
        (lambda t: t.pop("transformer.blocks.0.attn1.to_q.lora_B.weight"), "1 layers have one of A and B"),
        (
            lambda t: t.update({"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(3, 23)}),
            "does not fit",
        ),
        (
            lambda t: t.update({"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 24)}),
            "does not fit",
        ),
        (
            lambda t: t["transformer.blocks.1.attn2.to_v.lora_B.weight"].fill_(torch.nan),
            "blocks.1.attn2.to_v is not finite",
        ),
        (lambda t: t.clear(), "0 of 0 keys"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_leaves_the_model_as_it_was(tmp_path, change, message):
    path = tmp_path / "lora.safetensors"
    save_lora(path, trained(twin()))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    model = twin()
    with pytest.raises(GonioError, match=message) as caught:
        load_lora(path, model)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not adapters(model) and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [('{"transformer.use_dora": true}', "use_dora is not supported"), ("[", "damaged"), ("[1]", "damaged")],
)
def test_metadata_that_cannot_be_honoured_is_refused(tmp_path, metadata, message):
    path = tmp_path / "lora.safetensors"
    save_lora(path, trained(twin()))
    save_file(load_file(path), path, metadata={"lora_adapter_metadata": metadata})
    with pytest.raises(GonioError, match=message):
        load_lora(path, twin())


def test_files_that_are_none_are_refused(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors here")
    for path in (broken, tmp_path / "absent.safetensors"):
        with pytest.raises(GonioError, match=path.name):
            load_lora(path, twin())


def test_what_makes_no_sense_is_refused(tmp_path):
    path = tmp_path / "lora.safetensors"
    for settings in ({"rank": 0}, {"alpha": 0.0}, {"alpha": float("inf")}):
        with pytest.raises(UsageError, match="LoRA"):
            add_lora(twin(), **settings)
    with pytest.raises(UsageError, match="no LoRA to save"):
        save_lora(path, twin())
    with pytest.raises(UsageError, match="no LoRA to merge"):
        merge_lora(twin())
    model = trained(twin())
    with pytest.raises(UsageError, match="no LoRA format 'kohya'"):
        save_lora(path, model, format="kohya")
    with pytest.raises(UsageError, match="has a LoRA already"):
        add_lora(model)
    spoiled = copy.deepcopy(model)
    next(iter(adapters(spoiled).values())).lora_A["default"].weight.data.fill_(torch.nan)
    with pytest.raises(GonioError, match="not finite"):
        save_lora(path, spoiled)
    assert not path.exists()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
def test_a_file_rewritten_in_another_format_is_the_same_lora(tmp_path, format, other):
    model = trained(twin(), alpha=1.5)
    save_lora(tmp_path / "a.safetensors", model, format=format)
    with torch.device("meta"):
        names = twin()
    assert convert_lora(tmp_path / "a.safetensors", tmp_path / "b.safetensors", names, format=other) == format
    loaded = twin()
    assert load_lora(tmp_path / "b.safetensors", loaded) == other
    torch.testing.assert_close(output(loaded), output(model))


def test_a_lora_of_another_model_is_not_rewritten(tmp_path):
    save_lora(tmp_path / "a.safetensors", trained(twin()))
    with pytest.raises(GonioError, match="does not fit"):
        convert_lora(
            tmp_path / "a.safetensors", tmp_path / "b.safetensors", twin(ffn_dim=16), format="musubi"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
