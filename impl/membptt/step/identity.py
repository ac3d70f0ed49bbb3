"""What tells one step from another that needs a plan of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodType
from typing import Any, Final

from torch import Tensor, nn

from membptt.state.leaves import signature
from membptt.step.declared import weights_of


def identity(step: Any, above: tuple[Any, ...] = ()) -> Any:
    """Return what tells one step from another that needs a plan of its own: its code, and what that code captures.

    A step that is created anew for every call is the same step where what it captures is alike. Globals are not looked
    at, nor numbers inside dicts and objects other than frozen dataclasses: a counter among them would ask for a plan at
    every call.
    """
    if isinstance(step, (int, float, str, bool, bytes, type(None), BuiltinFunctionType)):
        return step
    if isinstance(step, Tensor):
        return signature((step,))
    if isinstance(step, nn.Module):
        modules = [*step.modules()]
        kinds = [(type(module), module.training, module.extra_repr()) for module in modules]
        functions = [  # an activation, for example
            getattr(value, "__code__", value)
            for module in modules
            for value in vars(module).values()
            if type(value) in _FUNCTIONS
        ]
        return *kinds, *functions, signature(tuple(weights_of(modules)))
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
    elif hasattr(step, "__wrapped__"):
        parts = (step.__wrapped__,)
    elif isinstance(step, (list, tuple)):
        parts = step
    elif getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):  # numbers in it are no counters
        parts = [getattr(step, field.name) for field in fields(step)]
    return (kind, *(identity(part, (*above, step)) for part in parts))


_FUNCTIONS: Final = frozenset({FunctionType, BuiltinFunctionType})


def code_of(step: Any, /) -> Any:
    """Return what a step is by its code alone, whatever that captures: the type where it has none of its own."""
    return getattr(getattr(step, "__func__", step), "__code__", type(step))
