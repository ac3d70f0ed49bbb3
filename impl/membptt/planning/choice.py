"""What a call of scan is to execute: a schedule, by slots given outright, by a plan, or as it is given."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, Protocol

from membptt.kernels.compiled import Compile
from membptt.planning.plan_file import Plan
from membptt.planning.room import Room
from membptt.run.core import Core
from membptt.run.course import Loop, Slots, Whole
from membptt.run.inputs import Inputs
from membptt.run.node import Choice
from membptt.run.problem import Problem
from membptt.run.promise import Promise
from membptt.slow.tier import SlowTier, slow_tier
from membptt.state.leaves import Leaves
from membptt.state.states import Hidden
from membptt_theory.actions import Prices
from membptt_theory.named import NamedPolicy
from membptt_theory.online.internal import FIRST
from membptt_theory.online.stream import check_internal
from membptt_theory.options import parse_bytes
from membptt_theory.policies import find
from membptt_theory.schedule import Schedule
from membptt_theory.tables import check_count, fewest_slots


class HopelessScheduleWarning(UserWarning):
    """A schedule will take very much longer than the loop."""


_SEGMENT: Final = 256  # steps


class Policy(Protocol):
    """What makes schedules: a table, a policy by its name, or a schedule that is made already."""

    @property
    def title(self) -> str:
        """What it is, for people."""

    def schedule(self, steps: int, slots: Any, /) -> Schedule:
        """Return the schedule of ``steps`` cores in ``slots`` slots."""

    def spilling(self, steps: int, fast: Any, slow: int | None, prices: Prices | None, /) -> Schedule:
        """Return the schedule in two tiers."""


def check_means(
    *,
    slots: int | None,
    budget: int | str | None,
    plan: Plan | None,
    policy: str | Policy | None,
    internal: int | bool,
    internal_known: int | None,
    chunk: int | None,
    spill: bool | SlowTier,
) -> None:
    """Refuse what no call can be executed by, whatever its step.

    Raises:
        TypeError: not exactly one of `slots`, `budget` and `plan`, something beside a plan that it settles, or another
            type than the argument has.
        ValueError: no slot, no step in a core, text that names no size, or an unknown policy.
    """
    given = (slots is not None) + (budget is not None) + (plan is not None)
    if given > 1 or (given == 0 and not isinstance(policy, Schedule)):
        raise TypeError("give exactly one of slots=, budget= and plan=, or a Schedule as policy")
    settled = (policy, chunk) if plan is not None else ()
    if given and slots is None and (internal != 1 or any(each is not None for each in (*settled, internal_known))):
        raise TypeError(
            "a plan settles policy, chunk and the sizes of states: give policy and chunk to membptt.plan, or with "
            "budget=, and internal and internal_known only with slots="
        )
    if budget is not None and policy is not None and not isinstance(policy, str):
        raise TypeError(f"a budget chooses among policies by name; with a {type(policy).__name__} give slots=")
    if budget is not None:
        parse_bytes(budget)
    if plan is not None and not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, as membptt.plan returns it, got {type(plan).__name__}")
    for name, count in (("slots", slots), ("chunk", chunk)):
        if count is not None:
            check_count(name, count)
    if isinstance(policy, str):
        if budget is None and policy == "auto":
            raise ValueError("policy='auto' chooses for a budget in bytes: give budget=, or leave it out with slots=")
        if policy != "auto":
            find(policy)
    elif policy is not None and not hasattr(policy, "schedule"):
        raise TypeError(f"policy must be a name, a table or a Schedule, got {type(policy).__name__}")
    slow_tier(spill)


def from_slots(
    problem: Problem,
    slots: int | None,
    *,
    policy: str | Policy,
    internal: int,
    internal_known: int | None,
    chunk: int,
    slow: SlowTier | None = None,
) -> Choice:
    """Take policy, slots, chunk and slow tier as given.

    Raises:
        TableError: the table is not what its digest says.
    """
    inputs = problem.inputs.cut(chunk)
    maker: Policy = _named(policy, internal, internal_known) if isinstance(policy, str) else policy
    if slow is None:
        return _choice(maker.schedule(inputs.cores, slots), inputs, slow)
    return _choice(maker.spilling(inputs.cores, slots, slow.slots, slow.prices), inputs, slow)


def from_plan(problem: Problem, plan: Plan, *, slow: SlowTier | None = None, carry: Leaves = ()) -> Choice:
    """Take everything from a plan.

    Raises:
        ValueError: it was made for sequences of another length, for smaller carries or for the other kind of step; or
            `slow` names more than a directory.
    """
    inputs = problem.inputs.cut(plan.chunk)
    if (inputs.steps, problem.segments) != (plan.steps, plan.segments):
        raise ValueError(
            f"the plan was made for {plan.steps} steps and segments={plan.segments}, this call has {inputs.steps} "
            f"steps and segments={problem.segments}: plan anew"
        )
    sizes = plan.chosen.measured
    largest = max((leaf.nbytes for leaf in carry), default=0)
    if largest > sizes.start + sizes.hidden + sizes.shared:
        raise ValueError(
            f"the plan was made for hidden states of {sizes.hidden} bytes, a leaf of this call's carry alone has "
            f"{largest}: plan anew"
        )
    if slow is not None and (slow.slots, slow.prices) != (None, None):
        raise ValueError(
            "a plan has slots and prices of its slow tier already: with plan=, spill names a directory only"
        )
    promise = Promise(plan.peak_bytes, sizes, (*problem.params, *inputs.leaves))
    return _choice(plan.chosen.schedule(), inputs, slow)._replace(promise=promise)


def kernels(plan: Plan, compile: Compile) -> Compile:
    """Return how the cores of a plan are compiled: what it chose settles it, if it had the choice."""
    return compile if plan.chosen.measured.compiled or not plan.compile else False


def as_loop(problem: Problem, chunk: int | None = None) -> Choice:
    """Store nothing: what runs is the plain loop. A segment takes `chunk` steps at once, or as many as a plan may."""
    inputs = problem.inputs.cut(chunk if chunk is not None else _SEGMENT if problem.segments else 1)
    return Choice(Whole(inputs.cores, lambda: iter(())), inputs)


def from_loop(
    problem: Problem,
    goes_on: Callable[[int, Hidden, Core], bool],
    slots: int | None,
    budget: int | str | None,
    *,
    inputs: Inputs | None = None,
    internal: int | bool | None = None,
) -> Choice:
    """Take slots, or a budget, for a loop whose end is asked for.

    Args:
        problem: of the call.
        goes_on: as for `Loop`.
        slots: of hidden states.
        budget: bytes, or text.
        inputs: the inputs, if there are any, cut into cores.
        internal: alpha, with `slots`; ``True`` with `budget`: internal states are stored too.

    Raises:
        TypeError: neither of both or both are given, or of another type.
        ValueError: no slot, ``internal < 2``, or text that names no size.
    """
    inputs = inputs or problem.inputs
    if budget is not None and slots is None:
        if internal is not None and internal is not True:
            raise TypeError(f"with budget=, what a graph takes is weighed: give internal=True, got {internal!r}")
        room = Room(budget, problem, internal=bool(internal))
        return Choice(Loop(goes_on, room, first=FIRST if internal else ()), inputs, weighed=True)
    if slots is None or budget is not None:
        raise TypeError("of a loop whose length nobody knows, give exactly one of slots= and budget=")
    if internal is True:
        raise TypeError("with slots=, internal= is how many of them one step's graph takes: at least 2, got True")
    settled = Slots(check_count("slots", slots), check_internal(internal))
    return Choice(Loop(goes_on, lambda at_hand: settled, settled=1), inputs)


_named: Final = lru_cache(maxsize=64, typed=True)(NamedPolicy)


def _choice(schedule: Schedule, inputs: Inputs, slow: SlowTier | None) -> Choice:
    schedule.verify()
    _warn_if_hopeless(schedule)
    course = Whole(schedule.cores, schedule.instructions)
    if schedule.slow == 0:
        return Choice(course, inputs)
    return Choice(course, inputs, replace(slow or SlowTier(), slots=schedule.slow, prices=schedule.prices))


def _warn_if_hopeless(schedule: Schedule) -> None:
    """Say before it begins that a schedule takes a hundred times as long as the loop, and what to do."""
    cores, cost = schedule.cores, schedule.cost
    if schedule.prices is None and cost > max(_HOPELESS, _OFTEN * cores):
        enough = fewest_slots(cores, 3 * cores)
        room = f"{schedule.slots} slots" if schedule.slots > 1 else "1 slot"
        warnings.warn(
            f"{cores:,} cores in {room} are {cost:,} forwards, {cost // cores:,} for each core: in "
            f"slots={enough}, policy='hsm' takes 3; or make larger cores (chunk=), or give budget= in bytes",
            HopelessScheduleWarning,
            stacklevel=2,
        )


_HOPELESS: Final = 10**6  # forwards
_OFTEN: Final = 50  # forwards of each core
