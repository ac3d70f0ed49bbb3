"""The scan as one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from weakref import finalize

import torch
from torch import Tensor

from membptt.run.adjoint import Adjoint, Gradients, Hook, hooks_deferred
from membptt.run.continuity import Continuity, Doubt
from membptt.run.core import Core
from membptt.run.course import Course
from membptt.run.execution import Execution, Observer
from membptt.run.inputs import Inputs
from membptt.run.meter import Probe, Report
from membptt.run.outputs import Outputs, Unkept
from membptt.run.progress import Follower, Tell, shown
from membptt.run.promise import Promise
from membptt.run.verdict import Comparison, Replay, error
from membptt.slow.tier import SlowStates, SlowTier
from membptt.state.leaves import Leaves, is_differentiable
from membptt.state.states import Hidden, RandomState
from membptt.step.autocast import Autocast
from membptt.step.generators import Generators
from membptt.step.surroundings import Surroundings
from membptt.torch_private import is_batched, subclasses_as_now


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
    continuity: Continuity | None
    tell: Tell | None  # how far it is
    init: tuple[Tensor | None, ...]  # the starting carry's leaves of autograd: what is saved of them may be a copy
    hooked: bool = field(init=False, default=False)
    random: RandomState = field(init=False, default=())
    final_leaves: int = field(init=False, default=0)  # the first step may make more of a carry than it was given
    # Autograd runs a backward on a CUDA device in a thread of its own, where no context variable is set.
    context: Context = field(init=False, default_factory=copy_context)
    subclasses: Callable[[], AbstractContextManager[Any]] = field(init=False, default_factory=subclasses_as_now)

    def apply(self, carry: Leaves, xs: Leaves, params: Leaves) -> Leaves:
        """Return final carry and outputs, differentiable in all arguments."""
        results: Leaves = _Scan.apply(self, *carry, *xs, *params)  # type: ignore[no-untyped-call]
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

    def split(self, tensors: Leaves) -> tuple[Leaves, Leaves, Leaves]:
        """Tell carry, inputs and parameters apart."""
        rest = tensors[self.carry_leaves :]
        return tensors[: self.carry_leaves], rest[: self.input_leaves], rest[self.input_leaves :]

    def begin(self, tensors: Leaves, *, observed: bool = True) -> Execution:
        """Start the course from the starting carry, in the random state of the first pass."""
        carry, xs, params = self.split(tensors)
        start = Hidden.of(carry, self.random)
        slow = SlowStates(start, self.choice.slow.directory) if self.choice.slow.slots != 0 else None
        observers: list[Observer] = []
        probe = None
        if self.report is not None and observed:
            observers.append(probe := Probe(self.report, (*xs, *params)))
        if self.tell is not None and observed:
            observers.append(Follower(self.tell, self.choice.course))
        execution = Execution(self.core, self.choice.course, start, slow, observers)
        if probe is not None:
            finalize(execution, probe.close)
        return execution


class _Scan(torch.autograd.Function):
    """Forward: the stream up to its first backward action. Backward: the rest of it."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Leaves:
        with call.generators.exclusive(), call.generators.handed_on(), call.autocast.replayed(), shown(call.tell):
            call.random = call.generators.read()
            execution = call.begin(tensors)
            final = execution.forward(call.split(tensors)[1], call.outputs)
            call.core.check_unchanged()
            _refuse_kept(call, tensors)
            call.generators.settle()
        call.outputs.ended(call.choice.inputs.steps)
        call.surroundings.settle()
        if call.continuity is not None:
            call.continuity.ended(final, call.choice.course.cores)
        call.final_leaves = len(final)
        # Clones: the caller may write to what it gets, the stored states must not notice.
        results = (*(leaf.detach().clone() for leaf in final), *call.outputs.take())
        ctx.mark_non_differentiable(*(leaf for leaf in results if not is_differentiable(leaf)))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.call, ctx.execution = call, execution
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        # Only create_graph=True runs this with grad mode on; what follows would be missing from that graph.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "scan and while_loop cannot be differentiated twice: call backward without create_graph=True, "
                "or run the loop under plain autograd where a second derivative is needed"
            )
        if any(grad is not None and is_batched(grad) for grad in grads):
            raise RuntimeError(
                "scan and while_loop take one gradient at a time: leave out is_grads_batched=True and vectorize=True"
            )
        call: Call = ctx.call
        return call.context.copy().run(_backward, call, ctx, grads)


def _backward(call: Call, ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    init, xs, params = call.split(ctx.saved_tensors)
    compact = not call.core.forms.alike
    carry, ys = list(grads[: call.final_leaves]), list(grads[call.final_leaves :])
    with (
        call.subclasses(),
        call.generators.exclusive(),
        call.generators.handed_on(),
        call.generators.preserved(),
        call.autocast.replayed(),
        call.surroundings.replayed(),
        hooks_deferred(call.core.params),
        shown(call.tell),
    ):
        if call.continuity is not None:
            call.continuity.begin()
        if ctx.execution.finished:  # a further backward of a retained graph: all stored states are used up
            call.generators.write(call.random)
            ctx.execution = call.begin(ctx.saved_tensors)
            ctx.execution.forward(xs, None)
        begin = partial(Adjoint, carry, ys, call.outputs, xs, params, compact=compact)
        if call.continuity is None:
            ctx.execution.backward(xs, adjoint := begin())
        else:
            again = partial(_again, call, ctx.saved_tensors, xs)
            comparison = Comparison(call.continuity, call.core, xs, again, partial(_error, call))
            adjoint = comparison.backpropagate(ctx.execution, begin)
        call.hook_start(init, adjoint.hooks)
    gradients: Gradients = [*adjoint.carry, *adjoint.xs, *adjoint.params]
    return (None, *gradients)


def _refuse_kept(call: Call, tensors: Leaves) -> None:
    """Refuse a step that keeps, from its first call, what wants a gradient: that call was without graph."""
    if call.continuity is None:
        return
    carry, xs, _ = call.split(tensors)
    kept = call.surroundings.kept(partial(call.core.evaluate, Hidden.of(carry, call.random), xs, 0, graph=True))
    if kept:
        raise RuntimeError(
            f"the step computes {' and '.join(map(repr, kept))} at its first call, from tensors that require grad, and "
            "keeps it: that call is without graph, and the gradient would be lost. Compute it at every step, or before "
            "the scan, as a tensor that is declared in params="
        )


def _again(call: Call, tensors: Leaves, xs: Leaves) -> Execution:
    """Begin the scan once more, and run it up to its first backward instruction."""
    call.generators.write(call.random)
    execution = call.begin(tensors, observed=False)
    execution.forward(xs, Unkept())
    return execution


def _error(call: Call, doubt: Doubt, replay: Replay | None) -> RuntimeError:
    at = call.choice.inputs.at(doubt.core)
    steps = f"steps {at.start} to {at.stop - 1}" if isinstance(at, slice) else f"step {at}"
    changed = [*map(call.surroundings.name, call.surroundings.changed()), *call.surroundings.replaced()]
    return error(doubt, replay, call.core.name(doubt.what, doubt.core, doubt.leaf, call.outputs), steps, changed)
