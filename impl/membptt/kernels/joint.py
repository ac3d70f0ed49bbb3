"""Cores as functions of tensors: advanced, and pulled back as soon as they are recorded, by two compiled functions.

One goes from carry and inputs to the carry after a core and its outputs; the other from these and the gradients of what
the core gives to the gradients of the carry and of the inputs, and to what is added to the sums of the parameters'
gradients. No graph of autograd is built, nothing is saved for a backward, and what Dynamo guards is looked at once in
a pass instead of at every core.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from threading import local
from typing import TYPE_CHECKING, Any, NamedTuple

import optree
import torch
from torch import Tensor
from torch.fx import GraphModule

from membptt.kernels.compiled import CannotJoin, loop_of
from membptt.state.leaves import Leaves, as_leaf
from membptt.state.states import At, Hidden
from membptt.state.trees import flatten
from membptt.torch_private import RECOMPILE_LIMIT, hooks_of, is_one_too_many, is_transformed, side_effects

if TYPE_CHECKING:
    from membptt.kernels.pullback import Forward, Pullback

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


class Given(NamedTuple):
    """What a core is run on.

    Args:
        carry: its leaves.
        form: their structure.
        steps: the leaves of the inputs of each call of the step in it.
        spec: their structure.
    """

    carry: Sequence[Tensor]
    form: optree.PyTreeSpec
    steps: Sequence[Sequence[Tensor]]
    spec: optree.PyTreeSpec

    @property
    def own(self) -> Sequence[Tensor]:
        """All leaves that are the core's own: of its carry and of its inputs, call after call."""
        return *self.carry, *chain(*self.steps)


class Wanted(NamedTuple):
    """Which gradients of a core are wanted.

    Args:
        carry: of which leaves of the carry.
        x: of which leaves of the inputs of each step.
        params: the place of each declared tensor, by its identity.
    """

    carry: Sequence[bool]
    x: Sequence[bool]
    params: Mapping[int, int]


