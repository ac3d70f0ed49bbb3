"""What a figure may rest on: claims that are checked, and measured files that say where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from membptt_theory.files import UnreadableError, read_json, write_whole
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, check_count

DATA: Final = Path(__file__).parent / "data"
FORMAT: Final = "membptt-measured/1"
LARGEST: Final = 30_000_000  # entries of a table that is built because a file names it


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


@contextmanager
def reading(figure: str) -> Iterator[None]:
    """Turn whatever a well-formed file of other content does to the figure that reads it into the one clear error.

    Raises:
        FigureClaimError: a key is absent, a value of another kind, or a number one that cannot be computed with.
    """
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        what = f"{type(error).__name__}: {error}"
        raise FigureClaimError(f"{figure}: its measured data is not what this version reads ({what})") from error


def executed(where: str, digest: Any, policy: str, steps: int, slots: int, /, **sizes: Any) -> PolicyTable:
    """Build the table that a measurement names, and require that it is the one that was executed.

    Args:
        where: the measurement, for the error.
        digest: of the executed table, as the file has it.
        policy: as in `build`, like all that follows.
        steps: ``t``.
        slots: ``m``.
        sizes: ``internal`` and ``internal_known``.

    Raises:
        FigureClaimError: it was another table, or the file names one of more than `LARGEST` entries.
    """
    entries = check_count("steps", steps) * check_count("slots", slots)
    require(entries <= LARGEST, f"{where}: the file names a table of {entries} entries, more than {LARGEST}")
    table = build(policy, steps, slots, **sizes)
    require(digest == table.digest, f"{where}: measured with table {digest}, not {table.digest}")
    return table


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
