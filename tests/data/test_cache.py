"""The latent cache: complete, resumable, verified on every read, and shuffled without memory."""

from functools import partial

import pytest
import torch

from gonio import media
from gonio.camera import two_phase
from gonio.color import srgb_from_linear
from gonio.data.cache import CacheSettings, LatentCache, append_item, build_cache, open_cache
from gonio.data.dataset import MANIFEST
from gonio.data.ledger import read_ledger, sha256, write_ledger
from gonio.errors import GonioError, UsageError
from gonio.material_video import write_manifest
from gonio.models.condition import photo_clip
from gonio.models.spec import SPECS
from gonio.rectify import rectify

FRAMES, SIZE = 5, 16


class Encoders:
    """A linear stand-in for the networks: block means of the frames; words as numbers. Counts its calls."""

    def __init__(self):
        self.videos, self.texts = 0, []

    def video(self, frames):
        self.videos += 1
        assert frames.shape[-1] == 3 and 0 <= float(frames.min()) and float(frames.max()) <= 1
        blocks = frames.unflatten(1, (-1, 4)).unflatten(3, (-1, 4)).mean((2, 4))
        return blocks[::4].movedim(-1, 0)  # [3, f, h, w]

    def text(self, prompt):
        self.texts.append(prompt)
        return torch.tensor([[float(len(word)), 1.0] for word in prompt.split()] or [[0.0, 0.0]])


def _clip(dataset, name, value, photo=False):
    """One clip of a data set: a grey that grows with the frame."""
    folder = dataset / "clips" / name
    frames = torch.full((FRAMES, SIZE, SIZE, 3), value) * torch.linspace(0.5, 1, FRAMES)[:, None, None, None]
    for index, frame in enumerate(frames):
        channels = {**dict(zip("RGB", frame.unbind(-1), strict=True)), "A": torch.ones(SIZE, SIZE)}
        media.write_exr(folder / "frames" / f"{index:04d}.exr", channels)
    if photo:
        media.write_image(folder / "photo.png", torch.full((SIZE, SIZE, 3), 0.25))
    write_manifest(folder, two_phase(FRAMES), {"licence": "CC0-1.0"}, ".exr")
    files = {str(p.relative_to(folder)): sha256(p.read_bytes()) for p in folder.rglob("*") if p.is_file()}
    captions = [f"{name} material", f"a second caption of {name}"]
    return {
        "id": name,
        "folder": f"clips/{name}",
        "captions": captions,
        "attributes": {},
        "files": files,
        "licence": "CC0-1.0",
        "attribution": "nobody",
    }


@pytest.fixture
def dataset(tmp_path):
    records = [_clip(tmp_path / "data", name, 0.1 * i + 0.1, photo=i == 0) for i, name in enumerate("abcd")]
    write_ledger(tmp_path / "data" / MANIFEST, records)
    return tmp_path / "data"


def _build(dataset, out, encoders=None, **settings):
    encoders = encoders or Encoders()
    settings = CacheSettings(**{"model": "test", "numbers": "fp32", **settings})
    return build_cache(
        dataset,
        out,
        settings=settings,
        encode_video=encoders.video,
        encode_text=encoders.text,
        photo_clip=partial(photo_clip, SPECS["wan2.1-i2v-14b"]),
    )


