"""MSM+ in closed form: what it costs and what it does next, at any length, in the time of a few binomials.

The least cost ``P(t, m)`` is made of stretches ``(r, l)``, ``r >= 2`` and ``1 <= l <= 1 + floor(m/alpha)``. Stretch
``(r, l)`` ends at ``t = T``, where ``r t - G`` forwards are needed; before it, each ``(alpha-1) l`` steps less save one
forward more, except in the first stretch of a slope, ``l = 1 + floor(m/alpha)``, which is the line ``r t - G`` itself:

    T(r, l, m) = sum of binom(m - alpha i + r-1, r-1) over i = 0 .. floor(m/alpha)
                 - (alpha-1) times the sum of i binom(m - alpha i + r-2, r-2) over i = 1 .. l-1
    G(r, l, m) = binom(m + r-1, r-2) + the sum of binom(m - alpha i + r-2, r-2) over i = 1 .. l-1

Both obey Pascal's rule ``T(r, l, m) = T(r-1, l, m) + T(r, l, m-1)``, so a hidden cut that puts both parts into
stretches of the same ``l``, one of them to its very end, attains the cost.

A part that may not give up its start, because a stored internal state holds it, costs the same where alpha does not
divide m. Where it does, it has one stretch a slope less, ``l <= m/alpha``, and each of them ends a step earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import comb

from membptt_theory.recurrences import OWNED, Decision


def cost(steps: int, slots: int, internal: int, /, mode: int = OWNED) -> int:
    """Return ``P(t, m)``, the least cost over all legal schedules with separate storage.

    Args:
        steps: ``t``, at least 0.
        slots: ``m``, the starting state included, at least 1.
        internal: alpha, at least 2.
        mode: `OWNED`, or `KEPT` for a part that may not give up its start.

    Claim: msm-plus-solved, msm-plus-kept.
    """
    r, stretch = locate(steps, slots, internal, mode)
    if r == 1:
        return steps
    least, fewer = r * steps - _saved(r, stretch, slots, internal), _fewer(slots, internal, mode)
    if stretch > slots // internal - fewer:
        return least
    return least - (reach(r, stretch, slots, internal) - fewer - steps) // ((internal - 1) * stretch)


def decide(steps: int, slots: int, internal: int, /, mode: int = OWNED) -> tuple[Decision, int]:
    """Return what to store, and after how many steps.

    Args:
        steps: ``t``, at least 1.
        slots: ``m``, at least 1.
        internal: alpha, at least 2.
        mode: `OWNED` or `KEPT`.

    Claim: msm-plus-formula, msm-plus-kept.
    """
    if steps == 1 or slots == 1:
        return Decision.LAST, steps
    r, stretch = locate(steps, slots, internal, mode)
    if r == 1 or (r, stretch * internal) == (2, internal + slots):
        return Decision.RELEASE if mode == OWNED else Decision.INTERNAL, 1
    begin = _begin(r - 1, stretch, slots, internal, _fewer(slots, internal, mode))
    return Decision.HIDDEN, max(begin, steps - reach(r, stretch, slots - 1, internal))


def locate(steps: int, slots: int, internal: int, /, mode: int = OWNED) -> tuple[int, int]:
    """Return the stretch ``(r, l)`` of ``t``, of two that meet the earlier; ``(1, 1)`` at a forward a step."""
    fewer = _fewer(slots, internal, mode)
    most = 1 + slots // internal - fewer

    def beyond(slope: int, stretch: int = 1) -> bool:
        return reach(slope, stretch, slots, internal) - fewer < steps

    high = 1
    while beyond(high):
        high *= 2
    r = _least(lambda slope: not beyond(slope), high // 2 + 1, high)
    if r == 1:
        return 1, 1
    return r, _least(lambda stretch: stretch >= most or beyond(r, stretch + 1), 1, most)


def reach(slope: int, stretch: int, slots: int, internal: int, /) -> int:
    """Return ``T(r, l, m)``, the ``t`` at which a stretch ends; of slope 1, how many steps take a forward each."""
    r, m = slope, slots
    whole, rest = divmod(m, internal)
    total = _sum(lambda i: comb(rest + internal * i + r - 1, r - 1), 0, whole, r - 1)
    if r == 1:
        return total
    less = _sum(lambda i: i * comb(m - internal * i + r - 2, r - 2), 1, min(stretch - 1, whole), r - 1)
    return total - (internal - 1) * less


def _saved(slope: int, stretch: int, slots: int, internal: int) -> int:
    """Return ``G(r, l, m)``."""
    r, m = slope, slots
    births = _sum(lambda i: comb(m - internal * i + r - 2, r - 2), 1, min(stretch - 1, m // internal), r - 2)
    return comb(m + r - 1, r - 2) + births


def _begin(slope: int, stretch: int, slots: int, internal: int, fewer: int) -> int:
    """Return the ``t`` at which a stretch begins; at slope 1, a single step."""
    if slope == 1:
        return 1
    if stretch <= slots // internal - fewer:
        return reach(slope, stretch + 1, slots, internal) - fewer
    return reach(slope - 1, 1, slots, internal) - fewer


def _fewer(slots: int, internal: int, mode: int) -> int:
    """Return 1 where a part that keeps its start has a stretch less, and a step less in each; else 0."""
    return int(mode != OWNED and slots % internal == 0)


def _sum(term: Callable[[int], int], first: int, last: int, degree: int) -> int:
    """Sum a polynomial over ``first .. last``: by its differences where that is shorter."""
    if last - first <= degree:
        return sum(map(term, range(first, last + 1)))
    values = [term(first + k) for k in range(degree + 1)]
    total, count = 0, last - first + 1
    for k in range(degree + 1):
        total += values[0] * comb(count, k + 1)
        values = [after - before for before, after in pairwise(values)]
    return total


def _least(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the least number of ``low .. high`` from which on `holds` is true; it is at `high`."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
