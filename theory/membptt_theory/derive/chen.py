"""Chen's sqrt(t) strategy: its exact cost and best segment; and why the paper's policies are never worse than Chen's.

Ref: chen2016; gruslys2016, section 4.1. The recursive strategy's cost is in `chen_recursive`, how much memory is saved
at the sqrt(t) strategy's cost in `chen_memory`.
"""

from __future__ import annotations

import sympy as sp

from membptt_theory.actions import Sizes
from membptt_theory.chen import best_segment, recursive_cost, sqrt_cost, sqrt_schedule
from membptt_theory.derive.chen_recursive import Constants, recursive_strategy
from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, natural
from membptt_theory.machine import meter
from membptt_theory.tables import build, optimal_cost

__all__ = ["Constants", "derivations", "never_worse", "recursive_strategy", "sqrt_strategy"]

b, h, i, k, t = (natural(name) for name in "bhikt")  # b: the paper's beta
length, tail = natural("L"), natural("l")


def derivations(given: Constants | None = None) -> tuple[Derivation, ...]:
    """Return the derivations of this module, in order."""
    constants = given or Constants()
    return sqrt_strategy(constants), recursive_strategy(constants), never_worse(constants)


def sqrt_strategy(given: Constants) -> Derivation:
    """Derive the sqrt(t) strategy's exact cost and its best segment.

    Claim: chen-sqrt-cost.
    """
    whole = (k - 1) * length + tail
    slots = t * h / length + b * (length - given.core)  # h: slots of a hidden state
    best = sp.sqrt(h * t / b)
    paper = slots.subs({length: sp.sqrt(t), h: 1}) / sp.sqrt(t)
    text = "bookkeeping: first pass, its last segment recorded at once, then every earlier segment again"
    recorded = i + b * (length - given.core)  # slots while segment i of K is recorded
    steps = (
        Identity("forwards", (whole - tail) + tail + (k - 1) * length, given.passes * whole - tail, text),
        Inequality(
            "later-segments-need-more",
            recorded.subs(i, i + 1),
            recorded,
            sp.S.One,
            text="segment i is recorded beside the hidden states of segments 1 .. i and fills its own L - 1 internal "
            "states: i + b (L-1) slots, most at the last of the equal segments",
        ),
        Identity("peak-before-the-last", recorded.subs(i, k - 1), (k - 1) + b * (length - 1), "segment K - 1"),
        Identity("peak-of-the-last", recorded.subs({i: k, length: tail}), k + b * (tail - 1), "segment K, of l steps"),
        Inequality(
            "first-pass-needs-less", recorded.subs({i: k, length: tail}), k, b * (tail - 1), text="it stores K states"
        ),
        Finite("metered", _streams_cost_the_closed_form, "the streams themselves, t <= 40, every L, 4 sizes"),
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
        sp.And(sp.Ge(t, 1), sp.Ge(length, 1), sp.Le(tail, length)),
        "Segments of L steps, the last of l: 2t - l forwards, max((K-1) + b (L-1), K + b (l-1)) slots; best at L = "
        "sqrt(t/b), where it needs 2 sqrt(b t) - b. At L = sqrt(t) it needs sqrt(t) (1 + b) - b.",
        steps,
    )


def never_worse(given: Constants) -> Derivation:
    """Derive B8: MSM is never worse than either strategy at its memory, since both are schedules it may choose."""
    slots = 1 + b * (length - given.core)
    rest = given.passes * (t - length) - tail
    first, last, inside, others = (natural(name) for name in ("first", "last", "inside", "others"))
    steps = (
        Identity("one-segment-cost", 1 + (length - 1), length, "bookkeeping: internal cuts at y = 1"),
        Identity("one-segment-slots", slots - b, slots.subs(length, length - 1), "b slots each"),
        Identity("one-slot-is-left", slots.subs(length, 1), sp.S.One, "for the last step: C(1, 1) = 1"),
        Identity(
            "one-more-segment",
            length + length + rest,
            given.passes * t - tail,
            "bookkeeping: hidden cut at y = L, by induction on K: the K - 1 segments to the right have one slot less",
        ),
        Identity(
            "one-more-part",
            first + inside + ((t - first) - last + others),
            (t - last) + (inside + others),
            "bookkeeping: recursive, a hidden cut after the first part leaves the others one slot less, as in the "
            "strategy",
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


def _streams_cost_the_closed_form() -> bool:
    for sizes in (Sizes(1, 2, 1), Sizes(1, 3, 2), Sizes(1, 6, 5), Sizes(1, 3)):
        for steps in range(1, 41):
            for segment in range(1, steps + 1):
                report = meter(sqrt_schedule(steps, segment), steps=steps, sizes=sizes)
                if (report.forwards, report.peak) != sqrt_cost(steps, segment, sizes):
                    return False
    return True


def _best_segment_is_near() -> bool:
    for known in (1, 2, 5, 10):
        sizes = Sizes(1, known + 1, known)
        for steps in range(1, 1001):
            slots = sqrt_cost(steps, best_segment(steps, sizes) or 1, sizes).slots
            if (slots + known + 1) ** 2 < 4 * known * steps or max(0, slots - 2) ** 2 > 4 * known * steps:
                return False
    return True


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
