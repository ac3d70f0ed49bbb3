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


def least_cost(
    steps: int, fast: int, slow: int, /, *, forward: int = 1, write: int = 0, read: int = 0, start_slow: bool = False
) -> int:
    """Return the least cost of ``steps`` steps over every legal schedule.

    Args:
        steps: ``t``, at least 0. Time and memory grow as ``4**t``; ``t = 8`` takes a second.
        fast: hidden states that the fast tier holds, the starting one included where it is there.
        slow: hidden states that the slow tier holds, the starting one included where it is there.
        forward: cost of one step forward.
        write: cost of a store to the slow tier.
        read: cost of a restart from the slow tier.
        start_slow: the starting state is stored in the slow tier, else in the fast one. It is the working state too.

    Raises:
        ValueError: a number is out of range, or the tier has no room for the starting state.

    Claim: tiers-optimal.
    """
    if min(steps, fast, slow, write, read) < 0 or forward < 1:
        raise ValueError("numbers must not be negative, and a forward must cost at least 1")
    if (slow if start_slow else fast) < 1:
        raise ValueError("the tier of the starting state has no room for it")
    if not steps:
        return 0
    rest = np.zeros((1, 1), dtype=np.int64)
    for n in range(1, steps + 1):
        at = _relaxed(rest, n, (fast, slow), (forward, write, read))
        rest = _restarted(at, read)
    return int(at[0, 0, 1] if start_slow else at[0, 1, 0])


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


def _relaxed(rest: Costs, n: int, room: tuple[int, int], costs: tuple[int, int, int]) -> Costs:
    """Return the least cost to the end by working position ``0 .. n-1``, fast set and slow set, with `n` steps left.

    Args:
        rest: the same right after the backward of step ``n - 1``, by fast set and slow set.
        n: steps left.
        room: states that each tier holds.
        costs: of a forward, a write, a read.
    """
    forward, write, read = costs
    sets = np.arange(2**n)
    count = np.array([int(stored).bit_count() for stored in sets])
    illegal = (count > room[0])[:, None] | (count > room[1])[None, :]
    below = sets % 2 ** (n - 1)
    at = np.full((n, 2**n, 2**n), UNREACHABLE, dtype=np.int64)
    at[n - 1] = np.where(illegal, UNREACHABLE, rest[below][:, below] + forward)
    while True:
        before = at.copy()
        np.minimum(at[:-1], at[1:] + forward, out=at[:-1])
        for q in range(n):
            held, dropped = sets | 1 << q, sets & ~(1 << q)
            np.minimum(at[q], at[q][held], out=at[q])
            np.minimum(at[q], at[q][:, held] + write, out=at[q])
            np.minimum(at, at[:, dropped], out=at)
            np.minimum(at, at[:, :, dropped], out=at)
            at[:, illegal] = UNREACHABLE
        np.minimum(at, _restarted(at, read), out=at)
        at[:, illegal] = UNREACHABLE
        if (at == before).all():
            return at


def _restarted(at: Costs, read: int) -> Costs:
    """Return the least cost after a restart from a stored state, by fast set and slow set."""
    best = np.full(at.shape[1:], UNREACHABLE, dtype=np.int64)
    for q, value in enumerate(at):
        held = np.flatnonzero(np.arange(len(best)) >> q & 1)
        best[held] = np.minimum(best[held], value[held])
        best[:, held] = np.minimum(best[:, held], value[:, held] + read)
    return best
