"""The referees of two-tier storage: the recurrence transcribed naively, and the least cost over every legal schedule.

Both import nothing of ours, on purpose. A *legal schedule* is any stream of actions that backpropagates each step once,
last step first, and never holds more than ``fast`` hidden states in the fast tier and ``slow`` in the slow one. At any
time it may advance, store the working state in either tier, drop any state, restart from any state of either tier, keep
a state in both tiers, move it, and recompute what it dropped. Forwards, writes to and reads from the slow tier cost
what the caller says; all the rest is free. The working state and the working core are outside both tiers.

The search is a shortest path by repeated relaxation over every machine state ``(n, position, fast set, slow set)``,
with ``n`` steps left. The one thing it takes for granted: with ``n`` steps left, a state at a position above ``n - 1``
is of no use, because a run only goes upwards.

Ref: gruslys2016, section 3.1; aupy2016, herrmann2020.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

INFINITE = float("inf")  # only ever compared with; every finite cost stays an int
UNREACHABLE: Final = 2**40

Costs = NDArray[np.int64]


def least_costs(
    steps: int, fast: int, slow: int, /, *, forward: int = 1, write: int = 0, read: int = 0
) -> list[tuple[int | None, int | None]]:
    """Return the least cost of 0 .. `steps` steps over every legal schedule, by the tier that the start is stored in.

    Args:
        steps: ``t``, at least 0. In three slots a tier, ten steps take some seconds.
        fast: hidden states that the fast tier holds, the starting one included where it is there.
        slow: hidden states that the slow tier holds, the starting one included where it is there.
        forward: cost of one step forward.
        write: cost of a store to the slow tier.
        read: cost of a restart from the slow tier.

    Returns:
        A pair for each number of steps, the start in the fast tier first; ``None`` where that has no room for it. The
        start is the working state too.

    Raises:
        ValueError: a number is out of range.

    Claim: tiers-optimal.
    """
    if min(steps, fast, slow, write, read) < 0 or forward < 1:
        raise ValueError("numbers must not be negative, and a forward must cost at least 1")
    costs: list[tuple[int | None, int | None]] = [(0 if fast else None, 0 if slow else None)]
    before, rest = (_Sets(0, fast), _Sets(0, slow)), np.zeros((1, 1), dtype=np.int64)
    for n in range(1, steps + 1):
        sets = _Sets(n, fast), _Sets(n, slow)
        at = _relaxed(rest, before, sets, (forward, write, read))
        before, rest = sets, _restarted(at, sets, read)
        starts = at[0, sets[0].index[1], 0] if fast else None, at[0, 0, sets[1].index[1]] if slow else None
        costs.append((None if starts[0] is None else int(starts[0]), None if starts[1] is None else int(starts[1])))
    return costs


def least_cost(
    steps: int, fast: int, slow: int, /, *, forward: int = 1, write: int = 0, read: int = 0, start_slow: bool = False
) -> int:
    """Return the least cost of `steps` steps, with the start in one tier; see `least_costs`.

    Raises:
        ValueError: a number is out of range, or the tier has no room for the starting state.
    """
    cost = least_costs(steps, fast, slow, forward=forward, write=write, read=read)[-1][start_slow]
    if cost is None:
        raise ValueError("the tier of the starting state has no room for it")
    return cost


def naive_tiers(
    steps: int, fast: int, slow: int | None, /, *, forward: int = 1, write: int = 0, read: int = 0
) -> dict[tuple[bool, int, int | None, int], float]:
    """Return the recurrence's cost for every ``(start_slow, f, s, t)`` up to the given sizes, by plain recursion.

    ``slow = None`` has one ``s``, which is ``None``: as many slow slots as there are states.
    """

    def fewer(s: int | None) -> int | None:
        return None if s is None else s - 1

    def none_left(s: int | None) -> bool:
        return s is not None and s < 1

    def cut(start_slow: bool, f: int, s: int | None, t: int) -> float:
        """Cost where the starting state stays in its tier until something goes backward."""
        if none_left(s) if start_slow else f < 1:
            return INFINITE
        again = read if start_slow else 0
        best = forward * t + (again + least(start_slow, f, s, t - 1) if t > 1 else 0)
        right_f, right_s = (f, fewer(s)) if start_slow else (f - 1, s)
        for y in range(1, t):
            left = forward * y + again + least(start_slow, f, s, y)
            best = min(best, left + least(False, right_f, right_s, t - y))
            best = min(best, left + write + least(True, right_f, right_s, t - y))
        return best

    @cache
    def least(start_slow: bool, f: int, s: int | None, t: int) -> float:
        here = cut(start_slow, f, s, t)
        if here == INFINITE:  # the starting state cannot be there at all
            return INFINITE
        return min(here, cut(not start_slow, f, s, t) + (0 if start_slow else write))

    rows: list[int | None] = [None] if slow is None else list(range(slow + 1))
    return {
        (start_slow, f, s, t): least(start_slow, f, s, t)
        for t in range(1, steps + 1)  # ascending, which keeps the recursion shallow
        for s in rows
        for f in range(fast + 1)
        for start_slow in (False, True)
    }


class _Sets:
    """What one tier may hold with `n` steps left: every set of positions below `n`, of at most `room`.

    Attributes:
        sets: as bit masks, the empty one first.
        index: of each mask among them; -1 where it holds too many.
    """

    def __init__(self, n: int, room: int) -> None:
        masks = np.arange(2**n)
        self.sets = masks[[int(mask).bit_count() <= room for mask in masks]]
        self.index = np.full(2**n, -1)
        self.index[self.sets] = np.arange(len(self.sets))

    def with_and_without(self, q: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, as indices, the sets that hold position `q`, and the same without it."""
        holding = np.flatnonzero(self.sets >> q & 1)
        return holding, self.index[self.sets[holding] & ~(1 << q)]


