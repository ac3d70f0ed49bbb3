"""A stream of actions laid out in time, to be drawn: what runs when, what is stored for how long, memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, cast

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
    Sizes,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    TieredAction,
)
from membptt_theory.machine import Machine, TieredMachine

if TYPE_CHECKING:
    from membptt_theory.actions import Action


def timeline(actions: Iterable[TieredAction], *, steps: int, sizes: Sizes, start_slow: bool = False) -> Timeline:
    """Execute a complete stream on paper and note when everything happens.

    Time counts forwards and backwards of single steps; storing, restoring and dropping take none.

    Args:
        actions: the stream, for example a `Schedule`.
        steps: ``t``, the length of the sequence.
        sizes: slots of each kind of stored state; in two tiers, of hidden states only, one each.
        start_slow: the starting state is stored in the slow tier.

    Raises:
        IllegalActionError: names the action, its index and the machine's state.

    Claim: metered-cost-equals-table.
    """
    one_each = sizes == Sizes(hidden=1, internal=None)
    machine = TieredMachine(steps, start_slow=start_slow) if one_each else Machine(steps, sizes)
    cells: list[Cell] = []
    memory: list[int] = []
    hidden: list[Stored] = []
    internal: list[Stored] = []
    slow: list[Stored] = []
    restarts: list[Restart] = []
    since = {("slow" if start_slow else "hidden", 0): 0}
    for action in actions:
        machine.execute(cast("Action", action))  # a machine of one tier refuses the others itself
        now = len(cells)
        match action:
            case Advance(start, stop):
                cells += [Cell(step, Kind.ADVANCED) for step in range(start, stop)]
            case Record(step):
                cells.append(Cell(step, Kind.RECORDED))
            case Backpropagate(step):
                cells.append(Cell(step, Kind.BACK))
            case StoreHidden(position):
                since["hidden", position] = now
            case DropHidden(position):
                hidden.append(Stored(position, since.pop(("hidden", position)), now))
            case StoreInternal(step):
                since["internal", step] = now
            case LoadInternal(step) | DropInternal(step):
                internal.append(Stored(step, since.pop(("internal", step)), now))
            case ReduceInternal(step):
                internal.append(Stored(step, since.pop(("internal", step)), now))
                since["hidden", step] = now
            case StoreSlow(position):
                since["slow", position] = now
            case DropSlow(position):
                slow.append(Stored(position, since.pop(("slow", position)), now))
            case Restore(position) | RestoreSlow(position):
                restarts.append(Restart(position, now))
        memory += [machine.used] * (len(cells) - now)
    machine.finish()
    return Timeline(steps, tuple(cells), tuple(memory), tuple(hidden), tuple(internal), tuple(restarts), tuple(slow))


class Kind(StrEnum):
    """What is done to one step at one time."""

    ADVANCED = "advanced"
    RECORDED = "recorded"
    BACK = "backpropagated"


class Cell(NamedTuple):
    """One step at one time."""

    step: int
    kind: Kind


class Stored(NamedTuple):
    """A state in a slot: the hidden state at position `place`, or the internal state of step `place`."""

    place: int
    since: int
    until: int


class Restart(NamedTuple):
    """A stored state becomes the working state at `time`."""

    position: int
    time: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """One stream in time.

    Args:
        steps: ``t``.
        cells: what runs at each time, in order.
        memory: slots in use meanwhile, of the fast tier where there are two; as long as `cells`.
        hidden: stored hidden states, in the order in which they are dropped.
        internal: stored internal states, likewise.
        restarts: in order.
        slow: hidden states stored in the slow tier, as `hidden`.
    """

    steps: int
    cells: tuple[Cell, ...]
    memory: tuple[int, ...]
    hidden: tuple[Stored, ...]
    internal: tuple[Stored, ...]
    restarts: tuple[Restart, ...]
    slow: tuple[Stored, ...] = ()

    @property
    def forwards(self) -> int:
        """Forward evaluations, first pass and recomputation together."""
        return len(self.cells) - self.steps

    @property
    def peak(self) -> int:
        """Largest number of slots in use while a step runs."""
        return max(self.memory)
