"""The public calls for very deep networks: a chain of unequal blocks in a budget of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from membptt.calls.execute import execute, sees_each
from membptt.calls.remembered import measured, remembered_chain_plan
from membptt.planning.chain_plan import ChainPlan
from membptt.planning.profile import bytes_of
from membptt.run.course import Whole
from membptt.run.inputs import Numbers
from membptt.run.linked import keeps_everything
from membptt.run.node import Choice
from membptt.run.parts import are_of_use
from membptt.run.problem import Problem
from membptt.run.progress import Progress
from membptt.state.forms import Unlike
from membptt.state.garbage import uncollected
from membptt.state.leaves import Leaves, compact_gradients, compacted
from membptt.state.trees import flatten
from membptt.step.autocast import Autocast
from membptt.step.blocks import LONGEST, Block, Blocks
from membptt.step.declared import Params, declared_by, needs_grad, owning_module, weights_of
from membptt.step.modules import modules_below
from membptt.step.reach import reach
from membptt.step.refusals import refuse_cache, refuse_transforms, refuse_wrapped, refuse_wrapped_below
from membptt.torch_private import is_transformed, untraced
from membptt_theory.schedule import Schedule


@untraced
def chain(
    blocks: Iterable[Block],
    x: Any,
    /,
    *,
    budget: int | str | None = None,
    plan: ChainPlan | None = None,
    schedule: Schedule | None = None,
    params: Params | None = None,
    preserve_rng_state: bool = True,
    check: bool | None = None,
    progress: Progress = None,
) -> Any:
    """Apply `blocks` one after the other and make the result differentiable within a budget of bytes.

    Computes ``for block in blocks: x = block(x)`` and returns ``x``, differentiable in `x` and in the blocks'
    parameters. What is stored on the way, an output or all that a block's backward needs, and what is recomputed, is
    what takes the least predicted time of all such schedules in the budget.

    Running statistics of normalisation in training mode are updated once, dropout draws its masks once. Blocks may
    share modules. Where a parameter has a hook or a gradient already, or `torch.distributed` is set up, gradients of
    parameters are handed on as soon as they are complete, while earlier blocks are still recomputed. A loss fits as the
    last block: what it needs is then part of the plan.

    Args:
        blocks: modules, modules' methods, or functions of one pytree of tensors that return one; at most 4,096. A
            block may hand on a tuple: an open skip connection is part of the state, and is kept and counted once,
            however many stored states hold it. None changes in place what it is given.
        x: any pytree of tensors.
        budget: bytes, or text such as ``"512MiB"``, for everything that lives during forward and backward beside `x`,
            the parameters and their gradients. Planned once for blocks and shapes, by a short run of each distinct
            block. Scratch memory that a kernel takes for itself is not seen.
        plan: what `plan_chain` returned for these blocks, with a budget.
        schedule: of as many cores as there are blocks, in place of a budget: of a front, a table, or of one's own.
            Exactly one of `budget`, `plan` and `schedule` is given.
        params: tensors used by blocks whose gradients are wanted, beside the parameters of blocks that are modules; or
            modules.
        preserve_rng_state: as for `scan`.
        check: as for `scan`.
        progress: as for `scan`. With it, with ``check=True`` and in a `meter` every block has a graph of its own;
            otherwise blocks that are kept together share one, which is faster and never takes more bytes.

    Raises:
        TypeError: a leaf is not a tensor, `blocks` is no list of what can be called, a block contains a data-parallel
            wrapper, or not exactly one of `budget`, `plan` and `schedule` is given.
        ValueError: no block, a plan for other blocks, a budget that is too small (the message names the smallest
            feasible one), or an undeclared tensor that requires grad.
        RuntimeError: as `scan`; a block changes in place what it is given, or a state inside its module that is not
            running statistics.

    Ref: gruslys2016, appendix C; beaumont2019 (outputs and internal states).
    Claim: chain-gradients-equal-autograd, chain-forwards-equal-front, chain-peak-within-budget.
    """
    if sum(given is not None for given in (budget, plan, schedule)) != 1:
        raise TypeError("give exactly one of budget=, plan= and schedule=")
    problem, step = pose(blocks, x, params, join=schedule is None)
    count, transformed = len(step.blocks), is_transformed()
    if budget is not None and needs_grad(problem.carry, problem.params) and not transformed:
        plan = remembered_chain_plan(problem, step, budget, progress)
    if plan is not None and not transformed:
        plan.check(count, bytes_of(problem.carry))
        schedule, problem = plan.schedule(), replace(problem, views=plan.views())
    loops = not (transformed or sees_each(check, progress)) and needs_grad(problem.carry, problem.params)
    if loops and schedule is not None and keeps_everything(_settled(schedule, count)):
        return _plain(problem, step)
    fresh = step.fresh()
    problem = replace(problem, fresh=fresh, settle=step.settle) if fresh else replace(problem, fresh=())
    result, _ = execute(
        problem,
        Choice(_course(schedule, count), problem.inputs),
        reduce=None,
        preserve_rng_state=preserve_rng_state,
        compile=False,
        check=check,
        progress=progress,
    )
    return result


@untraced
def plan_chain(
    blocks: Iterable[Block],
    x: Any,
    /,
    *,
    budget: int | str | None = None,
    params: Params | None = None,
    progress: Progress = None,
) -> ChainPlan:
    """Measure the blocks of a chain on `x`, each distinct one once, and find every budget that makes a difference.

    Nothing is left changed: running statistics, random generators and gradients are as before. Times are those of a
    forward without graph, one with graph and a backward: on a host, with one thread, that thread's own, whatever else
    runs. Bytes are those of the output, of all that the graph holds besides, and of what each of these three needs
    while it runs. A storage that several states share is counted once.

    The front is exact for up to about 130 blocks that all differ, and for two thousand equal ones and a loss. Of more
    than 200 equal ones, up to four blocks after them are recorded together, and more than two thousand are recorded two
    by two: that takes a few outputs' bytes more. Of more than 100 kinds, those of the same bytes whose times agree
    within a tenth count as one. Beyond that a few points of every part's front are kept, which takes a minute or two:
    `ChainPlan.excess` says how far from the least time it can be.

    Args:
        blocks: as for `chain`, as are `x` and `params`.
        x: its values are used.
        budget: as for `chain`; without one, only the front is there, and ``plan.within(budget)`` chooses later.
        params: tensors used by blocks that are no modules.
        progress: as for `plan`.

    Raises:
        TypeError: `budget` is neither bytes nor text; and as `chain`.
        ValueError: no block, more than about 300 that all differ, a budget that is too small; and as `chain`.
        RuntimeError: a block changes what it is given, or a state inside its module that is not running statistics; or
            the call is inside a transform of `torch.func` or forward-mode differentiation.

    Claim: chain-peak-within-budget.
    """
    refuse_transforms()
    problem, step = pose(blocks, x, params, join=True)
    plan = measured(problem, step, progress)
    return plan if budget is None else plan.within(budget)


def pose(blocks: Iterable[Block], x: Any, params: Params | None, *, join: bool) -> tuple[Problem, Blocks]:
    """Look at what a caller gave.

    Modules at the start from which no gradient is wanted are run without graph; with `join` they are a single block.
    """
    refuse_cache()
    every = _listed(blocks)  # before: a generator is the user's code
    with uncollected():
        return _posed(every, x, params, join=join)


def _posed(every: list[Block], x: Any, params: Params | None, *, join: bool) -> tuple[Problem, Blocks]:
    if not 1 <= len(every) <= LONGEST:
        raise ValueError(f"a chain has 1 to {LONGEST} blocks, got {len(every)}: join neighbouring ones")
    leaves, spec = flatten("x", x)
    anywhere = declared_by(Blocks(every), params) if params is not None else ()
    wanted = anywhere or any(leaf.requires_grad for leaf in leaves)
    frozen = [block for block in takewhile(_is_frozen, every) if isinstance(block, nn.Module)] if not wanted else []
    joined = max(len(frozen) - 1, 0) if join else 0
    every = [nn.Sequential(*frozen), *every[len(frozen) :]] if joined else every
    named = [*map(_named_by, every)]
    step = Blocks(every, named, joined)
    own = modules_below(map(owning_module, every)) if any(named) else step.modules
    declared = declared_by(step, [*weights_of(own), *anywhere])
    inputs, rewound = Numbers(len(every)), tuple(step.rewound())
    earliest = _earliest(every, named, declared, anywhere) if are_of_use(declared) else ()
    forms = partial(Unlike, joined=joined)
    problem = Problem(step, spec, leaves, inputs, declared, False, forms, rewound, earliest, len(frozen) - joined)
    refuse_wrapped_below(own)
    refuse_wrapped(step, problem.reach.named if torch.is_grad_enabled() else ())
    return problem, step


def _plain(problem: Problem, step: Blocks) -> Any:
    """Run the plain loop, in which nothing is recomputed and everything kept; and return its result with its graph.

    It takes the bytes that are planned: states hold nobody else's storage, nor do their gradients, and no cast of a
    weight outlives its block.
    """
    outside, state, last = (*problem.params, *problem.carry), problem.spec.unflatten(problem.carry), len(step.blocks)
    views = {*(range(1, last) if problem.views is None else problem.views)}
    with Autocast.current(problem.devices).replayed():
        for number in range(last):
            state, _ = step(state, number)
            leaves, spec = flatten(f"what {step.name(number)} returned", state)
            if number + 1 in views:
                leaves = compacted(leaves, outside)
                state = spec.unflatten(leaves)
                compact_gradients(leaves)
    return spec.unflatten([leaf.clone() for leaf in leaves])


def _listed(blocks: Iterable[Block]) -> list[Block]:
    """Return the blocks, which are what a chain can run.

    Raises:
        TypeError: they are no list, or one of them cannot be called.
    """
    if not isinstance(blocks, Iterable):
        raise TypeError(
            f"blocks is of type {type(blocks).__name__}, and takes a list of modules and functions: write [block] "
            "for a single one, or a module's layers, such as list(model.layers)"
        )
    every = list(blocks)
    for number, block in enumerate(every):
        if not callable(block):
            raise TypeError(f"blocks[{number}] is of type {type(block).__name__}, neither a module nor a function")
    return every


def _is_frozen(block: Block) -> bool:
    return isinstance(block, nn.Module) and not any(weight.requires_grad for weight in block.parameters())


def _named_by(block: Block) -> Sequence[nn.Module | Tensor]:
    """Return the modules and tensors that a function or a method names."""
    return () if isinstance(block, nn.Module) else [value for _, value in reach(block).named]


def _earliest(
    blocks: Sequence[Block], named: Sequence[Sequence[nn.Module | Tensor]], declared: Leaves, anywhere: Leaves
) -> tuple[int, ...]:
    """Return the first block that names each declared tensor; 0 for those that any may use."""
    first = {id(tensor): 0 for tensor in anywhere}
    for number, (block, values) in enumerate(zip(blocks, named, strict=True)):
        modules = modules_below([block, *values])
        for tensor in (*weights_of(modules), *(value for value in values if isinstance(value, Tensor))):
            first.setdefault(id(tensor), number)
    return tuple([first.get(id(tensor), 0) for tensor in declared])


def _course(schedule: Schedule | None, blocks: int) -> Whole:
    """Return what is executed; ``None`` stands for nothing to differentiate."""
    if schedule is None:
        return Whole(blocks, lambda: iter(()))
    settled = _settled(schedule, blocks)
    return Whole(blocks, settled.instructions, settled)


def _settled(schedule: Schedule, blocks: int) -> Schedule:
    """Return a schedule for a chain of so many blocks.

    Raises:
        ValueError: it is for another number, or has a slow tier.
    """
    if schedule.slow != 0:
        raise ValueError("a chain has no slow tier: give a schedule of one tier")
    settled = schedule.schedule(blocks)
    settled.verify()
    return settled
