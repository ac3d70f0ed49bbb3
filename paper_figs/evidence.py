"""What a figure may rest on: claims that are checked, and measured files that say where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import store
from membptt_theory.limits import NAMED, TooLargeError
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, check_count

_SEEN: ContextVar[Counter[str]] = ContextVar("seen")  # fresh for each `seen_on`


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
def seen_on() -> Iterator[Counter[str]]:
    """Count the data files that are read meanwhile, by what the processor that each was measured on calls itself."""
    token = _SEEN.set(Counter())
    try:
        yield _SEEN.get()
    finally:
        _SEEN.reset(token)


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
        FigureClaimError: it was another table, or the file names one that is too large.
    """
    _check_named(where, policy, steps, slots)
    table = build(policy, steps, slots, **sizes)
    require(digest == table.digest, f"{where}: measured with table {digest}, not {table.digest}")
    return table


def executed_cost(where: str, digest: Any, policy: str, steps: int, slots: int, /, **sizes: Any) -> int:
    """Require that a measurement names the table that was executed, as `executed` does; return its ``C(t, m)``.

    The table itself is given up, which may take hundreds of megabytes.

    Raises:
        FigureClaimError: it was another table, or the file names one that is too large.
    """
    _check_named(where, policy, steps, slots)
    right, cost = _digest_and_cost(policy, steps, slots, **sizes)
    require(digest == right, f"{where}: measured with table {digest}, not {right}")
    return cost


@cache
def _digest_and_cost(policy: str, steps: int, slots: int, /, **sizes: Any) -> tuple[str, int]:
    table = build(policy, steps, slots, **sizes)
    return table.digest, table.cost(steps, slots)


def _check_named(where: str, policy: str, steps: Any, slots: Any) -> None:
    try:
        NAMED.check(policy, check_count("steps", steps), check_count("slots", slots))
    except TooLargeError as error:
        raise FigureClaimError(f"{where}: {error}") from error


def load_measured(name: str, /, *, figure: str | None = None, path: Path | None = None) -> dict[str, Any]:
    """Read finished data.

    Args:
        name: of the data.
        figure: that is measured for them, where it has another name.
        path: a processor's file, where it is not the first one's.

    Raises:
        DataMissingError: there is none.
        FigureClaimError: the file is damaged, unfinished, of another format, or holds another figure's data.
    """
    path = path or store.path_of(name)
    if not path.exists():
        raise DataMissingError(f"{path.name} is not measured yet: python -m paper_figs.make {figure or name} --measure")
    try:
        content = store.read_figure(name, path)
    except store.StoreError as error:
        raise FigureClaimError(str(error)) from error
    require(content.get("complete") is True, f"{path.name} is unfinished: run its command again, it resumes")
    return _counted(content)


def processors(name: str, /) -> list[str]:
    """Return the name of each processor's data: `name` is the first one's, the others' have theirs at the end."""
    return [path.stem for path in store.processors(store.path_of(name)).values()]


def load_benchmark(name: str, data_format: str, /) -> dict[str, Any]:
    """Read one data file of the benchmarks of methods.

    Args:
        name: of the data, its processor's at the end where it is not the first one.
        data_format: as the file names it.

    Raises:
        DataMissingError: there is none.
        FigureClaimError: the file is damaged, or of another format.
    """
    path = store.path_of(name)
    if not path.exists():
        raise DataMissingError(f"{path.name} is not measured yet: see bench/README.md")
    try:
        return _counted(store.read(path, data_format))
    except store.StoreError as error:
        raise FigureClaimError(str(error)) from error


def load_everywhere(names: Iterable[str], data_format: str, /) -> list[dict[str, Any]]:
    """Read what `load_benchmark` reads of each name, the first processor's file and then the others'."""
    return [load_benchmark(each, data_format) for name in names for each in (name, *processors(name)[1:])]


def by_processor(files: Iterable[dict[str, Any]], /) -> dict[str, list[dict[str, Any]]]:
    """Return the files of each processor, by its short name."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        groups.setdefault(store.short_name(file["device_name"]), []).append(file)
    return groups


def _counted(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file, counted where somebody asks on which processors a claim was seen."""
    _SEEN.get(Counter()).update(filter(None, [store.device_of(content)]))
    return content


def one_device(files: Sequence[dict[str, Any]], /) -> str:
    """Return the device that all files were measured on, in words.

    Raises:
        FigureClaimError: they differ in device, threads or versions.
    """
    first = files[0]
    for key in ("device", "device_name", "threads", "versions", "dtype"):
        require(all(file[key] == first[key] for file in files), f"the files were measured with different {key}")
    return f"{first['device_name']}, {first['threads']} thread, {first['dtype']}"


def ratio(rounds: Sequence[tuple[float, float]], /) -> float:
    """Return the median over the rounds of one time over another of the same round."""
    return float(median(mine / other for mine, other in rounds))
