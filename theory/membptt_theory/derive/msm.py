"""What is certain about MSM: between ISM and HSM, ISM's exact budget, a lower bound in O(m r), and no convexity.

All of it is about the paper's recurrences (9) and (10), whose optimum is not that of all schedules.

Ref: gruslys2016, (6)-(10), section 3.6.
"""

from __future__ import annotations

import numpy as np
import sympy as sp

from membptt_theory.derive.conditions import Case, Neighbours, Premise
from membptt_theory.derive.envelope import Line, m, r, x, y
from membptt_theory.derive.hsm import t
from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, Step, beta, natural, nonnegative
from membptt_theory.tables import build, check_count, optimal_cost

alpha = natural("alpha")
mixed, hidden, internal = sp.Function("C"), sp.Function("H"), sp.Function("I")


def between(*, room: int = 1, taken: int = 1) -> Derivation:
    """Derive B7: ``C_ISM(t, m) <= C_MSM(t, m) <= C_HSM(t, m)`` for (9) and (10), all ``t, m >= 1`` and any sizes.

    ISM's ``m`` are here slots of one unit each: it is a lower bound in closed form.

    Args:
        room: slots of a hidden state.
        taken: steps of the left part that an internal state at ``y`` saves.

    Ref: gruslys2016, section 3.6. Claim: B7.
    """
    a, d = nonnegative("a"), nonnegative("d")
    line = Line(0)
    costs = {internal: lambda _, steps, slots: optimal_cost("ism", steps, slots) if steps else 0}
    target = y + internal(y - 1, m) + internal(t - y, m - 1)
    steps: tuple[Step, ...] = (
        Identity("boundary-m-1", t * (t + 1) / 2, Line(1)(sp.Integer(1), t, t), "m = 1: the same for all three"),
        Inequality("boundary-many", 2 * t - 1, t, a, {a: t - 1}, "C_MSM = t for m >= alpha t: HSM 2t - 1, ISM t"),
        Identity(
            "hidden-cut",
            y + hidden(y, m) + hidden(t - y, m - room),
            y + hidden(y, m) + hidden(t - y, m - 1),
            "bookkeeping: every cut of HSM is a cut of MSM, with the same room; so C_MSM <= C_HSM by induction",
        ),
        Inequality("ism-rises-in-t", line(m, r, x + 1), line(m, r, x), r, text="the slopes of ISM are never negative"),
        Inequality(
            "ism-falls-in-m",
            line(m, r, x),
            line(m + 1, r, x),
            beta(m + 2, r - 2),
            text="every line, hence their maximum, falls",
        ),
        Inequality(
            "hidden-cut-above",
            y + internal(y, m) + internal(t - y, m - 1),
            target,
            d,
            {d: Premise(internal(y, m) - internal(y - 1, m), "ism-rises-in-t", costs)},
            "a hidden state instead of an internal one, at the same room",
            {m: 2},
            (t - y,),
        ),
        Inequality(
            "internal-cut-above",
            y + internal(y - taken, m) + internal(t - y, m - alpha),
            target,
            d,
            {d: Premise(internal(t - y, m - alpha) - internal(t - y, m - 1), "ism-falls-in-m", costs)},
            "an internal state of alpha (or beta) >= 1 units; at y = t both right parts are empty",
            cases=(t - y, m - alpha - 1),
        ),
        Identity(
            "recompute",
            t + internal(t - 1, m),
            target.subs(y, t).subs(internal(0, m - 1), 0),
            "storing nothing is ISM's cut at y = t, whose right part is empty and costs nothing",
        ),
        Finite("finite", _is_between, "alpha <= 5, every beta, t <= 60, m <= 40"),
    )
    return Derivation(
        "B7",
        sp.And(sp.Le(internal(t, m), mixed(t, m)), sp.Le(mixed(t, m), hidden(t, m))),
        sp.And(sp.Ge(alpha, 2), sp.Ge(t, 1, evaluate=False)),
        "By induction on (m, t): the minimum of MSM runs over HSM's cuts and more, and each of its cuts costs at least "
        "ISM's cut at the same y. So B1, B4 and B5 hold for MSM.",
        steps,
        uses=("hsm-closed-form", "ism-closed-form"),
    )


