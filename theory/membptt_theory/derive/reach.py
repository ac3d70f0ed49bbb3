"""The longest sequence that MSM (10) does at two forwards a step or less, and the fewest slots: closed forms at any t.

Let ``S(m)`` be the sum of ``ceil(j/beta)`` over ``j = 1 .. m``, and ``alpha >= beta + 1``. The longest sequence of at
most ``2t - l`` forwards, ``0 <= l <= ceil(m/beta)``, has ``N_l`` steps, with ``N_0 = S(m) + 2`` and, for ``l >= 1``,
``N_l = S(m) + 1 - beta l (l-1) / 2``. The proof is in `cost_two`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

from membptt_theory.tables import check_count


def longest(slots: int, known: int, /, saved: int = 0) -> int:
    """Return the longest ``t`` that MSM (10) backpropagates in at most ``2t - saved`` forwards; 0 where none is.

    >>> [longest(63, 2, saved) for saved in (0, 1, 2)]
    [1026, 1025, 1023]

    Args:
        slots: ``m``, at least 1.
        known: beta; alpha is beta + 1 or more, which one does not matter.
        saved: ``ell``, forwards below two a step, at least 0.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small.

    Claim: msm-cost-two.
    """
    slots, known = check_count("slots", slots), check_count("known", known)
    return Reach().longest(slots, known, check_count("saved", saved, least=0))


def least_slots(steps: int, known: int, /, saved: int = 0) -> int:
    """Return the fewest slots in which MSM (10) takes at most ``2t - saved`` forwards, at any ``t``.

    >>> [least_slots(1000, known) for known in (2, 5, 10)]
    [63, 98, 137]

    Args:
        steps: ``t``, at least 1.
        known: beta; alpha is beta + 1 or more.
        saved: forwards below two a step, at least 0.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small, or ``saved > t``: every step runs at least once.

    Claim: msm-cost-two.
    """
    steps, known = check_count("steps", steps), check_count("known", known)
    saved = check_count("saved", saved, least=0)
    if saved > steps:
        raise ValueError(f"saved must be at most steps ({steps}), got {saved}: every step runs at least once")
    wanted = steps - 2 if saved == 0 else steps - 1 + known * saved * (saved - 1) // 2
    if wanted <= 0:
        return max(1, known * (saved - 1) + 1)
    # The largest number q of whole blocks with S(known q) < wanted; the rest comes in steps of q + 1.
    blocks = (isqrt(4 * (2 * (wanted - 1) // known) + 1) - 1) // 2
    rest = -(-(wanted - known * blocks * (blocks + 1) // 2) // (blocks + 1))
    return max(known * blocks + rest, known * (saved - 1) + 1)


@dataclass(frozen=True, slots=True)
class Reach:
    """The closed form; mutation tests change the constants.

    Args:
        none: ``N_0 - S(m)``.
        some: ``N_l - S(m) + beta ell (ell - below) / 2`` for ``ell >= 1``.
        below: see `some`.
        grow: ``S(beta q + s) = beta q (q + grow) / 2 + s (q + 1)``.
    """

    none: int = 2
    some: int = 1
    below: int = 1
    grow: int = 1

    def twice_area(self, blocks: Any, rest: Any, known: Any) -> Any:
        """Return ``2 S(known * blocks + rest)`` for ``0 <= rest <= known``."""
        return known * blocks * (blocks + self.grow) + 2 * rest * (blocks + 1)

    def twice_longest(self, saved: Any, blocks: Any, rest: Any, known: Any) -> Any:
        """Return ``2 N_l`` for ``l >= 1``."""
        return self.twice_area(blocks, rest, known) + 2 * self.some - known * saved * (saved - self.below)

    def longest(self, slots: int, known: int, saved: int) -> int:
        """Return ``N_l``, or 0 where ``l > ceil(m / known)``."""
        blocks, rest = divmod(slots, known)
        if saved > -(-slots // known):
            return 0
        if saved == 0:
            return int(self.twice_area(blocks, rest, known)) // 2 + self.none
        return int(self.twice_longest(saved, blocks, rest, known)) // 2

    def cost(self, steps: int, slots: int, known: int) -> int | None:
        """Return ``C``, or ``None`` where it is more than ``2t``."""
        possible = range(min(steps, -(-slots // known)) + 1)
        saved = [count for count in possible if steps <= self.longest(slots, known, count)]
        return 2 * steps - max(saved) if saved else None
