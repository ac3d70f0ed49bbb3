"""The abstract machine: executes a stream of actions on paper, and refuses every illegal move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from membptt_theory.actions import (
    Advance,
    Backpropagate,
    Block,
    DropHidden,
    DropInternal,
    DropSlow,
    LoadInternal,
    Prices,
    Record,
    ReduceInternal,
    Restore,
    RestoreSlow,
    Sizes,
    Skip,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    TieredAction,
)


class IllegalActionError(ValueError):
    """A stream asked for something the machine's state does not allow, or ended too early."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a stream cost.

    Args:
        forwards: forward evaluations, first pass and recomputation together.
        recorded: those of them that recorded a graph.
        peak: largest number of slots in use at any time.
        actions: length of the stream.
    """

    forwards: int
    recorded: int
    peak: int
    actions: int


def meter(actions: Iterable[TieredAction], *, steps: int, sizes: Sizes) -> Report:
    """Execute `actions` on paper: each step backpropagated exactly once, in reverse, from stored states only.

    Args:
        actions: the stream.
        steps: ``t``, the length of the sequence.
        sizes: slots of each kind of stored state, usually ``table.sizes``.

    Raises:
        IllegalActionError: names the action, its index and the machine's state.

    Claim: metered-cost-equals-table.
    """
    machine = Machine(steps, sizes)
    for action in actions:
        machine.execute(action)
    return machine.finish()


class Machine:
    """State: the working position, the working core, the stored states, the next step to backpropagate.

    An internal state is charged ``sizes.internal_known`` while its input hidden state is stored (by itself or as the
    output of the internal state before it), ``sizes.internal`` otherwise. The charge follows that state: dropping the
    input makes the internal state larger from then on.
    """

    def __init__(self, steps: int, sizes: Sizes) -> None:
        self.steps = steps
        self.sizes = sizes
        self.position: int | None = 0
        self.core: int | None = None
        self.hidden: set[int] = {0} if sizes.hidden is not None else set()
        self.internal: set[int] = set()
        self.next_backward = steps - 1
        self.forwards = self.recorded = self.count = 0
        self.used = self.peak = sizes.hidden or 0

    def execute(self, action: TieredAction) -> None:
        """Carry out one action.

        Raises:
            IllegalActionError: the action is not possible now.
        """
        match action:
            case Advance(start, stop):
                self._need(self.core is None, action, "the working core is busy")
                self._need(self.position == start, action, f"the working state is not at position {start}")
                self._need(start < stop <= self.steps, action, f"it must end in {start + 1} .. {self.steps}")
                self.position = stop
                self.forwards += stop - start
            case Record(step):
                self._need(self.core is None, action, "the working core is busy")
                self._need(self.position == step, action, f"the working state is not at position {step}")
                self._need(step < self.steps, action, f"there is no step {step}")
                self.position, self.core = step + 1, step
                self.forwards += 1
                self.recorded += 1
            case Backpropagate(step):
                self._need(self.core == step, action, f"the working core does not hold step {step}")
                self._need(self.next_backward == step, action, f"the next step backward is {self.next_backward}")
                self.core = self.position = None
                self.next_backward -= 1
            case StoreHidden(position):
                self._need(self.sizes.hidden is not None, action, "hidden states cannot be stored by this policy")
                self._need(self.core is None, action, "the working core is busy")
                self._need(self.position == position, action, f"the working state is not at position {position}")
                self._need(position not in self.hidden, action, "that hidden state is stored already")
                self._change(self.hidden, position, add=True)
            case StoreInternal(step):
                self._need(self.sizes.internal is not None, action, "internal states cannot be stored by this policy")
                self._need(self.core == step, action, f"the working core does not hold step {step}")
                self._need(step not in self.internal, action, "that internal state is stored already")
                self.core = None
                self._change(self.internal, step, add=True)
            case Restore(position):
                self._need(self.core is None, action, "the working core is busy")
                free_start = position == 0 and self.sizes.hidden is None
                stored = position in self.hidden or position - 1 in self.internal
                self._need(stored or free_start, action, "no stored state has that position")
                self.position = position
            case LoadInternal(step):
                self._need(self.core is None, action, "the working core is busy")
                self._need(step in self.internal, action, "that internal state is not stored")
                self._change(self.internal, step, add=False)
                self.position, self.core = step + 1, step
            case DropHidden(position):
                self._need(position in self.hidden, action, "that hidden state is not stored")
                self._change(self.hidden, position, add=False)
            case DropInternal(step):
                self._need(step in self.internal, action, "that internal state is not stored")
                self._change(self.internal, step, add=False)
            case ReduceInternal(step):
                self._need(self.sizes.hidden is not None, action, "hidden states cannot be stored by this policy")
                self._need(step in self.internal, action, "that internal state is not stored")
                self._need(step not in self.hidden, action, "its input is stored already: drop the internal state")
                self._change(self.internal, step, add=False)
                self._change(self.hidden, step, add=True)
            case _:
                self._need(False, action, "this machine does not know that action")
        self.count += 1

    def finish(self) -> Report:
        """Return the report of a complete stream.

        Raises:
            IllegalActionError: steps are left to backpropagate, or a slot was never freed.
        """
        if self.next_backward >= 0:
            raise IllegalActionError(
                f"the stream ended with step {self.next_backward} not backpropagated; {self._state()}"
            )
        if self.hidden or self.internal:
            raise IllegalActionError(f"the stream ended with slots in use; {self._state()}")
        return Report(self.forwards, self.recorded, self.peak, self.count)

    def _change(self, kind: set[int], key: int, *, add: bool) -> None:
        # A hidden state at `key` is the input of internal state `key`; an internal state there holds the next one's.
        before = self._charge(key)
        (kind.add if add else kind.remove)(key)
        self.used += self._charge(key) - before
        self.peak = max(self.peak, self.used)

    def _charge(self, key: int) -> int:
        total = (self.sizes.hidden or 0) * (key in self.hidden)
        for step in (key, key + 1):
            if step in self.internal:
                known = step in self.hidden or step - 1 in self.internal
                size = self.sizes.internal_known if known and self.sizes.internal_known else self.sizes.internal
                total += size or 0
        return total

    def _need(self, holds: bool, action: TieredAction, why: str) -> None:
        if not holds:
            raise IllegalActionError(f"action {self.count}, {action}: {why}; {self._state()}")

    def _state(self) -> str:
        core = "empty" if self.core is None else f"step {self.core}"
        return (
            f"state: working position {self.position}, working core {core}, hidden states {sorted(self.hidden)}, "
            f"internal states {sorted(self.internal)}, next step backward {self.next_backward}"
        )


@dataclass(frozen=True, slots=True)
class TieredReport(Report):
    """What a two-tier stream cost; `peak` is that of the fast tier.

    Args:
        slow_peak: largest number of slots of the slow tier in use at any time.
        writes: stores to the slow tier.
        reads: restarts from the slow tier.
    """

    slow_peak: int
    writes: int
    reads: int

    def cost(self, prices: Prices, /) -> int:
        """Return forwards, writes and reads, each at its price."""
        return prices.forward * self.forwards + prices.write * self.writes + prices.read * self.reads


def meter_tiers(actions: Iterable[TieredAction], *, steps: int, start_slow: bool = False) -> TieredReport:
    """Execute a two-tier stream on paper.

    Args:
        actions: the stream.
        steps: ``t``, the length of the sequence.
        start_slow: the starting state is stored in the slow tier, else in the fast one.

    Raises:
        IllegalActionError: names the action, its index and the machine's state.

    Claim: tiers-metered-cost-equals-table.
    """
    machine = TieredMachine(steps, start_slow=start_slow)
    for action in actions:
        machine.execute(action)
    return machine.finish()


class TieredMachine(Machine):
    """A machine for hidden states with a second set of slots, which is charged by the transfer."""

    def __init__(self, steps: int, *, start_slow: bool = False) -> None:
        super().__init__(steps, Sizes(hidden=1, internal=None))
        self.slow: set[int] = set()
        self.slow_peak = self.writes = self.reads = 0
        if start_slow:
            self.hidden, self.slow = self.slow, self.hidden
            self.used, self.peak, self.slow_peak = 0, 0, 1

    def execute(self, action: TieredAction) -> None:
        """Carry out one action.

        Raises:
            IllegalActionError: the action is not possible now.
        """
        match action:
            case StoreSlow(position):
                self._need(self.core is None, action, "the working core is busy")
                self._need(self.position == position, action, f"the working state is not at position {position}")
                self._need(position not in self.slow, action, "the slow tier holds that hidden state already")
                self.slow.add(position)
                self.writes += 1
                self.slow_peak = max(self.slow_peak, len(self.slow))
            case RestoreSlow(position):
                self._need(self.core is None, action, "the working core is busy")
                self._need(position in self.slow, action, "the slow tier does not hold that hidden state")
                self.position = position
                self.reads += 1
            case DropSlow(position):
                self._need(position in self.slow, action, "the slow tier does not hold that hidden state")
                self.slow.remove(position)
            case _:
                super().execute(action)
                return
        self.count += 1

    def finish(self) -> TieredReport:
        """Return the report of a complete stream.

        Raises:
            IllegalActionError: steps are left to backpropagate, or a slot of either tier was never freed.
        """
        report = super().finish()
        if self.slow:
            raise IllegalActionError(f"the stream ended with slots in use; {self._state()}")
        return TieredReport(
            report.forwards, report.recorded, report.peak, report.actions, self.slow_peak, self.writes, self.reads
        )

    def _state(self) -> str:
        return f"{super()._state()}, hidden states of the slow tier {sorted(self.slow)}"


@dataclass(frozen=True, slots=True)
class ChainReport(Report):
    """What a stream cost on a chain of blocks; `peak` counts stored states.

    Args:
        cost: of all forwards and backwards.
        bytes: the largest number of bytes alive at any moment.
    """

    cost: int
    bytes: int


def meter_chain(actions: Iterable[TieredAction], blocks: Sequence[Block], skips: Sequence[Skip] = ()) -> ChainReport:
    """Execute a stream on paper, on blocks that each have their own costs and bytes.

    Args:
        actions: the stream.
        blocks: the chain; its input is the caller's and takes no bytes.
        skips: the tensors that several of its states hold.

    Raises:
        IllegalActionError: names the action, its index and the machine's state.

    Claim: front-metered, front-skips-metered.
    """
    machine = ChainMachine(blocks, skips)
    for action in actions:
        machine.execute(action)
    return machine.finish()


class ChainMachine(Machine):
    """A machine that weighs everything alive: states, working state, working core, gradient, and what a block needs.

    A tensor is counted once, whoever holds it: output ``p`` may be stored by itself, be the working state, and belong
    to the internal states of the blocks before and after it; a skip may belong to any number of states besides. From
    the first backward on, the gradient of the state at the next position to go backward is alive; that of the chain's
    input is the caller's.
    """

    def __init__(self, blocks: Sequence[Block], skips: Sequence[Skip] = ()) -> None:
        self.blocks = tuple(blocks)
        self.cost = self.stored_bytes = self.peak_bytes = 0
        positions = range(len(self.blocks) + 1)
        handed = [[index for index, skip in enumerate(skips) if skip.first <= p <= skip.last] for p in positions]
        # The tensors of the state at each position: a number, its own, for all that no other state holds; and skips.
        self.tensors = [(p, *(len(positions) + index for index in handed[p])) for p in positions]
        own = [block.output - sum(skips[index].bytes for index in handed[p + 1]) for p, block in enumerate(self.blocks)]
        self.tensor_bytes = (0, *own, *(skip.bytes if skip.first else 0 for skip in skips))
        self.gradients = (0, *(block.output_gradient for block in self.blocks))  # by position
        self.holders: Counter[int] = Counter()  # of each tensor, among what is stored
        super().__init__(len(self.blocks), Sizes(hidden=1, internal=1))

    def execute(self, action: TieredAction) -> None:
        """Carry out one action.

        Raises:
            IllegalActionError: the action is not possible now.
        """
        before = self._alive(self.position)
        super().execute(action)
        match action:
            case Advance(start, stop):
                for step in range(start, stop):
                    block = self.blocks[step]
                    self.cost += block.advance
                    self._weigh(self._alive(step, step + 1) + block.advance_need)
            case Record(step):
                self.cost += self.blocks[step].record
                self._weigh(self._alive(self.position) + self.blocks[step].record_need)
            case Backpropagate(step):
                self.cost += self.blocks[step].backward
                # Only the gradient of the last output is new: that of every earlier one was counted while it waited.
                first = self.gradients[self.steps] if step == self.steps - 1 else 0
                self._weigh(before + first + self.blocks[step].backward_need)
        self._weigh(self._alive(self.position))

    def finish(self) -> ChainReport:
        """Return the report of a complete stream.

        Raises:
            IllegalActionError: steps are left to backpropagate, or a state was never dropped.
        """
        report = super().finish()
        return ChainReport(
            report.forwards, report.recorded, report.peak, report.actions, cost=self.cost, bytes=self.peak_bytes
        )

    def _weigh(self, total: int) -> None:
        self.peak_bytes = max(self.peak_bytes, total)

    def _alive(self, *positions: int | None) -> int:
        """Bytes alive where the working states are at `positions`."""
        working = {position for position in positions if position is not None}
        total = self.stored_bytes
        if self.core is not None:
            working |= {self.core, self.core + 1}
            total += self.blocks[self.core].internal
        if self.next_backward < self.steps - 1:
            total += self.gradients[self.next_backward + 1]
        tensors = {tensor for position in working for tensor in self.tensors[position]}
        return total + sum(self.tensor_bytes[tensor] for tensor in tensors if not self.holders[tensor])

    def _change(self, kind: set[int], key: int, *, add: bool) -> None:
        super()._change(kind, key, add=add)
        sign = 1 if add else -1
        held = [key]
        if kind is self.internal:
            held = [key, key + 1]
            self.stored_bytes += sign * self.blocks[key].internal
        for tensor in (tensor for position in held for tensor in self.tensors[position]):
            self.holders[tensor] += sign
            if self.holders[tensor] == add:  # the first to hold it, or none is left
                self.stored_bytes += sign * self.tensor_bytes[tensor]
