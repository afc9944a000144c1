"""MatSynth rows of the true schema, with tiny pictures, become materials that carry their licence."""

import importlib.util
import io
import json
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from gonio.data import matsynth
from gonio.errors import GonioError

SIZE = 16
needs_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="the optional package datasets is not installed"
)


def _png(values: np.ndarray) -> dict:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def _row(**metadata) -> dict:
    """One row as `load_dataset(...)` gives it when images are not decoded."""
    color = np.full((SIZE, SIZE, 3), 188, np.uint8)  # sRGB 188 is 0.5 linear
    normal = np.full((SIZE, SIZE, 3), (128, 192, 230), np.uint8)  # leans to +v: GL green is up
    height = np.tile(np.linspace(0, 65535, SIZE).astype(np.uint16), (SIZE, 1))
    grey = np.full((SIZE, SIZE), 64, np.uint8)
    return {
        "name": "acg_Bricks 001",
        "category": 10,
        "metadata": {
            "authors": ["A. Mason"],
            "category": "Stone",
            "description": "old wall",
            "height_factor": 0.02,
            "height_mean": 0.25,
            "license": "CC-BY",
            "link": "https://example.org/bricks",
            "maps": ["basecolor", "normal"],
            "method": "photogrammetry",
            "name": "acg_Bricks 001",
            "physical_size": 150.0,
            "source": "ambientCG",
            "stationary": True,
            "tags": ["brick", "wall"],
            "version_date": "2023",
        }
        | metadata,
        "basecolor": _png(color),
        "normal": _png(normal),
        "roughness": _png(grey),
        "metallic": _png(np.zeros((SIZE, SIZE), np.uint8)),
        "height": _png(height),
        "opacity": _png(np.full((SIZE, SIZE), 255, np.uint8)),
    }


def test_a_row_becomes_a_material_in_our_conventions():
    material = matsynth.material_from_row(_row())
    assert material.size == (SIZE, SIZE)
    torch.testing.assert_close(material.basecolor.mean(), torch.tensor(0.5), atol=3e-3, rtol=0)
    assert float(material.normal[..., 1].mean()) > 0.4  # OpenGL: no green flip
    torch.testing.assert_close(material.roughness.mean(), torch.tensor(64 / 255))
    # 16 bits of height survive, and displacement is (h - mean) * factor in tile widths
    assert len(material.height.unique()) == SIZE
    assert float(material.displacement.max()) == pytest.approx((1 - 0.25) * 0.02, abs=1e-6)
    assert material.tileable and material.metadata["physical_size_m"] == 1.5
    assert material.metadata["category"] == "stone" and material.metadata["tags"] == ["brick", "wall"]


def test_licence_and_credit_travel_with_the_material():
    metadata = matsynth.material_from_row(_row()).metadata
    assert metadata["licence"] == "CC-BY" and metadata["author"] == "A. Mason"
    for part in ("A. Mason", "https://example.org/bricks", "CC-BY", "MatSynth"):
        assert part in metadata["attribution"]


def test_a_decoded_picture_gives_the_same_material_as_its_bytes():
    row = _row()
    decoded = row | {name: Image.open(io.BytesIO(row[name]["bytes"])) for name in matsynth.MAPS}
    first, second = matsynth.material_from_row(row), matsynth.material_from_row(decoded)
    torch.testing.assert_close(first.height, second.height, atol=0, rtol=0)
    torch.testing.assert_close(first.basecolor, second.basecolor, atol=0, rtol=0)


def test_crops_of_deschaintre_are_left_out_unless_asked_for():
    crop = _row(source="deschaintre_2020")
    assert "does not tile" in (matsynth.reason_to_skip(crop) or "")
    assert matsynth.reason_to_skip(crop, crops=True) is None
    assert not matsynth.material_from_row(crop).tileable
    assert matsynth.reason_to_skip(_row()) is None


def test_a_row_without_a_licence_is_left_out():
    assert "licence" in (matsynth.reason_to_skip(_row(license=None)) or "")


def test_height_outliers_are_clamped_and_that_is_noted():
    material = matsynth.material_from_row(_row(height_factor=2.46))  # a carpet of the data set
    assert material.height_factor == matsynth.MAX_HEIGHT_FACTOR
    assert any("clamped to 0.1" in note for note in material.metadata["defaults"])


