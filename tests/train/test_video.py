"""Training of the video transformer on cached latents."""

from copy import copy
from dataclasses import replace

import pytest
import torch
from layout_clips import layouts_cache
from safetensors.torch import load_file

from gonio import media
from gonio.data.cache import CacheSettings
from gonio.data.captions.templates import layouts_meant
from gonio.data.clips import ClipSettings, make_pool
from gonio.data.procedural.layouts import LAYOUTS
from gonio.errors import GonioError, UsageError
from gonio.models.codec import load_codec
from gonio.models.condition import condition
from gonio.models.denoiser import Denoiser
from gonio.models.load import load_memory_of, load_transformer, random_autoencoder, random_transformer
from gonio.models.lora import load_lora
from gonio.models.packing import principal_packing, save_packing
from gonio.models.spec import find_spec
from gonio.models.text import load_minilm
from gonio.models.weight_files import PACKING_FILE, save_model
from gonio.train import video_run
from gonio.train.loop import LoopSettings, Training
from gonio.train.memory import memory_of
from gonio.train.pool_cache import pool_cache
from gonio.train.video import RECIPES, VideoObjective, batch_at, padded_text, widened_input
from gonio.train.video_run import Validations, train_video

RECIPE = replace(
    RECIPES["smoke"], clips=ClipSettings(procedural=3, resolution=32), drop_text=0.5, keep="best"
)
SPEC = find_spec("mini-t2v")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GONIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_pool(RECIPE.clips)


def made_cache(pool, folder, **changes):
    """A cache of the pool whose encoders say nothing; `changes` of what it is made with."""
    given = {
        "spec": SPEC,
        "settings": CacheSettings(model="mini-t2v", numbers="fp32", projection="rectified", size=32),
        "variants": 1,
        "seed": 0,
        "exclude": (),
        "encode_video": lambda frames: torch.ones(96, 1, 4, 4),
        "encode_text": lambda text: torch.ones(2, 384),
    }
    return pool_cache(pool, folder, **given | changes)


@pytest.fixture(scope="module")
def cache(pool, tmp_path_factory):
    """Latents that are not an autoencoder's, with photos: what the batches are made of."""
    draw = torch.Generator().manual_seed(0)
    return made_cache(
        pool,
        tmp_path_factory.mktemp("latents"),
        variants=2,
        encode_video=lambda frames: torch.randn(96, 1, 4, 4, generator=draw),
        encode_text=lambda text: torch.full((1 + len(text.split()), 384), float(len(text))),
        photo=lambda index: torch.rand(32, 32, 3, generator=draw),
    )


@pytest.fixture
def weights(tmp_path):
    """An autoencoder and a transformer of the mini models in diffusers layout."""
    folder = tmp_path / "weights"
    save_model(folder / "vae", random_autoencoder(SPEC, 0))
    save_packing(folder / "vae" / PACKING_FILE, principal_packing(torch.randn(8, 60, 8, 8), 96))
    save_model(folder / "transformer", random_transformer(SPEC, 1))
    return folder


def test_every_variant_of_every_clip_has_captions_of_its_own(cache, pool):
    assert len(cache) == 2 * len(pool)
    captions = [caption for record in cache.records for caption in record["captions"]]
    assert len(set(captions)) > len(cache)


def test_variants_of_a_clip_are_not_the_same_twice(pool, tmp_path):
    shown = []
    made_cache(
        pool,
        tmp_path,
        variants=len(pool.symmetries),
        encode_video=lambda frames: (shown.append(frames), torch.zeros(96, 1, 4, 4))[1],
    )
    first = shown[: len(pool.symmetries)]
    assert len({frames.numpy().tobytes() for frames in first}) == len(pool.symmetries)


def test_no_caption_equals_an_excluded_prompt(cache, pool, tmp_path):
    excluded = [caption for record in cache.records for caption in record["captions"]]
    again = made_cache(pool, tmp_path, variants=2, exclude=excluded)
    found = {caption for record in again.records for caption in record["captions"]}
    assert not found & set(excluded)


