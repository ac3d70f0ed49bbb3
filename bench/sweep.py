"""Sweeps: many independent points of one measurement, kept as they finish, resumed when cut off, never mixed."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, Final

from tqdm import tqdm

from bench.store import StoreError, own, path_of, read_figure, save_figure

PROCESSES: Final = 2  # at most: more would time each other
Run = Callable[[Any], dict[str, Any]]


class SweepError(StoreError):
    """The data file and the sweep do not belong together, or a point failed."""


def sweep(
    name: str, points: Mapping[str, Any], run: Run, /, *, conditions: Mapping[str, Any], processes: int = 1
) -> dict[str, Any]:
    """Measure every point that the data file of figure `name` lacks, and write the file after each, whole.

    A sweep that was cut off is resumed by calling it again. A finished one is returned as it is: to measure again,
    move its file away. Points may be added to a finished sweep, never changed or left out.

    Args:
        name: the figure.
        points: for each point's name the argument of `run`, in JSON's types.
        run: measures one point; returns JSON's types, finite numbers only. With two processes, a function that can be
            imported by name.
        conditions: what all points share and a reader must know, in JSON's types: device, versions, common sizes.
        processes: 1 or 2. Points that are timed on processors they share are slower: wall time then means little.

    Returns:
        The content of the file.

    Raises:
        ValueError: no points, another number of processes, or something that JSON cannot hold.
        SweepError: the file holds other conditions or other points, or is damaged; or a point failed. What was
            measured until then is kept.
    """
    if not points:
        raise ValueError(f"the sweep {name} has no points")
    if isinstance(processes, bool) or processes not in range(1, PROCESSES + 1):
        raise ValueError(f"a sweep runs in 1 to {PROCESSES} processes, got {processes!r}")
    wanted = _plain("the points", dict(points))
    shared = _plain("the conditions", {**conditions, "processes": processes})
    content = _resume(name, wanted, shared)
    missing = {key: argument for key, argument in wanted.items() if key not in content["points"]}
    bar = tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc=name, unit="point")
    with bar:
        for key, result in _run_all(run, missing, processes):
            content["points"][key] = {"argument": wanted[key], "found": _plain(f"the result of {key}", result)}
            content["complete"] = content["points"].keys() == wanted.keys()
            save_figure(name, content)
            bar.set_postfix_str(key)
            bar.update()
    if not missing:
        save_figure(name, content)  # a sweep that wants less than before is finished now
    return content


def _resume(name: str, points: dict[str, Any], conditions: dict[str, Any]) -> dict[str, Any]:
    path = own(path_of(name), {"conditions": conditions})
    if not path.exists():
        return {"figure": name, "complete": False, "conditions": conditions, "points": {}}
    advice = f"move {path.name} away to measure afresh"
    try:
        content = read_figure(name, path)
        held, done = dict(content["conditions"]), {key: each["argument"] for key, each in content["points"].items()}
    except StoreError as error:
        raise SweepError(f"{error}: {advice}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SweepError(f"{path.name} is damaged ({error!r}): {advice}") from error
    compared = {*held, *conditions} - {"command"}
    other = sorted(key for key in compared if held.get(key) != conditions.get(key))
    if other:
        raise SweepError(
            f"{path.name} was measured with another {', '.join(other)}, and points are not mixed: {advice}"
        )
    strange = sorted(key for key, argument in done.items() if key not in points or points[key] != argument)
    if strange:
        raise SweepError(f"{path.name} holds other points than this sweep ({', '.join(strange)}): {advice}")
    return {**content, "complete": done.keys() == points.keys()}


def _run_all(run: Run, points: dict[str, Any], processes: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield results as they finish; the first failure is raised after those that were already running."""
    if processes == 1:
        for key, argument in points.items():
            yield key, _point(run, key, argument)
        return
    failed: SweepError | None = None
    # spawn: a forked child of a process that has used torch's threads may hang.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[dict[str, Any]], str] = {
            pool.submit(_point, run, key, argument): key for key, argument in points.items()
        }
        try:
            for future in as_completed(running):
                if future.cancelled():
                    continue
                error = future.exception()
                if error is None:
                    yield running[future], future.result()
                elif failed is None:
                    failed = error if isinstance(error, SweepError) else SweepError(f"{running[future]}: {error!r}")
                    pool.shutdown(wait=False, cancel_futures=True)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if failed is not None:
        raise failed


def _point(run: Run, key: str, argument: Any) -> dict[str, Any]:
    try:
        return run(argument)
    except Exception as error:
        raise SweepError(f"the point {key} failed: {type(error).__name__}: {error}") from error


def _plain(what: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` as it is read back from a file."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be written as JSON: {error}") from error
    return plain
