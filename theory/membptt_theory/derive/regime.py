"""The regime of fixed cost: the longest sequence whose steps run at most ``a`` times, each or on average."""

from __future__ import annotations

from math import comb

import sympy as sp

from membptt_theory.derive.conditions import Case, Fact
from membptt_theory.derive.envelope import Line, m, r, slots_reach_repetitions
from membptt_theory.derive.hsm import step_evaluations as hsm_evaluations
from membptt_theory.derive.hsm import t
from membptt_theory.derive.ism import step_evaluations as ism_evaluations
from membptt_theory.derive.steps import (
    Derivation,
    Finite,
    Identity,
    Induction,
    Inequality,
    Step,
    beta,
    natural,
    nonnegative,
)
from membptt_theory.policies import POLICIES
from membptt_theory.tables import check_count, optimal_cost

a, j = natural("a"), natural("j")


def most_times(policy: str, /, *, shift: int = 0) -> Derivation:
    """Derive the longest ``t`` at which no step runs more than ``a`` times.

    It is ``beta(m, a-1)`` for HSM and ``beta(m, a) - 1`` for ISM: the longest for any choice of cuts, optimal or
    not, and optimal schedules attain it.

    Args:
        policy: ``"hsm"`` or ``"ism"``.
        shift: error in the second argument of the binomial.

    Claim: most-times.
    """
    runs = a - 1 if policy == "hsm" else a
    least = 1 if policy == "hsm" else 0

    def longest(slots: sp.Expr, most: sp.Expr) -> sp.Expr:
        return beta(slots, runs.subs(a, most) + shift)

    steps: tuple[Step, ...] = (
        Identity("one-slot", longest(sp.Integer(1), a), a + 1 - least, "C(t, 1) runs the first step t times"),
        Identity("fewest-runs", longest(m, sp.Integer(least)), sp.Integer(1), "no sequence longer than x = 1 does"),
        Identity(
            "one-cut",
            longest(m, a),
            longest(m, a - 1) + longest(m - 1, a),
            "the first pass raises the left part by one: y <= longest(m, a-1), x - y <= longest(m-1, a)",
            {m: 2, a: least + 1},
        ),
        Finite(
            "finite",
            lambda: all(
                _longest_each(policy, k, s) == _longest_of_any_cuts(policy, k, s)
                and int(longest(sp.Integer(s), sp.Integer(k))) - 1 + least == longest_each(policy, k, s)
                for s in range(1, 7)
                for k in range(1, 7)
            ),
            "search over all cuts, and the step counts of optimal schedules, m <= 6, a <= 6",
        ),
    )
    return Derivation(
        f"most-times-{policy}",
        sp.Eq(sp.Function("L")(a, m), longest(m, a) - 1 + least),
        sp.Ge(a, 1, evaluate=False),
        "With x = t (HSM) or t + 1 (ISM), by induction on (m, a): Pascal's rule is the recurrence of the longest x.",
        steps,
        uses=(f"{policy}-step-counts",),
    )