def never_worse_than_ism(*, spare: int = 1) -> Derivation:
    """Derive ``C_MSM(t, alpha (m-1) + 1) <= C_ISM(t, m)`` for all ``t, m >= 1``, and that no smaller budget does.

    Args:
        spare: units beside ``m - 1`` internal states.

    Ref: gruslys2016, section 3.6. Claim: msm-versus-ism.
    """
    a = nonnegative("a")
    budget = alpha * (m - 1) + spare
    steps: tuple[Step, ...] = (
        Identity("one-slot", budget.subs(m, 1), sp.Integer(1), "both cost t (t+1)/2"),
        Identity(
            "internal-cut",
            budget - alpha,
            alpha * ((m - 1) - 1) + 1,
            "MSM's cut at ISM's y leaves m - 1 slots of ISM: MSM <= ISM by induction",
        ),
        Inequality("hidden-cut-dear", y + y + (t - y), t + 1, a, {a: y - 1}, "a hidden state: above t forwards"),
        Inequality(
            "later-cut-dear",
            y + (y - 1) + (t - y),
            t + 1,
            a,
            {a: y - 2},
            "an internal state at y >= 2: above t",
            {y: 2},
        ),
        Inequality("recompute-dear", t + (t - 1), t + 1, a, {a: t - 2}, "storing nothing: above t", {t: 2}),
        Identity(
            "budget-of-t",
            (alpha * (t - 1) + spare) - alpha,
            alpha * ((t - 1) - 1) + 1,
            "only y = 1 is left: C_MSM(t, M) = t exactly where C_MSM(t-1, M-alpha) = t - 1, so where "
            "M >= alpha (t-1) + 1; ISM has C(t, t) = t, so one unit less makes MSM cost more at t = m",
        ),
        Finite("finite", lambda: _beats_ism(spare), "alpha <= 5, t <= 60, m <= 8; one unit less fails at t = m"),
    )
    return Derivation(
        "msm-versus-ism",
        sp.Le(mixed(t, budget), internal(t, m)),
        sp.And(sp.Ge(alpha, 2), sp.Ge(t, 1, evaluate=False)),
        "m internal slots of ISM are worth alpha (m-1) + 1 units of MSM: one internal state sits in the working core. "
        "(10) costs no more than (9). A larger budget never costs more, so alpha m units are enough as well.",
        steps,
        uses=("ism-closed-form",),
    )


def lower_envelope(*, gain: int = 0) -> Derivation:
    """Derive ``C_MSM(t, m) >= (r+1) t - B(m, r)`` for every ``r >= 0``, with ``B`` of a recurrence of O(m r) sums.

    ``B(m, r) = B(m, r-1) + max(B(m-1, r), r + B(m-alpha, r))``, ``B(m, 0) = B(0, r) = 0``, ``B(1, r) = r (r+1)/2``.

    Args:
        gain: error in the ``r`` that an internal state saves.

    Claim: msm-lower-bound.
    """
    b = sp.Function("B")
    d, e, f = (nonnegative(name) for name in ("d", "e", "f"))
    target = (r + 1) * t - b(m, r)
    left = r * y - b(m, r - 1)
    weights = {b: lambda point, slots, row: _weight(slots, row, point["alpha"])}
    steps: tuple[Step, ...] = (
        Inequality(
            "one-slot", t * (t + 1) / 2, (r + 1) * t - r * (r + 1) / 2, d / 2, {d: Neighbours(t - r)}, "integers"
        ),
        Inequality(
            "hidden-cut",
            y + left + (r + 1) * (t - y) - b(m - 1, r),
            target,
            d,
            {d: Premise(b(m, r) - b(m, r - 1) - b(m - 1, r), "definition", weights)},
            "by the definition of B",
            {m: 2},
            (alpha - 1,),
        ),
        Inequality(
            "internal-cut",
            y + left - r + (r + 1) * (t - y) - b(m - alpha, r),
            target,
            e,
            {e: Premise(b(m, r) - b(m, r - 1) - (r + gain) - b(m - alpha, r), "definition", weights)},
            "by the definition of B",
            {m: 2},
            (m - alpha,),
        ),
        Inequality("recompute", t + (r + 1) * (t - 1) - b(m, r), target, f, {f: Case(t - (r + 1))}, "r <= t - 1"),
        Inequality(
            "lines-from-t-on",
            r * t - b(m, r - 1),
            target,
            d + e + f,
            {
                d: Premise(b(m, r) - b(m, r - 1) - r * (r + 1) / 2, "definition", weights),
                e: r * (r + 1) / 2 - r,
                f: Case(r - t),
            },
            "B(m, r) - B(m, r-1) >= B(1, r) >= r, so line t - 1 lies above",
            {m: 2},
            (alpha - 1,),
        ),
        Finite("finite", lambda: _envelope_holds(gain), "alpha <= 5, t <= 60, m <= 40; above ISM's bound somewhere"),
    )
    return Derivation(
        "msm-lower-bound",
        sp.Ge(mixed(t, m), target),
        sp.Ge(r, 0, evaluate=False),
        "By induction on (m, t) over every cut; C = t for m >= alpha t is what internal cuts at y = 1 give. "
        "r = 0 is C >= t. For (10) put beta for alpha.",
        steps,
    )


