"""The recurrence that HSM and ISM share, solved by an upper envelope of lines.

With ``x = t`` for HSM and ``x = t + 1`` for ISM both optima ``D(x, m)`` obey

    D(x, m) = min over 1 <= y < x of  y + D(y, m) + D(x - y, m - 1)          m >= 2, x >= 2

and differ only in ``D(1, m) = first``: 1 forward for HSM, 0 for ISM, whose ``x = 1`` is the empty sequence. The
solution is ``D = max over r of line(m, r, x)`` with ``line = (r + lead) x - beta(m+1, r-1)`` and ``lead = first``. The
lines prove the lower bound in one identity, and where they touch gives every optimal split.

Ref: gruslys2016, (1)-(5); griewank2000, for the binomial.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import comb

import sympy as sp

from membptt_theory.derive.conditions import Case, Fact
from membptt_theory.derive.steps import Finite, Identity, Induction, Inequality, Step, beta, natural, nonnegative

m, r, x, y, j = (natural(name) for name in "mrxyj")


@dataclass(frozen=True, slots=True)
class Line:
    """``(r + lead) x - beta(m + arm, r + reps)``; mutation tests change the constants."""

    lead: int
    arm: int = 1
    reps: int = -1

    def __call__(self, slots: sp.Expr, repetitions: sp.Expr, length: sp.Expr) -> sp.Expr:
        """Return the line as an expression."""
        return (repetitions + self.lead) * length - beta(slots + self.arm, repetitions + self.reps)

    def value(self, slots: int, repetitions: int, length: int) -> int:
        """Return the line's exact value."""
        return (repetitions + self.lead) * length - binomial(slots + self.arm, repetitions + self.reps)


@dataclass(frozen=True, slots=True)
class Splits:
    """Ends of the interval of optimal ``y``: offsets to ``r`` in its four binomials."""

    left_low: int = -2
    left_high: int = -1
    right_low: int = -1
    right_high: int = 0

    def ends(self) -> tuple[sp.Expr, sp.Expr, sp.Expr, sp.Expr]:
        """Return the two lower ends and the two upper ends, as expressions."""
        low, other = beta(m, r + self.left_low), x - beta(m - 1, r + self.right_high)
        return low, other, beta(m, r + self.left_high), x - beta(m - 1, r + self.right_low)

    def values(self, slots: int, repetitions: int, length: int) -> range:
        """Return the interval itself."""
        s, q = slots, repetitions
        low = max(1, binomial(s, q + self.left_low), length - binomial(s - 1, q + self.right_high))
        return range(low, min(binomial(s, q + self.left_high), length - binomial(s - 1, q + self.right_low)) + 1)


def binomial(s: int, r: int) -> int:
    """Return ``beta(s, r)`` as an int: 0 for ``r < 0``."""
    return comb(s + r, s) if r >= 0 else 0


def domain(length: sp.Expr) -> sp.Basic:
    """Return the condition that ``r`` fits a sequence: ``beta(m, r-1) <= x <= beta(m, r)``."""
    return sp.And(sp.Le(beta(m, r - 1), length), sp.Le(length, beta(m, r)))


def closed_form_steps(line: Line, first: int) -> Iterator[Step]:
    """Yield the induction on ``(m, x)`` that ``D`` with ``D(1, m) = first`` is the closed form."""
    a, b = nonnegative("a"), nonnegative("b")
    above, below = {a: Case(x - beta(m, r - 1))}, {b: Case(beta(m, r) - x)}
    given = x * (x + 1) / 2 - (1 - first) * x
    yield Identity("base-x-1", line(m, sp.Integer(0), sp.Integer(1)), sp.Integer(first), "D(1, m), with r = 0")
    yield Identity("base-m-1", line(sp.Integer(1), x - 1, x), given, "quadratic boundary: m = 1 has r = x - 1")
    yield Identity("base-many-slots", line(m, sp.Integer(1), x), (1 + first) * x - 1, "the boundary for many slots")
    yield Identity(
        "breakpoints",
        line(m, r + 1, x) - line(m, r, x),
        x - beta(m, r),
        "neighbouring lines cross at x = beta(m, r): the pieces are continuous there, and the slope grows by one",
    )
    yield Inequality(
        "breakpoints-increase",
        beta(m, r),
        beta(m, r - 1),
        beta(m - 1, r),
        text="so line(m, r, x) rises in r while beta(m, r) < x and falls after: the closed form is the maximum of all "
        "lines, hence convex, and line r touches it exactly where beta(m, r-1) <= x <= beta(m, r)",
    )
    yield Identity(
        "every-split-costs-at-least",
        y + line(m, r - 1, y) + line(m - 1, r, x - y),
        line(m, r, x),
        "both parts lie above these lines, for every y: no split is cheaper than the closed form",
        {m: 2},
    )
    for name, high, low, certificate, slack in (
        ("left-before-right-ends", x - beta(m - 1, r - 1), beta(m, r - 2), a, above),
        ("right-before-left-ends", beta(m, r - 1), x - beta(m - 1, r), b, below),
        ("right-part-fits", beta(m - 1, r), beta(m - 1, r - 1), beta(m - 2, r), {}),
    ):
        text = "one of four pairs of ends: some integer y touches both lines, so the lower bound is attained"
        yield Inequality(f"some-split-{name}", high, low, certificate, slack, text, {m: 2})
    yield Identity(
        "some-split-at-r-1",
        (x - beta(m - 1, r - 1)).subs(r, 1),
        x - 1,
        "y = 1 is allowed too: at r = 1 by x >= 2, at r >= 2 since the two lower ends are at least beta(m, 0) = 1",
    )


