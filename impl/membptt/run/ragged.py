"""A batch of sequences of different lengths: each row takes part as long as its sequence lasts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

import optree
import torch
from torch import Tensor

from membptt.run.inputs import Indexed
from membptt.state.trees import NAMESPACE, flatten
from membptt.step.declared import owning_module
from membptt.step.refusals import refuse_layer

Dims = Any  # an int or None for all leaves below, or a tree of such


class Ragged:
    """A step for a batch of sequences of different lengths, to be scanned over `steps`.

    A row takes part in the steps of its own sequence. Before and after them it keeps its carry and gives zeros as
    outputs, and nothing is computed for it: what stands in the padding, NaN included, reaches no value and no gradient.
    With ``reverse=True`` rows join in as their sequences begin at their ends. What the step draws at random is drawn
    for the rows that take part. A plan is made for a batch of full rows, and serves one of any lengths.

    >>> from membptt import scan
    >>> cell = torch.nn.GRUCell(3, 4)
    >>> def step(h, x):
    ...     h = cell(x, h)
    ...     return h, h
    >>> ragged = Ragged(step, [5, 2])
    >>> h, ys = scan(ragged, torch.zeros(2, 4), ragged.steps(torch.randn(5, 2, 3)), slots=2, params=cell)
    >>> bool(ys[2:, 1].any())
    False

    Args:
        step: as for `scan`, of one step at a time.
        lengths: steps of each row's sequence, at least 0 each; integers, or a tensor of them.
        carry: which dimension of each leaf of the carry counts the rows: an integer for all leaves, or a tree of such
            that has the carry's structure or begins as it does. ``None`` for what the rows share, such as a counter.
        x: the same for the inputs of one step.
        y: the same for its outputs; what has ``None`` there is what the step made of the rows that took part.

    Raises:
        TypeError: a length is not an integer, or `step` is a layer that is called otherwise.
        ValueError: a negative length, or no step at all; when it is run, a leaf without such a dimension, or with
            another number of rows.

    Claim: ragged-rows-equal-themselves.
    """

    def __init__(
        self,
        step: Callable[[Any, Any], tuple[Any, Any]],
        lengths: Tensor | Sequence[int],
        *,
        carry: Dims = 0,
        x: Dims = 0,
        y: Dims = 0,
    ) -> None:
        refuse_layer(step)
        self.lengths: list[int] = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
        if any(isinstance(length, bool) or not isinstance(length, int) for length in self.lengths):
            raise TypeError(f"lengths must be integers, one a row, got {self.lengths}")
        if min(self.lengths, default=0) < 0 or max(self.lengths, default=0) < 1:
            raise ValueError(f"lengths must be at least 0, and one of them at least 1, got {self.lengths}")
        self.__wrapped__ = step
        self._dims = {"the carry": carry, "x": x, "the output y": y}
        self._sorted = sorted(self.lengths)
        self._rows: dict[tuple[int, torch.device], Tensor] = {}  # that take part, by how many do not
        self._copies = self._sorted[0] < self._sorted[-1]

    def steps(self, xs: Any = None) -> Any:
        """Return the inputs of the scan: `xs`, as long as the longest sequence, and the position beside them.

        Args:
            xs: as for `scan`, padded: what lies behind the end of a sequence is never looked at.

        Raises:
            TypeError: `Indexed` does not know its length.
            ValueError: `xs` is shorter than the longest sequence.
        """
        longest = self._sorted[-1]
        if isinstance(xs, Indexed):
            if xs.steps is None:
                raise TypeError("lengths tell how long the sequence is: give Indexed(steps, read)")
            self._check_length(xs.steps)
            return Indexed(longest, lambda start, stop: (xs.read(start, stop), torch.arange(start, stop)))
        leaves, spec = flatten("xs", xs)
        for leaf in leaves:
            self._check_length(len(leaf))
        cut: Any = [leaf[:longest] for leaf in leaves]
        return spec.unflatten(cut), torch.arange(longest)

    def _membptt_largest(self) -> Ragged:
        """Return a step that no batch of other lengths takes more memory than: what a plan is made for."""
        full = copy(self)
        full._sorted, full._rows, full._copies = self._sorted[-1:] * len(self.lengths), {}, True
        full.lengths = full._sorted
        return full

    @property
    def __self__(self) -> Any:  # the module whose parameters are declared by themselves, as of a method
        return owning_module(self.__wrapped__)

    @property
    def __func__(self) -> Any:  # by whose code it is known, as a method is
        return self.__wrapped__

    def __call__(self, carry: Any, x: Any) -> tuple[Any, Any]:
        """Run the step on the rows that take part."""
        if not (isinstance(x, tuple) and len(x) == 2 and isinstance(x[1], Tensor) and x[1].dim() == 0):
            raise ValueError("a Ragged step is scanned over its own steps(xs), one at a time: without segments=True")
        x, position = x
        ended = bisect_left(self._sorted, int(position) + 1)
        (before, dims, form), (given, x_dims, x_form) = self._taken("the carry", carry), self._taken("x", x)
        some: Any = [self._select(leaf, dim, ended) for leaf, dim in zip(before, dims, strict=True)]
        inputs: Any = [self._select(leaf, dim, ended) for leaf, dim in zip(given, x_dims, strict=True)]
        after, y = self.__wrapped__(form.unflatten(some), x_form.unflatten(inputs))
        if not ended:
            self._taken("the output y", y)
            return after, y
        now, after_form = flatten("the carry", after)
        if after_form != form:
            raise ValueError(
                f"the step made a carry of structure {after_form} of one of {form}, while some rows take no part and "
                "keep theirs: start from a carry like the one that the step returns"
            )
        kept: Any = [self._enter(old, new, dim, ended) for old, new, dim in zip(before, now, dims, strict=True)]
        ys, y_dims, y_form = self._taken("the output y", y, len(self.lengths) - ended)
        padded: Any = [
            self._enter(self._zeros(leaf, dim), leaf, dim, ended) for leaf, dim in zip(ys, y_dims, strict=True)
        ]
        return form.unflatten(kept), y_form.unflatten(padded)

    def _taken(
        self, what: str, tree: Any, rows: int | None = None
    ) -> tuple[tuple[Tensor, ...], list[int | None], optree.PyTreeSpec]:
        """Return leaves, the dimension of each that counts `rows`, and the structure."""
        rows = len(self.lengths) if rows is None else rows
        leaves, spec = flatten(what, tree)
        dims = list(_broadcast(self._dims[what], tree))
        for index, (leaf, dim) in enumerate(zip(leaves, dims, strict=True)):
            if dim is not None and not (-leaf.dim() <= dim < leaf.dim() and leaf.shape[dim] == rows):
                raise ValueError(
                    f"leaf {index} of {what} has shape {tuple(leaf.shape)}, and dimension {dim} of it is to count "
                    f"{rows} rows: say which one does, Ragged(step, lengths, carry=, x=, y=), None for what rows share"
                )
        return leaves, dims, spec

    def _select(self, leaf: Tensor, dim: int | None, ended: int) -> Tensor:
        if dim is None or not self._copies:
            return leaf
        return leaf.index_select(dim, self._index(ended, leaf.device))

    def _enter(self, leaf: Tensor, part: Tensor, dim: int | None, ended: int) -> Tensor:
        return part if dim is None else leaf.index_copy(dim, self._index(ended, leaf.device), part)

    def _zeros(self, leaf: Tensor, dim: int | None) -> Tensor:
        shape = list(leaf.shape)
        if dim is not None:
            shape[dim] = len(self.lengths)
        return leaf.new_zeros(shape)

    def _index(self, ended: int, device: torch.device) -> Tensor:
        """Return the rows that take part where so many do not, in their order."""
        if (ended, device) not in self._rows:
            least = self._sorted[ended]
            rows = [row for row, length in enumerate(self.lengths) if length >= least]
            self._rows[ended, device] = torch.tensor(rows, device=device)
        return self._rows[ended, device]

    def _check_length(self, steps: int) -> None:
        if steps < self._sorted[-1]:
            raise ValueError(f"the longest sequence has {self._sorted[-1]} steps, and xs has {steps}")


def _broadcast(dims: Dims, tree: Any) -> Iterable[int | None]:
    """Yield the dimension of each leaf of a tree."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(optree.tree_leaves(tree, namespace=NAMESPACE))
    below, inside = optree.tree_flatten_one_level(dims)[0], optree.tree_flatten_one_level(tree, namespace=NAMESPACE)[0]
    return [dim for pair in zip(below, inside, strict=True) for dim in _broadcast(*pair)]
