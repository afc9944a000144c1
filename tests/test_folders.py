"""Output folders are proven writable before the work, and failed work leaves no empty ones behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from gonio.errors import GonioError
from gonio.folders import make_folder, make_room, no_empty_folders


def test_a_folder_is_made_with_its_parents_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b")
    assert folder.is_dir() and list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(GonioError, match="file/b: cannot write here .*; choose another output folder"):
        make_folder(tmp_path / "file" / "b")


def test_room_for_a_file_is_its_folder_but_no_folder_in_its_place(tmp_path: Path) -> None:
    assert make_room(tmp_path / "a" / "b.json") == tmp_path / "a" / "b.json"
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    with pytest.raises(GonioError, match="a: is a folder; name a file"):
        make_room(tmp_path / "a")


@pytest.mark.parametrize("error", [GonioError("no"), KeyboardInterrupt()])
def test_failed_work_leaves_no_empty_folder_it_made(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(type(error)), no_empty_folders():
        make_folder(tmp_path / "old")
        make_folder(tmp_path / "old" / "new" / "deep")
        make_folder(tmp_path / "kept" / "empty")
        (tmp_path / "kept" / "state.json").touch()
        raise error
    assert sorted(tmp_path.rglob("*")) == [
        tmp_path / "kept", tmp_path / "kept" / "state.json", tmp_path / "old",
    ]  # fmt: skip


def test_work_that_is_done_keeps_its_folders(tmp_path: Path) -> None:
    with no_empty_folders():
        make_folder(tmp_path / "new")
    assert (tmp_path / "new").is_dir()
