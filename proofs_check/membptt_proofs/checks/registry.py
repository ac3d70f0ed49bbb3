"""The registry of checks: exactly one a claim. A check returns its evidence, or raises with a counterexample.

At full effort the evidence is compared with the scope that the ledger states: a range that the check did not go through
makes the claim fail. `Covered` writes such a range down from the values that a loop really took.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from membptt_theory.claims import CLAIMS

T = TypeVar("T")


class Effort(Enum):
    """How large the ranges are: those of the test suite, or those that the claims state."""

    QUICK = "quick"
    FULL = "full"

    def pick(self, quick: int, full: int) -> int:
        """Return the size of a range."""
        return quick if self is Effort.QUICK else full


class CheckFailedError(Exception):
    """A claim does not hold as stated; the message is the counterexample."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found, and how long it took."""

    holds: bool
    evidence: str
    seconds: float


class Evidence(str):
    """What a check prints, with the ranges that it went through.

    Args:
        text: what is printed.
        ranges: phrases such as ``t <= 9``, where `text` does not say them.
    """

    ranges: str

    def __new__(cls, text: str, ranges: str) -> Evidence:
        """Make a string that remembers its ranges."""
        evidence = super().__new__(cls, text)
        evidence.ranges = ranges
        return evidence


class Covered:
    """The values that a check went through, in the words of a scope.

    >>> covered = Covered()
    >>> for t in covered.over("t", range(1, 10)):
    ...     for alpha in covered.over("alpha", range(2, 6)):
    ...         for m in covered.every("m", range(1, alpha * t + 1)):
    ...             pass
    >>> str(covered)
    't <= 9, alpha 2..5, every m'
    """

    def __init__(self) -> None:
        self._values: dict[str, set[int]] = {}
        self._counts: dict[str, int] = {}
        self._complete: dict[str, bool] = {}

    def over(self, name: str, values: Iterable[int]) -> Iterator[int]:
        """Yield the values of a range, and write down those that were taken."""
        taken = self._values.setdefault(name, set())
        for value in values:
            yield value
            taken.add(value)

    def every(self, name: str, values: Iterable[T]) -> Iterator[T]:
        """Yield all values that there are; a loop that stops before the last of them leaves its range unsaid."""
        self._complete.setdefault(name, True)
        complete, self._complete[name] = self._complete[name], False
        yield from values
        self._complete[name] = complete

    def counted(self, name: str, values: Iterable[T]) -> Iterator[T]:
        """Yield cases that have no order, and count them; repeated in an outer loop, the most are counted."""
        for count, value in enumerate(values, 1):
            yield value
            self._counts[name] = max(count, self._counts.get(name, 0))

    def note(self, **values: int) -> None:
        """Write down one case that was gone through."""
        for name, value in values.items():
            self._values.setdefault(name, set()).add(value)

    def note_all(self, **values: Iterable[int]) -> None:
        """Write down the axes of an array of which every entry was gone through."""
        for name, axis in values.items():
            self._values.setdefault(name, set()).update(axis)

    def __str__(self) -> str:
        """Return the ranges as phrases, joined by commas."""
        counts = [f"{count} {name}" for name, count in self._counts.items()]
        ranges = [_phrase(name, values) for name, values in self._values.items()]
        return ", ".join([*counts, *ranges, *(f"every {name}" for name, whole in self._complete.items() if whole)])


Check = Callable[[Effort], str]
CHECKS: Final[dict[str, Check]] = {}
_RANGE: Final = re.compile(r"<= \d|\d\.\.\d|^every [a-z]+$|^\d+ [a-z-]+$", re.IGNORECASE)


def check(claim: str) -> Callable[[Check], Check]:
    """Register the check of `claim`.

    Raises:
        ValueError: the claim has a check already.
    """

    def register(function: Check) -> Check:
        if claim in CHECKS:
            raise ValueError(f"claim {claim!r} has two checks")
        CHECKS[claim] = function
        return function

    return register


def need(holds: bool, counterexample: object) -> None:
    """Go on if `holds`.

    Raises:
        CheckFailedError: it does not.
    """
    if not holds:
        raise CheckFailedError(str(counterexample))


def phrases(text: str) -> tuple[str, ...]:
    """Return the phrases of a text that state a finite range, in order.

    >>> phrases("all t, m; searched for t <= 9, alpha 2..5, every m (1234 cases), at most 2 t m evaluations")
    ('t <= 9', 'alpha 2..5', 'every m', '1234 cases')
    """
    parts = re.split(r"[,;:()]|\band\b|\bfor\b", text)
    return tuple(part.strip() for part in parts if _RANGE.search(part.strip()))


def unsupported(scope: str, evidence: str) -> tuple[str, ...]:
    """Return the ranges that a scope states and that the evidence does not, in order."""
    covered = phrases(getattr(evidence, "ranges", evidence))
    return tuple(phrase for phrase in phrases(scope) if phrase not in covered)


def run(claim: str, effort: Effort) -> Verdict:
    """Run the check of `claim`; a failure, of whatever kind, is a verdict too.

    At full effort a scope in the ledger that goes beyond the evidence is a failure.
    """
    start = time.perf_counter()
    try:
        evidence, holds = CHECKS[claim](effort), True
        if effort is Effort.FULL:
            (scope,) = (row.scope for row in CLAIMS if row.id == claim)
            beyond = unsupported(scope, evidence)
            need(not beyond, f"the scope says '{', '.join(beyond)}', which the check did not go through: {evidence}")
    except Exception as error:
        evidence, holds = f"{type(error).__name__}: {error}", False
    return Verdict(holds, str(evidence), time.perf_counter() - start)


def _phrase(name: str, values: set[int]) -> str:
    if not values:
        return f"no {name}"
    low, high = min(values), max(values)
    if values != set(range(low, high + 1)) or low == high > 1:
        return f"{name} = {'/'.join(map(str, sorted(values)))}"
    return f"{name} <= {high}" if low <= 1 else f"{name} {low}..{high}"
