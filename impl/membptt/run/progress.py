"""How far a gradient is: told to a function of the caller's, or shown as a bar that is gone when it is over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from time import perf_counter
from typing import Any, Final, Protocol, TypeAlias

from membptt_theory.actions import Advance, Backpropagate, Record, TieredInstruction

Tell: TypeAlias = Callable[[int, int], None]
Progress: TypeAlias = bool | Tell | None

_PATIENCE: Final = 3.0  # seconds without a bar, unless one is asked for


class Counted(Protocol):
    """What is followed."""

    @property
    def cores(self) -> int:
        """How many there are; 0 while nobody knows."""


class Follower:
    """Follows one execution: a core counts once when it first runs, and once when it is backpropagated.

    Args:
        tell: takes how many have been counted, whenever it is more, and how many there will be: 0 while nobody knows.
        course: what is executed.
    """

    def __init__(self, tell: Tell, course: Counted) -> None:
        self._tell, self._course = tell, course
        self._reached = self._back = 0

    def after(self, instruction: TieredInstruction | None, *held: Any) -> None:
        """Take note of what an instruction ran."""
        if instruction is None:
            return
        kind, (start, *more) = instruction
        stop = more[0] if more else start + 1  # of cores under one graph, the one after the last
        if kind is Backpropagate:
            self._back += stop - start
        elif kind not in (Advance, Record):
            return
        else:
            if stop <= self._reached:
                return
            self._reached = stop
        self._tell(self._reached + self._back, 2 * self._course.cores)

    def close(self) -> None:
        """Nothing is held."""


class Bar:
    """A bar on standard error for what takes longer than a few seconds.

    Args:
        name: of what is under way.
        unit: of what is counted.
        patience: seconds before it is drawn.
    """

    def __init__(self, name: str, unit: str, patience: float) -> None:
        self._name, self._unit, self._patience = name, unit, patience
        self._since = 0.0
        self._drawn: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is."""
        if self._drawn is None:
            if perf_counter() - self._since < self._patience:
                return
            from tqdm import tqdm  # noqa: PLC0415  (it is slow to import, and most calls are over before)

            self._drawn = tqdm(desc=self._name, unit=self._unit, initial=done, file=sys.stderr, leave=False)
        self._drawn.total = total or None
        self._drawn.update(done - self._drawn.n)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Count the seconds from here, and leave no bar behind."""
        self._since = perf_counter()
        try:
            yield
        finally:
            if self._drawn is not None:
                self._drawn.close()
            self._drawn = None


def told(progress: Progress, name: str, unit: str = "core", *, at_once: bool = False) -> Tell | None:
    """Return whom to tell: by default a bar, where standard error is a terminal and it takes some seconds.

    Where it is known to, the bar is there `at_once`.

    Raises:
        TypeError: `progress` is neither a bool nor a function.
    """
    if progress is None:
        return Bar(name, unit, 0.0 if at_once else _PATIENCE) if _is_terminal(sys.stderr) else None
    if isinstance(progress, bool):
        return Bar(name, unit, 0.0) if progress else None
    if not callable(progress):
        raise TypeError(f"progress must be True, False or a function of (done, total), got {progress!r}")
    return progress


@lru_cache(maxsize=1)
def _is_terminal(stream: Any) -> bool:
    """Whether somebody sees what is written there; the system is asked once."""
    return stream is not None and stream.isatty()


def planning(progress: Progress) -> bool | None:
    """Return what planning is to do in a call whose gradient is followed: a function counts cores only."""
    return progress if progress is None or isinstance(progress, bool) else False


def shown(tell: Tell | None) -> AbstractContextManager[None]:
    """Return what one pass is run in."""
    return tell.shown() if isinstance(tell, Bar) else nullcontext()
