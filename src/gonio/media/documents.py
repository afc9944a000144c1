"""JSON documents: written atomically without NaN, read with a size limit."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from gonio.errors import GonioError
from gonio.media.limits import read_bytes, reason, require_file, shown
from gonio.media.output import write_bytes

MAX_JSON_BYTES = 16 * 2**20


def write_json(path: str | os.PathLike[str], obj: Any) -> None:
    """Write `obj` as indented UTF-8 JSON, atomically.

    NaN and infinity become null. Tensors, arrays, dataclasses, tuples, sets and paths become their plain
    JSON counterparts; anything else JSON cannot hold is a TypeError of the caller.
    """
    text = json.dumps(_plain(obj), indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: str | os.PathLike[str], max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file of at most `max_bytes`; NaN and Infinity are not JSON and are refused."""
    size = require_file(path).stat().st_size
    if size > max_bytes:
        raise GonioError(f"{shown(path)} has {size} bytes, the limit is {max_bytes}; make it smaller")
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise GonioError(f"{shown(path)} is not valid JSON: {reason(error)}; correct or remove it") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _plain(value: Any) -> Any:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [_plain(item) for item in sorted(value)]
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value
