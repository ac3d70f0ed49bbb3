"""Cores that are backpropagated as soon as they are recorded: one compiled function in place of a graph.

It goes from carry, inputs and the gradients of what a core gives to the gradients of the carry and of the inputs, and
to what is added to the sums of the parameters' gradients. No graph of autograd is built, nothing is saved for a
backward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import local
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule

from membptt.kernels.compiled import loop_of
from membptt.state.leaves import Leaves
from membptt.state.states import At, Hidden
from membptt.state.trees import tree_leaves
from membptt.torch_private import hooks_of, is_transformed

if TYPE_CHECKING:
    from membptt.kernels.pullback import Pullback

Flatten = Callable[[Any], Leaves]

_REMEMBERED = 64
_PATTERNS = 4  # of gradients that are there: each is compiled by itself


def join_cores(step: Callable[..., Any], devices: Iterable[torch.device], chunk: int = 1) -> Joint | None:
    """Return what joins cores of `step`; ``None`` where they do not all lie on the host. Kept as compiled cores are."""
    if {device.type for device in devices} != {"cpu"}:
        return None
    try:
        joint = _joints.pop((step, chunk), None)
    except TypeError:  # not hashable
        return Joint(step)
    joint = _joints[step, chunk] = joint or Joint(step)
    if len(_joints) > _REMEMBERED:
        _joints.popitem(last=False)
    return joint


class CannotJoin(Exception):
    """Cores of this step are to be recorded."""


class Given(NamedTuple):
    """What a core is run on.

    Args:
        at: the step, or steps, that it covers.
        places: each call of the step in it: its step, or steps.
        start: the hidden state that it begins with.
        carry: as the step knows it.
        parts: the inputs of each step, likewise.
        carry_in: leaves of the carry: leaves of autograd where a gradient is wanted.
        x_in: leaves of the inputs, part after part, likewise.
        params: the place of each declared tensor, by its identity.
    """

    at: At
    places: Sequence[At]
    start: Hidden
    carry: Any
    parts: Sequence[Any]
    carry_in: Leaves
    x_in: Leaves
    params: Mapping[int, int]


class Joint:
    """Joins the cores of one step, as long as nothing stands against it.

    Dynamo traces the step and guards what it found, as for a compiled core; a pullback is derived from its graph. Not
    joined is a step that Dynamo cannot trace as a whole, that draws random numbers, writes to what it is given, keeps
    tensors beside its outputs or uses tensors that want a gradient and were not declared: such a core is recorded, and
    refused where that has to be.

    Attributes:
        problem: why cores of this step are not joined; ``None`` as long as they are.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self._loop = torch.compile(loop_of(step), backend=self._backend, fullgraph=True, dynamic=False)
        self._mine = local()  # every thread asks for itself
        self.problem: str | None = None

    def join(self, given: Given, flatten: Flatten) -> Joined | None:
        """Return a core ready to be pulled back; ``None`` where it has to be recorded.

        Args:
            given: what it is run on.
            flatten: returns the leaves of the carry after it.
        """
        if self.problem is not None or is_transformed() or torch.is_autocast_enabled("cpu"):
            return None
        try:
            return self._join(given, flatten)
        except Exception as error:  # whatever it is, recording the core shows it, or does without
            self.refuse(error)
            return None

    def refuse(self, error: Exception) -> None:
        """Join no further core, because of `error`."""
        self.problem = str(error) if isinstance(error, CannotJoin) else f"{type(error).__name__}: {error}"

    def _join(self, given: Given, flatten: Flatten) -> Joined:
        mine = self._mine
        mine.graph = mine.inputs = None
        try:
            with torch.enable_grad():
                carry, ys = self._loop(given.carry, given.parts)
            graph: _Graph | None = mine.graph
            inputs: Leaves = mine.inputs
        finally:
            mine.graph = mine.inputs = None
        if graph is None:
            raise CannotJoin("the step computes nothing")
        if any(map(hooks_of, given.carry_in)):
            raise CannotJoin("it puts a hook on the carry")
        own = {id(leaf): place for place, leaf in enumerate((*given.carry_in, *given.x_in))}
        offset = len(own)
        places = []
        for tensor in inputs:
            place = own.get(id(tensor))
            if place is None:
                place = given.params.get(id(tensor), -1)
                place += offset if place >= 0 else 0
            places.append(place)
        if graph.places is None:
            graph.learn(places, inputs, flatten(carry), [tree_leaves(y) for y in ys])
        elif graph.places != places:
            raise CannotJoin("its tensors change places")
        return Joined(self, graph, inputs, given)

    def _backend(self, module: GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        graph = _Graph(module)

        def served(*inputs: Any) -> Sequence[Any]:
            """Only take what Dynamo found; once it is known what the outputs are, nobody needs them."""
            self._mine.graph, self._mine.inputs = graph, inputs
            return graph.outputs if graph.places is not None else graph.run(inputs)

        return served


class Joined:
    """One core that is recorded and backpropagated at once.

    Attributes:
        at, places, start, carry_in, x_in: as given.
        carry_out: leaves of the carry after it, once it was pulled back or evaluated.
        used: which of the declared tensors it uses.
    """

    def __init__(self, joint: Joint, graph: _Graph, inputs: Leaves, given: Given) -> None:
        self._joint, self._graph, self._inputs = joint, graph, inputs
        self.at, self.places, self.start = given.at, given.places, given.start
        self.carry_in, self.x_in = given.carry_in, given.x_in
        offset = len(self.carry_in) + len(self.x_in)
        self.used = sorted({place - offset for place in graph.places or () if place >= offset})
        self._offset = offset
        self.carry_out: Leaves = ()

    def pull(
        self, carry: Sequence[Tensor | None], ys: Sequence[Tensor | None], total: Callable[[int], Tensor]
    ) -> Sequence[Tensor | None] | None:
        """Backpropagate: return the gradients of `carry_in` and `x_in`; ``None``, nothing done, where that fails.

        Args:
            carry: gradient of each leaf of the carry after the core.
            ys: gradient of each leaf of the outputs, step after step.
            total: returns the sum that the gradients of a declared tensor are added to.
        """
        grads = (*carry, *ys)
        try:
            function = self._graph.function(self._inputs, self._offset, grads)
            tensors = self._run(function, [grad for grad in grads if grad is not None])
            sums = {place: total(place - self._offset) for place in function.summed}
        except Exception as error:  # recording the core shows what it is, or does without
            self._joint.refuse(error)
            return None
        function.add(tensors, sums)
        by_place = function.gradients(tensors)
        return [by_place.get(place) for place in range(self._offset)]

    def evaluate(self) -> bool:
        """Compute `carry_out`, and nothing else; false where none of its kind was pulled back, which would tell how."""
        for function in self._graph.functions.values():
            self._run(function, [layout.empty().zero_() for layout in function.layouts])
            return True
        return False

    def _run(self, function: Pullback, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        tensors = function(self._inputs, grads)
        ends = self._graph.ends[: len(self.carry_in)]
        self.carry_out = tuple(
            [self._inputs[~end].detach() if end < 0 else tensors[function.forward[end]] for end in ends]
        )
        return tensors


class _Graph:
    """What Dynamo traced of a core, for one kind of inputs.

    Attributes:
        places: of each input among carry, inputs and declared tensors, or -1; ``None`` before the first core.
        ends: of each leaf of the carry after it, and of the outputs: which output it is, or ``~input``.
        emitted: how many leaves the output of each step has.
        functions: the pullbacks, by which gradients are there.
        outputs: as many as it has, of no value.
    """

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self.places: list[int] | None = None
        self.ends: list[int] = []
        self.emitted: list[int] = []
        self.outputs: Sequence[Any] = ()
        self.functions: dict[tuple[bool, ...], Pullback] = {}
        self._returned: Sequence[Any] = ()
        self._carry = 0

    def run(self, inputs: Leaves) -> Sequence[Any]:
        """Run it as it is, once, to see what its outputs become."""
        with torch.no_grad():
            self._returned = self._module(*[tensor.detach() for tensor in inputs])
        return self._returned

    def learn(self, places: list[int], inputs: Leaves, carry: Leaves, ys: Sequence[Sequence[Tensor]]) -> None:
        """Take note of which leaf is which output."""
        returned, self._returned = self._returned, ()
        if any(place < 0 and tensor.requires_grad for place, tensor in zip(places, inputs, strict=True)):
            raise CannotJoin("it uses a tensor that wants a gradient and was not declared")
        known = {id(tensor): ~index for index, tensor in enumerate(inputs)}
        known |= {id(tensor): index for index, tensor in enumerate(returned)}
        leaves = [*carry, *(leaf for y in ys for leaf in y)]
        if any(id(leaf) not in known for leaf in leaves):
            raise CannotJoin("it returns a constant")
        self.ends = [known[id(leaf)] for leaf in leaves]
        if set(range(len(returned))) - set(self.ends):
            raise CannotJoin("it keeps tensors beside what it returns")
        self.emitted, self.outputs, self._carry = [len(y) for y in ys], (None,) * len(returned), len(carry)
        self.places = places

    def function(self, inputs: Leaves, own: int, grads: Sequence[Tensor | None]) -> Pullback:
        """Return the pullback for the gradients that are there."""
        there = tuple([grad is not None for grad in grads])
        known = self.functions.get(there)
        if known is None:
            from membptt.kernels.pullback import pullback  # noqa: PLC0415  (which imports the compiler)

            if len(self.functions) == _PATTERNS:
                raise CannotJoin("the gradients that are there change from core to core")
            heads = [end for end, grad in zip(self.ends, grads, strict=True) if grad is not None]
            kept = sorted({end for end in self.ends[: self._carry] if end >= 0})
            given = [grad for grad in grads if grad is not None]
            known = pullback(
                self._module, inputs, places=self.places or [], own=own, heads=heads, kept=kept, grads=given
            )
            self.functions[there] = known
        return known


_joints: OrderedDict[tuple[Callable[..., Any], int], Joint] = OrderedDict()
