"""Refusals: whatever would end in a missing or doubled gradient is an error that names the culprit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import get_gradient_edge
from torch.nn.utils import parametrize

from membptt.captures import reached_by
from membptt.inputs import check_tensors
from membptt.places import find_places
from membptt.witness import bits

_WRAPPERS = frozenset({"DistributedDataParallel", "FullyShardedDataParallel"})
_Accumulate = torch._C._functions.AccumulateGrad  # type: ignore[attr-defined]


class Undeclared:
    """Finds, in the graphs of recorded cores, tensors that require grad and were not declared.

    Every recorded core is searched, since a step may capture another tensor at every call.

    Args:
        step: named in the error.
        declared: the tensors whose gradients are not lost. Their accumulators are known by identity as long as this
            object keeps them, which makes the search cheap: it visits the nodes that one core adds.
    """

    def __init__(self, step: Callable[..., Any], declared: Sequence[Tensor]) -> None:
        self._step = step
        self._ids = {id(tensor) for tensor in declared}
        edges = [get_gradient_edge(tensor) for tensor in declared]
        self._accumulators: set[Any] = {None, *(edge.node for edge in edges if edge.node.__class__ is _Accumulate)}
        # Of a node with several outputs, such as unbind's, one may be declared and another not.
        self._edges = {(edge.node, edge.output_nr) for edge in edges if edge.node.__class__ is not _Accumulate}

    def refuse(self, made: Iterable[Tensor], own: Iterable[Tensor]) -> None:
        """Search the graphs of `made`, what one core returned, down to `own`, its inputs.

        Raises:
            ValueError: names the tensor: its gradient would be lost.
        """
        edges, mine = self._edges, {id(tensor) for tensor in own}
        seen = self._accumulators.copy()
        pending: list[Any] = []
        for tensor in made:
            node = tensor.grad_fn
            if node is None:
                if tensor.requires_grad and id(tensor) not in mine and id(tensor) not in self._ids:
                    raise self._error(tensor)
            elif node not in seen and not (edges and (node, tensor.output_nr) in edges):
                seen.add(node)
                pending.append(node)
        for node in pending:
            for child, output in node.next_functions:
                if child not in seen and not (edges and (child, output) in edges):
                    seen.add(child)
                    if child.__class__ is not _Accumulate:
                        pending.append(child)
                    elif id(child.variable) not in mine:
                        raise self._error(child.variable)

    def used_up(self) -> RuntimeError:
        """Return the error for a core that captured a graph which an earlier core's backward used up."""
        found = _states(self._step)
        names = [name for name, tensor, _ in found if tensor.grad_fn is not None and id(tensor) not in self._ids]
        return RuntimeError(
            f"the step uses {' and '.join(map(repr, names)) or 'a tensor'}, which was computed outside the step from "
            "tensors that require grad: every step backpropagates through that one graph, and the first used it up. "
            "Pass it in params= itself, compute it inside the step, or detach it"
        )

    def _error(self, tensor: Tensor) -> ValueError:
        name = _name(self._step, tensor)
        made = (
            "" if "'" in name else "; if the step made it itself, use torch.func.grad there, or detach what it returns"
        )
        return ValueError(
            f"the step uses {name}, of shape {tuple(tensor.shape)}, which requires grad but was not declared, so its "
            f"gradient would be lost; pass it in params=, or detach it{made}"
        )


class Unchanged:
    """Notices a step that writes to what is read again by every recomputation: the inputs and the parameters."""

    def __init__(self, xs: Sequence[Tensor], params: Sequence[Tensor]) -> None:
        self._inputs = len(xs)
        # What was made in inference mode has no counter.
        self._tensors = [tensor for tensor in (*xs, *params) if not tensor.is_inference()]
        self._before = [tensor._version for tensor in self._tensors]

    def check(self) -> None:
        """Refuse a change since construction.

        Raises:
            RuntimeError: a tensor was changed in place.
        """
        now = [tensor._version for tensor in self._tensors]
        if now != self._before:
            index = next(index for index, pair in enumerate(zip(now, self._before, strict=True)) if pair[0] != pair[1])
            what = f"leaf {index} of xs" if index < self._inputs else f"parameter {index - self._inputs}"
            raise RuntimeError(
                f"{what}, of shape {tuple(self._tensors[index].shape)}, was changed in place while the step ran, and a "
                "recomputation would read the changed values; let the step work on a copy"
            )


class StateGuard:
    """Notices a step that keeps state outside the carry: every recomputation would update that state again.

    Watched are buffers and attributes that are or contain tensors, of every module that the step is or names and of
    the modules below it: by identity, by in-place counter, and by value, since some kernels write without counting.
    Tensors that the step names outside modules are watched by identity and counter.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        # One list: a step and its helper may each name another tensor alike.
        self._before = [
            (name, tensor, _version(tensor), tensor.detach().clone() if inside else None)
            for name, tensor, inside in _states(self._step)
        ]

    def check(self) -> None:
        """Refuse a change since construction.

        Raises:
            RuntimeError: names the buffer, attribute or variable.
        """
        after = {(name, id(tensor)): inside for name, tensor, inside in _states(self._step)}
        for name, tensor, version, value in self._before:
            if (
                (name, id(tensor)) not in after
                or _version(tensor) != version
                or not (value is None or _same(tensor, value))
            ):
                raise RuntimeError(_updates(name))
        known = {(name, id(tensor)) for name, tensor, *_ in self._before}
        for one, inside in after.items():
            if inside and one not in known:  # a state that was a number, or nothing, before the first step
                raise RuntimeError(_updates(one[0]))


def _states(step: Callable[..., Any]) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield every tensor that is reached and no module's parameter: its name, and whether it lies inside a module."""
    for prefix, value in reached_by(step):
        if isinstance(value, nn.Module):
            for place in find_places(value):
                yield from ((f"{prefix}.{name}".lstrip("."), tensor, True) for name, tensor in place.tensors())
        else:
            yield prefix, value, False


