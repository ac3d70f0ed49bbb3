"""The referee of the heterogeneous chain: Dijkstra over every schedule that stores and drops hidden states.

A state is the number of cores left to go backward, the working position (or none), and the set of stored positions.
Every action is a move of its own; nothing is pruned but positions that feed no core that is left.

Two classes of schedules: *all*, and *persistent*, where a stored state stays until the core it feeds has gone backward.

Imports the vocabulary of actions and nothing else of ours.

Ref: gruslys2016, appendix C.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from membptt_theory.actions import Action, Advance, Backpropagate, DropHidden, Record, Restore, StoreHidden

Rest: TypeAlias = tuple[int, int | None, frozenset[int]]
Move: TypeAlias = tuple[int, Rest, tuple[Action, ...]]


def cheapest_chain_schedule(
    costs: Sequence[int], sizes: Sequence[int], needs: Sequence[int], slots: int, /, *, persistent: bool = False
) -> tuple[int, list[Action]]:
    """Return the least cost of backpropagating a chain, and a schedule that has it.

    Args:
        costs: cost of one forward of each core.
        sizes: slots of each core's output state while it is stored.
        needs: slots that have to be free while each core runs.
        slots: the budget; the input, stored at position 0 throughout, and the working state are outside.
        persistent: only schedules that never drop a state before the core it feeds has gone backward.

    Raises:
        ValueError: no schedule exists: a core needs more than ``slots``.

    Claim: chain-optimal, chain-beyond-persistent.
    """
    first: Rest = (len(costs), 0, frozenset())
    best: dict[Rest, int] = {first: 0}
    came: dict[Rest, tuple[Rest, tuple[Action, ...]]] = {}
    heap: list[tuple[int, int, Rest]] = [(0, 0, first)]
    pushed = 0
    while heap:
        cost, _, rest = heapq.heappop(heap)
        if not rest[0]:
            return cost, _trace(came, rest)
        if cost > best[rest]:
            continue
        for extra, after, actions in _moves(rest, (costs, sizes, needs), slots, persistent):
            if cost + extra < best.get(after, cost + extra + 1):
                best[after] = cost + extra
                came[after] = (rest, actions)
                pushed += 1
                heapq.heappush(heap, (cost + extra, pushed, after))
    raise ValueError(f"no schedule fits in {slots} slots: a core needs {max(needs)}")


def _moves(
    rest: Rest, chain: tuple[Sequence[int], Sequence[int], Sequence[int]], slots: int, persistent: bool
) -> Iterator[Move]:
    costs, sizes, needs = chain
    left, at, stored = rest
    used = sum(sizes[q - 1] for q in stored)
    for q in (0, *stored):
        yield 0, (left, q, stored), (Restore(q),)
    for q in () if persistent else stored:
        yield 0, (left, at, stored - {q}), (DropHidden(q),)
    if at is None:
        return
    if at not in stored and at > 0 and used + sizes[at - 1] <= slots:
        yield 0, (left, at, stored | {at}), (StoreHidden(at),)
    if used + needs[at] > slots:
        return
    if at < left - 1:
        yield costs[at], (left, at + 1, stored), (Advance(at, at + 1),)
    else:
        drop = (DropHidden(at),) if at in stored or at == 0 else ()
        yield costs[at], (left - 1, None, stored - {at}), (Record(at), Backpropagate(at), *drop)


def _trace(came: dict[Rest, tuple[Rest, tuple[Action, ...]]], rest: Rest) -> list[Action]:
    actions: list[Action] = []
    while rest in came:
        rest, moves = came[rest]
        actions[:0] = moves
    return actions
