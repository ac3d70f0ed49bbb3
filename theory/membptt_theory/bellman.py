"""The minimum over all splits, fast and exact: what builds a table that has no closed form, and what re-checks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from membptt_theory.recurrences import Decision, Recurrence

# Costs per block: its working set should stay in a processor's second-level cache.
_BLOCK = 2**17


class Sweep:
    """Costs laid out so that ``Q`` over all splits is one addition of two contiguous slices.

    With ``G(s) = C(s) + s``, ``Q = taken + G(y - taken) + C(t - y)``; ``G`` is kept ascending and ``C`` descending.
    Costs are int32 where every sum fits, else int64: always exact.

    Args:
        rule: the Bellman equation.
        slots: largest number of slots.
        steps: longest sequence.
    """

    def __init__(self, rule: Recurrence, slots: int, steps: int) -> None:
        narrow = steps * (steps + 1) // 2 + steps < 2**29
        self.dtype: type[np.signedinteger[Any]] = np.int32 if narrow else np.int64
        self.infeasible = 2**29 if narrow else 2**60
        self._rule = rule
        self._slots, self._steps = slots, steps
        shape = (len(rule.cuts), slots + 1, steps + 1)
        self._rising = np.full(shape, self.infeasible, dtype=self.dtype)
        self._falling = self._rising.copy()
        self._rising[:, :, 0] = self._falling[:, :, steps] = 0

    def blocks(self) -> Iterator[slice]:
        """Yield blocks of rows, in the order in which they can be solved: a row depends on rows above it alone."""
        size = max(8, _BLOCK // self._steps)
        for low in range(1, self._slots + 1, size):
            yield slice(low, min(low + size, self._slots + 1))

    def put(self, mode: int, rows: slice, steps: int, costs: NDArray[Any]) -> None:
        """Enter ``C(steps, m)`` for the slots `rows`."""
        self._rising[mode, rows, steps] = costs + steps
        self._falling[mode, rows, self._steps - steps] = costs

    def best(self, mode: int, rows: slice, steps: int) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.int32]]:
        """Return least cost, decision and smallest optimal split of ``steps`` steps for the slots `rows`."""
        count = rows.stop - rows.start
        cost = np.full(count, self.infeasible, dtype=self.dtype)
        decision = np.full(count, Decision.LAST, dtype=np.uint8)
        split = np.full(count, steps, dtype=np.int32)
        for kind, low, q, skipped, taken in self._candidates(mode, rows, steps):
            at = q.argmin(axis=1)
            least = q[np.arange(len(q)), at] + taken
            better = np.flatnonzero(least < cost[skipped:])
            cost[skipped + better] = least[better]
            decision[skipped + better] = kind
            split[skipped + better] = low + at[better]
        return cost, decision, split

    def least(self, mode: int, rows: slice, steps: int) -> NDArray[Any]:
        """Return the least cost alone."""
        cost = np.full(rows.stop - rows.start, self.infeasible, dtype=self.dtype)
        for _, _, q, skipped, taken in self._candidates(mode, rows, steps):
            np.minimum(cost[skipped:], q.min(axis=1) + taken, out=cost[skipped:])
        return cost

    def _candidates(self, mode: int, rows: slice, steps: int) -> Iterator[tuple[Decision, int, NDArray[Any], int, int]]:
        """Yield per family of cuts: kind, first split, ``Q - taken`` by row and split, rows out of reach, ``taken``."""
        for cut in self._rule.cuts[mode]:
            splits = cut.splits(steps)
            skipped = max(0, cut.room - rows.start)
            first = rows.start + skipped
            if not splits or first >= rows.stop:
                continue
            low, high = splits[0], splits[-1]
            left = self._rising[mode, first : rows.stop, low - cut.taken : high + 1 - cut.taken]
            start = self._steps - steps
            right_rows = slice(first - cut.room, rows.stop - cut.room)
            right = self._falling[self._rule.right_mode(cut.decision), right_rows, start + low : start + high + 1]
            q = left + right
            yield cut.decision, low, q, skipped, cut.taken
