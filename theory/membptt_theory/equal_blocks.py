"""The front of a chain of equal blocks and a last one that may differ, the loss: three sizes and a number of blocks.

Let a stored output take ``a`` bytes and an internal state ``b >= a``; let the last block by itself need ``d`` bytes
more than another one (or fewer, ``d < 0``), and let ``s`` be the bytes that a part has beyond those of one equal block.
Beside a recorded forward and a backward of each block, ``t`` equal ones and the last one cost ``G(t, s)`` advances:

    G(0, s) = 0                                              s >= d
    G(t, s) = 0                                              s >= max(0, b + d) + (t - 1) b, all internal states kept
    G(t, s) = min over k of  k + E(k, s) + G(t - k, s - a)   otherwise, 1 <= k <= t and s >= 0

where ``E(k, s)``, of ``k`` equal blocks alone, is ``G(k - 1, s)`` with ``d = 0``. Internal states come last: keeping
one and then advancing over ``k`` blocks costs no less than advancing first, at more bytes, and keeping one after that.

With ``c(s) = floor(s / b) + 1`` the longest part of equal blocks that advances over nothing, and ``e(s)`` the most
equal blocks before the last one that do,

    G(t, s) = t - min(e(s - p a), t - p)    p the least with  c(s) + c(s - a) + .. (p terms) + e(s - p a) >= t

as long as there is such a ``p``, so that no block is advanced over twice: ``p`` outputs are stored. Fewer leave more
blocks than fit over, and each of these is advanced over once more; ``c`` and ``e`` fall by at most 1 where ``s`` falls
by ``a``, which makes that no cheaper. Less room than that is a table of two dimensions: ``t``, and the sums of ``a``,
``b`` and ``d`` at which ``G`` can step, about ``t`` of them.

Ref: gruslys2016, (10) with other sizes. Claim: front-equal-blocks.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROWS: Final = 64  # of the table that are solved together: what they touch stays in a processor's cache
_ROW_BYTES: Final = 12  # a row and a block, of three tables
_INFINITE: Final = 2**29  # three of them still fit in an int32


class EqualBlocks:
    """``G(t, s)`` for every ``t <= count`` and every ``s``.

    Args:
        count: equal blocks, at most 16382; the last one is one more.
        output: ``a``, at least 1.
        internal: ``b``, at least `output`.
        last: ``d``; 0 where the last block is equal to the others.
        rows: the table goes at least up to this ``s``.

    Raises:
        ValueError: out of range.
    """

    def __init__(self, count: int, output: int, internal: int, last: int = 0, *, rows: int = 0) -> None:
        if not (0 <= count < 2**14 - 1 and 1 <= output <= internal):
            raise ValueError(
                f"count must be between 0 and {2**14 - 2}, output at least 1 and internal no smaller, "
                f"got {count}, {output} and {internal}"
            )
        self.count, self.output, self.internal, self.last = count, output, internal, last
        self.kept = max(0, internal + last)  # the room in which the internal state of one block beside the last is kept
        self._once = self._advanced_once()
        self._stop = max(min(self._once), rows, 1)

    @cached_property
    def run(self) -> EqualBlocks:
        """``E``: as many equal blocks and no other one."""
        if self.last == 0:
            return self
        return EqualBlocks(max(0, self.count - 1), self.output, self.internal, rows=self._stop)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the table, and about those that `run` takes once it is asked for."""
        own = self._room.nbytes + sum(table.nbytes for table in self._tables)
        return own if self.last == 0 else 2 * own

    @property
    def additions(self) -> int:
        """About as many additions does the table take: its rows, and for each of them all ``k`` of all ``t``."""
        return self._rows * self.count**2 // 2

    @property
    def table_bytes(self) -> int:
        """About as many bytes does the table take, before it is built: few blocks of odd sizes may have many rows."""
        return self._rows * _ROW_BYTES * (self.count + 2)

    @property
    def _rows(self) -> int:
        internal = -(-self._stop // self.internal)  # at most so many internal states, and outputs in what is left
        rows = internal + (internal * self._stop - self.internal * internal * (internal - 1) // 2) // self.output
        return rows * (1 if self.last == 0 else 2)

    def points(self) -> dict[int, int]:
        """Return the least ``G(count, s)`` by every ``s`` at which it may step."""
        table = dict(zip(self._room.tolist(), self._tables[2][:, self.count].tolist(), strict=True))
        return {room: cost for room, cost in table.items() if cost < _INFINITE} | self._once

    def split(self, count: int, room: int) -> int:
        """Return an optimal ``k`` of ``G(count, room)``, count at least 1; 0 where every internal state is kept."""
        if room >= self.kept + (count - 1) * self.internal:
            return 0
        fit = np.arange(room, -1, -self.output) // self.internal + 1  # c(s), c(s - a), ..
        ends = room - self.output * np.arange(len(fit) + 1)
        beside = np.where(ends >= self.kept, (ends - self.kept) // self.internal + 1, 0)  # e(s), e(s - a), ..
        enough = (np.append(0, np.cumsum(fit)) + beside >= count) & (ends >= self.last)
        if enough.any():
            p = int(np.argmax(enough))
            return int(min(fit[0], count - min(beside[p], count - p) - (p - 1)))
        row = int(np.searchsorted(self._room, room, side="right")) - 1
        return int(np.argmin(self._candidates(self._tables[0], self._tables[1], slice(row, row + 1), count)[0])) + 1

    def _advanced_once(self) -> dict[int, int]:
        """Return the least room, and ``G``, by how many blocks are kept beside the last, where none is passed twice."""
        n, a, b = self.count, self.output, self.internal
        stored = np.arange(n + 1, dtype=np.int64)
        costs = {self.kept + (n - 1) * b if n else self.last: 0}
        for beside in range(n):
            low = self.kept + (beside - 1) * b if beside else max(self.last, -a)
            # Stored last to first, p outputs leave parts of c(low + a), c(low + 2 a), .. blocks before them.
            if beside < 2:
                steps = (low + stored * a) % b, np.concatenate([[0], np.cumsum((low % b + stored[1:] * a) // b)])
            blocks = stored * (low // b + 1) + steps[1]
            p = int(np.searchsorted(blocks, n - beside))
            room = low + p * a
            lacking = n - beside - int(blocks[p - 1])
            if lacking < p:
                # One stored output fewer, and in exchange room enough for `lacking` parts to hold one more block.
                extra = int(np.partition(b - steps[0][1:p], lacking - 1)[lacking - 1])
                room = min(room, room - a + extra)
            costs[room] = min(costs.get(room, n), n - beside)
        return costs

    @cached_property
    def _room(self) -> NDArray[np.int64]:
        """Every room below the end of the table at which ``G`` may step."""
        starts = [np.arange(low, self._stop, self.internal, dtype=np.int64) for low in {0, self.kept}]
        alone = np.arange(self.last % self.output if self.last < 0 else self.last, self._stop, self.output)
        sums = [np.arange(start, self._stop, self.output) for start in np.concatenate(starts).tolist()]
        return np.unique(np.concatenate([*sums, alone]))

    @cached_property
    def _tables(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """``k + E(k, s)`` ascending in ``k``, ``G(t, s - a)`` descending in ``t``, and ``G(t, s)``; a row each ``s``.

        So a sum over all ``k`` is one of two slices.
        """
        n, rooms, alike = self.count, self._room, self.last == 0
        costs = np.full((len(rooms), n + 1), _INFINITE, dtype=np.int32)
        right, left = costs.copy(), np.full((len(rooms), n + 2), _INFINITE, dtype=np.int32)
        if not alike:
            same = np.searchsorted(self.run._room, rooms, side="right") - 1
            left[:, : self.run.count + 2] = self.run._tables[0][same]
        below = np.searchsorted(rooms, rooms - self.output, side="right") - 1  # -1: no room for an output
        right[:, n] = np.where(rooms - self.output >= self.last, 0, _INFINITE)
        for low in range(0, len(rooms), _ROWS):
            rows = slice(low, min(low + _ROWS, len(rooms)))
            exists = below[rows] >= 0
            for t in range(n + 1):
                cost = self._candidates(left, right, rows, t).min(axis=1, initial=_INFINITE)
                cost[rooms[rows] >= (self.kept + (t - 1) * self.internal if t else self.last)] = 0
                costs[rows, t] = cost
                if alike:
                    left[rows, t + 1] = cost + t + 1
                if t:
                    right[rows, n - t][exists] = costs[below[rows][exists], t]
        return left, right, costs

    def _candidates(
        self, left: NDArray[np.int32], right: NDArray[np.int32], rows: slice, count: int
    ) -> NDArray[np.int32]:
        return left[rows, 1 : count + 1] + right[rows, self.count - count + 1 : self.count + 1]
