"""The paper's bounds for all ``t`` and ``m``: B1, B4 and B5 for HSM, B6 for ISM.

Ref: gruslys2016, propositions 1 and 2, section 3.5, appendix B.3.
"""

from __future__ import annotations

from math import comb, factorial

import sympy as sp

from membptt_theory.derive.conditions import Case, Fact
from membptt_theory.derive.envelope import Line, m, r, slots_reach_repetitions, x
from membptt_theory.derive.hsm import t
from membptt_theory.derive.sharp import i, young, young_steps
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

a = natural("a")
cost = sp.Function("C")


def b1(*, constant: int = 0) -> Derivation:
    """Derive B1: ``C <= m t**(1+1/m)`` for HSM, all ``t, m >= 1``.

    Args:
        constant: added to the factor ``m``.

    Ref: gruslys2016, proposition 1. Claim: B1.
    """
    tau, s, d, e = (nonnegative(name) for name in ("tau", "s", "d", "e"))
    tangent = young(m).subs({sp.Symbol("u", nonnegative=True): s, sp.Symbol("w", nonnegative=True): tau})
    steps: tuple[Step, ...] = (
        *young_steps(),
        Identity(
            "bound-by-young",
            (m + constant) * tau ** (m + 1) - (m + 1) * s * tau**m,
            tangent - s ** (m + 1),
            "the bound less the line's (r+1) t, with t = tau**m and s = (r+1)/(m+1)",
        ),
        Identity("slope", Line(1)(m, r, x) + beta(m + 1, r - 1), (m + 1) * ((r + 1) / (m + 1)) * x, "(m+1) s t"),
        Identity(
            "binomial-product",
            beta(m + 1, r - 1),
            beta(m, r - 1) * (r + m) / (m + 1),
            "so beta(m+1, r-1) is the product of (r - 1 + i)/i over i = 1 .. m+1",
        ),
        Inequality(
            "factors",
            (r - 1 + i) * (m + 1),
            (r + 1) * i,
            (r - 1) * d + i * e,
            {d: Case(m + 1 - i), e: m - 1},
            "i = 1 .. m+1: every factor is at least s, so beta(m+1, r-1) >= s**(m+1); r = 1 serves t = 1",
        ),
        Finite(
            "finite",
            lambda: (
                all(
                    optimal_cost("hsm", n, s) ** s <= (s + constant) ** s * n ** (s + 1)
                    for s in range(1, 31)
                    for n in range(1, 301)
                )
                and optimal_cost("hsm", 1, 1) == 1 + constant
            ),
            "exact integers, t <= 300, m <= 30; equality at t = m = 1",
        ),
    )
    text = "Every line of the envelope lies below the curve, by the curve's own tangent of the same slope."
    statement = sp.Le(cost(t, m), (m + constant) * t ** (1 + 1 / m))
    return Derivation("B1", statement, sp.Ge(t, 1, evaluate=False), text, steps, uses=("hsm-closed-form",))


def power_below() -> Induction:
    """Return the step ``a! beta(m, a) >= m**a``, by induction on ``a`` from 0."""
    h = nonnegative("h")
    step, text = (m + a) * h + a * m ** (a - 1), "so m**a / a! <= beta(m, a)"
    sides = sp.factorial(a) * beta(m, a), m**a
    return Induction("power-below", *sides, a, sp.S.Zero, step, h, text=text, lowest={a: 0})


def b4(*, more: int = 1) -> Derivation:
    """Derive B4: ``C <= (a+1) t`` for HSM and every integer ``a >= 1`` with ``t < m**a / a!``.

    The longest ``t`` that the proof serves is ``beta(m, a)``.

    Args:
        more: what is added to ``a``.

    Ref: gruslys2016, section 3.5. Claim: B4.
    """
    d = nonnegative("d")
    steps: tuple[Step, ...] = (
        power_below(),
        Inequality(
            "breakpoints-increase", beta(m, r), beta(m, r - 1), beta(m - 1, r), text="t <= beta(m, a) has r <= a"
        ),
        Inequality(
            "cost-by-the-most",
            (a + more) * t,
            Line(1)(m, r, t),
            d * t + beta(m + 1, r - 1),
            {d: Case(a - r)},
            "no step runs more than r + 1 times",
        ),
        Finite(
            "finite",
            lambda: all(
                optimal_cost("hsm", n, s) <= (k + more) * n
                for s in range(1, 13)
                for k in range(1, 7)
                for n in range(1, min(400, comb(s + k, k)) + 1)
            ),
            "t <= min(400, beta(m, a)), m <= 12, a <= 6",
        ),
    )
    text = "Below the breakpoint beta(m, a) the slope of C is at most a + 1."
    condition = sp.Lt(t, m**a / sp.factorial(a))
    return Derivation("B4", sp.Le(cost(t, m), (a + more) * t), condition, text, steps, uses=("hsm-closed-form",))


