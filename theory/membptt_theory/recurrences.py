"""Each Bellman equation of the paper, stated once: its cuts, its boundary and its sizes.

Notation: ``C(t, m)`` is the least number of forwards that backpropagates ``t`` steps in ``m`` slots. A *cut* at ``y``
runs ``y`` steps forward, stores a state there, solves the right part, then the left part:

    Q(t, m, y) = y + C(y - taken, m) + C(t - y, m - room)          C(t, m) = min over cuts and y of Q

Every equation is data (`Recurrence`, `Cut`), so that the table's self-check, the builder and the schedule all read the
same statement and none of them repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from membptt_theory.actions import Sizes

POLICIES: Final = ("hsm", "ism", "msm", "msm_plus")
CLOSED_FORM: Final = ("hsm", "ism")  # costs and splits by formula; all other tables take a minimum over splits
MIXED: Final = ("msm", "msm_plus")  # may store states of both kinds, so an internal state has a size in slots

# Larger than any cost of a table (t < 2**30), and three of them still fit in an int64.
INFEASIBLE: Final = 2**60

# Modes of a sub-problem. Only "msm_plus" tells them apart; the paper's policies have one table for both.
OWNED: Final = 0  # the sub-problem's starting state sits in a slot of its own, which it frees at its last use
KEPT: Final = 1  # somebody else needs the starting state (or it is part of a stored internal state): it stays


class Decision(IntEnum):
    """What to do with a sub-sequence: the paper's ``H``, the recompute branch its Algorithm 2 lacks, and a release."""

    LAST = 0  # store nothing: run to the end, backpropagate the last step, then solve the other t - 1
    HIDDEN = 1  # store the hidden state after y steps
    INTERNAL = 2  # store the internal state of step y
    RELEASE = 3  # drop the starting state for good, store the internal state of step 1


@dataclass(frozen=True, slots=True)
class Cut:
    """One family of cuts and the slots it leaves to the right part.

    Args:
        decision: the kind of state that is stored at ``y``.
        first: smallest ``y``; ``0`` stands for ``t``.
        last: largest ``y`` is ``t - last``; ``None`` makes ``first`` the only one.
        room: slots the stored state takes from the right part.
        taken: 1 where the recorded step ``y`` is backpropagated from the working core or its slot, else 0.
    """

    decision: Decision
    first: int
    last: int | None
    room: int
    taken: int

    def splits(self, steps: int) -> range:
        """Every legal ``y`` for a sub-sequence of ``steps`` steps, ascending."""
        first = self.first or steps
        highest = first if self.last is None else steps - self.last
        return range(first, min(highest, steps) + 1)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A policy's Bellman equation, one tuple of cuts a mode. Earlier cuts win ties; within a cut the smallest ``y``."""

    policy: str
    sizes: Sizes
    cuts: tuple[tuple[Cut, ...], ...]
    equations: str
    convex: bool

    def cut(self, mode: int, decision: Decision, split: int, steps: int) -> Cut | None:
        """Return the family that a decision at ``split`` belongs to, or ``None`` where the policy has no such cut."""
        for cut in self.cuts[mode]:
            if cut.decision is decision and split in cut.splits(steps):
                return cut
        return None

    def right_mode(self, decision: Decision) -> int:
        """Return the mode of the right part: it owns its starting state only where a hidden state was stored for it."""
        return OWNED if len(self.cuts) == 1 or decision is Decision.HIDDEN else KEPT

    def boundary(self, steps: int, slots: int) -> int | None:
        """Return the cost that the paper gives outright, or ``None`` where the minimum over cuts decides.

        ``C(1, m) = 1`` is printed for HSM only. MSM needs it too: with ``1 < m < alpha`` no cut of (6)-(7) is legal.
        """
        if steps == 0 and slots >= 0:
            return 0
        if slots < 1:
            return INFEASIBLE
        if steps == 1:
            return 1
        if slots == 1:
            return steps * (steps + 1) // 2
        match self.policy:
            case "hsm" if slots >= steps:
                return 2 * steps - 1
            case "ism" if slots >= steps:
                return steps
            case "msm" | "msm_plus" if self.sizes.internal is not None and slots >= self.sizes.internal * steps:
                return steps
        return None


def recurrence(policy: str, *, internal: int = 1, internal_known: int | None = None) -> Recurrence:
    """State the Bellman equation of one policy.

    Args:
        policy: ``"hsm"`` (1)-(3), ``"ism"`` (4)-(5), ``"msm"`` (6)-(9) and without double storage (10), or
            ``"msm_plus"``, which knows whether a starting state may be released (not in the paper).
        internal: alpha, slots of an internal state; MSM and MSM+ only, at least 2.
        internal_known: beta, its slots where the input hidden state is stored; MSM only. ``None`` for (7), else (10).

    Raises:
        TypeError: a size is not an integer.
        ValueError: unknown policy, or sizes outside the policy's domain.

    Ref: gruslys2016, sections 3.1 to 3.4.
    """
    if policy not in POLICIES:
        raise ValueError(f"unknown policy {policy!r}; known policies are {', '.join(POLICIES)}")
    last = Cut(Decision.LAST, first=0, last=None, room=0, taken=1)  # y = t: the branch behind C(t, 1) = t (t + 1) / 2
    hidden = Cut(Decision.HIDDEN, first=1, last=1, room=1, taken=0)
    if policy in CLOSED_FORM:
        if internal != 1 or internal_known is not None:
            raise ValueError(
                f"policy {policy!r} has one kind of slot: leave internal and internal_known out, or use policy 'msm'"
            )
        if policy == "hsm":
            return Recurrence("hsm", Sizes(hidden=1, internal=None), ((hidden, last),), "(1)-(3)", convex=True)
        single = Cut(Decision.INTERNAL, first=1, last=0, room=1, taken=1)
        return Recurrence("ism", Sizes(hidden=None, internal=1), ((single, last),), "(4)-(5)", convex=True)
    sizes = Sizes(hidden=1, internal=internal, internal_known=internal_known)
    if internal < 2:
        raise ValueError(f"policy {policy!r} needs internal >= 2 (alpha, slots of an internal state), got {internal}")
    if internal >= 2**31:
        raise ValueError(f"internal (alpha) must be below 2**31 slots, got {internal}")
    unshared = Cut(Decision.INTERNAL, first=1, last=0, room=internal, taken=1)
    if policy == "msm" and internal_known is None:
        return Recurrence("msm", sizes, ((hidden, unshared, last),), "(6)-(9)", convex=False)
    if policy == "msm" and internal_known is not None:
        known = Cut(Decision.INTERNAL, first=1, last=None, room=internal_known, taken=1)
        later = Cut(Decision.INTERNAL, first=2, last=0, room=internal, taken=1)
        return Recurrence("msm", sizes, ((hidden, known, later, last),), "(6), (9), (10)", convex=False)
    if internal_known is not None:
        raise ValueError(
            "policy 'msm_plus' has no recurrence for shared storage: leave internal_known out, or use 'msm'"
        )
    release = Cut(Decision.RELEASE, first=1, last=None, room=internal - 1, taken=1)
    kept = (hidden, unshared, last)
    return Recurrence("msm_plus", sizes, ((*kept, release), kept), "R and P of theory/README.md", convex=False)
