"""The scan as one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import Context, copy_context
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar
from weakref import finalize

import torch
from torch import Tensor

from membptt.run.adjoint import Adjoint, Hook, hooks_deferred
from membptt.run.continuity import Doubt
from membptt.run.core import Core
from membptt.run.course import Course
from membptt.run.execution import Execution, Observer
from membptt.run.inputs import Inputs
from membptt.run.meter import Probe, Report
from membptt.run.outputs import Outputs, Unkept
from membptt.run.parts import Part
from membptt.run.progress import Follower, Tell, shown
from membptt.run.promise import Promise
from membptt.run.region import Region, beyond, kept
from membptt.run.second import Differentiable, Gradients
from membptt.run.verdict import Comparison, Replay, error
from membptt.slow.tier import SlowStates, SlowTier
from membptt.state.leaves import Leaves, is_differentiable
from membptt.state.states import Hidden, RandomState
from membptt.step.autocast import Autocast
from membptt.step.changes import Accumulated
from membptt.step.generators import Generators
from membptt.step.refusals import refuse_cache
from membptt.step.surroundings import Surroundings
from membptt.torch_private import (
    are_several,
    each_alone,
    end_with,
    graph_task,
    hooks_of,
    is_transformed,
    subclasses_as_now,
)

Results = TypeVar("Results")


class Choice(NamedTuple):
    """What is executed, the inputs cut into its cores, and its slow tier: of no slots if it has none.

    Args:
        course: a verified schedule, or a loop.
        inputs: the inputs.
        slow: the slow tier.
        weighed: whether the course looks at what its first cores weigh.
        promise: what a plan promised, if there is one.
    """

    course: Course
    inputs: Inputs
    slow: SlowTier = SlowTier(slots=0)
    weighed: bool = False
    promise: Promise | None = None


@dataclass(slots=True)
class Call:
    """Everything about one call of scan that is not a tensor argument."""

    core: Core
    choice: Choice
    outputs: Outputs
    generators: Generators
    autocast: Autocast
    surroundings: Surroundings
    carry_leaves: int
    input_leaves: int
    report: Report | None
    tell: Tell | None  # how far it is
    init: tuple[Tensor | None, ...]  # the starting carry's leaves of autograd: what is saved of them may be a copy
    parts: tuple[Part, ...]
    settle: Callable[[], None]
    ends: frozenset[int] | None  # where cores may be linked: those after whose backward there is a stop
    backs: dict[int, _Back | _Known] = field(
        init=False, default_factory=dict
    )  # passes under way, where there are parts
    hooked: bool = field(init=False, default=False)
    _aside: list[Callable[[], AbstractContextManager[None]]] = field(init=False, default_factory=list)
    random: RandomState = field(init=False, default=())
    final_leaves: int = field(init=False, default=0)  # the first step may make more of a carry than it was given
    # Autograd runs a backward on a CUDA device in a thread of its own, where no context variable is set.
    context: Context = field(init=False, default_factory=copy_context)
    subclasses: Callable[[], AbstractContextManager[Any]] = field(init=False, default_factory=subclasses_as_now)

    def apply(self, carry: Leaves, xs: Leaves, params: Leaves) -> Leaves:
        """Return final carry and outputs, differentiable in all arguments."""
        given, tensors = (*carry, *xs), (*carry, *xs, *self.parts[0].of(params))
        for number, part in enumerate(self.parts[1:]):
            tensors = (_Earlier.apply(self, number, *tensors), *part.of(params))  # type: ignore[no-untyped-call]
        results: Leaves = _Scan.apply(self, given if len(self.parts) > 1 else (), *tensors)  # type: ignore[no-untyped-call]
        return results

    def hook_start(self, carry: Leaves, hooks: list[list[Hook]]) -> None:
        """Put the hooks that the first step put on the carry it was given where they belong: on the caller's tensors.

        As in the loop, they stay there; a further backward adds none.
        """
        if self.hooked or not any(hooks):
            return
        for saved, own, wanted in zip(carry, self.init, hooks, strict=True):
            tensor = own if own is not None else saved
            for hook in wanted if tensor.requires_grad else ():  # the loop's would not have been hooked either
                self.hooked = True
                tensor.register_hook(hook)  # type: ignore[no-untyped-call]

    def split(self, given: Leaves) -> tuple[Leaves, Leaves]:
        """Tell carry and inputs apart."""
        return given[: self.carry_leaves], given[self.carry_leaves :]

    def begin(self, given: Leaves, *, observed: bool = True, linked: bool = True) -> Execution:
        """Start the course from the starting carry, in the random state of the first pass."""
        carry, xs = self.split(given)
        self.core.begin()
        # Detached: a step that hooks what it is given would hook the caller's tensors, at every advance.
        start = Hidden.of(tuple([leaf.detach() for leaf in carry]), self.random)
        slow = SlowStates(start, self.choice.slow.directory) if self.choice.slow.slots != 0 else None
        observers: list[Observer] = []
        probe = None
        if self.report is not None and observed:
            observers.append(probe := Probe(self.report, (*xs, *self.core.params)))
        if self.tell is not None and observed:
            observers.append(Follower(self.tell, self.choice.course))
        ends = self.ends if linked else None
        execution = Execution(self.core, self.choice.course, start, slow, observers, ends=ends)
        if probe is not None:
            finalize(execution, probe.close)
        return execution

    @contextmanager
    def as_then(self) -> Iterator[None]:
        """Let everything be as it was in the first pass."""
        refuse_cache()
        aside = self.autocast.aside()
        with (
            self.subclasses(),
            _together(
                self.generators.replayed(), self.autocast.replayed(), hooks_deferred(self.core.params), shown(self.tell)
            ),
            self.surroundings.replayed(),
        ):
            self._aside = [each for each in (aside, self.surroundings.aside and self.surroundings.as_now) if each]
            try:
                yield
            finally:
                self._aside = []

    def as_now(self) -> AbstractContextManager[object]:
        """Let formulas and hooks, which run backward, find things as they are now: only the step is run as it was."""
        return _together(*[each() for each in self._aside]) if self._aside else _IDLE

    def enclosed(self, run: Callable[[], Results]) -> Results:
        """Run what recomputes or backpropagates the step, where that finds what the first pass found."""
        return self.context.copy().run(self._enclosed, run)

    def _enclosed(self, run: Callable[[], Results]) -> Results:
        with self.as_then():
            return run()

    def loop(self, tensors: Gradients) -> Gradients:
        """Return final carry and outputs of the plain loop, with their graph, given the tensors of the call.

        Raises:
            RuntimeError: the carry does not end where the first pass ended.
        """
        given: Any = tensors[: self.carry_leaves + self.input_leaves]
        carry, xs = self.split(given)
        outputs, cores = self.outputs.graphed(), self.choice.course.cores
        self.generators.write(self.random)
        final = self.core.loop(Hidden.of(carry, self.random), xs, 0, cores, outputs).leaves
        for leaf in carry:
            hooks_of(leaf).clear()  # the first pass's are where they belong, see `hook_start`
        if self.core.continuity is not None and not self.core.continuity.ends_at(final):
            raise RuntimeError(_ENDS_ELSEWHERE)
        return *final, *outputs.take()


def _together(*contexts: AbstractContextManager[object]) -> AbstractContextManager[object]:
    """Return what enters those of these contexts that do anything."""
    active = [context for context in contexts if type(context) is not nullcontext]
    return _entered(active) if len(active) > 1 else active[0] if active else _IDLE


@contextmanager
def _entered(contexts: Sequence[AbstractContextManager[object]]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


_IDLE: Final = nullcontext()


class _Scan(torch.autograd.Function):
    """Forward: the stream up to its first backward action. Backward: the rest of it, or the part of the last cores."""

    @staticmethod
    def forward(ctx: Any, call: Call, given: Leaves, *tensors: Tensor) -> Leaves:
        given = given or tensors[: call.carry_leaves + call.input_leaves]
        region = Region.now()
        with (
            call.generators.exclusive(),
            call.generators.handed_on(),
            _together(call.autocast.replayed(), shown(call.tell), beyond(region)),
        ):
            call.random, accumulated = call.generators.read(), Accumulated(call.surroundings)
            execution = call.begin(given)
            final = execution.forward(call.split(given)[1], call.outputs)
            call.core.accumulated = accumulated.moved()
            call.core.check_unchanged()
            call.generators.settle()
        call.outputs.ended(call.choice.inputs.steps)
        call.surroundings.settle()
        call.core.leave(call.surroundings.frozen())
        if call.core.continuity is not None:
            call.core.continuity.ended(final, call.choice.course.cores)
        call.final_leaves = len(final)
        # Clones: the caller may write to what it gets, the stored states must not notice.
        results = (*[leaf.detach().clone() for leaf in final], *call.outputs.take())
        if not all(map(is_differentiable, results)):
            ctx.mark_non_differentiable(*[leaf for leaf in results if not is_differentiable(leaf)])
        ctx.set_materialize_grads(False)
        saved = (*given, *call.parts[-1].of(call.core.params))
        if region is not None:
            execution, saved = region.keep(call, execution), (*saved, region.token)
        ctx.save_for_backward(*saved)
        ctx.call, ctx.execution, ctx.in_region = call, execution, region is not None
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        last = len(call.parts) - 1
        if torch.is_grad_enabled() or are_several(grads):
            return None, None, *_Known(call, each_alone(partial(_gradient, ctx), grads)).go_on(last)
        saved = ctx.saved_tensors
        execution, ctx.execution = ctx.execution, None
        if ctx.in_region and last == 0:
            call, execution = kept(saved[-1]) or (call, execution)
        back = _Back(call, saved[: call.carry_leaves + call.input_leaves], execution, grads)
        return None, None, *call.context.copy().run(back.go_on, last)


class _Earlier(torch.autograd.Function):
    """The scan's node for a part of earlier cores. Forward: nothing. Backward: that part, after the later ones."""

    @staticmethod
    def forward(ctx: Any, call: Call, number: int, *tensors: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)  # so that a change between the parts is noticed
        ctx.call, ctx.number = call, number
        return torch.empty(0, device=call.core.params[0].device)  # there, so that it runs on the same stream

    @staticmethod
    def backward(ctx: Any, _: None) -> tuple[Tensor | None, ...]:
        del _
        call: Call = ctx.call
        unchanged: Leaves = ctx.saved_tensors
        del unchanged
        back = call.backs[graph_task()]
        return None, None, *call.context.copy().run(back.go_on, ctx.number)