def not_convex(*, count: int = 399) -> Derivation:
    """Refute that MSM is convex in ``t``: at alpha = 2, ``m = 3`` the second difference at ``t = 10`` is negative.

    Args:
        count: negative second differences among all ``t < 300``, every ``m``.

    Ref: gruslys2016, appendix A. Claim: B11.
    """
    first = build("msm", 11, 3, internal=2)
    bend = first.cost(11, 3) - 2 * first.cost(10, 3) + first.cost(9, 3)
    return Derivation(
        "msm-not-convex",
        sp.Lt(mixed(11, 3) - 2 * mixed(10, 3) + mixed(9, 3), 0),
        sp.Eq(alpha, 2),
        "The search for a split that relies on convexity, O(t m), must not be used for MSM.",
        (
            Finite("counterexample", lambda: bend < 0, "alpha = 2, t = 9, 10, 11, m = 3"),
            Finite("count", lambda: concave_bends(2, 299)[0] == count, "alpha = 2, t <= 299, every m"),
        ),
    )


def lower_bound(steps: int, slots: int, /, *, internal: int) -> int:
    """Return the best line of `lower_envelope` at ``(t, m)``: at most ``C_MSM(t, m)``.

    >>> lower_bound(1000, 50, internal=5), lower_bound(10**9, 50, internal=5)
    (2723, 8495781087)

    Args:
        steps: ``t``.
        slots: ``m``.
        internal: alpha; for (10), beta.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1.

    Claim: msm-lower-bound.
    """
    steps, slots = check_count("steps", steps), check_count("slots", slots)
    return _best_line(steps, slots, check_count("internal", internal), 0)


def concave_bends(internal: int, steps: int, /) -> tuple[int, tuple[int, int] | None]:
    """Return how many second differences ``C(t+1) - 2 C(t) + C(t-1)`` of (9) are negative, and the first ``(t, m)``.

    Args:
        internal: alpha.
        steps: largest ``t + 1``; ``m`` goes as far as it matters.

    Claim: B11.
    """
    costs = build("msm", steps, internal * steps, internal=internal).costs[0]
    bends = np.argwhere(np.diff(costs[1:], n=2, axis=1) < 0)
    return len(bends), min(((int(n) + 1, int(s) + 1) for s, n in bends), default=None)


def _best_line(steps: int, slots: int, internal: int, gain: int) -> int:
    best, q, before = steps, 0, [0] * (slots + 1)
    while True:
        q += 1
        row = [0, q * (q + 1) // 2]
        for s in range(2, slots + 1):
            stored = q + gain + row[s - internal] if s >= internal else 0
            row.append(before[s] + max(row[s - 1], stored))
        best = max(best, (q + 1) * steps - row[slots])
        if row[slots] - before[slots] >= steps:
            return best
        before = row


def _weight(slots: int, row: int, internal: int) -> int:
    """Return ``B(m, r)``."""
    if slots <= 1 or row == 0:
        return max(0, slots) * row * (row + 1) // 2
    stored = row + _weight(slots - internal, row, internal) if slots >= internal else 0
    return _weight(slots, row - 1, internal) + max(_weight(slots - 1, row, internal), stored)


def _is_between() -> bool:
    sizes = [(k, known) for k in range(2, 6) for known in (None, *range(1, k + 1))]
    tables = [build("msm", 60, 40, internal=k, internal_known=known) for k, known in sizes]
    return all(
        optimal_cost("ism", n, s) <= table.cost(n, s) <= optimal_cost("hsm", n, s)
        for table in tables
        for s in range(1, 41)
        for n in range(1, 61)
    )


def _beats_ism(spare: int) -> bool:
    for k in range(2, 6):
        table = build("msm", 60, 8 * k, internal=k)
        for s in range(1, 9):
            units = k * (s - 1) + spare
            if units < 1 or any(table.cost(n, units) > optimal_cost("ism", n, s) for n in range(1, 61)):
                return False
            if units > 1 and table.cost(s, units - 1) <= optimal_cost("ism", s, s):
                return False
    return True


def _envelope_holds(gain: int) -> bool:
    sharper = False
    for k in range(2, 6):
        table = build("msm", 60, 40, internal=k)
        for s in range(1, 41):
            for n in range(1, 61):
                bound = _best_line(n, s, k, gain)
                if bound > table.cost(n, s):
                    return False
                sharper |= bound > optimal_cost("ism", n, s)
    return sharper
