"""Bad input ends in a `GonioError` of one line that names the file, fast and without leftovers."""

from __future__ import annotations

import io
import json
import math
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from gonio import media
from gonio.errors import GonioError
from gonio.pbr import load_material_maps, save_material_maps


def _tree(folder: Path) -> list[str]:
    return sorted(str(item.relative_to(folder)) for item in folder.rglob("*"))


def _refused(folder: Path, action: Callable[[], object], named: str, contains: str = "") -> str:
    """Run `action`; it must raise one line that names the file and leave the folder as it was."""
    before = _tree(folder)
    with pytest.raises(GonioError) as caught:
        action()
    message = str(caught.value)
    assert named in message, message
    assert "\n" not in message and len(message) < 500, message
    assert contains in message, message
    assert _tree(folder) == before, "something half-written remains"
    return message


def _noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def _sample(folder: Path, suffix: str) -> Path:
    """A valid file of each kind, large enough to be cut in many places."""
    path = folder / f"sample{suffix}"
    if suffix == ".mp4":
        media.write_video(path, _noise(6, 64, 64, 3))
    elif suffix == ".16.png":
        media.write_data_png(path, _noise(60, 40, 3), 16)
    else:
        media.write_image(path, _noise(60, 40, 3))
    return path


def _read(path: Path) -> object:
    return media.read_video(path) if path.suffix == ".mp4" else media.read_color(path)


# ---------------------------------------------------------------- truncated and damaged


@pytest.mark.parametrize("suffix", [".png", ".16.png", ".jpg", ".exr", ".hdr", ".mp4"])
@pytest.mark.parametrize("kept", [0.0, 0.004, 0.1, 0.5, 0.9])
def test_truncated(tmp_path: Path, suffix: str, kept: float, capfd: pytest.CaptureFixture[str]) -> None:
    path = _sample(tmp_path, suffix)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    capfd.readouterr()
    _refused(tmp_path, lambda: _read(path), path.name)
    assert capfd.readouterr().out == "", "libraries must not print beside our line"


def test_a_truncated_exr_prints_nothing_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = _sample(tmp_path, ".exr")
    path.write_bytes(path.read_bytes()[:-20])
    capfd.readouterr()
    _refused(tmp_path, lambda: media.read_exr(path), "sample.exr", "truncated or damaged")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95, 0.998])
def test_truncated_mp4_with_its_index_in_front(tmp_path: Path, kept: float) -> None:
    """The container opens and announces all frames: fewer decode, and none may be made up."""
    path = _fast_start(tmp_path)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert media.read_video(path).shape[0] == 6
    path.write_bytes(content[: int(len(content) * kept)])
    _refused(tmp_path, lambda: media.read_video(path), path.name, "truncated or damaged")


def test_mp4_cut_between_two_frames(tmp_path: Path) -> None:
    """Every frame that is there is whole; only the count in the index tells that some are missing."""
    path = _fast_start(tmp_path)
    with av.open(str(path)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: ends[2]])
    _refused(tmp_path, lambda: media.read_video(path), path.name, "3 of 6 frames")


def test_mp4_with_a_zeroed_frame(tmp_path: Path) -> None:
    path = _fast_start(tmp_path)
    content = bytearray(path.read_bytes())
    middle = (content.index(b"mdat") + len(content)) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(bytes(content))
    _refused(tmp_path, lambda: media.read_video(path), path.name, "truncated or damaged")


def _fast_start(folder: Path) -> Path:
    source = io.BytesIO(_sample(folder, ".mp4").read_bytes())
    path = folder / "front.mp4"
    with av.open(source) as reader, av.open(str(path), "w", options={"movflags": "faststart"}) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    return path


def test_mp4_without_moov(tmp_path: Path) -> None:
    path = _sample(tmp_path, ".mp4")
    path.write_bytes(path.read_bytes().replace(b"moov", b"xxxx"))
    _refused(tmp_path, lambda: media.read_video(path), "sample.mp4", "not a complete video")


@pytest.mark.parametrize("suffix", [".exr", ".hdr", ".png", ".jpg"])
def test_random_damage_never_crashes(tmp_path: Path, suffix: str) -> None:
    """Each damaged file is either still an image of that size or a GonioError; never another exception."""
    path = _sample(tmp_path, suffix)
    content = path.read_bytes()
    random = np.random.default_rng(11)
    for trial in range(40):
        damaged = bytearray(content)
        for place in random.integers(0, len(content) if trial % 2 else 400, 4):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            media.read_color(path)
        except GonioError as error:
            assert path.name in str(error) and "\n" not in str(error)


