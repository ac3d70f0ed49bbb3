"""MSM without double storage (10) at two forwards a step, Chen's own cost: solved exactly, for all t, m and beta.

Let ``S(m)`` be the sum of ``ceil(j/beta)`` over ``j = 1 .. m``, and ``alpha >= beta + 1``. The longest sequence of at
most ``2t - l`` forwards, ``0 <= l <= ceil(m/beta)``, has ``N_l`` steps, with ``N_0 = S(m) + 2`` and
``N_l = S(m) + 1 - beta l (l-1) / 2`` for ``l >= 1``; every shorter one of at least ``l`` steps is as
cheap. So ``C = 2t - l`` with the largest such ``l``: a closed form wherever ``C <= 2t``.

The schedule behind it is Chen's with segments that grow as slots become free: beside ``j`` hidden states a segment of
``1 + floor((m-j)/beta)`` steps fits.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy as sp

from membptt_theory.derive.any_schedule import every_schedule
from membptt_theory.derive.conditions import Case
from membptt_theory.derive.reach import Reach, least_slots, longest
from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, Step, natural, nonnegative
from membptt_theory.tables import build

__all__ = ["Reach", "alpha_cut", "cost_two", "derivations", "every_schedule", "least_slots", "longest"]

# b: the paper's beta, c = ceil(m/b), s = m - b (c-1), l: forwards saved below two a step
b, c, ell, s, t, y = (natural(name) for name in "bclsty")
S = sp.Function("S")


def derivations(reach: Reach | None = None) -> tuple[Derivation, ...]:
    """Return the derivations of this module, in order."""
    return alpha_cut(), cost_two(reach or Reach()), every_schedule(reach or Reach())


def alpha_cut(spare: int = 1) -> Derivation:
    """Derive that (10) never needs its cut at ``y >= 2`` where ``alpha >= beta + spare``: alpha does not matter."""
    cost = sp.Function("C")
    m, a = natural("m"), nonnegative("a")
    alpha = b + spare + a
    right = 1 + cost(t - y, m - 1 - b)  # what cutting the right part at its first step costs
    steps = (
        Identity(
            "hidden-then-internal",
            (y - 1) + cost(y - 1, m) + right,
            y + cost(y - 1, m) + cost(t - y, m - 1 - b),
            "keep the hidden state before step y, then the internal state of step y, whose input is now stored",
        ),
        Inequality("it-leaves-no-less-room", m - 1 - b, m - alpha, a, text="and C does not rise with m"),
    )
    return Derivation(
        "msm-alpha-cut",
        sp.Ge(y + cost(y - 1, m) + cost(t - y, m - alpha), (y - 1) + cost(y - 1, m) + cost(t - y + 1, m - 1)),
        sp.And(sp.Ge(y, 2), sp.Le(y, t - 1)),
        "In (10) with alpha >= beta + 1 the cut that stores an internal state at y >= 2 is never better than a "
        "hidden state at y - 1 followed by an internal state at 1. At y = t it is the recompute branch. So C "
        "depends on beta alone.",
        (*steps, Finite("finite", _alpha_does_not_matter, "beta <= 5, alpha <= beta + 4, t <= 40, m <= 40")),
    )


def cost_two(reach: Reach) -> Derivation:
    """Derive the longest sequence of at most ``2t - l`` forwards, for ``0 <= l <= ceil(m/beta)``, alpha > beta.

    Claim: msm-cost-two.
    """
    steps = (*_area_steps(reach), *_lower_steps(reach), *_upper_steps(reach))
    m = natural("m")
    return Derivation(
        "msm-cost-two",
        sp.Eq(sp.Function("N")(ell, m), S(m) + 1 - b * ell * (ell - 1) / 2),
        sp.And(sp.Ge(natural("alpha"), b + 1), sp.Ge(ell, 1, evaluate=False), sp.Le(ell, sp.ceiling(m / b))),
        "For alpha >= beta + 1, and N(0, m) = S(m) + 2. At alpha = beta it is false: at alpha = beta = 2, m = 3 seven "
        "steps take 14 forwards, S(3) + 2 = 6. Lower bound, by induction on (t, m) over the cuts of (10): for all t "
        "and m, C >= t; C >= 2t - c; C >= 3t - S(m) - 2; and b l C >= (2 b l + 1) t - W_l(m) for every l >= 1, where "
        "W_l(m) = S(m) + 1 + b l e - b e (e-1)/2 with e = min(c, l). The last is the line through the corners (N_l, 2 "
        "N_l - l) and (N_l+1, ..); costs are integers, so at t > N_(l+1) it leaves 2t - C <= l. Upper bound: by "
        "induction on m, with a hidden state after t - N_l(m-1) steps.",
        (*steps, Finite("finite", lambda: _closed_form_is_the_table(reach), "beta <= 4, t <= 90, m <= 24, all costs")),
        ("msm-alpha-cut",),
    )


def _area_steps(reach: Reach) -> Iterator[Step]:
    area = reach.twice_area(c - 1, s, b) / 2
    text = "S adds ceil(m/b) = c at each m; s = 0 and s = b meet, so blocks join"
    yield Identity("area-step", area - area.subs(s, s - 1), c, text)
    yield Identity("area-joins", area.subs(s, b), reach.twice_area(c, 0, b) / 2)
    yield Identity("area-of-a-block", area - area.subs(c, c - 1), b * (c - 1) + s, "S(m) - S(m-b) = m")


def _lower_steps(reach: Reach) -> Iterator[Step]:
    u, v, w = nonnegative("u"), nonnegative("v"), nonnegative("w")
    first, later = s - 1, c - 1
    area = reach.twice_area(c - 1, s, b) / 2
    yield Identity("slope-2-hidden", y + y + 2 * (t - y) - c, 2 * t - c, "C(y) >= y, and ceil((m-1)/b) <= c")
    yield Identity("slope-2-internal", 1 + 2 * (t - 1) - (c - 1), 2 * t - c)
    yield Inequality("slope-2-recompute", t + (t - 1), 2 * t - c, later)
    three = 3 * t - area - reach.none
    yield Identity("slope-3-hidden", y + (2 * y - c) + 3 * (t - y) - (area - c) - reach.none, three)
    m = b * (c - 1) + s
    yield Inequality(
        "slope-3-internal", 1 + 3 * (t - 1) - (area - m) - reach.none, three, u, {u: m - 2}, "m > b: m >= 2", {c: 2}
    )
    yield Inequality("slope-3-recompute", t + 2 * (t - 1) - c, three, u, {u: area - c}, "S(m) >= c: its last term")
    yield Inequality("slope-3-one-step", sp.Integer(1), three.subs(t, 1), u, {u: area})
    line, weights = (2 * b * ell + 1) * t, sp.Symbol("W")
    left = (b * ell - 1) * y + (2 * y - c)
    yield Identity(
        "left-part", left, (b * ell + 1) * y - c, "b l C(y, m), by b l - 1 times C >= y and once C >= 2y - c"
    )
    right = (2 * b * ell + 1) * (t - y) - weights
    yield Identity("line-hidden", b * ell * y + left + right, line - c - weights, "wanted: W(m) >= W(m-1) + c")
    right = (2 * b * ell + 1) * (t - 1) - weights
    yield Identity("line-internal", b * ell + right, line - (b * ell + 1) - weights, "wanted: W(m) >= W(m-b) + bl + 1")
    left = left.subs(y, t - 1)
    yield Identity("line-recompute", b * ell * t + left, line - (b * ell + 1) - c, "wanted: W(m) >= bl + 1 + c")
    for name, weight, low, slack in (
        ("few", area + 1 + b * ell * c - b * c * (c - 1) / 2, 2, {v: Case(ell - c), w: first}),
        ("many", area + 1 + b * ell * (ell + 1) / 2, 2, {v: Case(c - ell - 1), w: first}),
    ):
        extra = {c: low}
        inside = weight - weight.subs(s, s - 1)
        yield Identity(f"line-{name}-hidden", inside, c, "y (2bl+1) - c and the line of m - 1 add up to the line of m")
        block = weight - weight.subs({s: b, c: c - 1}, simultaneous=True)
        border = b * (v + 1) if name == "few" else sp.Integer(0)
        at_border = block.subs(s, 1)
        if name == "few":
            yield Inequality("line-few-hidden-next-block", at_border, c, border, slack, "", extra)
            yield Inequality("line-few-internal", weight - weight.subs(c, c - 1), b * ell + 1, w, slack, "", extra)
            recompute = c * w + b * ell * later
            yield Inequality("line-few-recompute", weight, b * ell + 1 + c, recompute, {w: first}, "t = 1 is in it too")
        else:
            yield Identity("line-many-hidden-next-block", at_border, c)
            yield Inequality(
                "line-many-internal",
                weight - weight.subs(c, c - 1),
                b * ell + 1,
                b * v + w,
                slack,
                "m >= bl + 1",
                extra,
            )
            recompute = b * c * later / 2 + c * w + b * ell * (ell - 1) / 2
            yield Inequality(
                "line-many-recompute", weight, b * ell + 1 + c, recompute, {w: first}, "t = 1 is in it too"
            )
    few, many = area + 1 + b * ell * c - b * c * (c - 1) / 2, area + 1 + b * ell * (ell + 1) / 2
    yield Identity("lines-join", few.subs(c, ell), many.subs(c, ell), "the two forms of W_l agree at c = l")
    yield Identity(
        "line-many-from-few",
        many.subs(c, ell + 1) - few.subs(c, ell),
        b * ell + s,
        "internal cut from block l + 1 into block l: at least bl + 1 as well",
    )
    after = reach.twice_longest(ell + 1, c - 1, s, b) / 2 + 1
    yield Identity(
        "line-refuses-longer",
        b * ell * (ell + 1) - (many - after),
        sp.Integer(1),
        "at t = N_(l+1) + 1 the line leaves b l (2t - C) <= b l (l+1) - 1, so 2t - C <= l",
    )
    text = "at t = N_1 + 1 slope 3 leaves 2t - C <= 0, and at t = N_0 + 1 it leaves -1: nothing longer costs 2t"
    yield Identity(
        "slope-3-refuses-longer", area + reach.none - reach.twice_longest(1, c - 1, s, b) / 2 - 1, sp.S.Zero, text
    )


def _upper_steps(reach: Reach) -> Iterator[Step]:
    longer = reach.twice_longest(ell, c - 1, s, b) / 2
    yield Identity(
        "one-more-slot", longer - longer.subs(s, s - 1), c, "N_l(m) - N_l(m-1) = c: y <= c steps cost C(y, m) = y"
    )
    yield Identity(
        "cost-of-the-cut",
        y + y + (2 * (t - y) - ell),
        2 * t - ell,
        "for every l >= 0, and shorter t need no more slots",
    )
    lowest = reach.twice_longest(ell, ell - 1, sp.Integer(1), b) / 2
    yield Identity(
        "fewest-slots", lowest, ell + 1, "m = b (l-1) + 1: l - 1 internal states, then two steps in one slot"
    )
    yield Identity("cost-in-the-fewest-slots", (ell - 1) + 3, 2 * (ell + 1) - ell)
    lowest = reach.twice_area(sp.Integer(0), sp.Integer(1), b) / 2 + reach.none
    yield Identity("cost-two-in-one-slot", lowest * (lowest + 1) / 2, 2 * lowest, "l = 0, m = 1: three steps cost 6")


def _alpha_does_not_matter() -> bool:
    for known in range(1, 6):
        tables = [build("msm", 40, 40, internal=known + more, internal_known=known) for more in range(1, 5)]
        if any((table.costs != tables[0].costs).any() for table in tables):
            return False
    return True


def _closed_form_is_the_table(reach: Reach) -> bool:
    for known in range(1, 5):
        table = build("msm", 90, 24, internal=known + 1, internal_known=known)
        for slots in range(1, 25):
            for steps in range(1, 91):
                cost, closed = table.cost(steps, slots), reach.cost(steps, slots, known)
                if (cost if cost <= 2 * steps else None) != closed:
                    return False
    return True
