"""A policy by its name and sizes: it builds the table that a call needs, and makes the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Final

from membptt_theory.actions import Prices
from membptt_theory.policies import NO_TIERS, find
from membptt_theory.schedule import Schedule
from membptt_theory.tables import build, useful_slots
from membptt_theory.tiers import build_tiers, useful_slow

UNMEASURED: Final = Prices(1, 1, 1)
# What a table may take that a call builds: some gigabytes; a minute or two.
_ENTRIES: Final = 2**28
_ADDITIONS: Final = 10**10


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
        record = find(self.name)
        slots = useful_slots(self.name, steps, slots, internal=self.internal)
        _admit(steps, slots, closed=record.closed_form)
        table = build(self.name, steps, slots, internal=self.internal, internal_known=self.internal_known)
        return table.schedule(steps, slots)

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
        _admit(steps, fast, slow)
        return build_tiers(steps, fast, slow, prices or UNMEASURED).schedule(steps, fast)


def _admit(cores: int, slots: int, slow: int | None = 1, *, closed: bool = False) -> None:
    """Refuse a table that would take hours, or more memory than the states it saves.

    Raises:
        ValueError: says how many slots or cores are allowed.
    """
    most, rows, beside = _ADDITIONS, cores**2, slow or 1
    if closed:
        most, rows = _ENTRIES, cores
    if rows * slots * beside <= most:
        return
    shorter = most // (slots * beside) if closed else isqrt(most // (slots * beside))
    raise ValueError(
        f"a table of {cores} cores and {slots * beside} slots{' (of both tiers, multiplied)' if beside > 1 else ''} is "
        f"too large to be built in a call: allowed are {most // rows} slots, or {shorter} cores with as many slots; "
        "give fewer slots, a larger chunk, budget= in place of slots=, or a table as policy"
    )
