"""Chen's two strategies: exact costs, their asymptotics against HSM, and why the paper's policies are never worse.

Ref: chen2016; gruslys2016, section 4.1. How much memory is saved at one cost is in `chen_memory`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sympy as sp

from membptt_theory.actions import Sizes
from membptt_theory.chen import best_segment, recursive_cost, sqrt_cost
from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, Step, natural, nonnegative
from membptt_theory.tables import build, optimal_cost

b, h, k, m, p, r, t = (natural(name) for name in "bhkmprt")  # b: the paper's beta
length, tail = natural("L"), natural("l")


@dataclass(frozen=True, slots=True)
class Constants:
    """Constants of the statements below; mutation tests change them.

    Args:
        passes: forwards a step of the sqrt(t) strategy.
        core: steps of a segment that are not stored, but in the working core.
        start: slots of the recursive strategy at ``t = 1``.
    """

    passes: int = 2
    core: int = 1
    start: int = 1


def derivations(given: Constants | None = None) -> tuple[Derivation, ...]:
    """Return the derivations of this module, in order."""
    constants = given or Constants()
    return sqrt_strategy(constants), recursive_strategy(constants), never_worse(constants)


def sqrt_strategy(given: Constants) -> Derivation:
    """Derive the sqrt(t) strategy's exact cost and its best segment."""
    whole = (k - 1) * length + tail
    slots = t * h / length + b * (length - given.core)  # h: slots of a hidden state
    best = sp.sqrt(h * t / b)
    paper = slots.subs({length: sp.sqrt(t), h: 1}) / sp.sqrt(t)
    text = "first pass, its last segment recorded at once, then every earlier segment again"
    steps = (
        Identity("forwards", (whole - tail) + tail + (k - 1) * length, given.passes * whole - tail, text),
        Identity("best-segment", sp.diff(slots, length).subs(length, best), sp.S.Zero, "the slots are convex in L"),
        Identity("least-slots", slots.subs(length, best), 2 * sp.sqrt(h * b * t) - b),
        Inequality(
            "least-slots-in-integers",
            (k + b * length) ** 2,
            4 * b * (k * length),
            (k - b * length) ** 2,
            text="K L >= t: every segment needs K - 1 + b (L-1) >= 2 sqrt(b t) - b - 1 slots",
        ),
        Identity("slots-at-sqrt-t", sp.limit(paper, t, sp.oo), 1 + b, "the paper's sqrt(t) (1 + beta)"),
        Finite(
            "finite", _best_segment_is_near, "2 sqrt(b t) - b - 1 <= slots of the best <= 2 sqrt(b t) + 2, t <= 1000"
        ),
    )
    return Derivation(
        "chen-sqrt-cost",
        sp.Eq(sp.Function("F")(t, length), 2 * t - tail),
        sp.Le(tail, length),
        "Segments of L steps, the last of l: 2t - l forwards, max((K-1) + b (L-1), K + b (l-1)) slots; best at L = "
        "sqrt(t/b), where it needs 2 sqrt(b t) - b. At L = sqrt(t) it needs sqrt(t) (1 + b) - b.",
        steps,
    )


def recursive_strategy(given: Constants) -> Derivation:
    """Derive the recursive strategy's exact slots and forwards, and compare them with HSM's."""
    return Derivation(
        "chen-recursive-cost",
        sp.Eq(sp.Function("G")(t), h * (p - 1) + sp.floor(t / p**h)),
        sp.Eq(h, sp.floor(sp.log(t, p))),
        "h (p-1) + floor(t / p^h) slots with h = floor(log_p t); at t = p^h it takes t (1 + h (1 - 1/p)) forwards. At "
        "a fixed depth h and cost (h+1) t HSM needs (h!)^(1/h) / h of its slots as t grows: 1 at h = 1, 0.707 at 2, "
        "0.606 at 3, 1/e at last. With p = 2 HSM needs half of its slots at equal cost.",
        (*_recursive_steps(given), *_against_hsm_steps()),
    )


