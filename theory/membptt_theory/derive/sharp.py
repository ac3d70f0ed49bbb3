"""Two-sided bounds of HSM and ISM with the right leading constant.

With ``w = (m! x)**(1/m)`` the leading term is ``m/(m+1) w x = K(m) x**(1 + 1/m)``, ``K(m) = m/(m+1) (m!)**(1/m)``.
Here ``x = t`` for HSM and ``x = t + 1`` for ISM. Everything is polynomial in ``w``, so integers decide all comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import factorial

import sympy as sp

from membptt_theory.derive.conditions import Case, Premise
from membptt_theory.derive.envelope import Line, m, r, x
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
from membptt_theory.tables import optimal_cost

u, w = nonnegative("u"), nonnegative("w")
i = natural("i")
FIRST = {"hsm": 1, "ism": 0}


def two_sided(policy: str, /, *, top: int = 0, above: int = 1, below: int = 1) -> Derivation:
    """Derive ``K x**(1+1/m) - (m/2 - 1/(m+1)) x <= C <= K x**(1+1/m) + x`` for HSM, all ``t, m``; ISM takes off ``x``.

    Args:
        policy: ``"hsm"`` with ``x = t``, or ``"ism"`` with ``x = t + 1``.
        top: error in the numerator ``m`` of ``K``.
        above: coefficient of ``x`` in the upper bound.
        below: numerator in ``m/2 - below/(m+1)``.

    Claim: sharp-bounds.
    """
    first = FIRST[policy]
    line, a, b = Line(first)(m, r, x), nonnegative("a"), nonnegative("b")
    root = {w: (sp.factorial(m) * x) ** (1 / m)}
    main = (m + top) * w * x / (m + 1)
    upper = main + (above + first - 1) * x
    lower = main - (m / 2 - sp.Integer(below) / (m + 1) - first + 1) * x
    steps: tuple[Step, ...] = (
        Inequality(
            "line-above",
            line,
            (m * r + 1) * x / (m + 1) + (first - 1) * x,
            a * (m + r) / (m + 1),
            {a: Case(x - beta(m, r - 1))},
            "the cost at the left end of its piece",
        ),
        Inequality(
            "line-below",
            (m * r + m + 1) * x / (m + 1) + (first - 1) * x,
            line,
            b * r / (m + 1),
            {b: Case(beta(m, r) - x)},
            "the cost at the right end of its piece",
        ),
        *root_steps(),
        Inequality(
            "upper",
            upper,
            (m * r + m + 1) * x / (m + 1) + (first - 1) * x,
            a * m * x / (m + 1),
            {a: Premise(w - r, "root-above", root)},
            "r <= w, by root-above",
            cases=(x - beta(m, r - 1),),
        ),
        Inequality(
            "lower",
            (m * r + 1) * x / (m + 1) + (first - 1) * x,
            lower,
            b * m * x / (m + 1),
            {b: Premise(r + (m + 1) / sp.Integer(2) - w, "root-below", root)},
            "w <= r + (m+1)/2, by root-below",
            cases=(beta(m, r) - x,),
        ),
        Identity("tight-above", sp.limit(upper / main, w, sp.oo), sp.Integer(1), "t to infinity at fixed m"),
        Identity("tight-below", sp.limit(lower / main, w, sp.oo), sp.Integer(1), "t to infinity at fixed m"),
        Finite(
            "finite",
            lambda: all(
                two_sided_holds(policy, n, s, top=top, above=above, below=below)
                for s in range(1, 21)
                for n in (*range(1, 200), 10**6, 10**9)
            ),
            "exact integers, m <= 20, t < 200 and t = 10**6, 10**9",
        ),
    )
    cost = sp.Function("C")(x - 1 + first, m)
    return Derivation(
        f"sharp-{policy}",
        sp.And(sp.Le(lower, cost), sp.Le(cost, upper)),
        sp.Eq(w**m, sp.factorial(m) * x),
        "The cost lies between the lines through the ends of its piece, and r between w - (m+1)/2 and w.",
        steps,
        uses=(f"{policy}-closed-form",),
    )


def second_order(policy: str, /, *, slope: int = 0, below: int = 8, above: int = 24) -> Derivation:
    """Derive the second term too: ``C = K x**(1+1/m) - (m/2 - 1) x + O(x**(1-1/m))`` for HSM.

    Exactly, for all ``t, m``, with the error at most ``(w + 1/2)**(m-1) / (8 (m-1)!)`` below and
    ``(m+2) (w + m/2)**(m-1) / (24 (m-1)!)`` above. ISM takes off ``x``.

    Args:
        policy: ``"hsm"`` with ``x = t``, or ``"ism"`` with ``x = t + 1``.
        slope: error in the coefficient of ``x``.
        below: denominator of the lower error term.
        above: denominator of the upper error term.

    Claim: second-order.
    """
    first = FIRST[policy]
    a, s, p, z, n = (nonnegative(name) for name in ("a", "s", "p", "z", "n"))
    half, down = m / sp.Integer(2), sp.factorial(m - 1)
    main = m * w * x / (m + 1) - (half + slope - first) * x
    tail_below, tail_above = (w + sp.Rational(1, 2)) ** (m - 1) / (below * down), (m + 2) / (above * down)
    steps: tuple[Step, ...] = (
        *young_steps(),
        Identity(
            "line-by-young",
            u * w**m / sp.factorial(m) - u ** (m + 1) / sp.factorial(m + 1),
            m * w ** (m + 1) / ((m + 1) * sp.factorial(m)) - young(m) / sp.factorial(m + 1),
            "with u = r + m/2 and x = w**m / m!, where the binomial is u**(m+1) / (m+1)!",
        ),
        Identity(
            "line-centred", (r + first) * x, (r + half) * x - (half + slope - first) * x, "u x, and the second term"
        ),
        Inequality(
            "binomial-below-power",
            (r + half) ** 2,
            (r + i) * (r + m - i),
            (half - i) ** 2,
            text="i = 0 .. m: so (m+1)! beta(m+1, r-1) = r (r+1) ... (r+m) <= u**(m+1)",
        ),
        Identity(
            "young-small",
            z * n * (n + 1) * z ** (n - 1) / 2 + (n + 1) * z**n,
            (n + 1) * (n + 2) * z**n / 2,
            "so young(m) <= (u-w)**2 m (m+1)/2 max(u, w)**(m-1); some integer r >= 0 has |u - w| <= 1/2",
        ),
        Identity("lower-tail", m * (m + 1) / (8 * sp.factorial(m + 1)), 1 / (below * down), "at |u - w| = 1/2"),
        Inequality(
            "lower-few-steps",
            first * x,
            main,
            a * m * x / (m + 1),
            {a: Case((m + 1) / sp.Integer(2) - w)},
            "where w < (m-1)/2 no such r exists, and line 0 does",
        ),
        Inequality("product-of-factors", (1 - s) * (1 - p), 1 - s - p, s * p, text="for factors in [0, 1]"),
        Identity(
            "sum-of-factors",
            sp.summation((half - i) ** 2, (i, 0, m)) / 2,
            m * (m + 1) * (m + 2) / 24,
            "so (m+1)! beta(m+1, r-1) >= u**(m+1) - m (m+1) (m+2)/24 u**(m-1), one factor a pair i, m - i",
        ),
        Identity("upper-tail", m * (m + 1) * (m + 2) / (24 * sp.factorial(m + 1)), tail_above, "with u <= w + m/2"),
        *root_steps(),
        Identity(
            "tails-vanish",
            sp.limit(m * (1 + m / w) ** (m - 1) * (m + 2) / w, w, sp.oo),
            sp.Integer(0),
            "either error term over x = w**m / m! is at most this",
        ),
        Finite(
            "finite",
            lambda: all(
                second_order_holds(policy, n, s, slope=slope, below=below, above=above)
                for s in range(1, 21)
                for n in (*range(1, 100), 10**6, 10**9)
            ),
            "rational bounds on w, m <= 20, t < 100 and t = 10**6, 10**9",
        ),
    )
    cost = sp.Function("C")(x - 1 + first, m)
    return Derivation(
        f"second-order-{policy}",
        sp.And(sp.Le(main - tail_below, cost), sp.Le(cost, main + tail_above * (w + half) ** (m - 1))),
        sp.Eq(w**m, sp.factorial(m) * x),
        "Complete the power: with u = r + m/2 C is the largest u x - u**(m+1)/(m+1)!, up to small terms.",
        steps,
        uses=(f"{policy}-closed-form",),
    )


def young(power: sp.Expr) -> sp.Expr:
    """Return ``u**(n+1) + n w**(n+1) - (n+1) u w**n``, nonnegative for ``u, w >= 0``: powers are convex."""
    return u ** (power + 1) + power * w ** (power + 1) - (power + 1) * u * w**power


def young_steps() -> Iterator[Step]:
    """Yield the induction that `young` is nonnegative, and ``(u - w)**2`` times a nonnegative factor."""
    n, h = natural("n"), nonnegative("h")
    step = u * h + n * w ** (n - 1) * (u - w) ** 2
    yield Induction("young", young(n), sp.S.Zero, n, sp.S.Zero, step, h, text="tangent inequality", lowest={n: 0})


def root_steps() -> Iterator[Step]:
    """Yield ``r <= w <= r + (m+1)/2`` from the piece's ends."""
    h = nonnegative("h")
    step, text = (r + m - 1) * h + (m - 1) * r ** (m - 1), "so r**m <= m! beta(m, r-1) <= m! x = w**m"
    yield Induction("root-above", sp.factorial(m) * beta(m, r - 1), r**m, m, sp.S.Zero, step, h, text=text)
    yield Inequality(
        "root-below",
        (r + (m + 1) / sp.Integer(2)) ** 2,
        (r + i) * (r + m + 1 - i),
        ((m + 1) / sp.Integer(2) - i) ** 2,
        text="i = 1 .. m: w**m = m! x <= m! beta(m, r) <= (r + (m+1)/2)**m",
    )


