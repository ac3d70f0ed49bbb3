"""What the side-by-side benchmark writes, one file a cell and length: checked when it is read and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.store import StoreError, read

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


class RecordError(StoreError):
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
    for index, times in enumerate(point["rounds"]):
        if sorted(times["seconds"]) != sorted(labels) or not all(value > 0 for value in times["seconds"].values()):
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
        return check(read(path, FORMAT))
    except StoreError as error:
        raise RecordError(f"{path.name}: {error}") from error
    except (TypeError, KeyError, AttributeError) as error:  # a list where a mapping should be, three levels down
        raise RecordError(f"{path.name}: not a legal record ({error})") from error


def _check_keys(what: str, content: Any, schema: dict[str, type | tuple[type, ...]]) -> None:
    if not isinstance(content, dict):
        raise RecordError(f"{what} is no mapping")
    if content.keys() != schema.keys():
        raise RecordError(f"{what} has other keys: {sorted(content.keys() ^ schema.keys())}")
    for key, kind in schema.items():
        if not isinstance(content[key], kind) or (kind is int and isinstance(content[key], bool)):
            raise RecordError(f"{what}: {key} is {content[key]!r}")
