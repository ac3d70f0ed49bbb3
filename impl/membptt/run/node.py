"""The scan as one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from weakref import finalize

import torch
from torch import Tensor

from membptt.run.adjoint import Adjoint, Gradients, hooks_deferred
from membptt.run.core import Core
from membptt.run.execution import Execution
from membptt.run.inputs import Inputs
from membptt.run.meter import Probe, Report
from membptt.run.outputs import Outputs
from membptt.slow.spill import ahead
from membptt.slow.tier import SlowStates, SlowTier
from membptt.state.leaves import Leaves, is_differentiable
from membptt.state.states import Hidden, RandomState
from membptt.step.autocast import Autocast
from membptt.step.generators import Generators
from membptt.step.modes import Modes
from membptt_theory.actions import TieredInstruction
from membptt_theory.schedule import Schedule


class Choice(NamedTuple):
    """A verified schedule, the inputs cut into its cores, and where its slow tier lies, if it has one."""

    schedule: Schedule
    inputs: Inputs
    slow: SlowTier = SlowTier()


_WINDOW: Final = 4  # actions beside which a state is brought back: a core's recording and its backward among them


@dataclass(slots=True)
class Call:
    """Everything about one call of scan that is not a tensor argument."""

    core: Core
    choice: Choice
    outputs: Outputs
    generators: Generators
    autocast: Autocast
    modes: Modes
    carry_leaves: int
    input_leaves: int
    report: Report | None
    random: RandomState = field(init=False, default=())
    final_leaves: int = field(init=False, default=0)  # the first step may make more of a carry than it was given
    # Autograd runs a backward on a CUDA device in a thread of its own, where no context variable is set.
    context: Context = field(init=False, default_factory=copy_context)

    def apply(self, carry: Leaves, xs: Leaves, params: Leaves) -> Leaves:
        """Return final carry and outputs, differentiable in all arguments."""
        results: Leaves = _Scan.apply(self, *carry, *xs, *params)  # type: ignore[no-untyped-call]
        return results

    def split(self, tensors: Leaves) -> tuple[Leaves, Leaves, Leaves]:
        """Tell carry, inputs and parameters apart."""
        rest = tensors[self.carry_leaves :]
        return tensors[: self.carry_leaves], rest[: self.input_leaves], rest[self.input_leaves :]

    def begin(self, tensors: Leaves) -> Execution:
        """Start a stream from the starting carry, in the random state of the first pass."""
        carry, xs, params = self.split(tensors)
        start = Hidden.of(carry, self.random)
        stream, slow = self._stream(start)
        if self.report is None:
            return Execution(self.core, stream, start, None, slow)
        probe = Probe(self.report, (*xs, *params))
        execution = Execution(self.core, stream, start, probe, slow)
        finalize(execution, probe.close)
        return execution

    def _stream(self, start: Hidden) -> tuple[Iterator[TieredInstruction], SlowStates | None]:
        schedule = self.choice.schedule
        if schedule.slow == 0:
            return schedule.instructions(), None
        states = SlowStates(start, self.choice.slow.directory)
        return ahead(schedule.instructions(), states.spill, _WINDOW), states


class _Scan(torch.autograd.Function):
    """Forward: the stream up to its first backward action. Backward: the rest of it."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Leaves:
        with call.generators.exclusive(), call.generators.handed_on(), call.autocast.replayed():
            call.random = call.generators.read()
            execution = call.begin(tensors)
            final = execution.forward(call.split(tensors)[1], call.outputs)
            call.generators.settle()
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
                "scan cannot be differentiated twice: call backward without create_graph=True, "
                "or run the loop under plain autograd where a second derivative is needed"
            )
        if any(grad is not None and torch._C._functorch.is_legacy_batchedtensor(grad) for grad in grads):
            raise RuntimeError("scan takes one gradient at a time: leave out is_grads_batched=True and vectorize=True")
        call: Call = ctx.call
        return call.context.copy().run(_backward, call, ctx, grads)


def _backward(call: Call, ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    _, xs, params = call.split(ctx.saved_tensors)
    carry, ys = list(grads[: call.final_leaves]), list(grads[call.final_leaves :])
    adjoint = Adjoint(carry, ys, call.outputs, xs, params)
    with (
        call.generators.exclusive(),
        call.generators.handed_on(),
        call.generators.preserved(),
        call.autocast.replayed(),
        call.modes.replayed(),
        hooks_deferred(params),
    ):
        if ctx.execution.finished:  # a further backward of a retained graph: all stored states are used up
            call.generators.write(call.random)
            ctx.execution = call.begin(ctx.saved_tensors)
            ctx.execution.forward(xs, None)
        ctx.execution.backward(xs, adjoint)
    gradients: Gradients = [*adjoint.carry, *adjoint.xs, *adjoint.params]
    return (None, *gradients)
