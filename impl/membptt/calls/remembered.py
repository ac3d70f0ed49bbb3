"""Plans are made once for each step function and shapes: training calls the same scan again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import optree
from torch import Tensor, nn

from membptt.calls.plan import plan
from membptt.planning.plan_file import Plan
from membptt.run.core import Step
from membptt.run.inputs import Indexed, Inputs
from membptt.state.leaves import signature
from membptt.step.autocast import Autocast
from membptt_theory.options import parse_bytes

_REMEMBERED = 64
_plans: OrderedDict[Any, Plan] = OrderedDict()


def remembered_plan(
    step: Step, init: Any, xs: Any, params: Sequence[Tensor], budget: int | str, **options: Any
) -> Plan:
    """Plan once for each step function and shapes: training calls the same scan again and again."""
    trees: tuple[Any, ...] = (init, tuple(params), xs.read(0, 1) if isinstance(xs, Indexed) else xs)
    shapes = [signature(tuple(leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor))) for tree in trees]
    steps = Inputs(xs, 1).steps
    modes = Autocast.current(
        {leaf.device for tree in trees for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor)}
    )
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

    A step that is created anew for every call is the same step where what it captures is alike. Globals are not looked
    at, nor numbers inside objects and dicts: a counter among them would ask for a plan at every call.
    """
    if isinstance(step, (int, float, str, bool, bytes, type(None))):
        return step
    if isinstance(step, Tensor):
        return signature((step,))
    if isinstance(step, nn.Module):
        return type(step), step.training, step.extra_repr(), signature(tuple(step.parameters()))
    if any(function is step for function in above):  # a function that captures itself
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
