"""The command line: help, exit codes, one-line errors, and small real runs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gonio import media
from gonio.cli import main, one_line
from gonio.data.procedural import sample_material
from gonio.evaluate.metrics import MAPE_CLIP, MAPE_EPSILON
from gonio.material_file import load_material, save_material
from gonio.neural_material import Decoder, MaterialSpec, NeuralMaterial
from gonio.pbr import save_material_maps
from gonio.reconstruct import optimize

COMMANDS = [
    "demo",
    "generate",
    "scan",
    "reconstruct",
    "render",
    "evaluate",
    "evaluate reconstruction",
    "evaluate video",
    "evaluate ablations",
    "data",
    "data materials",
    "data videos",
    "data captions",
    "data cache",
    "train",
    "train neural-material",
    "train autoencoder",
    "train video",
    "train lrm",
    "train category",
    "convert",
    "doctor",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with good maps, a small material, and things that look like inputs but are not."""
    folder = tmp_path_factory.mktemp("inputs")
    material = sample_material(3, resolution=32)
    measured = dataclasses.replace(material, metadata=material.metadata | {"physical_size_m": 0.5})
    save_material_maps(measured, folder / "maps")
    (folder / "empty").mkdir()
    (folder / "note.txt").write_text("no picture")
    (folder / "fake.safetensors").write_bytes(b"x" * 100)
    (folder / "fake.hdr").write_text("no picture")
    (folder / "fake.mp4").write_text("no video")
    (folder / "fake.obj").write_text("no mesh")
    (folder / "old.json").write_text('{"rows": 3}')
    (folder / "other.json").write_text(
        json.dumps({"rows": [dict.fromkeys(
            "material method views resolution psnr ssim flip mse mape lpips seconds".split(), 1
        )], "mean": {}})
    )  # fmt: skip
    for index in range(16):
        media.write_image(folder / "sixteen" / f"{index}.png", torch.full((8, 8, 3), 0.5))
    for index in range(17):
        media.write_image(folder / "seventeen" / f"{index}.png", torch.full((8, 8, 3), 0.5))
    media.write_image(folder / "square.hdr", torch.ones(8, 8, 3))
    for broken in (folder / "broken maps", folder / "broken"):
        save_material_maps(material, broken)
        (broken / "normal.png").write_bytes((broken / "normal.png").read_bytes()[:100])
    spec = MaterialSpec(offset_channels=2, reflectance_channels=2, hidden_width=8, hidden_layers=1)
    neural = NeuralMaterial(torch.randn(8, 8, 2), torch.randn(8, 8, 2), Decoder(spec))
    save_material(folder / "good.safetensors", neural)
    return folder


