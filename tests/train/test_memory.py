"""The memory that training makes of its clips."""

from collections import Counter
from copy import copy

import pytest
import torch
from layout_clips import LAYOUT_COUNT, layouts_cache

from gonio.data.procedural.layouts import LAYOUTS
from gonio.models.text import load_minilm
from gonio.train.memory import memory_of

CHANNELS = 48


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return layouts_cache(tmp_path_factory)


@pytest.fixture(scope="module")
def memory(cache):
    return memory_of(cache, CHANNELS)


def test_every_layout_is_kept_as_the_mean_of_its_clips(cache, memory):
    assert len(memory.names) == LAYOUT_COUNT and memory.values.shape == (LAYOUT_COUNT, CHANNELS, 4, 4)
    for name, values in zip(memory.names, memory.values, strict=True):
        clips = [i for i, record in enumerate(cache.records) if record["layout"] == name]
        assert len(clips) == 2
        mean = torch.stack([cache.item(i)["latents"][:CHANNELS, 0] for i in clips]).mean(0)
        torch.testing.assert_close(values, mean)


def test_the_means_are_kept_as_they_are_without_colour(cache, memory):
    kept = memory_of(cache, CHANNELS, lambda mean: 2 * mean)
    torch.testing.assert_close(kept.values, 2 * memory.values)


def test_what_is_asked_in_other_words_recalls_a_layout_of_its_family(memory):
    encoder = load_minilm()
    for prompt, family in (
        ("yellow bricks of an old factory", "brick"),
        ("a dry wall of field stones", "stone_wall"),
        ("bathroom tiles, turquoise", "tile"),
    ):
        text = encoder.encode([prompt])[0][0]
        assert memory.recalled(text, 0)[0].split()[0] == family


def test_seeds_in_a_row_recall_the_layouts_of_a_caption_that_names_none(memory):
    text = load_minilm().encode(["bricks"])[0][0]
    found = Counter(memory.recalled(text, seed)[0].split()[0] for seed in range(6))
    assert found == {"brick": 6} and len({memory.recalled(text, seed)[0] for seed in range(6)}) > 2


def test_the_best_known_layout_of_a_family_is_recalled_first(cache):
    """Where captions mean all layouts of a family, the first of `LAYOUTS` is meant most, the last least."""
    bricks = [f"brick {number}" for number in LAYOUTS["brick"]]
    vague = copy(cache)
    vague.records = [
        {**record, "meant": [bricks] * len(record["captions"])}
        for record in cache.records
        if record["layout"] in bricks
    ]
    memory = memory_of(vague, CHANNELS)
    text = load_minilm().encode(["brick wall"])[0][0]
    assert [memory.recalled(text, seed)[0] for seed in range(len(bricks))] == bricks


def test_clips_without_layouts_make_no_memory(cache):
    bare = copy(cache)
    bare.records = [{k: v for k, v in r.items() if k not in ("layout", "meant")} for r in cache.records]
    assert memory_of(bare, CHANNELS) is None
