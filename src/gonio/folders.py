"""Output folders and the cache: made before work begins, so that an unwritable place costs no work."""

from __future__ import annotations

import os
from pathlib import Path

from gonio.errors import GonioError


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, made if need be and proven writable."""
    folder = Path(path)
    probe = folder / f".gonio-probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise GonioError(f"{folder}: cannot write here ({reason}); choose another output folder") from None
    return folder


def cache_folder() -> Path:
    """$GONIO_CACHE, else $XDG_CACHE_HOME/gonio, else ~/.cache/gonio."""
    named = os.environ.get("GONIO_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gonio"
