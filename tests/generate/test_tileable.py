"""Tiling: the network sees the wrap inside, the decoder sees the neighbours, and the border is corrected."""

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d, pad

from gonio.data.procedural.sampling import sample_material
from gonio.errors import UsageError
from gonio.evaluate.tileability import seam_error
from gonio.generate.tileable import blend_boundary, circular_shift, decode_periodic, smooth_part
from gonio.models import flow


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crop_of(seed: int, family: str) -> torch.Tensor:
    """A piece of a material that does not tile, under two lights. [2, 96, 96, 3] linear."""
    basecolor = sample_material(seed, family=family, resolution=192).basecolor[31:127, 47:143]
    shading = torch.linspace(0.4, 1.0, 96)
    return torch.stack([basecolor * shading[:, None, None], basecolor * shading[None, :, None]])


def test_shifts_are_whole_patches_within_the_picture_and_come_from_the_seed():
    shift = circular_shift(8, 12, steps=200, patch=(2, 3), generator=generator())
    rows, columns = (set(axis) for axis in zip(*shift.offsets, strict=True))
    assert rows == {0, 2, 4, 6} and columns == {0, 3, 6, 9}
    assert shift == circular_shift(8, 12, steps=200, patch=(2, 3), generator=generator())
    assert shift != circular_shift(8, 12, steps=200, patch=(2, 3), generator=generator(1))
    with pytest.raises(UsageError, match="12x9 are not whole patches of 2x2"):
        circular_shift(9, 12, steps=1, patch=(2, 2), generator=generator())


def test_what_is_rolled_is_rolled_back():
    shift = circular_shift(4, 6, steps=5, patch=(1, 2), generator=generator(3))
    latents = torch.randn(1, 2, 3, 4, 6, generator=generator())
    for step in range(5):
        assert torch.equal(shift.backward(shift.forward(latents, step), step), latents)
    row, column = shift.offsets[2]
    assert shift.forward(latents, 2)[0, 0, 0, row, column] == latents[0, 0, 0, 0, 0]


def test_sampling_with_shifts_joins_the_borders():
    """A network that smooths, but never across its own border, as one without periodic positions does."""

    def predict(x, timestep, conditional):
        planes = pad(x[:, :, 0], (2, 2, 2, 2), mode="replicate")
        return x - avg_pool2d(planes, 5, stride=1)[:, :, None] * 2

    def seam(shift):
        noise = torch.randn(1, 3, 1, 32, 32, generator=generator(5))
        latents = flow.sample(predict, noise, steps=24, shift=1.0, solver="euler", transform_latents=shift)
        return seam_error(latents[0].permute(1, 2, 3, 0))["seam_error"]

    assert seam(None) > 2
    assert seam(circular_shift(32, 32, steps=24, patch=(2, 2), generator=generator())) < 1.3


def test_a_periodic_decoding_does_not_know_where_the_picture_begins():
    kernel = torch.randn(3, 2, 1, 5, 5, generator=generator(1))

    def decode(latents):
        frames = torch.nn.functional.conv3d(latents, kernel, padding=(0, 2, 2))
        return frames.repeat_interleave(4, -1).repeat_interleave(4, -2)

    latents = torch.randn(1, 2, 3, 6, 10, generator=generator())
    frames = decode_periodic(decode, latents, margin=2)
    assert frames.shape == (1, 3, 3, 24, 40)
    moved = decode_periodic(decode, latents.roll((1, 3), (-2, -1)), margin=2)
    torch.testing.assert_close(moved, frames.roll((4, 12), (-2, -1)))
    plain = decode(latents)
    torch.testing.assert_close(frames[..., 8:-8, 8:-8], plain[..., 8:-8, 8:-8])
    assert (frames - plain).abs().max() > 0.1
    with pytest.raises(UsageError, match="margin of 7"):
        decode_periodic(decode, latents, margin=7)


@pytest.mark.parametrize("family", ["brick", "terrazzo", "planks", "marble"])
def test_the_seam_goes_and_detail_stays(family):
    frames = crop_of(3, family)
    blended = blend_boundary(frames, 12)
    assert seam_error(frames)["seam_error"] > 1.8
    assert seam_error(blended)["seam_error"] < 1.4
    assert torch.equal(blended[:, 12:-12, 12:-12], frames[:, 12:-12, 12:-12])

    def detail(pictures):  # of the band, away from the wrap itself
        planes = pictures.permute(0, 3, 1, 2)
        return (planes - avg_pool2d(planes, 7, 1, 3))[..., 4:12, 4:-4].std()

    assert detail(blended) / detail(frames) == pytest.approx(1, abs=0.05)


def test_a_picture_that_tiles_is_hardly_touched():
    frames = sample_material(4, family="brick", resolution=96).basecolor[None]
    change = (blend_boundary(frames, 12) - frames).abs().mean() / frames.std()
    assert change < 0.15
    assert seam_error(blend_boundary(frames, 12))["seam_error"] < 1.25


def test_the_smooth_part_of_a_ramp_takes_the_jump_and_leaves_no_mean():
    ramp = torch.linspace(0, 1, 64)[None, :, None].expand(48, 64, 2)
    smooth = smooth_part(ramp)
    assert smooth.mean().abs() < 1e-5
    jump_left = (ramp - smooth)[:, 0] - (ramp - smooth)[:, -1]
    assert jump_left.abs().max() < 0.05  # was 1
    assert smooth_part(torch.full((8, 9, 3), 0.4)).abs().max() < 1e-6
    # Inside, the smooth part is harmonic: it has no detail of its own.
    inner = smooth[1:-1, 1:-1]
    laplacian = smooth[2:, 1:-1] + smooth[:-2, 1:-1] + smooth[1:-1, 2:] + smooth[1:-1, :-2] - 4 * inner
    assert laplacian.abs().max() < 1e-5


def test_every_frame_and_texture_shape_is_taken():
    texture = torch.randn(20, 24, 12, generator=generator())
    stack = torch.stack([texture, 2 * texture])
    torch.testing.assert_close(blend_boundary(stack, 4)[1], 2 * blend_boundary(texture, 4))
    assert (blend_boundary(texture, 4) < 0).any()
    light = (texture * math.pi).abs()
    assert (blend_boundary(light, 4) >= 0).all()
    for band in (0, 11):
        with pytest.raises(UsageError, match=f"band of {band} pixels; give 1 to 10"):
            blend_boundary(texture, band)
