"""The material file: whole round trips, and one-line errors for everything that is wrong with a file."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import normalize

from gonio.errors import GonioError
from gonio.material_file import MAX_HEADER_BYTES, SCHEMA, expected_shapes, load_material, save_material
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial, Provenance

SMALL = MaterialSpec(offset_channels=3, reflectance_channels=4, hidden_width=8, hidden_layers=2)


def make_material(
    height: int = 5, width: int = 7, spec: MaterialSpec = SMALL, **provenance: Any
) -> NeuralMaterial:
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    decoder = Decoder(spec)
    for network in (decoder.M_off, decoder.M_rgb):
        network.layers[-1].weight.data.mul_(10)  # a decoder that says something
    return NeuralMaterial(
        torch.randn(height, width, spec.offset_channels, generator=generator),
        torch.randn(height, width, spec.reflectance_channels, generator=generator),
        decoder,
        Provenance(**provenance),
    )


def points(count: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    up = torch.tensor([0.0, 0.0, 1.2])
    wi, wo = (normalize(torch.rand(count, 3, generator=generator) - 0.5 + up, dim=-1) for _ in range(2))
    return torch.rand(count, 2, generator=generator) * 3 - 1, wi, wo


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "moss.safetensors"
    save_material(path, make_material())
    return path


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["manifest"])  # noqa: SIM118


def write(path: Path, tensors: dict[str, torch.Tensor], manifest: Any, sign: bool = True) -> None:
    """A file as another program would write it: with a manifest whose own hash is right."""
    if sign and isinstance(manifest, dict):
        rest = {k: v for k, v in manifest.items() if k != "manifest_sha256"}
        manifest["manifest_sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"manifest": text})


def one_line_error(path: Path) -> str:
    with pytest.raises(GonioError) as caught:
        load_material(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message and "; " in message, message
    return message


# ---------------------------------------------------------------- round trips


def test_a_material_comes_back_with_everything_it_had(tmp_path):
    material = make_material(
        name="moss", source="scan", prompt="grünes Moos", seed=5, model="mini", method="optimize",
        licence="CC0", author="A. Author", physical_size_m=0.25, extra={"nested": {"a": [1, None]}},
    )  # fmt: skip
    save_material(tmp_path / "a.safetensors", material)
    loaded = load_material(tmp_path / "a.safetensors")
    assert loaded.spec == material.spec
    assert loaded.provenance == material.provenance
    assert loaded.resolution == (5, 7)
    for name, value in material.decoder.state_dict().items():
        assert torch.equal(loaded.decoder.state_dict()[name], value), name


def test_textures_are_stored_as_half_and_mlps_as_single_floats(file):
    tensors, manifest = read(file)
    material = make_material()
    assert {name: t.dtype for name, t in tensors.items()} == {
        name: torch.float16 if name.startswith("T_") else torch.float32 for name in tensors
    }
    assert torch.equal(tensors["T_rgb"], material.T_rgb.half())
    loaded = load_material(file)
    assert loaded.T_rgb.dtype == torch.float32
    error = (loaded.T_rgb - material.T_rgb).detach().abs()
    assert float(error.max()) <= float(material.T_rgb.detach().abs().max()) * 2**-11
    assert manifest["schema"] == SCHEMA and manifest["textures"] == {"T_off": [5, 7, 3], "T_rgb": [5, 7, 4]}


def test_rounding_to_half_changes_the_picture_by_less_than_an_8_bit_step(file):
    uv, wi, wo = points()
    with torch.no_grad():
        before, after = make_material().evaluate(uv, wi, wo), load_material(file).evaluate(uv, wi, wo)
    assert float((before - after).abs().max()) < 1 / 255


def test_saving_what_was_loaded_gives_the_same_bytes(file, tmp_path):
    again = tmp_path / "again.safetensors"
    save_material(again, load_material(file))
    assert again.read_bytes() == file.read_bytes()


def test_others_may_read_the_file_as_the_umask_says(file):
    (file.parent / "plain").touch()
    assert file.stat().st_mode == (file.parent / "plain").stat().st_mode


def test_loading_draws_no_random_numbers(file):
    before = torch.get_rng_state()
    load_material(file)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (33, 2), (12, 20), (7, 5)])
def test_rectangular_textures_of_any_size(tmp_path, height, width):
    path = tmp_path / "a.safetensors"
    save_material(path, make_material(height, width))
    assert load_material(path).resolution == (height, width)


def test_textures_of_different_sizes(tmp_path):
    material = make_material()
    both = NeuralMaterial(torch.randn(3, 2, 3), torch.randn(6, 11, 4), material.decoder)
    save_material(tmp_path / "a.safetensors", both)
    loaded = load_material(tmp_path / "a.safetensors")
    assert loaded.T_off.shape == (3, 2, 3) and loaded.T_rgb.shape == (6, 11, 4)


@pytest.mark.parametrize("wrap", ["repeat", "clamp", "mirror"])
@pytest.mark.parametrize("cosine", [True, False])
def test_other_manifest_fields_survive_and_decode_alike(tmp_path, wrap, cosine):
    spec = MaterialSpec(
        offset_channels=3, reflectance_channels=4, hidden_width=8, hidden_layers=1,
        wrap=wrap, cosine_included=cosine, max_offset=0.05, gain=3.0,
    )  # fmt: skip
    material = make_material(spec=spec)
    save_material(tmp_path / "a.safetensors", material)
    loaded = load_material(tmp_path / "a.safetensors")
    assert loaded.spec == spec
    with torch.no_grad():
        found, wanted = loaded.evaluate(*points()), material.evaluate(*points())
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_loaded_material_is_continuous_across_the_seams(file, axis):
    material = load_material(file)
    along = torch.linspace(0, 1, 41)
    wi = wo = torch.tensor([0.0, 0.0, 1.0]).expand(41, 3)

    def at(place: float) -> torch.Tensor:
        uv = torch.stack([torch.full_like(along, place), along], -1)
        return material.evaluate(uv if axis == 0 else uv.flip(-1), wi, wo).detach()

    step = 1e-5
    torch.testing.assert_close(at(-step), at(step), atol=2e-3, rtol=0)
    torch.testing.assert_close(at(1 - step), at(1 + step), atol=2e-3, rtol=0)
    torch.testing.assert_close(at(0.0), at(1.0), atol=1e-4, rtol=0)
    assert float((at(0.0) - at(0.5)).abs().max()) > 0.05  # the test sees a texture


def test_expected_shapes_are_those_of_the_decoder():
    state = Decoder(SMALL).state_dict()
    assert expected_shapes(SMALL) == {f"decoder.{name}": list(t.shape) for name, t in state.items()}


def test_the_reference_evaluations_are_those_of_the_stored_textures(file):
    _, manifest = read(file)
    material = load_material(file)
    assert len(manifest["references"]) == 16
    columns = [torch.tensor([r[k] for r in manifest["references"]]) for k in ("uv", "wi", "wo", "value")]
    with torch.no_grad():
        torch.testing.assert_close(material.evaluate(*columns[:3]), columns[3], rtol=1e-6, atol=1e-7)
    assert bool(((columns[0] < 0) | (columns[0] > 1)).any())  # beyond the border, to tell wrap modes apart


# ---------------------------------------------------------------- saving what cannot be saved


def test_values_beyond_half_precision_are_refused(tmp_path):
    material = make_material()
    material.T_off.data[0, 0, 0] = 1e6
    with pytest.raises(GonioError, match=r"a\.safetensors: T_off is not finite as torch.float16"):
        save_material(tmp_path / "a.safetensors", material)
    assert not list(tmp_path.iterdir())


def test_nan_weights_are_refused(tmp_path):
    material = make_material()
    material.decoder.M_rgb.layers[0].weight.data[0, 0] = float("nan")
    with pytest.raises(GonioError, match="layers.0.weight is not finite"):
        save_material(tmp_path / "a.safetensors", material)


@pytest.mark.parametrize("extra", [{"x": float("nan")}, {"x": object()}, {"x": "y" * (MAX_HEADER_BYTES + 1)}])
def test_provenance_that_does_not_fit_a_header_is_refused(tmp_path, extra):
    with pytest.raises(GonioError, match=r"a\.safetensors: .*provenance"):
        save_material(tmp_path / "a.safetensors", make_material(extra=extra))
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(GonioError, match="rename it"):
        save_material(tmp_path / "a.pt", make_material())


def test_a_failed_save_leaves_the_old_file_alone(file):
    before = file.read_bytes()
    material = make_material()
    material.T_rgb.data[0, 0, 0] = float("inf")
    with pytest.raises(GonioError):
        save_material(file, material)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(GonioError, match="cannot write"):
        save_material(tmp_path / "a" / "b.safetensors", make_material())


# ---------------------------------------------------------------- bad files


def test_missing_folder_and_empty(tmp_path):
    assert "does not exist" in one_line_error(tmp_path / "none.safetensors")
    assert "folder" in one_line_error(tmp_path)
    (tmp_path / "empty.safetensors").touch()
    assert "no material" in one_line_error(tmp_path / "empty.safetensors")


def test_another_kind_of_file(tmp_path):
    path = tmp_path / "picture.safetensors"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert "not a safetensors file" in one_line_error(path)
    path.write_bytes((64).to_bytes(8, "little") + b"no json at all".ljust(64) + bytes(9))
    assert "safetensors" in one_line_error(path)


@pytest.mark.parametrize("share", [0.001, 0.2, 0.9, 0.999])
def test_truncated(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: max(9, int(len(content) * share))])
    one_line_error(file)


def test_bytes_behind_the_end(file):
    file.write_bytes(file.read_bytes() + b"more")
    one_line_error(file)


def test_a_huge_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as stream:
        stream.write((2 * MAX_HEADER_BYTES).to_bytes(8, "little"))
        stream.truncate(3 * MAX_HEADER_BYTES)
    assert "header of" in one_line_error(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as stream:
        stream.write((100).to_bytes(8, "little"))
        stream.truncate(5 * 2**30)  # a sparse file
    assert "the limit is" in one_line_error(path)


def test_a_huge_texture_is_refused_from_the_header(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors, manifest = read_saved(tmp_path)
    tensors["T_off"] = torch.zeros(1, 16385, 3, dtype=torch.float16)
    manifest["textures"]["T_off"] = [1, 16385, 3]
    write(path, tensors, manifest)
    assert "16385x1 texels" in one_line_error(path)


def read_saved(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    save_material(folder / "whole.safetensors", make_material())
    return read(folder / "whole.safetensors")


MANIFESTS = {
    "no JSON": ("{", "not JSON"),
    "NaN": ('{"schema": NaN}', "not JSON"),
    "nested too deeply": ("[" * 100_000, "not JSON"),
    "a list": ("[1]", "not a JSON object"),
}
EDITS: dict[str, tuple[Any, str]] = {
    "unknown schema": (lambda t, m: m.update(schema="gonio-material/2"), "this version reads"),
    "no schema": (lambda t, m: m.pop("schema"), "this version reads"),
    "manifest lacks the references": (lambda t, m: m.pop("references"), "lacks references"),
    "manifest with an unknown entry": (lambda t, m: m.update(colour="red"), "unknown manifest entry"),
    "spec lacks a field": (lambda t, m: m["spec"].pop("gain"), "lacks gain"),
    "spec with an unknown field": (lambda t, m: m["spec"].update(levels=3), "unknown spec entry"),
    "spec is no object": (lambda t, m: m.update(spec=[1]), "spec is not"),
    "spec out of range": (lambda t, m: m["spec"].update(hidden_width=10**9), "allowed are"),
    "spec of a wrong type": (lambda t, m: m["spec"].update(hidden_layers="4"), "allowed are"),
    "unknown wrap": (lambda t, m: m["spec"].update(wrap="border"), "known are"),
    "unknown encoding": (lambda t, m: m["spec"].update(encoding="exp"), "known are"),
    "provenance lacks a field": (lambda t, m: m["provenance"].pop("licence"), "lacks licence"),
    "provenance of a wrong type": (lambda t, m: m["provenance"].update(seed="one"), "seed of the wrong type"),
    "provenance is no object": (lambda t, m: m.update(provenance=None), "provenance is not"),
    "negative size": (lambda t, m: m["provenance"].update(physical_size_m=-1.0), "physical size"),
    "missing tensor": (lambda t, m: t.pop("decoder.M_rgb.layers.1.bias"), "lacks decoder.M_rgb.layers.1"),
    "unknown tensor": (lambda t, m: t.update(T_spec=torch.zeros(1)), "unknown tensor entry"),
    "weights of a wrong shape": (
        lambda t, m: t.update({"decoder.M_off.layers.0.bias": torch.zeros(9)}),
        r"layers.0.bias is F32 \[9\], expected F32 \[8\]",
    ),
    "half weights": (
        lambda t, m: t.update({"decoder.M_off.layers.0.bias": torch.zeros(8).half()}),
        "is F16",
    ),
    "textures in single floats": (lambda t, m: t.update(T_rgb=t["T_rgb"].float()), "is F32"),
    "textures in bfloat16": (lambda t, m: t.update(T_rgb=t["T_rgb"].bfloat16()), "is BF16"),
    "texture with too few channels": (lambda t, m: t.update(T_off=t["T_off"][..., :2]), r"\[H, W, 3\]"),
    "flat texture": (lambda t, m: t.update(T_off=t["T_off"].reshape(-1, 3)), r"\[H, W, 3\]"),
    "empty texture": (lambda t, m: t.update(T_off=t["T_off"][:0]), r"\[H, W, 3\]"),
    "texture of another size": (lambda t, m: t.update(T_off=t["T_off"][:2]), "texture sizes"),
    "texture with NaN": (lambda t, m: t["T_off"].view(-1)[:1].fill_(float("nan")), "T_off holds NaN"),
    "infinite weights": (
        lambda t, m: t["decoder.M_off.layers.0.weight"].view(-1)[:1].fill_(float("inf")),
        "NaN or infinite",
    ),
    "other texture": (lambda t, m: t["T_rgb"].view(-1)[:1].add_(1), "not those that were saved"),
    "another gain": (lambda t, m: m["spec"].update(gain=11.0), "reference evaluation"),
    "another offset unit": (lambda t, m: m["spec"].update(max_offset=0.3), "reference evaluation"),
    "another wrap": (lambda t, m: m["spec"].update(wrap="clamp"), "reference evaluation"),
    "malformed references": (lambda t, m: m["references"][3].pop("uv"), "malformed reference"),
    "references of a wrong type": (lambda t, m: m.update(references=7), "malformed reference"),
    "too few references": (lambda t, m: m["references"].pop(), "16 whole reference"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_bad_manifest(tmp_path, name):
    text, expected = MANIFESTS[name]
    path = tmp_path / "bad.safetensors"
    write(path, read_saved(tmp_path)[0], text)
    assert expected in one_line_error(path)


@pytest.mark.parametrize("name", EDITS)
def test_bad_content(tmp_path, name):
    edit, expected = EDITS[name]
    tensors, manifest = read_saved(tmp_path)
    edit(tensors, manifest)
    path = tmp_path / "bad.safetensors"
    write(path, tensors, manifest)
    assert re.search(expected, one_line_error(path))


def test_another_program_can_write_a_file(tmp_path):
    """The helper that makes the bad files makes a good one when nothing is wrong."""
    write(tmp_path / "good.safetensors", *read_saved(tmp_path))
    load_material(tmp_path / "good.safetensors")


def test_a_safetensors_file_of_something_else(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    assert "without a manifest" in one_line_error(path)


def test_a_changed_manifest_without_a_new_hash(tmp_path):
    tensors, manifest = read_saved(tmp_path)
    manifest["provenance"]["author"] = "someone else"
    write(tmp_path / "a.safetensors", tensors, manifest, sign=False)
    assert "not the one that was saved" in one_line_error(tmp_path / "a.safetensors")


def test_every_flipped_bit_is_noticed(file):
    content = file.read_bytes()
    chooser = random.Random(1)
    for position in [*range(8), *chooser.sample(range(8, len(content)), 250)]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << chooser.randrange(8)
        file.write_bytes(damaged)
        try:
            load_material(file)
        except GonioError as error:
            assert "\n" not in str(error)
        else:
            pytest.fail(f"a flipped bit in byte {position} was not noticed")


def test_check_false_skips_the_costly_checks_only(tmp_path):
    tensors, manifest = read_saved(tmp_path)
    tensors["T_rgb"].view(-1)[:1].add_(1)
    write(tmp_path / "a.safetensors", tensors, manifest)
    load_material(tmp_path / "a.safetensors", check=False)
    tensors["T_rgb"].view(-1)[:1].fill_(float("nan"))
    write(tmp_path / "a.safetensors", tensors, manifest)
    with pytest.raises(GonioError, match="NaN"):
        load_material(tmp_path / "a.safetensors", check=False)