@pytest.fixture
def run(place, capsys, monkeypatch):
    """Runs a command line in the folder of inputs; returns exit code, standard output and error lines."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("GONIO_CACHE", str(place / "cache"))

    def call(*arguments: str) -> tuple[int, list[str], list[str]]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run, command):
    code, out, err = run(*command.split(), "--help")
    text = " ".join(" ".join(out).replace("\u2502", " ").split())
    assert code == 0 and err == []
    assert f"Example: gonio {command}" in text


def test_help_lists_exactly_the_commands_there_are(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "{demo,generate,scan,reconstruct,render,evaluate,data,train,convert,doctor}" in out[0]


def test_help_is_fast_because_nothing_heavy_is_imported():
    script = (
        "import sys\n"
        "from gonio.cli import main\n"
        "code = main(['--help'])\n"
        "heavy = {'torch', 'mitsuba', 'drjit', 'numpy', 'PIL', 'av'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 10  # far above what it takes, below what torch and Mitsuba take


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0 and out[0].startswith("gonio ")


# ---------------------------------------------------------------- bad usage and bad input

USAGE = {
    "": "Expected one of",
    "paint": "paint",
    "scan": "MAPS",
    "scan maps": "--out",
    "scan maps --out x --frames 5": "--frames",
    "scan maps --out x --spp many": "--spp",
    "scan maps --out x --speed 3": "--speed",
    "scan maps --out x --resolution 8": "--resolution 8: allowed are 16 to 4096",
    "scan maps --out x --spp 0": "--spp 0: allowed are",
    "scan maps --out x --trajectory cross --frames 17": "--frames 17",
    "scan maps --out x --denoise --no-denoise": "give one of them",
    "evaluate": "reconstruction",
    "evaluate video": "--out",
    "evaluate video --out r.json": "no videos",
    "evaluate video nowhere --out r.json": "nowhere: does not exist",
    "evaluate video empty --out r.json": "no material videos",
    "generate --out x": "an empty prompt",
    "generate moss": "--out",
    "generate moss --out x --count 0": "--count 0",
    "generate moss --out x --model huge": "no model 'huge'",
    "generate moss --out x --resolution 100": "multiples of 8",
    "generate moss --out x --frames 16": "--frames",
    "generate moss --out x --offload model": "take --device cuda",
    "train video --out x --recipe cake": "known are",
    "train video --out x --recipe paper-t2v-lora": "needs --data",
    "train autoencoder --out x --recipe cake": "known are",
    "evaluate ablations --out x": "no materials",
    "evaluate ablations maps --out x --rows half": "--rows half: known are full",
    "evaluate ablations maps --out x --recipe cake": "known are",
    "evaluate reconstruction --out r.json": "no materials",
    "evaluate reconstruction maps maps --out r.json": "two folders are called maps",
    "evaluate reconstruction maps --out r.txt": "name it .json",
    "evaluate reconstruction maps --out r.json --contact-sheet r.pdf": "name it .png",
    "evaluate reconstruction maps --out r.json --resolution 3": "--resolution 3",
    "reconstruct seventeen --out m.pt": "ends in .safetensors",
    "reconstruct seventeen --out m.safetensors --method magic": "--method",
    "reconstruct seventeen --out m.safetensors --resolution 4": "--resolution 4",
    "reconstruct seventeen --out m.safetensors --views 81": "the video has 17 frames",
    "render good.safetensors --out a.gif": "--out a.gif",
    "render good.safetensors --out a.png --turntable": ".mp4",
    "render good.safetensors --out a.png --spp 0": "--spp 0",
    "render good.safetensors --out a.png --light 1,2": "--light 1,2: give numbers X,Y,Z[,INTENSITY]",
    "render good.safetensors --out a.png --light 1,2,3 --light 1,2,nan": "--light 1,2,nan: light position",
    "render good.safetensors --out a.png --sphere-light 1,2,3,-1": "--sphere-light 1,2,3,-1: light radius",
    "render good.safetensors --out turn.gif --turntable": "as frames into a folder",
    "render good.safetensors --out new/a.mp4 --turntable --frame-format exr": "--frame-format exr",
    "data materials --out x --count 0": "--count 0",
    "data materials --out x --family cheese": "cheese",
    "data materials --out x --color ultraviolet": "ultraviolet",
    "train neural-material --out d.safetensors --recipe cake": "known are",
    "train neural-material --out d.bin": "ends in .safetensors",
    "train category --features note.txt --out c.safetensors --recipe cake": "known are",
    "train category --features note.txt --out c.bin": "ends in .safetensors",
    "demo --out d --seed many": "--seed",
}
FAILURE = {
    "scan nowhere --out x": "nowhere does not exist",
    "generate --image nowhere.png --out x": "nowhere.png",
    "generate --image note.txt --out x": "note.txt",
    "generate moss --out x --weights empty": "config.json",
    "convert nowhere.safetensors --to x": "nowhere.safetensors",
    "convert fake.safetensors --to x": "fake.safetensors",
    "scan empty --out x": "empty has no base colour map",
    "scan note.txt --out x": "note.txt is a file, not a folder",
    "scan maps --out note.txt/x": "note.txt/x",
    "scan maps --out x --environment nowhere.hdr": "nowhere.hdr does not exist",
    "scan maps --out x --environment fake.hdr": "fake.hdr",
    "scan maps --out x --environment square.hdr": "square.hdr: 8x8 pixels is not 2:1",
    "reconstruct nowhere --out m.safetensors": "nowhere does not exist",
    "reconstruct empty --out m.safetensors": "empty holds no frames",
    "reconstruct fake.mp4 --out m.safetensors": "fake.mp4",
    "reconstruct sixteen --out m.safetensors": "sixteen: 16 frames",
    "render nowhere.safetensors --out a.png": "nowhere.safetensors: does not exist",
    "render fake.safetensors --out a.png": "fake.safetensors",
    "render maps --out a.png": "maps: is a folder",
    "render good.safetensors --out a.png --environment nowhere.hdr": "nowhere.hdr does not exist",
    "render good.safetensors --out a.png --shape fake.obj": "fake.obj",
    "render good.safetensors --out note.txt/a.png": "note.txt",
    "render fake.safetensors --out new/turn --turntable": "fake.safetensors",
    "evaluate reconstruction nowhere --out r.json": "nowhere does not exist",
    "evaluate ablations nowhere --out x": "nowhere does not exist",
    "evaluate reconstruction maps --out old.json": "old.json: holds no results",
    "evaluate reconstruction maps --out other.json": "other.json: holds results with method",
    "train neural-material --recipe smoke --out new/d.safetensors --maps nowhere": "nowhere does not exist",
    "train neural-material --recipe smoke --out new/d.safetensors --maps broken": "broken/normal.png",
    "train category --features nowhere.pth --out c.safetensors": "nowhere.pth: no file",
    "train category --features note.txt --out c.safetensors": "note.txt: not readable as weights",
    "data materials --out note.txt": "note.txt",
}


def files_in(folder: Path) -> set[Path]:
    """Every file and folder below it; the cache is not the command's output."""
    return {path for path in folder.rglob("*") if folder / "cache" not in (path, *path.parents)}


