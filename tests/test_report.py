"""The report: one file, complete, safe and within its size."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from gonio import report as module
from gonio.errors import GonioError
from gonio.report import Comparison, Report, render_report, write_report


class Page(HTMLParser):
    """Collects the elements with their attributes, and checks that they are closed in order."""

    VOID = {"meta", "img", "input"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def picture(seed: int = 0, size: int = 32) -> torch.Tensor:
    return torch.rand(size, size, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def full(tmp_path) -> Report:
    (tmp_path / "in.mp4").write_bytes(b"input video")
    (tmp_path / "turn.mp4").write_bytes(b"turntable video")
    return Report(
        title="Green <moss> & stone",
        facts={"Prompt": 'a "green" moss', "Licence": "CC0", "Views": "17"},
        video=tmp_path / "in.mp4",
        images={"T_rgb": picture(1), "Offset U": picture(2)},
        comparisons=[
            Comparison(label="Camera 3, light 5", truth=picture(3), estimate=picture(4), error=picture(5)),
            Comparison(label="Camera 8, light 1", truth=picture(6), estimate=picture(7)),
        ],
        turntable=tmp_path / "turn.mp4",
        metrics={"psnr": 31.416, "flip": 0.05, "lpips": None, "custom": 2.0},
        notes={"lpips": "no weights on disk"},
    )


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.split("base64,", 1)[1])


def test_the_page_refers_to_nothing_outside_itself(full):
    text = render_report(full)
    page = Page(text)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "poster", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"https?:|@import|url\(|fetch\(|import\(", text)
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policies and "default-src 'none'" in (policies[0] or "")


def test_pictures_and_videos_are_inside_unchanged(full):
    page = Page(render_report(full))
    videos = [decoded(video["src"] or "") for video in page.all("video")]
    assert videos == [b"input video", b"turntable video"]
    assert all({"loop", "muted", "autoplay", "playsinline"} <= video.keys() for video in page.all("video"))
    images = page.all("img")
    assert len(images) == 2 + 3 + 2
    first = Image.open(io.BytesIO(decoded(images[0]["src"] or ""))).convert("RGB")
    stored = torch.tensor(list(first.tobytes())).reshape(32, 32, 3) / 255
    assert (stored - picture(1)).abs().max() <= 0.5 / 255 + 1e-6


def test_sections_come_in_the_readers_order(full):
    text = render_report(full)
    order = [
        "<h1>", "<dl", 'id="input"', 'id="textures"', 'id="unseen"', 'id="turntable"', 'id="metrics"'
    ]  # fmt: skip
    places = [text.index(mark) for mark in order]
    assert places == sorted(places)


def test_an_empty_report_has_no_empty_sections():
    page = Page(render_report(Report(title="Nothing yet")))
    assert page.all("section") == page.all("img") == page.all("video") == page.all("table") == []


def test_text_is_escaped(full):
    text = render_report(full)
    assert "Green &lt;moss&gt; &amp; stone" in text and "<moss>" not in text
    sneaky = Report(title="<script>alert(1)</script>", facts={"<b>": "<img src=x onerror=alert(1)>"})
    assert len(Page(render_report(sneaky)).all("script")) == 1
    assert Page(render_report(sneaky)).all("img") == []


def test_everything_has_a_name_for_those_who_do_not_see_it(full):
    page = Page(render_report(full))
    assert all(image.get("alt") for image in page.all("img"))
    assert all(video.get("aria-label") for video in page.all("video"))
    sliders = page.all("input")
    assert len(sliders) == 2
    assert all(slider["type"] == "range" and slider.get("aria-label") for slider in sliders)
    assert page.all("html")[0]["lang"] == "en"


def test_metrics_are_shown_or_explained(full):
    text = render_report(full)
    assert "31.42" in text and "higher is better" in text
    assert "not measured" in text and "no weights on disk" in text
    assert "nan" not in render_report(Report(title="x", metrics={"psnr": float("nan")})).lower()


def test_light_and_dark_and_still(full):
    text = render_report(full)
    assert "prefers-color-scheme: dark" in text and "prefers-reduced-motion" in text


def test_large_pictures_are_shrunk_and_compressed():
    big = Report(title="big", images={"noise": picture(0, 1500)})
    uri = Page(render_report(big)).all("img")[0]["src"] or ""
    assert uri.startswith("data:image/jpeg")
    assert max(Image.open(io.BytesIO(decoded(uri))).size) == module.MAX_SIDE


def test_writing_is_one_file_beside_nothing(full, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_report(folder / "report.html", full)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    assert (folder / "report.html").read_text("utf-8") == render_report(full)


def test_too_large_a_report_is_refused_and_not_written(full, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 20_000)
    with pytest.raises(GonioError, match="fewer comparisons"):
        write_report(tmp_path / "report.html", full)
    (tmp_path / "in.mp4").write_bytes(bytes(20_000))
    with pytest.raises(GonioError, match="in.mp4.*shorten"):
        write_report(tmp_path / "report.html", full)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "broken, cure",
    [
        (lambda folder: Report(title="x", video=folder / "none.mp4"), "none.mp4"),
        (lambda folder: Report(title="x", images={"flat": torch.zeros(4, 4)}), "flat"),
        (
            lambda folder: Report(
                title="x", comparisons=[Comparison(label="pair", truth=picture(0, 8), estimate=picture(0, 9))]
            ),
            "pair",
        ),
    ],
)
def test_wrong_input_is_a_one_line_error(broken, cure, tmp_path):
    with pytest.raises(GonioError, match=cure) as error:
        write_report(tmp_path / "report.html", broken(tmp_path))
    assert "\n" not in str(error.value)