class Joint:
    """Joins the cores of one step, as long as nothing stands against it.

    Dynamo traces the step and guards what it found, as for a compiled core; functions are derived from its graph. Not
    joined is a step that Dynamo cannot trace as a whole, that draws random numbers, writes to what it is given, assigns
    to anything, keeps tensors beside its outputs or uses tensors that want a gradient and were not declared: such a
    core is run and recorded, and refused where that has to be.

    Dynamo compiles a function for so many kinds of inputs only. Of any further kind cores are recorded, and run as they
    are written, which a warning says once; those of the kinds before are joined as they were.

    Attributes:
        problem: why cores of this step are not joined; ``None`` as long as they are.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self._loop = torch.compile(loop_of(step), backend=self._backend, fullgraph=True, dynamic=False)
        self._mine = local()  # every thread asks for itself
        self._warned = False
        self.problem: str | None = None

    def trace(self, given: Given, wanted: Wanted) -> Traced | None:
        """Return cores such as the one that is run on this; ``None`` where they have to be recorded."""
        if self.problem is not None or is_transformed() or torch.is_autocast_enabled("cpu"):
            return None
        try:
            return self._trace(given, wanted)
        except Exception as error:  # whatever it is, running the core shows it, or does without
            if is_one_too_many(error):
                self._warn()
            else:
                self.refuse(error)
            return None

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                "compile=True: this step was compiled for as many shapes of carry and inputs as Dynamo allows; with "
                "any further one it runs as it is written, slower and in more memory. Pad to fewer shapes, or set "
                f"{RECOMPILE_LIMIT} higher",
                stacklevel=2,
            )

    def refuse(self, error: Exception) -> None:
        """Join no further core, because of `error`."""
        self.problem = str(error) if isinstance(error, CannotJoin) else f"{type(error).__name__}: {error}"

    def _trace(self, given: Given, wanted: Wanted) -> Traced:
        carry = list(map(as_leaf, given.carry, wanted.carry))
        steps = [list(map(as_leaf, leaves, wanted.x)) for leaves in given.steps]
        mine = self._mine
        mine.graph = mine.inputs = None
        try:
            with torch.enable_grad():
                after, ys = self._loop(given.form.unflatten(carry), [given.spec.unflatten(leaves) for leaves in steps])
            graph: _Graph | None = mine.graph
            inputs: Leaves = mine.inputs
        finally:
            mine.graph = mine.inputs = None
        if graph is None:
            raise CannotJoin("the step computes nothing")
        if any(map(hooks_of, carry)):
            raise CannotJoin("it puts a hook on the carry")
        own = {id(leaf): place for place, leaf in enumerate((*carry, *chain(*steps)))}
        offset = len(own)
        places = []
        for tensor in inputs:
            place = own.get(id(tensor))
            if place is None:
                place = wanted.params.get(id(tensor), -1)
                place += offset if place >= 0 else 0
            places.append(place)
        if graph.places is None:
            graph.learn(places, inputs, after, ys)
        elif graph.places != places:
            raise CannotJoin("its tensors change places")
        return Traced(self, graph, inputs, offset)

    def _backend(self, module: GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        graph = _Graph(module, side_effects())

        def served(*inputs: Any) -> Sequence[Any]:
            """Only take what Dynamo found: what comes of it has a place, and no value."""
            self._mine.graph, self._mine.inputs = graph, inputs
            return graph.outputs

        return served


class Traced:
    """Cores of one kind, as Dynamo found them; what it guards is not looked at again.

    Attributes:
        spec: structure of the carry after them.
        y_specs: of the output of each step.
        used: which of the declared tensors they use.
    """

    def __init__(self, joint: Joint, graph: _Graph, inputs: Leaves, offset: int) -> None:
        self._joint, self._graph = joint, graph
        self._offset = offset  # leaves of carry and inputs
        places = graph.places or []
        self._constant = list(inputs)
        self._places = [(index, place) for index, place in enumerate(places) if 0 <= place < offset]
        for index, _ in self._places:
            self._constant[index] = _NONE
        self.spec, self.y_specs = graph.spec, graph.y_specs
        self.used = sorted({place - offset for place in places if place >= offset})

    def advance(self, own: Sequence[Tensor]) -> tuple[Leaves, list[Leaves]] | None:
        """Run one: return the leaves of the carry after it, and of each output; ``None`` where that fails.

        Args:
            own: leaves of its carry and of its inputs, step after step.
        """
        graph, inputs = self._graph, self._inputs(own)
        try:
            results = graph.forward(inputs)(inputs)
        except Exception as error:
            self._joint.refuse(error)
            return None
        leaves = [inputs[~end].detach() if end < 0 else results[end] for end in graph.ends]
        start = graph.spec.num_leaves
        ys = []
        for spec in graph.y_specs:
            ys.append(tuple(leaves[start : start + spec.num_leaves]))
            start += spec.num_leaves
        return tuple(leaves[: graph.spec.num_leaves]), ys

    def pull(
        self, own: Sequence[Tensor], grads: Sequence[Tensor | None], total: Callable[[int], Tensor]
    ) -> tuple[Leaves, Sequence[Tensor | None]] | None:
        """Backpropagate one: return the carry after it, and the gradients of its own leaves; ``None`` where that fails.

        Args:
            own: leaves of its carry and of its inputs, step after step.
            grads: of the leaves of the carry after it, and of its outputs.
            total: returns the sum that the gradients of a declared tensor are added to.
        """
        inputs = self._inputs(own)
        try:
            function = self._graph.function(inputs, self._offset, grads)
            tensors = function(inputs, [grad for grad in grads if grad is not None])
            sums = {place: total(place - self._offset) for place in function.summed}
        except Exception as error:  # recording the core shows what it is, or does without
            self._joint.refuse(error)
            return None
        function.add(tensors, sums)
        ends = self._graph.ends[: self._graph.spec.num_leaves]
        carry = tuple([inputs[~end].detach() if end < 0 else tensors[function.forward[end]] for end in ends])
        by_place = function.gradients(tensors)
        return carry, [by_place.get(place) for place in range(self._offset)]

    def _inputs(self, own: Sequence[Tensor]) -> Leaves:
        inputs = self._constant.copy()
        for index, place in self._places:
            inputs[index] = own[place]
        return tuple(inputs)


class Joined:
    """One core that is recorded and backpropagated at once.

    Attributes:
        at, places, start: as given.
        carry_in: leaves of the carry before it.
        carry_out: of the carry after it, once it was pulled back or evaluated.
    """

    def __init__(self, traced: Traced, at: At, places: Sequence[At], start: Hidden, own: Sequence[Tensor]) -> None:
        self._traced, self._own = traced, own
        self.at, self.places, self.start = at, places, start
        self.carry_in = start.leaves
        self.carry_out: Leaves = ()

    def pull(
        self, carry: Sequence[Tensor | None], ys: Sequence[Tensor | None], total: Callable[[int], Tensor]
    ) -> Sequence[Tensor | None] | None:
        """Backpropagate: return the gradients of carry and inputs; ``None``, nothing done, where that fails.

        Args:
            carry: gradient of each leaf of the carry after the core.
            ys: gradient of each leaf of the outputs, step after step.
            total: returns the sum that the gradients of a declared tensor are added to.
        """
        pulled = self._traced.pull(self._own, (*carry, *ys), total)
        if pulled is None:
            return None
        self.carry_out, shares = pulled
        return shares

    def evaluate(self) -> bool:
        """Compute `carry_out`, and nothing else; false where that fails."""
        advanced = self._traced.advance(self._own)
        self.carry_out = advanced[0] if advanced is not None else ()
        return advanced is not None


class _Graph:
    """What Dynamo traced of a core, for one kind of inputs.

    Attributes:
        places: of each input among carry, inputs and declared tensors, or -1; ``None`` before the first core.
        ends: of each leaf of the carry after it, and of the outputs: which output it is, or ``~input``.
        outputs: as many as it has, of no value.
        spec: structure of the carry after it.
        y_specs: of the output of each step.
        functions: the pullbacks, by which gradients are there.
    """

    def __init__(self, module: GraphModule, effects: bool) -> None:
        self._module = module
        self._effects = effects
        self._wanted: list[int] = []  # inputs whose gradients are wanted
        self.places: list[int] | None = None
        self.ends: list[int] = []
        count = len(module.graph.output_node().args[0])  # type: ignore[arg-type]
        self.outputs: Sequence[Tensor] = [torch.empty(0) for _ in range(count)]
        self.spec = flatten("the carry", ())[1]
        self.y_specs: Sequence[optree.PyTreeSpec] = ()
        self.functions: dict[tuple[bool, ...], Pullback] = {}
        self._forward: Forward | None = None

    def learn(self, places: list[int], inputs: Leaves, carry: Any, ys: Sequence[Any]) -> None:
        """Take note of which leaf is which output."""
        if any(place < 0 and tensor.requires_grad for place, tensor in zip(places, inputs, strict=True)):
            raise CannotJoin("it uses a tensor that wants a gradient and was not declared")
        known = {id(tensor): ~index for index, tensor in enumerate(inputs)}
        known |= {id(tensor): index for index, tensor in enumerate(self.outputs)}
        leaves, self.spec = flatten("the carry", carry)
        of_ys = [flatten("the output y", y) for y in ys]
        leaves = (*leaves, *(leaf for y, _ in of_ys for leaf in y))
        if any(id(leaf) not in known for leaf in leaves):
            raise CannotJoin("it returns a constant")
        self.ends = [known[id(leaf)] for leaf in leaves]
        if set(range(len(self.outputs))) - set(self.ends):
            raise CannotJoin("it keeps tensors beside what it returns")
        if self._effects:
            raise CannotJoin("it assigns to what it is given")
        self.y_specs = [spec for _, spec in of_ys]
        self._wanted = [index for index, tensor in enumerate(inputs) if tensor.requires_grad]
        self.places = places

    def forward(self, inputs: Leaves) -> Forward:
        """Return the function that advances."""
        if self._forward is None:
            from membptt.kernels.pullback import forward  # noqa: PLC0415  (which imports the compiler)

            self._forward = forward(self._module, inputs)
        return self._forward

    def function(self, inputs: Leaves, own: int, grads: Sequence[Tensor | None]) -> Pullback:
        """Return the pullback for the gradients that are there."""
        there = tuple([grad is not None for grad in grads])
        known = self.functions.get(there)
        if known is None:
            from membptt.kernels.pullback import pullback  # noqa: PLC0415  (which imports the compiler)

            if len(self.functions) == _PATTERNS:
                raise CannotJoin("the gradients that are there change from core to core")
            heads = [end for end, grad in zip(self.ends, grads, strict=True) if grad is not None]
            kept = sorted({end for end in self.ends[: self.spec.num_leaves] if end >= 0})
            given = [grad for grad in grads if grad is not None]
            known = pullback(
                self._module,
                inputs,
                wanted=self._wanted,
                places=self.places or [],
                own=own,
                heads=heads,
                kept=kept,
                grads=given,
            )
            self.functions[there] = known
        return known


_NONE = torch.empty(0)
_joints: OrderedDict[tuple[Callable[..., Any], int], Joint] = OrderedDict()
