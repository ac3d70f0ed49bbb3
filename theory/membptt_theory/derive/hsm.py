"""HSM solved: its cost, every optimal split, and how often each step runs.

Ref: gruslys2016, (1)-(3); griewank2000, whose optimum is this cost less ``t``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import sympy as sp

from membptt_theory.actions import Advance, Record
from membptt_theory.derive.envelope import (
    Line,
    Splits,
    binomial,
    closed_form_steps,
    count_steps,
    domain,
    m,
    r,
    recompute_steps,
    solved_by_recurrence,
    split_steps,
    x,
    y,
)
from membptt_theory.derive.steps import Derivation, Finite, Identity, beta, natural
from membptt_theory.tables import build, check_count, repetitions

FIRST = 1
t = natural("t")


def closed_form(*, lead: int = FIRST, arm: int = 1, reps: int = -1) -> Derivation:
    """Derive ``C(t, m) = (r+1) t - beta(m+1, r-1)`` for ``beta(m, r-1) <= t <= beta(m, r)``, all ``t, m >= 1``.

    Args:
        lead: what is added to ``r`` in the slope.
        arm: what is added to ``m`` in the binomial.
        reps: what is added to ``r`` in the binomial.

    Ref: gruslys2016, (1)-(3). Claim: hsm-closed-form.
    """
    line = Line(lead, arm, reps)
    return Derivation(
        "hsm-closed-form",
        sp.Eq(sp.Function("C")(t, m), line(m, r, t)),
        domain(t),
        "The optimum of HSM is the largest of the lines (r+1) t - beta(m+1, r-1), r >= 0, by induction on (m, t) with "
        "x = t; it is convex in t. Storing nothing, which the table allows too, never beats a cut.",
        (
            *closed_form_steps(line, FIRST),
            *recompute_steps(line),
            solved_by_recurrence(line, FIRST, Splits(), longest=40, slots=6),
        ),
    )


def split_interval(*, left_low: int = -2, left_high: int = -1, right_low: int = -1, right_high: int = 0) -> Derivation:
    """Derive every optimal split of ``t >= 2`` steps in ``m >= 2`` slots: an interval, never empty.

    Args:
        left_low: offset to ``r`` in ``beta(m, r-2) <= y``; the others likewise, see `optimal_splits`.
        left_high: offset in ``y <= beta(m, r-1)``.
        right_low: offset in ``y <= t - beta(m-1, r-1)``.
        right_high: offset in ``t - beta(m-1, r) <= y``.

    Ref: gruslys2016, (3). Claim: hsm-splits.
    """
    line, splits = Line(FIRST), Splits(left_low, left_high, right_low, right_high)
    low, other_low, high, other_high = (end.subs(x, t) for end in splits.ends())
    return Derivation(
        "hsm-splits",
        sp.And(sp.Le(sp.Max(1, low, other_low), y), sp.Le(y, sp.Min(high, other_high))),
        sp.And(domain(t), sp.Ge(t, 2), sp.Ge(m, 2)),
        "A split is optimal exactly where both parts touch the lines of the lower bound. At a breakpoint two values "
        "of r fit and give the same interval.",
        (*split_steps(line, splits), solved_by_recurrence(line, FIRST, splits, longest=40, slots=6)),
        uses=("hsm-closed-form",),
    )


def step_counts(*, shift: int = 0) -> Derivation:
    """Derive that exactly ``beta(m-1, k-1)`` steps run ``k`` times for ``k <= r``, and the others ``r + 1`` times.

    Args:
        shift: error in the index of the binomial.

    Claim: hsm-step-counts.
    """
    k = natural("k")
    most = t - beta(m, r - 1 + shift)
    return Derivation(
        "hsm-step-counts",
        sp.Eq(sp.Function("N")(k, t, m), sp.Piecewise((beta(m - 1, k - 1 + shift), k <= r), (most, sp.Eq(k, r + 1)))),
        domain(t),
        "Counts of forwards, recorded or not. By induction along any optimal schedule, in words: they do not depend "
        "on which optimal splits it takes, and they are the slopes of C in t.",
        (
            *count_steps(FIRST, shift=shift),
            Identity(
                "count-total",
                beta(m, r - 1),
                beta(m, r - 2) + beta(m - 1, r - 1 + shift),
                "summed over k = 1 .. r by induction on r, the counts leave t - beta(m, r-1) steps",
            ),
            Finite("finite", lambda: counts_match("hsm", shift), "streams of all t <= 40, m <= 6"),
            Finite(
                "every-schedule",
                lambda: all_schedules_match("hsm", optimal_splits, shift),
                "every choice of optimal splits, t <= 16, m <= 5",
            ),
        ),
        uses=("hsm-splits",),
    )


def optimal_splits(steps: int, slots: int, /) -> range:
    """Return every optimal ``y``; empty where nothing is cut (``t = 1`` or ``m = 1``).

    ``max(1, beta(m, r-2), t - beta(m-1, r)) <= y <= min(beta(m, r-1), t - beta(m-1, r-1))``.

    >>> optimal_splits(1000, 10)
    range(285, 287)

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1.

    Claim: hsm-splits.
    """
    steps, slots = check_count("steps", steps), check_count("slots", slots)
    return Splits().values(slots, repetitions(steps, slots), steps) if min(steps, slots) > 1 else range(0)


def step_evaluations(steps: int, slots: int, /) -> tuple[int, ...]:
    """Return how many of the steps run exactly ``k`` times in an optimal schedule, for ``k = 0, 1, 2, ...``.

    >>> step_evaluations(10, 4)
    (0, 1, 4, 5)

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1.

    Claim: hsm-step-counts.
    """
    steps, slots = check_count("steps", steps), check_count("slots", slots)
    return (0, *counts(steps, slots))


def counts(length: int, slots: int, *, shift: int = 0) -> tuple[int, ...]:
    """Return ``beta(m-1, j)`` for ``j < r`` and the rest of `length` at ``j = r``: the slopes of `envelope`'s ``D``."""
    q = repetitions(length, slots)
    full = [binomial(slots - 1, index + shift) for index in range(q)]
    return (*full, length - binomial(slots, q - 1 + shift))


