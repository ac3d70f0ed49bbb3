"""Whether a plan can be trusted: what it promises and what it chooses, against what its options take when they are run.

    python -m bench.planner
    python -m bench.planner --cells gru --steps 200 --compile

On every cell a plan is made for a share of what plain autograd keeps. Its chosen option, and the most promising one of
every other policy and core, are run in turns; printed are the time of each over the promised one, and that of the
chosen one over that of the fastest.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import torch

import membptt
from bench.cells import CELLS, Problem, problem
from membptt import Plan
from membptt_theory.options import readable

_PROMISING = 1.5  # times the promised time of the chosen option, at most


class Trusted(NamedTuple):
    """What came of one plan.

    Args:
        choice: time of the chosen option over that of the fastest.
        promise: by option, the chosen one first: its time over the promised one.
    """

    choice: float
    promise: list[float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--steps", nargs="+", type=int, default=[200, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.05, help="of the bytes that plain autograd keeps")
    parser.add_argument("--compile", action="store_true", help="compiled cores compete with eager ones")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for cell in options.cells:
        for steps in options.steps:
            posed = problem(cell, steps, quick=options.quick)
            begun = time.perf_counter()
            plan = planned(posed, options.share, compile=options.compile)
            took = time.perf_counter() - begun
            print(f"{cell}, {steps} steps in {readable(plan.budget)}, planned in {took:.1f} s")
            trusted = trust(posed, plan, options.rounds)
            print(f"  the chosen option takes {trusted.choice:.3f} of the fastest one's time")


def planned(posed: Problem, share: float, *, compile: bool = False) -> Plan:
    """Plan for a share of what plain autograd keeps, or the least that is enough."""
    budget = budget_of(posed, share)
    return membptt.plan(posed.bare, posed.init, posed.xs, budget=budget, params=posed.params, compile=compile)


def budget_of(posed: Problem, share: float) -> int:
    """Return a share of the bytes that plain autograd keeps, or the least that is enough."""
    plan = membptt.plan(posed.bare, posed.init, posed.xs, budget="1TiB", params=posed.params, chunk=1)
    core = plan.chosen.measured
    least = core.start + core.shared + core.internal + 3 * core.hidden
    return max(least, int(share * posed.calls * (core.internal + core.hidden)))


def trust(posed: Problem, plan: Plan, rounds: int) -> Trusted:
    """Run the chosen option and its rivals in turns."""
    rivals: dict[tuple[str, int, bool], Plan] = {}
    for option in plan.options:
        if option.tiers is None and option.seconds <= _PROMISING * plan.seconds:
            alone = replace(plan, options=(option,), digest=option.schedule().digest)
            rivals.setdefault((option.policy, option.measured.chunk, option.measured.compiled), alone)
    taken: list[list[float]] = [[] for _ in rivals]
    for turn in range(rounds + 1):
        for alone, times in zip(rivals.values(), taken, strict=True):
            seconds = gradient(posed, alone)
            if turn:  # the first finds nothing in the caches
                times.append(seconds)
    medians = [median(times) for times in taken]
    promise = [seconds / alone.seconds for seconds, alone in zip(medians, rivals.values(), strict=True)]
    for (policy, chunk, compiled), alone, seconds, over in zip(rivals, rivals.values(), medians, promise, strict=True):
        kind = "compiled" if compiled else "eager"
        name = f"{policy}, {chunk} a core, {kind}, {alone.chosen.slots} slots"
        print(f"  {name:45} {1e3 * seconds:8.1f} ms, {over:.3f} of what was promised")
    choice = median(mine / best for mine, best in zip(taken[0], taken[medians.index(min(medians))], strict=True))
    return Trusted(choice, promise)


def gradient(posed: Problem, plan: Plan) -> float:
    """Compute one gradient by a plan; return the processor's seconds that it takes, as a plan promises them."""
    for parameter in posed.params:
        parameter.grad = None
    begun = time.process_time()
    carry, ys = membptt.scan(
        posed.bare, posed.init, posed.xs, plan=plan, params=posed.params, compile=plan.compile, progress=False
    )
    posed.loss(carry, ys.sum(0)).backward()  # type: ignore[no-untyped-call]
    return time.process_time() - begun


if __name__ == "__main__":
    main()