@pytest.mark.parametrize("missing", [None, math.nan, "nan"])
def test_numbers_that_are_missing_get_the_defaults_of_maps(missing):
    row = _row(height_mean=missing, height_factor=missing, physical_size=missing)
    material = matsynth.material_from_row(row)
    assert material.height_mean == pytest.approx(0.5, abs=1e-3)  # of the map itself
    assert 0 < material.height_factor <= 0.05
    assert "physical_size_m" not in material.metadata


def test_a_material_that_lets_light_through_is_refused():
    row = _row() | {"opacity": _png(np.zeros((SIZE, SIZE), np.uint8))}
    with pytest.raises(GonioError, match="acg_bricks_001.*lets light through"):
        matsynth.material_from_row(row)


def test_a_damaged_map_is_one_line_with_the_rows_name():
    row = _row() | {"height": {"bytes": b"\x89PNG\r\n", "path": None}}
    with pytest.raises(GonioError, match=r"^MatSynth acg_bricks_001: height.png") as caught:
        matsynth.material_from_row(row)
    assert "\n" not in str(caught.value)


def _extract(row: dict, root) -> None:
    """What the data set's own download script leaves: maps and metadata.json, the size as a text."""
    folder = root / "train" / "Stone" / row["name"]
    folder.mkdir(parents=True)
    for name in matsynth.MAPS:
        (folder / f"{name}.png").write_bytes(row[name]["bytes"])
    (folder / "displacement.png").write_bytes(row["height"]["bytes"])
    metadata = row["metadata"] | {"physical_size": str(row["metadata"]["physical_size"])}
    (folder / "metadata.json").write_text(json.dumps(metadata))


def test_an_extracted_copy_needs_no_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in ("b_two", "a_one"):
        _extract(_row() | {"name": name}, tmp_path)
    rows = list(matsynth.rows(tmp_path))
    assert [row["name"] for row in rows] == ["a_one", "b_two"]
    material = matsynth.material_from_row(rows[0])
    assert material.metadata["physical_size_m"] == 1.5 and material.height_factor == pytest.approx(0.02)


def test_missing_package_and_empty_folder_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(GonioError, match="pip install 'gonio\\[datasets\\]'"):
        next(matsynth.rows(None))
    with pytest.raises(GonioError, match="neither parquet files nor folders"):
        next(matsynth.rows(tmp_path))
    with pytest.raises(GonioError, match="no folder"):
        next(matsynth.rows(tmp_path / "absent"))


@needs_datasets
def test_a_local_copy_in_the_hubs_layout(tmp_path, monkeypatch):
    """Parquet files with the true features, read by `datasets`, undecoded."""
    import pyarrow
    import pyarrow.parquet
    from datasets import ClassLabel, Features, Image, Sequence, Value

    text, number = Value("string"), Value("float32")
    kinds = {"authors": Sequence(text), "maps": Sequence(text), "tags": Sequence(text)}
    kinds |= {"height_factor": number, "height_mean": number, "physical_size": number}
    kinds |= {"stationary": Value("bool")}
    metadata = {name: kinds.get(name, text) for name in _row()["metadata"]}
    features = {"name": text, "category": ClassLabel(names=list(matsynth.CATEGORIES)), "metadata": metadata}
    features |= {name: Image() for name in (*matsynth.MAPS, "specular", "blend_mask")}
    rows = []
    for name in ("one", "two", "three"):
        rows.append(_row() | {"name": name, "specular": _row()["opacity"], "blend_mask": None})
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    table = pyarrow.Table.from_pylist(rows, schema=Features(features).arrow_schema)
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet")
    found = list(matsynth.rows(tmp_path))
    assert [row["name"] for row in found] == ["one", "two", "three"]
    assert set(found[0]) == set(matsynth.COLUMNS)
    assert matsynth.material_from_row(found[0]).metadata["category"] == "stone"
    orders = {tuple(row["name"] for row in matsynth.rows(tmp_path, seed=seed)) for seed in (1, 1, 2, 3, 4)}
    assert len(orders) > 1


@needs_datasets
def test_no_network_is_one_line(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(GonioError, match="MatSynth cannot be read from gvecchio/MatSynth") as caught:
        next(matsynth.rows(None))
    assert "\n" not in str(caught.value)
