"""Costs and splits of gaps by HSM's closed form, with its binomials kept: ten times as fast over many gaps.

A gap is a run of ``L`` steps behind a stored hidden state; it is completed in the slots that are free by then, its own
included. The closed forms are those of `membptt_theory.tables`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from math import comb
from typing import Final

NEVER: Final = 2**63 - 1  # later than any step


def gap_cost(steps: int, slots: int, /) -> int:
    """Return ``C(L, s)`` of HSM, ``L >= 0`` and ``s >= 1``."""
    if slots == 1:
        return steps * (steps + 1) // 2
    if steps <= slots + 1:  # repeated once at most
        return max(0, 2 * steps - 1)
    reach, whole = _row(slots)
    r = bisect_left(reach, steps)
    while r == len(reach):
        _extend(slots, reach, whole)
        r = bisect_left(reach, steps)
    return (r + 1) * steps - whole[r]


kept_gap_cost = lru_cache(maxsize=2**14)(gap_cost)  # of the gaps between stored states, which come up again and again


def gap_split(steps: int, slots: int, /) -> int:
    """Return the smallest optimal split of HSM; ``L`` itself where nothing is stored."""
    if slots == 1 or steps <= 2:
        return steps if slots == 1 or steps == 1 else 1
    reach, whole = _row(slots)
    r = bisect_left(reach, steps)
    while r == len(reach):
        _extend(slots, reach, whole)
        r = bisect_left(reach, steps)
    return max(1, reach[r - 2] if r > 1 else 0, steps - comb(slots - 1 + r, r))


def reach(slots: int, repeats: int, /) -> int:
    """Return ``binom(s + q, s)``, the steps that ``q`` repetitions reach; 0 for a negative ``q``."""
    return comb(slots + repeats, slots) if repeats >= 0 else 0


def gaps_cost(gaps: Sequence[int], slots: int, /) -> int:
    """Return the forwards that complete `gaps`, the j-th of them in ``m - j`` slots."""
    return sum(map(kept_gap_cost, gaps, range(slots, 0, -1)))


def losses(
    gaps: Sequence[int], slots: int, /, gap_cost: Callable[[int, int], int] = kept_gap_cost
) -> tuple[int, list[int]]:
    """Return what `gaps` cost, and what with the state before the second of them lost, the third, ..: ``O(m)`` for all.

    A state that is lost joins two gaps, and those behind it have a slot more.
    """
    *before, kept = accumulate(map(gap_cost, gaps, range(slots, 0, -1)), initial=0)
    joined = map(gap_cost, map(int.__add__, gaps, gaps[1:]), range(slots, 0, -1))
    roomier = list(map(gap_cost, gaps[2:], range(slots - 1, 0, -1)))
    behind = list(accumulate(reversed(roomier), initial=0))
    return kept, [a + b + c for a, b, c in zip(before, joined, reversed(behind), strict=False)]


@lru_cache(maxsize=1024)
def _row(slots: int) -> tuple[list[int], list[int]]:
    """Return ``binom(s + r, s)`` and ``binom(s + r, r - 1)`` for ``r = 0, 1, ..``, as far as was asked."""
    return [1], [0]


def _extend(slots: int, reach: list[int], whole: list[int]) -> None:
    r = len(reach)
    reach.append(reach[-1] * (slots + r) // r)
    whole.append(comb(slots + r, r - 1))
