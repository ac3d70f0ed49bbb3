"""The registry of checks: exactly one a claim. A check returns its evidence, or raises with a counterexample."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final


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


Check = Callable[[Effort], str]
CHECKS: Final[dict[str, Check]] = {}


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


def run(claim: str, effort: Effort) -> Verdict:
    """Run the check of `claim`; a failure, of whatever kind, is a verdict too."""
    start = time.perf_counter()
    try:
        evidence, holds = CHECKS[claim](effort), True
    except Exception as error:
        evidence, holds = f"{type(error).__name__}: {error}", False
    return Verdict(holds, evidence, time.perf_counter() - start)
