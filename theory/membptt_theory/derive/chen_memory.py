"""How much memory the paper's policies save at Chen's own cost: "about half", stated exactly.

At two forwards a step MSM (10), with ``alpha >= beta + 1``, needs ``sqrt(2 beta t)`` slots, to leading order. (With
shared storage no legal schedule at all needs less: claim any-schedule-cost-two, by Coq.) That is

- ``sqrt(2 beta) / (1 + beta)`` of Chen's ``sqrt(t) (1 + beta)`` at segments of sqrt(t): at most half from beta = 6 on;
- ``1 / sqrt(2)`` of Chen's ``2 sqrt(beta t)`` at its best segment, for every beta: never half.

Chen's strategy records its last segment at once and so takes ``2t - L`` forwards. At that cost, to the last forward,
MSM needs ``sqrt(1 - 1 / (1 + beta L^2 / t)^2)`` of its slots, ``sqrt(3) / 2`` at its best segment; less where the last
segment is shorter. Without shared storage, (9), read alpha for beta in the limits at two forwards a step.

Ref: chen2016; gruslys2016, section 4.2 and fig. 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

import sympy as sp

from membptt_theory.actions import Sizes
from membptt_theory.chen import best_segment, sqrt_cost
from membptt_theory.derive.conditions import Case
from membptt_theory.derive.reach import least_slots
from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, Step, natural, nonnegative
from membptt_theory.tables import build, check_count, optimal_cost

b, m, t = natural("b"), natural("m"), natural("t")  # b: the paper's beta
q, s, u = (sp.Symbol(name, integer=True, nonnegative=True) for name in "qsu")
x = sp.Symbol("x", positive=True)  # segment length over sqrt(t)


class Memory(NamedTuple):
    """Slots at Chen's own cost, exact.

    Args:
        steps: ``t``.
        known: beta.
        msm: fewest slots in which MSM (10) takes at most ``2t`` forwards.
        chen: slots of Chen's sqrt(t) strategy at segments of ``isqrt(t)``.
        msm_as_chen: fewest slots in which MSM takes no more forwards than that one does.
        best: slots of Chen's strategy at the segment that needs the fewest.
        msm_as_best: fewest slots in which MSM takes no more forwards than that one does.
    """

    steps: int
    known: int
    msm: int
    chen: int
    msm_as_chen: int
    best: int
    msm_as_best: int

    @property
    def ratio(self) -> float:
        """Return ``msm / (sqrt(t) (1 + beta))``, the quantity of figure 7a; for display, nothing decides by it."""
        return float(self.msm / (self.steps**0.5 * (1 + self.known)))


def memory_at_chens_cost(steps: int, known: int, /) -> Memory:
    """Return the exact slots of MSM (10), alpha beyond beta, and of Chen's strategy at one cost, at any ``t``.

    >>> memory_at_chens_cost(1000, 5)
    Memory(steps=1000, known=5, msm=98, chen=182, msm_as_chen=105, best=136, msm_as_best=113)

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1.

    Ref: gruslys2016, fig. 7a. Claim: B9.
    """
    steps, known = check_count("steps", steps), check_count("known", known)
    sizes = Sizes(1, known + 1, known)
    chen = sqrt_cost(steps, isqrt(steps), sizes)
    best = sqrt_cost(steps, best_segment(steps, sizes) or 1, sizes)
    as_chen, as_best = (least_slots(steps, known, 2 * steps - cost.forwards) for cost in (chen, best))
    return Memory(steps, known, least_slots(steps, known), chen.slots, as_chen, best.slots, as_best)


def last_at_most_half(known: int, /) -> int | None:
    """Return the last ``t`` at which MSM (10) needs at most half of ``sqrt(t) (1 + beta)``; ``None``: there is no last.

    >>> [last_at_most_half(known) for known in (1, 2, 3, 4, 5, 6)]
    [5, 8, 17, 52, 267, None]

    Args:
        known: beta; alpha is beta + 1 or more.

    Raises:
        TypeError: beta is not an integer.
        ValueError: beta is below 1.

    Claim: B9.
    """
    known = check_count("known", known)
    if (1 + known) ** 2 >= 8 * known:
        return None
    end = 1
    while not _more_than_half_from_here(end, known):
        end *= 2
    return max(n for n in range(1, end + 1) if _at_most_half(n, known))


def derivations(gain: int = 2) -> tuple[Derivation, ...]:
    """Return the derivations of this module; `gain` is 2 in ``sqrt(2 beta t)``, mutation tests change it."""
    return memory(gain), other_policies(gain)


def memory(gain: int) -> Derivation:
    """Derive the limits of MSM's memory over Chen's at Chen's own cost, and when that is half.

    Claim: B9.
    """
    over = sp.Function("m")(t) / (sp.sqrt(t) * (1 + b))
    return Derivation(
        "chen-memory-at-cost-two",
        sp.Eq(sp.Limit(over, t, sp.oo), sp.sqrt(2 * b) / (1 + b)),
        sp.And(sp.Ge(natural("alpha"), b + 1), sp.Le(sp.Function("C")(t, m), 2 * t)),
        "For alpha >= beta + 1, and m(t) the fewest slots of MSM (10) at two forwards a step: m(t) = sqrt(2 b t) - b/2 "
        "+ O(1) by msm-cost-two. At most half of sqrt(t) (1 + b) in the limit exactly for b >= 3 + 2 sqrt(2), so b >= "
        "6; 1/sqrt(2) of Chen's best segment for every b; at Chen's cost to the last forward, 2t - L with L = x "
        "sqrt(t), the factor is sqrt(1 - 1 / (1 + b x^2)^2).",
        (*_area_steps(), *_limit_steps(gain)),
        ("msm-cost-two", "chen-sqrt-cost"),
    )


def other_policies(gain: int) -> Derivation:
    """Derive that HSM and ISM by themselves save nothing at two forwards a step."""
    n = natural("n")  # internal states that ISM keeps
    hsm = 3 * t - (m + gain)
    ism = 3 * (t + 1) - (n + 3) * (n + gain) / 2
    most = (n + 3) * (n + 2) / 2 - 3
    over = (1 + b) * n / (sp.sqrt(most) * (1 + b))
    text = "n internal states of alpha = 1 + beta, over sqrt(t) (1 + beta): more than Chen, for every beta"
    steps = (
        Identity("hsm-line", hsm, 3 * t - sp.binomial(m + 2, 1), "HSM's closed form at r = 2"),
        Identity("hsm-at-two", hsm.subs(t, m + 2), 2 * (m + 2), "HSM takes at most 2t forwards exactly for t <= m + 2"),
        Identity("ism-line", ism, 3 * (t + 1) - sp.binomial(n + 3, 2).expand(func=True), "ISM's closed form at r = 3"),
        Identity("ism-at-two", ism.subs(t, most), 2 * most, "ISM does exactly for t <= (n+2)(n+3)/2 - 3"),
        Identity("ism-over-chen", sp.limit(over, n, sp.oo), sp.sqrt(2), text),
        Inequality(
            "hsm-at-chens-memory",
            (m + 1) * (m + gain),
            m**2,
            3 * m + 2,
            text="m = sqrt(t) (1 + b) >= 2 sqrt(t) makes t <= m^2 / 4: there r = 2, and HSM takes 3t - m - 2 forwards",
        ),
        Finite("finite", _hsm_and_ism_at_two, "every t at two forwards a step, m <= 40"),
    )
    return Derivation(
        "chen-memory-hsm-ism",
        sp.Eq(sp.Function("C_HSM")(t, m), 3 * t - m - 2),
        sp.And(sp.Le(m + 1, t), sp.Le(t, (m + 1) * (m + 2) / 2)),
        "At two forwards a step HSM needs t - 2 slots and ISM sqrt(2) times Chen's memory in the limit: there only the "
        "mixture saves memory. At Chen's memory HSM takes almost three forwards a step.",
        steps,
        ("hsm-closed-form", "ism-closed-form"),
    )


def _area_steps() -> Iterator[Step]:
    slots, area = b * q + s, b * q * (q + 1) / 2 + s * (q + 1)
    rest = s * (b - s) / (2 * b)
    yield Identity("area", area, slots**2 / (2 * b) + slots / 2 + rest, "S(m) at m = b q + s, s <= b: rest >= 0")
    yield Inequality("area-rest", b / 8, rest, (b - 2 * s) ** 2 / (8 * b), text="so S(m) = m^2 / 2b + m / 2 + O(1)")


def _limit_steps(gain: int) -> Iterator[Step]:
    yield Identity("root", _root(t) ** 2 / (2 * b) + _root(t) / 2, t, "where m^2 / 2b + m / 2 = t")
    for name, target in (("from-above", t - 2), ("from-below", t - 2 - b / 8)):
        limit = sp.limit(_root(target) / (sp.sqrt(t) * (1 + b)), t, sp.oo)
        yield Identity(f"limit-{name}", limit, sp.sqrt(gain * b) / (1 + b), "m(t) is the least m with S(m) >= t - 2")
    yield Identity("next-term", sp.limit(_root(t - 2) - sp.sqrt(gain * b * t), t, sp.oo), -b / 2)
    yield Identity("over-best-segment", sp.sqrt(gain * b * t) / (2 * sp.sqrt(b * t)), 1 / sp.sqrt(2))
    half = (b - 3 - 2 * sp.sqrt(2)) * (b - 3 + 2 * sp.sqrt(2))
    yield Identity(
        "half", (1 + b) ** 2 - 4 * gain * b, half, "ratio <= 1/2 where (1 + b)^2 >= 8 b: outside 3 -+ 2 sqrt(2)"
    )
    yield Inequality("half-from-6", (6 + u - 3) ** 2, 4 * sp.Integer(gain), u**2 + 6 * u + 1, text="b = 6 + u")
    v = nonnegative("v")
    below = (b - 1) * v + 4
    to_5 = {v: Case(5 - b)}
    yield Inequality("not-half-to-5", 4 * sp.Integer(gain), (b - 3) ** 2, below, to_5, "b = 1 .. 5, never equal")
    saved = x * sp.sqrt(t)
    exact = sp.limit(_root(t - 1 + b * saved * (saved - 1) / 2) / sp.sqrt(t), t, sp.oo)
    yield Identity("as-chen", exact**2, gain * b + b**2 * x**2, "least m with S(m) >= t - 1 + b l (l-1) / 2, l = L")
    factor = (gain * b + b**2 * x**2) / (1 / x + b * x) ** 2
    yield Identity("as-chen-factor", factor, 1 - 1 / (1 + b * x**2) ** 2, "squared, over Chen's t/L + b L")
    yield Identity("as-best-factor", factor.subs(x, 1 / sp.sqrt(b)), sp.Rational(3, 4), "squared, at L = sqrt(t/b)")
    saved = sp.sqrt((1 + b) ** 2 - gain * b) / b
    text = "m = sqrt(t) (1 + b) saves sqrt(t) sqrt(1 + 1/b^2) forwards below 2t, Chen sqrt(t)"
    yield Identity("cost-at-chens-memory", saved**2, 1 + 1 / b**2, text)
    yield Finite("finite", _memory_is_least, "beta in 1, 2, 5, 10, t <= 150, against the table; last t at most half")


def _root(target: sp.Expr) -> sp.Expr:
    return sp.sqrt(b**2 / 4 + 2 * b * target) - b / 2


def _memory_is_least() -> bool:
    for known in (1, 2, 5, 10):
        table = build("msm", 150, 150, internal=known + 1, internal_known=known)
        for steps in range(1, 151):
            for saved in {0, 1, min(2, steps), isqrt(steps)}:
                slots = least_slots(steps, known, saved)
                fits = slots <= 150 and table.cost(steps, slots) <= 2 * steps - saved
                least = slots == 1 or table.cost(steps, slots - 1) > 2 * steps - saved
                if not (fits and least):
                    return False
    ends = {known: last_at_most_half(known) for known in range(1, 6)}
    return all(end and _at_most_half(end, known) and not _at_most_half(end + 1, known) for known, end in ends.items())


def _hsm_and_ism_at_two() -> bool:
    for slots in range(1, 41):
        for policy, end in (("hsm", slots + 2), ("ism", (slots + 2) * (slots + 3) // 2 - 3)):
            if any((optimal_cost(policy, n, slots) <= 2 * n) != (n <= end) for n in range(1, end + 60)):
                return False
    return True


def _at_most_half(steps: int, known: int) -> bool:
    return 4 * least_slots(steps, known) ** 2 <= steps * (1 + known) ** 2


def _more_than_half_from_here(steps: int, known: int) -> bool:
    # "area-rest" gives m >= sqrt(2b (t-2)) - b/2. Once above half it stays so at longer t, since sqrt(8b) > 1 + b.
    return 2 * isqrt(2 * known * max(0, steps - 2)) - known > (isqrt(steps) + 1) * (1 + known)
