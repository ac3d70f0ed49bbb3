"""From a table to the stream of actions that carries it out: the paper's Algorithm 2, with its recompute branch."""

from __future__ import annotations

from collections.abc import Iterator

from membptt_theory.actions import (
    Action,
    Advance,
    Backward,
    DropHidden,
    LoadInternal,
    Restore,
    StoreHidden,
    StoreInternal,
    Tape,
)
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import KEPT, OWNED, Decision
from membptt_theory.tables import check_count


def schedule(table: PolicyTable, steps: int, slots: int, /) -> Iterator[Action]:
    """Yield the actions that backpropagate ``steps`` steps in ``slots`` slots, as `table` decides.

    Lazy: the generator holds one pending part for each stored state, never the stream, and does not recurse. The
    machine starts at position 0 with the starting state stored (outside the budget in ISM); it ends with every slot
    free.

    Args:
        table: any policy.
        steps: ``t``, between 1 and ``table.steps``.
        slots: ``m``, between 1 and ``table.slots``.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is outside the table. Raised at the call, not at the first action.

    Ref: gruslys2016, Algorithm 2, corrected. Claim: metered-cost-equals-table.
    """
    check_count("steps", steps)
    table.cost(steps, slots)
    return _stream(table, steps, slots)


def _stream(table: PolicyTable, steps: int, slots: int) -> Iterator[Action]:
    # Memory views: they index to plain ints, in half the time of numpy's scalars.
    decisions, splits = table.decisions.data, table.splits.data
    single_mode = len(table.costs) == 1
    # Pending work: an action stands for itself, a part (start, steps, slots, owned) for a sub-problem left to solve.
    pending: list[Action | tuple[int, int, int, bool]] = []
    start, owned, there = 0, table.sizes.hidden is not None, True
    while True:
        if not there:
            yield Restore(start)
        mode = OWNED if owned or single_mode else KEPT
        y = splits[mode, slots, steps] if steps > 1 else 1
        there = False
        if y == steps:
            # Nothing lies to the right, so the recorded step goes backward from the working core, never to a slot.
            if steps > 1:
                yield Advance(start, start + steps - 1)
            yield Tape(start + steps - 1)
            yield Backward(start + steps - 1)
            steps -= 1
            if steps:
                continue
            if owned:
                yield DropHidden(start)
        elif (decision := decisions[mode, slots, steps]) == Decision.HIDDEN:
            yield Advance(start, start + y)
            yield StoreHidden(start + y)
            pending.append((start, y, slots, owned))
            start, steps, slots, owned, there = start + y, steps - y, slots - 1, True, True
            continue
        else:
            if y > 1:
                yield Advance(start, start + y - 1)
            room = table.room(mode, Decision(decision), y, steps)
            if decision == Decision.RELEASE:
                yield DropHidden(start)
                owned = False
            yield Tape(start + y - 1)
            yield StoreInternal(start + y - 1)
            pending.append((start, y - 1, slots, owned))
            pending.append(Backward(start + y - 1))
            pending.append(LoadInternal(start + y - 1))
            start, steps, slots, owned, there = start + y, steps - y, slots - room, False, True
            continue
        while pending:
            part = pending.pop()
            if not isinstance(part, tuple):
                yield part
                continue
            start, steps, slots, owned = part
            if steps:
                break
            if owned:
                yield DropHidden(start)
        else:
            return
