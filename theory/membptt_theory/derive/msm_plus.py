"""MSM+ solved: what every legal schedule with separate storage needs at a forwards a step, alpha at least 2.

MSM+ is optimal over all legal schedules with separate storage, and needs two kinds of cuts only (both by Coq,
`proofs_check/formal`): with ``P(t, m)`` its cost and ``R(t, m)`` that of a part which may not give up its start,

    P = min(y + P(y, m) + P(t-y, m-1),  1 + R(t-1, m+1-alpha))
    R = min(y + R(y, m) + P(t-y, m-1),  P(t, m-1))

Its cost lies on or above the lines ``r t - F_r(m)``, with ``F_2(m) = 1 + floor(m/alpha)``, ``F_r(1) = r (r-1) / 2``
and ``F_r(m) = F_(r-1)(m) + F_r(m-1)``, and on them over long stretches. So at most ``a t`` forwards need ``t <=
F_(a+1)(m)``, and that is enough for ``m >= 2a - 3``. At two forwards a step ``F_3(m) = S(m+1) + 1``, S(n) the sum of
``ceil(j/alpha)`` over ``j <= n``: sqrt(2 alpha t) slots to leading order.
"""

from __future__ import annotations

from itertools import accumulate
from math import isqrt

import sympy as sp

from membptt_theory.derive.conditions import Neighbours, Premise
from membptt_theory.derive.steps import Derivation, Finite, Identity, Induction, Inequality, Step, natural, nonnegative
from membptt_theory.tables import build, check_count

alpha, j, m, r, t, y = natural("alpha"), *(natural(name) for name in "jmrty")
F, P, T, c = (sp.Function(name) for name in ("F", "P", "T", "c"))


