"""What a figure may rest on: claims that are checked, and measured files that say where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from membptt_theory.files import UnreadableError, read_json, write_whole

DATA: Final = Path(__file__).parent / "data"
FORMAT: Final = "membptt-measured/1"


class FigureClaimError(Exception):
    """The numbers a figure would draw contradict the claim it makes."""


class DataMissingError(Exception):
    """The measured data of a figure is not there; the figure is skipped, never invented."""


def require(holds: bool, claim: str) -> None:
    """Raise unless `claim` holds; unlike an assert statement, ``python -O`` keeps it.

    Raises:
        FigureClaimError: it does not hold.
    """
    if not holds:
        raise FigureClaimError(claim)


def load_measured(name: str) -> dict[str, Any]:
    """Read the finished data of figure `name`.

    Raises:
        DataMissingError: there is none.
        FigureClaimError: the file is damaged, unfinished, of another format, or holds another figure's data.
    """
    path = measured_path(name)
    if not path.exists():
        raise DataMissingError(f"{path.name} is not measured yet: python -m paper_figs.make {name} --measure")
    found = read_measured(name)
    require(found.get("complete") is True, f"{path.name} is unfinished: run its command again, it resumes")
    return found


def read_measured(name: str) -> dict[str, Any]:
    """Read the data of figure `name` as `save_measured` was given it, finished or not.

    Raises:
        FigureClaimError: the file is missing, damaged, of another format, or holds another figure's data.
    """
    path = measured_path(name)
    try:
        found = read_json(path)
    except UnreadableError as error:
        raise FigureClaimError(f"{path.name} is damaged ({error})") from error
    require(isinstance(found, dict), f"{path.name} is no measured data: it holds no JSON object")
    other = found.pop("format", None)
    require(other == FORMAT, f"{path.name} has format {other!r}; this version reads {FORMAT!r}")
    require(found.get("figure") == name, f"{path.name} does not hold the data of {name}")
    return dict(found)


def save_measured(name: str, content: dict[str, Any]) -> None:
    """Write the measured data of figure `name` and the format's name, whole or not at all."""
    path = measured_path(name)
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({**content, "format": FORMAT}, indent=1, sort_keys=True) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def measured_path(name: str) -> Path:
    """Return where the measured data of figure `name` is kept."""
    return DATA / f"{name}.json"
