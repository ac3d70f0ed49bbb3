"""Time and memory of one gradient of a loop of unknown length: a plain loop, torch's `while_loop`, ours in few slots.

    python -m bench.while_loop --steps 100 1000

One round runs every method once, in turn; of two times of a round only the ratio is meant to be quoted. Memory and
forwards are counted in runs of their own, and every gradient is compared with the plain loop's.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop as _while_loop
from tqdm import tqdm

from bench import solvers
from bench.machine import conditions
from bench.meter import allocated_bytes
from bench.store import DATA, save
from membptt import while_loop
from membptt_theory import online

torchs_while_loop: Any = _while_loop
FORMAT = "membptt-while-loop/1"
PLAIN, TORCH = "plain", "torch while_loop"
TOLERANCE = 1e-5

Carry = tuple[Tensor, ...]


@dataclass(frozen=True)
class Problem:
    """A loop and what its gradient is wanted for.

    Args:
        cond: of the carry.
        body: of the carry.
        start: makes the starting carry.
        wanted: tensors whose gradient is wanted.
        params: those of them that the body uses.
        value: the leaf of the final carry that the loss depends on.
    """

    cond: Callable[[Carry], Tensor]
    body: Callable[[Carry], Carry]
    start: Callable[[], Carry]
    wanted: Sequence[Tensor]
    params: Sequence[Tensor]
    value: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--slots", type=int, nargs="+", default=[5, 10, 50])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-torch", action="store_true", help="leave torch's while_loop out, which is traced first")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in options.problems:
        for steps in options.steps:
            content = measure(name, steps, options.slots, options.rounds, torchs=not options.no_torch)
            save(options.data / f"while_loop_{name}_{steps}.json", content)
            show(content)


def measure(name: str, steps: int, slots: Sequence[int], rounds: int, *, torchs: bool) -> dict[str, Any]:
    """Measure all methods on one problem.

    Args:
        name: of `PROBLEMS`.
        steps: of the loop; the solver's are about as many.
        slots: of our loop.
        rounds: of times.
        torchs: measure torch's own loop.
    """
    problem, ran = PROBLEMS[name](steps), 0

    def body(carry: Carry) -> Carry:
        nonlocal ran
        ran += 1
        return problem.body(carry)

    loops: dict[str, Callable[[Callable[[Carry], Carry]], Carry]] = {PLAIN: lambda body: _plain(problem, body)}
    if torchs:
        loops[TORCH] = lambda body: torchs_while_loop(  # which traces the body: it may not count
            lambda *carry: problem.cond(carry), lambda *carry: problem.body(carry), _all_wanted(problem.start())
        )
    for m in slots:
        loops[_ours(m)] = lambda body, m=m: while_loop(  # type: ignore[misc]
            problem.cond, body, problem.start(), slots=m, params=problem.params
        )[0]

    def gradient(label: str, body: Callable[[Carry], Carry] = problem.body) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loops[label](body)[problem.value].sum(), problem.wanted)

    methods: dict[str, dict[str, Any]] = {}
    expected = gradient(PLAIN, body)
    taken = ran
    for label in tqdm(loops, desc=f"{name}: memory and gradients", unit="run"):
        ran = 0
        computed = gradient(label, body)
        errors = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(computed, expected, strict=True)]
        del computed
        gc.collect()
        peak = allocated_bytes(partial(_forget, gradient, label), []).peak_with_gradients
        evaluated = None if label == TORCH else ran
        methods[label] = {"forwards": evaluated, "gradient_error": max(errors), "peak_bytes": peak}
    seconds = []
    for _ in tqdm(range(rounds), desc=f"{name}: time", unit="round"):
        seconds.append({label: _seconds(partial(gradient, label)) for label in loops})
    for m in slots:
        if methods[_ours(m)]["forwards"] != online.cost(taken, m):
            raise RuntimeError(f"{methods[_ours(m)]['forwards']} forwards in {m} slots, not {online.cost(taken, m)}")
    for label, method in methods.items():
        method["time_over_plain"] = median(times[label] / times[PLAIN] for times in seconds)
    return {
        **conditions("cpu"),
        "format": FORMAT,
        "command": f"python -m bench.while_loop --problems {name} --steps {steps} --rounds {rounds}",
        "problem": name,
        "dtype": str(expected[0].dtype).removeprefix("torch."),
        "steps": taken,
        "methods": methods,
        "rounds": seconds,
        "load": os.getloadavg()[0],
    }


def show(content: dict[str, Any]) -> None:
    """Print one measurement."""
    print(f"{content['problem']}, {content['steps']} steps, medians of {len(content['rounds'])} interleaved rounds")
    plain = content["methods"][PLAIN]["peak_bytes"]
    for label, method in content["methods"].items():
        forwards = f"{method['forwards'] / content['steps']:.2f} forwards a step" if method["forwards"] else ""
        share, error = method["peak_bytes"] / plain, method["gradient_error"]
        print(
            f"  {label:17} {method['time_over_plain']:6.2f} of plain's time, {share:7.4f} of its memory "
            f"({method['peak_bytes']} bytes), gradient within {error:.1e}  {forwards}"
        )


def _relaxation(steps: int) -> Problem:
    """A GRU cell of 64, batch 16, that is run on one input."""
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(16, 64)
    x, h = torch.randn(16, 16), torch.zeros(16, 64, requires_grad=True)
    weights = list(cell.parameters())

    def body(carry: Carry) -> Carry:
        return cell(x, carry[0]), carry[1] + 1

    start = h, torch.zeros((), dtype=torch.int64)
    return Problem(lambda carry: carry[1] < steps, body, lambda: start, [h, *weights], weights, 0)


def _solver(steps: int) -> Problem:
    """Van der Pol's oscillator, stiff, by Dormand and Prince's method with steps of its own size."""
    stiffness = torch.tensor(40.0, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    f, end = solvers.van_der_pol(stiffness), steps / 26.3  # time

    def body(carry: Carry) -> Carry:
        return tuple(solvers.step(f, solvers.State(*carry), end, TOLERANCE))

    def start() -> Carry:
        return tuple(solvers.start(f, y, 1e-3))

    def cond(carry: Carry) -> Tensor:
        return solvers.goes_on(solvers.State(*carry), end)

    return Problem(cond, body, start, [y, stiffness], [stiffness], 1)


PROBLEMS: dict[str, Callable[[int], Problem]] = {"relaxation": _relaxation, "solver": _solver}


def _plain(problem: Problem, body: Callable[[Carry], Carry]) -> Carry:
    carry = problem.start()
    while problem.cond(carry):
        carry = body(carry)
    return carry


def _all_wanted(carry: Carry) -> Carry:
    """Have all floating leaves want a gradient: torch's loop drops that through a leaf which does not at the start."""
    return tuple(
        leaf.detach().requires_grad_() if leaf.is_floating_point() and not leaf.requires_grad else leaf
        for leaf in carry
    )


def _ours(slots: int) -> str:
    return f"membptt m={slots}"


def _forget(run: Callable[[str], object], label: str) -> None:
    run(label)


def _seconds(run: Callable[[], object]) -> float:
    gc.collect()
    start = perf_counter()
    run()
    return perf_counter() - start


if __name__ == "__main__":
    main()
