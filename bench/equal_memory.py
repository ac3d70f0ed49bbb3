"""The runs of figure 12: full backpropagation and truncated, in the same bytes and the same wall time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from bench.convergence import CLIP, METHODS, Setup, train
from bench.machine import here
from bench.sweep import sweep

NAME: Final = "fig12"
ALONE: Final = 0.9  # a run that had its processor for less of the time shared it, and does not count


class NotAloneError(ValueError):
    """A run shared its processor: on a shared one, equal wall time is not equal work."""


def _longer(setup: Setup, steps: int, seconds: float) -> Setup:
    lag = setup.lag and steps - 1
    return replace(setup, steps=steps, chunk=steps // 10, seconds=seconds, lag=lag, judged=10)


SHORT_ADDING: Final = Setup("adding", "full", 500, 0, chunk=50, slots=10, seconds=16, rate=3e-2)
SHORT_COPYING: Final = Setup("copying", "full", 500, 0, chunk=50, slots=10, seconds=20, rate=1e-2, lag=499, batch=32)
DIGITS: Final = Setup("looking", "full", 256, 0, chunk=32, slots=8, seconds=10, rate=2e-2, held_out=400)
TEXT: Final = Setup("reading", "full", 500, 0, chunk=50, slots=10, seconds=6, rate=1e-2, hidden=64)
CURVES: Final = (SHORT_ADDING, SHORT_COPYING, DIGITS, TEXT)
LAGS: Final = (4, 12, 20, 48, 127)  # the window is between 12 and 20
EDGE: Final = tuple(replace(SHORT_COPYING, steps=128, chunk=16, slots=8, seconds=3, lag=lag) for lag in LAGS)
ADDING: Final = {
    steps: _longer(SHORT_ADDING, steps, seconds) for steps, seconds in ((1000, 20), (2000, 40), (5000, 90))
}
COPYING: Final = {
    steps: _longer(SHORT_COPYING, steps, seconds) for steps, seconds in ((1000, 30), (2000, 90), (5000, 210))
}
TEN: Final = replace(SHORT_COPYING, steps=200, chunk=20, seconds=66, lag=190, items=10, hidden=64)
SEEDS: Final = (0, 1, 2)
# Fewer seeds, where one takes minutes, by task, steps and symbols.
FEWER: Final = {("copying", 5000, 1): SEEDS[:1]}


def measure() -> None:
    """Train every point on this machine, one at a time; a sweep that was cut off goes on."""
    where = conditions(f"paper_figs.make {NAME} --measure")
    for name, wanted in sweeps().items():
        sweep(name, wanted, train_alone, conditions=where)


def train_alone(argument: dict[str, Any], /) -> dict[str, Any]:
    """Train as `train` does, and refuse a run that shared its processor: it is measured again.

    Raises:
        NotAloneError: it did.
    """
    result = train(argument)
    require_alone("it", result["curve"])
    return result


def sweeps() -> dict[str, dict[str, Any]]:
    """Return the points of each data file: the curves, the boundary, longer sequences, and ten symbols."""
    return {
        NAME: points(CURVES),
        f"{NAME}_edge": points(EDGE),
        f"{NAME}_adding": points(ADDING.values()),
        f"{NAME}_copying": points(COPYING.values()),
        f"{NAME}_ten": points([TEN]),
    }


def points(setups: Iterable[Setup], seeds: Sequence[int] | None = None) -> dict[str, Any]:
    """Return, by name, what `train` takes: every setup with either method and every seed."""
    runs = [
        replace(each, seed=seed, method=method)
        for each in setups
        for seed in (FEWER.get((each.task, each.steps, each.items), SEEDS) if seeds is None else seeds)
        for method in METHODS
    ]
    return {f"{r.task}-{r.steps}-{r.lag}-{r.items}-{r.method}-{r.seed}": asdict(r) for r in runs}


def conditions(command: str) -> dict[str, Any]:
    """Return what all runs share, measured by ``python -m command``."""
    import sklearn  # noqa: PLC0415  (drawing needs no data set)

    machine = here()
    return {
        **machine,
        "versions": {**machine["versions"], "scikit-learn": sklearn.__version__},
        "command": f"python -m {command}",
        "dtype": "float32",
        "clock": "wall seconds of the training; its processor seconds are kept beside them",
        "optimizer": f"Adam, gradients clipped at norm {CLIP}",
    }


def require_alone(what: str, curve: dict[str, list[float]]) -> None:
    """Refuse a run that shared its processor.

    Raises:
        NotAloneError: it did.
    """
    share = curve["processor"][-1] / curve["seconds"][-1]
    if not ALONE <= share <= 2 - ALONE:
        raise NotAloneError(
            f"{what} had a processor for {100 * share:.0f} % of its time: it was not alone there, measure it again"
        )
