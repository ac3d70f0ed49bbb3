"""The referee of long loops: what a sequence of stores costs at every length, counted in whole numbers.

HSM's costs come from Pascal's triangle by sums alone: the slope of ``C(., s)`` is ``r + 1`` up to ``binom(s + r, s)``
steps. Imports nothing of ours.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Worst(NamedTuple):
    """Where a policy is worst: its forwards, the offline optimum, and the length."""

    forwards: int
    offline: int
    steps: int


def costs_by_slopes(steps: int, slots: int) -> NDArray[np.int64]:
    """Return HSM's costs, shape ``(slots + 1, steps + 1)``; row 0 is unused."""
    costs = np.zeros((slots + 1, steps + 1), dtype=np.int64)
    length = np.arange(1, steps + 1)
    reach = np.ones(steps + 1, dtype=np.int64)  # binom(s + r, s) for r = 0, 1, ..
    for s in range(1, slots + 1):
        reach = np.minimum(np.cumsum(reach), steps + 1)
        costs[s, 1:] = np.cumsum(np.searchsorted(reach, length) + 1)
    return costs


def worst_ratio(
    stores: Iterable[tuple[int, int, tuple[int, ...]]], slots: int, steps: int, costs: NDArray[np.int64]
) -> Worst:
    """Return the worst of ``t = 1 .. steps`` for a policy whose newest step is never run twice.

    Args:
        stores: ``(due, position, dropped)`` in order, as far as `steps`; made before step ``due`` is run.
        slots: ``m``.
        steps: the longest loop.
        costs: of `costs_by_slopes`, at least as large.

    Raises:
        ValueError: more than ``m`` states are held, or a state that is not held is dropped.

    Claim: online-range.
    """
    offline = costs[slots].tolist()
    rooms = np.arange(slots, 0, -1)
    held, complete = [0], 0
    worst, t = Worst(1, 1, 1), 1
    for due, position, dropped in chain(stores, [(steps, steps, ())]):
        last, first = costs[slots + 1 - len(held)], held[-1] + 1
        for t in range(t, min(due, steps) + 1):  # noqa: B020
            forwards = t + complete + int(last[t - first])
            if forwards * worst.offline > worst.forwards * offline[t]:
                worst = Worst(forwards, offline[t], t)
        if due >= steps:
            return worst
        t = max(t, due) + 1
        for state in dropped:
            held.remove(state)
        insort(held, position)
        if len(held) > slots:
            raise ValueError(f"{len(held)} states are held in {slots} slots before step {due}")
        gaps = np.diff(held)
        complete = int(costs[rooms[: len(gaps)], gaps].sum())
    return worst