@pytest.mark.parametrize("line", USAGE)
def test_bad_usage_exits_with_2_and_one_line(run, place, line):
    before = files_in(place)
    code, out, err = run(*line.split())
    assert code == 2, err
    assert files_in(place) == before
    err = [line for line in err if not line.startswith("gonio: warning: ")]
    assert len(err) == 1 and err[0].startswith("gonio: ") and USAGE[line] in err[0], err


@pytest.mark.parametrize("line", FAILURE)
@pytest.mark.filterwarnings("ignore:.*assuming the two-phase")
def test_bad_input_exits_with_1_and_one_line(run, place, line):
    before = files_in(place)
    code, out, err = run(*line.split())
    assert code == 1, err
    assert files_in(place) == before
    assert len(err) == 1 and err[0].startswith("gonio: ") and FAILURE[line] in err[0], err


def begun(*_, **__):
    raise AssertionError("the work has begun")


@pytest.mark.parametrize(
    ("line", "work"),
    [
        ("evaluate reconstruction maps", "reconstruction.make_case"),
        ("evaluate video fake.mp4 --training-set seventeen", "similarity.pictures_of"),
    ],
)
def test_a_contact_sheet_that_cannot_be_written_costs_no_work(run, place, monkeypatch, line, work):
    monkeypatch.setattr(f"gonio.evaluate.{work}", begun)
    before = files_in(place)
    code, out, err = run(*line.split(), *"--out sheets/r.json --contact-sheet note.txt/sheet.png".split())
    assert (code, out) == (1, []) and len(err) == 1
    assert err[0].startswith("gonio: note.txt: cannot write here"), err
    assert files_in(place) == before


