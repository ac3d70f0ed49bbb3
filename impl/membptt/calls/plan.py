"""From a budget in bytes to a policy, its slots and its cores: measures, looks costs up and chooses."""

from __future__ import annotations

import logging
from math import inf
from time import perf_counter
from typing import Any, Final

import torch

from membptt.calls.execute import execute
from membptt.kernels.compiled import Compile
from membptt.planning.plan_file import Plan
from membptt.planning.promising import Goal, disagreeing, first, hopeful, promising
from membptt.planning.trial import Trial
from membptt.run.node import Choice
from membptt.run.problem import Problem, Step
from membptt.run.progress import Progress, Tell, shown, told
from membptt.slow.tier import SlowTier, slow_tier
from membptt.step.declared import Params
from membptt.step.refusals import refuse_transforms
from membptt_theory.footprint import Measured
from membptt_theory.options import TooSmallError, least_bytes, options, parse_bytes, too_small
from membptt_theory.policies import find

_LARGEST_CHUNK: Final = 256
_LARGEST_COMPILED: Final = 16
_COMPILING: Final = 60.0  # seconds after the first core within which others are to be compiled


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
    reverse: bool = False,
    compile: Compile = False,
    spill: bool | SlowTier = False,
    progress: Progress = None,
) -> Plan:
    """Measure `step` on a short run and choose the policy, slots and chunk of least predicted time within `budget`.

    The budget covers the stored states and one working core, each storage once. Parameters, inputs, outputs and
    gradients are outside it. Predicted time is ``call + (C - t) * advance + t * backprop`` with ``C`` from the policy's
    table; what each takes is taken from gradients of a few cores, run as a scan runs them. Compiled cores that a policy
    stores with their graph are timed by themselves.
    With `spill`, HSM in two tiers competes: the slow tier is outside the budget, each store to it and restart from it
    takes the time that was measured, and its table is built for these times in sixteenths of a core's forward, rounded.

    Args:
        step: as for `scan`, as are `init`, `xs`, `params`, `segments` and `compile`.
        init: starting carry.
        xs: inputs.
        length: as for `scan`.
        budget: bytes, or text such as ``"512MiB"`` or ``"1.5 GB"``.
        params: what a step uses that is no module: tensors, modules, or one module.
        chunk: steps per core; ``None`` tries powers of two, up to 256. Of compiled ones, up to 16, it tries as many as
            the fastest eager core has, fewer where their graph is large, and then, as long as any promises noticeably
            less time than all before, the one that promises the least; none that is likely to be ready later than a
            minute after the first.
        policy: a policy's name, or ``"auto"`` for all that may be the fastest: MSM is no faster than MSM+.
        segments: `step` eats a whole core.
        reverse: as for `scan`.
        compile: measure compiled cores beside eager ones; a scan by the plan runs what was the fastest.
        spill: ``True``, or a `SlowTier` with a bound or a directory; the plan measures its prices.
        progress: as for `scan`; what is counted are the sizes of compiled cores, as they were measured once, and then
            the measurements of time. That cores are going to be compiled is also logged (``"membptt"``, ``INFO``).

    Raises:
        TypeError: `budget` is neither bytes nor text, or `chunk` is no integer; and as `scan`.
        ValueError: text that names no size, an unknown policy or one that cannot spill, given prices, or a budget that
            is too small: the message names the smallest feasible one; and as `scan`.
        RuntimeError: the step changes what it is given, or keeps a state outside the carry that cannot be put back; or
            the call is inside a transform of `torch.func` or forward-mode differentiation.

    Claim: plan-bounds-peak, plan-tiers-bounds-peak.
    """
    refuse_transforms()
    problem = Problem.of(step, init, xs, params, segments=segments, length=length, reverse=reverse)
    return choose(problem, budget, chunk=chunk, policy=policy, compile=compile, spill=spill, progress=progress)