def denoiser(spec, transformer):
    return Denoiser(spec, transformer, torch.linspace(2, 0.5, 96))


def test_a_batch_depends_on_its_number_alone(cache):
    first, again, other = (batch_at(RECIPE, SPEC, cache, 5, i) for i in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["noise"], other["noise"])
    assert first["latents"].shape == (2, 96, 1, 4, 4) and first["text"].shape == (2, 64, 384)


def test_some_prompts_are_dropped(cache):
    """The empty prompt of this encoder is a single token of zeros."""
    texts = torch.cat([batch_at(RECIPE, SPEC, cache, step, 0)["text"] for step in range(40)])
    share = float((texts.flatten(1) == 0).all(1).float().mean())
    assert 0.3 < share < 0.7


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """Two items of each of the first layouts, with latents that tell them apart and texts that are real."""
    return layouts_cache(tmp_path_factory)


def test_chosen_layouts_are_named_with_those_their_captions_mean(chosen):
    for record in chosen.records:
        family, layout = record["layout"].split()
        for caption, named in zip(record["captions"], record["meant"], strict=True):
            meant = layouts_meant(caption, family, LAYOUTS[family])
            assert named == [f"{family} {number}" for number in meant] and int(layout) in meant


def test_a_clip_is_shown_what_the_memory_holds_of_its_layout(chosen):
    memory = memory_of(chosen, SPEC.memory)
    kept = zip(memory.names, memory.values, strict=True)
    known = {tuple(values.flatten().tolist()): name for name, values in kept}
    told = []
    for step in range(30):
        condition = batch_at(RECIPE, SPEC, chosen, step, 0, memory)["condition"]
        items = [chosen.sample(step * 4096 * RECIPE.batch + i, RECIPE.seed) for i in range(RECIPE.batch)]
        for item, recalled in zip(items, condition[:, SPEC.position_channels :], strict=True):
            name = known.get(tuple(recalled[:, 0].flatten().tolist()))
            assert name == item["layout"] or recalled.eq(0).all()
            told.append(name)
    assert 0.02 < told.count(None) / len(told) < 0.3


def test_beside_a_photo_nothing_is_recalled(cache, chosen):
    spec, memory = find_spec("mini-i2v"), memory_of(chosen, SPEC.memory)
    named = [record | {"layout": memory.names[0], "meant": []} for record in cache.records]
    again = copy(cache)
    again.records = named
    condition = batch_at(RECIPE, spec, again, 0, 0, memory)["condition"]
    assert condition[:, spec.position_channels :][:, : spec.memory].eq(0).all()
    assert condition[:, -spec.photo_channels :].ne(0).any()


def test_clips_that_show_another_pattern_than_their_layouts_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("GONIO_CACHE", str(tmp_path / "clips"))
    pool = make_pool(ClipSettings(procedural=3, resolution=32, plain=True, layouts="chosen"))
    pool.records[1]["attributes"]["pattern_family"] = "another"
    assert [record["id"] for record in made_cache(pool, tmp_path / "latents").records] == [
        "00000_0",
        "00002_0",
    ]


def test_text_is_padded_with_zeros_and_cut():
    text = torch.ones(3, 2)
    assert torch.equal(padded_text(text, 5), torch.cat([text, torch.zeros(2, 2)]))
    assert padded_text(text, 2).shape == (2, 2)


def test_a_prediction_of_the_velocity_has_no_loss(cache):
    batch = batch_at(RECIPE, SPEC, cache, 0, 0)

    class Perfect(torch.nn.Module):
        def forward(self, hidden_states, timestep, **_):
            sigma = (timestep / 1000).view(-1, 1, 1, 1, 1)
            return ((hidden_states[:, :96] - batch["latents"]) / sigma,)

    plain, conditioned = (replace(SPEC, preconditioned=value) for value in (False, True))
    assert float(VideoObjective(denoiser(plain, Perfect()))(**batch)) < 1e-6
    assert float(VideoObjective(denoiser(conditioned, Perfect()))(**batch)) > 1e-2