@pytest.mark.parametrize(
    ("line", "work"),
    [
        ("train neural-material --recipe smoke --out new/d.safetensors", "neural_material.train_universal"),
        ("train category --recipe smoke --features note.txt --out new/c.safetensors", "category.gather"),
    ],
)
def test_maps_to_train_on_are_looked_for_before_the_work(run, place, monkeypatch, line, work):
    monkeypatch.setattr(f"gonio.train.{work}", begun)
    monkeypatch.setattr("gonio.train.category.read_features", lambda path, variant: None)
    before = files_in(place)
    code, _, err = run(*line.split(), "--maps", "maps", "empty")
    assert code == 1 and len(err) == 1 and "empty has no base colour map" in err[0], err
    assert files_in(place) == before


def test_a_damaged_map_is_named(run):
    code, _, err = run("scan", "broken maps", "--out", "x")
    assert code == 1 and len(err) == 1 and "broken maps/normal.png" in err[0]


def test_the_program_itself_exits_as_main_does(place):
    def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"GONIO_CACHE": str(place / "cache")}
        return subprocess.run(
            [sys.executable, "-m", "gonio", *arguments],
            capture_output=True, text=True, timeout=120, cwd=place, env=environment,
        )  # fmt: skip

    usage, failure = shell("scan", "maps"), shell("scan", "nowhere", "--out", "x")
    assert (usage.returncode, failure.returncode) == (2, 1)
    for done in (usage, failure):
        assert done.stdout == "" and len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr


def test_an_interruption_says_how_to_go_on(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gonio.pbr.load_material_maps", interrupted)
    code, _, err = run("scan", "maps", "--out", "x")
    assert code == 130
    assert err == ["gonio: interrupted; run the same command again to go on where it stopped"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory"),
        (OSError(28, "No space left on device", "x/frames"), "x/frames: No space left on device"),
    ],
)
def test_failures_of_the_machine_are_one_line(run, monkeypatch, error, message):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr("gonio.pbr.load_material_maps", broken)
    code, _, err = run("scan", "maps", "--out", "x")
    assert code == 1 and len(err) == 1 and message in err[0]


def test_complaints_of_the_parser_become_one_line():
    rows = ["invalid choice '5' for", "'--frames'.", "\u2500" * 9, "For full helptext, run gonio scan --help"]
    framed = [f"\u2502 {row} \u2502" for row in rows]
    box = "\n".join(["\u256d\u2500 Invalid choice \u2500\u256e", *framed, "\u2570\u2500\u2500\u256f"])
    assert one_line(box) == "invalid choice '5' for '--frames'; see gonio scan --help"
    assert one_line("") == "wrong arguments; see gonio --help"


# ---------------------------------------------------------------- real runs

QUICK = dataclasses.replace(
    optimize.SCRATCH, decoder="16x2", coarsest=8, coarse_steps=4, fine_steps=2, coarse_batch=64
)


@pytest.fixture
def quick_fits(monkeypatch) -> None:
    """--method scratch of a few steps: the command is tested, not the fit."""
    fit = optimize.fit

    def quick(video, settings, **options):
        return fit(video, dataclasses.replace(QUICK, seed=settings.seed), **options)

    monkeypatch.setattr("gonio.reconstruct.run.fit", quick)


