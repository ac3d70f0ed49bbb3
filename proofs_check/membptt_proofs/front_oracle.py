"""The referees of chains that may keep outputs and internal states: they import the vocabulary, nothing else of ours.

- `naive_front`: the equation between fronts, pair by pair.
- `searched_front`: the front over every schedule, by a shortest path over single actions. A label is (cost, bytes);
  labels are settled by cost, and one that needs no fewer bytes than an earlier one of its state is dropped.
- `objects_peak`: the peak of one schedule whose tensors are objects, as in torch: one that is made again is another.
- `beaumont_costs`: the recurrence of Beaumont et al. as their solver has it, in slots.

Tensors are counted by name, whoever holds them. That could favour a schedule that makes a tensor again while the first
one is alive, which takes twice its bytes; none that the front gives does, as `objects_peak` shows.

A state of the search is the number of blocks left to go backward, the working position (or none), the stored outputs
and the stored internal states, as bit masks. Three classes of schedules: *all*; *persistent*, where what is stored
stays until its block has gone backward, and the last block that is left goes backward as soon as its internal state is
at hand; and *nested*, where a state is stored behind all those that are stored. Of all moves these are left out, as
none of them can help: advancing over the last block that is left, storing its internal state, dropping anything between
a record and what is done with its core.

What is alive is counted as `membptt_theory.machine.ChainMachine` counts it. Beaumont et al. count, in a part from
stage ``s`` to stage ``t`` whose input is held by somebody else, and with ``a`` the size of an output and of its
gradient, ``A`` that of an output with everything recorded, ``f`` and ``b`` what a stage needs besides,

    while one stage is recorded or goes backward    a_(s+1) + A_(s+1) + max(f_s, b_s)
    in a part of two or more, whatever is done      a_(t+1) + max(a_(s+1) + f_s, a_j + a_(j+1) + f_j for s < j < t)

So theirs asks for the room to advance to the last stage but one of a part even where the part does not, and while a
stage is recorded counts its own output's gradient, which is not there yet, instead of the one that waits at ``t+1``.

Ref: gruslys2016, appendix C; beaumont2019.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple, TypeAlias

from membptt_theory.actions import (
    Action,
    Advance,
    Backpropagate,
    Block,
    DropHidden,
    DropInternal,
    LoadInternal,
    Record,
    Restore,
    Skip,
    StoreHidden,
    StoreInternal,
    TieredAction,
)

Point: TypeAlias = tuple[int, int]  # bytes and cost
Tensor: TypeAlias = tuple[int, int, int]  # position of the first state that holds it, bytes, number among the skips
State: TypeAlias = dict[Tensor, object]


def naive_front(blocks: Sequence[Block], /, skips: Sequence[Skip] = ()) -> list[Point]:
    """Return the front of a chain over persistent schedules, the fewest bytes first."""
    tensors = _tensors(blocks, skips)
    gradient = [0, *(block.output_gradient for block in blocks)]

    def beyond(start: int, *positions: int) -> int:
        """Bytes of the states at `positions` that were made after that at `start`."""
        return sum(size for first, size, _ in set[Tensor]().union(*(tensors[p] for p in positions)) if first > start)

    @cache
    def part(start: int, stop: int) -> list[Point]:
        block = blocks[start]
        graph = block.internal + beyond(start, start + 1)
        waiting = gradient[stop] if stop < len(blocks) else 0
        recording = graph + block.record_need + waiting
        backward = graph + gradient[start + 1] + block.backward_need
        around, own = max(recording, backward), block.record + block.backward
        if stop == start + 1:
            return [(around, own)]
        pairs = [(max(around, graph + room), own + cost) for room, cost in part(start + 1, stop)]
        for split in range(start + 1, stop):
            passed = range(start, split)
            spent = sum(blocks[step].advance for step in passed)
            run = max(beyond(start, step, step + 1) + blocks[step].advance_need for step in passed)
            pairs += [
                (max(run + waiting, beyond(start, split) + right, left), spent + right_cost + left_cost)
                for right, right_cost in part(split, stop)
                for left, left_cost in part(start, split)
            ]
        return _front(pairs)

    return part(0, len(blocks))


class Rest(NamedTuple):
    """A state of the search: ``at`` is -1 where there is no working state."""

    left: int
    at: int
    outputs: int
    internal: int


Move: TypeAlias = tuple[int, int, Rest, tuple[Action, ...]]  # cost, bytes at its peak, what comes after, how


def searched_front(
    blocks: Sequence[Block], /, skips: Sequence[Skip] = (), *, persistent: bool = False, nested: bool = False
) -> list[tuple[int, int, list[Action]]]:
    """Return the front of a chain over all schedules, each point with a schedule, the fewest bytes first.

    Args:
        blocks: the chain; time and memory grow as ``3**n``, five blocks take about a second.
        skips: the tensors that several of its states hold.
        persistent: only schedules that drop nothing before its block has gone backward, and let no backward wait.
        nested: only schedules that store a state behind all those that are stored.

    Claim: front-optimal, front-beyond-persistent, front-skips-optimal, front-skips-beyond-nested.
    """
    search = _Search(blocks, skips, persistent, nested)
    first = Rest(len(blocks), 0, 0, 0)
    heap: list[tuple[int, int, int, Rest]] = [(0, 0, 0, first)]
    came: list[tuple[int, tuple[Action, ...]]] = [(-1, ())]  # of each label, the one before it and the actions between
    least: dict[Rest, int] = {}
    enough = sum(block.output + block.internal + block.output_gradient for block in blocks) * 3
    enough += sum(map(_needs, blocks))
    front: list[tuple[int, int, list[Action]]] = []
    while heap:
        cost, peak, label, rest = heapq.heappop(heap)
        if peak >= least.get(rest, enough + 1) or (front and peak >= front[-1][0]):
            continue
        least[rest] = peak
        if not rest.left:
            front.append((peak, cost, [*_trace(came, label), DropHidden(0)]))
            continue
        for extra, during, after, actions in search.moves(rest):
            if max(peak, during) < least.get(after, enough + 1):
                heapq.heappush(heap, (cost + extra, max(peak, during), len(came), after))
                came.append((label, actions))
    return front[::-1]


class _Search:
    def __init__(self, blocks: Sequence[Block], skips: Sequence[Skip], persistent: bool, nested: bool) -> None:
        self.blocks = blocks
        self.persistent, self.nested = persistent, nested
        tensors = _tensors(blocks, skips)
        held = (set[Tensor]().union(*(tensors[q] for q in _bits(mask))) for mask in range(2 ** (len(blocks) + 1)))
        self.states = [sum(size for first, size, _ in each if first) for each in held]
        self.graphs = [sum(blocks[i].internal for i in _bits(mask)) for mask in range(2 ** len(blocks))]

    def alive(self, left: int, outputs: int, internal: int, *working: int) -> int:
        """Bytes of what is stored, of working states and of the gradient that waits."""
        held = outputs | internal | internal << 1
        for position in working:
            held |= 1 << position
        waiting = self.blocks[left - 1].output_gradient if 0 < left < len(self.blocks) else 0
        return self.states[held] + self.graphs[internal] + waiting

    def moves(self, rest: Rest) -> Iterator[Move]:
        left, at, outputs, internal = rest
        blocks = self.blocks
        if internal >> left - 1 & 1:
            yield self._backward(rest, LoadInternal(left - 1), 0, 0)
            if self.persistent:
                return
        starts = (1 | outputs | internal << 1) & ~(1 << at if at >= 0 else 0)
        for q in _bits(starts & ((1 << left) - 1)):
            yield 0, 0, Rest(left, q, outputs, internal), (Restore(q),)
        if not self.persistent:
            for q in _bits(outputs):
                yield 0, 0, Rest(left, at, outputs ^ 1 << q, internal), (DropHidden(q),)
            for i in _bits(internal):
                yield 0, 0, Rest(left, at, outputs, internal ^ 1 << i), (DropInternal(i),)
        if not 0 <= at < left:
            return
        behind = not self.nested or not (outputs | internal << 1) >> at + 1
        if at and behind and not outputs >> at & 1:
            yield 0, 0, Rest(left, at, outputs | 1 << at, internal), (StoreHidden(at),)
        if at < left - 1:
            during = self.alive(left, outputs, internal, at, at + 1) + blocks[at].advance_need
            yield blocks[at].advance, during, Rest(left, at + 1, outputs, internal), (Advance(at, at + 1),)
        if not internal >> at & 1:
            during = self.alive(left, outputs, internal | 1 << at) + blocks[at].record_need
            if at == left - 1:
                yield self._backward(rest, Record(at), blocks[at].record, during)
            elif behind:
                after = Rest(left, at + 1, outputs, internal | 1 << at)
                yield blocks[at].record, during, after, (Record(at), StoreInternal(at))

    def _backward(self, rest: Rest, how: Action, cost: int, recording: int) -> Move:
        """Backpropagate the last block that is left; what only it needed is dropped."""
        left, _, outputs, internal = rest
        last, block = left - 1, self.blocks[left - 1]
        during = self.alive(left, outputs, internal | 1 << last) + block.backward_need
        if left == len(self.blocks):
            during += block.output_gradient
        drop = (DropHidden(last),) if outputs >> last & 1 else ()
        after = Rest(last, -1, outputs & ~(1 << last), internal & ~(1 << last))
        return cost + block.backward, max(recording, during), after, (how, Backpropagate(last), *drop)


def _tensors(blocks: Sequence[Block], skips: Sequence[Skip]) -> list[set[Tensor]]:
    """Return the tensors of each state: what only that one holds, and its skips."""
    tensors: list[set[Tensor]] = [set()]
    for position, block in enumerate(blocks, 1):
        handed = {
            (skip.first, skip.bytes, index) for index, skip in enumerate(skips) if skip.first <= position <= skip.last
        }
        tensors.append(handed | {(position, block.output - sum(size for _, size, _ in handed), -1)})
    return tensors


def objects_peak(actions: Iterable[TieredAction], blocks: Sequence[Block], skips: Sequence[Skip] = (), /) -> int:
    """Return the most bytes that are alive at once, where a tensor is an object and lives as long as a holder.

    Args:
        actions: a legal stream.
        blocks: the chain.
        skips: the tensors that several of its states hold.

    Claim: front-skips-metered.
    """
    tensors = _tensors(blocks, skips)
    working: State = {}
    outputs: dict[int, State] = {0: {}}
    graphs: dict[int, tuple[State, State]] = {}
    core: dict[int, tuple[State, State]] = {}
    left = len(blocks)

    def after(step: int, state: State) -> State:
        return {tensor: state.get(tensor) or object() for tensor in tensors[step + 1]}

    def alive(*states: State) -> int:
        recorded = graphs | core
        held = [*states, *outputs.values(), *(state for pair in recorded.values() for state in pair)]
        objects = {id(each): size for state in held for (first, size, _), each in state.items() if first}
        waiting = blocks[left - 1].output_gradient if 0 < left < len(blocks) else 0
        return sum(objects.values()) + sum(blocks[step].internal for step in recorded) + waiting

    peaks = []
    for action in actions:
        match action:
            case Advance(start, stop):
                for step in range(start, stop):
                    before, working = working, after(step, working)
                    peaks.append(alive(before, working) + blocks[step].advance_need)
            case Record(step):
                core = {step: (working, after(step, working))}
                peaks.append(alive() + blocks[step].record_need)
            case Backpropagate(step):
                last = blocks[step].output_gradient if left == len(blocks) else 0
                peaks.append(alive() + last + blocks[step].backward_need)
                core, working, left = {}, {}, step
            case StoreHidden(position):
                outputs[position] = working
            case DropHidden(position):
                del outputs[position]
            case StoreInternal(step):
                graphs[step], working, core = core[step], core[step][1], {}
            case LoadInternal(step):
                core, working = {step: graphs.pop(step)}, {}
            case DropInternal(step):
                del graphs[step]
            case Restore(position):
                working = outputs[position] if position in outputs else graphs[position - 1][1]
        peaks.append(alive(working))
    return max(peaks)


def beaumont_costs(
    *,
    forward: Sequence[int],
    backward: Sequence[int],
    output: Sequence[int],
    recorded: Sequence[int],
    needs: tuple[Sequence[int], Sequence[int]],
    most: int,
) -> list[float]:
    """Return the least time of a chain by every memory ``0 .. most``, its input excluded; infinite where none will do.

    Args:
        forward: time of each stage's forward, with or without graph; the last stage is the loss.
        backward: time of its backward.
        output: ``a``, size of its output.
        recorded: ``A``, size of its output and all that is recorded.
        needs: ``f`` and ``b``.
        most: the largest memory.

    Ref: beaumont2019.
    """
    a, size, (f, b) = (0, *output), (0, *recorded), needs

    @cache
    def least(s: int, t: int, m: int) -> float:
        if s == t:
            alone = a[s + 1] + size[s + 1] + max(f[s], b[s])
            return forward[s] + backward[s] if m >= alone else float("inf")
        passed = [a[j] + a[j + 1] + f[j] for j in range(s + 1, t)]
        if m < a[t + 1] + max([a[s + 1] + f[s], *passed]):
            return float("inf")
        best = least(s, s, m) + least(s + 1, t, m - size[s + 1]) if m >= size[s + 1] else float("inf")
        for j in range(s + 1, t + 1):
            if m >= a[j]:
                best = min(best, sum(forward[s:j]) + least(j, t, m - a[j]) + least(s, j - 1, m))
        return best

    return [least(0, len(forward) - 1, m) for m in range(most + 1)]


def _front(pairs: Iterable[Point]) -> list[Point]:
    front: list[Point] = []
    for room, cost in sorted(pairs):
        if not front or cost < front[-1][1]:
            front.append((room, cost))
    return front


def _needs(block: Block) -> int:
    return block.advance_need + block.record_need + block.backward_need


def _bits(mask: int) -> list[int]:
    return [q for q in range(mask.bit_length()) if mask >> q & 1]


def _trace(came: list[tuple[int, tuple[Action, ...]]], label: int) -> list[Action]:
    actions: list[Action] = []
    while label > 0:
        label, between = came[label]
        actions[:0] = between
    return actions
