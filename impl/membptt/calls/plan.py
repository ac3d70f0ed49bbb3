"""From a budget in bytes to a policy, its slots and its cores: measures, looks costs up and chooses."""

from __future__ import annotations

from typing import Any, Final

import torch

from membptt.planning.plan_file import Plan
from membptt.planning.trial import Trial
from membptt.run.problem import Problem, Step
from membptt.run.progress import Progress, told
from membptt.slow.tier import SlowTier, slow_tier
from membptt.step.declared import Params
from membptt.step.refusals import refuse_transforms
from membptt_theory.options import least_bytes, options, parse_bytes, too_small
from membptt_theory.policies import find

_LARGEST_CHUNK: Final = 256
_LARGEST_COMPILED: Final = 8  # each length is compiled twice, and that takes time


def plan(
    step: Step,
    init: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    budget: int | str,
    params: Params | None = None,
    chunk: int | None = None,
    policy: str = "auto",
    segments: bool = False,
    compile: bool = False,
    spill: bool | SlowTier = False,
    progress: Progress = None,
) -> Plan:
    """Measure `step` on a short run and choose the policy, slots and chunk of least predicted time within `budget`.

    The budget covers the stored states and one working core, each storage once. Parameters, inputs, outputs and
    gradients are outside it. Predicted time is ``(C - t) * advance + t * backprop`` with ``C`` from the policy's table.
    With `spill`, HSM in two tiers competes: the slow tier is outside the budget, each store to it and restart from it
    takes the time that was measured, and its table is built for these times in sixteenths of a core's forward, rounded.

    Args:
        step: as for `scan`, as are `init`, `xs`, `params`, `segments` and `compile`.
        init: starting carry.
        xs: inputs.
        length: as for `scan`.
        budget: bytes, or text such as ``"512MiB"`` or ``"1.5 GB"``.
        params: what a step uses that is no module: tensors, modules, or one module.
        chunk: steps per core; ``None`` tries powers of two, up to 256, or 8 where compiled.
        policy: a policy's name, or ``"auto"`` for all that may be the fastest: MSM is no faster than MSM+.
        segments: `step` eats a whole core.
        compile: measure compiled cores.
        spill: ``True``, or a `SlowTier` with a bound or a directory; the plan measures its prices.
        progress: as for `scan`; what is counted are the measurements of time.

    Raises:
        TypeError: `budget` is neither bytes nor text, or `chunk` is no integer; and as `scan`.
        ValueError: text that names no size, an unknown policy or one that cannot spill, given prices, or a budget that
            is too small: the message names the smallest feasible one; and as `scan`.
        RuntimeError: the step changes what it is given, or keeps a state outside the carry that cannot be put back; or
            the call is inside a transform of `torch.func` or forward-mode differentiation.

    Claim: plan-bounds-peak, plan-tiers-bounds-peak.
    """
    refuse_transforms()
    problem = Problem.of(step, init, xs, params, segments=segments, length=length)
    return choose(problem, budget, chunk=chunk, policy=policy, compile=compile, spill=spill, progress=progress)


def choose(
    problem: Problem,
    budget: int | str,
    *,
    chunk: int | None,
    policy: str,
    compile: bool,
    spill: bool | SlowTier,
    progress: Progress = None,
) -> Plan:
    """Do what `plan` does for a problem."""
    if torch.is_inference_mode_enabled():  # in which no core can be recorded
        with torch.inference_mode(mode=False):
            return choose(problem, budget, chunk=chunk, policy=policy, compile=compile, spill=spill, progress=progress)
    limit, tell = parse_bytes(budget), told(progress, "planning", "measurement")
    by_name = find(policy) if policy != "auto" else None
    slow = slow_tier(spill)
    if slow is not None and by_name is not None and not by_name.spills:
        raise ValueError(
            f"spill goes with policy 'auto' or 'hsm', got {policy!r}: the slow tier takes hidden states only"
        )
    if slow is not None and slow.prices is not None:
        raise ValueError("a plan measures the prices of its slow tier: give prices with slots= only")
    if not problem.inputs.known:
        raise TypeError("a plan needs the length of xs, which nobody knows yet: scan(budget=) does without")
    steps = problem.inputs.steps
    if steps == 0:
        raise ValueError("xs is empty: it has no step, and there is nothing to plan")
    trial = Trial(problem, compile=compile, slow=slow)
    measured = [trial.weigh(problem.inputs.cut(chunk if chunk is not None else 1).chunk)]
    largest = min(steps, _LARGEST_COMPILED if compile else _LARGEST_CHUNK)
    while chunk is None and 2 * measured[-1].chunk <= largest:
        # A larger core is not tried where it would not fit; its size is known well enough before it is run.
        if least_bytes(measured[-1:]) + measured[-1].internal > limit:
            break
        measured.append(trial.weigh(2 * measured[-1].chunk))
    policies = None if policy == "auto" else (policy,)
    timed = trial.timed(measured, tell)
    fitting = options(timed, steps, limit, policies, tiers=slow is not None, slow=slow.slots if slow else None)
    if not fitting:
        raise ValueError(too_small(measured, limit, policy, steps))
    digest = fitting[0].schedule().digest
    return Plan(steps, limit, problem.segments, digest, tuple(fitting), *trial.beside())
