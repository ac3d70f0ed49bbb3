"""Refusals: whatever would end in a missing or doubled gradient is an error that names the culprit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from inspect import signature
from itertools import chain
from typing import Any, Final

import torch
from torch import nn

from membptt.step.declared import owning_module
from membptt.step.reach import Named
from membptt.torch_private import caches_parametrizations, is_transformed

_WRAPPERS = frozenset({"DistributedDataParallel", "FullyShardedDataParallel"})


def refuse_cache() -> None:
    """Refuse to run while torch caches parametrized weights.

    Raises:
        RuntimeError: a weight made without graph, by an advance, would be used by a core with graph.
    """
    if caches_parametrizations():
        raise RuntimeError(
            "scan or while_loop, or its backward, runs inside torch.nn.utils.parametrize.cached(): a weight cached "
            "without graph would serve a core with graph, and its gradient lost; leave the cache off around it"
        )


def refuse_transforms() -> None:
    """Refuse to plan where what is measured would not be what runs.

    Raises:
        RuntimeError: a transform of `torch.func` is under way, or dual numbers are in use.
    """
    if is_transformed():
        raise RuntimeError(
            "a plan is measured where nothing transforms the step: plan outside torch.func and forward-mode "
            "differentiation, under which a scan, while_loop or chain runs as the plain loop and needs no plan"
        )


def refuse_layer(step: Any) -> None:
    """Refuse a recurrent layer of torch's own as a step: it takes its input first, and returns its carry alone.

    Raises:
        TypeError: says which wrapper to write.
    """
    if not callable(step):
        raise TypeError(f"step must be a function or a module, called step(carry, x), got {type(step).__name__}")
    if not isinstance(step, (nn.RNNCellBase, nn.RNNBase)) or not type(step).forward.__module__.startswith("torch."):
        return
    name, segments = f"torch.nn.{type(step).__name__}", ""
    if isinstance(step, nn.RNNBase):
        call, ys, segments = "ys, carry = layer(x, carry)", "ys", ", segments=True"
    elif isinstance(step, nn.LSTMCell):
        call, ys = "carry = layer(x, carry)", "carry[0]"
    else:
        call, ys = "carry = layer(x, carry)", "carry"
    raise TypeError(
        f"a step is called step(carry, x) and returns (carry, y), a {name} is called layer(x, carry). Wrap it:\n\n"
        f"    def step(carry, x):\n        {call}\n        return carry, {ys}\n\n"
        f"    scan(step, init, xs, params=layer{segments}, ...)"
    )


def refuse_signature(step: Callable[..., Any]) -> None:
    """Refuse, after it failed, a step that does not take two arguments.

    Raises:
        TypeError: says how a step is called.
    """
    called = step.forward if isinstance(step, nn.Module) else step
    try:
        takes = signature(called)
    except (TypeError, ValueError):  # of what is written in C
        return
    try:
        takes.bind(None, None)
    except TypeError:
        raise TypeError(
            f"a step is called step(carry, x) and returns (carry, y); this one takes {takes}. Wrap it in a function "
            "`def step(carry, x)` that returns such a pair, and name its module in params="
        ) from None


def refuse_graphless(error: RuntimeError) -> None:
    """Refuse, after it failed for that, a step that needs a graph wherever it is run.

    Raises:
        RuntimeError: says what to do instead.
    """
    if not torch.is_grad_enabled() and error.__cause__ is None and _NEEDS_GRAPH.search(str(error)):
        raise RuntimeError(
            f"the step failed where it is run without graph ({error}), as most steps are until the backward runs them "
            "once more. Put a hook on a tensor, or retain its gradient, only where it requires grad: `if "
            "h.requires_grad:`. Differentiate inside by torch.func.grad, or under torch.enable_grad() from a leaf of "
            "the step's own: `h if h.requires_grad else h.detach().requires_grad_()`"
        ) from error


_NEEDS_GRAPH: Final = re.compile("(does not|doesn't) require grad|requires_grad=False")  # of torch's own messages


def refuse_wrapped(step: Callable[..., Any], named: Named) -> None:
    """Refuse data-parallel wrappers in the step or in what it names: their hooks would fire once a recorded step.

    Raises:
        TypeError: names the wrapper.
    """
    owner = owning_module(step)
    if owner is not None:
        refuse_wrapped_below(owner.modules())
    # What a closure names may be the sharded module that calls scan itself.
    _refuse_kinds([module for name, module in named if "." not in name], _WRAPPERS)


def refuse_wrapped_below(modules: Iterable[nn.Module]) -> None:
    """Refuse data-parallel wrappers among a step's own modules; see `refuse_wrapped`.

    Raises:
        TypeError: names the wrapper.
    """
    _refuse_kinds(modules, _WRAPPERS | {"FSDPModule"})


def _refuse_kinds(values: Iterable[Any], wrappers: frozenset[str]) -> None:
    for kind in dict.fromkeys(map(type, values)):
        for wrapper in wrappers & _names_above(kind):
            raise TypeError(
                f"the step contains a {wrapper} module, whose communication would run once for every recorded step; "
                "wrap the module that calls scan or while_loop instead"
            )


@lru_cache(maxsize=256)
def _names_above(kind: type) -> frozenset[str]:
    return frozenset([above.__name__ for above in kind.__mro__])


def refuse_kernel_dropout(named: Named, devices: Iterable[torch.device]) -> None:
    """Refuse, on CUDA, layers whose kernel draws its dropout from a state that no recomputation can restore.

    Raises:
        ValueError: names the layer.
    """
    if "cuda" not in [device.type for device in devices]:
        return
    for module in chain.from_iterable(root.modules() for _, root in named if isinstance(root, nn.Module)):
        if not isinstance(module, nn.RNNBase) or hasattr(module, "slots"):
            continue  # membptt.nn, which has slots, draws it outside the kernel
        if module.training and module.dropout and module.num_layers > 1:
            raise ValueError(
                f"the step contains a torch.nn.{type(module).__name__} with dropout={module.dropout} between its "
                "layers: cuDNN draws it from a state of its own, which a recomputation cannot restore; use membptt.nn, "
                "or layers of their own with nn.Dropout between them"
            )
