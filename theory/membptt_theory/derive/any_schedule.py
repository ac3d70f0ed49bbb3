"""Any legal schedule at two forwards a step: an argument in words that none does much better than MSM (10).

With shared storage and with separate storage Coq knows better: there the bound is exact (any-schedule-cost-two). What
is left to this argument is storage where an internal state may give up its input.

It is not proved: the steps hold the arithmetic, their texts the argument, and a search the small cases.
"""

from __future__ import annotations

import sympy as sp

from membptt_theory.derive.reach import Reach
from membptt_theory.derive.steps import Derivation, Finite, Identity, Inequality, Step, natural
from membptt_theory.tables import build

b, s, t = (natural(name) for name in "bst")  # b: the paper's beta
S = sp.Function("S")


def every_schedule(reach: Reach) -> Derivation:
    """Derive that no schedule whatever does much better: ``t <= S(m+1) + 2 (floor(m/beta) + 1)`` at cost ``2t``.

    Not a proof: the arithmetic is symbolic, but that a segment has no more regular steps rests on the words alone.
    What is called proved does not build on it.

    Claim: detached-cost-two.
    """
    once, twice, more, excess, stored = (natural(name) for name in ("once", "twice", "more", "excess", "stored"))
    q, m = sp.Symbol("q", integer=True, nonnegative=True), natural("m")
    steps: tuple[Step, ...] = (
        Identity(
            "runs-beyond-two",
            2 * (once + twice + more) - (once + 2 * twice + 2 * more + excess),
            once - excess,
            "so at cost 2t at most as many steps run three times or more as run once; a step that runs once has its "
            "internal state stored (or in the core) when the first step goes backward: at most floor(m/beta) + 1 "
            "steps, and with those that run more often at most 2 (floor(m/beta) + 1) are not regular",
        ),
        Identity(
            "segments-add-up",
            reach.twice_area(q, s, b) / 2 - reach.twice_area(q, s - 1, b) / 2,
            1 + q,
            "a regular step runs once before and once after that moment, the second time with its graph. Read "
            "regular steps from the right: a segment ends at each one recorded later than all before it. When the "
            "last step of segment i of K is recorded, the rest of its segment is stored as internal states, and "
            "each of the K - i segments to its left will start from a stored state of its own (were it shared, a "
            "regular step would run again). Hence segment i has at most 1 + floor((m - (K-i))/beta) regular steps, "
            "K - i = 0 .. m, which add up to S(m+1)",
        ),
        Inequality(
            "slots-of-a-segment",
            b * (s - 1) + stored,
            s - 1 + stored,
            (b - 1) * (s - 1),
            text="an internal state takes beta slots or more, a hidden state one or more, in every model of storage",
        ),
        Finite(
            "finite",
            lambda: _every_schedule_obeys(reach),
            "MSM+ (separate storage, beta = alpha) and (10), t <= 160, m <= 24, beta 2..5",
        ),
    )
    return Derivation(
        "detached-cost-two",
        sp.Le(t, S(m + 1) + 2 * (sp.floor(m / b) + 1)),
        sp.Le(sp.Function("cost")(t, m), 2 * t),
        "Every legal schedule, whatever it stores, drops or runs again. The argument is the words of the steps, which "
        "nothing checks; if it holds, msm-cost-two makes sqrt(2 beta t) the least memory at two forwards a step, up "
        "to O(1) slots for fixed beta.",
        steps,
        ("msm-cost-two",),
    )


def _every_schedule_obeys(reach: Reach) -> bool:
    for known in range(2, 6):
        for table in (
            build("msm_plus", 160, 24, internal=known),
            build("msm", 160, 24, internal=known + 1, internal_known=known),
        ):
            for slots in range(1, 25):
                bound = int(reach.twice_area(*divmod(slots + 1, known), known)) // 2 + 2 * (slots // known + 1)
                if any(table.cost(steps, slots) <= 2 * steps for steps in range(bound + 1, 161)):
                    return False
    return True