class _Back:
    """A backward pass under way, in which part after part goes backward.

    Args:
        call: the call.
        given: its starting carry and inputs.
        execution: has run up to its first backward instruction; ``None`` where an earlier pass took it.
        grads: of the final carry and the outputs.
    """

    def __init__(self, call: Call, given: Leaves, execution: Execution | None, grads: Gradients) -> None:
        if call.core.compiled and is_transformed():
            raise RuntimeError(_BEFORE_THE_LEVEL)  # the tangents of gradients would be lost
        self._call, self._given, self._execution = call, given, execution
        call.core.begin()
        self._carry, self._xs = call.split(given)
        carry, ys = list(grads[: call.final_leaves]), list(grads[call.final_leaves :])
        compact = not call.core.forms.alike
        self._adjoint = Adjoint(
            carry, ys, call.outputs, self._xs, call.core.params, compact=compact, as_now=call.as_now
        )
        self._comparison: Comparison | None = None
        self._first = 0  # the core that went backward last
        if call.core.continuity is not None:
            # In parts, several passes may be under way; a whole one is alone.
            continuity = copy(call.core.continuity) if len(call.parts) > 1 else call.core.continuity
            again = partial(_again, call, given, self._xs)
            self._comparison = Comparison(continuity, call.core, self._xs, again, partial(_error, call))
            continuity.begin()

    def go_on(self, number: int) -> Gradients:
        """Run part `number`; return the gradients of what its node was given."""
        call, task, part = self._call, graph_task(), self._call.parts[number]
        if number == len(call.parts) - 1 > 0:
            call.backs[task] = self
            end_with(partial(call.context.copy().run, self._end, task))
        try:
            with call.as_then():
                self._backpropagate(part.first)
                if number == 0:
                    self._finish()
        except BaseException:
            call.backs.pop(task, None)
            raise
        gradients = self._adjoint.take(part.params)
        if number > 0:
            return (None, *gradients)
        call.backs.pop(task, None)
        return (*self._adjoint.carry, *self._adjoint.xs, *gradients)

    def whole(self) -> Gradients:
        """Run all parts; return the gradients of all tensors of the call."""
        self._backpropagate(0)
        self._finish()
        return (*self._adjoint.carry, *self._adjoint.xs, *self._adjoint.params)

    def _backpropagate(self, first: int) -> None:
        call = self._call
        if self._execution is None:  # a further backward of a retained graph: all stored states are used up
            call.generators.write(call.random)
            self._execution = call.begin(self._given)
            self._execution.forward(self._xs, None)
        if self._comparison is None:
            self._execution.backward(self._xs, self._adjoint, first)
        else:
            self._comparison.backpropagate(self._execution, self._adjoint, first)
        self._first = first

    def _finish(self) -> None:
        self._judge()
        self._call.settle()
        self._call.hook_start(self._carry, self._adjoint.hooks)

    def _judge(self) -> None:
        if self._comparison is not None:
            self._comparison.judge(self._first)

    def _end(self, task: int) -> None:
        """See to a pass that went no further, since no gradient of an earlier part was wanted."""
        if self._call.backs.pop(task, None) is not None:
            with torch.no_grad(), self._call.as_then():
                self._judge()
                if self._execution is not None:
                    self._execution.close()