def refuse_cache() -> None:
    """Refuse to run while torch caches parametrized weights.

    Raises:
        RuntimeError: a weight made without graph, by an advance, would be used by a core with graph.
    """
    if parametrize._cache_enabled:
        raise RuntimeError(
            "scan runs inside torch.nn.utils.parametrize.cached(): a weight cached without graph would serve a core "
            "with graph, and its gradient lost; leave the cache off around scan"
        )


def refuse_transforms() -> None:
    """Refuse derivatives that a scan has no rule for: those of forward mode, and those of `torch.func`.

    Raises:
        RuntimeError: a tangent, or a gradient that mapped tensors hide, would be lost.
    """
    if forward_ad._current_level >= 0:
        raise RuntimeError(
            "scan has no forward-mode derivative (torch.func.jvp, dual numbers): run the loop under it, or use backward"
        )
    if torch.is_grad_enabled() and torch._C._are_functorch_transforms_active():
        raise RuntimeError(
            "torch.func (grad, vjp, vmap) cannot transform a scan that may record gradients: use torch.autograd, or "
            "torch.func inside the step, or torch.no_grad()"
        )


def refuse_wrapped(step: Callable[..., Any]) -> None:
    """Refuse data-parallel wrappers inside the step: their hooks would fire once for every recorded step.

    Raises:
        TypeError: names the wrapper.
    """
    owner = owning_module(step)
    below = [(module, _WRAPPERS | {"FSDPModule"}) for module in owner.modules()] if owner is not None else []
    # What a closure names may be the sharded module that calls scan itself, or serve without gradients.
    named = reached_by(step) if torch.is_grad_enabled() else ()
    beside = [(module, _WRAPPERS) for name, module in named if "." not in name]
    for module, wrappers in below + beside:
        for wrapper in wrappers & {kind.__name__ for kind in type(module).__mro__}:
            raise TypeError(
                f"the step contains a {wrapper} module, whose communication would run once for every recorded step; "
                "wrap the module that calls scan instead"
            )


def refuse_kernel_dropout(step: Callable[..., Any], devices: Iterable[torch.device]) -> None:
    """Refuse, on CUDA, layers whose kernel draws its dropout from a state that no recomputation can restore.

    Raises:
        ValueError: names the layer.
    """
    if all(device.type != "cuda" for device in devices):
        return
    owner = owning_module(step)
    named = [value for _, value in reached_by(step) if isinstance(value, nn.Module)]
    for module in chain.from_iterable(one.modules() for one in ([owner] if owner is not None else []) + named):
        if not isinstance(module, nn.RNNBase) or hasattr(module, "slots"):
            continue  # membptt.nn, which has slots, draws it outside the kernel
        if module.training and module.dropout and module.num_layers > 1:
            raise ValueError(
                f"the step contains a torch.nn.{type(module).__name__} with dropout={module.dropout} between its "
                "layers: cuDNN draws it from a state of its own, which a recomputation cannot restore; use membptt.nn, "
                "or layers of their own with nn.Dropout between them"
            )


def owning_module(step: Callable[..., Any]) -> nn.Module | None:
    """Return the module whose forward, or whose method, `step` is."""
    if isinstance(step, nn.Module):
        return step
    owner = getattr(step, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def declared_by(step: Callable[..., Any], params: Iterable[Tensor] | None) -> tuple[Tensor, ...]:
    """Collect the tensors whose gradients are wanted, each once, those of the step's module first.

    Raises:
        TypeError: something else than an iterable of tensors.
        ValueError: one was computed from another, whose gradient would be counted twice.
    """
    owner = owning_module(step)
    found: tuple[Tensor, ...] = tuple(owner.parameters()) if owner is not None else ()
    if isinstance(params, Tensor):
        raise TypeError("params must be an iterable of tensors; of one tensor, write params=[tensor]")
    found += check_tensors("params", list(params)) if params is not None else ()
    declared = tuple({id(tensor): tensor for tensor in found if tensor.requires_grad}.values())
    _refuse_dependent(declared)
    return declared


def _refuse_dependent(declared: Sequence[Tensor]) -> None:
    """Refuse a tensor that was computed from another: each core's backward would run on through it to the other."""
    made = [tensor for tensor in declared if tensor.grad_fn is not None]
    edges = {tuple(get_gradient_edge(tensor)[:2]) for tensor in declared} if made else set()
    for tensor in made:
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


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, where a NaN is equal to itself."""
    return torch.equal(one, other) or bool(one.layout is torch.strided and torch.equal(bits(one), bits(other)))


def _updates(name: str) -> str:
    return (
        f"the step updates {name!r}, a state inside its module or beside it; a recomputed step would update it again. "
        "Hand that state on in the carry (membptt.Stateful does it for modules), or put the module into eval mode"
    )


def _name(step: Callable[..., Any], tensor: Tensor) -> str:
    """Name a tensor the way the user's source does, where closures or globals tell."""
    for name, value in reached_by(step):
        if value is tensor:
            return f"the tensor {name!r}"
        if isinstance(value, nn.Module):
            for inner, parameter in value.named_parameters():
                if parameter is tensor:
                    return f"the parameter '{name}.{inner}'"
    return "a tensor" if not isinstance(tensor, nn.Parameter) else "a parameter"


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def needs_grad(*groups: Sequence[Tensor]) -> bool:
    """Whether autograd records now and any of these tensors wants a gradient."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for group in groups for tensor in group)