def test_scan_reconstruct_and_render(run, place, quick_fits):
    panorama = torch.ones(8, 16, 3)
    media.write_image(place / "sky.hdr", panorama)
    line = "scan maps --out scanned --frames 17 --resolution 32 --spp 4 --environment sky.hdr"
    code, out, err = run(*line.split())
    assert (code, err) == (0, [])
    assert "scanned: 17 frames of 32x32" in out[0]
    assert media.read_color(place / "scanned" / "photo.png").shape == (32, 32, 3)
    assert media.read_color(place / "scanned" / "photo.exr").shape == (32, 32, 3)
    code, _, err = run(*line.replace("--spp 4", "--spp 5").split())
    assert code == 1 and "choose another --out" in err[0]

    code, out, err = run(
        *"reconstruct scanned --out made/m.safetensors --method scratch --resolution 16".split()
    )
    assert (code, err) == (0, [])
    assert "16x16 texels from 17 frames" in out[0] and "dB" in out[0]
    material = load_material(place / "made" / "m.safetensors")
    assert material.resolution == (16, 16)
    assert material.provenance.method == "scratch" and material.provenance.extra["views"] == 17
    assert material.provenance.licence == "Apache-2.0 (procedural)"
    assert material.provenance.physical_size_m == 0.5
    assert [p.name for p in (place / "made").iterdir()] == ["m.safetensors"]  # no checkpoint is left

    render = "render made/m.safetensors --shape plane --resolution 16 --spp 1"
    code, out, err = run(*render.split(), "--out", "made/a.png")
    assert (code, out, err) == (0, ["made/a.png"], [])
    assert media.read_color(place / "made" / "a.png").shape == (16, 16, 3)
    code, out, err = run(*render.split(), "--turntable", "--frames", "2", "--out", "made/a.mp4")
    assert (code, err) == (0, [])
    assert media.read_video(place / "made" / "a.mp4").shape == (2, 16, 16, 3)

    code, out, err = run(
        *render.split(), *"--turntable --frames 2 --out made/turn --frame-format exr".split()
    )
    assert (code, out, err) == (0, ["made/turn"], [])
    assert sorted(p.name for p in (place / "made" / "turn").iterdir()) == ["0000.exr", "0001.exr"]


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        ("--light 1,-2,4,50", "--light 1,-2,4,100"),
        ("--light -1,-2,4,50", "--light -1,-2,4,50 --light=-1,-2,4,50"),
        ("--sphere-light 1,-2,4,.5,90", "--sphere-light 1,-2,4,.5,180"),
    ],
)
def test_lamps_light_the_picture_alone_and_add_up(run, place, once, twice):
    line = "render good.safetensors --shape plane --resolution 16 --spp 16 --out"
    for name, lamps in (("once", once), ("twice", twice)):
        assert run(*line.split(), f"lit/{name}.exr", *lamps.split())[0] == 0
    means = [float(media.read_color(place / "lit" / f"{name}.exr").mean()) for name in ("once", "twice")]
    assert means[0] > 0.05 and means[1] == pytest.approx(2 * means[0], rel=0.05)


def test_a_video_without_trajectory_is_taken_with_a_one_line_warning(run, quick_fits):
    code, _, err = run(*"reconstruct seventeen --out s.safetensors --method scratch".split())
    assert code == 0
    assert len(err) == 1 and err[0].startswith("gonio: warning: seventeen: no material_video.json; assuming")


def test_an_81_frame_video_can_be_fitted_from_17(run, place, quick_fits):
    for index in range(81):
        media.write_image(place / "many" / f"{index}.png", torch.full((8, 8, 3), 0.2 + index / 200))
    code, out, _ = run(*"reconstruct many --out s17.safetensors --method scratch --views 17".split())
    assert code == 0 and "from 17 frames" in out[0]


def test_help_states_the_domains_of_the_measures(run):
    _, out, _ = run("evaluate", "reconstruction", "--help")
    text = " ".join(" ".join(out).split())
    assert "PSNR, SSIM, FLIP and LPIPS are of display-encoded frames; MSE is of linear radiance" in text
    stated = f"clipped to [0, {MAPE_CLIP:g}]: the mean of |x - y| / (y + {MAPE_EPSILON:g}), y the truth"
    assert f"MAPE of linear radiance {stated}" in text


