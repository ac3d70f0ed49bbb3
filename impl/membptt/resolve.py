"""What a call of scan is to execute: slots given outright, a plan, or a budget that asks for a plan."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakSet

import optree
import torch
from torch import Tensor

from membptt.core import Step
from membptt.inputs import Indexed, Inputs
from membptt.plan import Plan, parse_bytes, plan
from membptt.slots import signature
from membptt_theory.archive import TableError
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, useful_slots

_REMEMBERED = 64
_plans: OrderedDict[Any, Plan] = OrderedDict()
_verified: WeakSet[PolicyTable] = WeakSet()


class Choice(NamedTuple):
    """A verified table, the slots to ask it for, and the inputs cut into its cores."""

    table: PolicyTable
    slots: int
    inputs: Inputs


def from_slots(
    xs: Any,
    slots: int,
    *,
    policy: str | PolicyTable,
    internal: int,
    internal_known: int | None,
    chunk: int,
    segments: bool,
) -> Choice:
    """Take policy, slots and chunk as given.

    Raises:
        TableError: the table is not what its digest says.
    """
    inputs = Inputs(xs, chunk, segments=segments)
    if isinstance(policy, str):
        slots = useful_slots(policy, inputs.cores, slots, internal=internal)
        policy = build(policy, inputs.cores, slots, internal=internal, internal_known=internal_known)
    elif not isinstance(policy, PolicyTable):
        raise TypeError(f"policy must be a name or a PolicyTable, got {type(policy).__name__}")
    if policy not in _verified:
        found = policy.compute_digest()
        if found != policy.digest:
            raise TableError(f"the policy table was changed: its digest is {found}, it was built as {policy.digest}")
        _verified.add(policy)
    return Choice(policy, slots, inputs)


def from_plan(xs: Any, made: Plan, *, segments: bool) -> Choice:
    """Take everything from a plan.

    Raises:
        ValueError: it was made for sequences of another length, or for the other kind of step.
    """
    if not isinstance(made, Plan):
        raise TypeError(f"plan must be a Plan, as membptt.plan returns it, got {type(made).__name__}")
    inputs = Inputs(xs, made.chunk, segments=segments)
    if (inputs.steps, segments) != (made.steps, made.segments):
        raise ValueError(
            f"the plan was made for {made.steps} steps and segments={made.segments}, this call has {inputs.steps} "
            f"steps and segments={segments}: plan anew"
        )
    option = made.chosen
    return from_slots(
        xs,
        option.slots,
        policy=option.policy,
        internal=option.internal,
        internal_known=option.internal_known,
        chunk=made.chunk,
        segments=segments,
    )


def remembered_plan(
    step: Step, init: Any, xs: Any, params: Sequence[Tensor], budget: int | str, **options: Any
) -> Plan:
    """Plan once for each step function and shapes: training calls the same scan again and again."""
    kind = getattr(step, "__func__", step)
    trees: tuple[Any, ...] = (init, tuple(params), () if isinstance(xs, Indexed) else xs)
    shapes = [signature(tuple(leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor))) for tree in trees]
    steps = Inputs(xs, 1).steps
    modes = torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")
    key = (
        getattr(kind, "__code__", type(kind)),
        steps,
        *shapes,
        parse_bytes(budget),
        tuple(options.items()),
        modes,
    )
    if key not in _plans:
        _plans[key] = plan(step, init, xs, params=params, budget=budget, **options)
        if len(_plans) > _REMEMBERED:
            _plans.popitem(last=False)
    return _plans[key]
