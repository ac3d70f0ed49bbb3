"""The schedule of a loop whose length nobody knows: told before each step, and when the loop is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import starmap

from membptt_theory.actions import (
    Action,
    Advance,
    Backpropagate,
    DropHidden,
    Instruction,
    Record,
    Restore,
    Sizes,
    StoreHidden,
)
from membptt_theory.online.gaps import NEVER
from membptt_theory.online.policies import DEFAULT, change
from membptt_theory.online.policies import policy as _policy
from membptt_theory.tables import check_count

SIZES = Sizes(hidden=1, internal=None)


class Stream:
    """What to store while a loop runs, and how to backpropagate it once it is over.

    A runtime records each new step and keeps only the newest graph, since that step may be the last one. Before it
    runs step ``p`` it executes ``before(p)``; in between it need not ask: nothing is to be done before `due`. On paper
    a step whose graph is given up is an `Advance`, one forward like any other.

        stream = Stream(slots)
        while cond(carry):
            if steps == stream.due:
                execute(stream.before(steps))  # drops, then one store
            carry = record(carry)
            steps += 1
        execute(stream.end(steps))

    What ``before(p)`` stores is at hand: position ``p - 1`` is the input of the newest step, which its graph holds;
    position ``p`` is its output, the carry. The default stores the first until it hands over to the staged policy,
    which stores the second.

    Args:
        slots: ``m``, the starting state's included.
        policy: a name of `POLICIES`.

    Attributes:
        slots: ``m``.
        policy: the record of the policy.
        due: the next step before which something is to be done; `NEVER` if there is none.

    Raises:
        TypeError: `slots` is not an integer.
        ValueError: ``slots < 1``, or an unknown policy.
    """

    def __init__(self, slots: int, /, *, policy: str = DEFAULT) -> None:
        self.slots = check_count("slots", slots)
        self.policy = _policy(policy)
        self._stores = self.policy.stores(self.slots)
        self._held = [0]
        self._steps = 0  # known to exist
        self._ended = 0
        self._next()

    @property
    def held(self) -> tuple[int, ...]:
        """The stored positions, in order."""
        return tuple(self._held)

    def before(self, step: int, /) -> tuple[Instruction, ...]:
        """Return what is to be done before `step` is run, now that it is known to exist: mostly nothing.

        Raises:
            ValueError: a step with something due was passed over, `step` was announced before, or the loop is over.
        """
        if self._ended:
            raise ValueError(f"the loop ended after {self._ended} steps: there is no step {step}, begin a new stream")
        if step < self._steps:
            raise ValueError(f"step {step} exists already: announce each step once, in order, from {self._steps} on")
        if step > self.due:
            raise ValueError(f"step {self.due} was passed over: a state is stored before it, announce it first")
        self._steps = step + 1
        if step < self.due:
            return ()
        store = self._store
        change(self._held, store)
        self._next()
        return *((DropHidden, (position,)) for position in store.dropped), (StoreHidden, (store.position,))

    def end(self, steps: int, /) -> Iterator[Instruction]:
        """Yield the backward pass of a loop of ``t`` steps; ask again for another pass over the same states.

        It begins with the newest step, recorded already where the policy keeps that graph, and completes the gaps from
        the last to the first, the j-th in ``m - j`` slots. Every slot is free at the end.

        Args:
            steps: ``t >= 1``; a loop of no step has no backward pass.

        Raises:
            TypeError: `steps` is not an integer.
            ValueError: fewer steps than were announced, a due step was never announced, or another end than before.
        """
        steps = check_count("steps", steps)
        if self._ended not in (0, steps):
            raise ValueError(f"the loop ended after {self._ended} steps, it cannot end after {steps} too")
        if steps < self._steps:
            raise ValueError(f"the loop has {self._steps} steps at least, so many were announced, got {steps}")
        if steps > self.due:
            raise ValueError(f"step {self.due} was passed over: a state is stored before it, announce it first")
        self._ended = steps
        return self._backward(steps, list(self._held))

    def _next(self) -> None:
        store = next(self._stores, None)
        if store:
            self._store = store
        self.due = store.due if store else NEVER

    def _backward(self, steps: int, held: list[int]) -> Iterator[Instruction]:
        stop = steps
        if self.policy.keeps_newest:
            yield Backpropagate, (steps - 1,)
            stop -= 1
        for j in range(len(held) - 1, -1, -1):
            yield from _complete(held[j], stop - held[j], self.slots - j, self.policy.gap_split)
            stop = held[j]


def instructions(steps: int, slots: int, /, *, policy: str = DEFAULT) -> Iterator[Instruction]:
    """Yield the whole stream of a loop that turns out to have ``t`` steps, as `Machine` executes it.

    Args:
        steps: ``t``, at least 1.
        slots: ``m``, the starting state's included.
        policy: a name of `POLICIES`.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1, or an unknown policy. Raised at the call, not at the first instruction.

    Claim: online-metered.
    """
    return _whole(check_count("steps", steps), Stream(slots, policy=policy))


def schedule(steps: int, slots: int, /, *, policy: str = DEFAULT) -> Iterator[Action]:
    """Yield the stream of `instructions` as actions.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is below 1, or an unknown policy. Raised at the call, not at the first action.
    """
    return starmap(tuple.__new__, instructions(steps, slots, policy=policy))


def _whole(steps: int, stream: Stream) -> Iterator[Instruction]:
    at = 0
    while stream.due < steps:
        *drops, store = stream.before(stream.due)
        position = store[1][0]
        if position > at:
            yield Advance, (at, position)
        at = position
        yield from drops
        yield store
    last = steps - stream.policy.keeps_newest
    if last > at:
        yield Advance, (at, last)
    if stream.policy.keeps_newest:
        yield Record, (last,)
    yield from stream.end(steps)


def _complete(start: int, steps: int, slots: int, split: Callable[[int, int], int]) -> Iterator[Instruction]:
    """Yield the backward pass of a gap behind a stored state, whose slot is freed at its end."""
    pending = [(start, steps, slots)]
    at = -1  # the working state, where it is of use
    while pending:
        start, steps, slots = pending.pop()
        while steps:
            if at != start:
                yield Restore, (start,)
            y = split(steps, slots)
            if y < steps:
                yield Advance, (start, start + y)
                yield StoreHidden, (start + y,)
                pending.append((start, y, slots))
                start, steps, slots = start + y, steps - y, slots - 1
                at = start
                continue
            steps -= 1
            if steps:
                yield Advance, (start, start + steps)
            yield Record, (start + steps,)
            yield Backpropagate, (start + steps,)
            at = -1
        yield DropHidden, (start,)
