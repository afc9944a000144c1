"""A reconstruction model in layouts its authors may have used -> the same textures from our classes."""

import pytest
import torch
from tiny_models import TINY_WAN

from gonio.errors import GonioError
from gonio.models import wan_keys
from gonio.models.convert_reconstruction import convert_reconstruction
from gonio.models.load import random_autoencoder, random_transformer
from gonio.models.reconstruction import ReconstructionModel, ReconstructionSpec
from gonio.models.spec import SPECS
from gonio.neural_material import Decoder, MaterialSpec
from gonio.reconstruct import lrm

MATERIAL = MaterialSpec(hidden_width=8, hidden_layers=2, directions="projected xy")


@pytest.fixture
def spec(monkeypatch):
    monkeypatch.setitem(SPECS, "tiny-wan", TINY_WAN)
    return ReconstructionSpec(name="tiny-lrm", video="tiny-wan", frames=5)


@pytest.fixture
def model(spec):
    torch.manual_seed(0)
    parts = (
        random_autoencoder(TINY_WAN, 0),
        random_transformer(TINY_WAN, 0),
        torch.randn(3, 8),
        Decoder(MATERIAL),
    )
    return ReconstructionModel(spec, *parts, (torch.zeros(24), torch.eye(24))).eval()


def unfolded(model):
    """The tensors as before folding: two taps in front that a single frame never meets."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    whole = {f"autoencoder.{k}": v.shape for k, v in random_autoencoder(TINY_WAN, 0).state_dict().items()}
    for name, tensor in state.items():
        if tensor.ndim == 5 and name in whole and tensor.shape[2] != whole[name][2]:
            taps = torch.randn(*tensor.shape[:2], *whole[name][2:])
            taps[:, :, -1:] = tensor
            state[name] = taps
    return state


def files(folder, model, naming, *, encoder=False):
    """latent_module.pth and mlp.pth as somebody may have saved them."""
    state, latent = unfolded(model), {}
    tables = {
        "transformer.": wan_keys.inverted(wan_keys.transformer_names(TINY_WAN.transformer)),
        "autoencoder.": wan_keys.inverted(wan_keys.autoencoder_names(TINY_WAN.autoencoder)),
    }
    prefixes = {"transformer.": "module.dit.", "autoencoder.": "module.vae.model."}
    for name, tensor in state.items():
        for ours, table in tables.items():
            end = name.removeprefix(ours)
            kept = ours == "transformer." or end.startswith(("decoder.", "post_quant")) or encoder
            if name.startswith(ours) and kept:
                there = wan_keys.renamed(end, table) if naming == "original" else end
                latent[prefixes[ours] + there] = tensor
    mlp = {
        name.replace("decoder.M_", "net_").replace("layers.", "").replace("_off.", "_off.mlp."): tensor
        for name, tensor in state.items()
        if name.startswith("decoder.M_")
    }
    torch.save(latent, folder / "latent_module.pth")
    torch.save({"state_dict": mlp}, folder / "mlp.pth")
    return folder / "latent_module.pth", folder / "mlp.pth"


@torch.no_grad()
@pytest.mark.parametrize("naming", ["original", "diffusers"])
@pytest.mark.parametrize("encoder", [False, True])
def test_the_textures_are_those_of_the_model_that_was_saved(
    spec, model, tmp_path, monkeypatch, naming, encoder
):
    paths = files(tmp_path, model, naming, encoder=encoder)
    done = convert_reconstruction(*paths, tmp_path / "lrm", spec=spec, null_text=model.null_text)
    assert (done.skipped > 0) == encoder
    monkeypatch.setattr(lrm, "load_autoencoder", lambda video: random_autoencoder(video, 0))
    loaded = lrm.load_model(spec, done.folder)
    frames = torch.rand(1, 5, 16, 16, 3)
    torch.testing.assert_close(loaded(frames), model(frames), atol=1e-5, rtol=1e-5)
    features, wi, wo = torch.randn(5, 12), torch.rand(5, 3), torch.rand(5, 3)
    assert torch.equal(loaded.decoder.value(features, wi, wo), model.decoder.value(features, wi, wo))


def test_every_unmatched_name_is_told(spec, model, tmp_path):
    latent, mlp = files(tmp_path, model, "original")
    state = torch.load(latent, weights_only=True)
    state |= {"module.extra.weight": torch.zeros(2), "module.dit.blocks.7.ffn.0.bias": torch.zeros(2)}
    torch.save(state, latent)
    with pytest.raises(GonioError) as caught:
        convert_reconstruction(latent, mlp, tmp_path / "lrm", spec=spec, null_text=model.null_text)
    assert "2 tensors" in str(caught.value) and not (tmp_path / "lrm").exists()
    assert "module.extra.weight" in str(caught.value) and "blocks.7" in str(caught.value)


def test_missing_tensors_are_told(spec, model, tmp_path):
    latent, mlp = files(tmp_path, model, "original")
    state = torch.load(latent, weights_only=True)
    del state["module.dit.head.head.weight"]
    torch.save(state, latent)
    with pytest.raises(GonioError, match="1 missing: transformer.proj_out.weight"):
        convert_reconstruction(latent, mlp, tmp_path / "lrm", spec=spec, null_text=model.null_text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m | {"net_off.scale": torch.zeros(3)}, "not two chains.*net_off.scale"),
        (lambda m: {k: v for k, v in m.items() if "rgb" in k}, "not two chains"),
        (
            lambda m: {k: torch.zeros(9, 8) if k == "net_rgb.1.weight" else v for k, v in m.items()},
            "the layers net_rgb.* do not follow",
        ),
    ],
)
def test_mlps_of_another_make_are_refused(spec, model, tmp_path, spoil, message):
    latent, mlp = files(tmp_path, model, "diffusers")
    torch.save(spoil(torch.load(mlp, weights_only=True)["state_dict"]), mlp)
    with pytest.raises(GonioError, match=f"(?s)mlp.pth: {message}"):
        convert_reconstruction(latent, mlp, tmp_path / "lrm", spec=spec, null_text=model.null_text)
