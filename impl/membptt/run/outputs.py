"""The output sequence: stacked over time, or added up as it comes so that it does not grow with time."""

from __future__ import annotations

from typing import Any, Final, Literal

import optree
import torch
from torch import Tensor

from membptt.run.order import Order
from membptt.state.leaves import Leaves, check_tensors, is_differentiable
from membptt.state.states import At
from membptt.state.trees import SINGLE, flatten, refuse_constants, tree_leaves

_NOTHING: Final = flatten("nothing", ())[1]
Reduce = Literal["sum", "mean"]


class Outputs:
    """The output sequence, filled by the first pass.

    Args:
        steps: length of the sequence; ``None`` where nobody knows before `ended`.
        reduce: ``None`` stacks; ``"sum"`` and ``"mean"`` add up over time.
        order: in which the sequence is run.

    Raises:
        ValueError: another `reduce`.
    """

    def __init__(self, steps: int | None, reduce: Reduce | None = None, order: Order | None = None) -> None:
        if reduce not in (None, "sum", "mean"):
            raise ValueError(f"reduce must be None, 'sum' or 'mean', got {reduce!r}")
        self._known = steps is not None
        self._steps = steps or 0
        self._reduce = reduce
        self.order = order or Order()
        self._leaves: list[Tensor] = []
        self._parts: list[list[Tensor]] = []  # of a leaf that is stacked, where nobody knows how many there will be
        self._shapes: list[tuple[torch.Size, torch.dtype]] = []
        self.spec: optree.PyTreeSpec | None = None

    def ended(self, steps: int) -> None:
        """Take note of the length."""
        self._steps = steps

    def put(self, at: At, y: Any) -> Leaves:
        """Enter the output of one step, or, at a slice, of several with time first; return its leaves.

        Raises:
            TypeError: a leaf is not a tensor, or a reduced one is not floating.
            ValueError: structure, shape or dtype differ from the first step's.
        """
        if type(y) is Tensor and self.spec is SINGLE and type(at) is int and self._shapes == [(y.shape, y.dtype)]:
            self._enter(at, (y,))  # as usual
            return (y,)
        if type(y) is tuple and not y and self.spec == _NOTHING:
            return ()
        if self.spec is None or type(y) is Tensor:
            leaves, spec = flatten("the output y", y)
            if type(y) is not Tensor:
                refuse_constants("the output y", y)
        else:
            flat, spec = optree.tree_flatten(y, namespace=self.spec.namespace)
            leaves = check_tensors("the output y", flat)
        first = at.start if isinstance(at, slice) else at
        shapes = [(leaf.shape[1:] if isinstance(at, slice) else leaf.shape, leaf.dtype) for leaf in leaves]
        if isinstance(at, slice) and any(leaf.shape[:1] != (at.stop - at.start,) for leaf in leaves):
            raise ValueError(
                f"a segment of {at.stop - at.start} steps must return outputs with that many steps in their first "
                f"dimension, got shapes {[tuple(leaf.shape) for leaf in leaves]} at step {first}"
            )
        if self.spec is None:
            self.spec, self._shapes = spec, shapes
            self._leaves = [self._empty(leaf, shape) for leaf, (shape, _) in zip(leaves, shapes, strict=True)]
            self._parts = [[] for _ in leaves]
        elif spec != self.spec:
            raise ValueError(f"step {first} returned an output of structure {spec}; step 0 returned {self.spec}")
        elif shapes != self._shapes:
            raise ValueError(
                f"step {first} returned an output of shape {_readable(shapes)}; "
                f"step 0 returned {_readable(self._shapes)}"
            )
        self._enter(at, leaves)
        return leaves

    def _enter(self, at: At, leaves: Leaves) -> None:
        for total, parts, leaf in zip(self._leaves, self._parts, leaves, strict=True):
            if self._reduce is None and self._known:
                self.order.enter(total, at, leaf.detach())
            elif self._reduce is None:
                parts.append((leaf if isinstance(at, slice) else leaf[None]).detach().clone())
            else:
                total.add_(leaf.detach().sum(0) if isinstance(at, slice) else leaf.detach())

    def take(self) -> Leaves:
        """Hand the result over; keeping it here as well would tie it to the call that it keeps alive."""
        leaves, self._leaves = self._leaves, []
        if self._reduce is None and not self._known:
            for index, parts in enumerate(self._parts):
                leaves[index] = torch.cat(parts)
                parts.clear()
        if self._reduce == "mean":
            leaves = [leaf.div_(self._steps) for leaf in leaves]
        if self._reduce is None:
            return tuple(leaves)
        return tuple([leaf.to(dtype) for leaf, (_, dtype) in zip(leaves, self._shapes, strict=True)])

    def shape(self, leaf: int, at: At) -> torch.Size:
        """Return the shape of an output leaf of one step, or of several with time first."""
        shape = self._shapes[leaf][0]
        return torch.Size((at.stop - at.start, *shape)) if isinstance(at, slice) else shape

    def gradient(self, grad: Tensor, at: At, shape: torch.Size) -> Tensor:
        """Return the gradient of one step's (or segment's) output leaf, given the gradient of the result."""
        if self._reduce is None:
            return self.order.part(grad, at) if self.order.backwards else grad[at]
        share = grad / self._steps if self._reduce == "mean" else grad
        return share.expand(shape)

    def graphed(self) -> Graphed:
        """Return an empty sequence of the same length and kind, which keeps its graph."""
        outputs = Graphed(self._reduce, self.order)
        outputs.ended(self._steps)
        return outputs

    def _empty(self, leaf: Tensor, shape: torch.Size) -> Tensor:
        if self._reduce is None:
            return leaf.new_empty((self._steps, *shape))  # without elements where the length is not known
        if not is_differentiable(leaf):
            raise TypeError(f"reduce={self._reduce!r} needs floating outputs, got {leaf.dtype}")
        # A long sum of half precision stops growing: it is added up in single precision.
        return leaf.new_zeros(shape, dtype=torch.promote_types(leaf.dtype, torch.float32))


def _readable(shapes: list[tuple[torch.Size, torch.dtype]]) -> str:
    return ", ".join(f"{tuple(shape)} {str(dtype).removeprefix('torch.')}" for shape, dtype in shapes)


class Graphed(Outputs):
    """The outputs of the plain loop, which keep their graph, their tangents and whatever wraps them.

    Args:
        reduce: as for `Outputs`.
        order: as for `Outputs`.
    """

    def __init__(self, reduce: Reduce | None, order: Order) -> None:
        super().__init__(None, reduce, order)

    def take(self) -> Leaves:
        """Hand the result over."""
        leaves = super().take()
        return tuple([leaf.flip(0) for leaf in leaves]) if self.order.backwards and self._reduce is None else leaves

    def _enter(self, at: At, leaves: Leaves) -> None:
        for index, leaf in enumerate(leaves):
            if self._reduce is None:
                self._parts[index].append(leaf if isinstance(at, slice) else leaf[None])
            else:
                self._leaves[index] = self._leaves[index] + (leaf.sum(0) if isinstance(at, slice) else leaf)


class Unkept(Outputs):
    """The outputs of a first pass that is run once more: only looked at."""

    def __init__(self) -> None:
        super().__init__(None)

    def put(self, at: At, y: Any) -> Leaves:
        """Return the leaves of one output."""
        return tree_leaves(y)
