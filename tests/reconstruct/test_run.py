"""Which method suits which video."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gonio import media
from gonio.camera import cross_joined, two_phase
from gonio.errors import UsageError
from gonio.material_video import MaterialVideo
from gonio.pbr import load_material_maps
from gonio.reconstruct.run import Reconstruction, chosen_method, provenance_of, reconstruct_shown
from gonio.scan import ScanSettings, scan


def video(trajectory, side=16, **provenance) -> MaterialVideo:
    shape = (trajectory.frames, side, side)
    return MaterialVideo(
        frames=torch.rand(*shape, 3), coverage=torch.ones(shape), trajectory=trajectory, provenance=provenance
    )


@pytest.mark.parametrize(
    ("trajectory", "side", "provenance", "method"),
    [
        (two_phase(17), 16, {"model": "mini-t2v"}, "lrm"),
        (two_phase(17), 16, {}, "refine"),
        (two_phase(81), 16, {}, "refine"),  # the model's frames are among them
        (two_phase(17).subset(list(range(0, 17, 2))), 16, {}, "refine"),  # half of them are enough
        (two_phase(17).subset([0, 1, 2]), 16, {}, "optimize"),
        (cross_joined(), 16, {}, "optimize"),
        (two_phase(17), 20, {}, "optimize"),  # no size the model makes
    ],
)
def test_the_method_follows_from_origin_trajectory_and_size(trajectory, side, provenance, method):
    assert chosen_method(video(trajectory, side, **provenance)) == method


def test_a_resolution_that_was_asked_for_counts():
    assert chosen_method(video(two_phase(17)), 20) == "optimize"
    assert chosen_method(video(two_phase(17), 20), 32) == "refine"


def test_a_decoder_that_was_asked_for_counts():
    assert chosen_method(video(two_phase(17)), decoder="64x4") == "refine"
    assert chosen_method(video(two_phase(17)), decoder="32x2") == "optimize"


@pytest.mark.parametrize("method", ["lrm", "refine"])
def test_a_model_makes_no_materials_for_another_decoder(method):
    with pytest.raises(UsageError, match="64x4 decoder"):
        reconstruct_shown(video(two_phase(17)), Reconstruction(method=method, decoder="32x2"))


def test_what_the_maps_say_of_themselves_reaches_the_material(tmp_path):
    media.write_image(tmp_path / "maps" / "basecolor.png", torch.full((8, 8, 3), 0.5))
    said = {"name": "oak", "licence": "CC0", "author": "A", "physical_size_m": 1.5}
    media.write_json(tmp_path / "maps" / "metadata.json", said)
    settings = ScanSettings(resolution=16, spp=1, denoise=False, aov=False)
    maps = load_material_maps(tmp_path / "maps")
    seen, _ = scan(maps, tmp_path / "scan", trajectory=two_phase(5).subset([0]), settings=settings)
    made = provenance_of(seen, tmp_path / "scan", Reconstruction())
    assert {key: getattr(made, key) for key in said} == said


@pytest.mark.parametrize("size", [None, "1.5", True, 0, -1.0, float("inf"), float("nan")])
def test_a_physical_size_that_is_none_is_not_passed_on(size):
    """A material file refuses it, and that would come after the whole fit."""
    found = provenance_of(video(two_phase(17), physical_size_m=size), Path("scan"), Reconstruction())
    assert found.physical_size_m is None
