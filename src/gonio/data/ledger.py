"""A ledger: one JSON object a line, one line a finished piece of work, so that a killed run can go on.

A line is appended when its piece is whole on disk. That is the one write which is not "beside, then rename":
a line is a single write of its own, and a last line that a crash tore off is dropped when the file is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gonio.errors import GonioError
from gonio.media import write_bytes
from gonio.media.limits import read_bytes, reason, shown

Record = dict[str, Any]


def read_ledger(path: Path) -> dict[str, Record]:
    """The records by their "id", in the order of the file; of several with one id the last counts.

    A file that does not exist is an empty ledger. A torn last line is left out; any other line that is not a
    JSON object with an id raises GonioError.
    """
    if not path.exists() or path.stat().st_size == 0:
        return {}
    lines = read_bytes(path).split(b"\n")
    records: dict[str, Record] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=_refuse)
            name = record["id"]
            if not isinstance(name, str):
                raise TypeError("the id is not a text")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if number == len(lines):  # no newline follows: the write never ended
                break
            problem = f"line {number} is no record ({reason(error)})"
            raise GonioError(f"{shown(path)}: {problem}; remove that line and run again") from None
        records.pop(name, None)
        records[name] = record
    return records


def write_ledger(path: Path, records: Iterable[Record]) -> None:
    """The whole ledger anew, atomically."""
    write_bytes(path, b"".join(_line(record) for record in records))


def append_record(path: Path, record: Record) -> None:
    """Add one line and wait until it is on the disk. The file must end in a whole line (`write_ledger`)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, _line(record))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise GonioError(
            f"{shown(path)}: cannot be written ({reason(error)}); free some space and run again"
        ) from None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _line(record: Record) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
