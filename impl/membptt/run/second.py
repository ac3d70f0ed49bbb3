"""Derivatives of derivatives: a gradient as an operation that can be differentiated itself, as often as one likes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from membptt.state.leaves import as_leaf
from membptt.torch_private import each_alone

Gradients = tuple[Tensor | None, ...]
Function = Callable[[Gradients], Gradients]


@dataclass(frozen=True, slots=True)
class Differentiable:
    """A function that becomes one node of autograd's graph; the backward of that node runs it again, with its graph.

    Args:
        function: of tensors, some of which want a gradient, or ``None``; to likewise.
        own: how many of its arguments, the first ones, it takes as they are given. They are given as leaves of their
            own, so that what the caller computed from what is counted by the caller's graph alone. The others it knows
            by identity.
        around: runs what it is given where the function finds what it is to find.
        as_now: leaves that for where backward formulas are to run.
    """

    function: Function
    own: int
    around: Callable[[Callable[[], Gradients]], Gradients]
    as_now: Callable[[], AbstractContextManager[object]]

    def apply(self, *tensors: Tensor | None, value: Callable[[], Gradients] | None = None) -> Gradients:
        """Return the function's results as those of one node; `value` computes the same, if anything cheaper does."""
        results: Gradients = _Node.apply(self, value, *tensors)  # type: ignore[no-untyped-call]
        return results

    def gradient(self, results: int) -> Differentiable:
        """Return what maps the gradients of so many results, and the arguments, to the arguments' gradients."""
        function = _gradient(self.function, results, self.as_now)
        return Differentiable(function, results + self.own, self.around, self.as_now)

    def evaluate(self, tensors: Gradients) -> Gradients:
        """Return the function's results, without their graph."""
        leaves = [
            as_leaf(tensor, tensor.requires_grad) if tensor is not None else None for tensor in tensors[: self.own]
        ]
        return self.around(lambda: self.function((*leaves, *tensors[self.own :])))


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, differentiable: Differentiable, value: Callable[[], Gradients] | None, *tensors: Tensor | None
    ) -> Gradients:
        ctx.set_materialize_grads(False)
        ctx.differentiable = differentiable
        ctx.save_for_backward(*tensors)
        return value() if value is not None else differentiable.evaluate(tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        gradient = ctx.differentiable.gradient(len(grads))
        return None, None, *each_alone(lambda each: gradient.apply(*each, *ctx.saved_tensors), grads)


def _gradient(function: Function, count: int, as_now: Callable[[], AbstractContextManager[object]]) -> Function:
    def gradient(tensors: Gradients) -> Gradients:
        deeper = torch.is_grad_enabled()
        grads, arguments = tensors[:count], tensors[count:]
        wanted = [tensor for tensor in arguments if tensor is not None and tensor.requires_grad]
        with torch.enable_grad():
            heads = [
                (result, grad)
                for result, grad in zip(function(arguments), grads, strict=True)
                if result is not None and result.requires_grad and grad is not None
            ]
            shares: Gradients = (None,) * len(wanted)
            if heads and wanted:
                results, given = zip(*heads, strict=True)
                with as_now():
                    shares = torch.autograd.grad(results, wanted, given, create_graph=deeper, allow_unused=True)
        each = iter(shares)
        return tuple([next(each) if tensor is not None and tensor.requires_grad else None for tensor in arguments])

    return gradient
