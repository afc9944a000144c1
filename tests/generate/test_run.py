"""Generation as a person runs it."""

from dataclasses import replace

import pytest
import torch
from tiny_models import random_generator

from gonio.generate.expand import TemplateExpander
from gonio.generate.pipeline import SamplingSettings
from gonio.generate.run import video_shown
from gonio.models.spec import find_spec

FAST = SamplingSettings(seed=1, resolution=32, steps=1)


@pytest.fixture(scope="module")
def mini():
    return random_generator("mini-t2v")


def test_a_prompt_is_expanded_as_the_model_is_used_to_or_as_asked(mini, tmp_path):
    long = replace(mini, spec=replace(mini.spec, expand="template"))
    expected = TemplateExpander().expand("green moss", seed=FAST.seed).text
    for model, asked, text in (
        (mini, None, "green moss"),
        (mini, "template", expected),
        (long, None, expected),
        (long, "none", "green moss"),
    ):
        video = video_shown(
            model, "green moss", FAST, tmp_path / f"{model.spec.expand}_{asked}", expand=asked
        )
        assert video.provenance["expanded"] == text and video.provenance["prompt"] == "green moss"
    assert find_spec("wan2.1-t2v-14b").expand == "template"


def test_what_the_same_settings_made_is_not_made_again(mini, tmp_path):
    first = video_shown(mini, "green moss", FAST, tmp_path)
    again = video_shown(replace(mini, transformer=None), "green moss", FAST, tmp_path)
    assert torch.equal(first.frames, again.frames)
    other = video_shown(mini, "green moss", replace(FAST, seed=2), tmp_path)
    assert not torch.equal(first.frames, other.frames)
