"""What a call of scan is to execute: slots given outright, a plan, or a budget that asks for a plan."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import isqrt
from types import CellType, FunctionType, MethodType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import optree
import torch
from torch import Tensor, nn

from membptt.core import Step
from membptt.inputs import Indexed, Inputs
from membptt.plan import Plan, plan
from membptt.slots import signature
from membptt.tier import UNMEASURED, SlowTier
from membptt_theory.archive import TableError
from membptt_theory.options import parse_bytes
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import CLOSED_FORM, POLICIES
from membptt_theory.tables import build, useful_slots
from membptt_theory.tiers import TierTable, build_tiers, useful_slow

_Table = TypeVar("_Table", bound=PolicyTable | TierTable)

_REMEMBERED = 64
# What a table may take that a call builds: some gigabytes; a minute or two.
_ENTRIES = 2**28
_ADDITIONS = 10**10
_plans: OrderedDict[Any, Plan] = OrderedDict()
_verified: WeakSet[PolicyTable | TierTable] = WeakSet()


class Choice(NamedTuple):
    """A verified table, the slots to ask it for, the inputs cut into its cores, and its slow tier if it has one."""

    table: PolicyTable | TierTable
    slots: int
    inputs: Inputs
    slow: SlowTier = SlowTier()


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


def from_budget(
    step: Step,
    init: Any,
    xs: Any,
    params: Sequence[Tensor],
    budget: int | str,
    *,
    chunk: int | None,
    policy: str,
    segments: bool,
    compile: bool,
    slow: SlowTier | None = None,
) -> Choice:
    """Plan, or take the plan that was made for such a call before, and take everything from it."""
    wishes = {"chunk": chunk, "policy": policy, "segments": segments, "compile": compile, "spill": slow or False}
    made = remembered_plan(step, init, xs, params, budget, **wishes)
    # The plan keeps to the bound on the slow tier's slots; only where its file goes is left to be said.
    return from_plan(xs, made, segments=segments, slow=slow and replace(slow, slots=None))


def remembered_plan(
    step: Step, init: Any, xs: Any, params: Sequence[Tensor], budget: int | str, **options: Any
) -> Plan:
    """Plan once for each step function and shapes: training calls the same scan again and again."""
    trees: tuple[Any, ...] = (init, tuple(params), xs.read(0, 1) if isinstance(xs, Indexed) else xs)
    shapes = [signature(tuple(leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor))) for tree in trees]
    steps = Inputs(xs, 1).steps
    modes = torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")
    key = (
        _identity(step),
        steps,
        *shapes,
        tuple(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in optree.tree_leaves(xs)),
        parse_bytes(budget),
        tuple(options.items()),
        modes,
    )
    if key not in _plans:
        _plans[key] = plan(step, init, xs, params=params, budget=budget, **options)
        if len(_plans) > _REMEMBERED:
            _plans.popitem(last=False)
    return _plans[key]


def _identity(step: Any, above: tuple[Any, ...] = ()) -> Any:
    """Return what tells one step from another that needs a plan of its own: its code, and what that code captures.

    A step that is made anew for every call is the same, as long as it captures the like. Globals are not looked at, nor
    numbers inside objects and dicts: a counter among them would ask for a plan at every call.
    """
    if isinstance(step, (int, float, str, bool, bytes, type(None))):
        return step
    if isinstance(step, Tensor):
        return signature((step,))
    if isinstance(step, nn.Module):
        return type(step), step.training, step.extra_repr(), signature(tuple(step.parameters()))
    if any(one is step for one in above):  # a function that captures itself
        return type(step)
    parts: Sequence[Any] = ()
    kind: Any = type(step)
    if isinstance(step, partial):
        parts = (step.func, *step.args, *step.keywords.values())
    elif isinstance(step, MethodType):
        parts = (step.__func__, step.__self__)
    elif isinstance(step, FunctionType):
        kind = step.__code__
        parts = [cell.cell_contents for cell in step.__closure__ or () if cell != CellType()]
        parts += [*(step.__defaults__ or ()), *(step.__kwdefaults__ or {}).values()]
    elif isinstance(step, (list, tuple)):
        parts = step
    return (kind, *(_identity(part, (*above, step)) for part in parts))
