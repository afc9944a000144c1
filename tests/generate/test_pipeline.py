"""Prompt or photo -> material video, with the real networks and random weights."""

from dataclasses import replace

import pytest
import torch
from tiny_models import random_generator, write_lora

from gonio.camera import two_phase
from gonio.errors import GonioError, UsageError
from gonio.generate.pipeline import (
    SamplingSettings,
    is_whole,
    load_generator,
    member,
    save_video,
    squared,
)
from gonio.material_video import load_material_video
from gonio.models.memory import Memory
from gonio.models.placement import Placement
from gonio.models.spec import find_spec

FAST = SamplingSettings(seed=1, resolution=32, steps=2)


@pytest.fixture(scope="module")
def text_model():
    return random_generator("mini-t2v")


@pytest.fixture(scope="module")
def image_model():
    return random_generator("mini-i2v")


def test_a_video_has_the_frames_and_the_trajectory_of_the_model(text_model):
    video = text_model.video("green moss", FAST)
    assert video.frames.shape == (17, 32, 32, 3)
    assert video.trajectory.to_json() == two_phase(17).to_json()
    assert video.provenance["prompt"] == "green moss" and video.provenance["model"] == "mini-t2v"


def test_the_same_seed_gives_the_same_video_and_another_another(text_model):
    first, again = (text_model.video("green moss", FAST) for _ in range(2))
    other = text_model.video("green moss", replace(FAST, seed=2))
    assert torch.equal(first.frames, again.frames)
    assert not torch.equal(first.frames, other.frames)


def test_the_prompt_and_the_negative_prompt_matter(text_model):
    plain = text_model.video("green moss", FAST).frames
    assert not torch.equal(text_model.video("rusty iron", FAST).frames, plain)
    assert not torch.equal(text_model.video("green moss", replace(FAST, negative="glossy")).frames, plain)


def test_guidance_leads_away_from_a_video_without_the_photo_where_the_model_knows_such(image_model):
    """At guidance 0 only the prediction without the photo counts, and the photo does not matter."""
    photos = torch.rand(2, 40, 40, 3)
    none = replace(FAST, guidance=1e-12)
    first, second = (image_model.video("", none, photo=photo).frames for photo in photos)
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-2)
    first, second = (image_model.video("", FAST, photo=photo).frames for photo in photos)
    assert float((first - second).abs().max()) > 1e-2
    wan = random_generator("mini-i2v", photo_guided=False)
    first, second = (wan.video("", none, photo=photo).frames for photo in photos)
    assert float((first - second).abs().max()) > 1e-2


@pytest.fixture(scope="module")
def remembering(text_model):
    """The text model with a memory of two layouts, both of which every prompt means."""
    values = torch.randn(2, text_model.spec.memory, 4, 4, generator=torch.Generator().manual_seed(3))
    memory = Memory(
        names=("a", "b"), values=values, weight=torch.zeros(2, 384), bias=torch.tensor([1.0, 0.9])
    )
    return replace(text_model, memory=memory)


def test_seeds_in_a_row_recall_the_layouts_that_a_prompt_means(remembering, text_model):
    """With the same noise and prompt, what is recalled alone makes another video."""
    drawn = [remembering.video("moss", replace(FAST, seed=n)).provenance["layout"] for n in range(3)]
    assert drawn == ["a", "b", "a"]
    assert text_model.video("moss", FAST).provenance["layout"] is None
    assert not torch.equal(remembering.video("moss", FAST).frames, text_model.video("moss", FAST).frames)


def test_guidance_leads_away_from_a_video_without_what_is_recalled(remembering, text_model):
    """At guidance 0 only the prediction without prompt and memory counts, and neither matters."""
    none = replace(FAST, guidance=1e-12)
    first, second = (model.video("moss", none).frames for model in (remembering, text_model))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-2)


def test_what_is_recalled_is_brought_to_the_size_that_is_asked_for(remembering):
    """A layout of 4 x 4 latents, for frames of 32 and of 64 pixels: the same picture at both."""
    values = remembering.memory.values[0]
    assert torch.equal(remembering._fitted(values, 32)[0, :, 0], values)
    fitted = remembering._fitted(values, 64)
    assert fitted.shape == (1, remembering.spec.memory, 1, 8, 8)
    pooled = torch.nn.functional.avg_pool2d(fitted[:, 0], 2)  # the first component is a patch's brightness
    likeness = torch.corrcoef(torch.stack([pooled.flatten(), values[0].flatten()]))[0, 1]
    assert float(likeness) > 0.9


