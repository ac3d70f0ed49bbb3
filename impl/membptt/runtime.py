"""Executes a stream of actions in torch: for each action, the tensors it means. No recurrence is computed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from membptt.core import Core
from membptt.outputs import Outputs
from membptt.slots import Hidden, Internal, Leaves, Slots
from membptt_theory.actions import (
    Action,
    Advance,
    Backward,
    DropHidden,
    DropInternal,
    LoadInternal,
    Restore,
    StoreHidden,
    StoreInternal,
    Tape,
)

Gradients = list[Tensor | None]


class Execution:
    """One stream under way: the tensors behind the machine's working state, working core and slots.

    Args:
        core: runs the user's step.
        stream: the actions, of which `forward` takes those before the first backward and `backward` the rest.
        start: the starting hidden state.
    """

    def __init__(self, core: Core, stream: Iterator[Action], start: Hidden) -> None:
        self._core = core
        self._stream = stream
        self._slots = Slots(hidden={0: start})
        self._working: Hidden | None = start
        self._taped: Internal | None = None
        self._finished = False

    def forward(self, xs: Leaves, outputs: Outputs) -> Leaves:
        """Run up to the first backward action, whose step stays in the working core; return the final carry."""
        for action in self._stream:
            if isinstance(action, Backward):
                break
            self._execute(action, xs, outputs)
        if self._taped is None:
            raise AssertionError("a stream backpropagates the last step first, from the working core")
        return self._taped.carry_out

    def backward(self, xs: Leaves, adjoint: Adjoint) -> None:
        """Run the rest of the stream; every stored state is let go of, whatever happens.

        Raises:
            RuntimeError: called a second time.
        """
        if self._finished:
            raise RuntimeError(
                "this scan was backpropagated before and its stored states are used up; "
                "call scan again, or add the losses up and call backward once"
            )
        try:
            self._backward_step(adjoint)
            for action in self._stream:
                if isinstance(action, Backward):
                    self._backward_step(adjoint)
                else:
                    self._execute(action, xs, None)
        finally:
            self._close()

    def _execute(self, action: Action, xs: Leaves, outputs: Outputs | None) -> None:
        match action:
            case Advance(start, stop):
                self._working = self._core.advance(self._state(), xs, start, stop, outputs)
            case Tape(step):
                self._taped = self._core.tape(self._state(), xs, step, outputs)
                self._working = None
            case StoreHidden(position):
                self._slots.hidden[position] = self._state()
            case StoreInternal(step):
                internal = self._internal()
                self._slots.internal[step] = internal
                self._working, self._taped = internal.output(), None
            case Restore(position):
                self._working = self._slots.restore(position)
                self._core.rewind(self._working)
            case LoadInternal(step):
                self._working, self._taped = None, self._slots.internal.pop(step)
            case DropHidden(position):
                del self._slots.hidden[position]
            case DropInternal(step):
                del self._slots.internal[step]
            case Backward():
                raise AssertionError("backward actions are not executed here")

    def _backward_step(self, adjoint: Adjoint) -> None:
        adjoint.step(self._internal())
        self._working = self._taped = None

    def _state(self) -> Hidden:
        if self._working is None:
            raise AssertionError("no working state: the stream is illegal")
        return self._working

    def _internal(self) -> Internal:
        if self._taped is None:
            raise AssertionError("the working core is empty: the stream is illegal")
        return self._taped

    def _close(self) -> None:
        self._finished = True
        self._slots.clear()
        self._working = self._taped = None
        self._stream = iter(())


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
        y_grads = [self._outputs.gradient(self._ys[one.index], one.at, one.leaf) for one in internal.emitted]
        made = (*internal.carry_out, *(one.leaf for one in internal.emitted))
        outputs, grads = [], []
        for output, grad in zip(made, (*self.carry, *y_grads), strict=True):
            if grad is not None and output.requires_grad:
                outputs.append(output)
                grads.append(grad)
        wanted = [leaf for leaf in (*internal.carry_in, *internal.x_in) if leaf.requires_grad]
        inputs = [*wanted, *self._params]
        found: Sequence[Tensor | None] = [None] * len(inputs)
        if outputs and inputs:
            found = torch.autograd.grad(outputs, inputs, grads, allow_unused=True)
        by_leaf = iter(found)
        self.carry = [next(by_leaf) if leaf.requires_grad else None for leaf in internal.carry_in]
        for index, leaf in enumerate(internal.x_in):
            grad = next(by_leaf) if leaf.requires_grad else None
            x_grad = self.xs[index] if grad is not None else None
            if x_grad is not None and grad is not None:
                x_grad[internal.span] = grad
        for index, grad in enumerate(by_leaf):
            self._accumulate(index, grad)

    def _accumulate(self, index: int, grad: Tensor | None) -> None:
        total = self.params[index]
        if grad is None:
            return
        if total is None:
            self.params[index] = grad
        elif self._owned[index]:
            total.add_(grad)
        else:
            # The first gradient may share its storage with another one (an LSTM's two biases): add it out of place.
            self.params[index] = total + grad
            self._owned[index] = True
