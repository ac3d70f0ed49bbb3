"""Chen's recursive strategy: exact slots and forwards for every length, and the slots HSM needs at the same cost.

At a fixed depth ``h`` and Chen's own cost HSM needs ``(h!)^(1/(h-1)) / h`` of his slots as ``t`` grows: all of them at
``h = 2``, then 0.816, 0.721, 0.662, and ``1/e`` at last.

Ref: chen2016; gruslys2016, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import sympy as sp

from membptt_theory.actions import Sizes
from membptt_theory.chen import recursive_cost, recursive_schedule
from membptt_theory.derive.conditions import Case
from membptt_theory.derive.envelope import Line
from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, Step, beta, natural, nonnegative
from membptt_theory.machine import meter
from membptt_theory.tables import optimal_cost

h, i, k, m, n, p, r, t = (natural(name) for name in "hikmnprt")
rest = sp.Symbol("q", integer=True, nonnegative=True)


@dataclass(frozen=True, slots=True)
class Constants:
    """Constants of Chen's two strategies; mutation tests change them.

    Args:
        passes: forwards a step of the sqrt(t) strategy.
        core: steps of a segment that are not stored, but in the working core.
        start: slots of the recursive strategy at ``t = 1``.
        slope: HSM's line ``r`` has the slope ``r + slope``.
    """

    passes: int = 2
    core: int = 1
    start: int = 1
    slope: int = 1


def recursive_strategy(given: Constants) -> Derivation:
    """Derive the recursive strategy's exact slots and forwards, and compare them with HSM's.

    Claim: chen-recursive-cost.
    """
    return Derivation(
        "chen-recursive-cost",
        sp.Eq(sp.Function("G")(t), h * (p - 1) + sp.floor(t / p**h)),
        sp.And(sp.Ge(t, 1), sp.Ge(p, 2), sp.Eq(h, sp.floor(sp.log(t, p)))),
        "h (p-1) + floor(t / p^h) slots with h = floor(log_p t). Forwards, for every t: the p^d parts of depth d have "
        "u = floor(t / p^d) steps or u + 1, t - u p^d of them the latter, and each part of n > 1 steps is passed over "
        "once, up to its last part of max(1, floor(n/p)) steps; with t for the graphs that is t (1 + h - h/p) at t = "
        "p^h. At a fixed depth h >= 2 and this cost HSM needs (h!)^(1/(h-1)) / h of its slots as t grows: 1 at h = 2 "
        "(no saving), 0.816 at 3, 0.721 at 4, 0.662 at 5, 1/e at last. At HSM's higher cost (h+1) t it needs "
        "(h!)^(1/h) / h: 0.707 at h = 2, 0.606 at 3. With p = 2 HSM needs half of Chen's slots at equal cost, in the "
        "limit.",
        (
            *_slots_steps(given),
            *_forwards_steps(),
            *_own_cost_steps(given),
            *_higher_cost_steps(),
            Finite("metered", _streams_cost_the_closed_form, "the streams themselves, t <= 40, every p"),
            Finite("finite", _closed_forms, "forwards at p^h <= 10^6, p <= 10; slots for t <= 1000, p <= 40"),
            Finite("own-cost-finite", _hsm_at_own_cost, "HSM's least slots at Chen's own cost, p = 3..40, h = 2..5"),
        ),
        ("hsm-closed-form",),
    )


def _slots_steps(given: Constants) -> Iterator[Step]:
    digit = natural("d")
    slots = h * (p - 1) + digit + given.start - 1
    yield Identity("slots-of-few-steps", slots.subs(h, 0), digit, "t < p: single steps; t - 1 stored, and the start")
    text = "p - 1 stored, then the last part, of floor(t/p) steps"
    yield Identity("slots-last-part", slots.subs(h, h - 1) + (p - 1), slots, text)
    carry = slots.subs({h: h + 1, digit: 1}, simultaneous=True) - slots.subs(digit, p - 1)
    yield Identity("slots-grow-by-one", carry, sp.S.One, "at t + 1 the digit stays, grows by one, or carries")
    spare = nonnegative("u")
    yield Inequality(
        "slots-longer-parts-first",
        (p - 1) + rest,
        (k - 1) + (rest + 1),
        spare,
        {spare: Case(p - 1 - k)},
        "k <= p - 1 parts are one step longer: with k - 1 stored, the last of them needs one slot more at most",
    )


def _forwards_steps() -> Iterator[Step]:
    width = natural("w")
    yield Identity(
        "parts-stay-balanced",
        p * rest + k,
        (p - k) * rest + k * (rest + 1),
        "a part of p u + k steps has parts of u and, k of them, u + 1; one step more only raises k, up to p: so all "
        "parts of a depth have u or u + 1 steps, u = floor(floor(t / p^d) / p) = floor(t / p^(d+1))",
    )
    yield Identity(
        "parts-add-up",
        (width - k) * rest + k * (rest + 1),
        width * rest + k,
        "w = p^d parts add up to t, so k = t - u w of them are longer",
    )
    forwards = t * (1 + h * (1 - 1 / p))
    below = forwards.subs({t: t / p, h: h - 1}, simultaneous=True)
    yield Identity(
        "forwards-of-p-parts", (t - t / p) + p * below, forwards, "t = p^h: one pass to the last part, then all parts"
    )
    yield Identity("forwards-of-one-step", forwards.subs({h: 0, t: 1}), sp.S.One)


def _own_cost_steps(given: Constants) -> Iterator[Step]:
    chen = p**h * (1 + h * (1 - 1 / p))
    room = beta(m + 1, h - 1) - h * p ** (h - 1)
    yield Identity(
        "own-cost",
        chen - Line(given.slope)(m, h, p**h),
        room,
        "HSM's cost is at least its line r = h: at t = p^h, Chen's own cost is enough for that line exactly where "
        "binomial(m+h, h-1) >= h p^(h-1)",
    )
    yield Identity("own-cost-at-depth-2", room.subs(h, 2), m - (2 * p - 2), "m >= 2p - 2; Chen uses 2p - 1")
    low, high = nonnegative("a"), nonnegative("b")
    yield Inequality("own-cost-factor-high", m + h, m + i, high, {high: Case(h - i)}, "(h-1)! binom(m+h, h-1) is the")
    text = "product of m + i, i = 2 .. h"
    yield Inequality("own-cost-factor-low", m + i, m, low + 2, {low: i - 2}, text, {i: 2})
    factor = sp.factorial(h) ** (1 / (h - 1))
    yield Identity(
        "own-cost-slots",
        factor ** (h - 1),
        h * sp.factorial(h - 1),
        "so the least m lies between (h!)^(1/(h-1)) p - h and (h!)^(1/(h-1)) p + 1, over Chen's h (p-1) + 1",
        {h: 2},
    )
    yield Identity(
        "own-cost-piece",
        factor**h / sp.factorial(h),
        factor,
        "beta(m, h) >= m^h / h! is (h!)^(1/(h-1)) t or more there, and beta(m, h-1) = O(p^(h-1)) below t at large p: "
        "the line r = h is HSM's cost",
        {h: 2},
    )
    slope = sp.limit(sp.loggamma(h + 1) / (h - 1) - sp.log(h), h, sp.oo)
    yield Identity("own-cost-at-last", sp.exp(slope), sp.exp(-1), "(h!)^(1/(h-1)) / h as the depth grows")
    central = sp.binomial(2 * m, m)
    yield Identity(
        "halving",
        central.subs(m, m + 1) * (m + 1),
        central * (4 * m + 2),
        "p = 2: r = m = h/2 has Chen's cost, (1 + h/2) t as m grows; beta(m, m) grows 4-fold a slot, so h/2 reach 2^h",
    )


def _higher_cost_steps() -> Iterator[Step]:
    reached = sp.binomial(m + r, m)
    yield Identity(
        "higher-cost",
        (r + 1) * reached - sp.binomial(m + r, m + 1),
        reached * (r + 1 - r / (m + 1)),
        "HSM at t = beta(m, r), r = h: (h + 1) t as m grows, h t / p more than Chen's own cost",
    )
    for depth in range(1, 5):
        product = sp.expand_func(sp.binomial(m + depth, depth)) * sp.factorial(depth)
        text = "m ~ (r! t)^(1/r), over Chen's h t^(1/h): (h!)^(1/h) / h at the higher cost"
        yield Identity(f"higher-cost-reach-{depth}", sp.limit(product / m**depth, m, sp.oo), sp.S.One, text)


def _streams_cost_the_closed_form() -> bool:
    for steps in range(1, 41):
        for parts in range(2, steps + 2):
            report = meter(recursive_schedule(steps, parts), steps=steps, sizes=Sizes(1, None))
            if (report.forwards, report.peak) != recursive_cost(steps, parts):
                return False
    return True


def _closed_forms() -> bool:
    for parts in range(2, 11):
        depth = 0
        while (steps := parts**depth) <= 10**6:
            expected = (steps + depth * (steps - steps // parts), depth * (parts - 1) + 1)
            if recursive_cost(steps, parts) != expected:
                return False
            depth += 1
    pairs = ((steps, parts) for steps in range(1, 1001) for parts in range(2, 41))
    return all(recursive_cost(steps, parts).slots == _digits(steps, parts) for steps, parts in pairs)


def _digits(steps: int, parts: int) -> int:
    depth = 0
    while steps >= parts:
        steps, depth = steps // parts, depth + 1
    return depth * (parts - 1) + steps


def _hsm_at_own_cost() -> bool:
    for depth in range(2, 6):
        for parts in range(3, 41):
            steps, slots = parts**depth, 1
            forwards = recursive_cost(steps, parts).forwards
            while comb(slots + depth, depth - 1) < depth * parts ** (depth - 1):
                slots += 1
            if optimal_cost("hsm", steps, slots) > forwards or optimal_cost("hsm", steps, slots - 1) <= forwards:
                return False
    return True
