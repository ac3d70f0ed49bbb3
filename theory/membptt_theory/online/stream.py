"""The schedule of a loop whose length nobody knows: told before each step, and when the loop is over."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice, starmap
from threading import Lock
from typing import Final

from membptt_theory.actions import (
    Action,
    Advance,
    Backpropagate,
    DropHidden,
    Instruction,
    LoadInternal,
    Record,
    ReduceInternal,
    Restore,
    Sizes,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.online.gaps import NEVER
from membptt_theory.online.internal import START, Row, Rule, State, changes, complete
from membptt_theory.online.policies import DEFAULT, Policy
from membptt_theory.online.policies import policy as _policy
from membptt_theory.online.rule import Store
from membptt_theory.tables import check_count

SIZES = Sizes(hidden=1, internal=None)
Due = tuple[int, tuple[Instruction, ...]]  # before which step what is to be done
_REMEMBERED: Final = 2**13  # of a policy in so many slots, some 3 MB


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
    which stores the second. With internal states, ``before(p)`` may store that of step ``p - 1``, whose graph is then
    not given up.

    Args:
        slots: ``m``, the starting state's included.
        policy: a name of `POLICIES`.
        internal: alpha, slots of an internal state, to store those too by the rule of `membptt_theory.online.internal`;
            ``None``: hidden states only.

    Attributes:
        slots: ``m``.
        policy: the record of the policy.
        internal: alpha, or ``None``.
        due: the next step before which something is to be done; `NEVER` if there is none.

    Raises:
        TypeError: a number is not an integer.
        ValueError: ``slots < 1``, ``internal < 2``, an unknown policy, or another than the default with `internal`.
    """

    def __init__(self, slots: int, /, *, policy: str = DEFAULT, internal: int | None = None) -> None:
        self.slots = check_count("slots", slots)
        self.policy = _policy(policy)
        self.internal = check_internal(internal, policy)
        self._rule = Rule(self.slots, self.internal or 1)
        self._changes = iter(_remembered(self.policy, self.slots, self.internal))
        self._row = [*START.row]
        self._steps = 0  # known to exist
        self._ended = 0
        self._next()

    @property
    def held(self) -> tuple[int, ...]:
        """The positions of the stored hidden states, in order."""
        return tuple(state.place for state in self._row if not state.internal)

    @property
    def graphs(self) -> tuple[int, ...]:
        """The steps whose internal states are stored, in order."""
        return tuple(state.place for state in self._row if state.internal)

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
        todo = self._todo
        for kind, (place, *_) in todo:
            if kind in (StoreHidden, StoreInternal):
                insort(self._row, State(place, kind is StoreInternal))
                continue
            index = bisect_left(self._row, State(place, kind is not DropHidden))
            self._row[index : index + 1] = [State(place, False)] if kind is ReduceInternal else []
        self._next()
        return todo

    def end(self, steps: int, /) -> Iterator[Instruction]:
        """Yield the backward pass of a loop of ``t`` steps; ask again for another pass over the same states.

        It begins with the newest step, recorded already where the policy keeps that graph, goes on with the stored
        internal states, and completes the gaps from the last to the first, the j-th in ``m - j`` slots. Every slot is
        free at the end.

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
        return self._backward(steps, tuple(self._row))

    def _next(self) -> None:
        self.due, self._todo = next(self._changes, (NEVER, ()))

    def _backward(self, steps: int, row: Row) -> Iterator[Instruction]:
        stop = steps
        if self.policy.keeps_newest:
            yield Backpropagate, (steps - 1,)
            stop -= 1
        used = sum(map(self._rule.size, row))
        for state in reversed(row):
            used -= self._rule.size(state)
            if self.internal:
                room, steps = self._rule.room(state, used), stop - state.end
                yield from complete(state.end, steps, room, self.internal, owned=not state.internal)
            else:
                yield from _complete(state.place, stop - state.place, self.slots - used, self.policy.gap_split)
            stop = state.place
            if state.internal:
                yield LoadInternal, (stop,)
                yield Backpropagate, (stop,)


def instructions(
    steps: int, slots: int, /, *, policy: str = DEFAULT, internal: int | None = None
) -> Iterator[Instruction]:
    """Yield the whole stream of a loop that turns out to have ``t`` steps, as `Machine` executes it.

    Args:
        steps: ``t``, at least 1.
        slots: ``m``, the starting state's included.
        policy: a name of `POLICIES`.
        internal: alpha, to store internal states too.

    Raises:
        TypeError: a number is not an integer.
        ValueError: as `Stream`, and ``steps < 1``. Raised at the call, not at the first instruction.

    Claim: online-metered, online-internal-metered.
    """
    return _whole(check_count("steps", steps), Stream(slots, policy=policy, internal=internal))


def schedule(steps: int, slots: int, /, *, policy: str = DEFAULT, internal: int | None = None) -> Iterator[Action]:
    """Yield the stream of `instructions` as actions.

    Raises:
        TypeError: a number is not an integer.
        ValueError: as `instructions`. Raised at the call, not at the first action.
    """
    return starmap(tuple.__new__, instructions(steps, slots, policy=policy, internal=internal))


def check_internal(internal: int | None, policy: str = DEFAULT, /) -> int | None:
    """Return alpha as an int, or ``None``.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is below 2, or comes with another policy than the default.
    """
    if internal is None:
        return None
    if policy != DEFAULT:
        raise ValueError(f"policy {policy!r} stores hidden states only: give internal or policy, not both")
    return check_count("internal", internal, least=2)


class _Remembered:
    """What a policy does and when, which is the same in every loop: its beginning is computed once.

    Args:
        policy: the policy.
        slots: ``m``.
        internal: alpha, or ``None``.
    """

    def __init__(self, policy: Policy, slots: int, internal: int | None) -> None:
        self._of = policy, slots, internal
        self._first: list[Due] = []
        self._rest = self._afresh(0)
        self._lock = Lock()

    def __iter__(self) -> Iterator[Due]:
        for index in range(_REMEMBERED):
            while index == len(self._first):
                with self._lock:
                    if index < len(self._first):
                        break
                    try:
                        self._first.append(next(self._rest))
                    except StopIteration:
                        return
                    except BaseException:  # an interrupt ends a generator
                        self._rest = self._afresh(index)
                        raise
            yield self._first[index]
        yield from self._afresh(_REMEMBERED)

    def _afresh(self, begin: int) -> Iterator[Due]:
        policy, slots, internal = self._of
        if internal:
            whole: Iterator[Due] = ((due, todo) for due, todo, _ in changes(slots, internal))
        else:
            whole = map(_of_hidden, policy.stores(slots))
        return islice(whole, begin, None)


_remembered = lru_cache(maxsize=8)(_Remembered)


def _of_hidden(store: Store) -> Due:
    drops: list[Instruction] = [(DropHidden, (position,)) for position in store.dropped]
    return store.due, (*drops, (StoreHidden, (store.position,)))


def _whole(steps: int, stream: Stream) -> Iterator[Instruction]:
    at = 0
    while stream.due < steps:
        todo = stream.before(stream.due)
        kind, (place, *_) = todo[-1]
        if kind in (StoreHidden, StoreInternal):
            if place > at:
                yield Advance, (at, place)
            at = place
        if kind is StoreInternal:
            yield Record, (place,)
            at += 1
        yield from todo
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
