"""Training the category judge's head: what it is shown, and that it learns from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from efficientnet_files import published_weights
from safetensors import safe_open

from gonio.cli import main
from gonio.data.categories import CATEGORIES
from gonio.data.procedural import sample_material
from gonio.errors import GonioError
from gonio.models.category import load_category_judge
from gonio.models.efficientnet_lite import EfficientNetLite, convert_efficientnet_lite
from gonio.train.attributes import Labelled
from gonio.train.category import (
    RECIPES,
    Examples,
    Seen,
    fit_judge,
    gather,
    look_at,
    materials_to_see,
    provenance,
    read_features,
)

SMOKE = RECIPES["smoke"]


@pytest.fixture(scope="module")
def network() -> EfficientNetLite:
    return convert_efficientnet_lite(published_weights())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("published") / "lite0.pth"
    torch.save(published_weights(), file)
    return file


def grass_and_metal(count: int, size: int = 32) -> list[Labelled]:
    pairs: list[Labelled] = []
    for seed in range(count):
        metal = sample_material(seed, family="hammered_metal", metallic=True, resolution=size)
        grass = sample_material(seed, family="grass", metallic=False, resolution=size)
        pairs += [(metal, ("metal",)), (grass, ("vegetation",))]
    return pairs


def test_every_look_has_features_of_three_pictures(network: EfficientNetLite):
    done: list[int] = []
    seen = look_at(iter(grass_and_metal(2)), network, looks=3, seed=0, report=done.append)
    assert seen.features.shape == (12, 3, 768) and seen.category.shape == (12, len(CATEGORIES))
    assert sum(done) == 4
    assert seen.category[:3, CATEGORIES.index("metal")].tolist() == [1.0, 1.0, 1.0]
    assert not torch.equal(seen.features[0], seen.features[1])  # turned, and lit from elsewhere
    with pytest.raises(GonioError, match="no materials"):
        look_at(iter(()), network, looks=1, seed=0)


def test_the_head_learns_to_tell_grass_from_metal(network: EfficientNetLite):
    """Random features are poor ones, but not that poor."""
    seen = look_at(iter(grass_and_metal(6)), network, looks=1, seed=0)
    losses: list[float] = []
    judge = fit_judge(
        SMOKE, network, Examples(procedural=seen), report=lambda step, loss: losses.append(loss)
    )
    assert len(losses) == SMOKE.steps and losses[-1] < 0.2 * losses[0]
    words = [CATEGORIES[i] for i in judge.head(seen.features).mean(1).argmax(-1).tolist()]
    assert words == ["metal", "vegetation"] * 6


def test_real_materials_weigh_their_share_however_few(network: EfficientNetLite):
    """The same looks under two labels: the label with the larger share wins."""
    features = torch.rand(8, 3, 768)
    wood, metal = (torch.zeros(8, len(CATEGORIES)) for _ in range(2))
    wood[:, CATEGORIES.index("wood")], metal[:, CATEGORIES.index("metal")] = 1, 1
    procedural = Seen(features=features, category=wood)
    real = Seen(features=features[:2], category=metal[:2])
    for share, word in ((0.8, "metal"), (0.02, "wood")):
        recipe = replace(SMOKE, real_share=share, l2=10.0)
        judge = fit_judge(recipe, network, Examples(procedural=procedural, real=real))
        assert CATEGORIES[int(judge.head(features[0]).mean(0).argmax())] == word


def test_gathering_is_the_same_twice_and_spares_the_held_out(network: EfficientNetLite, data_root: Path):
    folders = [data_root / "materials" / name for name in ("acg_bark014", "acg_metal007")]
    done: list[int] = []
    first = gather(SMOKE, network, folders, report=done.append)
    second = gather(SMOKE, network, folders)
    assert first.maps == ("acg_bark014",)  # the other one is held out
    assert provenance(SMOKE, first)["maps"] == ["acg_bark014"]
    assert first.real is not None and second.real is not None
    assert len(first.real.features) == 2
    assert sum(done) == materials_to_see(SMOKE, folders) == 10
    assert torch.equal(first.real.features, second.real.features)
    assert torch.equal(first.procedural.features, second.procedural.features)


def test_files_that_are_no_published_weights_are_one_line_errors(tmp_path: Path, published: Path):
    file = tmp_path / "lite0.pth"
    with pytest.raises(GonioError, match="no file"):
        read_features(file)
    file.write_bytes(published.read_bytes()[:1000])
    with pytest.raises(GonioError, match="not readable as weights") as caught:
        read_features(file)
    assert "\n" not in str(caught.value)
    torch.save([1, 2], file)
    with pytest.raises(GonioError, match="no state dict"):
        read_features(file)
    torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(GonioError, match="lite0.pth: not EfficientNet-Lite0: _conv_stem.weight is missing"):
        read_features(file)


def test_the_command_writes_a_judge(tmp_path: Path, published: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "judge.safetensors"
    command = ["train", "category", "--recipe", "smoke", "--features", str(published), "--out", str(out)]
    assert main(command) == 0
    assert "0 real materials" in capsys.readouterr().out
    judge = load_category_judge(out)
    assert judge.categories == CATEGORIES
    assert torch.equal(judge.features.stem.weight, read_features(published).stem.weight)
    with safe_open(out, "pt") as content:
        assert json.loads(content.metadata()["provenance"])["recipe"]["l2"] == SMOKE.l2
