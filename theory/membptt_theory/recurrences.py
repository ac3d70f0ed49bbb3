"""Each Bellman equation of the paper, stated once: its cuts, its boundary and its sizes.

Notation: ``C(t, m)`` is the least number of forwards that backpropagates ``t`` steps in ``m`` slots. A *cut* at ``y``
runs ``y`` steps forward, stores a state there, solves the right part, then the left part:

    Q(t, m, y) = y + C(y - taken, m) + C(t - y, m - room)          C(t, m) = min over cuts and y of Q

Every equation is data (`Recurrence`, `Cut`), so that the table's self-check, the builder and the schedule all read the
same statement and none repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from membptt_theory.actions import Sizes

# Larger than any cost of a table (t < 2**30), and three of them still fit in an int64.
INFEASIBLE: Final = 2**60

# Modes of a sub-problem. Only "msm_plus" tells them apart; the paper's policies have one table for both.
OWNED: Final = 0  # the sub-problem's starting state has its own slot, which it frees at its last use
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
    """A policy's Bellman equation, one tuple of cuts per mode. Earlier cuts win ties; within a cut the smallest ``y``.

    Args:
        policy: name.
        sizes: slots of each kind of stored state.
        cuts: the families of cuts.
        equations: where it is written down.
        convex: the optimum is convex in ``t``; only with a proof.
        ample: ``(a, b, c)``: with ``m >= a t`` slots the paper gives the cost outright, ``b t - c``.
    """

    policy: str
    sizes: Sizes
    cuts: tuple[tuple[Cut, ...], ...]
    equations: str
    convex: bool
    ample: tuple[int, int, int] | None = None

    def cut(self, mode: int, decision: Decision, split: int, steps: int) -> Cut | None:
        """Return the family that a decision at ``split`` belongs to, or ``None`` where the policy has no such cut."""
        for cut in self.cuts[mode]:
            if cut.decision is decision and split in cut.splits(steps):
                return cut
        return None

    def room(self, mode: int, decision: Decision, split: int, steps: int) -> int:
        """Return the slots that the state stored at `split` of `steps` steps takes from the right part.

        Raises:
            ValueError: the policy has no such cut.
        """
        cut = self.cut(mode, decision, split, steps)
        if cut is None:
            raise ValueError(f"policy {self.policy!r} has no cut {decision.name} at y={split} of t={steps}")
        return cut.room

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
        if self.ample is not None and slots >= self.ample[0] * steps:
            return self.ample[1] * steps - self.ample[2]
        return None


_LAST: Final = Cut(Decision.LAST, first=0, last=None, room=0, taken=1)  # y = t: behind C(t, 1) = t (t + 1) / 2
_HIDDEN: Final = Cut(Decision.HIDDEN, first=1, last=1, room=1, taken=0)


def hsm() -> Recurrence:
    """State HSM: hidden states only, (1)-(3)."""
    sizes = Sizes(hidden=1, internal=None)
    return Recurrence("hsm", sizes, ((_HIDDEN, _LAST),), "(1)-(3)", convex=True, ample=(1, 2, 1))


def ism() -> Recurrence:
    """State ISM: internal states only, (4)-(5)."""
    sizes = Sizes(hidden=None, internal=1)
    single = Cut(Decision.INTERNAL, first=1, last=0, room=1, taken=1)
    return Recurrence("ism", sizes, ((single, _LAST),), "(4)-(5)", convex=True, ample=(1, 1, 0))


def msm(alpha: int, beta: int | None) -> Recurrence:
    """State MSM: states of either kind, (6)-(9); with `beta` without double storage, (10)."""
    sizes = Sizes(hidden=1, internal=alpha, internal_known=beta)
    if beta is None:
        cuts: tuple[Cut, ...] = (_HIDDEN, _unshared(alpha), _LAST)
        return Recurrence("msm", sizes, (cuts,), "(6)-(9)", convex=False, ample=(alpha, 1, 0))
    known = Cut(Decision.INTERNAL, first=1, last=None, room=beta, taken=1)
    later = Cut(Decision.INTERNAL, first=2, last=0, room=alpha, taken=1)
    cuts = (_HIDDEN, known, later, _LAST)
    return Recurrence("msm", sizes, (cuts,), "(6), (9), (10)", convex=False, ample=(alpha, 1, 0))


def msm_plus(alpha: int) -> Recurrence:
    """State MSM+, which knows whether a starting state may be released; not in the paper."""
    release = Cut(Decision.RELEASE, first=1, last=None, room=alpha - 1, taken=1)
    kept = (_HIDDEN, _unshared(alpha), _LAST)
    sizes, cuts = Sizes(hidden=1, internal=alpha), ((*kept, release), kept)
    return Recurrence("msm_plus", sizes, cuts, "R and P of theory/README.md", convex=False, ample=(alpha, 1, 0))


def _unshared(alpha: int) -> Cut:
    return Cut(Decision.INTERNAL, first=1, last=0, room=alpha, taken=1)