class _Known:
    """A backward pass of all parts at once: each node finds its gradients there.

    Args:
        call: the call.
        gradients: of its starting carry, its inputs, and its declared tensors.
    """

    def __init__(self, call: Call, gradients: Gradients) -> None:
        self._call, self._given = call, gradients[: call.carry_leaves + call.input_leaves]
        self._params = gradients[len(self._given) :]

    def go_on(self, number: int) -> Gradients:
        """Return the gradients of what the node of part `number` was given."""
        call, task = self._call, graph_task()
        if number == len(call.parts) - 1 > 0:
            call.backs[task] = self
            end_with(partial(self._end, task))
        params = [self._params[index] for index in call.parts[number].params]
        return (*self._given, *params) if number == 0 else (None, *params)

    def _end(self, task: int) -> None:
        self._call.backs.pop(task, None)


def _gradient(ctx: Any, grads: Gradients) -> Gradients:
    """Return the gradients of all tensors of a call; with grad mode on, as create_graph=True has it, with graph."""
    call: Call = ctx.call
    given: Leaves = ctx.saved_tensors[: call.carry_leaves + call.input_leaves]

    def value() -> Gradients:
        execution, ctx.execution = ctx.execution, None
        return call.enclosed(_Back(call, given, execution, grads).whole)

    if not torch.is_grad_enabled():
        return value()
    if is_transformed():
        raise RuntimeError(_BEFORE_THE_LEVEL)
    first = Differentiable(call.loop, len(given), call.enclosed, call.as_now)
    return first.gradient(len(grads)).apply(*grads, *given, *call.core.params, value=value)


