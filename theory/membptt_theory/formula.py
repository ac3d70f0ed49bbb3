"""Schedules without a table, at any length: of the policies whose costs and decisions have a formula."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Final

from membptt_theory import mixed
from membptt_theory.actions import Prices, Sizes
from membptt_theory.limits import Limit
from membptt_theory.policies import NO_TIERS, POLICIES, find, recurrence
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import OWNED, Decision, Recurrence
from membptt_theory.schedule import Schedule
from membptt_theory.streams import graphs, instructions
from membptt_theory.tables import build, check_count, optimal_cost, optimal_split

FORMAT: Final = "membptt-formula/1"
_KEPT: Final = 2**16  # decisions that a stream remembers: short parts recur


@dataclass(frozen=True, weakref_slot=True, slots=True)
class Formula:
    """A policy that is asked like a table, at any ``t`` and ``m``; it holds nothing and computes exact integers.

    Args:
        policy: a name of `membptt_theory.policies.POLICIES` that has a formula.
        internal: alpha, slots of an internal state, where the policy stores both kinds.

    Raises:
        TypeError: `internal` is not an integer.
        ValueError: an unknown policy or one without a formula, or sizes outside its domain.

    Claim: msm-plus-formula, hsm-splits, ism-splits.
    """

    policy: str
    internal: int = 1
    recurrence: Recurrence = field(init=False, repr=False, compare=False)
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not find(self.policy).formula:
            known = ", ".join(name for name, policy in POLICIES.items() if policy.formula)
            raise ValueError(f"policy {self.policy!r} has no formula: use one of {known}, or build a table")
        object.__setattr__(self, "recurrence", recurrence(self.policy, internal=self.internal))
        object.__setattr__(self, "digest", self.compute_digest())

    @property
    def title(self) -> str:
        """What it is, for people."""
        return self.policy

    @property
    def sizes(self) -> Sizes:
        """Slots of each kind of stored state."""
        return self.recurrence.sizes

    def cost(self, steps: int, slots: int, /) -> int:
        """Return ``C(t, m)`` in forwards.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: ``steps < 0`` or ``slots < 1``.
        """
        return optimal_cost(self.policy, steps, slots, internal=self.internal)

    def decision(self, steps: int, slots: int, /) -> tuple[Decision, int]:
        """Return what to store of ``t >= 1`` steps, and after how many.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: ``steps < 1`` or ``slots < 1``.
        """
        return self.lookup()(OWNED, check_count("slots", slots), check_count("steps", steps))

    def schedule(self, steps: int, slots: int, /) -> Schedule:
        """Return the schedule that backpropagates ``steps`` steps in ``slots`` slots; its stream is lazy.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: ``steps < 1`` or ``slots < 1``.
        """
        steps, slots = check_count("steps", steps), check_count("slots", slots)
        stream = partial(instructions, self, steps, slots)
        return Schedule(
            self.policy, steps, self.sizes, slots, self.cost(steps, slots), self.digest, stream, source=self
        )

    def graphs(self, steps: int, slots: int, /) -> int:
        """Return how many steps ``schedule(steps, slots)`` stores with their graph, as internal states."""
        return _graphs(self, check_count("steps", steps), check_count("slots", slots))

    def spilling(self, steps: int, fast: int, slow: int | None, prices: Prices | None, /) -> Schedule:
        """Refuse: a formula of one tier has no schedule in two.

        Raises:
            ValueError: always.
        """
        raise ValueError(NO_TIERS.format(f"a {type(self).__name__}"))

    def lookup(self) -> Callable[[int, int, int], tuple[Decision, int]]:
        """Return what decides: of mode, slots and steps, what to store and where."""
        return lru_cache(_KEPT)(self._decide)

    def compute_digest(self) -> str:
        """Hash its name and sizes again: the rule itself is a theorem."""
        header = {"format": FORMAT, "policy": self.policy, "sizes": asdict(self.sizes)}
        return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()

    def _decide(self, mode: int, slots: int, steps: int) -> tuple[Decision, int]:
        if find(self.policy).solved:
            return mixed.decide(steps, slots, self.internal, mode)
        y = optimal_split(self.policy, steps, slots)
        return (self.recurrence.cuts[0][0].decision if steps > 1 < slots else Decision.LAST), y


_graphs: Final = lru_cache(maxsize=256)(graphs)  # of long sequences it takes a second


def solve(
    policy: str,
    steps: int,
    slots: int,
    limit: Limit,
    /,
    *,
    internal: int = 1,
    internal_known: int | None = None,
    advice: str = "",
) -> PolicyTable | Formula:
    """Return the table of a policy or, where that would be larger than `limit` and there is one, its formula.

    Raises:
        TypeError: a number is not an integer.
        ValueError: an unknown policy, sizes outside its domain, or a table too large of a policy without a formula.
    """
    recurrence(policy, internal=internal, internal_known=internal_known)
    if find(policy).formula and slots > limit.most_slots(policy, steps):
        return Formula(policy, internal)
    limit.check(policy, steps, slots, advice=advice)
    return build(policy, steps, slots, internal=internal, internal_known=internal_known)
