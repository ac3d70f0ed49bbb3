"""When is a table too large? Decided here, for whoever has one built: the planner, a call, the command line, a figure.

A table in closed form is limited by its entries, cores times slots. One without takes a minimum over splits for each
entry: it is limited by its additions too, cores squared times slots; with a second tier, times its slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Final

from membptt_theory.policies import find


@dataclass(frozen=True, slots=True)
class Limit:
    """What a table may take.

    Args:
        entries: of 13 bytes each.
        additions: of a table that is not in closed form.
        purpose: for which of its users, in words that follow "too large".
    """

    entries: int
    additions: int
    purpose: str

    def most_slots(self, policy: str, cores: int, *, tiers: bool = False) -> int:
        """Return the most slots that a table of so many cores may have, of both tiers multiplied; 0 where none.

        Args:
            policy: name.
            cores: ``t``, at least 1.
            tiers: whether it is a table of two tiers: those are never in closed form.
        """
        by_entries = self.entries // (cores + 1)
        if find(policy).closed_form and not tiers:
            return by_entries
        return min(by_entries, self.additions // cores**2)

    def most_cores(self, policy: str, slots: int, *, tiers: bool = False) -> int:
        """Return the most cores that a table of so many slots may have; 0 where none."""
        by_entries = max(0, self.entries // slots - 1)
        if find(policy).closed_form and not tiers:
            return by_entries
        return min(by_entries, isqrt(self.additions // slots))

    def check(
        self, policy: str, cores: int, slots: int, *, slow: int | None = None, unit: str = "cores", advice: str = ""
    ) -> None:
        """Check that a table is not too large.

        Args:
            policy: name.
            cores: ``t``, at least 1.
            slots: ``m``, at least 1; with a slow tier, of the fast one.
            slow: slots of the slow tier (at least 1, even where it has none or any number), or ``None`` without one.
            unit: what the user calls cores.
            advice: what else to do, as the end of the sentence.

        Raises:
            TooLargeError: says how many slots, or how many cores, are allowed.
        """
        tiers = slow is not None
        together = slots * (slow or 1)
        fewer = self.most_slots(policy, cores, tiers=tiers)
        if together <= fewer:
            return
        shorter = self.most_cores(policy, together, tiers=tiers)
        allowed = [f"{fewer} slots"] * (fewer > 0) + [f"{shorter} {unit} with as many slots"] * (shorter > 0)
        multiplied = " (of both tiers, multiplied)" if tiers and slow != 1 else ""
        raise TooLargeError(
            f"a table of {cores} {unit} and {together} slots{multiplied} is too large {self.purpose}: allowed are "
            f"{', or '.join(allowed) or 'fewer of both'}" + (f"; {advice}" if advice else "")
        )


class TooLargeError(ValueError):
    """A table would take more memory or time than who asks for it may spend."""


# Of the many that are tried for a plan: a blink each.
PLANNED: Final = Limit(2**22, 3 * 10**7, "to be planned with")
# Up to which a plan has a table built where it could do with a formula: few megabytes, whatever the budget.
SKETCHED: Final = Limit(2**17, 3 * 10**7, "to be planned with where there is a formula")
# Of the one that a call builds: some gigabytes; a minute or two.
BUILT: Final = Limit(2**28, 10**10, "to be built in a call")
# Up to which a call builds a table where it could do with a formula: a second or so.
TABLED: Final = Limit(3 * 10**7, 3 * 10**7, "to be built where there is a formula")
# Of the one that a command asks for: some gigabytes; some minutes.
ASKED: Final = Limit(2**28, 10**11, "for a command")
# Of one that a data file names, to compare its digest.
NAMED: Final = Limit(3 * 10**7, 10**10, "to be compared with")