def _again(call: Call, given: Leaves, xs: Leaves, *, linked: bool = True) -> Execution:
    """Begin the scan once more, and run it up to its first backward instruction."""
    call.generators.write(call.random)
    execution = call.begin(given, observed=False, linked=linked)
    execution.forward(xs, Unkept())
    return execution


def _error(call: Call, doubt: Doubt, replay: Replay | None) -> RuntimeError:
    at = call.choice.inputs.at(doubt.core)
    steps = f"steps {at.start} to {at.stop - 1}" if isinstance(at, slice) else f"step {at}"
    names = call.surroundings.names()
    changed = [*map(names.__getitem__, call.surroundings.changed()), *call.surroundings.replaced()]
    return error(doubt, replay, call.core.name(doubt.what, doubt.core, doubt.leaf, call.outputs), steps, changed)


_BEFORE_THE_LEVEL: Final = (
    "a scan, while_loop or chain that was run outside forward-mode differentiation is differentiated inside it, and "
    "with create_graph=True, or compiled: call it inside, or leave these out"
)
_ENDS_ELSEWHERE: Final = (
    "a second derivative is taken of the plain loop, which is run once more; it ended in another carry than the first "
    "pass: the step is not what it was, or rounding grows from step to step (then check=False takes it as it is)"
)