def test_the_image_model_sees_mask_and_photo_behind_the_noise(cache):
    spec = find_spec("mini-i2v")
    batch = batch_at(RECIPE, spec, cache, 0, 0)
    told = SPEC.position_channels + SPEC.memory
    assert batch["condition"].shape == (2, told + 4 + 96, 1, 4, 4)
    mask = batch["condition"][:, told:][:, :4]
    assert bool((mask[:, :, 0] == 1).all()) and bool((mask[:, :, 1:] == 0).all())
    model = random_transformer(spec, 0)
    assert torch.isfinite(VideoObjective(denoiser(spec, model))(**batch))


def test_photos_are_needed_for_an_image_model(pool, tmp_path):
    without = made_cache(pool, tmp_path)
    with pytest.raises(GonioError, match="has no reference photo; make the data with --photos"):
        batch_at(RECIPE, find_spec("mini-i2v"), without, 0, 0)


def test_a_share_of_the_clips_gets_a_photo_and_the_others_are_learned_from_their_text(pool, tmp_path):
    cache = made_cache(
        pool,
        tmp_path,
        variants=4,
        encode_text=lambda text: torch.full((2, 384), float(len(text))),
        photo=lambda index: torch.rand(32, 32, 3),
        photos=0.5,
    )
    given = ["photo" in cache[index] for index in range(len(cache))]
    assert 0 < sum(given) < len(given)
    recipe = replace(RECIPE, photos=0.5, drop_text=0.0, drop_text_beside=1.0, batch=len(cache))
    batch = batch_at(recipe, find_spec("mini-i2v"), cache, 0, 0)
    told = batch["condition"][:, SPEC.position_channels :].flatten(1)
    texts = batch["text"].flatten(1)
    shown = told.ne(0).any(1)
    assert int(shown.sum()) == sum(given)
    assert texts[~shown].ne(0).any(1).all() and not texts[shown].any()


@pytest.fixture
def mixed(pool):
    """The pool, as if its first clip showed a real material and its second a varied one."""
    real, varied = ({**pool.records[0], "category": "wood"}, {**pool.records[1], "varied": True})
    return replace(pool, records=[real, varied, *pool.records[2:]])


def test_photos_can_be_kept_to_real_and_varied_materials(mixed, tmp_path):
    cache = made_cache(mixed, tmp_path, photo=lambda index: torch.rand(32, 32, 3), only_varied=True)
    assert ["photo" in cache[index] for index in range(len(cache))] == [i < 2 for i in range(len(mixed))]
    spec = find_spec("mini-i2v")
    recipe = replace(RECIPE, photos_of="varied", batch=len(cache))
    told = batch_at(recipe, spec, cache, 0, 0)["condition"][:, SPEC.position_channels :].flatten(1)
    assert int(told.ne(0).any(1).sum()) == 2


@pytest.mark.parametrize("accepted", [False, True])
def test_procedural_clips_that_are_not_accepted_are_left_out_and_others_never_asked_about(
    mixed, tmp_path, accepted
):
    asked = []

    def accept(frames, attributes):
        asked.append((tuple(frames.shape), attributes))
        return accepted

    cache = made_cache(mixed, tmp_path, accept=accept)
    kept = ["00000_0", "00001_0", "00002_0"] if accepted else ["00000_0", "00001_0"]
    assert [record["id"] for record in cache.records] == kept
    assert asked == [((17, 32, 32, 3), record["attributes"]) for record in mixed.records[2:]]


def test_a_recipe_of_recognised_clips_needs_someone_who_recognises(pool, weights, tmp_path):
    with pytest.raises(UsageError, match="recognised"):
        train_video(replace(RECIPE, recognised=True), tmp_path / "out", pool=pool, weights=weights)


