"""Chen's sqrt(t) strategy: its exact cost and best segment; and why the paper's policies are never worse than Chen's.

Ref: chen2016; gruslys2016, section 4.1. The recursive strategy's cost is in `chen_recursive`, how much memory is saved
at the sqrt(t) strategy's cost in `chen_memory`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sympy as sp

from membptt_theory.actions import Sizes
from membptt_theory.chen import best_segment, recursive_cost, sqrt_cost, sqrt_schedule
from membptt_theory.derive.chen_recursive import Constants, recursive_strategy
from membptt_theory.derive.conditions import Premise
from membptt_theory.derive.steps import Derivation, Finite, Identity, Induction, Inequality, Step, natural, nonnegative
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
    first, last, inside, others = (natural(name) for name in ("first", "last", "inside", "others"))
    steps = (
        *_segments_steps(given),
        Identity(
            "one-more-part",
            first + inside + ((t - first) - last + others),
            (t - last) + (inside + others),
            "the recursive strategy, in words: a hidden cut after the first part leaves the others one slot less, as "
            "the strategy does; by induction on the parts, and on the depth",
        ),
        Finite("finite", _msm_is_never_worse, "sqrt(t): 6 sizes, t <= 60, every L; recursive: t <= 120, every p"),
    )
    return Derivation(
        "chen-never-better",
        sp.Le(sp.Function("C")(t, sp.Function("M")(t, length)), sp.Function("F")(t, length)),
        sp.And(sp.Ge(t, 1), sp.Ge(length, 1)),
        "B8. Chen's schedules are among those that (9), (10) and, for the recursive one, HSM minimise over: cut by "
        "cut, with the same forwards, and every part has the slots it needs. (9) is (10) with beta for alpha here.",
        steps,
        ("chen-sqrt-cost", "chen-recursive-cost"),
    )


def _segments_steps(given: Constants) -> Iterator[Step]:
    """Yield the two inductions, over the steps of a segment and over the segments, along cuts of (10)."""
    cost, spare = sp.Function("C"), sp.Symbol("q", integer=True, nonnegative=True)
    d, e, h = (nonnegative(name) for name in ("d", "e", "h"))
    table = {cost: _cost_with_shared_storage}
    slots = 1 + b * (length - given.core)
    cut = 1 + cost(length - 1, slots - b) - cost(length, slots)
    yield Induction(
        "one-segment",
        length,
        cost(length, slots),
        length,
        d,
        h + e,
        h,
        {e: Premise(cut, "definition", table)},
        "internal cuts at y = 1 of b slots each; one slot is left for the last step",
        base_slack={d: Premise(1 - cost(1, 1), "definition", table)},
    )
    whole = (k - 1) * length + tail
    hidden = length + cost(length, k + spare) + cost(whole - length, k - 1 + spare) - cost(whole, k + spare)
    yield Induction(
        "one-more-segment",
        given.passes * whole - tail,
        cost(whole, k + spare),
        k,
        d,
        h + d + e,
        h,
        {
            d: Premise(length - cost(length, k + spare), "one-segment", table),
            e: Premise(hidden, "definition", table),
        },
        "K + q slots, q = max(b (L-1) - 1, b (l-1)): a hidden cut at y = L leaves the K - 1 segments to the right one "
        "slot less; and more slots never cost more",
        cases=(spare - b * (length - 1) + 1, spare - b * (tail - 1)),
        base_slack={d: Premise(tail - cost(tail, 1 + spare), "one-segment", table)},
    )


def _cost_with_shared_storage(point: Mapping[str, int], steps: int, slots: int) -> int:
    known = point.get("b", 1)  # C(1, 1) is 1 at every beta
    return build("msm", 40, 40, internal=known + 1, internal_known=known).cost(steps, slots) if steps else 0


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
            if any(table.cost(steps, cost.slots) > cost.forwards for cost in chen):
                return False
    every = ((steps, recursive_cost(steps, parts)) for steps in range(1, 121) for parts in range(2, steps + 2))
    return all(optimal_cost("hsm", steps, cost.slots) <= cost.forwards for steps, cost in every)
