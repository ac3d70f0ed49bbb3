"""Executes a stream of instructions in torch: for each, the tensors it means. No recurrence is computed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, Protocol

from membptt.run.continuity import Sweep
from membptt.run.core import Core
from membptt.run.outputs import Outputs
from membptt.slow.spill import ahead
from membptt.slow.tier import SlowStates
from membptt.state.leaves import Leaves
from membptt.state.states import Hidden, Internal
from membptt.state.store import Store
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    DropSlow,
    LoadInternal,
    Record,
    ReduceInternal,
    Restore,
    RestoreSlow,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    TieredInstruction,
)

_DROPS: Final = frozenset({DropHidden, DropInternal, DropSlow})  # which leave the working core as it is
_WINDOW: Final = 4  # actions beside which a state is brought back: a core's recording and its backward among them


class AtHand(Protocol):
    """What a course may look at while it is executed."""

    @property
    def core(self) -> Core:
        """What runs the step."""

    @property
    def recorded(self) -> Internal | None:
        """The working core."""

    @property
    def ends(self) -> frozenset[int] | None:
        """Cores after whose backward there is a stop; ``None`` where each core has a graph of its own."""

    def newest(self) -> Hidden:
        """Return the working state, or what the working core gave."""


class Observer(Protocol):
    """Who is told of every action."""

    def after(
        self,
        instruction: TieredInstruction | None,
        working: Hidden | None,
        recorded: Internal | None,
        store: Store,
        slow: SlowStates | None,
        /,
    ) -> None:
        """Take note of what an instruction ran and of what is held after it; ``None`` stands for the start."""

    def close(self) -> None:
        """Release everything."""


class Instructs(Protocol):
    """What is executed: each instruction is asked for once the one before it was executed."""

    def instructions(self, at_hand: AtHand, /) -> Iterator[TieredInstruction]:
        """Yield the instructions of one execution."""


class Execution:
    """One course under way: the tensors behind the machine's working state, working core and slots.

    A step is recorded from the working state, or from what the working core gave: that core's graph is then given up.
    What a core was recorded from can be stored as long as it is the working core.

    Args:
        core: runs the user's step.
        course: gives the instructions: `forward` takes those before the first backward and `backward` the rest.
        start: the starting hidden state.
        slow: the slow tier of a two-tier stream.
        observers: are told of every action.
        ends: see `AtHand`.
    """

    def __init__(
        self,
        core: Core,
        course: Instructs,
        start: Hidden,
        slow: SlowStates | None = None,
        observers: Sequence[Observer] = (),
        *,
        ends: frozenset[int] | None = None,
    ) -> None:
        self.core, self.ends = core, ends
        stream = course.instructions(self)
        self._stream = ahead(stream, slow.spill, _WINDOW) if slow is not None else stream
        self._store = Store(hidden={0: start})
        self._slow_states = slow
        self._working: Hidden | None = start
        self._before: tuple[int, Hidden] | None = None  # position and state that the working core was recorded from
        self.recorded: Internal | None = None
        self._observers = observers
        self._postponed: tuple[int, Hidden] | None = None  # a core that is recorded once it is known what for
        self._joins = False
        self._reached = 0
        self._due: tuple[TieredInstruction, ...] = ()  # the first backward instruction, once it is reached
        if observers:
            self._report(None)

    def forward(self, xs: Leaves, outputs: Outputs | None) -> Leaves:
        """Run up to the first backward instruction, whose step stays in the working core; return the final carry.

        Of a loop without any step, that is the starting carry.
        """
        try:
            for instruction in self._stream:
                if instruction[0] is Backpropagate:
                    self._due = (instruction,)
                    break
                self._execute(instruction, xs, outputs)
            return self.recorded.carry_out if self.recorded is not None else self.newest().leaves
        except BaseException:
            self.close()
            raise

    def backward(self, xs: Leaves, sweep: Sweep, first: int = 0) -> None:
        """Go on until core `first` has gone backward, to the end if that is core 0.

        Every stored state is released there, or where anything fails.
        """
        due, self._due = self._due, ()
        try:
            self._joins = self.core.joins
            for instruction in chain(due, self._stream):
                if instruction[0] is Backpropagate:
                    self._backward_step(instruction, xs, sweep)
                    if first and instruction[1][0] == first:
                        return
                else:
                    self._execute(instruction, xs, None)
        except BaseException:
            self.close()
            raise
        self.close()

    def _execute(self, instruction: TieredInstruction, xs: Leaves, outputs: Outputs | None) -> None:
        kind, places = instruction
        place = places[0]
        if self._postponed is not None and kind not in _DROPS:
            self._record_postponed(self._postponed, xs)
        if kind is Advance:
            self._advance(xs, place, places[1], outputs)
        elif kind is Record:
            stop = places[-1] if len(places) > 1 else place + 1
            self._record(xs, place, stop, outputs if stop > self._reached else None)
        elif kind is StoreHidden:
            before = self._before
            self._store.hidden[place] = before[1] if before is not None and before[0] == place else self.newest()
        elif kind is Restore:
            self._working = self._restored(place)
            self.core.rewind(self._working)
        elif kind is DropHidden:
            del self._store.hidden[place]
        elif kind is StoreInternal:
            internal = self._internal()
            self._store.internal[place] = internal
            self._working, self.recorded, self._before = self._output(internal), None, None
        elif kind is LoadInternal:
            self._working, self.recorded = None, self._store.internal.pop(place)
        elif kind is DropInternal:
            del self._store.internal[place]
        elif kind is ReduceInternal:
            self._store.hidden[place] = self._store.internal.pop(place).start
        elif kind is StoreSlow:
            self._slow().store(place, self.newest())
        elif kind is RestoreSlow:
            self._working = self._slow().restore(place)
            self.core.rewind(self._working)
        elif kind is DropSlow:
            self._slow().drop(place)
        else:
            raise AssertionError(f"{kind.__name__} is not executed here")
        if self._observers:
            self._report(instruction)

    def _advance(self, xs: Leaves, start: int, stop: int, outputs: Outputs | None) -> None:
        """Advance; only a core that runs for the first time gives outputs: a stream may run one twice before that."""
        state = self.newest()
        again = stop if outputs is None else max(start, min(stop, self._reached))
        if start < again:
            state = self.core.advance(state, xs, start, again)
        if again < stop:
            state = self.core.advance(state, xs, again, stop, outputs)
        self._working = self.core.compact(state)
        self._reached = max(self._reached, stop)

    def _record(self, xs: Leaves, step: int, stop: int, outputs: Outputs | None) -> None:
        state = self.newest()
        if self._joins:
            self._working, self._before, self.recorded, self._postponed = state, None, None, (step, state)
            return
        self._working = self._before = self.recorded = None  # a graph that is given up, before the next one is there
        self.recorded = self.core.record(state, xs, step, outputs, stop)
        self._before = step, state
        self._reached = max(self._reached, stop)

    def _record_postponed(self, postponed: tuple[int, Hidden], xs: Leaves) -> None:
        """Record the core that was put off: something else than its backward comes next, or it cannot be joined."""
        step, state = postponed
        self._postponed = None
        self.core.rewind(state)
        self._before = self.recorded = None
        self.recorded = self.core.record(state, xs, step)
        self._working, self._before = None, postponed
        self._report(None)

    def _backward_step(self, instruction: TieredInstruction, xs: Leaves, sweep: Sweep) -> None:
        postponed = self._postponed
        if postponed is None or not self.core.join(postponed[1], xs, postponed[0], sweep):
            if postponed is not None:
                self._record_postponed(postponed, xs)
            self.core.backpropagate(self._internal(), sweep)
        self._postponed = None
        self._working = self._before = self.recorded = None
        if self._observers:
            self._report(instruction)

    def _report(self, instruction: TieredInstruction | None) -> None:
        for observer in self._observers:
            observer.after(instruction, self._working, self.recorded, self._store, self._slow_states)

    def newest(self) -> Hidden:
        """Return the working state, or what the working core gave."""
        if self._working is None:
            self._working = self._output(self._internal())
        return self._working

    def _restored(self, position: int) -> Hidden:
        """Return the hidden state at `position`, stored by itself or as the output of an internal state."""
        state = self._store.hidden.get(position)
        if state is None:
            return self._output(self._store.internal[position - 1])
        state.check(position)
        return state

    def _output(self, internal: Internal) -> Hidden:
        return self.core.compact(internal.output())

    def _internal(self) -> Internal:
        if self.recorded is None:
            raise AssertionError("the working core is empty: the stream is illegal")
        return self.recorded

    def _slow(self) -> SlowStates:
        if self._slow_states is None:
            raise AssertionError("there is no slow tier: the stream is illegal")
        return self._slow_states

    def close(self) -> None:
        """Release every stored state."""
        self._store.clear()
        if self._slow_states is not None:
            self._slow_states.close()
        self._working = self._before = self.recorded = self._postponed = None
        self._stream = iter(())
        for observer in self._observers:
            observer.close()