# ---------------------------------------------------------------- hostile headers


def _png(width: int, height: int, idat: bytes = b"", extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", idat or zlib.compress(b"\0")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _exr(window: tuple[int, int, int, int]) -> bytes:
    buffer = io.BytesIO()
    OpenEXR.File({}, {"Y": np.ones((8, 8), np.float32)}).write(buffer)
    content = bytearray(buffer.getvalue())
    start = content.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    content[start : start + 16] = struct.pack("<4i", *window)
    return bytes(content)


HOSTILE: dict[str, bytes] = {
    "huge.png": _png(50000, 50000),
    "wide.png": _png(20000, 2),
    "max.png": _png(2**31 - 1, 2**31 - 1),
    "pixels.png": _png(16000, 16000),
    "zero.png": _png(0, 10),
    "huge.exr": _exr((0, 0, 49999, 49999)),
    "max.exr": _exr((-(2**31), -(2**31), 2**31 - 1, 2**31 - 1)),
    "inverted.exr": _exr((5, 5, 0, 0)),
    "long.exr": _exr((0, 0, 7, 2**30)),
    "huge.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 50000 +X 50000\n" + bytes(100),
    "max.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 999999999 +X 999999999\n" + bytes(100),
    "zero.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 0 +X 8\n" + bytes(100),
    "mirrored.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n+Y 8 +X 8\n" + bytes(400),
    "xyz.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_xyze\n\n-Y 8 +X 8\n" + bytes(400),
    "cut.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 8",
    "text.png": b"this is not an image\n" * 20,
    "text.exr": b"this is not an image\n" * 20,
    "text.hdr": b"this is not an image\n" * 20,
    "empty.png": b"",
    "empty.exr": b"",
    "page.svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_before_allocation(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    _refused(tmp_path, lambda: media.read_color(path), name)
    _refused(tmp_path, lambda: media.read_data(path, 1), name)
    _refused(tmp_path, lambda: media.image_size(path), name)
    assert time.perf_counter() - start < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 64 * 1024, "KiB"


def test_limits_hold_at_their_edge(tmp_path: Path) -> None:
    path = tmp_path / "edge.png"
    path.write_bytes(_png(media.MAX_SIDE, 1, zlib.compress(bytes(1 + 3 * media.MAX_SIDE))))
    assert media.read_color(path).shape == (1, media.MAX_SIDE, 3)
    path.write_bytes(_png(media.MAX_SIDE + 1, 1, zlib.compress(bytes(4 + 3 * media.MAX_SIDE))))
    _refused(tmp_path, lambda: media.read_color(path), "edge.png", "scale it down")


def test_exr_with_too_many_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media.write_exr(tmp_path / "many.exr", {f"c{i}": torch.zeros(4, 4) for i in range(5)})
    monkeypatch.setattr("gonio.media.exr.MAX_EXR_SAMPLES", 79)
    _refused(tmp_path, lambda: media.read_exr(tmp_path / "many.exr"), "many.exr", "drop channels")


def test_video_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _sample(tmp_path, ".mp4")
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(6):
        media.write_image(frames / f"{index}.png", _noise(64, 64, 3))
    for limit, value, words in (
        ("MAX_FRAMES", 5, "the limit is 5"),
        ("MAX_CLIP_BYTES", 6 * 64 * 64 * 12 - 1, "cut it or scale it down"),
        ("MAX_FRAME_PIXELS", 4095, "64x64 pixels"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"gonio.media.video.{limit}", value)
            _refused(tmp_path, lambda: media.read_video(path), "sample.mp4", words)
            _refused(tmp_path, lambda: media.read_video(frames), "frames", words)
    assert media.read_video(path).shape == (6, 64, 64, 3)


# ---------------------------------------------------------------- wrong things in the right place


def test_missing_folder_and_device_as_files(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for reader in (
        media.read_color,
        media.image_size,
        media.read_exr,
        media.read_json,
        lambda path: media.read_data(path, 3),
    ):
        _refused(
            tmp_path, lambda reader=reader: reader(tmp_path / "absent.png"), "absent.png", "does not exist"
        )
        _refused(tmp_path, lambda reader=reader: reader(tmp_path / "folder.png"), "folder.png", "is a folder")
    _refused(tmp_path, lambda: media.read_color("/dev/zero"), "/dev/zero", "not a regular file")
    _refused(tmp_path, lambda: media.read_video(tmp_path / "absent.mp4"), "absent.mp4", "does not exist")
    _refused(tmp_path, lambda: media.read_color(tmp_path / "a\nb.png"), "a?b.png")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("reader", [media.read_color, lambda path: media.read_data(path, 3)])
def test_nan_in_exr_colour_is_counted(tmp_path: Path, bad: float, reader: Callable[[Path], object]) -> None:
    values = _noise(6, 7, 3)
    values[0, 0] = values[2, 3, 1] = bad
    media.write_exr(tmp_path / "a.exr", dict(zip("RGB", values.unbind(-1), strict=True)))
    _refused(tmp_path, lambda: reader(tmp_path / "a.exr"), "a.exr", "2 of 42 pixels")


def test_images_of_types_that_would_lose_their_meaning(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    _refused(tmp_path, lambda: media.read_color(tmp_path / "float.tif"), "float.tif", "pixel type F")
    Image.fromarray(np.ones((4, 4), np.int32)).save(tmp_path / "int.tif")
    _refused(tmp_path, lambda: media.read_data(tmp_path / "int.tif", 1), "int.tif", "pixel type I")
    chromaticities = (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767)  # ACEScg
    pixels = {name: np.ones((4, 4), np.float32) for name in "RGB"}
    OpenEXR.File({"chromaticities": chromaticities}, pixels).write(str(tmp_path / "aces.exr"))
    _refused(tmp_path, lambda: media.read_color(tmp_path / "aces.exr"), "aces.exr", "Rec.709")


def test_multi_part_exr_of_different_sizes(tmp_path: Path) -> None:
    def part(name: str, rows: int) -> OpenEXR.Part:
        data = (np.zeros(2, np.int32), np.array([3, rows - 1], np.int32))
        display = (np.zeros(2, np.int32), np.array([3, 7], np.int32))
        pixels = {"Y": np.ones((rows, 4), np.float32)}
        return OpenEXR.Part({"name": name, "dataWindow": data, "displayWindow": display}, pixels)

    parts = [part("one", 4), part("two", 5)]
    OpenEXR.File(parts).write(str(tmp_path / "parts.exr"))
    _refused(tmp_path, lambda: media.read_exr(tmp_path / "parts.exr"), "parts.exr", "different sizes")


def test_damaged_colour_profile(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", icc_profile=b"no profile at all")
    _refused(tmp_path, lambda: media.read_color(tmp_path / "a.png"), "a.png", "colour profile")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("text.mp4", b"no video\n" * 50, "not a complete video"),
        ("picture.mp4", _png(1, 1, zlib.compress(bytes(4))), "not a complete video"),
        (
            "list.mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/hostname\n",
            "not a complete video",
        ),
        ("concat.mp4", b"ffconcat version 1.0\nfile /etc/hostname\n", "not a complete video"),
        ("empty.mp4", b"", "is empty"),
    ],
)
def test_not_a_video(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    _refused(tmp_path, lambda: media.read_video(tmp_path / name), name, words)


def test_video_without_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    _refused(tmp_path, lambda: media.read_video(path), "sound.mp4", "no picture")


def test_frame_folders(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    _refused(tmp_path, lambda: media.read_video(folder), "frames", "holds no frames")
    (folder / "notes.txt").write_text("no frame")
    _refused(tmp_path, lambda: media.read_video(folder), "frames", "holds no frames")
    for index, width in enumerate((8, 8, 9, 10)):
        media.write_image(folder / f"frame_{index}.png", _noise(6, width, 3))
    message = _refused(tmp_path, lambda: media.read_video(folder), "frame_2.png", "make all frames equal")
    assert "frame_3" not in message, "the first offender is named"
    (folder / "frame_2.png").write_bytes(b"oops")
    _refused(tmp_path, lambda: media.read_video(folder), "frame_2.png", "not an image")
    media.write_image(folder / "frame_4.jpg", _noise(6, 8, 3))
    _refused(tmp_path, lambda: media.read_video(folder), "frames", "keep one kind")


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"a": 1,}',
        b"\xff\xfe{}",
        b'{"a": NaN}',
        b"[" * 200000,
        b'{"a": ' + b"9" * 6000 + b"}",
        b"\x00" * 64,
    ],
)
def test_malformed_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    _refused(tmp_path, lambda: media.read_json(tmp_path / "a.json"), "a.json", "not valid JSON")


def test_huge_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps("x" * 2000))
    _refused(tmp_path, lambda: media.read_json(tmp_path / "a.json", 1000), "a.json", "the limit is 1000")


# ---------------------------------------------------------------- materials


def _maps(folder: Path, **maps: torch.Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in ({"basecolor": torch.full((8, 8, 3), 0.5)} | maps).items():
        media.write_data_png(folder / f"{name}.png", data)
    return folder


def _no_basecolor(folder: Path) -> None:
    (folder / "basecolor.png").unlink()


def _damaged_basecolor(folder: Path) -> None:
    (folder / "basecolor.png").write_bytes((folder / "basecolor.png").read_bytes()[:48])


def _nan_height(folder: Path) -> None:
    media.write_exr(folder / "height.exr", {"Y": torch.full((8, 8), math.nan)})


def _large_height(folder: Path) -> None:
    media.write_exr(folder / "height.exr", {"Y": torch.full((8, 8), 20.0)})


def _two_roughness_maps(folder: Path) -> None:
    for suffix in ("1k", "2k"):
        media.write_data_png(folder / f"brick_rough_{suffix}.png", torch.full((8, 8), 0.5))


def _metadata(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "metadata.json").write_text(text) and None


def _map(name: str, data: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: media.write_data_png(folder / f"{name}.png", data)


def _map_folder(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).mkdir()


MATERIALS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "no basecolor": (_no_basecolor, "bricks", "base_color, "),
    "damaged basecolor": (_damaged_basecolor, "basecolor.png", "truncated or damaged"),
    "wrong aspect": (_map("roughness", torch.full((8, 16), 0.5)), "roughness.png", "one aspect ratio"),
    "NaN height": (_nan_height, "height.exr", "64 of 64 pixels"),
    "height in metres": (_large_height, "height.exr", "scale them to [0, 1]"),
    "two roughness maps": (_two_roughness_maps, "brick_rough_1k.png", "keep one"),
    "grey normal": (_map("normal", torch.full((8, 8), 0.5)), "normal.png", "does not point up"),
    "a folder as a map": (_map_folder("metallic.png"), "metallic.png", "is a folder"),
    "malformed metadata": (_metadata("{oops"), "metadata.json", "not valid JSON"),
    "metadata list": (_metadata("[1, 2]"), "metadata.json", "no JSON object"),
    "huge metadata": (_metadata(json.dumps("x" * 2**21)), "metadata.json", "the limit is"),
    "NaN height factor": (_metadata('{"height_factor": NaN}'), "metadata.json", "NaN"),
    "metadata folder": (_map_folder("metadata.json"), "metadata.json", "is a folder"),
}


@pytest.mark.parametrize("case", MATERIALS)
def test_bad_materials(tmp_path: Path, case: str) -> None:
    damage, named, words = MATERIALS[case]
    folder = _maps(tmp_path / "bricks")
    damage(folder)
    _refused(tmp_path, lambda: load_material_maps(folder), named, words)


@pytest.mark.parametrize("value", ['"high"', "1e999", "true", "[1]"])
@pytest.mark.parametrize(
    "key", ["height_factor", "height_mean", "height_scale_tile_widths", "physical_size_m"]
)
def test_bad_numbers_in_metadata(tmp_path: Path, key: str, value: str) -> None:
    folder = _maps(tmp_path / "bricks", height=torch.full((8, 8), 0.5))
    (folder / "metadata.json").write_text(f'{{"{key}": {value}}}')
    _refused(tmp_path, lambda: load_material_maps(folder), "metadata.json", key)


@pytest.mark.parametrize("value", ["0", "-1.5"])
def test_a_physical_size_that_is_not_positive(tmp_path: Path, value: str) -> None:
    folder = _maps(tmp_path / "bricks")
    (folder / "metadata.json").write_text(f'{{"physical_size_m": {value}}}')
    _refused(tmp_path, lambda: load_material_maps(folder), "metadata.json", "physical_size_m")


def test_material_folder_that_is_none(tmp_path: Path) -> None:
    _refused(tmp_path, lambda: load_material_maps(tmp_path / "absent"), "absent", "does not exist")
    (tmp_path / "file").write_text("x")
    _refused(tmp_path, lambda: load_material_maps(tmp_path / "file"), "file", "not a folder")
    (tmp_path / "empty").mkdir()
    _refused(tmp_path, lambda: load_material_maps(tmp_path / "empty"), "empty", "no base colour map")


# ---------------------------------------------------------------- output


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.png": lambda path: media.write_image(path, _noise(8, 8, 3)),
    "a.jpg": lambda path: media.write_image(path, _noise(8, 8, 3)),
    "a.exr": lambda path: media.write_image(path, _noise(8, 8, 3)),
    "a.hdr": lambda path: media.write_image(path, _noise(8, 8, 3)),
    "d.png": lambda path: media.write_data_png(path, _noise(8, 8, 3), 16),
    "a.mp4": lambda path: media.write_video(path, _noise(2, 16, 16, 3)),
    "a.json": lambda path: media.write_json(path, {"a": 1}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_unwritable_outputs(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / name).mkdir()
    write = WRITERS[name]
    _refused(tmp_path, lambda: write(tmp_path / "file" / name), name, "is a file, not a folder")
    _refused(tmp_path, lambda: write(tmp_path / "file" / "deep" / name), name, "is a file, not a folder")
    _refused(tmp_path, lambda: write(tmp_path / name), name, "it is a folder")
    _refused(tmp_path, lambda: write(Path("/proc") / "gonio" / name), f"/proc/gonio/{name}", "cannot")
    _refused(tmp_path, lambda: write(tmp_path / ("x" * 300 + name)), name, "the name is too long")


def test_devices_are_not_replaced(tmp_path: Path) -> None:
    _refused(tmp_path, lambda: media.write_json("/dev/full", {}), "/dev/full", "it is a device")
    assert Path("/dev/full").is_char_device()


def test_unwritable_material_folder(tmp_path: Path) -> None:
    material = load_material_maps(_maps(tmp_path / "input"))
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/gonio/out")):
        _refused(tmp_path, lambda path=path: save_material_maps(material, path), str(path))


def test_unknown_suffix_and_bad_values(tmp_path: Path) -> None:
    _refused(
        tmp_path, lambda: media.write_image(tmp_path / "a.gif", _noise(4, 4, 3)), "a.gif", "name it .png"
    )
    bad = torch.full((4, 4, 3), math.nan)
    for name in ("a.png", "a.exr", "a.hdr"):
        _refused(tmp_path, lambda name=name: media.write_image(tmp_path / name, bad), name, "16 of 16 pixels")
    _refused(tmp_path, lambda: media.write_data_png(tmp_path / "d.png", bad), "d.png", "NaN")
    _refused(tmp_path, lambda: media.write_video(tmp_path / "a.mp4", bad[None]), "a.mp4", "NaN")


FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
import torch
from gonio import media
from gonio.errors import GonioError
from gonio.pbr import load_material_maps, save_material_maps

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
material = load_material_maps(folder / "input")
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
noise = torch.rand(64, 64, 3)
cases = {
    "a.png": lambda path: media.write_image(path, noise),
    "a.jpg": lambda path: media.write_image(path, noise),
    "a.exr": lambda path: media.write_exr(path, {"Y": noise[..., 0]}),
    "a.hdr": lambda path: media.write_image(path, noise),
    "a.mp4": lambda path: media.write_video(path, noise[None]),
    "d.png": lambda path: media.write_data_png(path, noise, 16),
    "a.json": lambda path: media.write_json(path, list(range(1000))),
    "material": lambda path: save_material_maps(material, path),
}
messages = {}
for name, write in cases.items():
    try:
        write(folder / "out" / name)
        messages[name] = "no error"
    except GonioError as error:
        messages[name] = str(error)
print(json.dumps(messages))
"""


def test_full_disk(tmp_path: Path) -> None:
    """A file-size limit makes every write fail half-way, as a full disk does; what stood there stays."""
    _maps(tmp_path / "input", basecolor=_noise(32, 32, 3))
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_text("before")
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    messages = json.loads(result.stdout)
    assert len(messages) == 8
    for name, message in messages.items():
        assert str(out / name) in message and "size limit" in message and "\n" not in message, message
        assert ".tmp" not in message
    assert _tree(out) == ["a.png"] and (out / "a.png").read_text() == "before"
