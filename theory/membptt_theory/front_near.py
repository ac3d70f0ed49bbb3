"""Fronts of long chains whose blocks differ: a few points of every part, and how far they are from the least costs.

The equation of `front.py` is solved twice, with so many points a part and no more. Once a part keeps some of its own
points: each is that of a schedule, in exactly its bytes. Once each point that is kept stands for all up to the next
one, with the bytes of the first of them and the cost of the last. What a move takes and costs grows with what its parts
take and cost, so no schedule in so many bytes costs less than that. What is least lies between the two.

Claim: front-near.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import numpy as np

from membptt_theory.front_parts import LIMIT, Ints, Part, Parts, Tell, TooLongError
from membptt_theory.front_terms import Recurrence

MOST: Final = (1024, 512, 256, 128, 64, 32)  # points of a part, the first of these that can be merged
_SHARES: Final = 16  # 15 of 16 of the points that a part may have are left where it has more


def near_parts(terms: Recurrence, most: int | None = None, tell: Tell | None = None, /) -> tuple[Near, Part]:
    """Solve the equation twice; return all parts, and the bytes and costs that no schedule of the chain goes below.

    Args:
        terms: the recurrence.
        most: points of a part; by default as many as can be merged.
        tell: is told how many parts are solved, and of how many, all of them counted twice.

    Raises:
        TooLongError: the parts that differ are too many even so.
    """
    *more, fewest = MOST if most is None else (most,)
    for points in more:
        with suppress(TooLongError):
            return _solved(terms, points, tell)
    return _solved(terms, fewest, tell)


def _solved(terms: Recurrence, most: int, tell: Tell | None) -> tuple[Near, Part]:
    def first(done: int, total: int) -> None:
        if tell is not None:
            tell(done, 2 * total)

    def second(done: int, total: int) -> None:
        if tell is not None:
            tell(total + done, 2 * total)

    parts = Near(terms, most, first)
    return parts, Near(terms, most, second, below=True).of(0, len(terms))


class Near(Parts):
    """The fronts of all parts, of at most `most` points each but for the whole chain's.

    Args:
        terms: the recurrence.
        most: points of a part.
        tell: is told how many parts are solved, and of how many.
        below: each point stands for those after it, too: costs that no schedule can go below.

    Raises:
        ValueError: as `Parts`.
    """

    limit = 2 * LIMIT

    def __init__(self, terms: Recurrence, most: int, tell: Tell | None = None, *, below: bool = False) -> None:
        self._most, self._below = most, below
        super().__init__(terms, most, tell)

    def settle(self, start: int, stop: int, room: int, /) -> int:
        """Return the bytes of the last point of a part that fits in `room`."""
        part = self.of(start, stop)
        return int(part.bytes[np.searchsorted(part.bytes, room, side="right") - 1])

    def _kept(self, part: Part, length: int) -> Part:
        if len(part.bytes) <= self._most or length == len(self._terms):
            return part
        starts = _spread(part.costs, self._most * (_SHARES - 1) // _SHARES)
        if self._below:
            ends = np.append(starts[1:], len(part.costs)) - 1
            return Part(part.bytes[starts], part.costs[ends], part.choices[starts])
        kept = np.union1d(starts, len(part.costs) - 1)
        return Part(part.bytes[kept], part.costs[kept], part.choices[kept])


def _spread(costs: Ints, count: int) -> Ints:
    """Return where descending costs fall below one of `count` steps, which are the narrower the lower the cost is."""
    low, high = int(costs[-1]), int(costs[0])
    steps = np.array([low + (high - low) * step**2 // count**2 for step in range(1, count)])
    at = np.searchsorted(steps, costs)
    return np.flatnonzero(np.append(True, at[1:] != at[:-1]))
