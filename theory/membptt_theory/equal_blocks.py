"""The front of a chain of equal blocks: two sizes and a number of blocks instead of a front for every part.

Let a stored output take ``a`` bytes and an internal state ``b >= a``; let ``s`` be the bytes that a part of ``t``
blocks has beyond those of a single block. A part then costs ``t`` times a recorded forward and a backward, and
``E(t, s)`` advances, with

    E(t, s) = 0                                              s >= (t - 1) b: every internal state is kept
    E(t, s) = min over k of  k + E(k, s) + E(t - k, s - a)   otherwise, 1 <= k < t

Internal states come last: keeping one and then advancing over ``k`` blocks costs no less than advancing first, at more
bytes, and keeping one after that. With ``c(s) = floor(s / b) + 1``, the longest part that advances over nothing,

    E(t, s) = t - min(c(s - p a), t - p)    where p is the least with c(s) + c(s - a) + .. + c(s - p a) >= t

as long as there is such a ``p``, so that no block is advanced over twice: ``p`` outputs are stored. Fewer leave more
blocks than fit over, and each of these is advanced over once more; ``c(s - a) >= c(s) - 1`` makes that no cheaper. Less
room than that is a table of two dimensions, ``t`` and the sums ``x a + y b`` at which ``E`` can step: about ``t`` rows.

Ref: gruslys2016, (10) with other sizes. Claim: front-equal-blocks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROWS: Final = 64  # of the table that are solved together: what they touch stays in a processor's cache
_INFINITE: Final = 2**29  # three of them still fit in an int32


class EqualBlocks:
    """``E(t, s)`` for every ``t <= steps`` and every ``s``.

    Args:
        steps: blocks, at most 16383.
        output: ``a``, at least 1.
        internal: ``b``, at least `output`.

    Raises:
        ValueError: out of range.
    """

    def __init__(self, steps: int, output: int, internal: int) -> None:
        if not (1 <= steps < 2**14 and 1 <= output <= internal):
            raise ValueError(
                f"steps must be between 1 and {2**14 - 1}, output at least 1 and internal no smaller, "
                f"got {steps}, {output} and {internal}"
            )
        self.steps, self.output, self.internal = steps, output, internal
        self._once = self._advanced_once()
        self._room = self._sums(min(self._once))
        self._solve()

    def points(self) -> dict[int, int]:
        """Return the least ``E(steps, s)`` by every ``s`` at which it may step."""
        table = dict(zip(self._room.tolist(), self._left[:, self.steps].tolist(), strict=True))
        return {room: cost - self.steps for room, cost in table.items() if cost < _INFINITE} | self._once

    def split(self, steps: int, room: int) -> int:
        """Return an optimal ``k`` of ``E(steps, room)``; 0 where every internal state is kept."""
        if room >= (steps - 1) * self.internal:
            return 0
        fit = np.arange(room, -1, -self.output) // self.internal + 1  # c(s), c(s - a), ..
        total = np.cumsum(fit)
        if total[-1] >= steps:
            p = int(np.searchsorted(total, steps))
            return int(min(fit[0], steps - min(fit[p], steps - p) - (p - 1)))
        row = int(np.searchsorted(self._room, room, side="right")) - 1
        return int(np.argmin(self._candidates(slice(row, row + 1), steps)[0])) + 1

    def _advanced_once(self) -> dict[int, int]:
        """Return the least room, and ``E``, where the last part has each length and nothing is advanced over twice."""
        n, a, b = self.steps, self.output, self.internal
        stored = np.arange(n + 1, dtype=np.int64)
        more = np.cumsum(stored * a // b)  # the blocks of p parts beyond those of as many last ones
        found: dict[int, int] = {(n - 1) * b: 0}
        for last in range(1, n):
            p = int(np.searchsorted(stored * last + more, n - last))
            room = (last - 1) * b + p * a
            lacking = n - last - int((p - 1) * last + more[p - 1])
            if p > 1 and lacking < p:
                # One stored output less, and instead so much more room that `lacking` parts hold one block more.
                extra = int(np.partition(b - stored[1:p] * a % b, lacking - 1)[lacking - 1])
                room = min(room, room - a + extra)
            found[room] = min(found.get(room, n), n - last)
        return found

    def _sums(self, stop: int) -> NDArray[np.int64]:
        """Return the sums ``x a + y b`` below `stop`."""
        internal = np.arange(0, max(stop, 1), self.internal, dtype=np.int64)
        return np.unique(np.concatenate([np.arange(start, max(stop, 1), self.output) for start in internal.tolist()]))

    def _solve(self) -> None:
        n, rooms = self.steps, len(self._room)
        # k + E(k, s) ascending in k, and E(k, s - a) descending, so that a sum over all k is one of two slices.
        self._left = np.full((rooms, n + 1), _INFINITE, dtype=np.int32)
        self._right = self._left.copy()
        below = np.searchsorted(self._room, self._room - self.output, side="right") - 1  # -1: no room for an output
        for low in range(0, rooms, _ROWS):
            rows = slice(low, min(low + _ROWS, rooms))
            down = below[rows]
            exists = down >= 0
            for t in range(1, n + 1):
                cost = self._candidates(rows, t).min(axis=1, initial=_INFINITE)
                cost[self._room[rows] >= (t - 1) * self.internal] = 0
                self._left[rows, t] = cost + t
                self._right[rows, n - t][exists] = self._left[down[exists], t] - t

    def _candidates(self, rows: slice, steps: int) -> NDArray[np.int32]:
        return self._left[rows, 1:steps] + self._right[rows, self.steps - steps + 1 : self.steps]