def average_hsm(*, less: int = 1) -> Derivation:
    """Derive ``T(a, m)``, the longest ``t`` with ``C <= a t`` for HSM.

    ``T = floor(beta(m+1, a+j-2) / j)`` at ``j = max(1, ceil((a-1)/m))``; so ``beta(m+1, a-1)`` where ``a <= m + 1``.

    Args:
        less: the minimum is at ``j m >= a - less``.

    Ref: gruslys2016, proposition 2. Claim: average-hsm.
    """
    d = nonnegative("d")
    bound = beta(m + 1, a + j - 2)
    steps: tuple[Step, ...] = (
        Identity(
            "line-by-j",
            a * t - Line(1)(m, a + j - 1, t),
            bound - j * t,
            "j = r + 1 - a >= 1: line r lies below a t up to t = beta(m+1, a+j-2)/j",
        ),
        Inequality(
            "other-lines",
            a * t,
            Line(1)(m, r, t),
            d * t + beta(m + 1, r - 1),
            {d: Case(a - r - 1)},
            "r < a: these always do",
        ),
        Identity(
            "ratios",
            j * bound.subs(j, j + 1) - (j + 1) * bound,
            bound * (j * m - (a - less)) / (a + j - 1),
            "so beta(m+1, a+j-2)/j falls while j m < a - 1 and rises after",
        ),
        Identity(
            "over-most-times",
            bound.subs(j, 1),
            beta(m, a - 1) * (m + a) / (m + 1),
            "a <= m + 1: that much longer than the longest with no step above a runs, itself at least the paper's",
        ),
        Finite(
            "finite",
            lambda: all(
                _is_longest("hsm", k, s, longest_average("hsm", k, s)) for s in range(1, 21) for k in range(1, 31)
            ),
            "C <= a T and C > a (T + 1) at T + 1, m <= 20, a <= 30",
        ),
    )
    best = sp.Max(1, sp.ceiling((a - less) / m))
    return Derivation(
        "average-hsm",
        sp.Eq(sp.Function("T")(a, m), sp.floor(bound / j)),
        sp.Eq(j, best),
        "C <= a t exactly where every line of the envelope lies below a t; the least of their ends is T. "
        "C(t)/t never falls, C being convex with C(0) = 0. At a <= m + 1, T = beta(m+1, a-1) is (m+a)/(m+1) times "
        "beta(m, a-1), the longest with no step above a runs, which is at least the paper's m**(a-1)/(a-1)!.",
        steps,
        uses=("hsm-closed-form", "B5"),
    )


def average_ism(*, off: int = 0) -> Derivation:
    """Derive the longest ``t`` with ``C <= a t`` for ISM.

    ``T = floor((beta(m+1, a+j-1) - a) / j) - 1`` at the first ``j >= 1`` whose successor is not smaller; so
    ``beta(m+1, a) - a - 1`` where ``a <= m``.

    Args:
        off: error in the ``a`` that is taken off.

    Claim: average-ism.
    """
    d, e = nonnegative("d"), nonnegative("e")
    bound = beta(m + 1, a + j - 1)
    rise = j * bound.subs(j, j + 1) - (j + 1) * bound + a
    before = (j - 1) * bound - j * bound.subs(j, j - 1) + a
    steps: tuple[Step, ...] = (
        Identity(
            "line-by-j",
            a * t - Line(0)(m, a + j, t + 1),
            (bound - (a + off)) - j * (t + 1),
            "j = r - a >= 1: line r lies below a t up to t + 1 = (beta(m+1, a+j-1) - a)/j",
        ),
        Inequality(
            "other-lines",
            a * t,
            Line(0)(m, r, t + 1),
            d * t + e,
            {d: Case(a - r), e: Fact(slots_reach_repetitions(), {m: m + 1})},
            "r <= a: these always do, since beta(m+1, r-1) >= r",
        ),
        Inequality(
            "one-minimum",
            rise,
            before,
            j * beta(m - 1, a + j),
            text="the numerator of the next difference never falls: the bounds fall, then rise",
        ),
        Identity(
            "first-is-least",
            rise.subs(j, 1) - a,
            beta(m + 1, a) * (m - a) / (a + 1),
            "j = 1 where a <= m: the numerator is positive at once",
        ),
        Finite(
            "finite",
            lambda: all(
                _is_longest("ism", k, s, longest_average("ism", k, s) - off) for s in range(1, 21) for k in range(1, 31)
            ),
            "C <= a T and C > a (T + 1) at T + 1, m <= 20, a <= 30",
        ),
    )
    return Derivation(
        "average-ism",
        sp.Eq(sp.Function("T")(a, m), sp.floor((bound - a - off) / j) - 1),
        sp.And(sp.Ge(rise, 0), sp.Lt(before, 0)),
        "As for HSM, with the lines of ISM. The condition on j is for j >= 2; j = 1 needs the first half only.",
        steps,
        uses=("ism-closed-form",),
    )


