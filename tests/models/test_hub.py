"""Models of the hub: found in its cache, fetched only when asked for."""

import huggingface_hub
import pytest

from gonio.errors import GonioError
from gonio.models.hub import cached_part, fetched_model
from gonio.models.image import load_image_encoder
from gonio.models.spec import find_spec


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """A repository on disk in place of the network, and what was asked of it."""
    asked = []

    def snapshot_download(repository, **options):
        asked.append((repository, options))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_a_part_is_taken_from_the_cache_and_nothing_fetched(snapshot, tmp_path):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    assert cached_part("a/b", "vae") == tmp_path / "vae"
    assert snapshot[0][1]["local_files_only"] is True
    with pytest.raises(GonioError, match="holds no transformer/config.json; fetch it .hf download"):
        cached_part("a/b", "transformer")


def test_only_networks_as_safetensors_and_their_descriptions_are_fetched(snapshot, tmp_path):
    assert fetched_model("a/b") == tmp_path
    repository, options = snapshot[0]
    assert repository == "a/b" and not options.get("local_files_only")
    assert "transformer/*.safetensors" in options["allow_patterns"]
    assert not [p for p in options["allow_patterns"] if p.endswith((".bin", ".pt", ".pth", "*.*"))]


def test_a_hub_that_is_out_of_reach_is_one_line(monkeypatch):
    def unreachable(*args, **options):
        raise OSError("no route to host\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(GonioError, match=r"^a/b cannot be downloaded \(no route to host\); check the conn"):
        fetched_model("a/b")
    with pytest.raises(GonioError, match="^a/b is not on this machine"):
        cached_part("a/b", "vae")


def test_the_image_encoder_is_looked_for_in_the_cache_too(snapshot, tmp_path):
    with pytest.raises(GonioError, match="image_encoder/config.json"):
        load_image_encoder(find_spec("wan2.1-i2v-14b"))
    assert snapshot[0][0] == "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
