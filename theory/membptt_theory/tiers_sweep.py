"""The minimum over all splits of the two-tier recurrence: what builds its table, and what re-checks it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from membptt_theory.actions import Prices

# Costs per block: its working set should stay in a processor's second-level cache.
_BLOCK: Final = 2**18


class Tier(IntEnum):
    """Where a hidden state is stored."""

    FAST = 0
    SLOW = 1


class TierDecision(IntEnum):
    """What to do with a sub-sequence. Earlier ones win ties; within one, the smallest ``y``."""

    FAST = 0  # store the hidden state after y steps in the fast tier
    SLOW = 1  # store it in the slow tier
    LAST = 2  # store nothing: run to the end, backpropagate the last step, then solve the other t - 1
    MOVE = 3  # move the starting state to the other tier


class TierSweep:
    """Costs laid out so that ``Q`` over all splits is one addition of two contiguous slices.

    One is the left part's cost with the run and the restart before it, ascending; the other the right part's with the
    store before it, descending. Costs are int32 where every sum fits, else int64: always exact.

    Args:
        prices: of a forward, a write and a read.
        steps: longest sequence.
        fast: largest number of fast slots.
        slow: largest number of slow slots; ``None``: as many as there are states.

    Raises:
        ValueError: costs could leave the range of int64.
    """

    def __init__(self, prices: Prices, steps: int, fast: int, slow: int | None) -> None:
        largest = prices.forward * steps * (steps + 3) // 2 + prices.read * (steps + 1) + 2 * prices.write
        if largest >= 2**59:
            raise ValueError(f"costs of {steps} steps at {prices} could exceed {2**59}: choose a coarser unit")
        narrow = largest < 2**28
        self.dtype: type[np.signedinteger[Any]] = np.int32 if narrow else np.int64
        self.infeasible = 2**28 if narrow else 2**60
        self._prices, self._steps, self._fast = prices, steps, fast
        self._bounded = slow is not None
        self._rows = 1 if slow is None else slow + 1
        self._rising = np.full((2, self._rows, fast + 1, steps + 1), self.infeasible, dtype=self.dtype)
        self._falling = self._rising.copy()
        self._rising[..., 0] = 0

    def blocks(self) -> Iterator[slice]:
        """Yield blocks of slow slots in the order in which they can be solved: a row depends on rows above it alone."""
        size = max(1, _BLOCK // (self._steps * (self._fast + 1)))
        for low in range(0, self._rows, size):
            yield slice(low, min(low + size, self._rows))

    def put(self, rows: slice, steps: int, costs: NDArray[Any]) -> None:
        """Enter the costs of ``steps`` steps, shape ``(2, rows, fast + 1)``: tier of the start, slow slots, fast."""
        prices = self._prices
        restart = np.array([0, prices.read], dtype=self.dtype)[:, None, None]
        store = np.array([0, prices.write], dtype=self.dtype)[:, None, None]
        self._rising[:, rows, :, steps] = costs + restart + prices.forward * steps
        self._falling[:, rows, :, self._steps - steps] = costs + store

    def best(self, rows: slice, steps: int) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.int32]]:
        """Return least cost, decision and smallest optimal split of ``steps`` steps, shaped as in `put`.

        Where the starting state does not fit: `infeasible`, and zeros.
        """
        shape = (2, rows.stop - rows.start, self._fast + 1)
        cost = np.full(shape, self.infeasible, dtype=self.dtype)
        decision = np.zeros(shape, dtype=np.uint8)
        split = np.zeros(shape, dtype=np.int32)
        for tier in Tier:
            first = int(tier is Tier.FAST)  # fewest fast slots
            low = max(rows.start, int(tier is Tier.SLOW and self._bounded))
            if low >= rows.stop or first > self._fast:
                continue
            part = (tier, slice(low - rows.start, None), slice(first, None))
            left = self._rising[tier, low : rows.stop, first:, :steps]
            cost[part] = np.minimum(left[..., steps - 1] + self._prices.forward, self.infeasible)
            decision[part], split[part] = TierDecision.LAST, steps
            taken = int(tier is Tier.SLOW and self._bounded)
            right = (slice(low - taken, rows.stop - taken), slice(0, self._fast + 1 - first))
            # From the family that loses ties to the one that wins them.
            for stored in (Tier.SLOW, Tier.FAST) if steps > 1 else ():
                start = self._steps - steps
                q = left[..., 1:] + self._falling[stored, *right, start + 1 : start + steps]
                at = q.argmin(axis=-1)
                least = np.take_along_axis(q, at[..., None], axis=-1)[..., 0]
                better = (least <= cost[part]) & (least < self.infeasible)
                cost[part] = np.where(better, least, cost[part])
                decision[part] = np.where(better, np.uint8(stored), decision[part])
                split[part] = np.where(better, (at + 1).astype(np.int32), split[part])
        return self._moved(rows, cost, decision, split)

    def _moved(
        self, rows: slice, cost: NDArray[Any], decision: NDArray[np.uint8], split: NDArray[np.int32]
    ) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.int32]]:
        """Let the starting state change its tier first, where that is cheaper and it fits in either."""
        fits = np.ones(cost.shape[1:], dtype=bool)
        fits[:, 0] = False
        if self._bounded and rows.start == 0:
            fits[0] = False
        elsewhere = np.stack([cost[Tier.SLOW] + self._prices.write, cost[Tier.FAST]])
        better = fits & (elsewhere < cost)
        return (
            np.where(better, elsewhere, cost),
            np.where(better, np.uint8(TierDecision.MOVE), decision),
            np.where(better, np.int32(0), split),
        )
