"""Loading: strict about names, shapes and configuration; random weights as Wan starts; shards on disk."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from gonio.errors import GonioError, UsageError
from gonio.models import load, weight_files
from gonio.models.autoencoder import decode, encode
from gonio.models.condition import condition
from gonio.models.memory import MEMORY_FILE, Memory, save_memory
from gonio.models.placement import Placement, place
from gonio.models.single_frame import fold
from gonio.models.spec import SPECS, VideoModelSpec
from gonio.models.weight_files import STEM, open_weights, save_model, save_sharded

SPEC = VideoModelSpec(
    name="twin",
    task="text",
    transformer={
        **{"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 2},
        **{"text_dim": 20, "freq_dim": 16, "rope_max_seq_len": 32},
    },
    autoencoder={"base_dim": 4, "num_res_blocks": 1},
    text_encoder="minilm",
    text_tokens=8,
    frames=17,
    resolution=64,
)


@pytest.fixture
def folder(tmp_path):
    """A model of random weights on disk in fp32, transformer in several shards, autoencoder in one."""
    transformer = load.random_transformer(SPEC, seed=1)
    torch.nn.init.normal_(transformer.proj_out.weight)
    save_model(tmp_path / "m" / "transformer", transformer, dtype=torch.float32, max_bytes=36_000)
    save_model(tmp_path / "m" / "vae", load.random_autoencoder(SPEC, seed=2), dtype=torch.float32)
    return tmp_path / "m"


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def velocity(model, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 2, 4, 4, generator=generator).to(dtype)
    text = torch.randn(1, 8, 20, generator=generator).to(dtype)
    with torch.no_grad():
        return model(latents, torch.tensor([500.0]), text, return_dict=False)[0].float()


def test_what_was_saved_is_loaded(folder):
    shards = sorted((folder / "transformer").glob("*.safetensors"))
    assert len(shards) > 2 and all(shard.stat().st_size <= 36_000 for shard in shards)
    saved = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    model = load.load_transformer(SPEC, folder)
    assert not model.training
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in saved.items()}
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.state_dict().items())
    assert velocity(model).abs().max() > 0.1
    decoded = load.load_autoencoder(SPEC, folder / "vae").decode(torch.zeros(1, 16, 2, 2, 2)).sample
    assert decoded.shape == (1, 3, 5, 16, 16)


def test_bf16_keeps_tables_norms_and_time_in_fp32(folder):
    model = load.load_transformer(SPEC, folder, dtype=torch.bfloat16)
    types = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert types["blocks.0.attn1.to_q.weight"] == types["proj_out.weight"] == torch.bfloat16
    for kept in (
        "scale_shift_table",
        "blocks.1.scale_shift_table",
        "blocks.0.norm2.weight",
        "condition_embedder.time_embedder.linear_1.weight",
    ):
        assert types[kept] == torch.float32, kept
    exact = velocity(load.load_transformer(SPEC, folder))
    error = (velocity(model, torch.bfloat16) - exact).norm() / exact.norm()
    assert 1e-5 < error < 0.03


def test_fp16_files_are_loaded_in_fp32(tmp_path):
    transformer = load.random_transformer(SPEC, seed=1)
    save_model(tmp_path / "transformer", transformer)
    (file,) = (tmp_path / "transformer").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
    model = load.load_transformer(SPEC, tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    name = "blocks.0.ffn.net.2.weight"
    assert torch.equal(model.state_dict()[name], transformer.state_dict()[name].half().float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("proj_out.bias"), "1 missing: proj_out.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unknown: extra"),
        (
            lambda t: t.update({"proj_out.bias": torch.zeros(3)}),
            r"1 of another shape: proj_out.bias \[3\] instead of \[64\]",
        ),
        (
            lambda t: [t.pop(k) for k in list(t) if k.startswith("blocks.1.attn1")],
            r"10 missing: blocks.1.attn1.\S+, \S+, \S+, \.\.\.",
        ),
    ],
)
def test_every_tensor_must_be_there_with_its_shape(tmp_path, change, message):
    save_model(tmp_path / "transformer", load.random_transformer(SPEC, seed=1))
    (file,) = (tmp_path / "transformer").glob("*.safetensors")
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    with pytest.raises(GonioError, match=message):
        load.load_transformer(SPEC, tmp_path)


def test_the_released_image_models_unused_norm_is_skipped(tmp_path):
    save_model(tmp_path / "transformer", load.random_transformer(SPEC, seed=1))
    (file,) = (tmp_path / "transformer").glob("*.safetensors")
    save_file({**load_file(file), "blocks.0.attn2.norm_added_q.weight": torch.ones(24)}, file)
    load.load_transformer(SPEC, tmp_path)


def test_a_configuration_that_differs_from_the_spec_is_told_by_its_field(folder):
    other = replace(SPEC, transformer={**SPEC.transformer, "eps": 1e-5})
    with pytest.raises(
        GonioError, match="transformer/config.json: eps is 1e-06, the model's spec says 1e-05"
    ):
        load.load_transformer(other, folder)
    edited(folder / "vae" / "config.json", latents_std=[2.0] * 16)
    with pytest.raises(GonioError, match="latents_std is"):
        load.load_autoencoder(SPEC, folder)


def test_statistics_the_spec_leaves_open_come_with_the_weights(folder):
    open_spec = replace(SPEC, autoencoder={**SPEC.autoencoder, "latents_mean": None, "latents_std": None})
    edited(folder / "vae" / "config.json", latents_std=[2.0] * 16)
    assert load.load_autoencoder(open_spec, folder).config.latents_std == [2.0] * 16
    edited(folder / "vae" / "config.json", latents_std=[2.0] * 3)
    with pytest.raises(GonioError, match="latents_std needs 16 numbers"):
        load.load_autoencoder(open_spec, folder)


def test_broken_folders_are_told_in_one_line(folder, tmp_path):
    transformer = folder / "transformer"
    with pytest.raises(GonioError, match="has no transformer/config.json; name a folder in diffusers layout"):
        load.load_transformer(SPEC, tmp_path)
    edited(transformer / "config.json", _class_name="UNet2DModel")
    with pytest.raises(GonioError, match="describes a UNet2DModel, expected a WanTransformer3DModel"):
        load.load_transformer(SPEC, folder)
    edited(transformer / "config.json", _class_name="WanTransformer3DModel")
    index = transformer / f"{STEM}.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    edited(index, weight_map={**places, "proj_out.bias": "../secret.safetensors"})
    with pytest.raises(GonioError, match="'../secret.safetensors' is not the name of a .safetensors file"):
        load.load_transformer(SPEC, folder)
    edited(index, weight_map={**places, "proj_out.gone": places["proj_out.bias"]})
    with pytest.raises(GonioError, match="lists proj_out.gone, which its file does not hold"):
        load.load_transformer(SPEC, folder)
    edited(index, weight_map=places)
    (transformer / places["proj_out.bias"]).write_bytes(b"\xff" * 100)
    with pytest.raises(GonioError, match="not a readable safetensors file"):
        load.load_transformer(SPEC, folder)
    (transformer / places["proj_out.bias"]).unlink()
    with pytest.raises(GonioError, match="cannot be read"):
        load.load_transformer(SPEC, folder)


def test_weights_that_are_nowhere_are_told_where_to_get(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(GonioError, match="Wan2.1-T2V-14B-Diffusers is not on this machine; .*hf download"):
        load.load_transformer(SPECS["wan2.1-t2v-14b"])
    with pytest.raises(GonioError, match="model twin names no weights of its own"):
        load.load_transformer(SPEC)
    with pytest.raises(GonioError, match="install Gonio again"):
        load.load_transformer(replace(SPEC, bundled_transformer="nowhere/transformer"))


def test_a_new_transformer_predicts_zero_and_is_its_seeds():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    model = load.random_transformer(SPEC, seed=3)
    assert torch.equal(torch.rand(1), expected)
    again = load.random_transformer(SPEC, seed=3)
    assert torch.equal(velocity(model), torch.zeros(1, 16, 2, 4, 4))
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in again.state_dict().items())
    other = load.random_transformer(SPEC, seed=4).state_dict()
    name = "blocks.0.attn1.to_q.weight"
    assert not torch.equal(state[name], other[name])
    bound = (6 / (24 + 24)) ** 0.5  # Glorot and Bengio 2010
    assert 0.9 * bound < state[name].abs().max() <= bound
    for part in ("text_embedder.linear_1", "time_embedder.linear_2"):
        assert state[f"condition_embedder.{part}.weight"].std() == pytest.approx(0.02, rel=0.15)


def test_saving_replaces_the_whole_folder_or_nothing(folder):
    transformer = folder / "transformer"
    before = sorted(path.name for path in transformer.iterdir())
    with pytest.raises(GonioError, match="b holds NaN, infinity or a value too large for torch.float16"):
        save_sharded(transformer, {"a": torch.ones(2), "b": torch.tensor([1e5])}, {})
    with pytest.raises(GonioError, match="a takes .* allow larger files"):
        save_sharded(transformer, {"a": torch.ones(100_000)}, {}, max_bytes=100_000)
    assert sorted(path.name for path in transformer.iterdir()) == before
    save_sharded(transformer, {"a": torch.ones(2)}, {"_class_name": "X"})
    assert sorted(p.name for p in transformer.iterdir()) == ["config.json", f"{STEM}.safetensors"]
    assert sorted(p.name for p in folder.iterdir()) == ["transformer", "vae"]
    (transformer / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds thesis.tex"):
        save_sharded(transformer, {"a": torch.ones(2)}, {})
    assert (transformer / "thesis.tex").is_file()


def test_a_large_network_is_saved_in_large_files(tmp_path, monkeypatch):
    """A tensor of Wan 14B's feed-forward layers alone is larger than a small network's files."""
    monkeypatch.setattr(weight_files, "SMALL_SHARD_BYTES", 4000)
    tensors = {name: torch.rand(1000) for name in "abcd"}
    with pytest.raises(GonioError, match="allow larger files"):
        save_sharded(tmp_path / "small", {"a": torch.rand(2000)}, {}, dtype=None)
    save_sharded(tmp_path / "halves", tensors, {})
    assert len(list((tmp_path / "halves").glob("*.safetensors"))) == 4
    monkeypatch.setattr(weight_files, "SMALL_NETWORK_BYTES", 7000)
    save_sharded(tmp_path / "large", tensors, {})
    assert len(list((tmp_path / "large").glob("*.safetensors"))) == 1


def test_quantised_and_foreign_files_are_refused(tmp_path):
    save_file({"a": torch.zeros(2, dtype=torch.int8)}, tmp_path / "a.safetensors")
    with pytest.raises(GonioError, match="a is I8, quantised"):
        open_weights(tmp_path)
    with pytest.raises(GonioError, match="not a .safetensors file"):
        open_weights(tmp_path / "model.gguf")
    save_file({"a": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match="holds 2 files"):
        open_weights(tmp_path)


def test_fp8_storage_computes_close_to_bf16(folder):
    model = load.load_transformer(SPEC, folder, dtype=torch.bfloat16)
    exact = velocity(model, torch.bfloat16)
    place(model, load.load_autoencoder(SPEC, folder), Placement(fp8=True, tiling=True, slicing=True))
    assert model.blocks[0].attn1.to_q.weight.dtype == torch.float8_e4m3fn
    error = (velocity(model, torch.bfloat16) - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.1


def test_placements_a_machine_cannot_have_are_refused():
    with pytest.raises(UsageError, match="offload 'model' moves weights to an accelerator"):
        Placement(offload="model")
    with pytest.raises(UsageError, match="choose one of none, model, group"):
        Placement(offload="disk")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA device"):
            Placement(device="cuda", offload="group")


@torch.no_grad()
def test_an_autoencoder_of_stacked_frames_may_be_stored_with_its_last_taps_alone(tmp_path):
    spec = replace(SPECS["mini-t2v"], bundled_autoencoder=None)
    whole = load.random_autoencoder(spec, 0)
    frames = torch.rand(1, 17, 16, 16, 3)
    latents = encode(whole, frames)
    shown = decode(whole, latents)
    fold(whole)
    save_model(tmp_path / "vae", whole, dtype=torch.float32)
    assert sum(f.stat().st_size for f in tmp_path.rglob("*.safetensors")) < 20e6
    loaded = load.load_autoencoder(spec, tmp_path)
    assert loaded.decoder.conv_in.weight.shape[2] == 3
    assert torch.equal(encode(loaded, frames), latents) and torch.equal(decode(loaded, latents), shown)


def test_folded_weights_of_another_network_are_refused(tmp_path):
    spec = replace(SPECS["mini-t2v"], bundled_autoencoder=None)
    narrow = load.random_autoencoder(replace(spec, autoencoder={**spec.autoencoder, "base_dim": 64}), 0)
    fold(narrow)
    save_model(tmp_path / "vae", narrow)
    (tmp_path / "vae" / "config.json").write_text(
        json.dumps(
            {"_class_name": "AutoencoderKLWan", **spec.autoencoder, "latents_mean": [0.0] * 60}
            | {"latents_std": [1.0] * 60}
        )
    )
    with pytest.raises(GonioError, match="do not fit.*of another shape"):
        load.load_autoencoder(spec, tmp_path)


@torch.no_grad()
def test_a_text_model_is_read_from_an_image_model_as_it_is_without_a_photo(tmp_path):
    text, image = SPECS["mini-t2v"], SPECS["mini-i2v"]
    whole = load.random_transformer(image, 0)
    whole.proj_out.weight.normal_()
    save_model(tmp_path / "transformer", whole)
    whole = load.load_transformer(image, tmp_path)
    cut = load.load_transformer(text, tmp_path)
    assert cut.config.in_channels == text.transformer["in_channels"]
    x = torch.randn(1, 96, 1, 4, 4)
    rest = {"timestep": torch.tensor([500.0]), "encoder_hidden_states": torch.randn(1, 64, 384)}
    none = condition(image, x, torch.randn_like(x), torch.tensor([False]))
    with_photo = condition(image, x, torch.randn_like(x))
    expected = whole(hidden_states=torch.cat([x, none], 1), **rest).sample
    found = cut(hidden_states=torch.cat([x, condition(text, x)], 1), **rest).sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    other = whole(hidden_states=torch.cat([x, with_photo], 1), **rest).sample
    assert float((other - expected).abs().max()) > 1e-3


def test_a_memory_stands_beside_the_folder_of_its_transformer(tmp_path):
    """By whichever of the two folders it is asked for; weights without one were trained without."""
    spec = SPECS["mini-t2v"]
    save_model(tmp_path / "transformer", load.random_transformer(spec, 0))
    assert load.load_memory_of(spec, tmp_path) is None
    memory = Memory(
        names=("a",), values=torch.ones(1, 48, 4, 4), weight=torch.zeros(1, 384), bias=torch.zeros(1)
    )
    save_memory(tmp_path / MEMORY_FILE, memory, {})
    for folder in (tmp_path, tmp_path / "transformer"):
        assert torch.equal(load.load_memory_of(spec, folder).values, memory.values)


def test_the_bundled_memory_must_be_there_and_other_models_have_none(tmp_path, monkeypatch):
    spec = SPECS["mini-t2v"]
    bundled = load.load_memory_of(spec)
    assert bundled.values.shape[1:] == (spec.memory, 16, 16) and len(bundled.names) > 100
    assert load.load_memory_of(SPECS["wan2.1-t2v-1.3b"]) is None
    monkeypatch.setattr(load, "MEMORY_FILE", "lost.safetensors")
    with pytest.raises(GonioError, match="lost.safetensors.*install gonio again"):
        load.load_memory_of(spec)
