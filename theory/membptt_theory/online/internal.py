"""Internal states too: every graph is kept while all of them fit, then they give way to hidden states one by one.

What is held is a row of stored states, hidden and internal, in the order of their places. Behind each lies a gap, up
to where the next one begins; that behind an internal state starts from its output, which is not given up before it.
When the loop ends after ``t`` steps, the newest step goes backward as it is, and MSM+ completes the gaps in the slots
that the states before them leave free:

    cost = t + the sum of P(L, m - u) behind hidden states, and of R(L, m - u - alpha + 1) behind internal ones

with ``L`` the length of a gap, ``u`` the slots of the states before its own, and ``R`` the cost of a part that keeps
its start. While ``t <= 1 + floor(m/alpha)`` every graph is held, and the start lives in the first: ``t`` forwards,
plain autograd's. From then on a new step leaves the row as it is, or adds the graph of the step before it, or that
step's input. Where there is no room for these, the cheapest of all *reductions* are made, one at a time: a hidden state
is lost, a graph is, or only its input is left of it; what each costs more is divided by the slots that it frees, as far
as they are needed. Of the three rows those are compared that keep `BOUND` times the offline optimum, should the loop
end now, and that is held which costs least should it end `AHEAD` steps later; of equals, the one with the fewest
graphs, then the one named first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, count, pairwise, takewhile
from typing import Final, NamedTuple

from membptt_theory import mixed
from membptt_theory.actions import (
    DropHidden,
    DropInternal,
    Instruction,
    ReduceInternal,
    Restore,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.formula import Formula
from membptt_theory.recurrences import KEPT, OWNED
from membptt_theory.streams import instructions

BOUND: Final = 103, 100  # numerator and denominator
AHEAD: Final = 2
_MOST: Final = 2**14  # gaps whose cost is remembered


class State(NamedTuple):
    """A stored state: the hidden state at `place`, or the internal state of step `place`."""

    place: int
    internal: bool

    @property
    def end(self) -> int:
        """Where the gap behind it begins."""
        return self.place + self.internal


Row = tuple[State, ...]


class Change(NamedTuple):
    """What is done before step `due`, and what is held from then on."""

    due: int
    todo: tuple[Instruction, ...]
    row: Row


START: Final = Change(0, (), (State(0, False),))
# What is done before the second step in any number of slots that hold a graph: the start lives on in the first one.
FIRST: Final[tuple[Instruction, ...]] = (DropHidden, (0,)), (StoreInternal, (0,))


def changes(slots: int, internal: int, /) -> Iterator[Change]:
    """Yield what is done at every step at which anything is, endlessly: ``O(m)`` a step once the slots are full."""
    now, rule = START, Rule(slots, internal)
    for step in count(1) if slots > 1 else ():
        row = rule.next(now.row, step)
        if row != now.row:
            now = Change(step, _todo(now.row, row, step), row)
            yield now


def costs(slots: int, internal: int, /) -> Iterator[int]:
    """Yield the forwards in all of a loop of ``1, 2, 3, ..`` steps, endlessly."""
    now, rule, upcoming = START, Rule(slots, internal), changes(slots, internal)
    following = next(upcoming, None)
    for steps in count(1):
        if following and following.due < steps:
            now, following = following, next(upcoming, None)
        yield steps + rule.repeated(now.row, steps - 1)


def cost(steps: int, slots: int, internal: int, /) -> int:
    """Return the forwards in all of a loop that turns out to have ``t`` steps."""
    *_, now = START, *takewhile(lambda change: change.due < steps, changes(slots, internal))
    return steps + Rule(slots, internal).repeated(now.row, steps - 1)


def complete(start: int, steps: int, slots: int, internal: int, /, *, owned: bool) -> Iterator[Instruction]:
    """Yield the backward pass of a gap behind a stored state by MSM+; that is freed at its end, if it is owned."""
    if steps:
        yield Restore, (start,)
        for kind, places in instructions(Formula("msm_plus", internal), steps, slots, owned=owned):
            yield kind, tuple([start + place for place in places])
    elif owned:
        yield DropHidden, (start,)


class Rule:
    """What to hold, in ``m`` slots, and what it costs.

    Args:
        slots: ``m``, the starting state's included.
        internal: alpha, slots of an internal state.
    """

    def __init__(self, slots: int, internal: int) -> None:
        self._slots, self._internal = slots, internal
        self._owned, self._kept = _gap_costs(internal)

    def next(self, row: Row, step: int) -> Row:
        """Return the row to hold now that `step` exists: `O(m)` for each reduction of a row not seen before."""
        before = step - 1
        if self._internal * step <= self._slots:
            return *(row if before else ()), State(before, True)
        if before == 0:
            return row  # no graph fits, and the input of the first step is the start
        rows = row, self._fitting((*row, State(before, True)), step), self._fitting((*row, State(before, False)), step)
        now = [self.repeated(row, step) for row in rows]
        key = [(self.repeated(row, step + AHEAD), sum([state.internal for state in row])) for row in rows]
        best = key.index(min(key))
        if now[best] == min(now):
            return rows[best]  # whatever the offline optimum is
        (most, unit), steps = BOUND, step + 1
        allowed = most * mixed.cost(steps, self._slots, self._internal)
        return rows[min(range(3), key=lambda index: (max(allowed, unit * (steps + now[index])), key[index]))]

    def repeated(self, row: Row, stop: int) -> int:
        """Return the forwards that complete the gaps of a row, the last of which ends at `stop`."""
        if len(row) == 1:
            return self.gap(row[0], stop, 0)
        used, forwards = _complete(self, row[:-1])
        return forwards + self.gap(row[-2], row[-1].place, used) + self.gap(row[-1], stop, used + self.size(row[-2]))

    def gap(self, state: State, stop: int, used: int) -> int:
        """Return the forwards of the gap behind a state, before which `used` slots are taken."""
        place, internal = state
        if internal:
            return self._kept[stop - place - 1, self._slots - used - self._internal + 1]
        return self._owned[stop - place, self._slots - used]

    def room(self, state: State, used: int) -> int:
        """Return in how many slots the gap behind a state is completed, its start included."""
        return self._slots - used - (self._internal - 1 if state.internal else 0)

    def size(self, state: State) -> int:
        """Return the slots of a stored state."""
        return self._internal if state.internal else 1

    def _fitting(self, row: Row, step: int) -> Row:
        """Return the row once what has no room is reduced, cheapest first."""
        over = sum(map(self.size, row)) - self._slots
        while over > 0:
            row, freed = self._cheapest(row, step + AHEAD, over)
            over -= freed
        return row

    def _cheapest(self, row: Row, stop: int, over: int) -> tuple[Row, int]:
        """Return a row after the reduction that costs least a slot, and how many that freed."""
        head, last = row[:-1], row[-1]
        second, (used, forwards) = head[-1], _complete(self, head)
        behind = used + self.size(second)
        base = forwards + self.gap(second, last.place, used) + self.gap(last, stop, behind)
        best: tuple[int, int, int, Row] = 0, 0, 0, row
        for forwards, freed, reduced in (
            *[
                (
                    forwards + self.gap(second, last.place, used - freed) + self.gap(last, stop, behind - freed),
                    freed,
                    (*reduced, last),
                )
                for forwards, freed, reduced in _reductions(self, head)
            ],
            *[
                (self.repeated(reduced, stop), freed, reduced)
                for index in (len(row) - 2, len(row) - 1)
                for freed, reduced in self.reduced(row, index)
            ],
        ):
            more, by = forwards - base, min(freed, over)
            if not best[1] or more * best[1] < best[0] * by:
                best = more, by, freed, reduced
        return best[3], best[2]

    def reduced(self, row: Row, index: int) -> Iterator[tuple[int, Row]]:
        """Yield the slots that the reductions of a state free, and the rows after them."""
        place, internal = row[index]
        if internal:
            yield self._internal - 1, (*row[:index], State(place, False), *row[index + 1 :])
        if index:
            yield self.size(row[index]), (*row[:index], *row[index + 1 :])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and (self._slots, self._internal) == (other._slots, other._internal)

    def __hash__(self) -> int:
        return hash((self._slots, self._internal))


@lru_cache(maxsize=64)
def _complete(rule: Rule, row: Row) -> tuple[int, int]:
    """Return the slots before the last state of a row, and the forwards of the gaps up to it."""
    used = forwards = 0
    for state, after in pairwise(row):
        forwards += rule.gap(state, after.place, used)
        used += rule.size(state)
    return used, forwards


@lru_cache(maxsize=64)
def _reductions(rule: Rule, row: Row) -> list[tuple[int, int, Row]]:
    """Return the cheapest reductions of the states before the last of a row, one for each number of slots freed.

    With the forwards of the gaps up to the last state then, the slots, and the row, in the order of what is reduced.
    """
    stops = [state.place for state in row[1:]]
    sizes = list(map(rule.size, row))
    used = list(accumulate(sizes, initial=0))
    before = list(accumulate(map(rule.gap, row, stops, used), initial=0))
    best: dict[int, tuple[int, int, int]] = {}
    behind = {}
    for freed in {freed for size in set(sizes) for freed in (size, size - 1) if freed}:
        gaps = list(map(rule.gap, row, stops, [slots - freed for slots in used]))
        behind[freed] = list(accumulate(reversed(gaps), initial=0))[::-1]
    for i, (state, stop) in enumerate(zip(row, stops, strict=False)):
        options = []
        if state.internal:
            options.append((sizes[i] - 1, rule.gap(State(state.place, False), stop, used[i]) + before[i]))
        if i:
            options.append((sizes[i], rule.gap(row[i - 1], stop, used[i - 1]) + before[i - 1]))
        for order, (freed, forwards) in enumerate(options):
            option = forwards + behind[freed][i + 1], i, order
            best[freed] = min(option, best.get(freed, option))
    chosen = sorted((i, order, freed, forwards) for freed, (forwards, i, order) in best.items())
    return [(forwards, freed, list(rule.reduced(row, i))[order][1]) for i, order, freed, forwards in chosen]


def _todo(now: Row, then: Row, step: int) -> tuple[Instruction, ...]:
    """Return what leads from one row to the next: what frees a slot comes first."""
    held, newest = set(then), step - 1
    todo: list[Instruction] = []
    for state in now:
        if state not in held:
            left = State(state.place, False) in held
            todo.append((ReduceInternal if left else DropInternal if state.internal else DropHidden, (state.place,)))
    if then[-1].place == newest and then[-1] != now[-1]:
        todo.append((StoreInternal if then[-1].internal else StoreHidden, (newest,)))
    return tuple(todo)


class _Costs(dict[tuple[int, int], int]):
    """The forwards of gaps, by steps and slots, of which one at least is taken: the same are asked again and again."""

    def __init__(self, internal: int, mode: int) -> None:
        self._internal, self._mode = internal, mode

    def __missing__(self, key: tuple[int, int]) -> int:
        steps, slots = key
        forwards = self[steps, 1] if slots < 1 else mixed.cost(steps, slots, self._internal, self._mode)
        if len(self) >= _MOST:
            self.clear()
        self[key] = forwards
        return forwards


@lru_cache(maxsize=16)
def _gap_costs(internal: int) -> tuple[_Costs, _Costs]:
    return _Costs(internal, OWNED), _Costs(internal, KEPT)
