"""The least constant of ``C <= K t**(1+1/m)`` for each ``m``, and why no constant serves all ``t`` and ``m``."""

from __future__ import annotations

from math import factorial

import sympy as sp

from membptt_theory.derive.conditions import Case
from membptt_theory.derive.envelope import Line, m, r, x
from membptt_theory.derive.sharp import i, u, w, young, young_steps
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
from membptt_theory.tables import check_count, optimal_cost


def best_constant(*, power: int = 1, numerator: int = 9, denominator: int = 8) -> Derivation:
    """Derive the least constant of ``C <= K t**(1+1/m)`` for HSM: 1, ``3/sqrt(8)``, then ``K(m)``.

    Args:
        power: the binomial is compared with ``(r + power)**(m+1)``.
        numerator: of the squared constant at ``m = 2``.
        denominator: of the squared constant at ``m = 2``.

    Claim: best-constant.
    """
    a, h, q, tau = (nonnegative(name) for name in ("a", "h", "q", "tau"))
    s = r + power
    cost = sp.Function("C")(x, m)
    two = Line(1)(sp.Integer(2), r, tau**2)
    c = sp.sqrt(sp.Rational(numerator, denominator))
    touch = 2 * (r + 1) / (3 * c)
    steps: tuple[Step, ...] = (
        *young_steps(),
        Identity(
            "constant-by-young",
            m * w ** (m + 1) / ((m + 1) * sp.factorial(m)) - s * w**m / sp.factorial(m),
            (young(m).subs(u, s) - s ** (m + 1)) / sp.factorial(m + 1),
            "K t**(1+1/m) less (r+1) t, with t = w**m / m!",
        ),
        Identity("slope", Line(1)(m, r, x) + beta(m + 1, r - 1), s * x, "the line's slope is r + 1"),
        Induction(
            "binomial-above-power",
            sp.factorial(m + 1) * beta(m + 1, r - 1),
            s ** (m + 1),
            m,
            (r + 1) * (2 * (r - 1) ** 2 + 7 * (r - 1) + 4),
            (r + m) * h + (m - 1) * (r + 1) ** m,
            h,
            text="so (m+1)! beta(m+1, r-1) - (r+1)**(m+1) is nonnegative where m >= 3",
            lowest={m: 3},
        ),
        Inequality("one-slot", x**2, x * (x + 1) / 2, a * x / 2, {a: x - 1}, "m = 1, with equality at t = 1"),
        Identity(
            "two-slots",
            c * tau**3 - two - (r * (r + 1) * (r + 2) / 6 - 4 * (r + 1) ** 3 / (27 * c**2)),
            c * (tau - touch) ** 2 * (tau + touch / 2),
            "m = 2, t = tau**2: the line lies below where the bracket is nonnegative",
        ),
        Inequality(
            "two-slots-bracket",
            243 * r * (r + 2) / 6,
            36 * (r + 1) ** 2 / c**2,
            (17 * q**2 + 102 * q + 72) / 2,
            {q: r - 2},
            "r >= 2; the pieces r <= 1 are t = 1, 2, 3",
            {r: 2},
        ),
        Inequality(
            "larger-slots", m + 1, i, a + 1, {a: Case(m - i)}, "i = 1 .. m: (m+1)**m >= m!, so K(m) increases with m"
        ),
        Finite(
            "finite",
            lambda: (
                _leading_over(9, 4) < 0 < _leading_over(10, 4)
                and _leading_over(7, 3) < 0 < _leading_over(8, 3)
                and all(denominator * optimal_cost("hsm", n, 2) ** 2 <= numerator * n**3 for n in range(1, 400))
                and denominator * optimal_cost("hsm", 2, 2) ** 2 == numerator * 2**3
                and all(
                    ((s + 1) * optimal_cost("hsm", n, s)) ** s <= s**s * factorial(s) * n ** (s + 1)
                    for s in range(3, 30)
                    for n in range(1, 400)
                )
            ),
            "K(9) < 4 < K(10), K(7) < 3 < K(8); t < 400, m < 30, with equality at m = 2, t = 2",
        ),
    )
    root = sp.factorial(m) ** (1 / m)
    best = sp.Piecewise((1, sp.Eq(m, 1)), (c, sp.Eq(m, 2)), (m * root / (m + 1), True))
    return Derivation(
        "best-constant",
        sp.Le(cost, best * x ** (1 + 1 / m)),
        sp.Ge(x, 1, evaluate=False),
        "For m >= 3 the leading constant itself bounds all t, and no smaller one does (sharp-hsm). So C < 4 t**(1+1/m) "
        "holds for all t exactly where m <= 9, and C - t < 3 t**(1+1/m) exactly where m <= 7.",
        steps,
        uses=("hsm-closed-form", "sharp-hsm"),
    )


