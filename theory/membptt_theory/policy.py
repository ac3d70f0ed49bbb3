"""The policy table: one frozen array of exact integers that is the specification, the runtime and the picture.

House rules: costs are ints; no other code computes a split; a table that does not satisfy its own Bellman equality is
never constructed; two tables are the same policy exactly where their digests are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from membptt_theory.actions import Prices, Sizes
from membptt_theory.archive import ARRAYS, Header, TableError, admit, digest_arrays, load_table, save_arrays
from membptt_theory.bellman import Sweep
from membptt_theory.policies import NO_TIERS, recurrence
from membptt_theory.recurrences import INFEASIBLE, OWNED, Decision, Recurrence
from membptt_theory.schedule import Schedule
from membptt_theory.streams import graphs, instructions

FORMAT: Final = "membptt-policy-table/1"


@dataclass(frozen=True, eq=False)
class PolicyTable:
    """Costs, decisions and splits of one policy for every ``t <= steps`` and ``m <= slots``.

    Construction checks the Bellman equality ``C = min_y Q`` at every entry, so that an instance is always a policy
    whose costs are exactly what its own splits cost and which no other split improves.

    Args:
        policy: name, one of `membptt_theory.policies.POLICIES`.
        sizes: slots of each kind of stored state.
        costs: int64, shape ``(modes, slots + 1, steps + 1)``, forwards.
        decisions: uint8, same shape, a `Decision` each.
        splits: int32, same shape, ``y`` of the decision (0 where ``t = 0`` or ``m = 0``).

    Raises:
        TableError: shapes, dtypes, boundary, a decision, a split or a cost violate the recurrence.

    Ref: gruslys2016, Algorithm 1. Claim: table-bellman.
    """

    policy: str
    sizes: Sizes
    costs: NDArray[np.int64]
    decisions: NDArray[np.uint8]
    splits: NDArray[np.int32]
    recurrence: Recurrence = field(init=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        try:
            rule = recurrence(self.policy, internal=self.sizes.internal or 1, internal_known=self.sizes.internal_known)
        except ValueError as error:
            raise TableError(str(error)) from error
        if rule.sizes != self.sizes:
            raise TableError(f"policy {self.policy!r} has sizes {rule.sizes}, the table says {self.sizes}")
        object.__setattr__(self, "recurrence", rule)
        for name in ARRAYS:
            object.__setattr__(self, name, admit(name, getattr(self, name), self.costs.shape))
        if self.costs.ndim != 3 or len(self.costs) != len(rule.cuts) or min(self.costs.shape[1:]) < 2:
            raise TableError(f"costs must be ({len(rule.cuts)}, slots + 1, steps + 1), got {self.costs.shape}")
        object.__setattr__(self, "digest", self.compute_digest())
        self._check_boundary()
        self._check_decisions()
        self._check_minimum()

    @property
    def steps(self) -> int:
        """Longest sequence in the table."""
        return int(self.costs.shape[2]) - 1

    @property
    def slots(self) -> int:
        """Largest number of slots in the table."""
        return int(self.costs.shape[1]) - 1

    @property
    def kept_bytes(self) -> int:
        """Bytes that it takes while it is kept: its arrays, and about a megabyte of short streams."""
        return self.costs.nbytes + self.decisions.nbytes + self.splits.nbytes + 2**20

    @property
    def title(self) -> str:
        """What it is, for people."""
        return self.policy

    def cost(self, steps: int, slots: int, /, mode: int = OWNED) -> int:
        """Return ``C(t, m)`` in forwards.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: outside ``0 <= t <= steps``, ``1 <= m <= slots``.
        """
        self._check_query(steps, slots)
        return int(self.costs[mode, slots, steps])

    def decision(self, steps: int, slots: int, /, mode: int = OWNED) -> tuple[Decision, int]:
        """Return ``(H, D)`` of ``t >= 1`` steps: what to store, and after how many steps.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: outside ``1 <= t <= steps``, ``1 <= m <= slots``.
        """
        self._check_query(steps, slots, least=1)
        return Decision(int(self.decisions[mode, slots, steps])), int(self.splits[mode, slots, steps])

    def schedule(self, steps: int, slots: int, /) -> Schedule:
        """Return the schedule that backpropagates ``steps`` steps in ``slots`` slots, as the table decides.

        Its stream is lazy: it holds one pending part for each stored state and, shared with the other streams of the
        table, a bounded number of templates; never all its actions, and it does not recurse.

        Args:
            steps: ``t``, between 1 and ``self.steps``.
            slots: ``m``, between 1 and ``self.slots``.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: an argument is outside the table.

        Ref: gruslys2016, Algorithm 2, corrected. Claim: metered-cost-equals-table.
        """
        self._check_query(steps, slots, least=1)
        return Schedule(
            self.policy,
            int(steps),
            self.sizes,
            int(slots),
            int(self.costs[OWNED, slots, steps]),
            self.digest,
            partial(instructions, self, int(steps), int(slots)),
            source=self,
        )

    def graphs(self, steps: int, slots: int, /) -> int:
        """Return how many steps ``schedule(steps, slots)`` stores with their graph, as internal states.

        Raises:
            TypeError: an argument is not an integer.
            ValueError: an argument is outside the table.
        """
        self._check_query(steps, slots, least=1)
        return graphs(self, int(steps), int(slots))

    def spilling(self, steps: int, fast: int, slow: int | None, prices: Prices | None, /) -> Schedule:
        """Refuse: a table of one tier has no schedule in two.

        Raises:
            ValueError: always.
        """
        raise ValueError(NO_TIERS.format(f"a {type(self).__name__}"))

    def lookup(self) -> Callable[[int, int, int], tuple[int, int]]:
        """Return what looks decisions up: of mode, slots and steps, what to store and where."""
        # Memory views: they index to plain ints, in half the time of numpy's scalars.
        decisions, splits = self.decisions.data, self.splits.data
        return lambda mode, slots, steps: (decisions[mode, slots, steps], splits[mode, slots, steps])

    def compute_digest(self) -> str:
        """Hash the canonical form again: header as sorted JSON, then each array's little-endian bytes."""
        return digest_arrays(self._header(), self._arrays())

    def save(self, path: str | Path) -> None:
        """Write the table to an ``.npz`` file, whole or not at all."""
        save_arrays(path, {**self._header(), "shape": self.costs.shape}, self.digest, self._arrays())

    @classmethod
    def load(cls, path: str | Path, *, limit: int = 2**32) -> PolicyTable:
        """Read a table that `save` wrote; nothing is unpickled.

        Args:
            path: the ``.npz`` file.
            limit: largest number of bytes the arrays may take; checked before anything is allocated.

        Raises:
            TableError: no such table: missing, truncated, foreign, another version, too large, wrong digest, or not a
                solution of its Bellman equation.
        """
        return load_table(
            path, FORMAT, lambda header, arrays: cls(header["policy"], Sizes(**header["sizes"]), **arrays), limit=limit
        )

    def _header(self) -> Header:
        return {
            "format": FORMAT,
            "policy": self.policy,
            "sizes": {name: getattr(self.sizes, name) for name in ("hidden", "internal", "internal_known")},
            "modes": len(self.costs),
            "slots": self.slots,
            "steps": self.steps,
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in ARRAYS}

    def _check_query(self, steps: int, slots: int, *, least: int = 0) -> None:
        for name, value, low, high in (("steps", steps, least, self.steps), ("slots", slots, 1, self.slots)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high} for this table, got {value}")

    def _check_boundary(self) -> None:
        rule, costs = self.recurrence, self.costs
        t = np.arange(1, self.steps + 1, dtype=np.int64)
        wrong = (
            bool((costs[:, :, 0] != 0).any())
            or bool((costs[:, 0, 1:] != INFEASIBLE).any())
            or bool((costs[:, 1, 1:] != t * (t + 1) // 2).any())
        )
        for slots in range(2, self.slots + 1):
            steps = min(self.steps, slots // (self.sizes.internal or 1))
            given = rule.boundary(steps, slots)
            wrong = wrong or (given is not None and bool((costs[:, slots, steps] != given).any()))
        if wrong:
            raise TableError(f"the boundary of recurrence {rule.equations} is violated")

    def _check_decisions(self) -> None:
        """Check ``C == Q`` at the table's own decision and split, every entry at once."""
        rule, costs = self.recurrence, self.costs
        t = np.arange(1, self.steps + 1)[None, :]
        m = np.arange(1, self.slots + 1)[:, None]
        for mode, cuts in enumerate(rule.cuts):
            decision, y = self.decisions[mode, 1:, 1:], self.splits[mode, 1:, 1:].astype(np.int64)
            legal = np.zeros(y.shape, dtype=bool)
            q = np.full(y.shape, INFEASIBLE, dtype=np.int64)
            for cut in cuts:
                low = t if cut.first == 0 else cut.first
                high = low if cut.last is None else t - cut.last
                here = (decision == cut.decision) & (y >= low) & (y <= np.minimum(high, t)) & (m >= cut.room)
                row, column = np.nonzero(here)
                ys = y[here]
                left = costs[mode, row + 1, ys - cut.taken]
                right = costs[rule.right_mode(cut.decision), row + 1 - cut.room, column + 1 - ys]
                q[here] = ys + left + right
                legal |= here
            bad = ~legal | (q != costs[mode, 1:, 1:])
            if bad.any():
                slots, steps = (int(i[0]) + 1 for i in np.nonzero(bad))
                raise TableError(
                    f"entry t={steps}, m={slots} (mode {mode}): cost {int(costs[mode, slots, steps])} is not what its "
                    f"decision {int(self.decisions[mode, slots, steps])} at y={int(self.splits[mode, slots, steps])} "
                    f"costs under recurrence {rule.equations}"
                )

    def _check_minimum(self) -> None:
        """Check that no split is cheaper: in ``O(t m)`` where the optimum is convex, else over all splits."""
        if self.recurrence.convex:
            self._check_minimum_by_convexity()
            return
        sweep = Sweep(self.recurrence, self.slots, self.steps)
        for rows in sweep.blocks():
            for steps in range(1, self.steps + 1):
                for mode in range(len(self.costs)):
                    given = self.costs[mode, rows, steps]
                    if (sweep.least(mode, rows, steps) < given).any():
                        raise TableError(
                            f"an entry t={steps}, m in {rows.start}..{rows.stop - 1} (mode {mode}) is not the minimum "
                            f"of recurrence {self.recurrence.equations}: another split is cheaper"
                        )
                    sweep.put(mode, rows, steps, given)

    def _check_minimum_by_convexity(self) -> None:
        # Convex rows make Q convex in y, and then a split that neither neighbour improves is a minimum.
        if (np.diff(self.costs[0, 1:, 1:], n=2, axis=1) < 0).any():
            raise TableError(f"the optimum of {self.policy} is convex in t, the table is not")
        cut = self.recurrence.cuts[0][0]
        t = np.arange(1, self.steps + 1)
        for slots in range(2, self.slots + 1):
            y = np.clip(self.splits[0, slots, 1:].astype(np.int64), cut.first, t - (cut.last or 0))
            for neighbour in (y - 1, y, y + 1):
                inside = (neighbour >= cut.first) & (neighbour <= t - (cut.last or 0))
                z, n = neighbour[inside], t[inside]
                q = z + self.costs[0, slots, z - cut.taken] + self.costs[0, slots - cut.room, n - z]
                worse = q < self.costs[0, slots, n]
                if worse.any():
                    raise TableError(
                        f"entry t={int(n[worse][0])}, m={slots} is not the minimum of recurrence "
                        f"{self.recurrence.equations}: another split is cheaper"
                    )
