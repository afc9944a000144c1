"""Files of universal decoders: round trips, bad files, and the bundled ones."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gonio.errors import GonioError, UsageError
from gonio.neural_material import Decoder, MaterialSpec
from gonio.reconstruct import universal
from gonio.reconstruct.universal import (
    DECODERS,
    LatentSpace,
    UniversalDecoder,
    load_universal,
    read_universal,
    save_universal,
)

SPEC = MaterialSpec(offset_channels=2, reflectance_channels=3, hidden_width=8, hidden_layers=2)


def made() -> UniversalDecoder:
    torch.manual_seed(0)
    space = LatentSpace(mean=torch.randn(5), basis=torch.tril(torch.rand(5, 5)) + torch.eye(5))
    return UniversalDecoder(decoder=Decoder(SPEC), space=space, provenance={"recipe": {"steps": 3}})


@pytest.fixture
def file(tmp_path):
    save_universal(tmp_path / "u.safetensors", made())
    return tmp_path / "u.safetensors"


def test_round_trip(file):
    loaded, wanted = read_universal(file), made()
    assert loaded.decoder.spec == SPEC and loaded.provenance == wanted.provenance
    assert torch.equal(loaded.space.mean, wanted.space.mean)
    assert torch.equal(loaded.space.basis, wanted.space.basis)
    for name, value in wanted.decoder.state_dict().items():
        assert torch.equal(loaded.decoder.state_dict()[name], value), name


def test_load_universal_gives_everyone_their_own_copy(file, monkeypatch):
    monkeypatch.setattr(universal, "bundled_path", lambda size: file)
    universal._bundled.cache_clear()
    one, other = load_universal("64x4"), load_universal("64x4")
    one.decoder.M_rgb.layers[0].weight.data.zero_()
    assert float(other.decoder.M_rgb.layers[0].weight.abs().sum().detach()) > 0
    universal._bundled.cache_clear()


def test_whitened_coordinates_are_standard_normal_latents():
    space = made().space
    code = torch.randn(200_000, 5, generator=torch.Generator().manual_seed(0))
    latents = space.latents(code)
    torch.testing.assert_close(latents.mean(0), space.mean, atol=2e-2, rtol=0)
    torch.testing.assert_close(torch.cov(latents.T), space.basis @ space.basis.T, atol=8e-2, rtol=2e-2)


def test_the_gradient_in_whitened_coordinates_is_the_chain_rule():
    space, code = made().space, torch.randn(7, 5, requires_grad=True)
    weight = torch.randn(7, 5)
    (space.latents(code) * weight).sum().backward()
    torch.testing.assert_close(space.gradient(weight), code.grad)


def test_unknown_sizes_are_bad_usage():
    with pytest.raises(UsageError, match="64x4"):
        load_universal("128x8")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t, m: m.update(schema="gonio-universal-decoder/9"), "schema"),
        (lambda t, m: m.update(spec="{"), "malformed spec"),
        (lambda t, m: m.update(spec=json.dumps({"gain": -1})), "gain"),
        (lambda t, m: t.pop("space.mean"), "statistics"),
        (lambda t, m: t.update({"space.basis": torch.eye(4)}), "statistics"),
        (lambda t, m: t.pop("decoder.M_off.layers.0.bias"), "do not fit"),
        (lambda t, m: t.update({"decoder.M_off.layers.0.bias": torch.zeros(3)}), "do not fit"),
        (lambda t, m: t.update({"decoder.extra": torch.zeros(3)}), "do not fit"),
    ],
)
def test_bad_files(file, edit, message):
    with safe_open(file, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    edit(tensors, metadata)
    save_file(tensors, file, metadata=metadata)
    with pytest.raises(GonioError, match=message):
        read_universal(file)


def test_missing_and_truncated_files(file):
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(GonioError, match="u.safetensors"):
        read_universal(file)
    file.unlink()
    with pytest.raises(GonioError, match="u.safetensors"):
        read_universal(file)


@pytest.mark.parametrize("size", DECODERS)
def test_the_bundled_decoders_are_what_their_names_say(size):
    width, layers = (int(n) for n in size.split("x"))
    bundled = load_universal(size)
    assert (bundled.decoder.spec.hidden_width, bundled.decoder.spec.hidden_layers) == (width, layers)
    assert universal.bundled_path(size).stat().st_size < 16 * 2**20
    diagonal = bundled.space.basis.diagonal()
    assert bool((diagonal > 0).all()) and torch.equal(bundled.space.basis, bundled.space.basis.tril())
