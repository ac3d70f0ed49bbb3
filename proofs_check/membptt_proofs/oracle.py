"""The referee of optimality: the least cost over every legal schedule, for short sequences.

A *legal schedule* is any stream of actions that backpropagates each step once, last step first, and never exceeds its
slots: it may store, drop, restart from any stored state, downgrade an internal state to its output hidden state,
recompute, and keep both kinds. One working hidden state and one working core are outside the budget.

Storage is one of

- ``"separate"``, equation (9): every stored state takes its own room, ``hidden`` or ``internal`` slots.
- ``"shared"``, equation (10), with ``hidden = 1`` and ``internal = internal_known + 1``: tensors as they are. The
  internal state of step ``p`` is its input ``h_p``, its output ``h_{p+1}`` and a rest of ``internal - 2`` slots; each
  ``h_p`` is counted once, whoever holds it. Dropping an internal state may leave its input, its output, or both.
- ``"detached"``: the same, but an internal state need not hold its input while it is stored. It takes
  ``internal_known`` slots, and ``h_p`` has to be stored, or be the working state, when step ``p`` goes backward.

The search is a shortest path over *rests*: ``(n, stored)`` right after a backward, ``n`` steps left. A stored set is a
*level* for each position ``q``: nothing, hidden state ``q``, or internal state ``q - 1``, whose output is ``q``. A move
lowers any levels, then loads the internal state of step ``n - 1`` if it is stored; else it restarts from one stored
position ``s`` and runs to step ``n - 1``, storing anything on the way. No cheaper schedule is lost:

1. Between ``Record`` and the use of its core only drops are legal, and they may as well come first.
2. Positions above ``n - 1`` are of no use to the ``n`` steps left, except as part of an internal state. A hidden state
   beside the internal state that outputs it is of no use before a downgrade, and a downgrade can wait for a rest.
3. One run a move is enough. Take what is stored at the next rest but was not at this one. What lies above ``s`` is
   passed by the run that ends in step ``n - 1`` and can be stored by it. What lies below was made from the nearest
   stored position ``a`` below it: keep ``h_a`` in its place, which needs no more room, and make it after the backward
   at the same cost. Repeat at the next rest, with fewer steps left. For the same reason a load waits for no run but
   the one that brings a detached input. (No more room: what was made is new, and takes a slot at least. A detached
   internal state of 1 slot made where its output was stored takes none; but it could have been made at first.)
4. What the next rest holds fits in the slots, hence any part of it does: the order of storing within a run is free.

A search without these reductions, over every state and every action, finds nothing cheaper for ``t <= 5``
(`tests/test_oracle_reductions.py`).

Imports the vocabulary of actions and nothing else of ours: a referee shares no code with what it judges.

Ref: gruslys2016, sections 3.1 to 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from membptt_theory.actions import (
    Action,
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    LoadInternal,
    Record,
    Restore,
    Sizes,
    StoreHidden,
    StoreInternal,
)

NOTHING, HIDDEN, INTERNAL = range(3)
UNREACHABLE: Final = 2**40

Storage: TypeAlias = Literal["separate", "shared", "detached"]
Levels: TypeAlias = tuple[int, ...]
Values: TypeAlias = NDArray[np.int64]  # an axis for each position, an index for each level


def least_forwards(steps: int, slots: int, sizes: Sizes, /, *, storage: Storage = "separate") -> int:
    """Return the least number of forwards that backpropagates ``steps`` steps, over every legal schedule.

    Args:
        steps: ``t``, at least 0. Time and memory grow as ``3**t``; ``t = 9`` takes some hundredths of a second.
        slots: room for stored states, the starting state included where hidden states can be stored.
        sizes: slots of each kind: ``Sizes(1, None)`` for HSM, ``Sizes(None, 1)`` for ISM, ``Sizes(1, alpha)`` for (9),
            ``Sizes(1, alpha, alpha - 1)`` for (10).
        storage: how stored states are counted, see above.

    Raises:
        ValueError: ``steps < 0``, too few slots for the starting state, or sizes that the storage does not have.

    Ref: gruslys2016, (1)-(10). Claim: hsm-optimal, ism-optimal, msm-optimal, msm-plus-optimal, shared-optimal.
    """
    return least_costs(steps, slots, sizes, storage=storage)[-1]


def least_costs(
    steps: int, slots: int, sizes: Sizes, /, *, storage: Storage = "separate", advance: int = 1, record: int = 1
) -> list[int]:
    """Return the least cost of every ``t = 0 .. steps`` where a forward costs `advance`, or `record` if recorded.

    Raises:
        ValueError: as `least_forwards`, or not ``1 <= advance <= record``.

    Claim: cost-ratio-invariance.
    """
    values, _ = _solve(steps, slots, sizes, storage, (advance, record))
    return [int(value[_start(n)]) for n, value in enumerate(values)]


def optimal_schedule(steps: int, slots: int, sizes: Sizes, /, *, storage: Storage = "separate") -> Iterator[Action]:
    """Yield a cheapest legal schedule: the witness that `least_forwards` is reached.

    Raises:
        ValueError: as `least_forwards`.
    """
    values, loads = _solve(steps, slots, sizes, storage, (1, 1))
    stored = _start(steps)
    for n in range(steps, 0, -1):
        loaded, source, kept = _best_move(values[n - 1], loads[n - 1], stored, storage)
        yield from _lower(stored, kept, source, sizes)
        if source is not None:
            yield from _run(stored, kept, source)
        yield LoadInternal(n - 1) if loaded else Record(n - 1)
        yield Backpropagate(n - 1)
        stored = kept
    if stored[0] and sizes.hidden:
        yield DropHidden(0)


@lru_cache(maxsize=32)
def _solve(
    steps: int, slots: int, sizes: Sizes, storage: Storage, costs: tuple[int, int]
) -> tuple[list[Values], list[Values]]:
    """Return the least cost to the end from every rest, one array for each number ``n = 0 .. steps`` of steps left.

    The second list is the same where the internal state of step ``n`` still fits beside the rest, else `UNREACHABLE`.
    """
    advance, record = costs
    if not 1 <= advance <= record:
        raise ValueError(f"costs must satisfy 1 <= advance <= record, got {advance} and {record}")
    if steps < 0 or slots < (sizes.hidden or 0):
        raise ValueError(f"steps must be at least 0 and the starting state must fit, got {steps} steps, {slots} slots")
    rooms = _rooms(steps + 1, sizes, storage)
    values: list[Values] = []
    loads: list[Values] = []
    for n in range(steps + 1):
        value = np.zeros((2,) + (3,) * n, dtype=np.int64)
        if n:
            value += _restarted(values[-1], advance, record)[..., None] + record
            loaded = _restarted(loads[-1], advance, record) if storage == "detached" else _lowered(values[-1], n)
            value[..., INTERNAL] = np.minimum(value[..., INTERNAL], loaded)
        values.append(np.where(rooms[n] <= slots, value, UNREACHABLE))
        loads.append(np.where(rooms[n + 1][..., INTERNAL] <= slots, value, UNREACHABLE))
    return values, loads


def _restarted(after: Values, advance: int, record: int) -> Values:
    """Return, for every stored set, the least cost of a restart and a run to the last position, and of what follows."""
    best = np.full(after.shape, UNREACHABLE, dtype=np.int64)
    for source in reversed(range(after.ndim)):
        stored = (slice(None),) * source + (slice(HIDDEN, None),)
        best[stored] = np.minimum(best[stored], _lowered(after, source + 1)[stored])
        if source:
            after = _passed(after, source, advance, record)
    return best


def _lowered(values: Values, axes: int) -> Values:
    """Minimise over every way to lower the levels of the first `axes` positions."""
    for axis in range(axes):
        values = np.minimum.accumulate(values, axis=axis)
    return values


def _passed(values: Values, position: int, advance: int, record: int) -> Values:
    """Minimise over the level that a run leaves at `position`, the step into it included."""
    nothing, hidden, internal = np.moveaxis(values, position, 0)
    unrecorded = np.minimum(nothing, hidden) + advance
    recorded = np.minimum(unrecorded, internal + record)
    return np.stack([recorded, recorded, np.minimum(unrecorded, internal + advance)], axis=position)


def _rooms(steps: int, sizes: Sizes, storage: Storage) -> list[Values]:
    """Return the slots of every stored set of positions ``0 .. n``, ``n <= steps``; `UNREACHABLE`: it cannot exist."""
    hidden, internal = sizes.hidden, sizes.internal
    if storage != "separate":
        if hidden != 1 or internal is None or sizes.internal_known != internal - 1:
            raise ValueError(f"{storage} storage needs hidden = 1 and internal_known = internal - 1, got {sizes}")
        internal = sizes.internal_known
    levels = np.array([0, UNREACHABLE if hidden is None else hidden, UNREACHABLE if internal is None else internal])
    rooms = [np.array([0, hidden or 0], dtype=np.int64)]  # without hidden states the start is outside the budget
    for _ in range(steps):
        longer = rooms[-1][..., None] + levels
        if storage == "shared":
            longer[..., NOTHING, INTERNAL] = UNREACHABLE  # its input is part of it
        rooms.append(longer)
    return rooms


def _start(steps: int) -> Levels:
    return (HIDDEN, *(NOTHING,) * steps)


def _best_move(after: Values, after_load: Values, stored: Levels, storage: Storage) -> tuple[bool, int | None, Levels]:
    """Return a cheapest move: whether it loads, the position it restarts from (``None``: no run) and the next rest."""
    n = after.ndim
    if stored[n] == INTERNAL and storage != "detached":
        return True, None, _cheapest(after[tuple(slice(level + 1) for level in stored[:n])])[1]
    moves = []
    for loaded in {False, stored[n] == INTERNAL}:
        for source in (q for q in range(n) if stored[q]):
            reach = tuple(slice(stored[q] + 1 if q <= source else None) for q in range(n))
            cost, kept = _cheapest((after_load if loaded else after)[reach])
            moves.append((n - source - loaded + cost, (loaded, source, kept)))
    return min(moves, key=lambda move: move[0])[1]


def _cheapest(values: Values) -> tuple[int, Levels]:
    at = np.unravel_index(int(np.argmin(values)), values.shape)
    return int(values[at]), tuple(int(level) for level in at)


def _lower(stored: Levels, kept: Levels, source: int | None, sizes: Sizes) -> Iterator[Action]:
    """Yield downgrades, the restart, and drops; in this order, for the source of a run may itself be dropped."""
    for q in range(1, len(kept)):
        if (stored[q], kept[q]) == (INTERNAL, HIDDEN):
            yield from (Restore(q), DropInternal(q - 1), StoreHidden(q))
    if source is not None:
        yield Restore(source)
    for q in range(0 if sizes.hidden else 1, len(kept)):
        if stored[q] == HIDDEN != kept[q]:
            yield DropHidden(q)
        elif (stored[q], kept[q]) == (INTERNAL, NOTHING):
            yield DropInternal(q - 1)


def _run(stored: Levels, kept: Levels, source: int) -> Iterator[Action]:
    """Yield the run from `source` to the last position of `kept`, storing on the way what is not stored."""
    at = source
    for q in range(source + 1, len(kept)):
        recorded = kept[q] == INTERNAL != stored[q]
        if recorded or (stored[q], kept[q]) == (NOTHING, HIDDEN) or q == len(kept) - 1:
            stop = q - 1 if recorded else q
            if at < stop:
                yield Advance(at, stop)
            if recorded:
                yield from (Record(q - 1), StoreInternal(q - 1))
            elif kept[q] and not stored[q]:
                yield StoreHidden(q)
            at = q
