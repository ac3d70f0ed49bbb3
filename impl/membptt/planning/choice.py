"""What a call of scan is to execute: slots given outright, a plan, or a budget that asks for a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from typing import Any, TypeVar
from weakref import WeakSet

from torch import Tensor

from membptt.planning.plan_file import Plan
from membptt.run.inputs import Inputs
from membptt.run.node import Choice
from membptt.slow.tier import UNMEASURED, SlowTier
from membptt_theory.archive import TableError
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import CLOSED_FORM, POLICIES
from membptt_theory.tables import build, useful_slots
from membptt_theory.tiers import TierTable, build_tiers, useful_slow

_Table = TypeVar("_Table", bound=PolicyTable | TierTable)

# What a table may take that a call builds: some gigabytes; a minute or two.
_ENTRIES = 2**28
_ADDITIONS = 10**10
_verified: WeakSet[PolicyTable | TierTable] = WeakSet()


def from_slots(
    xs: Any,
    slots: int,
    *,
    policy: str | PolicyTable | TierTable,
    internal: int,
    internal_known: int | None,
    chunk: int,
    segments: bool,
    slow: SlowTier | None = None,
) -> Choice:
    """Take policy, slots, chunk and slow tier as given.

    Raises:
        TableError: the table is not what its digest says.
    """
    inputs = Inputs(xs, chunk, segments=segments)
    if slow is not None or isinstance(policy, TierTable):
        return _from_tiers(inputs, slots, policy, slow or SlowTier())
    if isinstance(policy, str):
        slots = useful_slots(policy, inputs.cores, slots, internal=internal)
        if policy in POLICIES:
            _admit(inputs.cores, slots, closed=policy in CLOSED_FORM)
        policy = build(policy, inputs.cores, slots, internal=internal, internal_known=internal_known)
    elif not isinstance(policy, PolicyTable):
        raise TypeError(f"policy must be a name or a PolicyTable, got {type(policy).__name__}")
    return Choice(_verify(policy), slots, inputs)


def _from_tiers(inputs: Inputs, slots: int, policy: str | PolicyTable | TierTable, slow: SlowTier) -> Choice:
    if isinstance(policy, TierTable):
        if slow.prices not in (None, policy.prices):
            raise ValueError(f"the table was built for {policy.prices}, spill names {slow.prices}: leave them out")
        room = policy.slow if slow.slots is None else slow.slots
        return Choice(_verify(policy), slots, inputs, replace(slow, slots=room))
    if policy != "hsm":
        found = repr(policy) if isinstance(policy, str) else f"a {type(policy).__name__}"
        raise ValueError(
            f"spill goes with policy 'hsm' or a TierTable, got {found}: the slow tier takes hidden states, and a table "
            "of one tier does not say which"
        )
    slots = useful_slots("hsm", inputs.cores, slots)
    room = useful_slow(inputs.cores, slow.slots)
    _admit(inputs.cores, slots, room)
    table = build_tiers(inputs.cores, slots, room, slow.prices or UNMEASURED)
    return Choice(_verify(table), slots, inputs, replace(slow, slots=room))


def _admit(cores: int, slots: int, slow: int | None = 1, *, closed: bool = False) -> None:
    """Refuse a table that would take hours, or more memory than the states it saves.

    Raises:
        ValueError: says how many slots or cores are allowed.
    """
    most, rows, beside = _ADDITIONS, cores**2, slow or 1
    if closed:
        most, rows = _ENTRIES, cores
    if rows * slots * beside <= most:
        return
    shorter = most // (slots * beside) if closed else isqrt(most // (slots * beside))
    raise ValueError(
        f"a table of {cores} cores and {slots * beside} slots{' (of both tiers, multiplied)' if beside > 1 else ''} is "
        f"too large to be built in a call: allowed are {most // rows} slots, or {shorter} cores with as many slots; "
        "give fewer slots, a larger chunk, budget= in place of slots=, or a table as policy"
    )


def _verify(table: _Table) -> _Table:
    if table not in _verified:
        found = table.compute_digest()
        if found != table.digest:
            raise TableError(f"the policy table was changed: its digest is {found}, it was built as {table.digest}")
        _verified.add(table)
    return table


def from_plan(
    xs: Any, made: Plan, *, segments: bool, slow: SlowTier | None = None, carry: Sequence[Tensor] = ()
) -> Choice:
    """Take everything from a plan.

    Raises:
        TypeError: it is none.
        ValueError: it was made for sequences of another length, for smaller carries or for the other kind of step; or
            `slow` names more than a directory.
    """
    if not isinstance(made, Plan):
        raise TypeError(f"plan must be a Plan, as membptt.plan returns it, got {type(made).__name__}")
    inputs = Inputs(xs, made.chunk, segments=segments)
    if (inputs.steps, segments) != (made.steps, made.segments):
        raise ValueError(
            f"the plan was made for {made.steps} steps and segments={made.segments}, this call has {inputs.steps} "
            f"steps and segments={segments}: plan anew"
        )
    sizes = made.chosen.measured
    largest = max((leaf.nbytes for leaf in carry), default=0)
    if largest > sizes.start + sizes.hidden + sizes.shared:
        raise ValueError(
            f"the plan was made for hidden states of {sizes.hidden} bytes, a leaf of this call's carry alone has "
            f"{largest}: plan anew"
        )
    if slow is not None and (slow.slots, slow.prices) != (None, None):
        raise ValueError(
            "a plan has slots and prices of its slow tier already: with plan=, spill names a directory only"
        )
    option = made.chosen
    tiers = option.tiers
    slow = replace(slow or SlowTier(), slots=tiers.slots, prices=tiers.prices) if tiers else SlowTier()
    return Choice(_verify(option.table()), option.slots, inputs, slow)