def test_beside_a_photo_nothing_is_recalled(image_model, remembering):
    photo = torch.rand(40, 40, 3)
    video = replace(image_model, memory=remembering.memory).video("", FAST, photo=photo)
    assert video.provenance["layout"] is None
    assert torch.equal(video.frames, image_model.video("", FAST, photo=photo).frames)


def test_every_step_is_reported(text_model):
    seen = []
    text_model.video("moss", FAST, on_step=lambda index, steps, latents: seen.append((index, steps)))
    assert seen == [(0, 2), (1, 2)]


def test_rectified_frames_are_shown_as_the_cameras_see_them(text_model):
    """Black beside the sample where the orbiting camera looks past it, full from above."""
    video = text_model.video("moss", FAST)
    assert float(video.coverage[0].min()) > 0.99
    assert float(video.coverage[-1].min()) == 0.0
    assert float(video.frames[-1][video.coverage[-1] == 0].abs().max()) == 0.0


def test_a_perspective_model_writes_its_frames_as_they_are():
    video = random_generator("mini-t2v", projection="perspective").video("moss", FAST)
    assert bool((video.coverage == 1).all())


def test_a_tileable_video_is_another_one(text_model):
    plain = text_model.video("moss", FAST)
    tile = text_model.video("moss", replace(FAST, tileable=True))
    assert not torch.equal(plain.frames, tile.frames)


def test_a_model_in_perspective_cannot_shift_its_latents():
    with pytest.raises(UsageError, match="--tileable: mini-t2v draws in perspective"):
        random_generator("mini-t2v", projection="perspective").video("moss", replace(FAST, tileable=True))


def test_a_small_lora_is_not_lost_in_the_8_bits_of_the_weights(tmp_path):
    """Merged after the rounding, a change below a hundredth of a weight would be rounded away."""
    spec = find_spec("mini-t2v")
    write_lora(tmp_path / "lora.safetensors", 1e-3)
    stored = Placement(fp8=True, compute_dtype=torch.float32)
    merged = load_generator(spec, None, stored, lora=tmp_path / "lora.safetensors").transformer
    exact = load_generator(spec, lora=tmp_path / "lora.safetensors").transformer
    for a, b in zip(merged.parameters(), exact.parameters(), strict=True):
        assert torch.equal(a, b.to(a.dtype))


def test_the_photo_matters_to_an_image_model(image_model):
    photo = torch.rand(40, 56, 3)
    first = image_model.video("moss", FAST, photo=photo)
    other = image_model.video("moss", FAST, photo=1 - photo)
    assert not torch.equal(first.frames, other.frames)
    assert image_model.video("", FAST, photo=photo).provenance["name"] == "photo"


def test_a_photo_is_cut_to_its_middle_square():
    photo = torch.zeros(4, 8, 3)
    photo[:, 2:6] = 1.0
    torch.testing.assert_close(squared(photo, 4), torch.ones(4, 4, 3))


def test_a_model_for_the_other_task_is_refused(text_model, image_model):
    with pytest.raises(UsageError, match="takes no photo"):
        text_model.video("moss", FAST, photo=torch.rand(32, 32, 3))
    with pytest.raises(UsageError, match="takes a photo"):
        image_model.video("moss", FAST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 36}, "multiples of 8"),
        ({"frames": 16}, "16 frames"),
        ({"steps": 100000}, "sampling steps"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(text_model, change, message):
    with pytest.raises(UsageError, match=message):
        text_model.video("moss", replace(FAST, **change))


def test_a_network_that_diverges_stops_before_a_video_exists():
    broken = random_generator("mini-t2v")
    with torch.no_grad():
        broken.transformer.proj_out.bias.fill_(float("nan"))
    with pytest.raises(GonioError, match="after step 1 of 2"):
        broken.video("moss", FAST)


def test_a_saved_video_is_read_back(text_model, tmp_path):
    video = text_model.video("moss", FAST)
    assert not is_whole(tmp_path, video.trajectory)
    save_video(tmp_path, video)
    assert is_whole(tmp_path, video.trajectory)
    assert (tmp_path / "video.mp4").stat().st_size > 0
    again = load_material_video(tmp_path)
    assert float((again.frames - video.frames).abs().max()) < 0.01  # 8 bits, display-encoded
    assert again.provenance["prompt"] == "moss"


def test_the_family_has_a_member_for_each_task():
    assert member("mini", "text").name == "mini-t2v"
    assert member("mini", "image").name == "mini-i2v"
    with pytest.raises(UsageError, match="no model 'huge'"):
        member("huge", "text")


def test_wrong_weights_are_refused(tmp_path):
    with pytest.raises(GonioError, match="config.json"):
        load_generator(find_spec("mini-t2v"), tmp_path)
