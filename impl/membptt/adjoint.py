"""The backward sweep: from the gradient of one core's outputs to those of its inputs, the rest accumulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from membptt.outputs import Outputs
from membptt.slots import Internal, Leaves

Gradients = list[Tensor | None]


class Adjoint:
    """The gradients of one backward pass: of the carry at the present position, of the inputs, of the parameters.

    Args:
        carry: gradient of each leaf of the final carry, or ``None``.
        ys: gradient of each leaf of the outputs, or ``None``.
        outputs: knows each step's share of them.
        xs: the input leaves; gradients are gathered for those that require them.
        params: the declared parameters.
    """

    def __init__(self, carry: Gradients, ys: Gradients, outputs: Outputs, xs: Leaves, params: Sequence[Tensor]) -> None:
        self.carry = carry
        self.xs: Gradients = [torch.zeros_like(x) if x.requires_grad else None for x in xs]
        self.params: Gradients = [None] * len(params)
        self._ys = ys
        self._outputs = outputs
        self._params = params
        self._owned = [False] * len(params)

    def step(self, internal: Internal) -> None:
        """Backpropagate one recorded core: its output gradients in, its input gradients out, the rest accumulated."""
        heads: list[Any] = []
        grads: list[Tensor] = []
        for leaf, grad in zip(internal.carry_out, self.carry, strict=True):
            if grad is not None and leaf.requires_grad:
                heads.append(leaf)
                grads.append(grad)
        for one in internal.emitted:
            total = self._ys[one.index]
            if total is not None and one.head is not None:
                heads.append(one.head)
                grads.append(self._outputs.gradient(total, one.at, one.shape))
        inputs = [leaf for leaf in (*internal.carry_in, *internal.x_in) if leaf.requires_grad]
        inputs += self._params
        found: Sequence[Tensor | None] = [None] * len(inputs)
        if heads and inputs:
            found = torch.autograd.grad(heads, inputs, grads, allow_unused=True)
        by_leaf = iter(found)
        self.carry = [next(by_leaf) if leaf.requires_grad else None for leaf in internal.carry_in]
        for total, leaf in zip(self.xs, internal.x_in, strict=False):
            grad = next(by_leaf) if leaf.requires_grad else None
            if total is not None and grad is not None:
                total[internal.at] = grad
        totals: list[Tensor] = []
        shares: list[Tensor] = []
        for index, grad in enumerate(by_leaf):
            total = self.params[index]
            if grad is None:
                continue
            if total is not None and self._owned[index]:
                totals.append(total)
                shares.append(grad)
            elif total is not None:
                # The first may share its storage with another one (an LSTM's two biases): add it out of place.
                self.params[index], self._owned[index] = total + grad, True
            else:
                self.params[index] = grad
        if totals:
            torch._foreach_add_(totals, shares)  # one call for all of them: the same additions


@contextmanager
def hooks_deferred(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Take the hooks off `tensors` meanwhile: they are to see the whole gradient once, not each core's share of it."""
    taken = [(hooks, dict(hooks)) for hooks in (tensor._backward_hooks for tensor in tensors) if hooks]
    try:
        try:
            for hooks, _ in taken:
                hooks.clear()
            yield
        finally:
            _put_back(taken)
    finally:
        _put_back(taken)  # Ctrl-C may have cut the first short; where it did not, this changes nothing


def _put_back(taken: list[tuple[dict[int, Any], dict[int, Any]]]) -> None:
    for hooks, kept in taken:
        hooks.update(kept)
