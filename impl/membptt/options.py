"""The alternatives that fit a budget of bytes, each with what its table says it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from membptt.footprint import peak_bytes
from membptt.measure import Measured
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import POLICIES
from membptt_theory.schedule import schedule
from membptt_theory.tables import build, optimal_cost, useful_slots

# What the planner may spend on a table: entries of any, additions (steps squared times slots) of MSM's and MSM+'s.
_ENTRIES = 2**22
_ADDITIONS = 3 * 10**7
_SIMULATED = 20_000  # cores of the longest stream that is executed on paper


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run the scan.

    Args:
        policy: name.
        slots: ``m``.
        internal: alpha.
        internal_known: beta, or ``None``.
        cores: ``t``, cores of `measured.chunk` steps.
        forwards: ``C(t, m)``, by the table.
        seconds: predicted time of one gradient.
        bytes: predicted peak of stored states and working core.
        unit: bytes of a slot.
        measured: sizes and times of its core.
    """

    policy: str
    slots: int
    internal: int
    internal_known: int | None
    cores: int
    forwards: int
    seconds: float
    bytes: int
    unit: int
    measured: Measured

    def table(self) -> PolicyTable:
        """Return the table that it executes."""
        return build(self.policy, self.cores, self.slots, internal=self.internal, internal_known=self.internal_known)


def options(measured: Sequence[Measured], steps: int, budget: int, policies: Sequence[str] = POLICIES) -> list[Option]:
    """Return what fits, the fastest first: for every policy and chunk the most slots.

    The unit of MSM's slots is a hidden state, or a larger number of bytes where the table would become too large; an
    internal state takes as many whole units as it needs. Bytes are a bound that counts every state by itself, except
    for the fastest alternative of each policy: there the stream is executed on paper, each storage counted once, and
    what is left of the budget becomes slots.
    """
    found: list[Option] = []
    for policy in sorted(policies, key=_needs_table):
        for sizes in measured:
            cores = -(-steps // sizes.chunk)
            # A table of its own is built only where the policy could win: it takes no less than one forward a core.
            hopeless = found and cores * sizes.backprop > min(option.seconds for option in found)
            if not (_needs_table(policy) and hopeless):
                found += _fitting(policy, sizes, cores, budget)
    fastest: dict[str, Option] = {}
    for option in sorted(found, key=lambda option: option.seconds):
        fastest.setdefault(option.policy, option)
    weighed = [_weighed(option, budget) if option is fastest[option.policy] else option for option in found]
    return sorted(weighed, key=lambda option: (option.seconds, option.bytes))


def least_bytes(measured: Sequence[Measured]) -> int:
    """Return the smallest feasible budget: the starting state, and one working core."""
    return min(_floor(sizes) for sizes in measured)


def _fitting(policy: str, sizes: Measured, cores: int, budget: int) -> list[Option]:
    room = budget - _floor(sizes)
    if room < 0:
        return []
    unit = sizes.internal + 2 * sizes.hidden if policy == "ism" else max(sizes.hidden, 1)
    most = _ENTRIES // (cores + 1)
    if _needs_table(policy):
        most = min(most, _ADDITIONS // cores**2)
        # A coarser unit for long sequences: hidden states then take more room than they need.
        unit = max(unit, -(-room // max(most - 1, 1)))
    if most < (2 if _needs_table(policy) else 1):
        return []
    return [_option(policy, sizes, cores, min(1 + room // unit, most), unit)]


def _option(policy: str, sizes: Measured, cores: int, slots: int, unit: int) -> Option:
    internal, known = 1, None
    if _needs_table(policy):
        internal = max(2, -(-(sizes.internal + 2 * sizes.hidden) // unit))
        shared = max(1, -(-(sizes.internal + sizes.hidden) // unit))
        known = shared if policy == "msm" and shared < internal else None
    slots = useful_slots(policy, cores, slots, internal=internal)
    if _needs_table(policy):
        forwards = build(policy, cores, slots, internal=internal, internal_known=known).cost(cores, slots)
    else:
        forwards = optimal_cost(policy, cores, slots)
    seconds = (forwards - cores) * sizes.advance + cores * sizes.backprop
    peak = _floor(sizes) + (slots - 1) * unit
    return Option(policy, slots, internal, known, cores, forwards, seconds, peak, unit, sizes)


def _weighed(option: Option, budget: int) -> Option:
    """Weigh the stream itself, and turn bytes that are left, because states share storages, into slots."""
    if option.cores > _SIMULATED:
        return option
    option = _on_paper(option)
    most = _ENTRIES // (option.cores + 1)
    if _needs_table(option.policy):
        most = min(most, _ADDITIONS // option.cores**2)
    for _ in range(3):
        slots = min(option.slots + (budget - option.bytes) // option.unit, most)
        larger = _on_paper(_option(option.policy, option.measured, option.cores, slots, option.unit))
        if larger.slots <= option.slots or larger.bytes > budget:
            break
        option = larger
    return option


def _on_paper(option: Option) -> Option:
    stream = schedule(option.table(), option.cores, option.slots)
    return replace(option, bytes=peak_bytes(stream, option.cores, option.measured))


def _floor(sizes: Measured) -> int:
    return sizes.shared + sizes.start + sizes.internal + 2 * sizes.hidden


def _needs_table(policy: str) -> bool:
    return policy in ("msm", "msm_plus")
