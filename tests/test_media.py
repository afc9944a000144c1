"""Images, EXR, HDR, video and JSON: what is written is what is read, and each format means what it should."""

from __future__ import annotations

import io
import json
import math
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from gonio import media
from gonio.color import linear_from_srgb, srgb_from_linear
from gonio.errors import GonioError


def _noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7))


def _bytes(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


# ---------------------------------------------------------------- colour images


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [("png", 0.5 / 255 * 2.3), ("exr", 2.0**-11), ("hdr", 1 / 256)],
)
def test_linear_images_round_trip(tmp_path: Path, suffix: str, tolerance: float) -> None:
    linear = _noise(19, 31, 3)
    media.write_image(tmp_path / f"a.{suffix}", linear)
    back = media.read_color(tmp_path / f"a.{suffix}")
    assert back.shape == linear.shape and back.dtype == torch.float32
    assert float((back - linear).abs().max()) <= tolerance
    assert abs(float((back - linear).mean())) < 2e-4, "rounded, not truncated"
    assert media.image_size(tmp_path / f"a.{suffix}") == (19, 31)


def test_jpeg_keeps_smooth_colour(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 64).reshape(1, 64, 1).expand(48, 64, 3) * torch.tensor([1.0, 0.5, 0.2])
    media.write_image(tmp_path / "a.jpg", ramp)
    difference = srgb_from_linear(media.read_color(tmp_path / "a.jpg")) - srgb_from_linear(ramp)
    assert float(difference.abs().max()) < 4 / 255


def test_hdr_keeps_a_sun_and_exr_does_not_turn_it_into_infinity(tmp_path: Path) -> None:
    linear = torch.full((4, 8, 3), 0.25)
    linear[1, 2] = 2.0e5
    for name in ("sun.hdr", "sun.exr"):
        media.write_image(tmp_path / name, linear)
        assert torch.allclose(media.read_color(tmp_path / name), linear, rtol=1 / 256)


