"""Captions: many, true to the attributes, never a prompt that is asked later; and Qwen2-VL's."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from gonio.data.captions import PREFIX, caption_outside, comparable, describe, describe_real
from gonio.data.captions.nouns import CATEGORY_NOUNS, METALLIC_NAMES, NAMES
from gonio.data.captions.real import subjects
from gonio.data.captions.templates import described, layouts_meant
from gonio.data.captions.vision import INSTRUCTIONS, STRATEGIES, load_captioner, strategy_of, without_lighting
from gonio.data.captions.words import (
    COLOR_PHRASES,
    FINISH_PHRASES,
    METALS_BY_COLOR,
    names_color,
    names_metal,
)
from gonio.data.categories import CATEGORIES
from gonio.data.procedural import COLOR_NAMES, FAMILIES, sample_material
from gonio.data.procedural.captions import RELIEF_CLASSES, ROUGHNESS_CLASSES
from gonio.data.procedural.layouts import LAYOUTS
from gonio.errors import GonioError
from gonio.pbr import load_material_maps


@pytest.fixture(scope="module")
def attributes() -> list[dict[str, Any]]:
    """Of two materials of every family."""
    return [
        sample_material(seed, family=name, resolution=16).metadata["attributes"]
        for name in FAMILIES
        for seed in range(2)
    ]


@pytest.fixture(scope="module")
def captions(attributes: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    return [(a, describe(a, seed)) for a in attributes for seed in range(25)]


def test_the_vocabulary_is_whole():
    assert set(NAMES) == set(FAMILIES) and set(METALLIC_NAMES) <= set(FAMILIES)
    assert set(COLOR_PHRASES) == set(COLOR_NAMES)
    assert set(FINISH_PHRASES) == set(ROUGHNESS_CLASSES)
    assert set(CATEGORY_NOUNS) == set(CATEGORIES)
    for family, names in NAMES.items():
        general = names[0]
        assert not (general.adjective or general.colors or general.finishes or general.pattern), family


def test_every_caption_names_the_colour_and_no_other(captions: list[tuple[dict[str, Any], str]]):
    """By a word for it, or by a thing or a metal that has it."""
    for attributes, text in captions:
        allowed = {attributes["dominant_color"], attributes["secondary_color"]} - {None}
        text = text.replace("orange peel", "")
        said = {c for c in COLOR_NAMES if any(_has(text, phrase) for phrase in COLOR_PHRASES[c])}
        of_metal = [metal for metal, _ in METALS_BY_COLOR.get(attributes["dominant_color"], ())]
        own = COLOR_PHRASES[attributes["dominant_color"]]
        telling = [n for n in NAMES[attributes["family"]] if n.tells_color and n.fit(attributes)]
        of_nature = [phrase for names in telling for phrase in names.phrases]
        assert any(_has(text, w) for w in (*own, *of_nature)) or (
            attributes["metallic"] and any(_has(text, m) for m in of_metal)
        ), text
        for color in said - allowed:  # a word inside another's phrase ("olive green"), or a metal's name
            inside = [
                p for c in allowed for p in COLOR_PHRASES[c] if any(w in p for w in COLOR_PHRASES[color])
            ]
            special = color in ("gold", "copper") and any(m in text for m in ("gold", "copper"))
            assert inside or special, (color, attributes["dominant_color"], text)


def _has(text: str, phrase: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", text) is not None


def test_metal_is_said_of_metals_and_of_painted_ones_only(captions: list[tuple[dict[str, Any], str]]):
    metal_families = {"brushed_metal", "hammered_metal", "stamped_metal", "corrugated_metal"}
    for attributes, text in captions:
        if attributes["metallic"]:
            assert names_metal(text), text
        elif attributes["family"] in metal_families:
            assert "painted" in text or "coated" in text, text
        elif attributes["family"] != "rust":
            for phrase in (*COLOR_PHRASES.get(attributes["secondary_color"], ()), "gold-veined"):
                text = text.replace(phrase, "")
            assert not names_metal(text), text


def test_conditions_of_names_hold(attributes: list[dict[str, Any]]):
    """A name with a condition is only given where the condition is met."""
    for a in attributes:
        nouns = {n for seed in range(40) for n in described(a, random.Random(seed)).nouns}
        if "suede" in nouns:
            assert a["family"] == "leather" and a["roughness_class"] in ("matte", "rough")
        if "birch bark" in nouns:
            assert a["dominant_color"] == "white"
        if "cobblestones" in nouns:
            assert a["pattern_family"] == "cobble"
        if a["family"] == "fabric" and "denim" in a["pattern_family"]:
            assert "denim" in nouns
        if a["metallic"] and a["family"] == "brushed_metal" and a["dominant_color"] == "copper":
            assert nouns & {"copper", "bronze"} and not nouns & {"gold", "steel"}


def test_what_has_its_colour_by_nature_is_called_without_it_half_of_the_time(
    attributes: list[dict[str, Any]],
):
    moss = next(a for a in attributes if a["family"] == "moss")
    texts = [describe({**moss, "dominant_color": "green", "secondary_color": None}, n) for n in range(400)]
    texts = [text for text in texts if "moss cushion" in text or "forest moss" in text]
    unsaid = sum(not any(_has(text, phrase) for phrase in COLOR_PHRASES["green"]) for text in texts)
    assert 0.3 * len(texts) < unsaid < 0.7 * len(texts)
    for n in range(100):
        blue = describe({**moss, "dominant_color": "blue", "secondary_color": None}, n)
        assert any(_has(blue, phrase) for phrase in COLOR_PHRASES["blue"])


def test_a_metal_is_found_in_whole_words_only(attributes: list[dict[str, Any]]):
    """There is no tin in a grating: its colour is always said."""
    steel = next(a for a in attributes if a["family"] == "stamped_metal")
    grating = {**steel, "metallic": True, "dominant_color": "silver", "secondary_color": None}
    texts = [describe({**grating, "pattern_family": "grating"}, n) for n in range(800)]
    texts = [text for text in texts if "metal grating" in text]
    assert len(texts) > 20
    for text in texts:
        assert any(_has(text, phrase) for phrase in COLOR_PHRASES["silver"]), text


def test_finish_words_are_of_the_measured_class(captions: list[tuple[dict[str, Any], str]]):
    telling = {"glossy": ("mirror-like", "glossy"), "satin": ("satin",), "matte": ("matte", "rough")}
    for attributes, text in captions:
        for word, classes in telling.items():
            if re.search(rf"\b{word} (finish|surface of)|(is|looks) {word}\b", text):
                assert attributes["roughness_class"] in classes, text


def test_sentences_are_many_and_well_formed(captions: list[tuple[dict[str, Any], str]]):
    texts = [text for _, text in captions]
    assert len(set(texts)) > 0.9 * len(texts)
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) <= 2 and max(lengths) >= 20
    assert 0.1 < sum(text.startswith(PREFIX) for text in texts) / len(texts) < 0.4
    for text in texts:
        assert not re.search(r"[{}\[\]]|  |None| ,|\ba [aeiou]|,$", text), text
    assert describe(captions[0][0], 3) == describe(captions[0][0], 3)


def test_no_caption_equals_an_excluded_prompt():
    excluded = ["Grey slate tiles!", "a red brick  wall"]
    assert comparable("The gray, slate TILES") == comparable(excluded[0])

    def caption(seed: int) -> str:
        return random.Random(seed).choice(("gray slate tiles", "Red brick wall.", "red bricks"))

    assert {caption(seed) for seed in range(50)} > {"red bricks"}
    assert {caption_outside(caption, seed, excluded) for seed in range(50)} == {"red bricks"}
    with pytest.raises(GonioError, match="every caption is an excluded prompt"):
        caption_outside(lambda seed: "red brick wall", 0, excluded)


@pytest.mark.parametrize(
    ("metadata", "folder", "expected"),
    [
        ({"name": "RoofingTiles014D (1K-JPG from ambientCG)", "category": "roof"}, "x", "roofing tiles"),
        ({"category": "ground"}, "ph_unnamed_gravel_with_leaves", "gravel with leaves"),
        ({"category": "metal"}, "acg_diamondplate006c", "diamondplate"),
        ({"category": "snow_ice"}, "material_01", "snow"),
        ({"category": "Fantasy Stuff"}, "tex_2k", "fantasy stuff"),
        ({"category": 3, "name": None, "tags": 7}, "0001", "material"),
    ],
)
def test_real_maps_are_called_by_name_category_or_neither(
    metadata: dict[str, Any], folder: str, expected: str
):
    assert subjects(metadata, folder)[0] == expected


def test_captions_of_real_maps_say_what_is_measured(data_root: Path):
    gold = load_material_maps(data_root / "materials" / "acg_metal007").resized(64)
    texts = {describe_real(gold, seed) for seed in range(30)}
    assert len(texts) > 15
    for text in texts:
        assert "metal" in text and any(_has(text, w) for w in COLOR_PHRASES["gold"]), text
    scratched = load_material_maps(data_root / "materials" / "cgb_scratched_gold_01").resized(64)
    named = [t for seed in range(40) if "gold" in (t := describe_real(scratched, seed))]
    assert named
    for text in named:  # the name is believed: no second colour beside it
        assert not names_color(text.replace("scratched gold", "")), text


def test_tags_are_adjectives_but_not_colours_or_metals(data_root: Path):
    from dataclasses import replace

    wood = load_material_maps(data_root / "materials" / "cc0tex_wood07").resized(32)
    wood = replace(wood, metadata={**wood.metadata, "tags": ["oak", "purple", "steel", 5]})
    texts = " / ".join(describe_real(wood, seed) for seed in range(60))
    assert "oak" in texts and "purple" not in texts and "steel" not in texts


def test_sentences_about_light_are_removed_and_shades_are_not():
    text = (
        "A light brown wooden floor. The lighting is soft and even! Knots are 1.5 cm wide, with light grey "
        "grain. Shadows fall to the left. It is a lightweight board. Soft light plays over it"
    )
    assert without_lighting(text) == (
        "A light brown wooden floor. Knots are 1.5 cm wide, with light grey grain. It is a lightweight board."
    )
    assert without_lighting("The light moves in a circle.") == ""


def test_strategies_come_half_and_half_and_stay():
    names = [f"material_{i}" for i in range(400)]
    share = sum(strategy_of(name) == "free" for name in names) / len(names)
    assert 0.42 < share < 0.58
    assert [strategy_of(n) for n in names] == [strategy_of(n) for n in names]


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-VL of a few thousand random weights, with a byte tokenizer, as the published folders are."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    folder = tmp_path_factory.mktemp("qwen")
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    marks += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    letters = Tokenizer(BPE({c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}, []))
    letters.pre_tokenizer, letters.decoder = ByteLevel(add_prefix_space=False), ByteDecoder()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=marks,
    )
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56).save_pretrained(folder)
    number = dict(zip(marks, tokenizer.convert_tokens_to_ids(marks), strict=True))
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": rope,
            "bos_token_id": number["<|endoftext|>"], "eos_token_id": number["<|im_end|>"],
            "pad_token_id": number["<|endoftext|>"], "initializer_range": 0.3,
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2,
                       "initializer_range": 0.3},
        image_token_id=number["<|image_pad|>"],
        video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"],
        vision_end_token_id=number["<|vision_end|>"],
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


def test_qwen_answers_to_frames_and_instruction(qwen_folder: Path):
    captioner = load_captioner(qwen_folder, dtype="fp32")
    captioner.max_tokens = 16
    torch.manual_seed(0)
    frames = torch.rand(2, 40, 64, 3)
    answer = captioner.answer(frames, "Describe.")
    assert answer == captioner.answer(frames, "Describe.")
    assert answer != captioner.answer(torch.zeros(2, 40, 64, 3), "Describe.")
    assert answer != captioner.answer(frames, "Material only.")


def test_both_strategies_ask_their_question_and_drop_the_light(qwen_folder: Path):
    captioner = load_captioner(qwen_folder, dtype="fp32")
    asked: list[str] = []
    answers = iter(["Red bricks. Strong light from above.", "The light moves.", "Old bricks.", "Cut off by"])

    def answer(frames: torch.Tensor, instruction: str) -> str:
        asked.append(instruction)
        return next(answers)

    captioner.answer = answer  # type: ignore[method-assign]
    free = next(n for n in map(str, range(9)) if strategy_of(n) == "free")
    other = next(n for n in map(str, range(9)) if strategy_of(n) == "material")
    frames = torch.zeros(1, 8, 8, 3)
    assert captioner.caption(frames, free) == "Red bricks."
    assert captioner.caption(frames, free) == "Old bricks."  # nothing but light: asked again
    with pytest.raises(GonioError, match="nothing usable"):
        captioner.caption(frames, other)
    free_question, material_question = (INSTRUCTIONS[s] for s in STRATEGIES)
    assert asked == [free_question, free_question, material_question, material_question]


def test_a_folder_without_the_captioner_is_an_error(tmp_path: Path):
    with pytest.raises(GonioError, match="no config.json"):
        load_captioner(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}')
    with pytest.raises(GonioError, match="no Qwen2-VL captioner can be loaded"):
        load_captioner(tmp_path)


def test_every_relief_has_words():
    from gonio.data.captions.words import RELIEF_PHRASES

    assert set(RELIEF_PHRASES) == set(RELIEF_CLASSES)


@pytest.mark.parametrize(
    ("caption", "family", "patterns"),
    [
        ("white hexagonal tiles", "tile", {"hexagon tiles"}),
        ("white tiles, a hexagon pattern", "tile", {"hexagon tiles"}),
        ("white tiles with grout", "tile", set(LAYOUTS["tile"].values())),
        ("blue denim", "fabric", {"denim weave", "checked denim weave", "striped denim weave"}),
        ("blue cloth with a checked denim weave", "fabric", {"checked denim weave"}),
        ("cobbled street", "paving", {"cobble"}),
        ("riveted steel plate", "stamped_metal", {"rivets"}),
        ("copper wire mesh, shiny", "stamped_metal", {"grating"}),
        ("brushed blue anodised aluminium", "brushed_metal", {"brush lines"}),
        ("polished gold", "brushed_metal", {"brush lines", "scratches"}),
    ],
)
def test_a_caption_means_the_layouts_whose_pattern_it_names(caption, family, patterns):
    meant = layouts_meant(caption, family, LAYOUTS[family])
    assert {LAYOUTS[family][number] for number in meant} == patterns


def test_captions_of_a_chosen_layout_mean_it() -> None:
    """But for words that another pattern has too ("a cracked texture" and "cracked rock")."""
    missed = []
    for family, layouts in LAYOUTS.items():
        for number in layouts:
            said = sample_material(3, family=family, resolution=16, plain=True, layout=number)
            texts = [describe(said, seed) for seed in range(6)]
            missed += [text for text in texts if number not in layouts_meant(text, family, layouts)]
    assert len(missed) < 0.02 * 6 * sum(map(len, LAYOUTS.values())), missed