def all_schedules_match(policy: str, splits: Callable[[int, int], range], shift: int = 0) -> bool:
    """Return whether every optimal schedule runs as many steps ``k`` times as the formula says, ``t <= 16, m <= 5``."""
    offset = int(policy == "ism")

    @cache
    def runs(steps: int, slots: int) -> frozenset[tuple[int, ...]]:
        if steps == 0:
            return frozenset({()})
        if steps == 1 or slots == 1:
            return frozenset({tuple(range(1, steps + 1))})
        return frozenset(
            tuple(sorted([*(many + 1 for many in left), *[1] * offset, *right]))
            for y in splits(steps, slots)
            for left in runs(y - offset, slots)
            for right in runs(steps - y, slots - 1)
        )

    def expected(steps: int, slots: int) -> tuple[int, ...]:
        first, *rest = counts(steps + offset, slots, shift=shift)
        return tuple(k for k, many in enumerate((first - offset, *rest), 1 - offset) for _ in range(many))

    return all(runs(n, s) == {expected(n, s)} for s in range(1, 6) for n in range(1, 17))


def counts_match(policy: str, shift: int = 0, *, longest: int = 40, slots: int = 6) -> bool:
    """Return whether the streams of a table run as many steps ``k`` times as the formula says, for all sizes."""
    table = build(policy, longest, slots)
    offset = int(policy == "ism")
    for s in range(1, slots + 1):
        for n in range(1, longest + 1):
            runs = [0] * n
            for action in table.schedule(n, s):
                match action:
                    case Advance(start, stop):
                        runs[start:stop] = [many + 1 for many in runs[start:stop]]
                    case Record(step):
                        runs[step] += 1
            expected = counts(n + offset, s, shift=shift)
            counted = [runs.count(index + 1 - offset) for index in range(len(expected))]
            # The empty sequence that ISM's x = t + 1 begins with is a step that never runs.
            if counted != [expected[0] - offset, *expected[1:]] or sum(counted) != n:
                return False
    return True
