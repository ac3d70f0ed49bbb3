"""Executes a stream of instructions in torch: for each, the tensors it means. No recurrence is computed here."""

from __future__ import annotations

from collections.abc import Iterator

from membptt.run.continuity import Sweep
from membptt.run.core import Core
from membptt.run.meter import Probe
from membptt.run.outputs import Outputs
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
    Restore,
    RestoreSlow,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    TieredInstruction,
)


class Execution:
    """One stream under way: the tensors behind the machine's working state, working core and slots.

    Args:
        core: runs the user's step.
        stream: the instructions, of which `forward` takes those before the first backward and `backward` the rest.
        start: the starting hidden state.
        probe: is told of every action.
        slow: the slow tier of a two-tier stream.
    """

    def __init__(
        self,
        core: Core,
        stream: Iterator[TieredInstruction],
        start: Hidden,
        probe: Probe | None = None,
        slow: SlowStates | None = None,
    ) -> None:
        self._core = core
        self._stream = stream
        self._store = Store(hidden={0: start})
        self._slow_states = slow
        self._working: Hidden | None = start
        self._recorded: Internal | None = None
        self._probe = probe
        self._reached = 0
        self.finished = False
        self._report(None)

    def forward(self, xs: Leaves, outputs: Outputs | None) -> Leaves:
        """Run up to the first backward instruction, whose step stays in the working core; return the final carry."""
        try:
            for instruction in self._stream:
                if instruction[0] is Backpropagate:
                    break
                self._execute(instruction, xs, outputs)
            return self._internal().carry_out
        except BaseException:
            self.close()
            raise

    def backward(self, xs: Leaves, sweep: Sweep) -> None:
        """Run the rest of the stream; every stored state is released, whatever happens."""
        try:
            self._backward_step((Backpropagate, (0,)), sweep)
            for instruction in self._stream:
                if instruction[0] is Backpropagate:
                    self._backward_step(instruction, sweep)
                else:
                    self._execute(instruction, xs, None)
        finally:
            self.close()

    def _execute(self, instruction: TieredInstruction, xs: Leaves, outputs: Outputs | None) -> None:
        kind, places = instruction
        place = places[0]
        if kind is Advance:
            self._advance(xs, place, places[1], outputs)
        elif kind is Record:
            self._recorded = self._core.record(self._state(), xs, place, outputs if place >= self._reached else None)
            self._working = None
            self._reached = max(self._reached, place + 1)
        elif kind is StoreHidden:
            self._store.hidden[place] = self._state()
        elif kind is Restore:
            self._working = self._store.restore(place)
            self._core.rewind(self._working)
        elif kind is DropHidden:
            del self._store.hidden[place]
        elif kind is StoreInternal:
            internal = self._internal()
            self._store.internal[place] = internal
            self._working, self._recorded = internal.output(), None
        elif kind is LoadInternal:
            self._working, self._recorded = None, self._store.internal.pop(place)
        elif kind is DropInternal:
            del self._store.internal[place]
        elif kind is StoreSlow:
            self._slow().store(place, self._state())
        elif kind is RestoreSlow:
            self._working = self._slow().restore(place)
            self._core.rewind(self._working)
        elif kind is DropSlow:
            self._slow().drop(place)
        else:
            raise AssertionError(f"{kind.__name__} is not executed here")
        self._report(instruction)

    def _advance(self, xs: Leaves, start: int, stop: int, outputs: Outputs | None) -> None:
        """Advance; only a core that runs for the first time gives outputs: a stream may run one twice before that."""
        again = min(stop, self._reached) if outputs is not None else start
        if start < again:
            self._working = self._core.advance(self._state(), xs, start, again)
        if max(start, again) < stop:
            self._working = self._core.advance(self._state(), xs, max(start, again), stop, outputs)
        self._reached = max(self._reached, stop)

    def _backward_step(self, instruction: TieredInstruction, sweep: Sweep) -> None:
        self._core.backpropagate(self._internal(), sweep)
        self._working = self._recorded = None
        self._report(instruction)

    def _report(self, instruction: TieredInstruction | None) -> None:
        if self._probe is not None:
            self._probe.after(instruction, self._working, self._recorded, self._store, self._slow_states)

    def _state(self) -> Hidden:
        if self._working is None:
            raise AssertionError("no working state: the stream is illegal")
        return self._working

    def _internal(self) -> Internal:
        if self._recorded is None:
            raise AssertionError("the working core is empty: the stream is illegal")
        return self._recorded

    def _slow(self) -> SlowStates:
        if self._slow_states is None:
            raise AssertionError("there is no slow tier: the stream is illegal")
        return self._slow_states

    def close(self) -> None:
        """Let go of every stored state."""
        self.finished = True
        self._store.clear()
        if self._slow_states is not None:
            self._slow_states.close()
        self._working = self._recorded = None
        self._stream = iter(())
        if self._probe is not None:
            self._probe.close()
