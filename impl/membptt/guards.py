"""Refusals: whatever would end in a missing or doubled gradient is an error that names the culprit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from membptt.inputs import check_tensors
from membptt.places import find_places


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

    Watched are buffers and attributes that are or contain tensors, of the module and of every module below it: by
    identity, by in-place counter, and by value, since some kernels write without counting.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        owner = owning_module(step)
        self._places = list(find_places(owner)) if owner is not None else []
        self._before = {name: (tensor, tensor._version, tensor.detach().clone()) for name, tensor in self._tensors()}

    def check(self) -> None:
        """Refuse a change since construction.

        Raises:
            RuntimeError: names the buffer or attribute.
        """
        after = dict(self._tensors())
        for name, (tensor, version, value) in self._before.items():
            now = after.pop(name, None)
            if now is not tensor or tensor._version != version or not torch.equal(tensor, value):
                raise RuntimeError(_updates(name))
        for name in after:
            raise RuntimeError(_updates(name))

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for place in self._places:
            yield from place.tensors()


def refuse_wrapped(step: Callable[..., Any]) -> None:
    """Refuse data-parallel wrappers inside the step: their hooks would fire once for every recorded step.

    Raises:
        TypeError: names the wrapper.
    """
    owner = owning_module(step)
    for module in owner.modules() if owner is not None else ():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        for wrapper in kinds & {"DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}:
            raise TypeError(
                f"the step contains a {wrapper} module, whose communication would run once for every recorded step; "
                "wrap the module that calls scan instead"
            )


def owning_module(step: Callable[..., Any]) -> nn.Module | None:
    """Return the module whose forward, or whose method, `step` is."""
    if isinstance(step, nn.Module):
        return step
    owner = getattr(step, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def declared_by(step: Callable[..., Any], params: Iterable[Tensor] | None) -> tuple[Tensor, ...]:
    """Collect the tensors whose gradients are wanted, each once, those of the step's module first."""
    owner = owning_module(step)
    found: tuple[Tensor, ...] = tuple(owner.parameters()) if owner is not None else ()
    found += check_tensors("params", list(params)) if params is not None else ()
    return tuple({id(tensor): tensor for tensor in found if tensor.requires_grad}.values())


def _updates(name: str) -> str:
    return (
        f"the step updates {name!r}, a state inside its module; a recomputed step would update it again. "
        "Hand that state on in the carry (membptt.Stateful does), or put the module into eval mode"
    )


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
