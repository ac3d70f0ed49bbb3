"""A schedule: one exact stream of actions, with what it costs and how many slots it takes. Every policy ends in one.

A policy table makes schedules, and so do a table of two tiers, the table and the front of a chain and Chen's
strategies; a stream of a user's own becomes one as soon as the machine has executed it (`from_actions`). Whoever
executes, meters or draws a schedule does not ask where it came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import starmap
from typing import Final, Protocol
from weakref import WeakSet

from membptt_theory.actions import Action, Prices, Sizes, TieredAction, TieredInstruction
from membptt_theory.archive import TableError
from membptt_theory.machine import Report, TieredReport, meter, meter_tiers


class Source(Protocol):
    """What decides a schedule and can be hashed again: a table."""

    @property
    def digest(self) -> str:
        """SHA-256 of what it was when it was built."""

    def compute_digest(self) -> str:
        """Hash it as it is now."""


@dataclass(frozen=True, eq=False, slots=True)
class Schedule:
    """One exact stream of actions; iterating yields them, as often as asked for.

    The machine starts at position 0 with the starting state stored there (outside the budget where `sizes.hidden` is
    ``None``), and ends with every slot free.

    Args:
        title: what it is, for people: ``"hsm"``.
        cores: ``t``, the cores that are backpropagated.
        sizes: slots of each kind of stored state.
        slots: ``m``: at no time are more in use.
        cost: forwards of cores; where `prices` are given, forwards, writes and reads at their prices; of a chain, what
            its cores cost.
        digest: SHA-256 of what decides it: of its table, or of the stream itself.
        stream: makes the instructions, again at every call.
        source: its table, if it has one.
        slow: slots of a slow tier; 0 where it uses none, ``None`` where it uses as many as there are states.
        prices: what a forward, a write and a read cost; ``None`` where only forwards are counted.
        start_slow: the starting state is stored in the slow tier.
    """

    title: str
    cores: int
    sizes: Sizes
    slots: int
    cost: int
    digest: str
    stream: Callable[[], Iterator[TieredInstruction]] = field(repr=False)
    source: Source | None = field(default=None, repr=False)
    slow: int | None = 0
    prices: Prices | None = None
    start_slow: bool = False

    def instructions(self) -> Iterator[TieredInstruction]:
        """Yield pairs of kind and places, which a runtime executes without constructing actions; lazy."""
        return self.stream()

    def __iter__(self) -> Iterator[TieredAction]:
        return starmap(tuple.__new__, self.stream())

    def schedule(self, cores: int, slots: int | None = None, /) -> Schedule:
        """Return this schedule: it may be passed wherever a policy is expected.

        Raises:
            ValueError: it is asked for another number of cores, or of slots.
        """
        if cores != self.cores:
            raise ValueError(
                f"the schedule {self.title!r} is of {self.cores} cores, this call has {cores}: make one of that many"
            )
        if slots is not None and slots != self.slots:
            raise ValueError(f"the schedule {self.title!r} takes {self.slots} slots: leave slots={slots} out")
        return self

    def spilling(self, cores: int, fast: int | None, slow: int | None, prices: Prices | None, /) -> Schedule:
        """Return this schedule, as `schedule` does.

        Raises:
            ValueError: as `schedule`; it has no slow tier, or was made for another one.
        """
        if self.slow == 0:
            raise ValueError(f"the schedule {self.title!r} has no slow tier: leave spill out")
        if slow not in (None, self.slow) or prices not in (None, self.prices):
            raise ValueError(
                f"the schedule {self.title!r} was made for slots={self.slow} and {self.prices}: let spill name "
                "nothing but a directory"
            )
        return self.schedule(cores, fast)

    def meter(self) -> Report | TieredReport:
        """Execute it on paper.

        Raises:
            IllegalActionError: names the action, its index and the machine's state.
        """
        return _execute(self, self.cores, self.sizes, tiered=self.slow != 0, start_slow=self.start_slow)

    def verify(self) -> None:
        """Check, once for each table, that what decides the schedule is what its digest says.

        Raises:
            TableError: it was changed since it was built.
        """
        if self.source is None or self.source in _VERIFIED:
            return
        digest = self.source.compute_digest()
        if digest != self.source.digest:
            raise TableError(f"the policy table was changed: its digest is {digest}, it was built as {self.digest}")
        _VERIFIED.add(self.source)


def from_actions(
    actions: Iterable[TieredAction], /, *, cores: int, sizes: Sizes | None = None, title: str = "own"
) -> Schedule:
    """Make a schedule of a caller's own stream: the machine executes it first, so it is legal and its cost known.

    Args:
        actions: the stream; kept as a whole. In two tiers the starting state is in the fast one.
        cores: ``t``, the cores that it backpropagates.
        sizes: slots of each kind of stored state; by default of hidden states only, one each.
        title: what it is, for people.

    Raises:
        IllegalActionError: the machine cannot execute it; names the action, its index and the machine's state.

    Claim: scan-executes-any-schedule.
    """
    stream = tuple([(type(action), tuple(action)) for action in actions])
    sizes = sizes or Sizes(hidden=1, internal=None)
    tiered = any(kind not in _ONE_TIER for kind, _ in stream)
    report = _execute(starmap(tuple.__new__, stream), cores, sizes, tiered=tiered)
    text = repr((cores, sizes, [(kind.__name__, places) for kind, places in stream]))
    return Schedule(
        title,
        cores,
        sizes,
        report.peak,
        report.forwards,
        hashlib.sha256(text.encode()).hexdigest(),
        lambda: iter(stream),
        slow=report.slow_peak if isinstance(report, TieredReport) else 0,
    )


def paired(actions: Iterable[TieredAction], /) -> Iterator[TieredInstruction]:
    """Yield actions as instructions: pairs of kind and places."""
    return ((type(action), action) for action in actions)


def _execute(
    actions: Iterable[TieredAction], cores: int, sizes: Sizes, *, tiered: bool, start_slow: bool = False
) -> Report | TieredReport:
    if tiered:
        return meter_tiers(actions, steps=cores, start_slow=start_slow)
    return meter(actions, steps=cores, sizes=sizes)


_ONE_TIER: Final = frozenset(Action.__args__)
_VERIFIED: WeakSet[Source] = WeakSet()
