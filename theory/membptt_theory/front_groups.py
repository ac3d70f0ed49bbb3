"""Blocks of a chain that are recorded together and go backward together: a chain of fewer, larger blocks.

    internal    the sum of theirs: all graphs, and the outputs between them
    recorded    the most, over the blocks of a group, of what those before it keep and what it takes itself
    backward    likewise
    advance     the sum of theirs: on the way over a group nothing is kept

Every schedule of the groups, written out block by block, is one of the chain itself, at the same cost and in the same
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

from membptt_theory.actions import Backpropagate, Instruction, LoadInternal, Record, StoreInternal
from membptt_theory.front_terms import Recurrence


def grouped(terms: Recurrence, cuts: Sequence[int], /) -> Recurrence:
    """Return the recurrence of groups of blocks.

    Args:
        terms: of the blocks, without skips.
        cuts: where each group begins, ascending from 0, and the end of the last.
    """
    groups = [slice(*pair) for pair in pairwise(cuts)]

    def summed(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(sum(values[group]) for group in groups)

    def last(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values[group.stop - 1] for group in groups)

    def most(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(
            max(map(sum, zip(values[group], accumulate(terms.internal[group], initial=0), strict=False)))
            for group in groups
        )

    return Recurrence(
        advance=summed(terms.advance),
        backpropagate=summed(terms.backpropagate),
        output=last(terms.output),
        carried=last(terms.carried),
        internal=summed(terms.internal),
        gradient=last(terms.gradient),
        recorded=most(terms.recorded),
        backward=most(terms.backward),
        first=tuple(max(terms.first[group.start], *terms.passed[group][1:], 0) for group in groups),
        passed=tuple(max(terms.passed[group]) for group in groups),
    )


def ungrouped(stream: Iterable[Instruction], cuts: Sequence[int], /) -> Iterator[Instruction]:
    """Yield the instructions of a schedule of groups, block by block."""
    for kind, places in stream:
        if kind is Record:
            *before, last = range(cuts[places[0]], cuts[places[0] + 1])
            for block in before:
                yield Record, (block,)
                yield StoreInternal, (block,)
            yield Record, (last,)
        elif kind is Backpropagate:
            last, *before = reversed(range(cuts[places[0]], cuts[places[0] + 1]))
            yield Backpropagate, (last,)
            for block in before:
                yield LoadInternal, (block,)
                yield Backpropagate, (block,)
        elif kind in (StoreInternal, LoadInternal):
            yield kind, (cuts[places[0] + 1] - 1,)
        else:
            yield kind, tuple(cuts[place] for place in places)