def test_evaluate_writes_rows_and_goes_on(run, place, quick_fits, monkeypatch):
    save_material_maps(sample_material(4, resolution=32), place / "second")
    line = "evaluate reconstruction maps second --out made/r.json --method scratch --resolution 32"
    code, out, err = run(*line.split())
    assert (code, err) == (0, [])
    results = json.loads((place / "made" / "r.json").read_text())
    keys = "material method views resolution psnr ssim flip mse mape lpips seconds".split()
    assert [row["material"] for row in results["rows"]] == ["maps", "second"]
    for row in results["rows"]:
        assert list(row)[: len(keys)] == keys and set(row) - {"notes"} == set(keys)
        assert (row["method"], row["views"], row["resolution"]) == ("scratch", 17, 32)
        assert row["lpips"] is not None or row["notes"]["lpips"].startswith("lpips: ")
    mean = (results["rows"][0]["psnr"] + results["rows"][1]["psnr"]) / 2
    assert results["mean"]["psnr"] == pytest.approx(mean)

    # A stopped evaluation goes on: what is there is not made again.
    results["rows"] = results["rows"][:1]
    results["rows"][0]["psnr"] = 77.0
    (place / "made" / "r.json").write_text(json.dumps(results))
    code, out, _ = run(*line.split())
    again = json.loads((place / "made" / "r.json").read_text())
    assert code == 0 and [row["material"] for row in again["rows"]] == ["maps", "second"]
    assert again["rows"][0]["psnr"] == 77.0
    code, _, err = run(*line.split(), "--views", "81")
    assert code == 1 and "holds results with views 17, not 81" in err[0]


def test_evaluate_draws_a_contact_sheet_and_the_upper_bound(run, place, quick_fits):
    line = "evaluate reconstruction maps --out made/u.json --method scratch --resolution 32 --upper-bound"
    code, _, err = run(*line.split(), "--contact-sheet", "made/sheet.png")
    assert (code, err) == (0, [])
    row = json.loads((place / "made" / "u.json").read_text())["rows"][0]
    assert (row["method"], row["views"]) == ("scratch upper bound", 81)
    assert media.read_color(place / "made" / "sheet.png").shape[1] > 4 * 32


def test_data_materials(run, place):
    code, out, err = run(*"data materials --out many-maps --count 3 --resolution 32 --family brick".split())
    assert (code, err) == (0, [])
    folders = sorted(p.name for p in (place / "many-maps").iterdir() if p.is_dir())
    assert folders == ["procedural_brick_0", "procedural_brick_1", "procedural_brick_2"]
    assert media.read_color(place / "many-maps" / "contact_sheet.png").ndim == 3


def test_doctor_says_what_there_is(run):
    code, out, err = run("doctor")
    assert (code, err) == (0, [])
    text = "\n".join(out)
    for name in (
        "python",
        "torch",
        "cuda",
        "mitsuba",
        "libLLVM",
        "denoiser",
        "weights",
        "LPIPS",
        "cache",
        "machine",
    ):
        assert name in text
    assert out[-1] == "Gonio can work on this machine."


def test_doctor_fails_when_gonio_cannot_work(run, place, monkeypatch):
    monkeypatch.setenv("GONIO_CACHE", str(place / "note.txt" / "cache"))
    code, out, err = run("doctor")
    assert code == 1 and "cache" in err[0]
    assert any(line.startswith("BROKEN  cache") for line in out)


def test_demo_leaves_everything_behind(tmp_path):
    from gonio.demo import run_demo
    from gonio.generate.pipeline import SamplingSettings
    from gonio.reconstruct.run import Reconstruction
    from gonio.render.stage import RenderSettings

    small = RenderSettings(resolution=16, spp=1)
    page = run_demo(
        tmp_path / "demo",
        "red bricks",
        sampling=SamplingSettings(resolution=32, steps=2),
        how=Reconstruction(method="optimize", effort=0.02),
        still=small,
        turntable=small,
        turntable_frames=2,
    )
    assert page == tmp_path / "demo" / "report.html"
    text = page.read_text("utf-8")
    assert "PSNR" in text and "http://" not in text.replace("http://www.w3.org", "")
    names = {p.name for p in (tmp_path / "demo").iterdir()}
    wanted = {"video", "material.safetensors", "still.png", "turntable.mp4", "report.html"}
    assert names == wanted