def test_a_widened_model_predicts_what_the_text_model_did():
    spec = find_spec("mini-i2v")
    text_model, image_model = random_transformer(SPEC, 0), random_transformer(spec, 1)
    with torch.no_grad():
        text_model.proj_out.weight.normal_()
    image_model.load_state_dict(widened_input(text_model.state_dict(), spec.transformer["in_channels"]))
    x, photo = torch.randn(1, 96, 1, 4, 4), torch.randn(1, 96, 1, 4, 4)
    rest = {"timestep": torch.tensor([500.0]), "encoder_hidden_states": torch.randn(1, 64, 384)}
    with torch.no_grad():
        expected = text_model(hidden_states=torch.cat([x, condition(SPEC, x)], 1), **rest).sample
        found = image_model(hidden_states=torch.cat([x, condition(spec, x, photo)], 1), **rest).sample
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_training_writes_what_the_model_loads(pool, cache, weights, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    recipe = replace(RECIPE, validate_every=2)
    seen = []
    scores = iter([0.1] * 4 + [0.9] * 4 + [0.5] * 4)  # the model before its training scores best

    def score(video):
        seen.append((video.frames.shape, (out / "transformer").exists()))
        return next(scores)

    spec = replace(SPEC, bundled_autoencoder=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_run, "find_spec", lambda name: spec)
        done = train_video(recipe, out, data=cache.folder, weights=weights, score=score)
    # Nothing is kept before the training's own first validation has been scored.
    assert done and seen == [((17, 32, 32, 3), False)] * 8 + [((17, 32, 32, 3), True)] * 4
    kept, begun = (load_transformer(SPEC, folder).proj_out.bias for folder in (out, weights))
    assert not torch.equal(kept, begun)
    rows = media.read_json(out / "validation.json")["rows"]
    assert [row["step"] for row in rows] == [0, 2, 4] and rows[2]["score"] == pytest.approx(0.5)
    assert (out / "validation" / "000002.mp4").exists()


def test_a_training_on_layouts_writes_the_memory_it_was_shown(chosen, weights, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        spec = replace(SPEC, bundled_autoencoder=None)
        patch.setattr(video_run, "find_spec", lambda name: spec)
        train_video(replace(RECIPE, validate_every=0), tmp_path, data=chosen.folder, weights=weights)
    with torch.no_grad():
        shown = memory_of(chosen, SPEC.memory, load_codec(spec, weights).without_color)
    found = load_memory_of(SPEC, tmp_path)
    assert found.names == shown.names
    torch.testing.assert_close(found.values, shown.values, rtol=1e-3, atol=1e-3)


def test_an_image_model_is_validated_on_photos(cache, weights, tmp_path):
    spec = replace(find_spec("mini-i2v"), bundled_autoencoder=None)
    network = random_transformer(spec, 1)
    with torch.no_grad():  # a head of zeros sees no photo
        network.proj_out.weight.normal_(std=0.02)
    save_model(weights / "transformer", network)
    recipe = replace(RECIPE, model="mini-i2v", validate_every=4)
    photos = [torch.full((32, 32, 3), 0.2), torch.full((32, 32, 3), 0.8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_run, "find_spec", lambda name: spec)
        train_video(recipe, tmp_path / "out", data=cache.folder, weights=weights, photos=photos)
    rows = media.read_json(tmp_path / "out" / "validation.json")["rows"]
    assert [row["step"] for row in rows] == [0, 4] and all(row["spread"] > 0 for row in rows)


def test_a_training_that_was_stopped_ends_with_the_same_bits(cache, weights, tmp_path):
    """Through gradient checkpointing, averaged weights and Muon: weights, optimizer and batches go on."""
    loop = replace(RECIPES["smoke"].loop, muon_rate=1e-3)
    recipe = replace(RECIPE, keep="last", checkpointing=True, loop=loop)
    spec = replace(SPEC, bundled_autoencoder=None)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_run, "find_spec", lambda name: spec)
        assert train_video(recipe, whole, data=cache.folder, weights=weights)
        for _ in range(loop.steps - 1):
            assert not train_video(recipe, parts, data=cache.folder, weights=weights, stop_after_seconds=0)
        assert train_video(recipe, parts, data=cache.folder, weights=weights, stop_after_seconds=0)
    states = [load_file(folder / "training.safetensors") for folder in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    networks = [load_transformer(SPEC, folder).state_dict() for folder in (whole, parts)]
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_a_lora_training_writes_one_file(pool, cache, weights, tmp_path):
    recipe = replace(RECIPE, tuning="lora", rank=4, loop=LoopSettings(steps=2, rate=1e-2, warmup=1))
    spec = replace(SPEC, bundled_autoencoder=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_run, "find_spec", lambda name: spec)
        train_video(recipe, tmp_path, data=cache.folder, weights=weights)
        other = {"data": cache.folder, "weights": weights, "lora_format": "diffsynth"}
        train_video(recipe, tmp_path / "other", **other)
    assert load_lora(tmp_path / "lora.safetensors", load_transformer(SPEC, weights)) == "diffusers"
    assert load_lora(tmp_path / "other" / "lora.safetensors", load_transformer(SPEC, weights)) == "diffsynth"


def test_the_best_checkpoint_is_the_best_score_that_has_not_collapsed(tmp_path):
    training = Training(VideoObjective(denoiser(SPEC, random_transformer(SPEC, 0))), RECIPE.loop)
    generator = video_run.Generator(
        spec=SPEC,
        transformer=training.bare.denoiser.transformer,
        codec=load_codec(SPEC),
        text=load_minilm(length=64),
    )
    history = Validations(tmp_path, RECIPE, generator, training, [], score=lambda video: 0.0)
    history.found = [video_run.Validation(step=1, score=0.5, spread=1.0)]
    history.kept = True
    assert history._is_best(video_run.Validation(step=2, score=0.4, spread=0.8))
    assert not history._is_best(video_run.Validation(step=2, score=0.6, spread=0.8))
    assert not history._is_best(video_run.Validation(step=2, score=0.1, spread=0.2))
    history.recipe = replace(RECIPE, keep="last")
    assert history._is_best(video_run.Validation(step=2, score=0.6, spread=0.8))


def test_cached_latents_of_the_other_projection_are_refused(cache, weights, tmp_path):
    spec = replace(SPEC, bundled_autoencoder=None, projection="perspective")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_run, "find_spec", lambda name: spec)
        with pytest.raises(GonioError, match="not perspective clips|needs perspective"):
            train_video(RECIPE, tmp_path, data=cache.folder, weights=weights)


def test_no_data_is_an_error(weights, tmp_path):
    spec = replace(SPEC, bundled_autoencoder=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_run, "find_spec", lambda name: spec)
        with pytest.raises(UsageError, match="no data"):
            train_video(RECIPE, tmp_path, weights=weights)


def test_the_papers_numbers():
    for name in ("paper-t2v-full", "paper-t2v-lora", "paper-i2v", "paper-tileable"):
        recipe = RECIPES[name]
        assert recipe.loop.rate == 1e-5 and recipe.drop_text == 0.1 and recipe.rank == 32
    assert RECIPES["paper-i2v"].model == "wan2.1-i2v-14b"


def test_a_training_that_goes_on_keeps_what_the_model_knows_of_photos():
    recipe = RECIPES["mini-more"]
    assert RECIPES["mini-plain"].start == RECIPES["mini-plain"].model == recipe.model
    spec = find_spec(recipe.model)
    assert spec.task == "image" and recipe.start == recipe.model
    photo = video_run._start(recipe, spec, None).patch_embedding.weight[:, SPEC.transformer["in_channels"] :]
    assert photo.abs().max() > 0