def never_worse(given: Constants) -> Derivation:
    """Derive B8: MSM is never worse than either strategy at its memory, since both are schedules it may choose."""
    slots = 1 + b * (length - given.core)
    rest = given.passes * (t - length) - tail
    first, last, inside, others = (natural(name) for name in ("first", "last", "inside", "others"))
    steps = (
        Identity("one-segment-cost", 1 + (length - 1), length, "internal cuts at y = 1, down to the working core"),
        Identity("one-segment-slots", slots - b, slots.subs(length, length - 1), "b slots each"),
        Identity("one-slot-is-left", slots.subs(length, 1), sp.S.One, "for the last step: C(1, 1) = 1"),
        Identity(
            "one-more-segment",
            length + length + rest,
            given.passes * t - tail,
            "hidden cut at y = L, by induction on K: the K - 1 segments to the right have one slot less",
        ),
        Identity(
            "one-more-part",
            first + inside + ((t - first) - last + others),
            (t - last) + (inside + others),
            "recursive: a hidden cut after the first part leaves the others one slot less, as the strategy does",
        ),
        Finite("finite", _msm_is_never_worse, "sqrt(t): 6 sizes, t <= 60, every L; recursive: t <= 120, every p"),
    )
    return Derivation(
        "chen-never-better",
        sp.Le(sp.Function("C")(t, sp.Function("M")(t, length)), sp.Function("F")(t, length)),
        sp.And(sp.Ge(t, 1), sp.Ge(length, 1)),
        "B8. Chen's schedules are among those that (9), (10) and, for the recursive one, HSM minimise over: cut by "
        "cut, with the same forwards, and every part has the slots it needs.",
        steps,
        ("chen-sqrt-cost", "chen-recursive-cost"),
    )


def _recursive_steps(given: Constants) -> Iterator[Step]:
    digit, rest = natural("d"), sp.Symbol("q", integer=True, nonnegative=True)
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
        {spare: p - 1 - k},
        "k <= p - 1 parts are one step longer: with k - 1 stored, the last of them needs one slot more at most",
    )
    forwards = t * (1 + h * (1 - 1 / p))
    below = forwards.subs({t: t / p, h: h - 1}, simultaneous=True)
    yield Identity(
        "forwards-of-p-parts", (t - t / p) + p * below, forwards, "one pass to the last part, then all parts"
    )
    yield Identity("forwards-of-one-step", forwards.subs({h: 0, t: 1}), sp.S.One)
    yield Finite("finite", _recursive_closed_forms, "forwards at p^h <= 10^6, p <= 10; slots for t <= 1000, p <= 40")


def _against_hsm_steps() -> Iterator[Step]:
    reached = sp.binomial(m + r, m)
    yield Identity(
        "hsm-cost",
        (r + 1) * reached - sp.binomial(m + r, m + 1),
        reached * (r + 1 - r / (m + 1)),
        "HSM at t = beta(m, r): (r + 1) t as m grows, like Chen's (1 + h) t at r = h",
    )
    for depth in range(1, 5):
        product = sp.expand_func(sp.binomial(m + depth, depth)) * sp.factorial(depth)
        yield Identity(f"hsm-reach-{depth}", sp.limit(product / m**depth, m, sp.oo), sp.S.One, "m ~ (r! t)^(1/r)")
    slope = sp.limit((sp.loggamma(h + 1) - h * sp.log(h)) / h, h, sp.oo)
    yield Identity("depth-to-infinity", sp.exp(slope), sp.exp(-1), "(h!)^(1/h) / h")
    central = sp.binomial(2 * m, m)
    yield Identity(
        "halving",
        central.subs(m, m + 1) * (m + 1),
        central * (4 * m + 2),
        "p = 2: r = m = h/2 has Chen's cost, (1 + h/2) t as m grows; beta(m, m) grows 4-fold a slot, so h/2 reach 2^h",
    )


def _best_segment_is_near() -> bool:
    for known in (1, 2, 5, 10):
        sizes = Sizes(1, known + 1, known)
        for steps in range(1, 1001):
            slots = sqrt_cost(steps, best_segment(steps, sizes) or 1, sizes).slots
            if (slots + known + 1) ** 2 < 4 * known * steps or max(0, slots - 2) ** 2 > 4 * known * steps:
                return False
    return True


def _recursive_closed_forms() -> bool:
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


def _msm_is_never_worse() -> bool:
    for known, internal in ((1, 2), (2, 3), (3, 4), (4, 5), (None, 2), (None, 4)):
        sizes = Sizes(1, internal, known)
        table = build("msm", 60, 1 + 59 * (known or internal), internal=internal, internal_known=known)
        for steps in range(1, 61):
            chen = (sqrt_cost(steps, segment, sizes) for segment in range(1, steps + 1))
            if any(table.cost(steps, one.slots) > one.forwards for one in chen):
                return False
    every = ((steps, recursive_cost(steps, parts)) for steps in range(1, 121) for parts in range(2, steps + 2))
    return all(optimal_cost("hsm", steps, one.slots) <= one.forwards for steps, one in every)
