"""The public call: scan a step over a sequence, in a budget of slots, differentiable like any other operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from membptt.calls.execute import execute
from membptt.calls.remembered import remembered_plan
from membptt.kernels.compiled import Compile
from membptt.planning.choice import Policy, as_loop, check_means, from_loop, from_plan, from_slots, kernels
from membptt.planning.plan_file import Plan
from membptt.run.empty import outputs_of_no_step
from membptt.run.outputs import Reduce
from membptt.run.problem import Problem
from membptt.run.progress import Progress
from membptt.slow.tier import SlowTier, slow_tier
from membptt.step.declared import Params
from membptt.step.refusals import refuse_cache, refuse_wrapped
from membptt.torch_private import is_transformed, untraced

Carry = TypeVar("Carry")
Output = TypeVar("Output")


@untraced  # torch.compile around it goes on after it: what is inside is compiled by compile=True
def scan(
    step: Callable[[Carry, Any], tuple[Carry, Output]],
    init: Carry,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    slots: int | None = None,
    budget: int | str | None = None,
    plan: Plan | None = None,
    policy: str | Policy | None = None,
    spill: bool | SlowTier = False,
    internal: int | bool = 1,
    internal_known: int | None = None,
    params: Params | None = None,
    chunk: int | None = None,
    segments: bool = False,
    reduce: Reduce | None = None,
    preserve_rng_state: bool = True,
    compile: Compile = False,
    check: bool | None = None,
    progress: Progress = None,
    unroll: None = None,
) -> tuple[Carry, Output]:
    """Apply `step` along a sequence and make the result differentiable within a budget of slots or bytes.

    Computes ``for p in range(t): carry, y[p] = step(carry, x[p])`` and returns ``(carry, ys)``. Backpropagation
    recomputes what was not stored, exactly as the policy table says: the number of core evaluations is
    ``table.cost(cores, slots)``, and no more than `slots` slots are ever in use, beside inputs, outputs and a working
    core. A core is `chunk` steps under one graph (JAX's ``unroll``); by default one step.

    Truncated backpropagation: a carry that one call returns and the next takes as `init` backpropagates across both;
    detach it in between to cut there.

    Derivatives of derivatives are exact, and so is `torch.func` around a scan. A gradient keeps to the schedule also
    with ``create_graph=True``; what differentiates it once more runs the plain loop, as do transforms of `torch.func`
    and forward-mode differentiation from the start: where they record a graph, its memory is plain autograd's.

    Args:
        step: ``step(carry, x) -> (carry, y)``. A function, a module, or a module's method; the same structure, shapes
            and dtypes at every step; no in-place change of what it is given.
        init: starting carry, any pytree of tensors. What the first step makes is ``None`` or a tensor without elements
            in it; what `Stateful.init` returns may be less than a state altogether. Numbers, bools and strings in it
            are constants, which every step finds as they are, and returns so.
        xs: inputs, any pytree of tensors with time as first dimension, all of the same length t, so that steps in a
            list are to be stacked, ``torch.stack(steps)``; or `Indexed`, which reads them when they are needed. Where
            that does not know its length, hidden states are stored by an online policy, at
            ``membptt_theory.online.cost(cores, slots)`` evaluations, and a budget is turned into slots, as in
            `while_loop`. Numbers, bools and strings among them are handed to every step as they are. Of a sequence of
            length 0, the carry is `init` and outputs have length 0: the step is run once, without data, for their
            shapes.
        length: t, where no tensor of `xs` tells; ``xs=None`` hands ``None`` to every step.
        reverse: run the last step first: ``for p in reversed(range(t))``. Outputs stand where their inputs do; several
            steps of a segment come in the order in which they run.
        slots: the budget ``m >= 1``, in the policy's units: HSM hidden states (the starting one included), ISM internal
            states, MSM units of one hidden state (the starting one included). With `spill`, those of the fast tier.
            Exactly one of `slots`, `budget` and `plan` is given.
        budget: bytes for stored states and one working core, or text such as ``"64MiB"``: policy, slots and, unless
            given, chunk are what `membptt.plan` chooses. Planned once for each step function and shapes.
        plan: what `membptt.plan` returned for this step.
        policy: a name of `membptt_theory.policies.POLICIES`, by default ``"hsm"``; with `budget` also ``"auto"``, its
            default. Or what makes a schedule: a `PolicyTable` or a `TierTable` that covers
            ``(t, slots)``; or a `Schedule` of as many cores, which settles the slots: of Chen's strategies, of a chain,
            or of a stream of one's own.
        spill: give hidden states a second, slower tier beside the `slots` of the first: pinned host memory for those on
            a CUDA device, on a stream beside the computation; for others a memory-mapped file that has no name.
            ``True``, or a `SlowTier` with a bound, prices or a directory. HSM only; with `budget`, the plan weighs it
            against the policies of one tier and measures the prices. The table for `slots` takes work that grows as
            ``cores ** 2 * slots``, and is built once.
        internal: alpha, slots of an internal state, where the policy stores both kinds of state. Where nobody knows the
            length, graphs are kept by this alone, as in `while_loop`: alpha with `slots`, ``True`` with `budget`.
        internal_known: beta, its slots where its input hidden state is stored too, where the policy takes it.
        params: tensors used by `step` whose gradients are wanted, beside the parameters of the module that `step` is
            or belongs to; of a module, alone or among them, all parameters and buffers that require grad. A generator
            such as ``cell.parameters()`` can be read once only: make it in each call.
        chunk: steps per core; 1 unless planned. Larger cores cost a larger working core and save the overhead of many
            small ones.
        segments: `step` eats a whole core: ``step(carry, xs[k]) -> (carry, ys[k])``, time first, ``k <= chunk`` (the
            last core may be shorter).
        reduce: ``None`` stacks the outputs; ``"sum"`` or ``"mean"`` over time keeps them from growing with ``t``.
        preserve_rng_state: recompute with the first pass's random numbers (dropout). Switch off to save a little time
            where `step` draws none.
        compile: run cores through `torch.compile`; eager, with a warning, where no compiler is found. Pass the same
            step object to every call. Products that a core's steps have in common are merged, and a compiled core may
            round differently with and without graph. With `budget`, eager cores compete with compiled ones, as they do
            in a `plan` that was made so, and the fastest that fit are run. ``"graphs"``, experimental and for one CUDA
            device: cores without graph are also captured, where a trial shows the same bits in less time.
        check: ``None``, the default, sees that the carry which a recorded core gives is, within rounding, the one that
            the core after it was recorded from, and that the outputs of the last three cores are those of the first
            pass; a few numbers are kept for it, and read from a device once, before gradients are returned. ``True``,
            for debugging, compares every recomputed state and output with the first pass's besides, bit by bit.
            ``False`` compares nothing.
        progress: ``True`` shows a bar on standard error, ``None`` after some seconds and in a terminal only, ``False``
            never. Or a function ``progress(done, total)``, called whenever more cores are done: each counts once when
            it first runs and once when it is backpropagated, and `total` is 0 while the length is not known.
        unroll: not taken; an error says that it is `chunk`.

    Returns:
        The final carry, and `y` of every step stacked along a new first dimension, or reduced.

    Raises:
        TypeError: a leaf is neither a tensor nor a constant, `step` does not take or return a pair or contains a
            data-parallel wrapper, a number is not an integer, or `progress` is neither a bool nor a function.
        ValueError: no step, and outputs of unknown shape; no slot, an unknown policy or one that cannot spill, a carry
            or output that changes structure, shape, dtype or a constant, an undeclared tensor that requires grad, or a
            layer of torch.nn whose dropout cuDNN draws.
        TableError: the table is not what its digest says.
        RuntimeError: a carry, an input, a parameter or a state that the step reaches was changed. In the backward:
            a recomputed step is not what it was in the first pass, or a tensor that left the step beside its outputs.

    Ref: gruslys2016, Algorithm 2; two tiers: herrmann2020.
    Claim: scan-forwards-equal-table, scan-gradients-equal-autograd, starts-equal-loop, scan-continuity.
    Claim: scan-tiers-equal-table, scan-tiers-gradients-equal-one-tier, scan-unknown-length-equals-loop.
    Claim: either-order-equals-loop.
    """
    if unroll is not None:
        raise TypeError(
            f"scan has no unroll=: steps that run under one graph are a core, of chunk= steps: give chunk={unroll}"
        )
    check_means(
        slots=slots,
        budget=budget,
        plan=plan,
        policy=policy,
        internal=internal,
        internal_known=internal_known,
        chunk=chunk,
        spill=spill,
    )
    refuse_cache()
    problem = Problem.of(step, init, xs, params, segments=segments, length=length, reverse=reverse)
    refuse_wrapped(step, problem.reach.named if torch.is_grad_enabled() else ())
    slow = slow_tier(spill)
    if problem.inputs.steps == 0:
        return init, outputs_of_no_step(problem, reduce)
    if not problem.inputs.known:
        alpha = internal if internal is True or internal != 1 else None
        usual = (None, "hsm", "auto") if alpha is None else (None, "auto")
        if plan is not None or slow is not None or internal_known is not None or policy not in usual:
            raise TypeError(_ONLINE)
        inputs = problem.inputs.cut(chunk if chunk is not None else 1)
        choice = from_loop(
            problem, lambda at, state, core: inputs.goes_on(at), slots, budget, inputs=inputs, internal=alpha
        )
    elif internal is True:
        raise TypeError(_WEIGHED)
    elif is_transformed():
        choice = as_loop(problem, plan.chunk if plan is not None else chunk)
    elif budget is not None:
        wishes = {"chunk": chunk, "policy": policy or "auto", "compile": compile, "spill": slow or False}
        plan = remembered_plan(problem, budget, progress, **wishes)
        # The plan keeps to the bound on the slow tier's slots; only where its file goes is left to be said.
        choice = from_plan(problem, plan, slow=slow and replace(slow, slots=None))
    elif plan is not None:
        choice = from_plan(problem, plan, slow=slow, carry=problem.carry)
    else:
        choice = from_slots(
            problem,
            slots,
            policy=policy if policy is not None else "hsm",
            internal=internal,
            internal_known=internal_known,
            chunk=chunk if chunk is not None else 1,
            slow=slow,
        )
    if plan is not None:
        compile = kernels(plan, compile)
    return execute(
        problem,
        choice,
        reduce=reduce,
        preserve_rng_state=preserve_rng_state,
        compile=compile,
        check=check,
        progress=progress,
    )


_WEIGHED = (
    "internal=True is for budget= and a sequence whose length nobody knows: of one whose length is known a plan weighs "
    "internal states by itself, and with slots= internal is how many of them one takes"
)
_ONLINE = (
    "a sequence whose length nobody knows is stored by an online policy: give slots= or budget= (and chunk= and "
    "internal=, if you like), and leave plan, policy, internal_known and spill out, or give the length"
)
