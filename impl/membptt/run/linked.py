"""Blocks that are recorded one after the other, and go backward one after the other, do both under one graph.

A schedule tells every block apart: recorded, stored as an internal state, loaded, backpropagated. Where nothing else
happens between two of them, neither when they are recorded nor when they go backward, their internal states are linked:
the state between them is computed once and is nobody's copy, autograd is asked for both at once, and each costs what it
costs in the plain loop. What is computed, stored and released, and in which order, stays as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final

from membptt_theory.actions import (
    Backpropagate,
    DropInternal,
    LoadInternal,
    Record,
    ReduceInternal,
    Restore,
    StoreHidden,
    StoreInternal,
    TieredInstruction,
)
from membptt_theory.schedule import Schedule

LONGEST: Final = 2**15  # instructions that are kept as a list; longer streams are executed as they are
_KEPT: Final = 16  # lists
_known: Final[dict[Any, tuple[TieredInstruction, ...]]] = {}


def keeps_everything(schedule: Schedule) -> bool:
    """Whether a schedule is plain backpropagation: every core is recorded once, and stays until it goes backward."""
    cores = (0, schedule.cores) if schedule.cores > 1 else (0,)
    return [*islice(linked(schedule, frozenset()), 2)] == [
        (Record, cores),
        (Backpropagate, cores),
    ]


def linked(schedule: Schedule, ends: frozenset[int]) -> Iterator[TieredInstruction]:
    """Yield the instructions of a schedule, where linked cores are recorded at once and backpropagated at once.

    Such an instruction has two places, the first core and the one after the last.

    Args:
        schedule: of a chain, in one tier.
        ends: cores after whose backward there is a stop: each is the first one under its graph.
    """
    key = schedule.title, schedule.digest, schedule.cores, schedule.slots, ends
    known = _known.get(key)
    if known is None:
        head = (*islice(schedule.instructions(), LONGEST + 1),)
        if len(head) > LONGEST:
            return schedule.instructions()
        known = _known[key] = link(head, ends)
        if len(_known) > _KEPT:
            del _known[next(iter(_known))]
    return iter(known)


def link(stream: tuple[TieredInstruction, ...], ends: Collection[int] = ()) -> tuple[TieredInstruction, ...]:
    """Return a stream with its linked cores together; see `linked`."""
    links = _links(stream, ends)
    result: list[TieredInstruction] = []
    at = 0
    while at < len(stream):
        kind, (core, *_) = stream[at]
        first, last = at, core
        if kind is Record:
            while at in links:
                at, last = at + 2, last + 1
            result.append((Record, (core, last + 1) if at > first else (core,)))
        elif kind is Backpropagate:
            while at in links:
                at, core = at + 2, core - 1
            result.append((Backpropagate, (core, last + 1) if at > first else (core,)))
        else:
            result.append(stream[at])
        at += 1
    return tuple(result)


def _links(stream: tuple[TieredInstruction, ...], ends: Collection[int]) -> set[int]:
    """Return where, in a stream, the recordings and the backwards stand that are one with those two places later."""
    recorded: dict[int, int] = {}  # where a core was recorded that the next one follows at once, until it is loaded
    links: set[int] = set()
    for at, (kind, (core, *_)) in enumerate(stream):
        if kind is Record:
            recorded.pop(core, None)
            if stream[at - 2 : at] != ((Record, (core - 1,)), (StoreInternal, (core - 1,))) or core in ends:
                recorded.pop(core - 1, None)
            else:
                recorded[core - 1] = at - 2
        elif kind is Backpropagate and recorded.get(core - 1) is not None:
            if stream[at + 1 : at + 3] == ((LoadInternal, (core - 1,)), (Backpropagate, (core - 1,))):
                links |= {recorded.pop(core - 1), at}
        elif kind in (StoreHidden, Restore):  # of a state inside
            recorded.pop(core - 1, None)
        elif kind in (DropInternal, ReduceInternal):
            recorded.pop(core, None)
            recorded.pop(core - 1, None)
    return links