def _relaxed(rest: Costs, before: tuple[_Sets, _Sets], sets: tuple[_Sets, _Sets], costs: tuple[int, int, int]) -> Costs:
    """Return the least cost to the end by working position, fast set and slow set.

    Args:
        rest: the same right after the backward of the last step, by the sets of `before`.
        before: what each tier may hold with a step less.
        sets: what it may hold.
        costs: of a forward, a write, a read.
    """
    forward, write, read = costs
    n = len(sets[0].index).bit_length() - 1
    # What is stored behind the last step is of no use once that is done.
    left = [earlier.index[tier.sets % 2 ** (n - 1)] for earlier, tier in zip(before, sets, strict=True)]
    at = np.full((n, *(len(tier.sets) for tier in sets)), UNREACHABLE, dtype=np.int64)
    at[n - 1] = rest[left[0]][:, left[1]] + forward
    while True:
        known = at.copy()
        np.minimum(at[:-1], at[1:] + forward, out=at[:-1])
        for q in range(n):
            (held, bare), (held_slow, bare_slow) = (tier.with_and_without(q) for tier in sets)
            at[q, bare] = np.minimum(at[q, bare], at[q, held])  # stored
            at[q][:, bare_slow] = np.minimum(at[q][:, bare_slow], at[q][:, held_slow] + write)
            at[:, held] = np.minimum(at[:, held], at[:, bare])  # dropped
            at[:, :, held_slow] = np.minimum(at[:, :, held_slow], at[:, :, bare_slow])
        np.minimum(at, _restarted(at, sets, read), out=at)
        if (at == known).all():
            return at


def _restarted(at: Costs, sets: tuple[_Sets, _Sets], read: int) -> Costs:
    """Return the least cost after a restart from a stored state, by fast set and slow set."""
    best = np.full(at.shape[1:], UNREACHABLE, dtype=np.int64)
    for q, value in enumerate(at):
        held, slow = (tier.with_and_without(q)[0] for tier in sets)
        best[held] = np.minimum(best[held], value[held])
        best[:, slow] = np.minimum(best[:, slow], value[:, slow] + read)
    return best
