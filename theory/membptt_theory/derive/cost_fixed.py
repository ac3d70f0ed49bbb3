"""MSM without double storage (10) at a fixed number of forwards a step: what one more forward buys.

Let ``alpha >= beta + 1``. For every whole number ``a`` the longest ``t`` with ``C(t, m) <= a t`` is ``m^a / (a! beta)``
to leading order, so ``a`` forwards a step need ``(a! beta t)^(1/a)`` slots. HSM needs ``((a-1)! t)^(1/(a-1))``: the
mixture takes one more root. The two bounds differ by a binomial that does not depend on beta, and not at all for
``a <= 2``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import NamedTuple

import sympy as sp

from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, Step, natural, nonnegative
from membptt_theory.tables import build, check_count

a, b, m, r, t, y = (natural(name) for name in "abmrty")  # b: the paper's beta, a = r - 1
F = sp.Function("F")  # F_r(m): C(t, m) >= r t - F_r(m)


class Bounds(NamedTuple):
    """The longest ``t`` with ``C(t, m) <= a t`` is at least ``least`` (which has such a cost) and at most ``most``."""

    least: int
    most: int


def longest_between(slots: int, known: int, average: int, /) -> Bounds:
    """Return bounds of the longest ``t`` that MSM (10) backpropagates in at most `average` forwards a step.

    >>> longest_between(63, 2, 2), longest_between(63, 2, 3)
    (Bounds(least=1026, most=1026), Bounds(least=22480, most=22481))

    Args:
        slots: ``m``, at least 1.
        known: beta; alpha is beta + 1 or more.
        average: ``a``, a whole number of at least 1.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1.

    Claim: msm-fixed-cost.
    """
    slots, known, average = check_count("slots", slots), check_count("known", known), check_count("average", average)
    return Pascal().bounds(slots, known, average)


@dataclass(frozen=True, slots=True)
class Pascal:
    """``F_r(m) = F_(r-1)(m) + F_r(m-1)`` from its two edges; mutation tests change the constants.

    Args:
        corner: ``F_r(1) = r (r - corner) / 2`` for ``r >= 3``; ``F_2(m) = ceil(m / beta)``.
        lift: ``G_a(1) = 2a - lift``, where the lower bound ``G`` starts; ``G_1 = F_2``.
    """

    corner: int = 1
    lift: int = 1

    def edge(self, slope: sp.Expr) -> sp.Expr:
        """Return ``F_r(1)``."""
        return slope * (slope - self.corner) / 2

    def bounds(self, slots: int, known: int, average: int) -> Bounds:
        """Return both bounds of the longest ``t``."""
        low = high = [-(-j // known) for j in range(1, slots + 1)]
        for runs in range(2, average + 1):
            low = _sums(2 * runs - self.lift, low)
            high = _sums((runs + 1) * (runs + 1 - self.corner) // 2, high)
        return Bounds(low[-1], high[-1])


def derivations(pascal: Pascal | None = None) -> tuple[Derivation, ...]:
    """Return the derivations of this module: one."""
    return (fixed_cost(pascal),)


def fixed_cost(pascal: Pascal | None = None) -> Derivation:
    """Derive bounds of the longest ``t`` at ``a`` forwards a step, a binomial apart that does not depend on beta.

    Claim: msm-fixed-cost.
    """
    given = pascal or Pascal()
    steps = (*_lower_steps(given), *_upper_steps(given), *_gap_steps(given), *_leading_steps(given))
    finite = Finite(
        "finite", lambda: _longest_is_between(given), "beta <= 4, a <= 4, m <= 8; F is reached for m >= 2a - 3"
    )
    gap = sp.binomial(m + a - 2, a - 3)
    longest = sp.Function("T")(a, m)
    return Derivation(
        "msm-fixed-cost",
        sp.And(sp.Le(F(a + 1, m) - gap, longest), sp.Le(longest, F(a + 1, m))),
        sp.And(sp.Ge(natural("alpha"), b + 1), sp.Ge(a, 2)),
        "For alpha >= beta + 1. F_2(m) = ceil(m/b), F_r(1) = r (r-1) / 2, F_r(m) = F_(r-1)(m) + F_r(m-1). By induction "
        "over the cuts of (10), C(t, m) >= r t - F_r(m) for all t, m and r >= 2, so C <= a t only at t <= F_(a+1)(m). "
        "G has the same rule, G_1 = F_2 and G_a(1) = 2a - 1, and C(G_a(m), m) <= a G_a(m). F - G is the binomial, for "
        "every a. Both are m^a / (a! b) to leading order. By the cut that proves G, once T(a, m) = F_(a+1)(m) at a - 1 "
        "from some m on, and at a there, it is so ever after.",
        (*steps, finite),
        ("msm-alpha-cut", "msm-cost-two"),
    )


def _lower_steps(given: Pascal) -> Iterator[Step]:
    right, line = r * (t - y) - F(r, m - 1), r * t
    yield Identity(
        "hidden-cut",
        y + ((r - 1) * y - F(r - 1, m)) + right,
        line - (F(r - 1, m) + F(r, m - 1)),
        "both parts lie above their lines: F_r(m) = F_(r-1)(m) + F_r(m-1) is enough",
    )
    text = "enough: F_r(m) >= F_r(m-b) + r - 1. Each row adds F_(r-1)(m) >= F_(r-1)(1) >= r - 1 where r >= 4"
    yield Identity("internal-cut", 1 + r * (t - 1) - F(r, m - b), line - (F(r, m - b) + r - 1), text)
    spare = nonnegative("u")
    grows = spare * (r - 1) / 2
    text = "r >= 4; r <= 3 is msm-cost-two"
    yield Inequality("rows-grow", given.edge(r - 1), r - 1, grows, {spare: r - 4}, text, {r: 4})
    yield Identity("recompute", t + (r - 1) * (t - 1) - F(r - 1, m), line - (F(r - 1, m) + r - 1))
    yield Identity(
        "recompute-edge", given.edge(r), given.edge(r - 1) + r - 1, "F_r(1) pays for it; later rows add more"
    )
    yield Inequality("one-step", sp.Integer(1), r - given.edge(r), grows, {spare: r - 2}, "C(1, m) = 1", {r: 2})


def _upper_steps(given: Pascal) -> Iterator[Step]:
    first = 2 * a - given.lift
    yield Identity("one-slot", first * (first + 1) / 2, a * first, "C(t, 1) = t (t+1) / 2 is a t at t = 2a - 1")
    yield Identity(
        "one-more-slot", y + (a - 1) * y + a * (t - y), a * t, "hidden cut at y = G_(a-1)(m): t - y = G_a(m-1)"
    )


def _gap_steps(given: Pascal) -> Iterator[Step]:
    gap = sp.binomial(m + a - 2, a - 3)
    corner = (given.edge(a + 1) - (2 * a - given.lift)).subs(a, a + 2)
    yield Identity("gap-edge", corner, sp.binomial(a + 1, a - 1), "m = 1, at a + 2: (a+1) a / 2; none at a = 2")
    text = "Pascal's rule at every a >= 3: the gap, 0 at a = 2, is this binomial"
    yield Identity("gap", gap.subs(a, a - 1) + gap.subs(m, m - 1), gap, text, {m: 2, a: 3})


def _leading_steps(given: Pascal) -> Iterator[Step]:
    lead, rest = sp.binomial(m + r - 2, r - 1), sp.binomial(m + r - 3, r - 2)
    text = "the rule of F_r(m), at every r >= 3"
    yield Identity("leading", lead.subs(r, r - 1) + lead.subs(m, m - 1), lead, text, {m: 2, r: 3})
    yield Identity("rest", rest.subs(r, r - 1) + rest.subs(m, m - 1), rest, text, {m: 2, r: 3})
    spare = nonnegative("u")
    text = "so binomial(m+r-2, r-1) / b <= F_r(m) <= that + r (r-1) / 2 binomial(m+r-3, r-2), one order in m smaller:"
    yield Inequality("rest-weight", given.edge(r), given.edge(r - 1), spare, {spare: r - 1}, text)
    text = "it starts so at r = 2, where m/b <= ceil(m/b) <= m/b + 1, and at m = 1"
    yield Identity("rest-edge", (given.edge(r) * rest).subs(m, 1), r * (r - 1) / 2, text, {r: 2})
    more, low = nonnegative("v"), lead.subs(m, 1) / b
    slack = {spare: r - 2, more: 1 - 1 / b}
    yield Inequality(
        "leading-edge", given.edge(r), low, spare * (spare + 3) / 2 + more, slack, "r >= 2 and b >= 1", {r: 2}
    )


def _sums(edge: int, row: list[int]) -> list[int]:
    sums = [edge]
    for value in row[1:]:
        sums.append(sums[-1] + value)
    return sums


def _longest_is_between(given: Pascal) -> bool:
    for known in range(1, 5):
        most = max(given.bounds(8, known, average).most for average in range(1, 5)) + 30
        table = build("msm", most, 8, internal=known + 1, internal_known=known)
        for slots in range(1, 9):
            for average in range(1, 5):
                low, high = given.bounds(slots, known, average)
                longest = max(steps for steps in range(1, most + 1) if table.cost(steps, slots) <= average * steps)
                gap = comb(slots + average - 2, average - 3) if average > 2 else 0
                if high - low != gap or not low <= longest <= high or (slots >= 2 * average - 3 and longest != high):
                    return False
    return True
