"""Conversion: released names in, the diffusers classes out, the original code's numbers reproduced."""

import hashlib
import io
import json
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from gonio.commands.convert import Convert
from gonio.errors import GonioError, UsageError
from gonio.models import convert as conversion
from gonio.models import flow, wan_keys
from gonio.models.convert import convert
from gonio.models.load import load_autoencoder, load_transformer, random_autoencoder, random_transformer
from gonio.models.spec import VideoModelSpec
from gonio.models.weight_files import STEM

TEXT_TOKENS = 512  # the original pads with zeros and attends without a mask
SPEC = VideoModelSpec(
    name="twin",
    task="text",
    transformer={
        **{"num_attention_heads": 2, "attention_head_dim": 12, "ffn_dim": 32, "num_layers": 2},
        **{"text_dim": 20, "freq_dim": 16},
    },
    autoencoder={"base_dim": 4, "num_res_blocks": 1},
    text_encoder="minilm",
    text_tokens=8,
)


def original_transformer() -> dict[str, torch.Tensor]:
    back = wan_keys.inverted(wan_keys.transformer_names(SPEC.transformer))
    state = random_transformer(SPEC, seed=1).state_dict()
    return {wan_keys.renamed(name, back): tensor.clone() for name, tensor in state.items()}


def original_autoencoder() -> dict[str, torch.Tensor]:
    back = wan_keys.inverted(wan_keys.autoencoder_names(SPEC.autoencoder))
    state = random_autoencoder(SPEC, seed=1).state_dict()
    return {wan_keys.renamed(name, back): tensor.clone() for name, tensor in state.items()}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "wan.safetensors"
    save_file(original_transformer(), path)
    return path


# --- the original code's numbers -----------------------------------------------------------------