def two_sided_holds(policy: str, steps: int, slots: int, /, *, top: int = 0, above: int = 1, below: int = 1) -> bool:
    """Return whether the two-sided bound holds at one ``(t, m)``, decided by integers."""
    first, s, n = FIRST[policy], slots, steps
    length, cost = n + 1 - first, optimal_cost(policy, n, s)
    power = factorial(s) * length
    high = (s + 1) * (cost - (above + first - 1) * length)
    low = 2 * (s + 1) * cost + (s * (s + 1) - 2 * below - 2 * (s + 1) * (first - 1)) * length
    lead = (s + top) * length
    return bool((high <= 0 or high**s <= lead**s * power) and low >= 0 and low**s >= (2 * lead) ** s * power)


def second_order_holds(
    policy: str, steps: int, slots: int, /, *, slope: int = 0, below: int = 8, above: int = 24
) -> bool:
    """Return whether the second-order bound holds at one ``(t, m)``, with ``w`` between two rationals 10**-12 apart."""
    first, s = FIRST[policy], slots
    length, cost = steps + 1 - first, optimal_cost(policy, steps, s)
    grain = 10**12
    root, exact = sp.integer_nthroot(factorial(s) * length * grain**s, s)
    low, high = Fraction(int(root), grain), Fraction(int(root) + (not exact), grain)
    shift = Fraction(s, 2) + slope - first
    lower = Fraction(s, s + 1) * high * length - shift * length
    lower -= (low + Fraction(1, 2)) ** (s - 1) / (below * factorial(s - 1))
    upper = Fraction(s, s + 1) * low * length - shift * length
    upper += (s + 2) * (low + Fraction(s, 2)) ** (s - 1) / (above * factorial(s - 1))
    return lower <= cost <= upper
