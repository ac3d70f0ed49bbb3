"""ISM solved, as HSM on one more step: its cost, every optimal split, and how often each step runs.

Ref: gruslys2016, (4)-(5).
"""

from __future__ import annotations

import sympy as sp

from membptt_theory.derive.envelope import (
    Line,
    Splits,
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
from membptt_theory.derive.hsm import all_schedules_match, counts, counts_match, t
from membptt_theory.derive.steps import Derivation, Finite, Identity, beta, natural
from membptt_theory.tables import build, check_count, repetitions

FIRST = 0


def duality(*, shift: int = 1, forwards: int = 1) -> Derivation:
    """Derive ``C_ISM(t, m) = C_HSM(t+1, m) - (t+1)`` for all ``t >= 0, m >= 1``.

    Args:
        shift: further steps of HSM.
        forwards: forwards taken off for each of them.

    Ref: gruslys2016, (1)-(5). Claim: duality.
    """
    hsm, ism = sp.Function("H"), sp.Function("I")
    length = t + shift

    def dual(steps: sp.Expr, slots: sp.Expr) -> sp.Expr:
        return hsm(steps + shift, slots) - forwards * (steps + shift)

    def check() -> bool:
        h, i = build("hsm", 60 + shift, 12), build("ism", 60, 12)
        pairs = ((n, s) for n in range(1, 61) for s in range(1, 13))
        return all(i.cost(n, s) == h.cost(n + shift, s) - forwards * (n + shift) for n, s in pairs)

    return Derivation(
        "duality",
        sp.Eq(ism(t, m), dual(t, m)),
        sp.Ge(t, 0, evaluate=False),
        "Put the claim into ISM's recurrence: y and t - y + 1 add up to t + 1, so Q becomes HSM's Q of t + 1 steps, "
        "less t + 1, for every y, and 1 <= y <= t is HSM's range 1 <= y < t + 1. The boundaries agree; induction.",
        (
            Identity("empty", sp.Integer(0), 1 - sp.Integer(forwards) * shift, "t = 0, with C_HSM(1, m) = 1"),
            Identity("one-slot", t * (t + 1) / 2, length * (length + 1) / 2 - forwards * length, "C(t, 1)"),
            Identity("many-slots", t, 2 * length - 1 - forwards * length, "m >= t, where r = 1"),
            Identity(
                "every-split",
                y + dual(y - 1, m) + dual(t - y, m - 1),
                y + hsm(y, m) + hsm(length - y, m - 1) - forwards * length,
                "Q of ISM is Q of HSM, less t + 1",
            ),
            Finite("finite", check, "tables, t <= 60, m <= 12"),
        ),
    )


def closed_form(*, lead: int = FIRST, arm: int = 1, reps: int = -1) -> Derivation:
    """Derive ``C(t, m) = r (t+1) - beta(m+1, r-1)`` for ``beta(m, r-1) <= t + 1 <= beta(m, r)``, all ``t, m``.

    Args:
        lead: what is added to ``r`` in the slope.
        arm: what is added to ``m`` in the binomial.
        reps: what is added to ``r`` in the binomial.

    Ref: gruslys2016, (4)-(5). Claim: ism-closed-form.
    """
    line = Line(lead, arm, reps)
    return Derivation(
        "ism-closed-form",
        sp.Eq(sp.Function("C")(t, m), line(m, r, t + 1)),
        domain(t + 1),
        "The optimum of ISM is the largest of the lines r (t+1) - beta(m+1, r-1), r >= 0, by induction on (m, t) with "
        "x = t + 1; it is convex in t.",
        (
            *closed_form_steps(line, FIRST),
            *recompute_steps(line),
            solved_by_recurrence(line, FIRST, Splits(), longest=40, slots=6),
        ),
    )


def split_interval(*, left_low: int = -2, left_high: int = -1, right_low: int = -1, right_high: int = 0) -> Derivation:
    """Derive every optimal split of ``t >= 1`` steps in ``m >= 2`` slots: HSM's interval at ``t + 1``.

    Args:
        left_low: offset to ``r`` in ``beta(m, r-2) <= y``.
        left_high: offset in ``y <= beta(m, r-1)``.
        right_low: offset in ``y <= t + 1 - beta(m-1, r-1)``.
        right_high: offset in ``t + 1 - beta(m-1, r) <= y``.

    Ref: gruslys2016, (5). Claim: ism-splits.
    """
    line, splits = Line(FIRST), Splits(left_low, left_high, right_low, right_high)
    low, other_low, high, other_high = (end.subs(x, t + 1) for end in splits.ends())
    return Derivation(
        "ism-splits",
        sp.And(sp.Le(sp.Max(1, low, other_low), y), sp.Le(y, sp.Min(high, other_high))),
        sp.And(domain(t + 1), sp.Ge(m, 2)),
        "A split is optimal exactly where both parts touch the lines of the lower bound.",
        (*split_steps(line, splits), solved_by_recurrence(line, FIRST, splits, longest=40, slots=6)),
        uses=("ism-closed-form",),
    )


def step_counts(*, shift: int = 0) -> Derivation:
    """Derive that exactly ``beta(m-1, k)`` steps run ``k`` times for ``1 <= k < r``, and the others ``r`` times.

    Args:
        shift: error in the index of the binomial.

    Claim: ism-step-counts.
    """
    k = natural("k")
    most = t + 1 - beta(m, r - 1 + shift)
    return Derivation(
        "ism-step-counts",
        sp.Eq(sp.Function("N")(k, t, m), sp.Piecewise((beta(m - 1, k + shift), k < r), (most, sp.Eq(k, r)))),
        domain(t + 1),
        "HSM's induction on x = t + 1, in words, in which a step that never runs stands for the end of the sequence. "
        "The counts do not depend on which optimal splits are taken.",
        (
            *count_steps(FIRST, shift=shift),
            Finite("finite", lambda: counts_match("ism", shift), "streams of all t <= 40, m <= 6"),
            Finite(
                "every-schedule",
                lambda: all_schedules_match("ism", optimal_splits, shift),
                "every choice of optimal splits, t <= 16, m <= 5",
            ),
        ),
        uses=("ism-splits",),
    )


def optimal_splits(steps: int, slots: int, /) -> range:
    """Return every optimal ``y``; empty where nothing is cut (``m = 1``).

    ``max(1, beta(m, r-2), t+1 - beta(m-1, r)) <= y <= min(beta(m, r-1), t+1 - beta(m-1, r-1))``.

    >>> optimal_splits(1000, 10)
    range(286, 287)

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1.

    Claim: ism-splits.
    """
    steps, slots = check_count("steps", steps), check_count("slots", slots)
    return Splits().values(slots, repetitions(steps + 1, slots), steps + 1) if slots > 1 else range(0)


def step_evaluations(steps: int, slots: int, /) -> tuple[int, ...]:
    """Return how many of the steps run exactly ``k`` times in an optimal schedule, for ``k = 0, 1, 2, ...``.

    >>> step_evaluations(10, 4)
    (0, 4, 6)

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1.

    Claim: ism-step-counts.
    """
    steps, slots = check_count("steps", steps), check_count("slots", slots)
    return (0, *counts(steps + 1, slots)[1:])
