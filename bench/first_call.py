"""What a first call with a budget and compiled cores takes, over what compiling the cores that it chose takes.

    python -m bench.first_call
    python -m bench.first_call --cells gru --steps 200

A first gradient by `scan(budget=, compile=True)` plans and runs the plan. Beside it stands what the same plan, given to
a scan, takes at its first gradient more than at later ones. Each is run in a process of its own; all share a compiler's
cache, which runs before have filled, so that what is left of compiling is to trace and to look up: a run that tried a
size which none before had tried does not count. Times are those of the processor, so that others take none.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import NamedTuple, TypeVar

import torch

import membptt
from bench.cells import CELLS, Problem, problem
from bench.planner import budget_of, gradient
from membptt import Plan
from membptt_theory.options import readable

Result = TypeVar("Result")
_LATER = 3  # gradients, of which the fastest counts
_FILLING = 5  # runs, at most, until one finds everything in the cache


class First(NamedTuple):
    """What came of a first call.

    Args:
        plan: what it ran.
        planned: seconds of planning, if it planned.
        ran: seconds of the first gradient by the plan.
        later: seconds of a later gradient.
        anew: what was compiled, not found in the cache.
    """

    plan: Plan
    planned: float
    ran: float
    later: float
    anew: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--steps", nargs="+", type=int, default=[200, 1000])
    parser.add_argument("--share", type=float, default=0.05, help="of the bytes that plain autograd keeps")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)  # of the processes to come
        for cell in options.cells:
            for steps in options.steps:
                pose = partial(problem, cell, steps, quick=options.quick)
                runs = (_alone(by_budget, pose, options.share) for _ in range(_FILLING))
                first = next((run for run in islice(runs, 1, None) if not run.anew), None)
                if first is None:
                    print(f"{cell}, {steps} steps: a size that was never tried before in each of {_FILLING} runs")
                    continue
                print(told(f"{cell}, {steps} steps", first, _alone(by_plan, pose, first.plan)), flush=True)


def by_budget(pose: Callable[[], Problem], share: float) -> First:
    """Plan for a share of what plain autograd keeps, and run the plan."""
    posed = pose()
    budget = budget_of(posed, share)
    before, begun = _missed(), time.process_time()
    plan = membptt.plan(posed.bare, posed.init, posed.xs, budget=budget, params=posed.params, compile=True)
    planned = time.process_time() - begun
    ran = by_plan(lambda: posed, plan)
    return ran._replace(planned=planned, anew=_missed() - before)


def _missed() -> int:
    """Return how often the compiler found nothing in its cache; loading it would belong to what is timed."""
    compiler = sys.modules.get("torch._dynamo.utils")
    return compiler.counters["inductor"]["fxgraph_cache_miss"] if compiler is not None else 0


def by_plan(pose: Callable[[], Problem], plan: Plan) -> First:
    """Run a plan that is there."""
    posed = pose()
    ran, *later = [gradient(posed, plan) for _ in range(1 + _LATER)]
    return First(plan, 0.0, ran, min(later))


def told(name: str, first: First, alone: First) -> str:
    """Return a line about a first call, and the same plan alone."""
    chosen, whole, compiling = first.plan.chosen, first.planned + first.ran, alone.ran - alone.later
    kind = "compiled" if chosen.measured.compiled else "eager"
    over = f": {whole / compiling:.2f} times as long" if chosen.measured.compiled else ""
    return (
        f"{name} in {readable(first.plan.budget)}: {chosen.policy}, {chosen.measured.chunk} a core, {kind}\n"
        f"  {first.planned:.2f} s to plan and {first.ran:.2f} s for the first gradient; "
        f"by the plan alone {alone.ran:.2f} s for the first one, {alone.later:.2f} s for a later one{over}"
    )


def _alone(run: Callable[..., Result], *given: object) -> Result:
    """Run it in a process of its own, in one thread."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as processes:
        return processes.submit(run, *given).result()


if __name__ == "__main__":
    main()
