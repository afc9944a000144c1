"""What a model is told behind the noise."""

import math
from dataclasses import replace

import torch

from gonio.models.condition import (
    condition,
    image_condition,
    photo_clip,
    position_channels,
    without_memory,
    without_photo,
)
from gonio.models.spec import SPECS

TEXT, IMAGE = SPECS["mini-t2v"], SPECS["mini-i2v"]


def test_places_are_texel_centres_and_do_not_depend_on_the_resolution():
    coarse, fine = position_channels(2, 2, 1), position_channels(4, 4, 1)
    assert coarse[0].tolist() == [[-0.5, 0.5]] * 2 and coarse[1].tolist() == [[-0.5, -0.5], [0.5, 0.5]]
    torch.testing.assert_close(coarse[2][0], torch.tensor([math.sin(2 * math.pi * x) for x in (0.25, 0.75)]))
    for channel in (0, 1):
        pooled = torch.nn.functional.avg_pool2d(fine[channel][None], 2)[0]
        torch.testing.assert_close(pooled, coarse[channel])
    assert len(position_channels(3, 5, 2)) == TEXT.position_channels


def test_places_wrap_smoothly_but_for_the_two_linear_ones():
    waves = position_channels(8, 8, 2)[2:]
    seam, inside = (waves[..., 0] - waves[..., -1]).abs(), (waves[..., 1:] - waves[..., :-1]).abs()
    assert float(seam.max()) <= float(inside.max()) + 1e-6


def test_a_text_model_is_told_places_then_what_it_recalls_an_image_model_mask_and_photo_behind_them():
    latents, photo, recalled = (torch.randn(3, n, 1, 4, 6) for n in (96, 96, TEXT.memory))
    told = condition(TEXT, latents, recalled=recalled)
    assert told.shape == (3, 10 + TEXT.memory, 1, 4, 6) and torch.equal(told[0, :10], told[2, :10])
    assert torch.equal(told[0, :10, 0], position_channels(4, 6, 2)) and torch.equal(told[:, 10:], recalled)
    wide = condition(IMAGE, latents, photo, recalled=recalled)
    assert torch.equal(wide[:, : told.shape[1]], told)
    assert torch.equal(wide[:, told.shape[1] :], image_condition(photo))


def test_where_nothing_is_recalled_the_channels_of_the_memory_are_zero():
    latents, recalled = torch.randn(2, 96, 1, 4, 6), torch.randn(2, TEXT.memory, 1, 4, 6)
    seen, none = (torch.cat([latents, condition(TEXT, latents, recalled=r)], 1) for r in (recalled, None))
    assert none[:, 96 + 10 :].eq(0).all()
    assert torch.equal(without_memory(TEXT, seen), none) and not torch.equal(seen, none)


def test_without_a_photo_noise_and_places_stay():
    latents, photo = torch.randn(2, 96, 1, 4, 6), torch.randn(2, 96, 1, 4, 6)
    seen = torch.cat([latents, condition(IMAGE, latents, photo)], 1)
    none = torch.cat([latents, condition(IMAGE, latents, photo, torch.zeros(2, dtype=torch.bool))], 1)
    assert torch.equal(without_photo(IMAGE, seen), none) and not torch.equal(seen, none)
    assert torch.equal(none[:, : 96 + 10], seen[:, : 96 + 10])


def test_wan_is_told_nothing_of_places():
    wan = SPECS["wan2.1-t2v-1.3b"]
    assert condition(wan, torch.randn(1, 16, 2, 4, 4)) is None
    shown = image_condition(torch.randn(1, 16, 2, 4, 4))
    assert shown.shape == (1, 20, 2, 4, 4)
    assert shown[:, :4, 0].eq(1).all() and shown[:, :4, 1:].eq(0).all()


def test_a_photo_is_in_every_stacked_frame_and_before_grey_ones_else():
    picture = torch.rand(4, 4, 3)
    assert torch.equal(photo_clip(TEXT, picture, 17), picture.expand(17, 4, 4, 3))
    clip = photo_clip(SPECS["wan2.1-i2v-14b"], picture, 5)
    assert torch.equal(clip[0], picture) and clip[1:].eq(0.5).all()


def test_every_position_octave_adds_four_channels_to_the_input():
    transformer = {**TEXT.transformer, "in_channels": 96 + 2 + TEXT.memory}
    spec = replace(TEXT, transformer=transformer, position_octaves=0)
    assert spec.position_channels == 2
