"""Why no schedule of hidden states beats HSM's recurrence, executed: where the proof cuts a schedule, and its parts.

The lowest v is taken from which all that is ever stored fits in m - 1 slots. For v - 1 it does not: at some instant
m - 1 states are stored from v on, so that only the start is left below. What then follows holds a schedule of the first
v steps in m slots; the whole holds one of the others in m - 1. `formal/laws/Cut.v` and `formal/laws/Projection.v` prove
it of every legal schedule; here it is done to one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from membptt_theory.actions import Action, Advance, Backpropagate, DropHidden, Record, Restore, Sizes, StoreHidden
from membptt_theory.machine import Machine, meter

HIDDEN: Final = Sizes(hidden=1, internal=None)


@dataclass(frozen=True, slots=True)
class Cut:
    """A schedule cut in two.

    Args:
        steps: ``t``.
        slots: ``m``.
        whole: the schedule.
        place: v; 0 where one slot was never needed.
        instant: how many actions come before the left part begins.
        left: the schedule of the steps below v, in m slots, that follows the instant; empty where v is 0.
        right: the schedule of the steps from v on, counted from v, in m - 1 slots.
    """

    steps: int
    slots: int
    whole: tuple[Action, ...]
    place: int
    instant: int
    left: tuple[Action, ...]
    right: tuple[Action, ...]

    @property
    def first_pass(self) -> int:
        """Forwards of the steps below v before the instant: at least v."""
        return forwards(self.whole[: self.instant], 0, self.place)

    @property
    def bound(self) -> int:
        """What both parts and the first pass over the left one take: no more than the whole."""
        return self.place + forwards(self.left, 0, self.place) + forwards(self.right, 0, self.steps - self.place)


def cut(actions: Iterable[Action], steps: int, slots: int, /) -> Cut:
    """Cut a complete schedule of hidden states where the proof cuts it.

    Args:
        actions: the schedule; it may drop states early, store them twice, run past them.
        steps: ``t``, at least 1.
        slots: ``m``, at least 2.

    Raises:
        IllegalActionError: the machine refuses it.
        ValueError: fewer than 2 slots, or it takes more than `slots`.
    """
    whole = tuple(actions)
    if slots < 2:
        raise ValueError(f"a schedule is cut in 2 slots or more, got {slots}: in one, every step runs from the start")
    peak = meter(whole, steps=steps, sizes=HIDDEN).peak
    if peak > slots:
        raise ValueError(f"the schedule takes {peak} slots, more than the {slots} it is to be cut for")
    states = list(_states(whole, steps))

    def overfull(v: int) -> Iterator[int]:
        """Yield the instants at which what is stored above v, and v itself, take m slots or more."""
        for instant, (left, stored) in enumerate(states, 1):
            if left > v and 1 + sum(v < position < steps for position in stored) > slots - 1:
                yield instant

    place = next(v for v in range(steps) if next(overfull(v), None) is None)
    instant = next(overfull(place - 1)) if place else 0
    left = _freed(_left(whole[instant:], place), place) if place else ()
    return Cut(steps, slots, whole, place, instant, left, _freed(_right(whole, place, steps), steps - place))


def forwards(actions: Iterable[Action], first: int, stop: int, /) -> int:
    """Count the forwards of the steps ``first .. stop-1``."""
    spans = (tuple(action) if type(action) is Advance else (action[0], action[0] + 1) for action in runs(actions))
    return sum(max(0, min(end, stop) - max(begin, first)) for begin, end in spans)


def runs(actions: Iterable[Action], /) -> Iterator[Action]:
    """Yield the actions that run steps forward."""
    return (action for action in actions if isinstance(action, (Advance, Record)))


def random_schedule(steps: int, slots: int, rng: random.Random, /) -> tuple[Action, ...]:
    """Return some complete schedule of hidden states: it stores, drops and restarts as chance has it.

    Args:
        steps: ``t``, at least 1.
        slots: ``m``, at least 1.
        rng: where chance comes from.
    """
    machine, actions = Machine(steps, HIDDEN), list[Action]()
    while machine.next_backward >= 0:
        for action in _likely(machine, slots, rng):
            machine.execute(action)
            actions.append(action)
    return _freed(actions, steps)


def _likely(machine: Machine, slots: int, rng: random.Random) -> Iterator[Action]:
    """Yield what is done next: the last step recorded and backpropagated, or a state stored, dropped or run on from."""
    place, last = machine.position, machine.next_backward
    if place is not None and place == last:
        yield from (Record(last), Backpropagate(last))
    elif place is None or place > last or rng.random() < 0.04:
        yield Restore(max(rng.sample(sorted(p for p in machine.hidden if p <= last), 1)))
    elif place not in machine.hidden and machine.used < slots and rng.random() < 0.6:
        yield StoreHidden(place)
    else:
        yield from (DropHidden(p) for p in sorted(machine.hidden) if p and (p > last or rng.random() < 0.05))
        yield Advance(place, rng.randint(place + 1, last))


def _states(actions: Sequence[Action], steps: int) -> Iterator[tuple[int, frozenset[int]]]:
    """Yield, after each action, how many steps are left to go backward, and what is stored."""
    machine = Machine(steps, HIDDEN)
    for action in actions:
        machine.execute(action)
        yield machine.next_backward + 1, frozenset(machine.hidden)


def _freed(actions: Iterable[Action], steps: int) -> tuple[Action, ...]:
    """Return the actions, and at the end every slot freed."""
    legal = tuple(actions)
    *_, (_, stored) = _states(legal, steps)
    return (*legal, *map(DropHidden, sorted(stored)))


def _left(actions: Iterable[Action], v: int) -> Iterator[Action]:
    """Yield what the actions do to the steps below v: whatever is beyond it is left out."""
    for action in actions:
        match action:
            case Advance(begin, end) if begin < v:
                yield Advance(begin, min(end, v))
            case Record() | Backpropagate() | StoreHidden() | Restore() | DropHidden() if action[0] < v:
                yield action
            case _:
                pass


def _right(actions: Iterable[Action], v: int, steps: int) -> Iterator[Action]:
    """Yield what the actions do to the steps from v on, counted from v: whatever is below v is done at v."""
    for action in actions:
        match action:
            case Advance(begin, end) if end > v:
                yield Advance(max(begin, v) - v, end - v)
            case Record(step) | Backpropagate(step) if step >= v:
                yield type(action)(step - v)
                if step == v and type(action) is Backpropagate:
                    return
            case StoreHidden(position) | DropHidden(position) if v < position < steps:
                yield type(action)(position - v)
            case Restore(position) if position < steps:
                yield Restore(max(position, v) - v)
            case _:
                pass
