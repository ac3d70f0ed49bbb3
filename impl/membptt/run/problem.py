"""The problem that a call poses: looked at once, and handed on to planning, execution and node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import optree
import torch
from torch import nn

from membptt.run.inputs import Inputs
from membptt.state.forms import Alike, Forms
from membptt.state.leaves import Leaves
from membptt.state.trees import flatten
from membptt.step.declared import Params, declared_by
from membptt.step.reach import Reach, reach
from membptt.step.refusals import refuse_layer

Step = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(eq=False)
class Problem:
    """What a call is about, whatever it is to cost.

    Args:
        step: ``step(carry, x) -> (carry, y)``, or a segment, which eats several steps at once.
        spec: structure of the carry.
        carry: leaves of the starting carry.
        inputs: the input sequence.
        params: declared tensors that the step uses and whose gradients are wanted.
        segments: `step` is a segment: ``x`` and ``y`` have time as first dimension.
        forms: what is known of the forms of the carries.
        rewound: tensors that the step itself rewinds wherever it is run once more.
        earliest: the first step that may use each of `params`; empty where each may be used by any.
        frozen: steps at the start that use none of them, where the starting carry wants no gradient either.
        fresh: steps at which the step may begin to keep what later calls of it find.
        views: positions at which a carry, or its gradient, may be a view of something larger; ``None``: at any.
        settle: called after a backward pass in which it turned out to keep nothing that wants a gradient.
    """

    step: Step
    spec: optree.PyTreeSpec
    carry: Leaves
    inputs: Inputs
    params: Leaves
    segments: bool
    forms: Callable[[optree.PyTreeSpec, Leaves], Forms] = Alike
    rewound: Leaves = ()
    earliest: tuple[int, ...] = ()
    frozen: int = 0
    fresh: Sequence[int] = range(1)
    views: Sequence[int] | None = None
    settle: Callable[[], None] = lambda: None
    _reach: Reach | None = field(default=None, repr=False)  # of this step

    @classmethod
    def of(
        cls,
        step: Step,
        init: Any,
        xs: Any,
        params: Params | None,
        *,
        segments: bool,
        length: int | None = None,
        reverse: bool = False,
    ) -> Problem:
        """Look at what a caller gave.

        Raises:
            TypeError: a leaf is not a tensor, the length not an integer, or `step` a layer that is called otherwise.
            ValueError: no step, or leaves of different length; or one declared tensor was computed from another.
        """
        refuse_layer(step)
        carry, spec = flatten("init", init)
        inputs = xs if isinstance(xs, Inputs) else Inputs(xs, segments=segments, length=length, reverse=reverse)
        return cls(step, spec, carry, inputs, declared_by(step, params), segments)

    def largest(self) -> Problem:
        """Return the same with the step that takes the most memory of those that one plan is to serve."""
        largest = getattr(self.step, "_membptt_largest", None)
        return self if largest is None else replace(self, step=largest(), _reach=None)

    @property
    def unwanted(self) -> int:
        """How many carries there are at the start whose gradients nobody needs."""
        return 0 if any(leaf.requires_grad for leaf in self.carry) else self.frozen + 1

    @property
    def reach(self) -> Reach:
        """What the step names, and the modules and functions of what reads the inputs; looked up once."""
        if self._reach is None:
            self._reach = reach(self.step)
            if self.inputs.read is not None:  # a tensor that it names may be where it puts what it has read
                read = reach(self.inputs.read)
                modules = tuple([pair for pair in read.named if isinstance(pair[1], nn.Module)])
                self._reach = Reach(self._reach.named + modules, self._reach.functions + read.functions)
        return self._reach

    @property
    def devices(self) -> frozenset[torch.device]:
        """Where the tensors of the call lie."""
        return frozenset(map(_device, chain(self.carry, self.inputs.leaves, self.params)))


_device: Final = attrgetter("device")
