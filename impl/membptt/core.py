"""The user's step as the runtime sees it: flat leaves in, flat leaves out, every irregularity refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optree
import torch
from torch import Tensor

from membptt.guards import refuse_undeclared
from membptt.replay import Generators
from membptt.slots import Hidden, Internal, Leaves, as_leaf, signature

Step = Callable[[Any, Any], tuple[Any, Any]]


class Inputs:
    """The input sequence: a pytree of tensors whose first dimension is time.

    Raises:
        TypeError: a leaf is not a tensor.
        ValueError: no leaf, no time dimension, leaves of different length, or no step.
    """

    def __init__(self, xs: Any) -> None:
        leaves, self.spec = optree.tree_flatten(xs)
        self.leaves = check_tensors("xs", leaves)
        if not self.leaves:
            raise ValueError("xs is empty: give at least one tensor whose first dimension is time")
        if any(leaf.dim() == 0 for leaf in self.leaves):
            raise ValueError("every leaf of xs needs a first dimension, time; got a tensor without dimensions")
        lengths = sorted({len(leaf) for leaf in self.leaves})
        if len(lengths) != 1:
            raise ValueError(f"the leaves of xs must agree in their first dimension (time), got lengths {lengths}")
        self.steps = lengths[0]
        if self.steps < 1:
            raise ValueError("xs is empty: it has no step, and at least one is needed")


class Outputs:
    """The output sequence, filled by the first pass: each leaf stacked over time."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.spec: optree.PyTreeSpec | None = None
        self.leaves: Leaves = ()

    def put(self, step: int, y: Any) -> None:
        """Copy the output of `step` into its place.

        Raises:
            TypeError: a leaf is not a tensor.
            ValueError: structure, shape or dtype differ from the first step's.
        """
        flat, spec = optree.tree_flatten(y)
        leaves = check_tensors("the output y", flat)
        if self.spec is None:
            self.spec = spec
            self.leaves = tuple(leaf.new_empty((self._steps, *leaf.shape)) for leaf in leaves)
        elif spec != self.spec:
            raise ValueError(f"step {step} returned an output of structure {spec}; step 0 returned {self.spec}")
        for stack, leaf in zip(self.leaves, leaves, strict=True):
            if leaf.shape != stack.shape[1:] or leaf.dtype != stack.dtype:
                raise ValueError(
                    f"step {step} returned an output of shape {tuple(leaf.shape)}, {leaf.dtype}; "
                    f"step 0 returned {tuple(stack.shape[1:])}, {stack.dtype}"
                )
            stack[step] = leaf.detach()

    def take(self) -> Leaves:
        """Hand the stacks over; keeping them here as well would tie the result to the call it keeps alive."""
        leaves, self.leaves = self.leaves, ()
        return leaves


class Core:
    """Runs the user's step, with and without graph.

    Args:
        step: ``step(carry, x) -> (carry, y)``.
        carry_spec: structure of the carry.
        carry: leaves of the starting carry; every later carry must match their shape, dtype and device.
        inputs: the input sequence; its leaves' own ``requires_grad`` decides which gradients are wanted.
        params: declared tensors that the step uses and whose gradients are wanted.
        generators: read after every recorded step and every run of steps.
    """

    def __init__(
        self,
        step: Step,
        carry_spec: optree.PyTreeSpec,
        carry: Leaves,
        inputs: Inputs,
        *,
        params: Sequence[Tensor],
        generators: Generators,
    ) -> None:
        self._step = step
        self._spec = carry_spec
        self._signature = signature(carry)
        self._init_wanted = any(leaf.requires_grad for leaf in carry)
        self._x_spec = inputs.spec
        self._x_wanted = tuple(leaf.requires_grad for leaf in inputs.leaves)
        self._params = params
        self._generators = generators
        self._guarded = False

    def advance(self, state: Hidden, xs: Leaves, start: int, stop: int, outputs: Outputs | None = None) -> Hidden:
        """Run steps ``start .. stop-1`` without graph; the first pass collects their outputs."""
        carry = self._spec.unflatten(state.leaves)
        leaves = state.leaves
        with torch.no_grad():
            for step in range(start, stop):
                carry, y = self._call(carry, tuple(x[step] for x in xs), step)
                if outputs is not None:
                    self._flatten_carry(carry, step)
                    outputs.put(step, y)
            leaves = self._flatten_carry(carry, stop - 1)
        state.check(start)
        return Hidden.of(leaves, self._generators.read())

    def tape(self, state: Hidden, xs: Leaves, step: int, outputs: Outputs | None = None) -> Internal:
        """Run one step with graph, from leaf inputs of its own."""
        with torch.enable_grad():
            carry_in = tuple(as_leaf(leaf, wanted=step > 0 or self._init_wanted) for leaf in state.leaves)
            x_in = tuple(as_leaf(x[step], wanted=wanted) for x, wanted in zip(xs, self._x_wanted, strict=True))
            carry, y = self._call(self._spec.unflatten(carry_in), x_in, step)
            carry_out = self._flatten_carry(carry, step)
            y_out = tuple(optree.tree_leaves(y))
        if outputs is not None:
            outputs.put(step, y)
        if not self._guarded:
            refuse_undeclared(self._step, (*carry_out, *y_out), (*carry_in, *x_in, *self._params))
            self._guarded = True
        state.check(step)
        return Internal(step, carry_in, x_in, carry_out, y_out, self._generators.read())

    def rewind(self, state: Hidden) -> None:
        """Prepare to recompute from `state`."""
        self._generators.write(state.random)

    def _call(self, carry: Any, x: Leaves, step: int) -> tuple[Any, Any]:
        result = self._step(carry, self._x_spec.unflatten(x))
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"step must return a pair (carry, y), got {type(result).__name__} at step {step}")
        return result

    def _flatten_carry(self, carry: Any, step: int) -> Leaves:
        leaves, spec = optree.tree_flatten(carry)
        if spec != self._spec:
            raise ValueError(f"step {step} returned a carry of structure {spec}; the starting carry has {self._spec}")
        flat = check_tensors("the carry", leaves)
        found = signature(flat)
        if found != self._signature:
            raise ValueError(
                f"step {step} returned a carry of shape, dtype and device {_readable(found)}; "
                f"the starting carry has {_readable(self._signature)}, and they must stay the same"
            )
        return flat


def check_tensors(what: str, leaves: Sequence[Any]) -> Leaves:
    """Return `leaves` as a tuple of tensors, or raise one clear error."""
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, Tensor):
            raise TypeError(
                f"leaf {index} of {what} is a {type(leaf).__name__}; only tensors are allowed: "
                "wrap numbers in torch.tensor, keep constants out of it"
            )
    return tuple(leaves)


def _readable(found: tuple[tuple[torch.Size, torch.dtype, torch.device], ...]) -> list[str]:
    return [f"{tuple(shape)} {str(dtype).removeprefix('torch.')} {device}" for shape, dtype, device in found]