def test_8_bit_png_is_srgb_decoded_and_data_is_not(tmp_path: Path) -> None:
    pixels = _bytes(9, 11, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    raw = torch.from_numpy(pixels).float() / 255
    assert torch.allclose(media.read_color(tmp_path / "a.png"), linear_from_srgb(raw), atol=1e-6)
    assert torch.allclose(media.read_data(tmp_path / "a.png", 3), raw, atol=1e-7)
    assert torch.allclose(media.read_data(tmp_path / "a.png", 1), raw[..., :1], atol=1e-7)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("shape", [(13, 17), (13, 17, 3)])
def test_data_png_round_trip(tmp_path: Path, bits: int, shape: tuple[int, ...]) -> None:
    data = _noise(*shape)
    media.write_data_png(tmp_path / "a.png", data, bits)
    back = media.read_data(tmp_path / "a.png", 3 if len(shape) == 3 else 1)
    back = back if len(shape) == 3 else back[..., 0]
    assert float((back - data).abs().max()) <= 0.501 / (2**bits - 1)


def test_our_16_bit_rgb_png_is_what_another_reader_expects(tmp_path: Path) -> None:
    media.write_data_png(tmp_path / "a.png", torch.tensor([[[0.25, 0.5, 0.75]]]), 16)
    assert (tmp_path / "a.png").read_bytes()[24:26] == b"\x10\x02", "IHDR says 16 bits, colour"
    with Image.open(tmp_path / "a.png") as image:  # Pillow keeps the high byte
        assert np.asarray(image)[0, 0].tolist() == [64, 128, 191]


def test_16_bit_colour_png_is_decoded_at_16_bits(tmp_path: Path) -> None:
    data = torch.tensor([[[1000, 30000, 65000]]]) / 65535
    media.write_data_png(tmp_path / "a.png", data, 16)
    assert torch.allclose(media.read_color(tmp_path / "a.png"), linear_from_srgb(data), atol=1e-6)


@pytest.mark.parametrize(
    ("pixel_format", "channels"), [("rgba64be", 4), ("ya16be", 2), ("gray16be", 1), ("rgb48be", 3)]
)
def test_16_bit_png_layouts(tmp_path: Path, pixel_format: str, channels: int) -> None:
    values = np.random.default_rng(3).integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    frame = av.VideoFrame(7, 5, pixel_format)
    plane = frame.planes[0]
    rows = np.zeros((5, plane.line_size // 2), dtype=">u2")
    rows[:, : 7 * channels] = values.reshape(5, -1)
    plane.update(rows.tobytes())
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 7, 5, pixel_format
    encoder.time_base = Fraction(1, 1)
    (tmp_path / "a.png").write_bytes(b"".join(map(bytes, [*encoder.encode(frame), *encoder.encode(None)])))
    expected = torch.from_numpy(values.astype(np.float32)) / 65535
    expected = expected[..., :3] if channels >= 3 else expected[..., :1].expand(-1, -1, 3)
    assert torch.allclose(media.read_data(tmp_path / "a.png", 3), expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_modes_give_the_colour_a_viewer_shows(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(_bytes(6, 5, 3)).convert("RGB")
    image = source.convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else source.convert(mode)
    image.save(tmp_path / "a.png")
    shown = torch.from_numpy(np.array(image.convert("RGB"))).float() / 255
    assert torch.allclose(media.read_color(tmp_path / "a.png"), linear_from_srgb(shown), atol=1e-6)
    assert torch.allclose(media.read_data(tmp_path / "a.png", 1), shown[..., :1], atol=1e-6)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    ink = np.zeros((16, 16, 4), dtype=np.uint8)
    ink[..., 1] = ink[..., 2] = 255  # magenta and yellow make red
    Image.fromarray(ink, mode="CMYK").save(tmp_path / "a.jpg", quality=100)
    assert torch.allclose(media.read_color(tmp_path / "a.jpg")[8, 8], torch.tensor([1.0, 0, 0]), atol=0.02)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    image = Image.fromarray(_bytes(4, 6, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif)
    with Image.open(path) as again:
        upright = np.array(ImageOps.exif_transpose(again))
    assert torch.allclose(media.read_data(path, 3), torch.from_numpy(upright).float() / 255, atol=1e-6)
    assert media.image_size(path) == upright.shape[:2]


def test_a_wide_gamut_photo_is_converted_to_srgb(tmp_path: Path) -> None:
    """In a profile with exchanged primaries (red and blue), pure red must come out blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = bytearray(profile)
    table: dict[bytes, int] = {}
    for i in range(int.from_bytes(swapped[128:132], "big")):
        entry = 132 + 12 * i
        table[bytes(swapped[entry : entry + 4])] = entry
    red, blue = table[b"rXYZ"], table[b"bXYZ"]
    swapped[red + 4 : red + 12], swapped[blue + 4 : blue + 12] = (
        swapped[blue + 4 : blue + 12],
        swapped[red + 4 : red + 12],
    )
    description = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(bytes(swapped))))
    plain = bytes(swapped).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    assert "sRGB" in description and plain != bytes(swapped)
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "a.png", icc_profile=plain)
    assert torch.allclose(media.read_color(tmp_path / "a.png")[0, 0], torch.tensor([0, 0, 1.0]), atol=0.02)
    assert torch.equal(media.read_data(tmp_path / "a.png", 3)[0, 0], torch.tensor([1.0, 0, 0]))


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    linear = _noise(4, 5, 3) + 2
    media.write_image(tmp_path / "a.exr", linear)
    os.rename(tmp_path / "a.exr", tmp_path / "a.png")
    assert torch.allclose(media.read_color(tmp_path / "a.png"), linear, rtol=1e-3)


# ---------------------------------------------------------------- EXR


def test_exr_channels_round_trip(tmp_path: Path) -> None:
    channels = {"R": _noise(6, 9), "normal.X": _noise(6, 9) * 2 - 1, "depth.Z": torch.full((6, 9), math.inf)}
    media.write_exr(tmp_path / "a.exr", channels, half=False, metadata={"note": "föö"})
    back = media.read_exr(tmp_path / "a.exr")
    assert back.keys() == channels.keys()
    assert all(torch.equal(back[name], channels[name]) for name in channels)
    assert media.read_exr_metadata(tmp_path / "a.exr") == {"note": "föö"}
    media.write_exr(tmp_path / "b.exr", {"R": channels["R"]})
    assert torch.equal(media.read_exr(tmp_path / "b.exr")["R"], channels["R"].half().float())


def test_exr_channel_choice(tmp_path: Path) -> None:
    grey, layer = _noise(3, 4), {f"beauty.{letter}": _noise(3, 4) + i for i, letter in enumerate("RGB")}
    media.write_exr(tmp_path / "grey.exr", {"Y": grey}, half=False)
    assert torch.equal(media.read_color(tmp_path / "grey.exr")[..., 2], grey)
    assert torch.equal(media.read_data(tmp_path / "grey.exr", 1)[..., 0], grey)
    media.write_exr(tmp_path / "layer.exr", layer | {"depth.Z": grey}, half=False)
    assert torch.equal(media.read_color(tmp_path / "layer.exr"), torch.stack(list(layer.values()), -1))
    media.write_exr(tmp_path / "two.exr", layer | {f"other.{c}": grey for c in "RGB"})
    with pytest.raises(GonioError, match="two.exr has the channels beauty.B"):
        media.read_color(tmp_path / "two.exr")


def test_exr_with_an_offset_data_window_and_in_tiles(tmp_path: Path) -> None:
    import OpenEXR

    values = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    window = (np.array([-3, 5], dtype=np.int32), np.array([46, 44], dtype=np.int32))
    header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.PIZ_COMPRESSION, "dataWindow": window}
    OpenEXR.File(header, {"Y": values}).write(str(tmp_path / "window.exr"))
    tiles = {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
    OpenEXR.File(tiles, {"Y": values}).write(str(tmp_path / "tiles.exr"))
    for name in ("window.exr", "tiles.exr"):
        assert torch.equal(media.read_exr(tmp_path / name)["Y"], torch.from_numpy(values))


# ---------------------------------------------------------------- video


def _smooth_clip(frames: int, height: int, width: int) -> Tensor:
    coarse = _noise(frames, 3, 3, 3)
    clip = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return clip.permute(0, 2, 3, 1)


def test_video_round_trip_is_faithful(tmp_path: Path) -> None:
    clip = _smooth_clip(7, 48, 64)
    media.write_video(tmp_path / "a.mp4", clip, fps=24)
    back = media.read_video(tmp_path / "a.mp4")
    assert back.shape == clip.shape and back.dtype == torch.float32
    assert float((back - clip).square().mean()) < 10 ** (-40 / 10)
    assert float((back - clip).mean(dim=(0, 1, 2)).abs().max()) < 1 / 255, "right colour matrix and range"
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 24 and stream.codec_context.pix_fmt == "yuv420p"
        assert int(stream.codec_context.colorspace) == 1


@pytest.mark.parametrize("color", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.1, 0.2, 0.9), (1.0, 1.0, 1.0)])
def test_video_colours(tmp_path: Path, color: tuple[float, ...]) -> None:
    media.write_video(tmp_path / "a.mp4", torch.tensor(color).expand(2, 32, 32, 3))
    back = media.read_video(tmp_path / "a.mp4")
    assert float((back - torch.tensor(color)).abs().max()) < 3 / 255


def test_video_of_odd_size_grows_by_a_repeated_edge(tmp_path: Path) -> None:
    clip = _smooth_clip(3, 33, 41)
    media.write_video(tmp_path / "a.mp4", clip)
    back = media.read_video(tmp_path / "a.mp4")
    assert back.shape == (3, 34, 42, 3)
    assert float((back[:, :33, :41] - clip).abs().mean()) < 0.01
    assert float((back[:, 33, :41] - clip[:, 32]).abs().mean()) < 0.02


def _turned_container(path: Path, degrees: int) -> None:
    """Remux with a display matrix that turns the picture counter-clockwise."""
    content = io.BytesIO(path.read_bytes())
    with av.open(content) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(degrees)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_video_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    clip = _smooth_clip(3, 32, 48)
    media.write_video(tmp_path / "a.mp4", clip)
    _turned_container(tmp_path / "a.mp4", degrees)
    back = media.read_video(tmp_path / "a.mp4")
    expected = torch.rot90(clip, degrees // 90, dims=(1, 2))
    assert back.shape == expected.shape
    assert float((back - expected).abs().mean()) < 0.01


def test_frame_folder_is_sorted_naturally(tmp_path: Path) -> None:
    for index in (10, 2, 1, 0):
        media.write_data_png(tmp_path / f"frame_{index}.png", torch.full((3, 4, 3), index / 10))
    (tmp_path / "material_video.json").write_text("{}")
    clip = media.read_video(tmp_path)
    assert clip[:, 0, 0, 0].tolist() == pytest.approx([0, 0.1, 0.2, 1.0], abs=0.002)


def test_exr_frames_are_display_encoded(tmp_path: Path) -> None:
    media.write_image(tmp_path / "0.exr", torch.full((3, 4, 3), 0.5))
    assert torch.allclose(media.read_video(tmp_path), srgb_from_linear(torch.tensor(0.5)), atol=1e-3)


def test_real_videos_and_environments(data_root: Path) -> None:
    assert media.read_video(data_root / "videos" / "opensfm_lund_street.mp4").shape == (29, 600, 800, 3)
    environment = media.read_color(sorted((data_root / "hdris").glob("*.hdr"))[0])
    assert environment.shape == (512, 1024, 3) and float(environment.min()) >= 0


# ---------------------------------------------------------------- documents and output


def test_json_round_trip_without_nan(tmp_path: Path) -> None:
    content = {
        "loss": math.nan,
        "row": [1, math.inf, 2.5],
        "t": torch.tensor([1.0, 2.0]),
        "p": Path("a"),
        3: "é",
    }
    media.write_json(tmp_path / "a.json", content)
    json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert media.read_json(tmp_path / "a.json") == {
        "loss": None,
        "row": [1, None, 2.5],
        "t": [1.0, 2.0],
        "p": "a",
        "3": "é",
    }


def test_atomic_path_replaces_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with media.atomic_path(target) as temporary:
        temporary.write_text("one")
        assert temporary.suffix == ".txt" and not target.exists()
    with pytest.raises(ZeroDivisionError), media.atomic_path(target) as temporary:
        temporary.write_text("two")
        raise ZeroDivisionError
    assert target.read_text() == "one"
    assert [item.name for item in target.parent.iterdir()] == ["a.txt"]


def test_atomic_path_leaves_foreign_errors_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), media.atomic_path(tmp_path / "a.txt"):
        (tmp_path / "input").read_text()


def test_atomic_folder_keeps_other_files(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for text in ("one", "two"):
        with media.atomic_folder(target) as temporary:
            (temporary / "a.txt").write_text(text)
            (temporary / "sub").mkdir()
            (temporary / "sub" / "b.txt").write_text(text)
        (target / "mine.txt").write_text("kept")
    with pytest.raises(ZeroDivisionError), media.atomic_folder(target) as temporary:
        (temporary / "a.txt").write_text("three")
        raise ZeroDivisionError
    assert (target / "a.txt").read_text() == (target / "sub" / "b.txt").read_text() == "two"
    assert sorted(item.name for item in target.iterdir()) == ["a.txt", "mine.txt", "sub"]
    assert [item.name for item in tmp_path.iterdir()] == ["out"]
