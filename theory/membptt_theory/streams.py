"""From a table to the stream of actions that carries it out: the paper's Algorithm 2, with its recompute branch.

The stream of a long sequence is made of few different short streams. Each is solved once, at position 0, and then moved
to every place where it occurs (`Template`), so that a loop in C produces nearly all of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import chain
from operator import itemgetter
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    Instruction,
    LoadInternal,
    Record,
    Restore,
    Sizes,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.recurrences import KEPT, OWNED, Decision, Recurrence

SHORT: Final = 64  # steps of the longest template: longer ones gain little and are many
MOST: Final = 128  # templates kept for a table, about 10 kB each at most


class Decider(Protocol):
    """What decides a stream: a table, or a formula."""

    @property
    def recurrence(self) -> Recurrence:
        """Its Bellman equation."""

    @property
    def sizes(self) -> Sizes:
        """Slots of each kind of stored state."""

    def lookup(self) -> Callable[[int, int, int], tuple[int, int]]:
        """Return what decides: of mode, slots and steps, what to store and where."""


def instructions(table: Decider, steps: int, slots: int, /, *, owned: bool = True) -> Iterator[Instruction]:
    """Yield the stream of ``table.schedule(steps, slots)``, whose arguments are checked there.

    Where its starting state is not `owned`, it is stored by whoever asks, who frees it; its slot counts all the same.

    Lazy: it holds one pending part for each stored state, the places of at most `SHORT` steps and, shared with the
    other streams of its table, at most `MOST` templates; never all its actions, and it does not recurse.
    """
    part = (steps, slots, owned and table.sizes.hidden is not None, True)
    return chain.from_iterable(_pieces(table, part, _TEMPLATES.setdefault(table, {})))


def graphs(table: Decider, steps: int, slots: int, /) -> int:
    """Return how many steps ``table.schedule(steps, slots)`` stores with their graph, as internal states.

    Equal parts are looked at once, the longest first: what the parts of a part are is known before they come.
    """
    if table.sizes.internal is None:
        return 0
    decide, single_mode = table.lookup(), len(table.recurrence.cuts) == 1
    times: dict[tuple[int, int, bool], int] = defaultdict(int)
    left: list[tuple[int, int, bool]] = []  # the negated steps of a part, its slots, and whether it owns its start
    stored = 0

    def add(count: int, steps: int, slots: int, owned: bool) -> None:
        if steps > 1 < slots:  # otherwise nothing is stored
            part = -steps, slots, owned
            if part not in times:
                heappush(left, part)
            times[part] += count

    add(1, steps, slots, table.sizes.hidden is not None)
    while left:
        part = heappop(left)
        count, steps, (_, slots, owned) = times.pop(part), -part[0], part
        mode = OWNED if owned or single_mode else KEPT
        decision, y = decide(mode, slots, steps)
        if y == steps:
            add(count, steps - 1, slots, owned)
        elif decision == Decision.HIDDEN:
            add(count, y, slots, owned)
            add(count, steps - y, slots - 1, True)
        else:
            stored += count
            add(count, y - 1, slots, owned and decision != Decision.RELEASE)
            add(count, steps - y, slots - table.recurrence.room(mode, Decision(decision), y, steps), False)
    return stored


class Template:
    """The stream of a short part, ready to be moved: of each instruction the kind, and which of the part's places.

    Args:
        stream: of the part at position 0.
        steps: of the part.
    """

    __slots__ = ("_kinds", "_pick", "_spans", "_steps")

    def __init__(self, stream: Iterable[Instruction], steps: int) -> None:
        stream = list(stream)
        spans = dict.fromkeys(places for kind, places in stream if kind is Advance)
        number = {span: steps + 1 + i for i, span in enumerate(spans)}
        self._steps, self._spans = steps, list(spans)
        self._kinds = [kind for kind, _ in stream]
        self._pick = itemgetter(*(number[places] if kind is Advance else places[0] for kind, places in stream))

    def at(self, start: int) -> Iterator[Instruction]:
        """Return the stream of the part at `start`."""
        positions = zip(range(start, start + self._steps + 1))
        spans = [(start + first, start + stop) for first, stop in self._spans]
        return zip(self._kinds, self._pick([*positions, *spans]), strict=True)


# Which part: its steps, its slots, whether it owns its starting state, whether that is the working state already.
Part = tuple[int, int, bool, bool]
_TEMPLATES: WeakKeyDictionary[Decider, dict[Part, Template]] = WeakKeyDictionary()


def _pieces(
    table: Decider, part: Part, templates: dict[Part, Template] | None = None
) -> Iterator[Iterable[Instruction]]:
    """Yield the stream of a part at position 0, piece by piece; without `templates` it is cut down to single steps."""
    decide, single_mode = table.lookup(), len(table.recurrence.cuts) == 1
    # Parts left to solve: start, steps, slots, owned, and whether the step after them is stored as an internal state.
    pending: list[tuple[int, int, int, bool, bool]] = []
    start, (steps, slots, owned, there) = 0, part
    while True:
        if templates is not None and 1 < steps <= SHORT:
            yield _template(table, (steps, slots, owned, there), templates).at(start)
        else:
            if not there:
                yield ((Restore, (start,)),)
            mode = OWNED if owned or single_mode else KEPT
            decision, y = decide(mode, slots, steps) if steps > 1 else (Decision.LAST, 1)
            there = False
            if y == steps:
                # Nothing lies to the right, so the recorded step goes backward from the working core, never to a slot.
                if steps > 1:
                    yield ((Advance, (start, start + steps - 1)),)
                steps -= 1
                yield (Record, (start + steps,)), (Backpropagate, (start + steps,))
                if steps:
                    continue
                if owned:
                    yield ((DropHidden, (start,)),)
            elif decision == Decision.HIDDEN:
                yield (Advance, (start, start + y)), (StoreHidden, (start + y,))
                pending.append((start, y, slots, owned, False))
                start, steps, slots, owned, there = start + y, steps - y, slots - 1, True, True
                continue
            else:
                if y > 1:
                    yield ((Advance, (start, start + y - 1)),)
                room = table.recurrence.room(mode, Decision(decision), y, steps)
                if decision == Decision.RELEASE:
                    yield ((DropHidden, (start,)),)
                    owned = False
                yield (Record, (start + y - 1,)), (StoreInternal, (start + y - 1,))
                pending.append((start, y - 1, slots, owned, True))
                start, steps, slots, owned, there = start + y, steps - y, slots - room, False, True
                continue
        while pending:
            start, steps, slots, owned, stored = pending.pop()
            if stored:
                yield (LoadInternal, (start + steps,)), (Backpropagate, (start + steps,))
            if steps:
                break
            if owned:
                yield ((DropHidden, (start,)),)
        else:
            return
        there = False


def _template(table: Decider, part: Part, templates: dict[Part, Template]) -> Template:
    template = templates.get(part)
    if template is None:
        if len(templates) >= MOST:
            templates.clear()
        template = templates[part] = Template(chain.from_iterable(_pieces(table, part)), part[0])
    return template