def b5(*, less: int = 1) -> Derivation:
    """Derive B5: ``T(a, m) >= m**(a-1) / (a-1)!`` for HSM, all ``a, m >= 1``; even ``T(a, m) >= beta(m, a-1)``.

    Args:
        less: what is taken off ``a``.

    Ref: gruslys2016, proposition 2. Claim: B5.
    """
    exponent = a - less
    steps: tuple[Step, ...] = (
        power_below(),
        Inequality(
            "average-at-breakpoint",
            a * beta(m, exponent),
            Line(1)(m, a - 1, beta(m, exponent)),
            beta(m + 1, a - 2),
            text="t = beta(m, a-1) is the right end of piece r = a - 1, where C = a t - beta(m+1, a-2) <= a t",
        ),
        Identity("right-end", beta(m, exponent), beta(m, r).subs(r, a - 1)),
        Finite(
            "finite",
            lambda: all(
                optimal_cost("hsm", comb(s + k - less, s), s) <= k * comb(s + k - less, s)
                and s ** (k - less) <= factorial(k - less) * comb(s + k - less, s)
                for s in range(1, 31)
                for k in range(max(1, less), 16)
            ),
            "exact integers, m <= 30, a <= 15",
        ),
    )
    text = "T(a, m) is the longest t with C <= a t. Up to t = beta(m, a-1) no step runs more than a times."
    statement = sp.Ge(sp.Function("T")(a, m), m**exponent / sp.factorial(exponent))
    return Derivation("B5", statement, sp.Ge(a, 1, evaluate=False), text, steps, uses=("hsm-closed-form",))


def b6(*, more: int = 0) -> Derivation:
    """Derive B6: ``C <= a t`` for ISM and every integer ``a >= 1`` with ``t <= m**a / a!``.

    And ``C <= m t**(1+1/m)`` for all ``t, m >= 1``, where the paper has "otherwise". At ``a = 0`` the first bound is
    false (``t = 1`` costs 1).

    Args:
        more: what is added to ``a``.

    Ref: gruslys2016, appendix B.3. Claim: B6.
    """
    d, e, h = nonnegative("d"), nonnegative("e"), nonnegative("h")
    line, reach = Line(0)(m, r, t + 1), slots_reach_repetitions()
    steps: tuple[Step, ...] = (
        Induction(
            "power-and-one-below",
            sp.factorial(a) * beta(m, a),
            m**a + sp.factorial(a),
            a,
            sp.S.Zero,
            (m + a) * h + a * m ** (a - 1) + m * sp.factorial(a - 1),
            h,
            text="so t <= m**a / a! gives t + 1 <= beta(m, a) and r <= a",
        ),
        reach,
        Inequality(
            "cost-by-the-most",
            (a + more) * t,
            line,
            d * t + e,
            {d: Case(a - r), e: Fact(reach, {m: m + 1})},
            "no step runs more than r times",
        ),
        Inequality(
            "never-above-hsm",
            Line(1)(m, r, t),
            Line(1)(m, r, t + 1) - (t + 1),
            d + e,
            {d: Case(t - beta(m, r - 1)), e: Fact(reach)},
            "where beta(m, r-1) <= t < beta(m, r): by duality C_ISM(t, m) <= C_HSM(t, m), which B1 bounds",
        ),
        Finite(
            "finite",
            lambda: all(
                optimal_cost("ism", n, s) <= optimal_cost("hsm", n, s)
                and optimal_cost("ism", n, s) ** s <= s**s * n ** (s + 1)
                and all(optimal_cost("ism", n, s) <= (k + more) * n for k in range(1, 7) if n * factorial(k) <= s**k)
                for s in range(1, 31)
                for n in range(1, 301)
            ),
            "exact integers, t <= 300, m <= 30, a <= 6",
        ),
    )
    text = "Below the breakpoint beta(m, a) the slope of C is at most a; and ISM never costs more than HSM."
    condition = sp.Le(t, m**a / sp.factorial(a))
    statement = sp.Le(cost(t, m), (a + more) * t)
    return Derivation("B6", statement, condition, text, steps, uses=("ism-closed-form", "duality", "B1"))
