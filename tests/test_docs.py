"""What the documents point to exists, and what they show can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from gonio.cli import parse

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def test_every_test_that_pins_a_convention_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "CONVENTIONS.md").read_text("utf-8"))
    assert len(named) > 30
    missing = [
        f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text("utf-8")
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_source_files_named_in_documents_exist(document):
    text = document.read_text("utf-8")
    named = set(re.findall(r"`((?:src|tests|scripts|benchmarks)/[\w./-]+)`", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_commands_behind_figures_are_understood():
    """Indented lines of RESULTS.md, in which "..." and "<31 of 68>" stand for more or other folders."""
    lines = re.findall(r"^    gonio (.*)", (ROOT / "docs" / "RESULTS.md").read_text("utf-8"), re.MULTILINE)
    assert len(lines) > 15
    for line in lines:
        parse(shlex.split(re.sub(r"<[^>]*>|\.\.\.", "x", line)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_in_documents_are_understood(document):
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
        for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            if words[:1] == ["gonio"]:
                parse(words[1:])  # UsageError when it is not