def limit(slots: int, internal: int, slope: int, /, *, corner: int = 1) -> int:
    """Return ``F_r(m)``: no legal schedule with separate storage takes fewer than ``r t - F_r(m)`` forwards.

    >>> [limit(63, 2, slope) for slope in (2, 3, 4)]
    [32, 1057, 23473]

    Args:
        slots: ``m``, the starting state included, at least 1.
        internal: alpha, slots of an internal state, at least 2.
        slope: ``r``, at least 1.
        corner: ``F_r(1) = r (r - corner) / 2``; mutation tests change it.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small.

    Claim: msm-plus-fixed-cost.
    """
    slots, slope = check_count("slots", slots), check_count("slope", slope)
    internal = check_count("internal", internal, least=2)
    if slope == 1:
        return 0
    row = [1 + s // internal for s in range(1, slots + 1)]
    for k in range(3, slope + 1):
        row = list(accumulate([k * (k - corner) // 2, *row[1:]]))
    return row[-1]


def lower_bound(steps: int, slots: int, internal: int, /) -> int:
    """Return the best of the lines ``r t - F_r(m)``: what every legal schedule with separate storage takes at least.

    >>> lower_bound(1000, 50, 5), build("msm_plus", 1000, 50, internal=5).cost(1000, 50)
    (2713, 2713)

    Args:
        steps: ``t``, at least 1.
        slots: ``m``, the starting state included, at least 1.
        internal: alpha, at least 2.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small.

    Claim: msm-plus-fixed-cost.
    """
    steps, slope, best = check_count("steps", steps), 1, 0
    # F_(r+1) - F_r grows with r, so the lines rise up to the last r with F_(r+1) - F_r <= t.
    while (line := slope * steps - limit(slots, internal, slope)) >= best:
        best, slope = line, slope + 1
    return best


def longest(slots: int, internal: int, /, saved: int = 0) -> int:
    """Return the longest ``t`` that some legal schedule does in at most ``2t - saved`` forwards; 0 where none does.

    Args:
        slots: ``m``, the starting state included, at least 1.
        internal: alpha, at least 2.
        saved: forwards below two a step, at least 0.

    >>> [longest(63, 2, saved) for saved in (0, 1, 2)]
    [1057, 1056, 1055]

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small.

    Claim: any-schedule-cost-two, msm-plus-below-two.
    """
    slots, saved = check_count("slots", slots), check_count("saved", saved, least=0)
    internal = check_count("internal", internal, least=2)
    blocks, rest = divmod(slots + 1, internal)
    area = (internal * blocks * (blocks + 1)) // 2 + rest * (blocks + 1)
    if saved == 0:
        return area + 1
    last = area - (internal - 1) * saved * (saved - 1) // 2
    return last if saved <= min(last, 1 + slots // internal) else 0


def least_slots(steps: int, internal: int, /) -> int:
    """Return the fewest slots in which a legal schedule with separate storage takes at most ``2t`` forwards.

    >>> [least_slots(1000, internal) for internal in (2, 3, 6)]
    [62, 75, 106]

    Args:
        steps: ``t``, at least 1.
        internal: alpha, at least 2.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is too small.

    Claim: any-schedule-cost-two, msm-plus-least-slots.
    """
    steps, internal = check_count("steps", steps), check_count("internal", internal, least=2)
    # S(n) >= n (n + alpha) / (2 alpha), so m + 1 = sqrt(2 alpha t) is enough, and the search is over one block or two.
    slots = max(1, isqrt(2 * internal * steps) - internal - 1)
    while longest(slots, internal) < steps:
        slots += 1
    return slots


def derivations() -> tuple[Derivation, ...]:
    """Return the derivations of this module, in order."""
    return lines(), cost_two()


def lines(*, corner: int = 1) -> Derivation:
    """Derive ``P, R >= r t - F_r(m)`` for all ``t, m, r >= 1``, by induction over the two kinds of cuts.

    Args:
        corner: ``F_r(1) = r (r - corner) / 2``.

    Claim: msm-plus-fixed-cost.
    """
    d = nonnegative("d")
    meaning = {F: lambda point, k, s: limit(s, point.get("alpha", 2), k, corner=corner)}
    line = r * t - F(r, m)
    sized, three = (alpha - 2,), {alpha: 2, r: 3}

    def defined(value: sp.Expr) -> Premise:
        return Premise(value, "definition", meaning)

    steps: tuple[Step, ...] = (
        Inequality(
            "one-slot",
            t * (t + 1) / 2,
            r * t - r * (r - corner) / 2,
            d / 2,
            {d: Neighbours(t - r + 1)},
            "C(t, 1): a product of two neighbours",
        ),
        Inequality(
            "one-step",
            sp.S.One,
            line.subs(t, 1),
            d,
            {d: defined(F(r, m) - (r - 1))},
            "F_r(m) >= F_r(1) = r (r-1) / 2",
            {r: 2},
            sized,
        ),
        Inequality(
            "hidden-cut",
            y + ((r - 1) * y - F(r - 1, m)) + (r * (t - y) - F(r, m - 1)),
            line,
            d,
            {d: defined(F(r, m) - F(r - 1, m) - F(r, m - 1))},
            "both parts lie above their lines, whichever mode the left part has",
            {r: 2, m: 2},
            sized,
        ),
        Inequality(
            "one-slot-less",
            r * t - F(r, m - 1),
            line,
            d,
            {d: defined(F(r, m) - F(r, m - 1))},
            "R's P(t, m-1)",
            {r: 2, m: 2},
            sized,
        ),
        Inequality(
            "release",
            1 + r * (t - 1) - F(r, m + 1 - alpha),
            line,
            d,
            {d: defined(F(r, m) - F(r, m + 1 - alpha) - (r - 1))},
            "the last term of the difference is F_(r-1)(m) >= r - 1",
            three,
            (m - alpha,),
        ),
        Inequality(
            "release-at-slope-2",
            1 + 2 * (t - 1) - F(2, m - alpha),
            2 * t - F(2, m),
            d,
            {d: defined(F(2, m) - F(2, m - alpha) - 1)},
            "where R >= 2t - F_2(m-1) is needed: R's cuts all leave one slot less to the right",
            {alpha: 2},
            (m - alpha - 1,),
        ),
        Identity(
            "hidden-cut-of-R-at-slope-2",
            y + y + (2 * (t - y) - F(2, m - 1)),
            2 * t - F(2, m - 1),
            "R(y, m) >= y; so R >= 2t - F_2(m-1)",
        ),
        Finite("finite", lambda: _lines_hold(corner), "both modes of the table, alpha 2..5, t <= 60, m <= 24, r <= 9"),
    )
    return Derivation(
        "msm-plus-lines",
        sp.Ge(P(t, m), line),
        sp.And(sp.Ge(alpha, 2), sp.Ge(r, 1, evaluate=False)),
        "F_1 = 0, F_2(m) = 1 + floor(m/alpha), F_r(1) = r (r-1) / 2, F_r(m) = F_(r-1)(m) + F_r(m-1). By induction on "
        "r, then on t + m, over the two kinds of cuts of P and R. So P <= a t only where t <= F_(a+1)(m).",
        steps,
    )


def cost_two(*, gain: int = 1) -> Derivation:
    """Derive that ``t <= S(m+1) + 1`` steps take at most ``2t`` forwards: with `lines`, exactly those.

    Args:
        gain: ``T(m) = S(m+1) + gain``.

    Claim: any-schedule-cost-two.
    """
    d, e, f, h = (nonnegative(name) for name in "defh")
    spare = sp.Symbol("s", integer=True, nonnegative=True)

    def reach(slots: int, internal: int) -> int:
        return longest(slots, internal) - 1 + gain

    meaning = {
        P: lambda point, steps, slots: _table_cost(point.get("alpha", 2), steps, slots),
        T: lambda point, slots: reach(slots, point.get("alpha", 2)),
        c: lambda point, slots: 1 + slots // point.get("alpha", 2),
    }

    def defined(value: sp.Expr, source: str = "definition") -> Premise:
        return Premise(value, source, meaning)

    steps: tuple[Step, ...] = (
        Induction(
            "once-each",
            j + 1,
            P(j + 1, alpha * j + spare),
            j,
            d,
            h + e,
            h,
            {e: defined(1 + P(j, alpha * (j - 1) + spare) - P(j + 1, alpha * j + spare))},
            "release and give up one slot, again and again: c(m) = 1 + floor(m/alpha) steps take a forward each",
            {j: 0, alpha: 2},
            (spare - 1,),
            {d: defined(1 - P(1, spare))},
        ),
        Induction(
            "twice-each",
            2 * T(m),
            P(T(m), m),
            m,
            d,
            h + d + e + f,
            h,
            {
                d: defined(c(m) + P(c(m), m) + P(T(m - 1), m - 1) - P(T(m), m)),
                e: defined(c(m) - P(c(m), m), "once-each"),
                f: defined(2 * T(m) - 2 * T(m - 1) - 2 * c(m)),
            },
            "a hidden cut at y = c(m); T(m) - T(m-1) = ceil((m+1)/alpha) = c(m)",
            {alpha: 2},
            (alpha - 2,),
            {d: defined(2 * T(1) - P(T(1), 1))},
        ),
        Finite("finite", lambda: _two_is_the_table(gain), "alpha 2..6, t <= 90, m <= 24: P <= 2t exactly there"),
    )
    return Derivation(
        "msm-plus-cost-two",
        sp.Le(P(T(m), m), 2 * T(m)),
        sp.And(sp.Ge(alpha, 2), sp.Eq(T(m), sp.Function("S")(m + 1) + gain)),
        "S(n) is the sum of ceil(j/alpha) over j <= n, so T(m) = F_3(m): by the line of slope 3 nothing longer takes "
        "2t forwards, and a shorter sequence needs no more slots. m slots are sqrt(2 alpha t) to leading order.",
        steps,
        ("msm-plus-lines",),
    )


def _table_cost(internal: int, steps: int, slots: int) -> int:
    return build("msm_plus", 40, 40, internal=internal).cost(steps, slots) if steps else 0


def _lines_hold(corner: int) -> bool:
    for internal in range(2, 6):
        table = build("msm_plus", 60, 24, internal=internal)
        for slots in range(1, 25):
            for slope in range(1, 10):
                below = limit(slots, internal, slope, corner=corner)
                costs = table.costs[:, slots, 1:]
                if any(slope * n - below > cost for row in costs for n, cost in enumerate(row.tolist(), 1)):
                    return False
    return True


def _two_is_the_table(gain: int) -> bool:
    for internal in range(2, 7):
        table = build("msm_plus", 90, 24, internal=internal)
        for slots in range(1, 25):
            last = longest(slots, internal) - 1 + gain
            if any((table.cost(n, slots) <= 2 * n) != (n <= last) for n in range(1, 91)):
                return False
    return True
