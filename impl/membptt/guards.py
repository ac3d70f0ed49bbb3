"""Refusals: whatever would end in a missing or doubled gradient is an error that names the culprit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def refuse_undeclared(step: Callable[..., Any], outputs: Sequence[Tensor], declared: Sequence[Tensor]) -> None:
    """Refuse a step whose graph reaches a tensor that requires grad and was not declared.

    Raises:
        ValueError: names the tensor: its gradient would be lost.
    """
    known = {id(tensor) for tensor in declared}
    stops = {tensor.grad_fn for tensor in declared if tensor.grad_fn is not None}
    pending = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    seen = set(pending)
    while pending:
        node = pending.pop()
        if node in stops:
            continue
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in known:
            raise ValueError(
                f"the step uses {_name(step, variable)}, of shape {tuple(variable.shape)}, which requires grad but was "
                "not declared, so its gradient would be lost; pass it in params=, or detach it"
            )
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                pending.append(child)


class StateGuard:
    """Notices a module step that keeps state inside itself: every recomputation would update that state again.

    Watched are the buffers and the plain tensor attributes of the module and of every module below it.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self._owner = owning_module(step)
        self._before = self._state()

    def check(self) -> None:
        """Refuse a change since construction.

        Raises:
            RuntimeError: names the buffer or attribute.
        """
        after = self._state()
        for name in sorted(self._before.keys() | after.keys()):
            if self._before.get(name) != after.get(name):
                raise RuntimeError(
                    f"the step updates {name!r}, a state inside its module; a recomputed step would update it again. "
                    "Hand that state on in the carry, or put the module into eval mode"
                )

    def _state(self) -> dict[str, tuple[int, int]]:
        """Tell each tensor by identity and in-place counter."""
        if self._owner is None:
            return {}
        found = dict(self._owner.named_buffers())
        for prefix, module in self._owner.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor):
                    found[f"{prefix}.{name}".lstrip(".")] = value
        return {name: (id(tensor), tensor._version) for name, tensor in found.items()}


def owning_module(step: Callable[..., Any]) -> nn.Module | None:
    """Return the module whose forward, or whose method, `step` is."""
    if isinstance(step, nn.Module):
        return step
    owner = getattr(step, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def _name(step: Callable[..., Any], tensor: Tensor) -> str:
    """Name a tensor the way the user's source does, where closures or globals tell."""
    function = step if inspect.isfunction(step) else getattr(step, "__func__", getattr(type(step), "forward", None))
    if function is not None and inspect.isfunction(function):
        found = inspect.getclosurevars(function)
        for name, value in {**found.globals, **found.nonlocals}.items():
            if value is tensor:
                return f"the tensor {name!r}"
            if isinstance(value, nn.Module):
                for inner, parameter in value.named_parameters():
                    if parameter is tensor:
                        return f"the parameter '{name}.{inner}'"
    return "a tensor" if not isinstance(tensor, nn.Parameter) else "a parameter"


def needs_grad(*groups: Sequence[Tensor]) -> bool:
    """Whether autograd records now and any of these tensors wants a gradient."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for group in groups for tensor in group)
