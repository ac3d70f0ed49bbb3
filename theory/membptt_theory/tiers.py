"""Hidden states in two tiers: a few fast slots, and slow ones where every store and every restart is paid for.

A schedule costs ``forward`` per step, ``write`` per store to the slow tier, ``read`` per restart from it (`Prices`);
transfers are charged in full, as if nothing ever ran beside them. The starting state of a sub-sequence is stored in one
of the tiers, and is the working state. Let ``A`` be the least cost where it is in the fast tier, ``B`` where it is in
the slow one, for ``f`` fast and ``s`` slow slots, the starting state's own slot included:

    A(t, f, s) = min( y + A(t-y, f-1, s) + A(y, f, s);   y + write + B(t-y, f-1, s) + A(y, f, s);
                      t + A(t-1, f, s);                  write + B(t, f, s) )
    B(t, f, s) = min( y + A(t-y, f, s-1) + B'(y, f, s);  y + write + B(t-y, f, s-1) + B'(y, f, s);
                      t + B'(t-1, f, s);                 A(t, f, s) )

with ``1 <= y < t``, each ``y`` and ``t`` times ``forward``, ``B' = read + B`` for at least one step, all three 0 for
none, ``A`` infeasible at ``f = 0`` and ``B`` at ``s = 0``. The last term of each moves the starting state to the other
tier: a fetched state may stay, a fast one may make room; it asks for room in both. With ``slow = None`` there are as
many slow slots as states, and ``s - 1`` is ``s``.

No schedule was found to be cheaper (``membptt_proofs.tiers_oracle``). Neither move can be left out; to keep a state in
both tiers at once saves nothing.

Ref: gruslys2016, (1)-(3); two tiers: aupy2016, herrmann2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropSlow,
    Prices,
    Record,
    Restore,
    RestoreSlow,
    Sizes,
    StoreHidden,
    StoreSlow,
    TieredInstruction,
)
from membptt_theory.archive import ARRAYS, Header, TableError, admit, digest_arrays, load_table, save_arrays
from membptt_theory.cache import TABLES
from membptt_theory.recurrences import INFEASIBLE
from membptt_theory.schedule import Schedule
from membptt_theory.tables import check_count
from membptt_theory.tiers_sweep import Tier, TierDecision, TierSweep

__all__ = ["Prices", "Tier", "TierDecision", "TierTable", "build_tiers", "useful_slow"]

FORMAT: Final = "membptt-tier-table/1"


def build_tiers(steps: int, fast: int, slow: int | None, prices: Prices, /) -> TierTable:
    """Build the table for every ``t <= steps``, ``f <= fast`` and ``s <= slow``: ``O(t^2 f s)``.

    Args:
        steps: longest sequence, at least 1.
        fast: largest number of fast slots, at least 0.
        slow: largest number of slow slots, at least 0; ``None``: as many as there are states, at 1/slow of the work.
        prices: of a forward, a write and a read.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number is out of range, neither tier has a slot, or costs could leave the range of int64.

    Claim: tiers-recurrence.
    """
    steps, fast = check_count("steps", steps), check_count("fast", fast, least=0)
    slow = None if slow is None else check_count("slow", slow, least=0)
    if fast == 0 and slow == 0:
        raise ValueError("neither tier has a slot for the starting state")
    return _build(steps, fast, slow, prices)


def useful_slow(steps: int, slow: int | None, /) -> int | None:
    """Return `slow`, or ``None`` where that is as good: a sequence has no more states to store than steps.

    Raises:
        TypeError: a number is not an integer.
        ValueError: ``steps < 1`` or ``slow < 0``.
    """
    steps = check_count("steps", steps)
    return None if slow is None or check_count("slow", slow, least=0) >= steps else slow


@dataclass(frozen=True, eq=False)
class TierTable:
    """Costs, decisions and splits for every ``t``, ``f``, ``s`` and tier of the starting state.

    Construction checks the Bellman equality at every entry, and that each decision is the first of the cheapest: one
    recurrence has one table, and one digest.

    Args:
        prices: of a forward, a write and a read.
        bounded: whether the slow slots are counted; else there is one row of them, which never runs out.
        costs: int64, shape ``(2, slow + 1 or 1, fast + 1, steps + 1)``, the first axis a `Tier`.
        decisions: uint8, same shape, a `TierDecision` each.
        splits: int32, same shape, ``y``; ``t`` where nothing is stored, 0 for a move or where there is no decision.

    Raises:
        TableError: shapes, dtypes, boundary, a decision, a split or a cost violate the recurrence.

    Claim: tiers-bellman.
    """

    prices: Prices
    bounded: bool
    costs: NDArray[np.int64]
    decisions: NDArray[np.uint8]
    splits: NDArray[np.int32]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.bounded, bool):
            raise TableError(f"bounded must be True or False, got {self.bounded!r}")
        shape = self.costs.shape
        for name in ARRAYS:
            object.__setattr__(self, name, admit(name, getattr(self, name), shape))
        if len(shape) != 4 or shape[0] != 2 or min(shape) < 1 or shape[3] < 2 or not (self.bounded or shape[1] == 1):
            raise TableError(f"costs must be (2, slow + 1, fast + 1, steps + 1), got {shape}")
        object.__setattr__(self, "digest", self.compute_digest())
        self._check_boundary()
        self._check_decisions()
        self._check_minimum()

    @property
    def steps(self) -> int:
        """Longest sequence in the table."""
        return int(self.costs.shape[3]) - 1

    @property
    def fast(self) -> int:
        """Largest number of fast slots in the table."""
        return int(self.costs.shape[2]) - 1

    @property
    def slow(self) -> int | None:
        """Largest number of slow slots in the table; ``None`` where they do not run out."""
        return int(self.costs.shape[1]) - 1 if self.bounded else None

    @property
    def kept_bytes(self) -> int:
        """Bytes of its arrays."""
        return self.costs.nbytes + self.decisions.nbytes + self.splits.nbytes

    @property
    def title(self) -> str:
        """What it is, for people."""
        return "hsm in two tiers"

    def cost(self, steps: int, fast: int, slow: int | None, /, tier: Tier = Tier.FAST) -> int:
        """Return the least cost of ``steps`` steps, in the unit of `prices`.

        Args:
            steps: ``t``.
            fast: ``f``, the starting state's slot included where it is in the fast tier.
            slow: ``s``, likewise; ``None`` exactly where the table has ``slow = None``.
            tier: where the starting state is stored.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: outside the table, or no slot for the starting state.
        """
        return int(self.costs[tier, self._row(steps, fast, slow, tier, least=0), fast, steps])

    def decision(self, steps: int, fast: int, slow: int | None, /, tier: Tier = Tier.FAST) -> tuple[TierDecision, int]:
        """Return the decision and ``y`` of ``t >= 1`` steps.

        Raises:
            TypeError: as `cost`.
            ValueError: as `cost`, or ``t = 0``.
        """
        at = (tier, self._row(steps, fast, slow, tier, least=1), fast, steps)
        return TierDecision(int(self.decisions[at])), int(self.splits[at])

    def schedule(self, steps: int, fast: int, slow: int | None = None, /, tier: Tier = Tier.FAST) -> Schedule:
        """Return the schedule that backpropagates ``steps`` steps at ``self.cost(steps, fast, slow, tier)``; lazy.

        Args:
            steps: ``t``.
            fast: ``f``.
            slow: ``s``; by default as many as the table has.
            tier: where the starting state is stored.

        Raises:
            TypeError: as `cost`.
            ValueError: as `cost`, or ``steps < 1``.

        Claim: tiers-metered-cost-equals-table.
        """
        slow = self.slow if slow is None else slow
        self.decision(steps, fast, slow, tier)
        return Schedule(
            self.title,
            steps,
            Sizes(hidden=1, internal=None),
            fast,
            self.cost(steps, fast, slow, tier),
            self.digest,
            partial(_stream, self, steps, fast, slow or 0, tier),
            source=self,
            slow=slow,
            prices=self.prices,
            start_slow=tier is Tier.SLOW,
        )

    def spilling(self, steps: int, fast: int, slow: int | None, prices: Prices | None, /) -> Schedule:
        """Return `schedule` with the slow tier that a caller asks for.

        Raises:
            TypeError: as `cost`.
            ValueError: as `schedule`, or `prices` are not the table's.
        """
        if prices not in (None, self.prices):
            raise ValueError(f"the table was built for {self.prices}, spill names {prices}: leave them out")
        return self.schedule(steps, fast, slow)

    def compute_digest(self) -> str:
        """Hash the canonical form again."""
        return digest_arrays(self._header(), {name: getattr(self, name) for name in ARRAYS})

    def save(self, path: str | Path) -> None:
        """Write the table to an ``.npz`` file, whole or not at all."""
        save_arrays(path, self._header(), self.digest, {name: getattr(self, name) for name in ARRAYS})

    @classmethod
    def load(cls, path: str | Path, *, limit: int = 2**32) -> TierTable:
        """Read a table that `save` wrote; nothing is unpickled.

        Args:
            path: the ``.npz`` file.
            limit: largest number of bytes the arrays may take; checked before anything is allocated.

        Raises:
            TableError: missing, truncated, foreign, another version, too large, wrong digest, or not a solution of the
                recurrence.
        """
        return load_table(
            path,
            FORMAT,
            lambda header, arrays: cls(Prices(**header["prices"]), header["bounded"], **arrays),
            limit=limit,
        )

    def _header(self) -> Header:
        prices = asdict(self.prices)
        return {"format": FORMAT, "prices": prices, "bounded": self.bounded, "shape": list(self.costs.shape)}

    def _row(self, steps: int, fast: int, slow: int | None, tier: Tier, *, least: int) -> int:
        """Check a query and return its row on the axis of slow slots."""
        if (slow is None) is self.bounded:
            raise ValueError(f"slow must be {'a number' if self.bounded else 'None'} for this table, got {slow!r}")
        row = slow or 0
        for name, value, low, high in (
            ("steps", steps, least, self.steps),
            ("fast", fast, int(tier == Tier.FAST), self.fast),
            ("slow", row, int(tier == Tier.SLOW and self.bounded), self.slow or 0),
        ):
            if not low <= check_count(name, value, least=0) <= high:
                raise ValueError(
                    f"{name} must be between {low} and {high} for this table and tier {tier.name}, got {value}"
                )
        return row

    def _check_boundary(self) -> None:
        feasible = self._feasible()
        idle = ~feasible | (np.arange(self.steps + 1) == 0)
        wrong = (self.costs[..., 0] != 0).any() or (self.costs[..., 1:][~feasible[..., 1:]] != INFEASIBLE).any()
        if wrong or self.decisions[idle].any() or self.splits[idle].any():
            raise TableError("the boundary of the two-tier recurrence is violated")

    def _check_decisions(self) -> None:
        """Check that every entry costs what its own decision and split cost, without the sweep that chose them."""
        feasible = self._feasible()
        feasible[..., 0] = False
        tier, s, f, t = np.nonzero(feasible)
        decision, y = self.decisions[feasible], self.splits[feasible].astype(np.int64)
        prices, in_fast = self.prices, tier == Tier.FAST
        cut = decision <= TierDecision.SLOW
        last, move = decision == TierDecision.LAST, decision == TierDecision.MOVE
        legal = (cut & (y >= 1) & (y < t)) | (last & (y == t)) | (move & (y == 0))
        left = np.clip(y - last, 0, t)
        q = prices.forward * y + self.costs[tier, s, f, left] + np.where(~in_fast & (left > 0), prices.read, 0)
        right_s = s - ~in_fast if self.bounded else s
        right = self.costs[np.where(cut, decision, 0), right_s, f - in_fast, np.clip(t - y, 0, t)]
        q += np.where(cut, right + np.where(decision == TierDecision.SLOW, prices.write, 0), 0)
        moved = self.costs[1 - tier, s, f, t] + np.where(in_fast, prices.write, 0)
        wrong = ~legal | (np.where(move, moved, q) != self.costs[feasible])
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise TableError(
                f"entry t={t[i]}, fast={f[i]}, slow={s[i] if self.bounded else None}, start in tier "
                f"{Tier(int(tier[i])).name}: cost {self.costs[feasible][i]} is not what its decision {decision[i]} at "
                f"y={y[i]} costs"
            )

    def _check_minimum(self) -> None:
        sweep = TierSweep(self.prices, self.steps, self.fast, self.slow)
        for rows in sweep.blocks():
            for t in range(1, self.steps + 1):
                cost, decision, split = sweep.best(rows, t)
                given = np.minimum(self.costs[:, rows, :, t], sweep.infeasible)
                if (cost < given).any():
                    raise TableError(f"an entry t={t} is not the minimum of the recurrence: another split is cheaper")
                if (decision != self.decisions[:, rows, :, t]).any() or (split != self.splits[:, rows, :, t]).any():
                    raise TableError(f"an entry t={t} is not the first of its cheapest decisions and splits")
                sweep.put(rows, t, given.astype(sweep.dtype))

    def _feasible(self) -> NDArray[np.bool_]:
        """Whether the starting state has a slot."""
        feasible = np.ones(self.costs.shape, dtype=bool)
        feasible[Tier.FAST, :, 0] = False
        if self.bounded:
            feasible[Tier.SLOW, 0] = False
        return feasible


def _stream(table: TierTable, steps: int, fast: int, row: int, tier: Tier) -> Iterator[TieredInstruction]:
    store, restore, drop = (StoreHidden, StoreSlow), (Restore, RestoreSlow), (DropHidden, DropSlow)
    pending: list[tuple[int, int, int, int, Tier]] = []  # parts left to solve, the next one last
    start, there = 0, True
    while True:
        if not there:
            yield restore[tier], (start,)
        at = (tier, row, fast, steps)
        decision, y = TierDecision(int(table.decisions[at])), int(table.splits[at])
        there = decision is not TierDecision.LAST
        if decision is TierDecision.MOVE:
            yield store[1 - tier], (start,)
            yield drop[tier], (start,)
            tier = Tier(1 - tier)
        elif decision is TierDecision.LAST:
            if steps > 1:
                yield Advance, (start, start + steps - 1)
            yield Record, (start + steps - 1,)
            yield Backpropagate, (start + steps - 1,)
            steps -= 1
            if not steps:
                yield drop[tier], (start,)
                if not pending:
                    return
                start, steps, fast, row, tier = pending.pop()
        else:
            yield Advance, (start, start + y)
            yield store[decision], (start + y,)
            pending.append((start, y, fast, row, tier))
            fast, row = fast - (tier is Tier.FAST), row - (tier is Tier.SLOW and table.bounded)
            start, steps, tier = start + y, steps - y, Tier(decision)


@TABLES.remember
def _build(steps: int, fast: int, slow: int | None, prices: Prices) -> TierTable:
    sweep = TierSweep(prices, steps, fast, slow)
    shape = (2, 1 if slow is None else slow + 1, fast + 1, steps + 1)
    costs = np.zeros(shape, dtype=np.int64)
    decisions = np.zeros(shape, dtype=np.uint8)
    splits = np.zeros(shape, dtype=np.int32)
    for rows in sweep.blocks():
        for t in range(1, steps + 1):
            best, decisions[:, rows, :, t], splits[:, rows, :, t] = sweep.best(rows, t)
            costs[:, rows, :, t] = np.where(best < sweep.infeasible, best.astype(np.int64), INFEASIBLE)
            sweep.put(rows, t, best)
    return TierTable(prices, slow is not None, costs, decisions, splits)