def split_steps(line: Line, splits: Splits) -> Iterator[Step]:
    """Yield the steps that find every optimal split: those where both parts touch their lines."""
    left_low, right_low, left_high, right_high = splits.ends()
    text = "the left part touches line r-1 exactly between its crossings with lines r-2 and r"
    yield Identity("left-low", line(m, r - 1, y) - line(m, r - 2, y), y - left_low, text)
    yield Identity("left-high", line(m, r, y) - line(m, r - 1, y), y - left_high, text)
    text = "the right part touches line r exactly between its crossings with lines r-1 and r+1"
    yield Identity("right-low", line(m - 1, r + 1, x - y) - line(m - 1, r, x - y), right_low - y, text, {m: 2})
    yield Identity("right-high", line(m - 1, r, x - y) - line(m - 1, r - 1, x - y), right_high - y, text, {m: 2})


def recompute_steps(line: Line) -> Iterator[Step]:
    """Yield the steps that storing nothing at all, at ``x - 1 + lead + D(x-1, m)`` forwards, is never better."""
    a, b = nonnegative("a"), nonnegative("b")
    slope = line(m, r, x) - line(m, r, x - 1)
    reach = slots_reach_repetitions()
    yield reach
    yield Inequality(
        "recompute-never-better",
        x - 1 + line.lead,
        slope,
        a + b,
        {a: Case(x - 1 - beta(m, r - 1)), b: Fact(reach)},
        "the last slope of D, in the piece where beta(m, r-1) <= x - 1, is at most x - 1 + lead",
    )


def slots_reach_repetitions() -> Induction:
    """Return the step ``beta(m, r-1) >= r``, by induction on ``m``."""
    h = nonnegative("h")
    text = "a slot more reaches further, and one slot reaches r"
    return Induction("slots-reach-r", beta(m, r - 1), r, m, sp.S.Zero, h + beta(m, r - 2), h, text=text)


def count_steps(lead: int, *, shift: int = 0) -> Iterator[Step]:
    """Yield the induction that ``beta(m-1, k - lead)`` steps run ``k`` times, whichever optimal split is taken."""
    index = j + shift
    yield Identity("count-m-1", beta(0, index - 1), sp.Integer(1), "m = 1: one step each runs 1, 2, 3, ... times")
    yield Identity(
        "count-below-the-most",
        beta(m - 1, index),
        beta(m - 1, j - 1) + beta(m - 2, j),
        f"j = k - {lead} < r: k - 1 runs in the left part, which the first pass raises by one, or k in the right part",
        {m: 2},
    )
    yield Identity("count-once", beta(m - 1, shift), sp.Integer(1), "j = 0 occurs in the right part only, once")
    yield Identity(
        "count-the-most",
        x - beta(m, r - 1 + shift),
        (y - beta(m, r - 2)) + ((x - y) - beta(m - 1, r - 1)),
        "j = r: what is left over, in both parts, and y cancels",
        {m: 2},
    )


def solved_by_recurrence(line: Line, first: int, splits: Splits, *, longest: int, slots: int) -> Finite:
    """Return the check of costs and of every optimal split against the recurrence itself."""

    def check() -> bool:
        for s in range(1, slots + 1):
            for n in range(1, longest + 1):
                rs = [q for q in range(n) if binomial(s, q - 1) <= n <= binomial(s, q)]
                if {line.value(s, q, n) for q in rs} != {_naive(first, n, s)}:
                    return False
                q = [k + _naive(first, k, s) + _naive(first, n - k, s - 1) for k in range(1, n)] if s > 1 else []
                best = [k for k, cost in enumerate(q, 1) if cost == min(q)]
                if q and any(list(splits.values(s, repetitions, n)) != best for repetitions in rs):
                    return False
        return True

    return Finite("finite", check, f"costs and all optimal splits of the recurrence, x <= {longest}, m <= {slots}")


@cache
def _naive(first: int, length: int, slots: int) -> int:
    if length == 1:
        return first
    if slots == 1:
        return length * (length + 1) // 2 - (1 - first) * length
    parts = range(1, length)
    return min(k + _naive(first, k, slots) + _naive(first, length - k, slots - 1) for k in parts)
