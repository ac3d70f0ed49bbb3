"""Appendix C: the heterogeneous chain, where every core has its own cost, state size and working need.

Core ``i`` maps the state at position ``i`` to the state at position ``i + 1``, for ``i = 0 .. n-1``. It costs ``u_i``,
its output takes ``s_i`` slots while it is stored, and ``p_i`` slots have to be free while it runs. The input of the
chain and the working state are outside the budget, so here ``m`` excludes the input. ``C(t, m, x)`` is the least cost
of the ``t`` cores after position ``x`` in ``m`` slots; ``U(x, y)`` is the sum of ``u``, ``P(x, y)`` the maximum of
``p``, over the cores ``x .. x+y-1``:

    Q(t, m, x, y) = U(x, y) + C(t - y, m - s_{x+y-1}, x + y) + C(y, m, x)     1 <= y < t,  P(x, y) <= m
    Q(t, m, x, t) = U(x, t) + C(t - 1, m, x)                                  P(x, t) <= m
    C(0, m, x) = 0       C(t, m, x) = min over y of Q

The case ``y = t`` stores nothing. At ``m = 0`` it is the paper's quadratic boundary, with its indices corrected:
``C(t, 0, x) = sum over i = 0 .. t-1 of (t - i) u_{x+i}``. It is needed at every ``m``: where all the states are larger
than the room, there is no other move.

The optimum is over *persistent* schedules: a stored state stays until the core it feeds has gone backward. Where all
the sizes are equal, no schedule at all was found to be cheaper. Where they differ, one that drops a state and
recomputes it can be: 18 against 19 for unit costs, ``p = 0``, ``s = (1, 2, 3, 3, 1, 1, 1)``, ``m = 2``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, starmap
from typing import Final

import numpy as np
from numpy.typing import NDArray

from membptt_theory.actions import Advance, Backpropagate, DropHidden, Instruction, Record, Restore, Sizes, StoreHidden
from membptt_theory.machine import meter
from membptt_theory.schedule import Schedule

_HIDDEN_ONLY: Final = Sizes(hidden=1, internal=None)
UNREACHABLE: Final = 2**60  # three of them still fit in an int64


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of cores.

    Args:
        costs: ``u_i``, cost of one forward of core ``i``, at least 1 each.
        sizes: ``s_i``, slots of its output state, at least 1 each; the last one is never stored.
        needs: ``p_i``, slots that have to be free while it runs, at least 0 each.

    Raises:
        TypeError: a number is not an integer.
        ValueError: empty, of unequal lengths, or a number out of range.

    Ref: gruslys2016, appendix C.
    """

    costs: tuple[int, ...]
    sizes: tuple[int, ...]
    needs: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.costs) == len(self.sizes) == len(self.needs) >= 1:
            raise ValueError(
                "costs, sizes and needs must have one entry per core, "
                f"got {len(self.costs)}, {len(self.sizes)} and {len(self.needs)}"
            )
        for name, least in (("costs", 1), ("sizes", 1), ("needs", 0)):
            for value in getattr(self, name):
                if not isinstance(value, int) or isinstance(value, bool):
                    raise TypeError(f"{name} must hold integers, got {value!r} of type {type(value).__name__}")
                if value < least:
                    raise ValueError(f"{name} must be at least {least}, got {value}")
        if len(self.costs) * sum(self.costs) >= UNREACHABLE:
            raise ValueError(f"the quadratic cost of the chain must stay below {UNREACHABLE}")

    def __len__(self) -> int:
        return len(self.costs)


@dataclass(frozen=True, eq=False)
class ChainTable:
    """Least costs and splits of every part of a chain; made by `solve_chain`.

    Args:
        chain: the chain.
        costs: int64, shape ``(n + 1, n + 1, slots + 1)``, indexed ``[x, t, m]``; `UNREACHABLE` where infeasible.
        splits: int32, same shape, the smallest optimal ``y``; ``t`` where nothing is stored.
    """

    chain: Chain
    costs: NDArray[np.int64]
    splits: NDArray[np.int32]

    def cost(self, slots: int, /) -> int:
        """Return the least cost of the whole chain in ``slots`` slots.

        Raises:
            ValueError: outside the table, or fewer slots than the largest working need.
        """
        if not 0 <= slots < self.costs.shape[2]:
            raise ValueError(f"slots must be between 0 and {self.costs.shape[2] - 1} for this table, got {slots}")
        if slots < max(self.chain.needs):
            raise ValueError(f"the chain needs at least {max(self.chain.needs)} slots to run, got {slots}")
        return int(self.costs[0, len(self.chain), slots])

    def schedule(self, slots: int, /) -> Schedule:
        """Return the schedule that backpropagates the chain at `cost`. The input is stored at position 0 throughout.

        A machine of equal slots executes it too; there `slots` is the number of states that are stored at once.

        Raises:
            ValueError: as `cost`.
        """
        cost = self.cost(slots)
        stored = meter(starmap(tuple.__new__, self._stream(slots)), steps=len(self.chain), sizes=_HIDDEN_ONLY).peak
        digest = hashlib.sha256(repr((self.chain, slots)).encode() + self.splits.tobytes()).hexdigest()
        return Schedule("chain", len(self.chain), _HIDDEN_ONLY, stored, cost, digest, partial(self._stream, slots))

    def _stream(self, slots: int) -> Iterator[Instruction]:
        pending = [(0, len(self.chain), slots)]  # parts left to solve, the next one last
        at: int | None = 0
        while pending:
            start, steps, room = pending.pop()
            if not steps:
                yield DropHidden, (start,)
                continue
            if at != start:
                yield Restore, (start,)
            y = int(self.splits[start, steps, room])
            if y == steps:
                if steps > 1:
                    yield Advance, (start, start + steps - 1)
                yield Record, (start + steps - 1,)
                yield Backpropagate, (start + steps - 1,)
                pending.append((start, steps - 1, room))
                at = None
            else:
                yield Advance, (start, start + y)
                yield StoreHidden, (start + y,)
                pending += [(start, y, room), (start + y, steps - y, room - self.chain.sizes[start + y - 1])]
                at = start + y


def solve_chain(chain: Chain, slots: int, /) -> ChainTable:
    """Solve appendix C's recurrence, with its corrected boundary, for every part of a chain: ``O(n^3 m)``.

    Args:
        chain: ``n`` cores.
        slots: largest budget ``m``, the input excluded, at least 0.

    Raises:
        ValueError: ``slots < 0``.

    Ref: gruslys2016, appendix C. Claim: chain-optimal.
    """
    if slots < 0:
        raise ValueError(f"slots must be at least 0, got {slots}")
    n = len(chain)
    costs = np.full((n + 1, n + 1, slots + 1), UNREACHABLE, dtype=np.int64)
    costs[:, 0] = 0
    splits = np.zeros(costs.shape, dtype=np.int32)
    for t in range(1, n + 1):
        for x in range(n - t + 1):
            spent = list(accumulate(chain.costs[x : x + t]))
            needs = list(accumulate(chain.needs[x : x + t], max))
            best, split = costs[x, t], splits[x, t]
            for y in range(1, t + 1):
                size = chain.sizes[x + y - 1] if y < t else 0
                low = max(size, needs[y - 1])
                if low > slots:
                    continue
                left = costs[x, min(y, t - 1), low:]
                right = costs[x + y, t - y, low - size : slots + 1 - size]
                q = np.minimum(spent[y - 1] + left + right, UNREACHABLE)
                better = q < best[low:]
                best[low:][better] = q[better]
                split[low:][better] = y
    return ChainTable(chain, costs, splits)