def choose(
    problem: Problem,
    budget: int | str,
    *,
    chunk: int | None,
    policy: str,
    compile: Compile,
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
    trial = Trial(problem.largest(), _gradient, compile=compile, slow=slow)
    given = [problem.inputs.cut(chunk).chunk] if chunk is not None else None
    goal = Goal(steps, limit, None if policy == "auto" else (policy,))
    measured = looked = trial.looked(_weighed(trial, given or _doubled(min(steps, _LARGEST_CHUNK)), limit))
    if compile:
        sizes = given or _doubled(min(steps, _LARGEST_COMPILED))
        measured = _compiled(trial, looked, sizes, goal, _compiling(progress, given))
        looked = hopeful(measured, goal) if slow is None else measured
    timed = trial.timed(looked, tell)
    others = [sizes for sizes in measured if sizes not in looked]  # which are shown, if they are as slow as they looked
    fitting = options([*timed, *others], *goal, tiers=slow is not None, slow=slow.slots if slow else None)
    least = min((option.seconds for option in fitting if option.measured in timed), default=inf)
    fitting = [option for option in fitting if option.seconds >= least]
    if not fitting:
        what, least = too_small(measured, limit, policy, steps), least_bytes(measured)
        raise TooSmallError(what, least) if limit < least else ValueError(what)
    digest, doubtful = fitting[0].schedule().digest, [*disagreeing(timed), *set(disagreeing(measured)) & set(others)]
    beside = trial.beside()
    return Plan(steps, limit, problem.segments, digest, tuple(fitting), *beside, bool(compile), _named(doubtful))


def _gradient(problem: Problem, choice: Choice, compile: Compile) -> tuple[Any, Any]:
    return execute(problem, choice, reduce=None, preserve_rng_state=True, compile=compile, check=None, progress=False)


def _named(cores: list[Measured]) -> str:
    """Return cores in words."""
    sizes = sorted((sizes.compiled, sizes.chunk) for sizes in cores)
    kinds = "eager", "compiled"
    by_kind = [(kinds[kind], [str(chunk) for compiled, chunk in sizes if compiled == kind]) for kind in (False, True)]
    return " and ".join(f"{kind} cores of {', '.join(chunks)} steps" for kind, chunks in by_kind if chunks)


def _doubled(largest: int) -> list[int]:
    """Return the chunks to try: powers of two."""
    return [2**power for power in range(largest.bit_length())]


def _weighed(trial: Trial, chunks: list[int], limit: int) -> list[Measured]:
    """Weigh eager cores of these sizes, as long as they may fit."""
    measured: list[Measured] = []
    for chunk in chunks:
        # A larger core is not tried where it would not fit; its size is known well enough before it is run.
        if measured and least_bytes(measured[-1:]) + measured[-1].internal > limit:
            break
        measured.append(trial.weigh(chunk, compiled=False))
    return measured


def _compiled(trial: Trial, eager: list[Measured], chunks: list[int], goal: Goal, tell: Tell | None) -> list[Measured]:
    """Add compiled cores, one by one as they promise to be the fastest, as long as patience lasts."""
    seconds = goal.least(eager)
    fastest = min(eager, key=lambda sizes: seconds.get(sizes, inf))
    looked, left = [fastest], chunks.copy()
    with shown(tell):
        if tell is not None:
            tell(0, len(chunks))
        chunk = first(seconds, left, trial.nodes) if trial.compiles(left[0]) else None
        before, since = perf_counter(), inf
        while chunk is not None:
            left.remove(chunk)
            # Together, so that what else the machine does at the moment changes no order.
            looked = trial.looked([*looked, trial.weigh(chunk, compiled=True)])
            if tell is not None:
                tell(len(chunks) - len(left), len(chunks))
            now = perf_counter()
            since = min(since, now)
            # One of twice the steps takes up to twice as long.
            ready = [size for size in left if now - since + (now - before) / chunk * size <= _COMPILING]
            before, chunk = now, promising(looked, ready, goal, trial.adding()) if ready else None
    others = [sizes for sizes in eager if sizes is not fastest]
    return sorted([*looked, *others], key=lambda sizes: (sizes.compiled, sizes.chunk))


def _compiling(progress: Progress, given: list[int] | None) -> Tell | None:
    """Say that cores are going to be compiled, and for how long, and return whom to tell of it: that takes long.

    Logged it is whatever `progress` says, and shown at once.
    """
    sizes = f"cores of {given[0]} steps to measure them" if given else f"cores to measure, further ones for {_BOUND}"
    what = f"compiling {sizes}"
    _log.info(what)
    return told(progress, what, "size", at_once=True)


_BOUND: Final = f"{_COMPILING:.0f} s at most"
_log: Final = logging.getLogger("membptt")
