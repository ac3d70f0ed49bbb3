"""The benchmark's data files: one a cell and length, written whole or not at all, checked when read and written."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from membptt_theory.files import UnreadableError, read_json, write_whole

FORMAT: Final = "membptt-side-by-side/2"
_POINT: Final[dict[str, type | tuple[type, ...]]] = {
    "format": str,
    "command": str,
    "device": str,
    "device_name": str,
    "cores": int,
    "threads": int,
    "versions": dict,
    "system": str,
    "dtype": str,
    "quick": bool,
    "cell": str,
    "steps": int,
    "calls": int,
    "unit": int,
    "batch": int,
    "sizes": dict,
    "hidden_bytes": int,
    "counted": str,
    "budgets": dict,
    "methods": list,
    "skipped": dict,
    "fitted": list,
    "measured": bool,
    "rounds": list,
    "rounds_wanted": int,
    "complete": bool,
}
_METHOD: Final[dict[str, type | tuple[type, ...]]] = {
    "label": str,
    "family": str,
    "settings": dict,
    "kernel": str,
    "block": int,
    "budgets": list,
    "peak_bytes": int,
    "peak_bytes_with_gradients": int,
    "forwards": int,
    "table_digest": (str, type(None)),
}


class RecordError(ValueError):
    """A data file is not what it should be."""


def check(point: Any) -> dict[str, Any]:
    """Return `point` if it is a legal record.

    Raises:
        RecordError: names the first thing that is wrong.
    """
    _check_keys("the record", point, _POINT)
    if point["format"] != FORMAT:
        raise RecordError(f"format is {point['format']!r}, this version reads {FORMAT!r}")
    for method in point["methods"]:
        _check_keys("a method", method, _METHOD)
        if not set(method["budgets"]) <= point["budgets"].keys():
            raise RecordError(f"{method['label']!r} names a budget that the record does not have")
    labels = [method["label"] for method in point["methods"]]
    if len(set(labels)) != len(labels):
        raise RecordError("two methods have the same label")
    for index, one in enumerate(point["rounds"]):
        if sorted(one["seconds"]) != sorted(labels) or not all(value > 0 for value in one["seconds"].values()):
            raise RecordError(f"round {index} does not time every method")
    if point["complete"] != (point["measured"] and len(point["rounds"]) >= point["rounds_wanted"] > 0):
        raise RecordError("complete is not what the rounds say")
    return dict(point)


def path_of(data: Path, device: str, cell: str, steps: int) -> Path:
    """Return where a point is kept."""
    return data / f"side_by_side_{device}_{cell}_{steps}.json"


def load(path: Path) -> dict[str, Any]:
    """Read a point.

    Raises:
        RecordError: damaged, or not a legal record.
    """
    try:
        return check(read_json(path))
    except ValueError as error:
        raise RecordError(f"{path.name}: {error}") from error
    except (TypeError, KeyError, AttributeError) as error:  # a list where a mapping should be, three levels down
        raise RecordError(f"{path.name}: not a legal record ({error})") from error


def save(path: Path, content: dict[str, Any]) -> None:
    """Write JSON through a temporary neighbour: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def resumed(path: Path, fresh: dict[str, Any], grows: Sequence[str]) -> dict[str, Any]:
    """Return what was measured so far, or `fresh` where nothing was.

    Args:
        path: the data file.
        fresh: an empty record under today's conditions.
        grows: its keys that a measurement fills.

    Raises:
        RecordError: damaged, or measured under other conditions.
    """
    if not path.exists():
        return fresh
    try:
        found: dict[str, Any] = read_json(path)
    except UnreadableError as error:
        raise RecordError(f"{path.name}: {error}") from error
    if not isinstance(found, dict) or found.keys() != fresh.keys():
        raise RecordError(f"{path.name}: it does not have the keys {sorted(fresh)}")
    other = [key for key in fresh if key not in grows and found[key] != fresh[key]]
    if other:
        raise RecordError(f"{path.name} was measured with another {', '.join(other)}: delete it first")
    return found


def conditions(device: str) -> dict[str, Any]:
    """Return what a measurement depends on beside its sizes."""
    return {
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "checkpoint-schedules": importlib.metadata.version("checkpoint-schedules"),
        },
        "system": platform.system(),
        "dtype": "float32",
    }


def _check_keys(what: str, found: Any, schema: dict[str, type | tuple[type, ...]]) -> None:
    if not isinstance(found, dict):
        raise RecordError(f"{what} is no mapping")
    if found.keys() != schema.keys():
        raise RecordError(f"{what} has other keys: {sorted(found.keys() ^ schema.keys())}")
    for key, kind in schema.items():
        if not isinstance(found[key], kind) or (kind is int and isinstance(found[key], bool)):
            raise RecordError(f"{what}: {key} is {found[key]!r}")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