def test_items_hold_latents_text_and_photo_of_display_encoded_frames(dataset, tmp_path):
    cache = _build(dataset, tmp_path / "cache")
    assert len(cache) == 4
    item = cache[1]
    assert (item["id"], item["caption"]) == ("b", "b material")
    assert item["latents"].shape == (3, 2, 4, 4)
    expected = srgb_from_linear(torch.tensor([0.2 * 0.5, 0.2]))
    torch.testing.assert_close(item["latents"][0, :, 0, 0], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(item["text"], torch.tensor([[1.0, 1.0], [8.0, 1.0]]))
    photo = cache[0]["photo"]  # the photograph, then grey
    assert photo.shape == (3, 2, 4, 4) and "photo" not in item
    expected = torch.tensor([float(srgb_from_linear(torch.tensor(0.25))), 0.5])
    torch.testing.assert_close(photo[0, :, 0, 0], expected, atol=3e-3, rtol=0)
    torch.testing.assert_close(cache.empty_text, torch.zeros(1, 2))


def test_the_manifest_says_model_source_licence_and_hash(dataset, tmp_path):
    _build(dataset, tmp_path / "cache")
    record = read_ledger(tmp_path / "cache" / MANIFEST)["a"]
    assert (record["model"], record["licence"], record["attribution"]) == ("test", "CC0-1.0", "nobody")
    assert record["sha256"] == sha256((tmp_path / "cache" / record["file"]).read_bytes())
    assert record["shapes"]["latents"] == [3, 2, 4, 4] and len(record["source"]) == 64


@pytest.mark.parametrize("numbers, dtype", [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_numbers_are_stored_as_asked(dataset, tmp_path, numbers, dtype):
    item = _build(dataset, tmp_path / "cache", numbers=numbers)[0]
    assert item["latents"].dtype == item["text"].dtype == dtype


def test_rectified_frames_are_those_of_rectify(dataset, tmp_path):
    encoders, seen = Encoders(), []
    inner = encoders.video
    encoders.video = lambda frames: seen.append(frames) or inner(frames)
    _build(dataset, tmp_path / "cache", encoders, projection="rectified", size=8)
    clip = torch.full((FRAMES, SIZE, SIZE, 3), 0.1) * torch.linspace(0.5, 1, FRAMES)[:, None, None, None]
    assert seen[0].shape == (FRAMES, 8, 8, 3)
    flat, _ = rectify(clip, torch.ones(FRAMES, SIZE, SIZE), two_phase(FRAMES), 8)
    torch.testing.assert_close(seen[0][0], srgb_from_linear(flat[0]), atol=1e-3, rtol=0)


def test_an_interrupted_run_goes_on(dataset, tmp_path):
    encoders = Encoders()
    inner = encoders.video

    def stops(frames):
        if encoders.videos == 3:  # a and its photograph, then b
            raise KeyboardInterrupt
        return inner(frames)

    encoders.video = stops
    with pytest.raises(KeyboardInterrupt):
        _build(dataset, tmp_path / "cache", encoders)
    again = Encoders()
    cache = _build(dataset, tmp_path / "cache", again)
    assert again.videos == 2 and [record["id"] for record in cache.records] == list("abcd")
    nothing = Encoders()
    _build(dataset, tmp_path / "cache", nothing)
    assert (nothing.videos, nothing.texts) == (0, [])


def test_a_damaged_file_is_named_with_its_cure_and_made_again(dataset, tmp_path):
    cache = _build(dataset, tmp_path / "cache")
    path = tmp_path / "cache" / "items" / "c.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        GonioError, match="c.safetensors: missing, or not the file.*run gonio data cache again"
    ):
        cache[2]
    encoders = Encoders()
    healed = _build(dataset, tmp_path / "cache", encoders)
    assert encoders.videos == 1 and path.read_bytes() == content
    assert healed.sample(0, 0)


def test_changed_captions_and_frames_are_encoded_again(dataset, tmp_path):
    _build(dataset, tmp_path / "cache")
    records = read_ledger(dataset / MANIFEST)
    records["b"]["captions"] = ["something new"]
    records["d"] = _clip(dataset, "d", 0.9)
    del records["a"]
    write_ledger(dataset / MANIFEST, records.values())
    encoders = Encoders()
    cache = _build(dataset, tmp_path / "cache", encoders)
    assert encoders.videos == 2 and "something new" in encoders.texts
    assert sorted(record["id"] for record in cache.records) == ["b", "c", "d"]


def test_a_clip_that_is_not_what_its_manifest_says_stops_the_work(dataset, tmp_path):
    (dataset / "clips" / "b" / "frames" / "0001.exr").write_bytes(b"x")
    with pytest.raises(GonioError, match="0001.exr: missing, or not the file that was written"):
        _build(dataset, tmp_path / "cache")


def test_another_model_is_refused(dataset, tmp_path):
    _build(dataset, tmp_path / "cache")
    with pytest.raises(GonioError, match="another model or numbers"):
        _build(dataset, tmp_path / "cache", model="other")


def test_every_epoch_holds_each_clip_once_in_an_order_of_its_own(dataset, tmp_path):
    cache = _build(dataset, tmp_path / "cache")
    names = [cache.sample(number, seed=7)["id"] for number in range(40)]
    epochs = ["".join(names[i : i + 4]) for i in range(0, 40, 4)]
    assert all(sorted(epoch) == list("abcd") for epoch in epochs) and len(set(epochs)) > 3
    captions = {cache.sample(number, seed=7)["caption"] for number in range(40)}
    assert len(captions) == 8  # both captions of every clip come up


def test_reading_resumes_exactly_and_divides_among_processes(dataset, tmp_path):
    cache = _build(dataset, tmp_path / "cache")

    def take(count, **place):
        stream = cache.stream(3, **place)
        return [
            (number, item["id"], item["caption"]) for number, item in (next(stream) for _ in range(count))
        ]

    whole = take(12)
    assert take(5, start=7) == whole[7:]
    assert take(6, start=1, stride=2) == whole[1::2]
    cache_again = LatentCache(tmp_path / "cache")
    assert cache_again.sample(9, 3)["caption"] == whole[9][2]
    assert [number for number, _, _ in whole] == list(range(12))


def test_items_can_be_made_without_a_folder_of_clips(tmp_path):
    settings, encoders = CacheSettings(model="test", numbers="fp32"), Encoders()
    assert open_cache(tmp_path / "cache", settings, encoders.text) == {}
    about = {"id": "x", "captions": ["one"], "source": "a pool", "licence": "CC0-1.0"}
    tensors = {"latents": torch.zeros(2, 1, 2, 2), "text.0": torch.zeros(1, 2)}
    append_item(tmp_path / "cache", about, tensors, settings)
    assert "x" in open_cache(tmp_path / "cache", settings, encoders.text)
    assert LatentCache(tmp_path / "cache")[0]["caption"] == "one"
    with pytest.raises(GonioError, match="expected \\['latents', 'text.0'\\]"):
        append_item(tmp_path / "cache", about, {"latents": torch.zeros(2, 1, 2, 2)}, settings)


def test_wrong_encoders_are_named(dataset, tmp_path):
    encoders = Encoders()
    encoders.video = lambda frames: torch.full((3, 2, 4, 4), float("nan"))
    with pytest.raises(GonioError, match="clip a: latents holds NaN"):
        _build(dataset, tmp_path / "cache", encoders)
    encoders.video = lambda frames: torch.full((3, 2, 4, 4), 1e6)
    with pytest.raises(GonioError, match="do not fit fp16; take --numbers bf16"):
        _build(dataset, tmp_path / "cache16", encoders, numbers="fp16")


def test_a_folder_that_is_no_cache_says_so(tmp_path):
    with pytest.raises(GonioError, match="cache.json"):
        LatentCache(tmp_path)
    with pytest.raises(UsageError, match="no numbers 'fp8'"):
        CacheSettings(model="x", numbers="fp8")