class Golden:
    """A fixture of the original code: its weights converted and loaded, its inputs and outputs."""

    def __init__(self, root, name, to):
        folder = root / "golden" / name
        self.meta = json.loads((folder / "meta.json").read_text())
        self.inputs = load_file(folder / "inputs.safetensors")
        self.outputs = load_file(folder / "outputs.safetensors")
        config = self.meta["config"]
        heads = config.get("num_heads")
        done = convert(folder / "weights.pt", to, head_dim=heads and config["dim"] // heads)
        vae = done.kind == "wan-vae"
        image = config.get("model_type") == "i2v"
        self.spec = VideoModelSpec(
            name=name,
            task="image" if image else "text",
            transformer={"text_dim": 20} if vae else done.config,
            autoencoder={"base_dim": config["dim"]} if vae else {},
            text_encoder="umt5-xxl",
            text_tokens=TEXT_TOKENS,
            image_encoder="clip-vit-h" if image else None,
        )
        self.model = load_autoencoder(self.spec, to) if vae else load_transformer(self.spec, to)

    def predict(self, latents, timestep, context, image=None):
        padded = torch.zeros(len(context), TEXT_TOKENS, context[0].shape[-1])
        for row, tokens in zip(padded, context, strict=True):
            row[: len(tokens)] = tokens
        with torch.no_grad():
            return self.model(latents, timestep, padded, image, return_dict=False)[0]


@pytest.fixture(scope="module")
def golden(data_root, tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = Golden(data_root, name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def text_cases():
    return "t0 t1 t2 t3 t4 tint shape2 image padded fulltext onetoken".split()


@pytest.mark.parametrize("case", text_cases())
def test_text_transformer_gives_the_originals_numbers(golden, case):
    wan = golden("wan_t2v")
    x, t, context = (wan.inputs[f"{case}.{part}"] for part in ("x", "t", "context"))
    velocity = wan.predict(x[None], t, [context])
    torch.testing.assert_close(velocity[0], wan.outputs[f"{case}.out"], **tolerance(wan, "net"))


def test_text_transformer_in_a_batch_gives_the_originals_numbers(golden):
    wan = golden("wan_t2v")
    context = [wan.inputs["batch.context0"], wan.inputs["batch.context1"]]
    velocity = wan.predict(wan.inputs["batch.x"], wan.inputs["batch.t"], context)
    torch.testing.assert_close(velocity, wan.outputs["batch.out"], **tolerance(wan, "net"))


@pytest.mark.parametrize("case", ["t0", "t1", "t2", "t3"])
def test_image_transformer_gives_the_originals_numbers(golden, case):
    wan = golden("wan_i2v")
    x, y, t, context, clip = (wan.inputs[f"{case}.{part}"] for part in ("x", "y", "t", "context", "clip_fea"))
    velocity = wan.predict(torch.cat([x, y])[None], t, [context], clip)
    torch.testing.assert_close(velocity[0], wan.outputs[f"{case}.out"], **tolerance(wan, "net"))


@pytest.mark.parametrize("name", ["wan_t2v/sampler_unipc", "wan_t2v/sampler_dpmpp", "wan_i2v/sampler_unipc"])
def test_the_sampler_ends_where_the_original_ends(golden, name):
    fixture, case = name.split("/")
    wan = golden(fixture)
    settings = next(row for row in wan.meta["cases"] if row["case"] == case)
    contexts = {True: "sampler_context_pos", False: "sampler_context_neg"}
    condition = wan.outputs.get(f"{case}.y")
    latents = flow.sample(
        lambda x, t, conditional: wan.predict(
            x, t, [wan.inputs[contexts[conditional]]], wan.inputs.get("sampler_clip_fea")
        ),
        wan.inputs[f"{case}.noise"][None],
        steps=settings["steps"],
        shift=settings["shift"],
        guidance=settings["guide_scale"],
        solver=settings["solver"],
        condition=None if condition is None else condition[None],
    )
    torch.testing.assert_close(latents[0], wan.outputs[f"{case}.final"], **tolerance(wan, "sampler"))


@pytest.mark.parametrize("case", ["video17", "video5", "image"])
def test_autoencoder_gives_the_originals_numbers(golden, case):
    wan = golden("wan_vae")
    vae, exact = wan.model, tolerance(wan)
    mean, std = statistics(vae)
    with torch.no_grad():
        posterior = vae.encode(wan.inputs[f"{case}.video"][None]).latent_dist
        decoded = vae.decode(wan.inputs[f"{case}.z"][None] * std + mean).sample
    torch.testing.assert_close(posterior.mean[0], wan.outputs[f"{case}.mean_raw"], **exact)
    torch.testing.assert_close(posterior.logvar[0], wan.outputs[f"{case}.logvar_raw"], **exact)
    torch.testing.assert_close(((posterior.mode() - mean) / std)[0], wan.outputs[f"{case}.latent"], **exact)
    torch.testing.assert_close(decoded[0], wan.outputs[f"{case}.decoded"], **exact)


def test_autoencoder_drops_the_frames_the_original_drops(golden):
    wan = golden("wan_vae")
    mean, std = statistics(wan.model)
    with torch.no_grad():
        latents = wan.model.encode(wan.inputs["video17.video"][None, :, :16]).latent_dist.mode()
    expected = wan.outputs["video16_dropped.latent"]
    torch.testing.assert_close(((latents - mean) / std)[0], expected, **tolerance(wan))


def tolerance(wan, part=None):
    values = wan.meta["tolerance"][part] if part else wan.meta["tolerance"]
    return {"atol": values["atol"], "rtol": values["rtol"]}


def statistics(vae):
    return (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))


# --- what is written ------------------------------------------------------------------------------


def test_the_command_writes_a_folder_that_loads_and_says_where_it_came_from(checkpoint, tmp_path, capsys):
    Convert(checkpoint=checkpoint, to=tmp_path / "out", head_dim=12).run()
    model = load_transformer(SPEC, tmp_path / "out")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"wan-transformer, 69 tensors, {count:,} parameters" in capsys.readouterr().out
    expected = random_transformer(SPEC, seed=1).state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in model.state_dict().items())
    manifest = json.loads((tmp_path / "out" / "transformer" / "conversion.json").read_text())
    (source,) = manifest["source"]
    assert source["name"] == "wan.safetensors" and source["bytes"] == checkpoint.stat().st_size
    assert source["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert manifest["names"]["head.modulation"] == "scale_shift_table" and len(manifest["names"]) == 69


@pytest.mark.parametrize("prefix", ["pipe.dit.", "model.diffusion_model.", "module._orig_mod.", "dit."])
def test_wrappers_names_are_stripped(tmp_path, prefix):
    path = tmp_path / "wan.safetensors"
    save_file({prefix + name: tensor for name, tensor in original_transformer().items()}, path)
    done = convert(path, tmp_path / "out", head_dim=12)
    assert json.loads((done.folder / "conversion.json").read_text())["prefix"] == prefix
    load_transformer(SPEC, tmp_path / "out")


def test_the_autoencoder_of_a_training_state_converts_beside_the_transformer(checkpoint, tmp_path):
    state = {f"model.{name}": tensor for name, tensor in original_autoencoder().items()}
    torch.save({"step": 7, "state_dict": state}, tmp_path / "vae.pth")
    assert convert(checkpoint, tmp_path / "out", head_dim=12).kind == "wan-transformer"
    assert convert(tmp_path / "vae.pth", tmp_path / "out").kind == "wan-vae"
    load_transformer(SPEC, tmp_path / "out")
    load_autoencoder(SPEC, tmp_path / "out")


def test_shards_are_read_and_written_one_at_a_time(tmp_path, monkeypatch):
    tensors = {name: tensor.bfloat16() for name, tensor in original_transformer().items()}
    names = list(tensors)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, tmp_path / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setattr(conversion, "MAX_SHARD_BYTES", 30_000)
    done = convert(tmp_path, tmp_path / "out", head_dim=12)
    assert done.tensors == len(tensors)
    shards = sorted(done.folder.glob("*.safetensors"))
    assert len(shards) > 2 and all(shard.stat().st_size <= 30_000 for shard in shards)
    assert {t.dtype for shard in shards for t in load_file(shard).values()} == {torch.bfloat16}
    model = load_transformer(SPEC, tmp_path / "out")
    written = model.state_dict()["blocks.1.attn2.to_k.bias"]
    assert torch.equal(written, tensors["blocks.1.cross_attn.k.bias"].float())


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.ffn.0.bias"), "1 missing: blocks.1.ffn.0.bias"),
        (lambda t: t.update({"blocks.0.alpha": torch.ones(1)}), "1 unknown: blocks.0.alpha"),
        (
            lambda t: t.update({"blocks.0.modulation": torch.ones(1, 6, 23)}),
            r"1 of another shape: blocks.0.modulation \[1, 6, 23\] instead of \[1, 6, 24\]",
        ),
        (lambda t: t.pop("patch_embedding.weight"), "patch_embedding.weight is missing"),
        (lambda t: t["head.head.bias"].fill_(torch.nan), "proj_out.bias holds NaN"),
    ],
)
def test_a_checkpoint_not_wholly_understood_leaves_nothing(tmp_path, change, message):
    tensors = original_transformer()
    change(tensors)
    save_file(tensors, tmp_path / "wan.safetensors")
    with pytest.raises(GonioError, match=message):
        convert(tmp_path / "wan.safetensors", tmp_path / "out", head_dim=12)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["net.x_embedder.proj.1.weight", "net.blocks.block0.blocks.0.x"], "Cosmos .* not supported yet"),
        (["model.net.x_embedder.proj.1.weight"], "Cosmos .* not supported yet"),
        (["blocks.0.self_attn.q.lora_A.weight"], "a LoRA, not a whole network"),
        (["condition_embedder.time_proj.weight"], "in diffusers naming already"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight"], "a text encoder in transformers naming already"),
        (["blocks.0.pos_embedding.embedding.weight"], "token_embedding.weight is missing"),
        (["vace_blocks.0.x", "blocks.0.self_attn.q.weight"], "a VACE checkpoint"),
        (
            ["fc.weight"],
            r"no known kind of checkpoint \(fc.weight\); known are wan-transformer, wan-vae, wan-t",
        ),
        (["blocks.0.self_attn.q.weight", "encoder.downsamples.0.residual.0.gamma"], "no known kind"),
    ],
)
def test_other_checkpoints_are_named_and_refused(tmp_path, names, message):
    save_file({name: torch.ones(1) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(GonioError, match=message):
        convert(tmp_path / "x.safetensors", tmp_path / "out")


def test_the_kind_must_be_known_and_the_files_own(checkpoint, tmp_path):
    with pytest.raises(UsageError, match="--kind lrm: known are auto, wan-transformer, wan-vae"):
        convert(checkpoint, tmp_path, kind="lrm")
    with pytest.raises(UsageError, match="--kind wan-vae: .* is a wan-transformer"):
        convert(checkpoint, tmp_path, kind="wan-vae", head_dim=12)
    with pytest.raises(UsageError, match="give --head-dim"):
        convert(checkpoint, tmp_path)
    with pytest.raises(GonioError, match="gone.pth does not exist; check the path"):
        convert(tmp_path / "gone.pth", tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("owned",))


def refused_pickles(tmp_path):
    def saved(content):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    def compressed(content):
        buffer = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(content)) as source,
            zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target,
        ):
            for name in source.namelist():
                target.writestr(name, source.read(name))
        return buffer.getvalue()

    def overstated(content):
        entry = content.rfind(b"PK\x01\x02")  # the last row of the archive's table, its size at byte 24
        return content[: entry + 24] + b"\x00\x00\x00\xf0" + content[entry + 28 :]

    yield "overstated", overstated(saved({"a": torch.ones(4)})), "a compressed archive"
    yield "code", saved({"a": Evil()}), "holds more than tensors"
    yield "bomb", saved({"a": torch.zeros(1).expand(1 << 40)}), "claims 4398046511104 bytes of tensors"
    yield "deflated", compressed(saved({"a": torch.ones(4)})), "a compressed archive"
    yield "text", b"weights, honestly", "no PyTorch checkpoint of this decade"
    yield "empty", saved({}), "no state dictionary found"
    yield "list", saved([torch.ones(1)]), "no state dictionary"
    yield "state", saved({"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}}), "it holds model, ema"
    yield "mixed", saved({"a": torch.ones(1), "step": 3}), "'step' is no floating point tensor"


def test_pickles_with_anything_but_tensors_are_refused(tmp_path, capsys):
    for name, content, message in refused_pickles(tmp_path):
        path = tmp_path / f"{name}.pt"
        path.write_bytes(content)
        with pytest.raises(GonioError, match=message):
            convert(path, tmp_path / "out")
    assert "owned" not in capsys.readouterr().out


def test_a_file_larger_than_any_known_network_is_refused_unread(tmp_path):
    for name in ("huge.safetensors", "huge.pt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(200 << 30)  # a hole: takes no room on the disk
        with pytest.raises(GonioError, match="the limit is 137438953472"):
            convert(tmp_path / name, tmp_path / "out")


def test_the_written_names_are_those_diffusers_reads(checkpoint, tmp_path):
    done = convert(checkpoint, tmp_path / "out", head_dim=12)
    assert sorted(path.name for path in done.folder.iterdir()) == [
        "config.json",
        "conversion.json",
        f"{STEM}.safetensors",
    ]
