"""The alternatives that fit a budget of bytes, each with what its table says it costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt
from typing import Final

from membptt_theory.actions import Prices
from membptt_theory.footprint import Measured, most_copies, peak_bytes
from membptt_theory.formula import Formula, solve
from membptt_theory.limits import PLANNED, SKETCHED
from membptt_theory.machine import meter_tiers
from membptt_theory.policies import find, planned
from membptt_theory.policy import PolicyTable
from membptt_theory.schedule import Schedule
from membptt_theory.tables import build, optimal_cost, useful_slots
from membptt_theory.tiers import build_tiers, useful_slow

_FORWARD = 16  # the price of a core's forward: transfers are priced to a sixteenth of it

_PENDING = 2**16  # slots of a schedule without a table: at these a slot is a small part of any budget
_SIMULATED = 20_000  # cores of the longest stream that is executed on paper
_UNITS: Final = {"": 1, "b": 1} | {
    f"{letter}{end}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for end, base in (("", 1024), ("b", 1000), ("ib", 1024))
}


@dataclass(frozen=True, slots=True)
class Tiers:
    """The slow tier of an option.

    Args:
        slots: what its table is asked for; ``None``: as many as the schedule wants.
        prices: what its table was built for: the measured times in sixteenths of a core's forward, rounded.
        peak: slots of the slow tier in use at most.
        bytes: of the slow tier at most: a starting state there is not copied.
        writes: stores to the slow tier.
        reads: restarts from it.
    """

    slots: int | None
    prices: Prices
    peak: int
    bytes: int
    writes: int
    reads: int


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run the scan.

    Args:
        policy: name.
        slots: ``m``, of the fast tier where there are two.
        internal: alpha.
        internal_known: beta, or ``None``.
        cores: ``t``, cores of `measured.chunk` steps.
        forwards: ``C(t, m)``, by the table.
        seconds: predicted time of one gradient.
        bytes: predicted peak of stored states and working core.
        unit: bytes of a slot.
        measured: sizes and times of its core.
        tiers: its slow tier, if it has one.
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
    tiers: Tiers | None = None

    def schedule(self) -> Schedule:
        """Return what it executes."""
        if self.tiers is not None:
            return build_tiers(self.cores, self.slots, self.tiers.slots, self.tiers.prices).schedule(
                self.cores, self.slots
            )
        return self.source().schedule(self.cores, self.slots)

    def source(self) -> PolicyTable | Formula:
        """Return what decides it, where it has one tier."""
        return solve(
            self.policy,
            self.cores,
            self.slots,
            SKETCHED if find(self.policy).formula else PLANNED,
            internal=self.internal,
            internal_known=self.internal_known,
        )


def options(
    measured: Sequence[Measured],
    steps: int,
    budget: int,
    policies: Sequence[str] | None = None,
    *,
    tiers: bool = False,
    slow: int | None = None,
) -> list[Option]:
    """Return what fits, the fastest first: for every policy and chunk the most slots.

    The unit of a mixed policy's slots is a hidden state, or a larger number of bytes where its table, if it needs one,
    would become too large; an internal state takes as many whole units as it needs. Bytes are a bound that counts every
    state by itself, except for the fastest alternative of each policy: there the stream is executed on paper, each
    storage counted once, and what is left of the budget becomes slots. With `tiers`, HSM in two tiers is a further
    policy, whose streams are all executed on paper; its slow tier may hold `slow` hidden states, or any number.
    """
    alternatives: list[Option] = []

    def hopeless(sizes: Measured, cores: int) -> bool:
        """Whether no policy could be the fastest, since each runs every core once: its table need not be built."""
        least = sizes.call + cores * min(sizes.backprop, sizes.stored)
        return bool(alternatives) and least > min(option.seconds for option in alternatives)

    names = planned() if policies is None else policies
    for policy in sorted(names, key=lambda name: not find(name).formula):
        for sizes in measured:
            cores = -(-steps // sizes.chunk)
            if find(policy).formula or not hopeless(sizes, cores):
                alternatives += _fitting(policy, sizes, cores, budget)
    if tiers:
        for sizes in measured:
            cores = -(-steps // sizes.chunk)
            if not hopeless(sizes, cores):
                alternatives += _in_tiers(sizes, cores, budget, slow)
    fastest: dict[str, Option] = {}
    for option in sorted((option for option in alternatives if not option.tiers), key=lambda option: option.seconds):
        fastest.setdefault(option.policy, option)
    weighed = [_weighed(option, budget) if option is fastest.get(option.policy) else option for option in alternatives]
    return sorted(weighed, key=lambda option: (option.seconds, option.bytes))


def best_of_each(fitting: Sequence[Option], /) -> list[Option]:
    """Return the fastest option of each policy, eager and compiled, of options in the order of their times."""
    best: dict[tuple[str, bool], Option] = {}
    for option in fitting:
        best.setdefault((option.policy, option.measured.compiled), option)
    return list(best.values())


def check_size(option: Option, /) -> None:
    """Check that the table of an option is one that `options` could ask for: the option may come from a file.

    Raises:
        ValueError: it has no cores or slots, or is too large.
    """
    tiers = option.tiers is not None
    slow = max(1, option.tiers.slots or 0) if option.tiers is not None else 1
    if option.cores < 1 or option.measured.chunk < 1 or option.slots < (option.tiers is None):
        raise ValueError(f"there is no table of {option.cores} cores and {option.slots} slots")
    if max(1, option.slots) * slow > _most_slots(option.policy, option.cores, tiers=tiers):
        raise ValueError(f"a table of {option.cores} cores and {option.slots} slots is larger than any that is planned")


def least_bytes(measured: Sequence[Measured]) -> int:
    """Return the smallest feasible budget: the starting state, and one working core."""
    return min(_floor(sizes) for sizes in measured)


class TooSmallError(ValueError):
    """A budget is too small.

    Args:
        what: the message.
        least: the smallest feasible budget, in bytes.
    """

    def __init__(self, what: str, least: int) -> None:
        super().__init__(what)
        self.least = least


def too_small(measured: Sequence[Measured], budget: int, policy: str = "auto", steps: int = 0) -> str:
    """Return what is wrong with a budget, or with a policy for so many steps, for which there are no options."""
    if budget >= least_bytes(measured):
        chunk = -(-steps // PLANNED.most_cores(policy, 2))
        return (
            f"a table of policy {policy!r} for {-(-steps // measured[-1].chunk)} cores is too large to be planned "
            f"with, whatever the budget: give chunk={chunk} or larger, or policy='auto'"
        )
    return (
        f"a budget of {budget} bytes is too small: the starting state and one working core take "
        f"{least_bytes(measured)} bytes, the smallest feasible budget"
    )


def parse_bytes(budget: int | str, /, what: str = "budget") -> int:
    """Return a number of bytes: ``"64MiB"`` and ``"64M"`` are ``64 * 2**20``, ``"64MB"`` is ``64 * 10**6``.

    Args:
        budget: bytes, or text.
        what: the argument's name, for the errors.

    Raises:
        TypeError: neither an integer nor text.
        ValueError: text that names no size, or less than one byte.
    """
    if isinstance(budget, bool) or not isinstance(budget, (int, str)):
        raise TypeError(f"{what} must be bytes or text like '512MiB', got {budget!r} of type {type(budget).__name__}")
    size = budget
    if isinstance(size, str):
        parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", size.lower())
        if parts is None or parts[2] not in _UNITS:
            raise ValueError(f"{what} {budget!r} names no size; write bytes, or text like '512MiB' or '1.5 GB'")
        size = int(Fraction(parts[1]) * _UNITS[parts[2]])
    if size < 1:
        raise ValueError(f"{what} must be at least 1 byte, got {budget!r}")
    return size


def readable(size: float) -> str:
    """Return a number of bytes in the unit that suits it, for people.

    >>> readable(64 * 2**20), readable(1500)
    ('64 MiB', '1.465 KiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"


def _fitting(policy: str, sizes: Measured, cores: int, budget: int) -> list[Option]:
    room = budget - _floor(sizes)
    if room < 0:
        return []
    record = find(policy)
    hidden = record.mixed or record.state().sizes.hidden is not None
    unit = max(1, sizes.hidden if hidden else sizes.internal + 2 * sizes.hidden)
    most = _most_slots(policy, cores)
    if record.mixed:
        # A coarser unit for long sequences: hidden states then take more room than they need.
        unit = max(unit, -(-room // max(most - 1, 1)))
    if most < (2 if record.mixed else 1):
        return []
    return [_option(policy, sizes, cores, min(1 + room // unit, most), unit)]


def _option(policy: str, sizes: Measured, cores: int, slots: int, unit: int) -> Option:
    internal, known = 1, None
    record = find(policy)
    if record.mixed:
        internal = max(2, -(-(sizes.internal + 2 * sizes.hidden) // unit))
        shared = max(1, -(-(sizes.internal + sizes.hidden) // unit))
        known = shared if "internal_known" in record.parameters and shared < internal else None
    slots = useful_slots(policy, cores, slots, internal=internal)
    source: PolicyTable | Formula
    if record.formula:
        source, forwards = Formula(policy, internal), optimal_cost(policy, cores, slots, internal=internal)
    else:
        source = build(policy, cores, slots, internal=internal, internal_known=known)
        forwards = source.cost(cores, slots)
    seconds = _seconds(sizes, cores, forwards, source, slots)
    peak = _floor(sizes) + (slots - 1) * unit
    return Option(policy, slots, internal, known, cores, forwards, seconds, peak, unit, sizes)


def _weighed(option: Option, budget: int) -> Option:
    """Weigh the stream itself, and turn bytes that are left, because states share storages, into slots."""
    if option.cores > _SIMULATED:
        return option
    option = _on_paper(option)
    most = _most_slots(option.policy, option.cores)
    for _ in range(3):
        slots = min(option.slots + (budget - option.bytes) // option.unit, most)
        larger = _on_paper(_option(option.policy, option.measured, option.cores, slots, option.unit))
        if larger.slots <= option.slots or larger.bytes > budget:
            break
        option = larger
    return option


def _on_paper(option: Option) -> Option:
    cores, sizes = option.cores, option.measured
    # A table may decide otherwise than the formula by which its option was priced: as many forwards, other graphs.
    seconds = _seconds(sizes, cores, option.forwards, option.source(), option.slots)
    return replace(option, bytes=peak_bytes(option.schedule(), cores, sizes), seconds=seconds)


def _seconds(sizes: Measured, cores: int, forwards: int, source: PolicyTable | Formula | None, slots: int) -> float:
    """Return the time of one gradient.

    Not backpropagated as soon as they are recorded are the cores that are stored with their graph, and the one with
    which the first pass ends.
    """
    apart = 1 if source is None or sizes.apart is None else 1 + source.graphs(cores, slots)
    advanced = (forwards - cores) * sizes.advance
    return sizes.call + advanced + (cores - apart) * sizes.backprop + apart * sizes.stored


def _in_tiers(sizes: Measured, cores: int, budget: int, most_slow: int | None) -> list[Option]:
    """Return HSM in two tiers with the most fast slots that fit, and as many slow ones as its table may have."""
    room = budget - _floor(sizes) - sizes.transit
    most = _most_slots("hsm", cores, tiers=True)
    slow = useful_slow(cores, most_slow)
    fast = min(cores, 1 + room // max(sizes.hidden, 1), most if slow is None else max(1, isqrt(most)))
    if room < 0 or most < 1 or slow == 0:
        return []
    if slow is not None:
        slow = min(slow, most // fast)
    # A starting state that moves to the slow tier frees its slot but stays in memory: one state too many, perhaps.
    tried = (_two_tiers(sizes, cores, slots, slow) for slots in (fast, fast - 1) if slots)
    return [option for option in tried if option.bytes <= budget][:1]


def _two_tiers(sizes: Measured, cores: int, fast: int, slow: int | None) -> Option:
    second = max(sizes.advance, 1e-9) / _FORWARD
    prices = Prices(_FORWARD, round(sizes.write / second), round(sizes.read / second))
    stream = list(build_tiers(cores, fast, slow, prices).schedule(cores, fast))
    report = meter_tiers(stream, steps=cores)
    seconds = _seconds(sizes, cores, report.forwards, None, fast)
    seconds += report.writes * sizes.write + report.reads * sizes.read
    peak = peak_bytes(stream, cores, sizes) + sizes.transit
    tiers = Tiers(slow, prices, report.slow_peak, most_copies(stream) * sizes.slow, report.writes, report.reads)
    return Option("hsm", fast, 1, None, cores, report.forwards, seconds, peak, max(sizes.hidden, 1), sizes, tiers)


def _most_slots(policy: str, cores: int, *, tiers: bool = False) -> int:
    """Return the most slots to plan with: a formula takes any number, and its schedules as many pending parts."""
    most = PLANNED.most_slots(policy, cores, tiers=tiers)
    return max(most, _PENDING) if find(policy).formula and not tiers else most


def _floor(sizes: Measured) -> int:
    return sizes.shared + sizes.start + sizes.internal + 2 * sizes.hidden
