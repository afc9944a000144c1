"""Generated videos are learned from by halves: the model is shown one and judged on the other."""

import math
from dataclasses import replace

import pytest
import torch

from gonio.camera import cross_joined, two_phase
from gonio.color import linear_from_srgb, log_encode, srgb_from_linear
from gonio.data.clips import ClipSettings, make_pool
from gonio.errors import GonioError, UsageError
from gonio.generate.pipeline import save_video
from gonio.material_video import MaterialVideo
from gonio.neural_material import MaterialSpec
from gonio.reconstruct.plane import geometry_at
from gonio.rectify import reproject
from gonio.train.consistency import GeneratedVideos
from gonio.train.lrm import RECIPES, PoolMaterials, batch_at, train_lrm

SIZE = 32
RECIPE = replace(
    RECIPES["smoke"], consistency=1.0, loop=replace(RECIPES["smoke"].loop, steps=1, precision="no")
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GONIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_pool(ClipSettings(procedural=2, resolution=SIZE))


@pytest.fixture(scope="module")
def folder(pool, tmp_path_factory):
    """A video as gonio generate writes it; of no material of the pool."""
    frames = linear_from_srgb(pool.clip(0).float().flip(-1) / 255)
    linear, coverage = reproject(frames, two_phase(17), SIZE, SIZE)
    out = tmp_path_factory.mktemp("video")
    save_video(out, MaterialVideo(frames=linear, coverage=coverage, trajectory=two_phase(17), provenance={}))
    return out


def every_texel(size, generator):
    ramp = torch.arange(size)
    return (grid[None].expand(64, -1, -1) for grid in torch.meshgrid(ramp, ramp, indexing="ij"))


def test_an_example_is_half_of_the_frames_and_what_the_others_show(folder):
    videos = GeneratedVideos([folder], frames=17, size=SIZE)
    clip = videos.clips[0].float() / 255
    frames, uv, wi, wo, target = videos.example(every_texel, torch.Generator().manual_seed(0))
    kept = [i for i in range(17) if torch.equal(frames[i], clip[i])]
    assert kept in (list(range(0, 17, 2)), list(range(1, 17, 2)))
    others = set(range(17)) - set(kept)
    trajectory, seen = two_phase(17), set()
    ramp = torch.arange(SIZE)
    rows, columns = torch.meshgrid(ramp, ramp, indexing="ij")
    place = torch.stack([(columns + 0.5) / SIZE, 1 - (rows + 0.5) / SIZE], -1)
    for square in range(len(uv)):
        torch.testing.assert_close(uv[square], place)
        for frame in range(17):
            eye, lamp = (
                p[frame].expand(SIZE, SIZE, 3)
                for p in (trajectory.camera_position, trajectory.light_position)
            )
            at = geometry_at(place, eye, lamp)
            if torch.allclose(at.wi, wi[square], atol=1e-6) and torch.allclose(at.wo, wo[square], atol=1e-6):
                value = linear_from_srgb(clip[frame]) * (math.pi / at.irradiance)[..., None]
                if torch.allclose(log_encode(value, MaterialSpec().gain), target[square], atol=1e-5):
                    seen.add(frame)
    assert seen >= others - {0, 8} and not seen & set(kept) - {0, 8}  # 0 and 8 stand at one place


def test_a_batch_takes_its_share_from_generated_videos(pool, folder):
    materials, videos = PoolMaterials(pool), GeneratedVideos([folder], frames=17, size=SIZE)
    clip = videos.clips[0].float() / 255

    def from_videos(recipe):
        batches = [batch_at(recipe, materials, step, 0, videos)["frames"] for step in range(6)]
        frames = torch.cat(batches)
        return sum(
            int(sum(torch.equal(a, b) for a, b in zip(f, clip, strict=True)) in (8, 9)) for f in frames
        )

    plain = replace(RECIPE, faulty=0.0, thinned=0.0)
    assert from_videos(plain) == 12 and from_videos(replace(plain, consistency=0.0)) == 0
    assert 0 < from_videos(replace(plain, consistency=0.5)) < 12


def test_a_training_with_generated_videos_runs(pool, folder, tmp_path):
    videos = GeneratedVideos([folder], frames=17, size=SIZE)
    assert train_lrm(RECIPE, tmp_path, pool, generated=videos)
    with pytest.raises(UsageError, match="it takes no half of the frames"):
        train_lrm(
            replace(RECIPE, spec=replace(RECIPE.spec, detail=0, detail_blocks=0, projection="perspective")),
            tmp_path,
            pool,
            generated=videos,
        )


def test_videos_of_other_trajectories_are_refused(tmp_path):
    trajectory = cross_joined()
    frames = srgb_from_linear(torch.rand(81, 16, 16, 3))
    video = MaterialVideo(
        frames=frames, coverage=torch.ones(81, 16, 16), trajectory=trajectory, provenance={}
    )
    save_video(tmp_path / "cross", video)
    with pytest.raises(GonioError, match="cross: no two-phase video of 17 frames; leave it out"):
        GeneratedVideos([tmp_path / "cross"], frames=17, size=16)
    with pytest.raises(GonioError, match="no generated videos"):
        GeneratedVideos([], frames=17, size=16)
