"""Which tensors the gradients of a step are wanted for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress
from operator import attrgetter
from types import GeneratorType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.parameter import is_lazy

from membptt.torch_private import parameters_of


def owning_module(step: Callable[..., Any]) -> nn.Module | None:
    """Return the module whose forward, or whose method, `step` is."""
    if isinstance(step, nn.Module):
        return step
    owner = getattr(step, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def frozen_of(step: Callable[..., Any]) -> tuple[bool, ...]:
    """Return which parameters of the step's module want no gradient."""
    owner = owning_module(step)
    return tuple([not weight.requires_grad for weight in weights_of(owner.modules())]) if owner is not None else ()


def weights_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return the parameters that these modules themselves hold, several times where they share them."""
    return [weight for module in modules for weight in parameters_of(module).values() if weight is not None]


Params = nn.Module | Iterable[Tensor | nn.Module]


def declared_by(step: Callable[..., Any], params: Params | None) -> tuple[Tensor, ...]:
    """Collect the tensors whose gradients are wanted, each once, those of the step's module first.

    Raises:
        TypeError: something else than a module, or an iterable of tensors and modules.
        ValueError: a generator that was read to its end; one has no shape yet, or was computed from another, whose
            gradient would be counted twice.
    """
    owner = owning_module(step)
    tensors: list[Tensor] = [*owner.parameters()] if owner is not None else []
    if isinstance(params, Tensor):
        raise TypeError("params must be a module, or an iterable of tensors; of one tensor, write params=[tensor]")
    if isinstance(params, GeneratorType) and params.gi_frame is None:
        raise ValueError(
            "params is a generator that was read to its end by an earlier call, and gives nothing more: write "
            "params=module, or make a new one in every call, params=module.parameters()"
        )
    for part in [params] if isinstance(params, nn.Module) else params if params is not None else ():
        if isinstance(part, Tensor):
            tensors.append(part)
        elif isinstance(part, nn.Module):
            tensors += chain(part.parameters(), part.buffers())
        else:
            raise TypeError(
                f"params holds a {type(part).__name__}, and takes tensors and modules: write params=module or "
                "params=module.parameters(), neither its state_dict() nor its named_parameters()"
            )
    if any(map(is_lazy, dict(zip(map(type, tensors), tensors, strict=True)).values())):  # of each class the last
        raise ValueError(
            "a parameter has no shape yet: a lazy module (such as torch.nn.LazyLinear) makes it at its first call. "
            "Call the step once before the scan, under torch.no_grad()"
        )
    wanted = [*compress(tensors, map(_requires_grad, tensors))]
    declared = tuple(dict(zip(map(id, wanted), wanted, strict=True)).values())
    _refuse_dependent(declared)
    return declared


def _refuse_dependent(declared: Sequence[Tensor]) -> None:
    """Refuse a tensor that was computed from another: each core's backward would run on through it to the other."""
    if not any(map(_grad_fn, declared)):
        return
    computed = [tensor for tensor in declared if tensor.grad_fn is not None]
    edges = {tuple(get_gradient_edge(tensor)[:2]) for tensor in declared}
    for tensor in computed:
        pending: list[Any] = [tensor.grad_fn]
        seen = set(pending)
        for node in pending:
            for child, output in node.next_functions:
                if (child, output) in edges:
                    raise ValueError(
                        f"a declared tensor of shape {tuple(tensor.shape)} was computed from another declared one, "
                        "whose gradient would be counted twice; compute it inside the step, or hand it on in the carry"
                    )
                if child is not None and child not in seen:
                    seen.add(child)
                    pending.append(child)


def needs_grad(*groups: Sequence[Tensor]) -> bool:
    """Whether autograd records now and any of these tensors wants a gradient."""
    return torch.is_grad_enabled() and any(map(_requires_grad, chain.from_iterable(groups)))


_requires_grad: Final = attrgetter("requires_grad")
_grad_fn: Final = attrgetter("grad_fn")
