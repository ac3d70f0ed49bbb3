"""Executes a stream of actions in torch: for each action, the tensors it means. No recurrence is computed here."""

from __future__ import annotations

from collections.abc import Iterator

from membptt.adjoint import Adjoint
from membptt.core import Core
from membptt.meter import Probe
from membptt.outputs import Outputs
from membptt.slots import Hidden, Internal, Leaves, Slots
from membptt.tier import SlowStates
from membptt_theory.actions import (
    Advance,
    Backward,
    DropHidden,
    DropInternal,
    DropSlow,
    LoadInternal,
    Restore,
    RestoreSlow,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    Tape,
    TieredAction,
)


class Execution:
    """One stream under way: the tensors behind the machine's working state, working core and slots.

    Args:
        core: runs the user's step.
        stream: the actions, of which `forward` takes those before the first backward and `backward` the rest.
        start: the starting hidden state.
        probe: is told of every action.
        slow: the slow tier of a two-tier stream.
    """

    def __init__(
        self,
        core: Core,
        stream: Iterator[TieredAction],
        start: Hidden,
        probe: Probe | None = None,
        slow: SlowStates | None = None,
    ) -> None:
        self._core = core
        self._stream = stream
        self._slots = Slots(hidden={0: start}, slow=slow)
        self._working: Hidden | None = start
        self._taped: Internal | None = None
        self._probe = probe
        self.finished = False
        self._report(None)

    def forward(self, xs: Leaves, outputs: Outputs | None) -> Leaves:
        """Run up to the first backward action, whose step stays in the working core; return the final carry."""
        try:
            for action in self._stream:
                if isinstance(action, Backward):
                    break
                self._execute(action, xs, outputs)
            return self._internal().carry_out
        except BaseException:
            self._close()
            raise

    def backward(self, xs: Leaves, adjoint: Adjoint) -> None:
        """Run the rest of the stream; every stored state is let go of, whatever happens."""
        try:
            self._backward_step(Backward(0), adjoint)
            for action in self._stream:
                if isinstance(action, Backward):
                    self._backward_step(action, adjoint)
                else:
                    self._execute(action, xs, None)
        finally:
            self._close()

    def _execute(self, action: TieredAction, xs: Leaves, outputs: Outputs | None) -> None:
        match action:
            case Advance(start, stop):
                self._working = self._core.advance(self._state(), xs, start, stop, outputs)
            case Tape(step):
                self._taped = self._core.tape(self._state(), xs, step, outputs)
                self._working = None
            case StoreHidden(position):
                self._slots.hidden[position] = self._state()
            case StoreInternal(step):
                internal = self._internal()
                self._slots.internal[step] = internal
                self._working, self._taped = internal.output(), None
            case Restore(position):
                self._working = self._slots.restore(position)
                self._core.rewind(self._working)
            case LoadInternal(step):
                self._working, self._taped = None, self._slots.internal.pop(step)
            case DropHidden(position):
                del self._slots.hidden[position]
            case DropInternal(step):
                del self._slots.internal[step]
            case StoreSlow(position):
                self._slow().store(position, self._state())
            case RestoreSlow(position):
                self._working = self._slow().restore(position)
                self._core.rewind(self._working)
            case DropSlow(position):
                self._slow().drop(position)
            case Backward():
                raise AssertionError("backward actions are not executed here")
        self._report(action)

    def _backward_step(self, action: Backward, adjoint: Adjoint) -> None:
        self._core.backpropagate(self._internal(), adjoint)
        self._working = self._taped = None
        self._report(action)

    def _report(self, action: TieredAction | None) -> None:
        if self._probe is not None:
            self._probe.after(action, self._working, self._taped, self._slots)

    def _state(self) -> Hidden:
        if self._working is None:
            raise AssertionError("no working state: the stream is illegal")
        return self._working

    def _internal(self) -> Internal:
        if self._taped is None:
            raise AssertionError("the working core is empty: the stream is illegal")
        return self._taped

    def _slow(self) -> SlowStates:
        if self._slots.slow is None:
            raise AssertionError("there is no slow tier: the stream is illegal")
        return self._slots.slow

    def _close(self) -> None:
        self.finished = True
        self._slots.clear()
        self._working = self._taped = None
        self._stream = iter(())
        if self._probe is not None:
            self._probe.close()
