"""Internal states too: every graph is kept while all of them fit, then they give way to hidden states one by one.

Two kinds of states are held: hidden states, the starting one among them, and behind them the internal states of the
newest steps without a gap, the *tail*. When the loop ends after ``t`` steps, the newest step and the ``w`` steps of the
tail go backward as they are. What is left are gaps behind hidden states ``h_0 = 0 < h_1 < ..``, the last of which ends
where the tail begins. MSM+ completes the j-th in ``m - j`` slots:

    cost = t + the sum of P(h_{j+1} - h_j, m - j) over j, the last of them P(t - 1 - w - h_j, m - j)

While ``t <= 1 + floor(m/alpha)`` the tail is everything, and the start lives in its first graph: ``t`` forwards, plain
autograd's. From then on each new step moves the tail on by one step, or by two: then it is a step shorter, which leaves
room for alpha hidden states. A step that leaves the tail gives up its graph, and may leave its input behind as a hidden
state. Where these have no room, the one that costs least to lose goes. Of all these choices the one is taken that costs
least should the loop end `AHEAD` steps later; of equals, the one with the longest tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count, takewhile
from operator import itemgetter
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
from membptt_theory.online.gaps import losses
from membptt_theory.streams import instructions

AHEAD: Final = 1


class Change(NamedTuple):
    """What is done before step `due`, and what is held from then on: hidden states, and a tail of internal states."""

    due: int
    todo: tuple[Instruction, ...]
    held: tuple[int, ...]
    tail: int


START: Final = Change(0, (), (0,), 0)
# What is done before the second step in any number of slots that hold a graph: the start lives on in the first one.
FIRST: Final[tuple[Instruction, ...]] = (DropHidden, (0,)), (StoreInternal, (0,))


def changes(slots: int, internal: int, /) -> Iterator[Change]:
    """Yield what is done at every step at which anything is, endlessly: ``O(m)`` a step once the slots are full."""
    now = START
    for step in count(1) if slots > 1 else ():
        held, tail = ((), step) if internal * step <= slots else _cheapest(now, step, slots, internal)
        todo = _todo(now, held, tail, step)
        now = Change(step, todo, held, tail)
        if todo:
            yield now


def costs(slots: int, internal: int, /) -> Iterator[int]:
    """Yield the forwards in all of a loop of ``1, 2, 3, ..`` steps, endlessly."""
    now, upcoming = START, changes(slots, internal)
    following = next(upcoming, None)
    for steps in count(1):
        if following and following.due < steps:
            now, following = following, next(upcoming, None)
        yield _cost(steps, now, slots, internal)


def cost(steps: int, slots: int, internal: int, /) -> int:
    """Return the forwards in all of a loop that turns out to have ``t`` steps."""
    *_, now = START, *takewhile(lambda change: change.due < steps, changes(slots, internal))
    return _cost(steps, now, slots, internal)


def complete(start: int, steps: int, slots: int, internal: int, /) -> Iterator[Instruction]:
    """Yield the backward pass of a gap behind a stored state by MSM+; the slot of that state is freed at its end."""
    yield Restore, (start,)
    for kind, places in instructions(Formula("msm_plus", internal), steps, slots):
        yield kind, tuple([start + place for place in places])


def _cost(steps: int, now: Change, slots: int, internal: int) -> int:
    gap_cost = _gap_costs(internal)
    ends = (*now.held[1:], steps - 1 - now.tail)
    # Where the tail is everything, no state is held and there is no gap.
    return steps + sum(gap_cost(b - a, slots - j) for j, (a, b) in enumerate(zip(now.held, ends, strict=False)))


def _cheapest(now: Change, step: int, slots: int, internal: int) -> tuple[tuple[int, ...], int]:
    """Return the hidden states and the tail to hold now that `step` exists, where not everything fits."""
    held = now.held or START.held  # the start is held by itself as soon as its graph is given up
    choices = []
    for tail in (now.tail, now.tail - 1):
        room = slots - internal * tail
        if tail < 0 or room < 1:
            continue
        gone = range(max(step - 1 - now.tail, held[-1] + 1), step - tail)
        for option in (held, *((*held, position) for position in gone)):
            forwards, fitting = _fitting(option, step + AHEAD - tail, room, slots, internal)
            choices.append((forwards, fitting, tail))
    _, held, tail = min(choices, key=itemgetter(0))
    return held, tail


def _fitting(held: tuple[int, ...], stop: int, room: int, slots: int, internal: int) -> tuple[int, tuple[int, ...]]:
    """Return what the gaps up to `stop` cost, and the hidden states once those without room are lost."""
    gap_cost = _gap_costs(internal)
    while True:
        kept, lost = losses([b - a for a, b in zip(held, (*held[1:], stop), strict=True)], slots, gap_cost)
        if len(held) <= room:
            return kept, held
        index = lost.index(min(lost)) + 1
        held = held[:index] + held[index + 1 :]


def _todo(now: Change, held: tuple[int, ...], tail: int, step: int) -> tuple[Instruction, ...]:
    """Return what leads from what is held now to what is held then: what frees a slot comes first."""
    new = {position for position in held if position not in now.held}
    todo: list[Instruction] = [(DropHidden, (position,)) for position in now.held if position not in held]
    todo += [
        (ReduceInternal if gone in new else DropInternal, (gone,))
        for gone in range(step - 1 - now.tail, min(step - tail, step - 1))
    ]
    if tail:
        todo.append((StoreInternal, (step - 1,)))
    elif step - 1 in new:
        todo.append((StoreHidden, (step - 1,)))
    return tuple(todo)


@lru_cache(maxsize=64)
def _gap_costs(internal: int) -> Callable[[int, int], int]:
    """Return ``P(L, s)`` of one alpha, which is asked for the same gaps again and again."""
    return lru_cache(maxsize=2**14)(lambda steps, slots: mixed.cost(steps, slots, internal))