def logarithmic(*, base: int = 4) -> Derivation:
    """Derive that time and memory need grow with the logarithm of ``t`` alone: HSM in ``k`` slots at ``k + 1`` runs.

    Args:
        base: of the power that the longest sequence exceeds.

    Ref: griewank1992. Claim: griewank-logarithmic.
    """
    k, h = natural("k"), nonnegative("h")
    longest = sp.binomial(2 * k, k)
    grows = h * (4 * k + 2) / k + 2 * base ** (k - 1) / k
    steps: tuple[Step, ...] = (
        Identity("longest", beta(k, (k + 1) - 1), longest, "most-times: the longest t in k slots at k + 1 runs a step"),
        Induction(
            "grows-fourfold",
            (2 * k + 1) * longest,
            base**k,
            k,
            sp.Integer(6 - base),
            grows,
            h,
            text="one slot and one run more take almost four times as many steps",
        ),
        Finite(
            "finite",
            lambda: all(
                longest_each("hsm", n + 1, n) == comb(2 * n, n) and (2 * n + 1) * comb(2 * n, n) >= base**n
                for n in range(1, 200)
            ),
            "exact integers, k < 200",
        ),
    )
    return Derivation(
        "griewank-logarithmic",
        sp.Ge(sp.Function("L")(k + 1, k), base**k / (2 * k + 1)),
        sp.Ge(k, 1, evaluate=False),
        "Sequences of binom(2k, k) steps, at least 4^k / (2k+1), are backpropagated in k slots with no step run more "
        "than k + 1 times.",
        steps,
        uses=("most-times-hsm",),
    )


def longest_each(policy: str, most: int, slots: int, /) -> int:
    """Return the longest ``t`` at which no step runs more than ``most`` times.

    >>> longest_each("hsm", 3, 10), longest_each("ism", 3, 10)
    (66, 285)

    Raises:
        TypeError: a number is not an integer.
        ValueError: another policy, or a number below 1.

    Claim: most-times.
    """
    _, most, slots = _checked(policy, most, slots)
    return comb(slots + most - 1, slots) if policy == "hsm" else comb(slots + most, slots) - 1


def longest_average(policy: str, average: int, slots: int, /) -> int:
    """Return ``T(a, m)``: the longest ``t`` with ``C(t, m) <= a t``.

    >>> longest_average("hsm", 3, 10), longest_average("ism", 3, 10)
    (78, 360)

    Raises:
        TypeError: a number is not an integer.
        ValueError: another policy, or a number below 1.

    Claim: average-hsm, average-ism.
    """
    policy, k, s = _checked(policy, average, slots)
    if policy == "hsm":
        index = max(1, -(-(k - 1) // s))
        return comb(s + k + index - 1, s + 1) // index
    index, here, after = 1, comb(s + k + 1, s + 1), comb(s + k + 2, s + 1)
    while index * after < (index + 1) * here - k:
        index, here, after = index + 1, after, comb(s + k + index + 2, s + 1)
    return (here - k) // index - 1


def _checked(policy: str, most: int, slots: int) -> tuple[str, int, int]:
    if policy not in POLICIES or not POLICIES[policy].closed_form:
        raise ValueError(f"only 'hsm' and 'ism' have a closed form, got {policy!r}")
    return policy, check_count("most", most), check_count("slots", slots)


def _is_longest(policy: str, average: int, slots: int, steps: int) -> bool:
    below = optimal_cost(policy, steps, slots) <= average * steps
    return below and optimal_cost(policy, steps + 1, slots) > average * (steps + 1)


def _longest_each(policy: str, most: int, slots: int) -> int:
    counts = hsm_evaluations if policy == "hsm" else ism_evaluations
    steps = 1
    while len(counts(steps + 1, slots)) <= most + 1:
        steps += 1
    return steps


def _longest_of_any_cuts(policy: str, most: int, slots: int) -> int:
    """Search every ``y`` of every sub-sequence for the least number of runs that its busiest step can have."""
    taken = int(policy == "ism")
    row: list[int] = []
    for s in range(1, slots + 1):
        row, fewer = [0], row
        while row[-1] <= most:
            n = len(row)
            cuts = range(1, n + taken) if s > 1 else ()
            row.append(min([n, *(max(1 + row[y - taken], fewer[n - y]) for y in cuts if n - y < len(fewer))]))
    return len(row) - 2
