"""Output folders and the cache: made before work begins, so that an unwritable place costs no work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from gonio.errors import GonioError

# The folders made so far, parents first, for `no_empty_folders`.
_made: ContextVar[list[Path]] = ContextVar("made folders")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, made if need be and proven writable."""
    folder = Path(path)
    probe = folder / f".gonio-probe-{os.getpid()}"
    try:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        _made.get([]).extend(reversed(missing))
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise GonioError(f"{folder}: cannot write here ({reason}); choose another output folder") from None
    return folder


def make_room(path: str | os.PathLike[str]) -> Path:
    """The path of a file to write: its folder made if need be and proven writable, no folder in its place."""
    file = Path(path)
    if file.is_dir():
        raise GonioError(f"{file}: is a folder; name a file")
    make_folder(file.parent)
    return file


@contextmanager
def no_empty_folders() -> Iterator[None]:
    """Folders that `make_folder` makes in the block go again when the block fails and nothing is in them."""
    made: list[Path] = []
    token = _made.set(made)
    try:
        yield
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):  # not empty: the work goes on from what it holds
                folder.rmdir()
        raise
    finally:
        _made.reset(token)


def cache_folder() -> Path:
    """$GONIO_CACHE, else $XDG_CACHE_HOME/gonio, else ~/.cache/gonio."""
    named = os.environ.get("GONIO_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gonio"