def no_constant(*, pairs: int = 1) -> Derivation:
    """Derive that for every constant ``c`` some ``m`` has ``C > c t**(1+1/m)`` for all large ``t``.

    Even with ``C - t`` for ``C``, since ``t / t**(1+1/m)`` tends to 0.

    Args:
        pairs: ``i (m + pairs - i) >= m`` is the step that makes ``K(m)`` unbounded.

    Claim: no-constant.
    """
    a, b = nonnegative("a"), nonnegative("b")
    c = natural("c")
    steps: tuple[Step, ...] = (
        Inequality(
            "factorial-pairs",
            i * (m + pairs - i),
            m,
            a * b,
            {a: i - 1, b: Case(m - i)},
            "i = 1 .. m: so (m!)**2 >= m**m and (m!)**(1/m) >= sqrt(m)",
        ),
        Inequality("at-least-half", m / (m + 1), sp.Rational(1, 2), (m - 1) / (2 * (m + 1)), text="K(m) >= sqrt(m)/2"),
        Inequality("slots-enough", (2 * c + 2) / sp.Integer(2), c, sp.Integer(1), text="sqrt(m)/2 at m = (2 c + 2)**2"),
        Finite("finite", lambda: all(_exceeds(k) for k in (1, 3, 4, 7)), "explicit t, m for c = 1, 3, 4, 7"),
    )
    return Derivation(
        "no-constant",
        sp.Gt(sp.Limit(sp.Function("C")(x, m) / x ** (1 + 1 / m), x, sp.oo), c),
        sp.Eq(m, 4 * (c + 1) ** 2),
        "By sharp-hsm C / t**(1+1/m) tends to K(m), and K(m) > c at m = 4 (c+1)**2: there C > c t**(1+1/m) for all "
        "large t (not for all: at t = 1 both are 1 for c = 1).",
        steps,
        uses=("sharp-hsm",),
    )


def counterexample(constant: int, /, *, less: int = 0) -> tuple[int, int]:
    """Return ``(t, m)`` with ``C - less t > constant t**(1+1/m)`` for HSM, of least ``m``: any constant fails.

    >>> counterexample(4)[1], counterexample(3, less=1)[1]
    (10, 8)

    Args:
        constant: at least 1.
        less: forwards a step that are taken off.

    Raises:
        TypeError: a number is not an integer.
        ValueError: ``constant < 1`` or ``less < 0``.

    Claim: no-constant.
    """
    constant, less = check_count("constant", constant), check_count("less", less, least=0)
    slots = 1
    while _leading_over(slots, constant) <= 0:
        slots += 1
    steps = 1
    while _over(constant, steps, slots, less) <= 0:
        steps *= 2
    return steps, slots


def _leading_over(slots: int, constant: int) -> int:
    """Return a number of the sign of ``K(m) - constant``."""
    return int(slots**slots * factorial(slots) - (constant * (slots + 1)) ** slots)


def _exceeds(constant: int) -> bool:
    steps, slots = counterexample(constant, less=1)
    return _over(constant, steps, slots, less=1) > 0


def _over(constant: int, steps: int, slots: int, less: int) -> int:
    """Return a number of the sign of ``C - less t - constant t**(1+1/m)``."""
    excess = optimal_cost("hsm", steps, slots) - less * steps
    return int(excess**slots - constant**slots * steps ** (slots + 1))
