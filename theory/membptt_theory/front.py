"""Chains that may keep outputs and internal states, in bytes: every budget that makes a difference, and its cost.

Block ``i = 0 .. n-1`` maps the state at position ``i`` to the state at position ``i + 1``. While position ``i`` is
held, blocks ``i .. j-1`` go backward by one of three moves:

- *internal*: record block ``i``, keep its internal state, solve ``(i+1, j)``, backpropagate block ``i``;
- *output*, ``i < k < j-1``: advance to ``k``, store the state there, solve ``(k, j)``, drop it, solve ``(i, k)``;
- *recompute*, ``k = j-1``: the same, but what is handed to the last block is not stored: it goes backward at once.

The *front* ``F(i, j)`` is the set of pairs (bytes, cost) of which none is as good as another in both. With ``m`` the
bytes and ``c`` the cost,

    F(i, i+1)    (around(i, i+1),  backpropagate_i)
    internal     (max(around(i, j), internal_i + m),  backpropagate_i + c)                 (m, c) in F(i+1, j)
    output       (max(run(i, j)_k, held(i, k) + m, m'),  advance_i + .. + advance_(k-1) + c + c')
                                                          (m, c) in F(k, j),  (m', c') in F(i, k)
    recompute    the same, with what is handed on and not stored in place of held(i, k)

which is a Bellman equation between whole fronts: none is cut to a grid. `front_terms.py` has its terms as data:
`everything_alive` fills them in for this project's accounting, **the peak is the peak of everything that is alive**,

- every stored output, every stored internal state with its input and its output, the working state, the working core,
  each tensor once; the chain's input is the caller's;
- from the first backward on, the gradient of the state that is next to go backward;
- on top of these what the running block needs: `Block.advance_need`, `record_need`, `backward_need`.

A tensor that a block hands on as it is, an open skip connection, belongs to several states, and is one tensor in all of
them. It is made at one position, lives in the states up to another one (`Skip`), and takes its bytes once, for as long
as any state, graph or working state that holds it does. So what a state takes depends on the state that it was made
from:

    held(i, k)    bytes of the tensors of state k that state i does not hold, which are those made after position i
    run(i, j)_k   the most, over the blocks s = i .. k-1, of held(i, s) + held(s, s+1) + advance_need_s, beside the
                  gradient at j
    internal_i    the graph, and held(i, i+1)

While ``(i, j)`` is solved, all that is held beside it are states at ``i`` or before, whose tensors were all made at
``i`` or before: what is made after ``i`` is new, and what rides along from ``i`` is the same tensor as there. Nothing
is made twice while it is alive: a part is solved when what lies behind it is done. Gradients are apart: from where a
skip is used to where it was made, its gradient is one of those that wait, of its own bytes, whoever holds the skip;
what adds to it, and what takes its place, is part of that block's `Block.backward_need`.

The optimum is over *persistent* schedules: what is stored stays until its block has gone backward, and a block goes
backward as soon as its internal state is at hand and its turn has come. Others can be cheaper where sizes differ: with
outputs of 1, 2, 2, 1 bytes, and graphs of 1 byte in the last block and none before, 8 forwards against 9 in 6 bytes.
With skips they are *nested* besides: a state is stored behind all those that are stored. To advance again before the
gradient of a skip is there, while what needs it is still stored, can be cheaper (front-skips-beyond-nested).

Ref: gruslys2016, appendix C (outputs only); beaumont2019 (both kinds, in slots).
Claim: front-optimal, front-skips-optimal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Final

import numpy as np

from membptt_theory.actions import (
    Advance,
    Backpropagate,
    Block,
    DropHidden,
    Instruction,
    LoadInternal,
    Record,
    Restore,
    Sizes,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.equal_blocks import EqualBlocks
from membptt_theory.front_groups import grouped, ungrouped
from membptt_theory.front_near import near_parts
from membptt_theory.front_parts import INTERNAL, Ints, Part, Parts, Tell, TooLongError, undominated
from membptt_theory.front_terms import Recurrence, everything_alive
from membptt_theory.schedule import Schedule, from_actions

MANY: Final = 200  # equal blocks: beyond that, parts that start before them are not all solved
LAST: Final = 4  # other blocks after many equal ones, at most, that are recorded together
ADDITIONS: Final = 10**10  # that the table of equal blocks may take: about ten seconds
TABLE: Final = 2**28  # bytes: beyond, few equal blocks are solved as blocks that differ


@dataclass(frozen=True, eq=False)
class Front:
    """Every budget that makes a difference, and what the chain costs in it; made by `solve_front`.

    Args:
        recurrence: what it is the front of.
        bytes: int64, ascending: the budgets.
        costs: int64, descending: the least cost in each.
        choose: ``(start, stop, bytes)`` of a part -> `INTERNAL`, or how many blocks to advance over.
        kept_bytes: of the fronts of all parts, which `choose` looks at.
        settle: ``(start, stop, bytes)`` of a part -> the bytes of its last point that fits, where not every point that
            it could have is kept.
        below: bytes and costs that no schedule goes below; those of the front itself where it is exact.
        cuts: where blocks of the chain are grouped to the recurrence's, where each of these begins, and the end.
    """

    recurrence: Recurrence
    bytes: Ints
    costs: Ints
    choose: Callable[[int, int, int], int]
    kept_bytes: int
    settle: Callable[[int, int, int], int] = lambda start, stop, room: room
    below: Part | None = None
    cuts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.bytes)

    @property
    def points(self) -> list[tuple[int, int]]:
        """The pairs of bytes and cost, the fewest bytes first."""
        return list(zip(self.bytes.tolist(), self.costs.tolist(), strict=True))

    def cost(self, budget: int, /) -> int:
        """Return the least cost in `budget` bytes.

        Raises:
            ValueError: fewer bytes than the chain can do with.
        """
        return int(self.costs[self._point(budget)])

    def least(self, budget: int, /) -> int:
        """Return a cost that no schedule in `budget` bytes goes below: that of the front, where it is exact.

        Raises:
            ValueError: as `cost`.
        """
        cost = self.cost(budget)
        if self.below is None:
            return cost
        return int(self.below.costs[np.searchsorted(self.below.bytes, budget, side="right") - 1])

    def schedule(self, budget: int, /) -> Schedule:
        """Return the cheapest schedule in `budget` bytes. The input is stored at position 0 throughout.

        Its cost and its peak on a `ChainMachine` are those of the last point that fits. A machine of equal slots
        executes it too; there `slots` is the number of states that are stored at once.

        Raises:
            ValueError: as `cost`.

        Claim: front-metered.
        """
        point = self._point(budget)
        stream = self._stream(int(self.bytes[point]))
        actions = starmap(tuple.__new__, ungrouped(stream, self.cuts) if self.cuts else stream)
        kinds, cores = Sizes(hidden=1, internal=1), self.cuts[-1] if self.cuts else len(self.recurrence)
        schedule = from_actions(actions, cores=cores, sizes=kinds, title="front")
        return replace(schedule, cost=int(self.costs[point]))

    def _point(self, budget: int) -> int:
        point = int(np.searchsorted(self.bytes, budget, side="right")) - 1
        if point < 0:
            raise ValueError(f"the chain takes at least {self.bytes[0]} bytes, got a budget of {budget}")
        return point

    def _stream(self, room: int) -> Iterator[Instruction]:
        terms = self.recurrence
        # Left to do, the next one last: a part and its bytes, or what ends a part that is done.
        pending: list[tuple[int, int, int] | Instruction] = [(DropHidden, (0,)), (0, len(terms), room)]
        at: int | None = 0
        while pending:
            part = pending.pop()
            if len(part) == 2:
                yield part
                if part[0] is LoadInternal:
                    yield Backpropagate, part[1]
                    at = None
                continue
            start, stop, room = part
            if at != start:
                yield Restore, (start,)
            room = self.settle(start, stop, room)
            ahead = self.choose(start, stop, room) if stop - start > 1 else 0
            split = start + ahead
            at = None
            if split == stop - 1:
                if ahead:
                    yield Advance, (start, split)
                    pending.append((start, split, room))
                yield Record, (split,)
                yield Backpropagate, (split,)
            elif ahead == INTERNAL:
                yield Record, (start,)
                yield StoreInternal, (start,)
                pending += [(LoadInternal, (start,)), (start + 1, stop, room - terms.internal[start])]
                at = start + 1
            else:
                yield Advance, (start, split)
                yield StoreHidden, (split,)
                pending += [
                    (start, split, room),
                    (DropHidden, (split,)),
                    (split, stop, room - terms.held(start, split)),
                ]
                at = split


def solve_front(chain: Sequence[Block] | Recurrence, /, tell: Tell | None = None) -> Front:
    """Solve the equation between fronts, exactly: a front for every part of the chain that differs from the others.

    ``n`` different blocks have ``n (n+1) / 2`` parts and take ``O(n^3)`` merges of sorted fronts: 50 blocks a third of
    a second. Parts of the same blocks in the same order are solved once. Equal blocks with a last one that may differ
    take about a second for a thousand (`EqualBlocks`).

    Where too many parts differ for that, from about 130 different blocks on, every part keeps a few of its points, as
    many as can be merged in a minute or two (`Near`). Each point is that of a schedule still, the least budget is the
    least, and `Front.least` tells how far below the front the least cost can be.

    Where others stand before more than `MANY` equal ones, a part that starts among the others is cut at the first equal
    block or before it. Every point is that of a schedule; compared up to 30 equal blocks, it costs no more than the
    exact front where that has the bytes of two outputs less. Where up to `LAST` others stand after them, such as a head
    and a loss, these are recorded together: that costs no more than the exact front where that has less by the bytes of
    their internal states but the last one's, and of the state they are given. Some thousands of equal blocks are
    grouped two by two.

    A chain with skips that is too long even for a few points of each part is solved with its skips counted in every
    state that holds them: its schedules take fewer bytes than the points say.

    Args:
        chain: the blocks, weighed by `everything_alive`, or a recurrence.
        tell: is told how many parts are solved, and of how many.

    Raises:
        ValueError: as `everything_alive`; more than about 300 blocks that all differ; at once.

    Claim: front-optimal, front-recurrence, front-equal-blocks, front-near, front-skips-recurrence, front-skips-optimal.
    """
    terms = chain if isinstance(chain, Recurrence) else everything_alive(chain)
    cuts = _cuts(terms)
    if cuts:
        front = solve_front(grouped(terms, cuts), tell)
        return replace(front, cuts=tuple(cuts[group] for group in front.cuts) if front.cuts else cuts)
    if _only_three_sizes_matter(terms) and _fits(terms):
        return _front_of_equal_blocks(terms, _equal_blocks(terms))
    others = _before_equal_blocks(terms)
    if 0 < others <= MANY < len(terms) - others:
        return front_with_others_before(terms, others)
    try:
        parts = Parts(terms, tell=tell)
    except TooLongError:
        try:
            return near_front(terms, tell=tell)
        except TooLongError:
            if not terms.skips:
                raise
            return solve_front(replace(terms, skips=()), tell)
    whole = parts.of(0, len(terms))
    return Front(terms, whole.bytes, whole.costs, parts.choose, parts.kept_bytes)


def near_front(terms: Recurrence, most: int | None = None, tell: Tell | None = None) -> Front:
    """Return a front of which every part keeps at most `most` points; see `solve_front`.

    Args:
        terms: the recurrence.
        most: points of a part; by default as many as can be merged.
        tell: as for `solve_front`.

    Raises:
        ValueError: the parts that differ are too many.
    """
    parts, below = near_parts(terms, most, tell)
    whole = parts.of(0, len(terms))
    return Front(terms, whole.bytes, whole.costs, parts.choose, parts.kept_bytes, parts.settle, below)


def _only_three_sizes_matter(terms: Recurrence) -> bool:
    """Whether all blocks but the last are equal, and a part needs beyond a single one what it stores and no more."""
    if type(terms) is not Recurrence or terms.skips or len(terms) == 1:
        return False
    alike = all(len(set(values[:-1])) == 1 for values in terms.terms())
    output, internal, gradient, own = terms.output[0], terms.internal[0], terms.gradient[0], terms.around(0, 1)
    passed, last = max(terms.first[0], terms.passed[0]), terms.around(len(terms) - 1, len(terms))
    return (
        alike
        and terms.carried[0] == output
        and 1 <= output <= internal
        and own == terms.backward[0] >= terms.recorded[0] + terms.gradient[-1]
        and passed + gradient <= output + own
        and passed + terms.gradient[-1] <= max(own, output + last)
    )


def _fits(terms: Recurrence) -> bool:
    """Whether the table of equal blocks is not too large."""
    solved = _equal_blocks(terms)
    return solved.additions <= ADDITIONS and solved.table_bytes <= TABLE


def _equal_blocks(terms: Recurrence) -> EqualBlocks:
    last = terms.around(len(terms) - 1, len(terms)) - terms.around(0, 1)
    return EqualBlocks(len(terms) - 1, terms.output[0], terms.internal[0], last)


def _front_of_equal_blocks(terms: Recurrence, solved: EqualBlocks) -> Front:
    n, own = len(terms), terms.around(0, 1)
    points = np.array(sorted(solved.points().items()), dtype=np.int64)
    costs = sum(terms.backpropagate) + points[:, 1] * terms.advance[0]
    part = undominated(points[:, 0] + own, costs, np.zeros(len(points), dtype=np.int64))

    def choose(start: int, stop: int, room: int) -> int:
        return (solved if stop == n else solved.run).split(stop - start - 1, room - own)

    return Front(terms, part.bytes, part.costs, choose, solved.kept_bytes)


def _before_equal_blocks(terms: Recurrence) -> int:
    """Return how many blocks stand before those that are all equal, but for the last one; 0 where there are none."""
    start = _start_of_equal_blocks(terms)
    return start if start < len(terms) else 0


def _start_of_equal_blocks(terms: Recurrence) -> int:
    """Return the first of the blocks that are all equal, but for the last one; where there are none, their number."""
    kinds = list(zip(*terms.terms(), strict=True))
    start = len(kinds) - 1
    while start > 0 and kinds[start - 1] == kinds[max(len(kinds) - 2, 0)]:
        start -= 1
    return start if _only_three_sizes_matter(terms.part(start, len(terms))) else len(kinds)


def _cuts(terms: Recurrence) -> tuple[int, ...]:
    """Return how many equal blocks are grouped with each other, or the few after them; nothing where none are."""
    n, kinds = len(terms), list(zip(*terms.terms(), strict=True))
    if type(terms) is not Recurrence or terms.skips or n <= MANY:
        return ()
    others = 0 if _only_three_sizes_matter(terms) else _before_equal_blocks(terms)
    equal = terms.part(others, n)
    if others <= MANY < len(equal) and _only_three_sizes_matter(equal):
        return () if _fits(equal) else (*range(others), *range(others, n, 2), n)
    stop = next((stop for stop in range(n - LAST, n - 1) if _are_equal(kinds, stop)), 0)
    joined = (*range(stop + 1), n)
    return joined if stop and _start_of_equal_blocks(grouped(terms, joined)) <= MANY else ()


def _are_equal(kinds: Sequence[tuple[int, ...]], stop: int) -> bool:
    """Whether more than `MANY` blocks before `stop` are equal, and the one there is another."""
    return stop > MANY and kinds[stop] != kinds[stop - 1] and len(set(kinds[stop - MANY - 1 : stop])) == 1


def front_with_others_before(terms: Recurrence, others: int, /) -> Front:
    """Return a front of equal blocks with `others` before them; see `solve_front`."""
    n = len(terms)
    rest_terms = terms.part(others, n)
    rest = _front_of_equal_blocks(rest_terms, _equal_blocks(rest_terms))
    before = Parts(terms.part(0, others))
    parts = {others: Part(rest.bytes, rest.costs, np.zeros(len(rest), dtype=np.int64))}
    for start in reversed(range(others)):
        after, run = parts[start + 1], terms.run(start, n)
        room = [np.maximum(after.bytes + terms.internal[start], terms.around(start, n))]
        costs = [after.costs + terms.backpropagate[start]]
        choices = [np.full(len(after.bytes), INTERNAL)]
        for split in range(start + 1, others + 1):
            left, right = before.of(start, split), parts[split]
            taken = right.bytes + terms.held(start, split)
            low = max(int(left.bytes[0]), int(taken[0]), run[split - start - 1])
            both = np.unique(np.maximum(np.concatenate([left.bytes, taken]), low))
            of_left = left.costs[np.searchsorted(left.bytes, both, side="right") - 1]
            of_right = right.costs[np.searchsorted(taken, both, side="right") - 1]
            room.append(both)
            costs.append(of_left + of_right + sum(terms.advance[start:split]))
            choices.append(np.full(len(both), split - start))
        parts[start] = undominated(np.concatenate(room), np.concatenate(costs), np.concatenate(choices))

    def choose(start: int, stop: int, room: int) -> int:
        if start >= others:
            return rest.choose(start - others, stop - others, room)
        if stop <= others:
            return before.choose(start, stop, room)
        part = parts[start]
        return int(part.choices[np.searchsorted(part.bytes, room, side="right") - 1])

    kept_bytes = rest.kept_bytes + before.kept_bytes + sum(part.kept_bytes for part in parts.values())
    return Front(terms, parts[0].bytes, parts[0].costs, choose, kept_bytes)
