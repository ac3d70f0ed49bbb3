"""Plans are made once for each step function and shapes: training calls the same scan again and again."""

from __future__ import annotations

from typing import Any, Final

from membptt.calls.plan import choose
from membptt.planning.chain_plan import ChainPlan
from membptt.planning.plan_file import Plan
from membptt.planning.profile import layouts, profile
from membptt.run.problem import Problem
from membptt.run.progress import Progress, planning, told
from membptt.state.leaves import signature
from membptt.state.trees import constants
from membptt.step.autocast import Autocast
from membptt.step.blocks import Blocks
from membptt.step.declared import frozen_of
from membptt.step.generators import Generators
from membptt.step.identity import identity
from membptt_theory.cache import Cache
from membptt_theory.options import parse_bytes

_plans: Final = Cache(2**21)
_fronts: Final = Cache(2**21)  # of chains: one that is larger would push out all plans


def remembered_plan(problem: Problem, budget: int | str, progress: Progress = None, **options: Any) -> Plan:
    """Plan once for each step function and shapes: training calls the same scan again and again."""
    inputs = problem.inputs
    generators = Generators(problem.devices, enabled=inputs.read is not None)  # what reads may draw
    with generators.replayed():
        x, spec = inputs.fetch(inputs.leaves, inputs.at(0))
    key = (
        identity(problem.step),
        problem.segments,
        inputs.steps,
        constants(problem.spec),
        constants(spec),
        *map(signature, (problem.carry, problem.params, tuple(x))),
        inputs.wanted,
        inputs.order.backwards,
        parse_bytes(budget),
        tuple(options.items()),
        Autocast.current(problem.devices | {leaf.device for leaf in x}),
    )
    wanted = planning(progress)
    return _plans.get(
        key,
        lambda: choose(problem, budget, progress=wanted, **options),
        lambda plan: 1024 * (4 + len(plan.options)),
    )


def remembered_chain_plan(problem: Problem, step: Blocks, budget: int | str, progress: Progress = None) -> ChainPlan:
    """Measure a chain once for its blocks and shapes, and choose once for each budget."""
    key = (
        tuple(map(identity, step.blocks)),
        problem.spec,
        layouts(problem.carry),
        signature(problem.params),
        tuple(leaf.requires_grad for leaf in problem.carry),
        tuple(map(frozen_of, step.blocks)),
        Autocast.current(problem.devices),
    )

    def front() -> ChainPlan:
        return _fronts.get(key, lambda: measured(problem, step, planning(progress)), lambda plan: plan.kept_bytes)

    chosen = key, parse_bytes(budget)
    return _plans.get(chosen, lambda: front().within(budget).settled(), lambda plan: plan.kept_bytes)


def measured(problem: Problem, step: Blocks, progress: Progress = None) -> ChainPlan:
    """Measure a chain."""
    weighed = profile(problem, step, told(progress, "planning", "block"))
    sizes = weighed.given, weighed.returned, weighed.kept
    plan = ChainPlan(weighed.kinds, weighed.order, *sizes, weighed.skips, weighed.whole)
    plan.solve(told(planning(progress), "planning", "part"))
    return plan
