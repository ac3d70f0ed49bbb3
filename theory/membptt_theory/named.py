"""A policy by its name and sizes: it takes the table or the formula that a call needs, and makes the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from membptt_theory.actions import Prices
from membptt_theory.cache import TABLES
from membptt_theory.formula import solve
from membptt_theory.limits import BUILT, TABLED
from membptt_theory.policies import NO_TIERS, find
from membptt_theory.schedule import Schedule
from membptt_theory.tables import useful_slots
from membptt_theory.tiers import build_tiers, useful_slow

UNMEASURED: Final = Prices(1, 1, 1)
_EXACT: Final = frozenset({int, type(None)})
_SMALL: Final = 2**10  # bytes: of a schedule without a table
_ADVICE: Final = "give fewer slots, a larger chunk, budget= in place of slots=, or a table as policy"


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """What `policy="..."` stands for, with its sizes; it makes schedules as a table does.

    Args:
        name: one of `membptt_theory.policies.POLICIES`.
        internal: alpha, where the policy stores both kinds of state.
        internal_known: beta, or ``None``.
    """

    name: str
    internal: int = 1
    internal_known: int | None = None

    @property
    def title(self) -> str:
        """What it is, for people."""
        return self.name

    def schedule(self, steps: int, slots: int, /) -> Schedule:
        """Return the schedule of ``steps`` steps in ``slots`` slots, or in as many of them as are of use.

        Raises:
            TypeError: a number is not an integer.
            ValueError: an unknown policy, sizes outside its domain, or a table too large to be built in a call.
        """
        given = steps, slots, self.internal, self.internal_known
        if not _EXACT.issuperset(map(type, given)):  # 2.0 is no 2, and may be refused
            return self._solved(steps, slots)
        return TABLES.get((NamedPolicy, self.name, *given), lambda: self._solved(steps, slots), _kept_bytes)

    def _solved(self, steps: int, slots: int) -> Schedule:
        slots = useful_slots(self.name, steps, slots, internal=self.internal)
        limit = TABLED if find(self.name).formula else BUILT
        source = solve(
            self.name,
            steps,
            slots,
            limit,
            internal=self.internal,
            internal_known=self.internal_known,
            advice=_ADVICE,
        )
        return source.schedule(steps, slots)

    def spilling(self, steps: int, fast: int, slow: int | None, prices: Prices | None, /) -> Schedule:
        """Return the schedule in two tiers: ``fast`` slots, and ``slow`` slots of a second tier.

        Args:
            steps: ``t``.
            fast: slots of the fast tier.
            slow: slots of the slow tier; ``None``: as many as there are states.
            prices: of a forward, a write and a read; ``None``: each costs as much as a forward.

        Raises:
            TypeError: a number is not an integer.
            ValueError: a policy without a slow tier, or a table too large to be built in a call.
        """
        if not find(self.name).spills:
            raise ValueError(NO_TIERS.format(repr(self.name)))
        fast, slow = useful_slots(self.name, steps, fast), useful_slow(steps, slow)
        BUILT.check(self.name, steps, fast, slow=max(1, slow or 1), advice=_ADVICE)
        return build_tiers(steps, fast, slow, prices or UNMEASURED).schedule(steps, fast)


def _kept_bytes(schedule: Schedule) -> int:
    return getattr(schedule.source, "kept_bytes", _SMALL)
