"""The fronts of all parts of a chain: the equation of `front.py`, solved for whole fronts at once.

A front is two sorted arrays. All splits of a part are solved together: the steps of their left and right fronts become
keys of split and bytes, which one merge of two sorted arrays puts in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from membptt_theory.front_terms import Recurrence

Ints: TypeAlias = NDArray[np.int64]
Tell: TypeAlias = Callable[[int, int], None]
Handed: TypeAlias = tuple[tuple[int, int], ...]

BYTES: Final = 48  # bits of a number of bytes: 256 TiB
INTERNAL: Final = 0  # the choice that is no number of blocks to advance over
_OBJECTS: Final = 400  # bytes of a `Part` and its three arrays, beside what they hold
_PLACE: Final = 8
LIMIT: Final = 3 * 10**8  # steps of fronts to be merged, as estimated, beyond which a chain is refused: half a minute
MEMORY: Final = 2**29  # bytes of all fronts, beyond which it is refused all the same
UNBOUNDED: Final = 2**30  # points of a part: none has as many
DIFFERENT: Final = 300  # blocks that all differ are solved, by `front_near.py`


class TooLongError(ValueError):
    """Too many parts of a chain differ."""


@dataclass(frozen=True, slots=True)
class Part:
    """The front of a part.

    Args:
        bytes: int64, ascending.
        costs: int64, descending.
        choices: int64, for each point `INTERNAL`, or how many blocks to advance over.
    """

    bytes: Ints
    costs: Ints
    choices: Ints

    @property
    def kept_bytes(self) -> int:
        """Bytes that it takes."""
        return self.bytes.nbytes + self.costs.nbytes + self.choices.nbytes + _OBJECTS


class Parts:
    """The fronts of all parts of a chain; parts of equal blocks in the same order share one.

    Args:
        terms: the recurrence.
        most: points of a part, where a subclass keeps no more.
        tell: is told how many parts are solved, and of how many.

    Raises:
        TooLongError: the parts that differ are too many; at once, unless their fronts are larger than those of most.
    """

    limit, memory = LIMIT, MEMORY

    def __init__(self, terms: Recurrence, most: int = UNBOUNDED, tell: Tell | None = None) -> None:
        self._terms = terms
        self._spent = np.concatenate([[0], np.cumsum(terms.advance, dtype=np.int64)])
        n = len(terms)
        numbers: dict[tuple[int, ...], int] = {}
        kinds = [numbers.setdefault(kind, len(numbers)) for kind in zip(*terms.terms(), strict=True)]
        # A part's number, the kind of the block after it and the skips that it is given -> the longer part.
        known: dict[tuple[int, int, Handed], int] = {}
        handed = _handed(terms)
        longest = [0] * n  # number of the longest part met so far from each start
        self._numbers: list[list[int]] = [[] for _ in range(n)]  # by start and length - 1
        different: list[tuple[int, int]] = []
        merged = 0
        for length in range(1, n + 1):
            for start in range(n - length + 1):
                last = start + length - 1
                key = (longest[start], kinds[last], _seen_from(start, last, handed[last]))
                if key not in known:
                    known[key] = len(known) + 1
                    different.append((start, start + length))
                    merged += min(length**2 // 6, 2 * most) * length  # where the front of k blocks has k**2 / 4 points
                longest[start] = known[key]
                self._numbers[start].append(known[key])
            if merged > self.limit:
                raise self._too_long()
        self._parts: list[Part] = []
        self._bytes = _PLACE * n**2 // 2
        for start, stop in different:
            self._parts.append(part := self._kept(self._solve(start, stop), stop - start))
            self._bytes += part.kept_bytes
            if self._bytes > self.memory:
                raise self._too_long()
            if tell is not None:
                tell(len(self._parts), len(different))

    @property
    def kept_bytes(self) -> int:
        """Bytes of all fronts, and of the places that refer to them."""
        return self._bytes

    def of(self, start: int, stop: int, /) -> Part:
        """Return the front of blocks ``start .. stop-1``."""
        return self._parts[self._numbers[start][stop - start - 1] - 1]

    def _kept(self, part: Part, length: int) -> Part:
        """Return what is kept of the front of a part of so many blocks: all of it."""
        del length
        return part

    def _too_long(self) -> TooLongError:
        return TooLongError(
            f"a chain of {len(self._terms)} blocks with so many parts that differ is too long to be solved: join "
            f"neighbouring blocks to larger ones (torch.nn.Sequential), until about {DIFFERENT} of them are left"
        )

    def choose(self, start: int, stop: int, room: int, /) -> int:
        """Return the choice of the last point of a part that fits in `room` bytes."""
        part = self.of(start, stop)
        return int(part.choices[np.searchsorted(part.bytes, room, side="right") - 1])

    def _solve(self, start: int, stop: int) -> Part:
        terms, around, own = self._terms, self._terms.around(start, stop), self._terms.backpropagate[start]
        if stop - start == 1:
            return Part(np.array([around]), np.array([own]), np.array([INTERNAL]))
        after = self.of(start + 1, stop)
        room, costs, choices = self._splits(start, stop)
        return undominated(
            np.concatenate([np.maximum(after.bytes + terms.internal[start], around), room]),
            np.concatenate([after.costs + own, costs]),
            np.concatenate([np.full(len(after.bytes), INTERNAL), choices]),
        )

    def _splits(self, start: int, stop: int) -> tuple[Ints, Ints, Ints]:
        """Return bytes, costs and choices of every point of the moves output and recompute."""
        terms, count = self._terms, stop - start - 1
        left = [self.of(start, split) for split in range(start + 1, stop)]
        right = [self.of(split, stop) for split in range(start + 1, stop)]
        taken = np.array((*terms.output[start : stop - 2], terms.carried[stop - 2]))
        if terms.skips:
            taken = taken - np.array(terms.shared(start)[start + 1 : stop])
        advanced = self._spent[start + 1 : stop] - self._spent[start]
        tag = np.arange(count, dtype=np.int64) << BYTES
        left_keys = _joined([part.bytes for part in left], tag)
        right_keys = _joined([part.bytes for part in right], tag + taken)
        left_costs = _joined([part.costs for part in left], advanced)
        right_costs = np.concatenate([part.costs for part in right])
        keys = np.concatenate([left_keys, right_keys])
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        # Of either front the last point at or below each key; it may be one of the split before.
        at_left = np.cumsum(order < len(left_keys)) - 1
        at_right = np.arange(len(keys)) - at_left - 1
        split = keys >> BYTES
        both = (at_left >= 0) & (at_right >= 0)
        both &= (left_keys[at_left] >> BYTES == split) & (right_keys[at_right] >> BYTES == split)
        split = split[both]
        room = np.maximum(keys[both] & (2**BYTES - 1), np.array(terms.run(start, stop))[split])
        return room, left_costs[at_left[both]] + right_costs[at_right[both]], split + 1


def _handed(terms: Recurrence) -> list[Handed]:
    """Return for each block the skips that it is given: since which position, ascending, and of how many bytes."""
    handed: list[Handed] = [() for _ in range(len(terms))]
    for skip in sorted(terms.skips, key=lambda skip: skip.first):
        for position in range(skip.first + 1, skip.last + 1):
            handed[position] = (*handed[position], (skip.first, skip.bytes))
    return handed


def _seen_from(start: int, block: int, handed: Handed) -> Handed:
    """Return the skips that a block is given, as a part sees them that starts at `start`: since how many blocks."""
    if not handed or block == start:
        return ()
    since: dict[int, int] = {}
    for first, size in handed:
        age = block - max(first, start)
        since[age] = since.get(age, 0) + size
    return tuple(since.items())


def undominated(room: Ints, costs: Ints, choices: Ints, /) -> Part:
    """Return the points than which no other is as good in bytes and cost; of equal ones the first."""
    order = np.argsort(room, kind="stable")
    room, costs, choices = room[order], costs[order], choices[order]
    better = np.ones(len(room), dtype=bool)
    better[1:] = costs[1:] < np.minimum.accumulate(costs)[:-1]
    room, costs, choices = room[better], costs[better], choices[better]
    last = np.append(room[1:] != room[:-1], True)
    return Part(room[last], costs[last], choices[last])


def _joined(arrays: list[Ints], added: Ints) -> Ints:
    return np.concatenate(arrays) + np.repeat(added, [len(array) for array in arrays])
