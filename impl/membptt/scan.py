"""The public call: scan a step over a sequence, in a budget of slots, differentiable like any other operation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import optree
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from membptt.core import Core, Step
from membptt.guards import StateGuard, needs_grad, owning_module
from membptt.inputs import Inputs, check_tensors
from membptt.outputs import Outputs, Reduce
from membptt.replay import Autocast, Generators
from membptt.runtime import Adjoint, Execution, Gradients
from membptt.slots import Hidden, Leaves, is_differentiable
from membptt_theory.actions import Action
from membptt_theory.policy import PolicyTable, TableError
from membptt_theory.schedule import schedule
from membptt_theory.tables import build, useful_slots


def scan(
    step: Step,
    init: Any,
    xs: Any,
    /,
    *,
    slots: int,
    policy: str | PolicyTable = "hsm",
    internal: int = 1,
    internal_known: int | None = None,
    params: Iterable[Tensor] | None = None,
    chunk: int = 1,
    segments: bool = False,
    reduce: Reduce | None = None,
    preserve_rng_state: bool = True,
) -> tuple[Any, Any]:
    """Apply `step` along a sequence and make the result differentiable in a fixed number of stored states.

    Computes ``for p in range(t): carry, y[p] = step(carry, x[p])`` and returns ``(carry, ys)``. Backpropagation
    recomputes what was not stored, exactly as the policy table says: the number of core evaluations is
    ``table.cost(cores, slots)``, and no more than `slots` slots are ever in use, beside inputs, outputs and a working
    core. A core is `chunk` steps under one graph; by default one step.

    Args:
        step: ``step(carry, x) -> (carry, y)``. A function, a module, or a module's method; the same structure, shapes
            and dtypes at every step; no in-place change of `carry`.
        init: starting carry, any pytree of tensors.
        xs: inputs, any pytree of tensors with time as first dimension, all of length ``t >= 1``; or `Indexed`, which
            reads them when they are needed.
        slots: the budget ``m >= 1``, in the policy's units: HSM hidden states (the starting one included), ISM internal
            states, MSM units of one hidden state (the starting one included).
        policy: ``"hsm"``, ``"ism"``, ``"msm"``, ``"msm_plus"``, or a `PolicyTable` that covers ``(t, slots)``.
        internal: alpha, slots of an internal state; MSM and MSM+ only.
        internal_known: beta, its slots where its input hidden state is stored too; MSM only.
        params: tensors used by `step` whose gradients are wanted, beside the parameters of the module that `step` is
            or belongs to.
        chunk: steps per core. Larger cores cost a larger working core and save the overhead of many small ones.
        segments: `step` eats a whole core: ``step(carry, xs[k]) -> (carry, ys[k])``, time first, ``k <= chunk`` (the
            last core may be shorter).
        reduce: ``None`` stacks the outputs; ``"sum"`` or ``"mean"`` over time keeps them from growing with ``t``.
        preserve_rng_state: recompute with the first pass's random numbers (dropout). Switch off to save a little time
            where `step` draws none.

    Returns:
        The final carry, and `y` of every step stacked along a new first dimension, or reduced.

    Raises:
        TypeError: a leaf is not a tensor, `step` does not return a pair, or a number is not an integer.
        ValueError: no step, no slot, an unknown policy, a carry or output that changes structure, shape or dtype, or an
            undeclared tensor that requires grad.
        TableError: the table is not what its digest says.
        RuntimeError: a carry or a state inside the module was changed; or on a second backward, or a double one.

    Ref: gruslys2016, Algorithm 2. Claim: scan-forwards-equal-table, scan-gradients-equal-autograd.
    """
    inputs = Inputs(xs, chunk)
    leaves, spec = optree.tree_flatten(init)
    carry = check_tensors("init", leaves)
    declared = _declared(step, params)
    table, slots = _table(policy, inputs.cores, slots, internal, internal_known)
    stream = schedule(table, inputs.cores, slots)
    devices = {tensor.device for tensor in (*carry, *inputs.leaves, *declared)}
    generators = Generators(devices, enabled=preserve_rng_state)
    core = Core(step, spec, carry, inputs, segments=segments, params=declared, generators=generators)
    outputs = Outputs(inputs.steps, reduce)
    inner = StateGuard(step)
    if needs_grad(carry, inputs.leaves, declared):
        autocast = Autocast.current(devices)
        call = _Call(core, stream, outputs, inner, generators, autocast, len(carry), len(inputs.leaves))
        flat: Leaves = _Scan.apply(call, *carry, *inputs.leaves, *declared)  # type: ignore[no-untyped-call]
    else:
        final = core.advance(Hidden.of(carry, ()), inputs.leaves, 0, inputs.cores, outputs)
        flat = tuple(leaf.detach() for leaf in (*final.leaves, *outputs.take()))
    if outputs.spec is None:
        raise AssertionError("the first pass fills the outputs")
    return spec.unflatten(flat[: len(carry)]), outputs.spec.unflatten(flat[len(carry) :])


@dataclass(slots=True)
class _Call:
    """Everything about one call that is not a tensor argument."""

    core: Core
    stream: Iterator[Action]
    outputs: Outputs
    inner: StateGuard
    generators: Generators
    autocast: Autocast
    carry_leaves: int
    input_leaves: int


class _Scan(torch.autograd.Function):
    """Forward: the stream up to its first backward action. Backward: the rest of it."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Leaves:
        carry, xs = tensors[: call.carry_leaves], tensors[call.carry_leaves :][: call.input_leaves]
        execution = Execution(call.core, call.stream, Hidden.of(carry, call.generators.read()))
        with call.autocast.replayed():
            final = execution.forward(xs, call.outputs)
        call.inner.check()
        call.generators.settle()
        # Clones: the caller may write to what it gets, the stored states must not notice.
        results = (*(leaf.detach().clone() for leaf in final), *call.outputs.take())
        ctx.mark_non_differentiable(*(leaf for leaf in results if not is_differentiable(leaf)))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.call, ctx.execution = call, execution
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        rest = ctx.saved_tensors[call.carry_leaves :]
        xs, params = rest[: call.input_leaves], rest[call.input_leaves :]
        carry, ys = list(grads[: call.carry_leaves]), list(grads[call.carry_leaves :])
        adjoint = Adjoint(carry, ys, call.outputs, xs, params)
        with call.generators.preserved(), call.autocast.replayed():
            ctx.execution.backward(xs, adjoint)
        gradients: Gradients = [*adjoint.carry, *adjoint.xs, *adjoint.params]
        return (None, *gradients)


_verified: WeakSet[PolicyTable] = WeakSet()


def _table(
    policy: str | PolicyTable, steps: int, slots: int, internal: int, internal_known: int | None
) -> tuple[PolicyTable, int]:
    """Return a verified table, and the slots to ask it for."""
    if isinstance(policy, str):
        slots = useful_slots(policy, steps, slots, internal=internal)
        policy = build(policy, steps, slots, internal=internal, internal_known=internal_known)
    elif not isinstance(policy, PolicyTable):
        raise TypeError(f"policy must be a name or a PolicyTable, got {type(policy).__name__}")
    if policy not in _verified:
        found = policy.compute_digest()
        if found != policy.digest:
            raise TableError(f"the policy table was changed: its digest is {found}, it was built as {policy.digest}")
        _verified.add(policy)
    return policy, slots


def _declared(step: Step, params: Iterable[Tensor] | None) -> Leaves:
    """Collect the tensors whose gradients are wanted, each once, those of the step's module first."""
    owner = owning_module(step)
    found: Leaves = tuple(owner.parameters()) if owner is not None else ()
    found += check_tensors("params", list(params)) if params is not None else ()
    return tuple({id(tensor): tensor for tensor in found if tensor.requires_grad}.values())
