"""Output that is either complete or absent: written beside its place, flushed, then moved there."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gonio.errors import GonioError
from gonio.media.limits import reason, shown

_CURES = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file would exceed the size limit of the system; free some space or raise the limit",
    errno.EACCES: "permission denied; choose another folder",
    errno.EPERM: "permission denied; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another path",
    errno.EISDIR: "it is a folder; choose a file name",
    errno.ENOENT: "the folder cannot be made; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "the path is a loop of links; choose another path",
    errno.EIO: "the disk reports an error; choose another disk",
}


def _failure(target: Path, error: OSError) -> GonioError:
    return GonioError(f"cannot write {shown(target)}: {_CURES.get(error.errno or 0, reason(error))}")


def _beside(target: Path) -> Path:
    """A hidden sibling with the same suffix, so that encoders that look at the suffix still work."""
    return target.with_name(f".{target.stem[:60]}.{os.getpid()}-{secrets.token_hex(4)}.tmp{target.suffix}")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_about(error: OSError, temporary: Path) -> bool:
    """Whether an error raised by the caller's own code concerns what it writes, not something it reads."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    name = error.filename
    return isinstance(name, (str, os.PathLike)) and temporary in (Path(name), *Path(name).parents)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a sibling path to write to; it takes the place of `path` when the block ends without an error.

    Missing parent folders are made. On any error the sibling is removed and what stood at `path` before
    still stands there. A full disk, a missing permission, a folder in the way and the like are `GonioError`s.
    """
    target = Path(path)
    temporary = _beside(target)
    try:
        if target.is_dir():
            raise GonioError(f"cannot write {shown(target)}: {_CURES[errno.EISDIR]}")
        if target.exists() and not target.is_file():
            raise GonioError(f"cannot write {shown(target)}: it is a device, not a file; choose another path")
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failure(target, error) from error
    try:
        try:
            yield temporary
        except OSError as error:
            if _is_about(error, temporary):
                raise _failure(target, error) from error
            raise
        try:
            _flush(temporary)
            os.replace(temporary, target)
        except OSError as error:
            raise _failure(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a sibling folder to fill; its files move to `path` when the block ends without an error.

    Where `path` exists, its files of the same names are replaced one by one and the others stay. On any
    error nothing moves and the sibling is removed.
    """
    target = Path(path)
    temporary = _beside(target)
    try:
        if target.exists() and not target.is_dir():
            raise GonioError(f"cannot write {shown(target)}: it is a file, not a folder; choose another path")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise _failure(target, error) from error
    try:
        try:
            yield temporary
        except GonioError as error:  # the reader knows the final path, not the sibling's
            message = str(error).replace(str(temporary), str(target))
            raise type(error)(message) from error
        except OSError as error:
            if _is_about(error, temporary):
                raise _failure(target, error) from error
            raise
        try:
            _move_into(temporary, target)
        except OSError as error:
            raise _failure(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into(source: Path, target: Path) -> None:
    if not target.exists():
        os.replace(source, target)
        return
    for item in sorted(source.iterdir()):
        if item.is_dir():
            _move_into(item, target / item.name)
        else:
            os.replace(item, target / item.name)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a whole file at once, atomically."""
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise _failure(Path(path), error) from error
