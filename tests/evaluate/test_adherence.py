"""Adherence: each rule by an example that meets it and one that does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gonio.errors import GonioError, UsageError
from gonio.evaluate.adherence import Asked, adherence, adherence_rates, adherence_row, read_prompts
from gonio.evaluate.attributes import Attributes


def measured(**changes: object) -> Attributes:
    """A mostly red, partly white, rough brick wall."""
    facts: dict = {
        "colour": "red",
        "colour_shares": {"red": 0.7, "white": 0.3},
        "colour_reach": {"red": 0.7, "white": 0.3, "orange": 0.2, "brown": 0.26},
        "category": "brick",
        "category_scores": {"brick": 0.5, "tiles": 0.3, "roof": 0.15, "paving": 0.05},
        "roughness": "rough",
        "roughness_value": 0.8,
        "metallic": False,
        "metallic_probability": 0.1,
    }
    return Attributes(**(facts | changes))


@pytest.mark.parametrize(
    ("colour", "ok"), [("red", True), ("white", True), ("brown", True), ("orange", False), ("blue", False)]
)
def test_a_colour_is_met_by_a_quarter_of_the_area(colour: str, ok: bool):
    assert adherence(Asked(prompt="p", colour=colour), measured())["colour_ok"] is ok


def test_the_largest_area_meets_the_colour_however_small():
    patchwork = measured(colour="pink", colour_shares={"pink": 0.2}, colour_reach={"pink": 0.2})
    assert adherence(Asked(prompt="p", colour="pink"), patchwork)["colour_ok"] is True


def test_the_family_is_the_most_likely_one_and_looser_rules_are_told_apart():
    def checks(family: str, category: str) -> list[bool | None]:
        found = adherence(Asked(prompt="p", family=family), measured(category=category))
        return [found["family_ok"], found["family_top3"], found["family_related"]]

    assert checks("brick", "brick") == [True, True, True]
    assert checks("roof", "brick") == [False, True, False]
    assert checks("paving", "brick") == [False, False, False]
    assert checks("ceramic", "tiles") == [False, False, True]


def test_what_is_not_asked_is_not_counted():
    assert set(adherence(Asked(prompt="p"), measured()).values()) == {None}
    asked = [
        Asked(prompt="a", metallic=False),
        Asked(prompt="b", metallic=True),
        Asked(prompt="c", colour="red"),
    ]
    rates = adherence_rates([adherence_row(a, measured()) for a in asked])
    assert rates["metallic_ok"] == {"rate": 0.5, "asked": 2}
    assert rates["colour_ok"] == {"rate": 1.0, "asked": 1}
    assert rates["roughness_ok"] == {"rate": None, "asked": 0}


def test_a_row_says_what_was_asked_and_what_was_measured():
    row = adherence_row(Asked(prompt="p", roughness="satin"), measured())
    assert row["asked"]["roughness"] == "satin" and row["measured"]["roughness"] == "rough"
    assert row["roughness_ok"] is False
    assert json.loads(json.dumps(row)) == row


def test_a_prompt_file_is_read(tmp_path: Path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "rusty iron", "colour": "orange", "metallic": null}\n\n{"prompt": "ice"}\n')
    assert read_prompts(file) == [Asked(prompt="rusty iron", colour="orange"), Asked(prompt="ice")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2 is not JSON"),
        ('["prompt"]', "line 2 must be an object"),
        ('{"colour": "red"}', "line 2 must be an object"),
        ('{"prompt": "p", "color": "red"}', "line 2 must be an object"),
        ('{"prompt": "p", "colour": "teal"}', "line 2: colour 'teal' is not one of red"),
        ('{"prompt": "p", "family": ["wood"]}', "line 2: family"),
        ('{"prompt": "p", "metallic": 1}', "line 2: metallic 1"),
        ('{"prompt": ""}', "line 2: a prompt must be"),
        ("[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, problem: str):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "fine"}\n' + line)
    with pytest.raises(UsageError, match=problem):
        read_prompts(file)


def test_files_without_prompts_are_errors(tmp_path: Path):
    empty, binary = tmp_path / "empty.jsonl", tmp_path / "binary.jsonl"
    empty.write_text("\n")
    binary.write_bytes(b"\xff\xfe")
    for file, problem in ((empty, "holds no prompt"), (binary, "UTF-8"), (tmp_path / "none", "none")):
        with pytest.raises(GonioError, match=problem):
            read_prompts(file)


def test_the_shared_prompts_are_in_the_vocabulary(data_root: Path):
    file = data_root.parent / "prompts" / "prompts.jsonl"
    if not file.exists():
        pytest.skip(f"no {file}")
    assert len(read_prompts(file)) >= 50
