"""What a call executes: a schedule that is known as a whole, or a loop for as long as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import torch

from membptt.run.core import Core
from membptt.run.execution import AtHand
from membptt.run.outputs import Outputs
from membptt.state.leaves import Leaves
from membptt.state.states import Hidden
from membptt_theory.actions import Record, TieredInstruction
from membptt_theory.online import Stream

_FIRST_DUE: Final = 2  # nothing is stored before this core: the slots need not be known earlier


class Course(Protocol):
    """What a call executes."""

    @property
    def cores(self) -> int:
        """The cores that it backpropagates, once the first pass is over."""

    def instructions(self, at_hand: AtHand, /) -> Iterator[TieredInstruction]:
        """Yield the instructions of one execution, each once the one before it was executed."""

    def advance(self, core: Core, start: Hidden, xs: Leaves, outputs: Outputs, /) -> Hidden:
        """Run all cores without graph; nothing is stored, nothing goes back."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A stream that is known as a whole.

    Args:
        cores: that it backpropagates.
        stream: gives its instructions, again at every call.
    """

    cores: int
    stream: Callable[[], Iterator[TieredInstruction]]

    def instructions(self, at_hand: AtHand, /) -> Iterator[TieredInstruction]:
        """Yield them."""
        del at_hand
        return self.stream()

    def advance(self, core: Core, start: Hidden, xs: Leaves, outputs: Outputs, /) -> Hidden:
        """Run all cores without graph."""
        return core.advance(start, xs, 0, self.cores, outputs)


class Loop:
    """A loop whose end is asked for, once a core; its states are stored by an online policy.

    Each new core is recorded, since it may be the last one, and only the newest graph is kept. Once the length is known
    nothing is asked any more: a further execution runs as many cores, and does just what the first one did.

    Args:
        goes_on: ``goes_on(cores, state, core)``: whether, after so many cores that led to `state`, there is another;
            `core` runs them.
        slots: gives the slots, once, by what is at hand when they are first needed: the second core, or the only one.

    Attributes:
        cores: how many there were, once the first pass is over.

    Ref: `membptt_theory.online`.
    """

    def __init__(self, goes_on: Callable[[int, Hidden, Core], bool], slots: Callable[[AtHand], int]) -> None:
        self._goes_on = goes_on
        self._slots = slots
        self._settled: int | None = None
        self._ended = False
        self.cores = 0

    def instructions(self, at_hand: AtHand, /) -> Iterator[TieredInstruction]:
        """Yield those of one execution, which may not be over before the loop is."""
        at, stream = 0, None
        while at < self.cores if self._ended else self._asked(at, at_hand):
            if at == _FIRST_DUE:
                stream = self._stream(at_hand)
            if stream is not None and at == stream.due:
                yield from stream.before(at)
            yield Record, (at,)
            at += 1
        self.cores, self._ended = at, True
        if at:
            stream = stream or self._stream(at_hand)
            del at_hand  # it holds what runs here
            yield from stream.end(at)

    def advance(self, core: Core, start: Hidden, xs: Leaves, outputs: Outputs, /) -> Hidden:
        """Run the loop without graph."""
        state = start
        while self._goes_on(self.cores, state, core):
            state = core.advance(state, xs, self.cores, self.cores + 1, outputs)
            self.cores += 1
        return state

    def _asked(self, at: int, at_hand: AtHand) -> bool:
        with torch.enable_grad():  # what is read for the next core is recorded with it
            return self._goes_on(at, at_hand.newest(), at_hand.core)

    def _stream(self, at_hand: AtHand) -> Stream:
        if self._settled is None:
            self._settled = self._slots(at_hand)
        return Stream(self._settled)
