"""What a call executes: a schedule that is known as a whole, or a loop for as long as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

import torch

from membptt.run.core import Core
from membptt.run.execution import AtHand
from membptt.run.linked import linked
from membptt.run.outputs import Outputs
from membptt.state.leaves import Leaves
from membptt.state.states import Hidden
from membptt_theory.actions import Instruction, Record, TieredInstruction
from membptt_theory.online import Stream
from membptt_theory.schedule import Schedule

_WEIGHED: Final = 2  # before this core a budget becomes slots: of the second one it is known what it takes


class Course(Protocol):
    """What a call executes."""

    @property
    def cores(self) -> int:
        """The cores that it backpropagates, once the first pass is over."""

    def instructions(self, at_hand: AtHand, /) -> Iterator[TieredInstruction]:
        """Yield the instructions of one execution, each once the one before it was executed."""

    def advance(self, core: Core, start: Hidden, xs: Leaves, outputs: Outputs, /) -> Hidden:
        """Run all cores without graph; nothing is stored, nothing goes back."""


class Whole(NamedTuple):
    """A stream that is known as a whole.

    Args:
        cores: that it backpropagates.
        stream: gives its instructions, again at every call.
        schedule: of a chain, whose blocks may be linked; otherwise ``None``.
    """

    cores: int
    stream: Callable[[], Iterator[TieredInstruction]]
    schedule: Schedule | None = None

    def instructions(self, at_hand: AtHand, /) -> Iterator[TieredInstruction]:
        """Yield them."""
        ends, schedule = at_hand.ends, self.schedule
        del at_hand  # it holds what runs here
        return self.stream() if ends is None or schedule is None else linked(schedule, ends)

    def advance(self, core: Core, start: Hidden, xs: Leaves, outputs: Outputs, /) -> Hidden:
        """Run all cores without graph."""
        return core.advance(start, xs, 0, self.cores, outputs)


class Slots(NamedTuple):
    """What a loop may store.

    Args:
        hidden: slots, each of a hidden state.
        internal: alpha, slots of an internal state; ``None`` where hidden states only are stored.
    """

    hidden: int
    internal: int | None = None


class Loop:
    """A loop whose end is asked for, once a core; its states are stored by an online policy.

    Each new core is recorded, since it may be the last one, and only the newest graph is kept, beside those that are
    stored as internal states. Once the length is known nothing is asked any more: a further execution runs as many
    cores, and does just what the first one did.

    Args:
        goes_on: ``goes_on(cores, state, core)``: whether, after so many cores that led to `state`, there is another;
            `core` runs them.
        room: gives the slots and, where internal states are stored too, alpha: once, by what is at hand before core
            `settled`, or at the end.
        settled: 2 where the second core is weighed for it. Nothing is stored before but for what `first` says.
        first: what is done before core 1, in any room that may be given at core 2.

    Attributes:
        cores: how many there were, once the first pass is over.

    Ref: `membptt_theory.online`.
    """

    def __init__(
        self,
        goes_on: Callable[[int, Hidden, Core], bool],
        room: Callable[[AtHand], Slots],
        *,
        settled: int = _WEIGHED,
        first: tuple[Instruction, ...] = (),
    ) -> None:
        self._goes_on = goes_on
        self._room = room
        self._settled_at = settled
        self._first = first
        self._settled: Slots | None = None
        self._ended = False
        self.cores = 0

    def instructions(self, at_hand: AtHand, /) -> Iterator[TieredInstruction]:
        """Yield those of one execution, which may not be over before the loop is."""
        at, stream = 0, None
        while at < self.cores if self._ended else self._asked(at, at_hand):
            if at == self._settled_at:
                stream = self._stream(at, at_hand)
            if stream is not None and at == stream.due:
                yield from stream.before(at)
            elif at == 1:
                yield from self._first
            yield Record, (at,)
            at += 1
        self.cores, self._ended = at, True
        if at:
            stream = stream or self._stream(at, at_hand)
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

    def _stream(self, at: int, at_hand: AtHand) -> Stream:
        if self._settled is None:
            self._settled = self._room(at_hand)
        stream = Stream(self._settled.hidden, internal=self._settled.internal)
        while stream.due < at:
            stream.before(stream.due)  # was done already, by `first`
        return stream
