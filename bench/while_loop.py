"""Time and memory of one gradient of a loop of unknown length: a plain loop, torch's `while_loop`, ours in few slots.

    python -m bench.while_loop --steps 100 1000 --peers .venv-peers/bin/python

One round runs every method once, in turn; of two times of a round only the ratio is meant to be quoted. Memory and
forwards are counted in runs of their own, and every gradient is compared with the plain loop's. `--peers` names a
Python with the extra `peers`, where JAX's plain scan and equinox's checkpointed loop take part in every round. A file
is written after each; a measurement that was cut off goes on.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
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
from bench.peer import Loop, Peer
from bench.store import DATA, resume, save
from membptt import while_loop
from membptt_theory import online

torchs_while_loop: Any = _while_loop
FORMAT = "membptt-while-loop/2"
PLAIN, TORCH, SCAN = "plain", "torch while_loop", str(Loop("scan"))
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
        x: where the loop is a GRU cell, what it is run on; peers know no other loop.
    """

    cond: Callable[[Carry], Tensor]
    body: Callable[[Carry], Carry]
    start: Callable[[], Carry]
    wanted: Sequence[Tensor]
    params: Sequence[Tensor]
    value: int
    x: Tensor | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--slots", type=int, nargs="+", default=[5, 10, 50])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-torch", action="store_true", help="leave torch's while_loop out, which is traced first")
    parser.add_argument(
        "--peers", metavar="PYTHON", help="measure jax and equinox too (relaxation only), in this Python"
    )
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in options.problems:
        for steps in options.steps:
            path = options.data / f"while_loop_{name}_{steps}.json"
            sizes = name, steps, options.slots, options.rounds
            content = measure(path, *sizes, torchs=not options.no_torch, peers=options.peers)
            show(content)


def measure(
    path: Path, name: str, steps: int, slots: Sequence[int], rounds: int, *, torchs: bool, peers: str | None = None
) -> dict[str, Any]:
    """Measure all methods on one problem, or go on with it.

    Args:
        path: of the data file.
        name: of `PROBLEMS`.
        steps: of the loop; the solver's are about as many.
        slots: of our loop, and of equinox's.
        rounds: of times.
        torchs: measure torch's own loop.
        peers: a Python that has jax and equinox.

    Raises:
        StoreError: the file was measured under other conditions.
        PeerError: the other Python does not measure.
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

    def counted(label: str) -> dict[str, Any]:
        nonlocal ran
        ran = 0
        error = _error(gradient(label, body), expected)
        gc.collect()
        peak = allocated_bytes(partial(_forget, gradient, label), []).peak_with_gradients
        return {"forwards": None if label == TORCH else ran, "gradient_error": error, "peak_bytes": peak}

    expected = gradient(PLAIN, body)
    taken = ran
    with ExitStack() as stack:
        peer = None
        if peers and problem.x is not None:
            theirs = [Loop("scan"), *(Loop("equinox", m) for m in slots)]
            weights, start = problem.params, problem.start()[:1]
            peer = Peer(
                *(peers, "relaxation", "gru", steps, theirs),
                weights=weights,
                init=start,
                xs=problem.x,
                start_wanted=True,
            )
            stack.enter_context(peer)
        around = conditions("cpu")
        fresh = {
            **around,
            "format": FORMAT,
            "command": f"python -m bench.while_loop --problems {name} --steps {steps} --rounds {rounds}"
            + (" --peers PYTHON" if peer else ""),
            "versions": {**around["versions"], **(peer.versions if peer else {})},
            "problem": name,
            "dtype": str(expected[0].dtype).removeprefix("torch."),
            "steps": taken,
            "compared": [*loops, *(peer.methods if peer else {})],
            "methods": {},
            "rounds": [],
            "load": 0.0,
        }
        content = resume(path, fresh, ("methods", "rounds", "load"))
        if not content["methods"]:
            bar = tqdm(loops, desc=f"{name}: memory and gradients", unit="run")
            content["methods"] = {label: counted(label) for label in bar} | (_compared(peer, expected) if peer else {})
            _check_forwards(content["methods"], taken, slots)
        for _ in tqdm(range(len(content["rounds"]), rounds), desc=f"{name}: time", unit="round"):
            times = {label: _seconds(partial(gradient, label)) for label in loops}
            content["rounds"].append(times | ({each: peer.time(each) for each in peer.methods} if peer else {}))
            content["load"] = max(content["load"], os.getloadavg()[0])
            _take_ratios(content)
            save(path, content)
    return content


def show(content: dict[str, Any]) -> None:
    """Print one measurement."""
    print(f"{content['problem']}, {content['steps']} steps, medians of {len(content['rounds'])} interleaved rounds")
    for label, method in content["methods"].items():
        over_scan = f", {method['time_over_scan']:.2f} of scan's" if "time_over_scan" in method else ""
        forwards = f"{method['forwards'] / content['steps']:.2f} forwards a step" if method["forwards"] else ""
        plain = content["methods"][SCAN if over_scan else PLAIN]["peak_bytes"]
        share, error = method["peak_bytes"] / plain, method["gradient_error"]
        print(
            f"  {label:17} {method['time_over_plain']:6.2f} of plain's time{over_scan}, {share:7.4f} of its memory "
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
    return Problem(lambda carry: carry[1] < steps, body, lambda: start, [h, *weights], weights, 0, x)


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


def _error(computed: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest error of a leaf, over its largest element."""
    kind = torch.finfo(expected[0].dtype)
    least = kind.tiny / kind.eps  # XLA takes what is below `tiny` as zero
    pairs = zip(computed, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=least)) for a, b in pairs)


def _compared(peer: Peer, expected: Sequence[Tensor]) -> dict[str, dict[str, Any]]:
    """Return what a peer's methods took, and the errors of their gradients."""
    return {
        label: {**method, "gradient_error": _error(peer.gradients[label], expected)}
        for label, method in peer.methods.items()
    }


def _check_forwards(methods: dict[str, dict[str, Any]], steps: int, slots: Sequence[int]) -> None:
    stated = {_ours(m): online.cost(steps, m) for m in slots}
    stated |= {PLAIN: steps, SCAN: steps} | {f"equinox m={m}": online.cost(steps, m, policy="equinox") for m in slots}
    for label in methods.keys() & stated.keys():
        if methods[label]["forwards"] != stated[label]:
            raise RuntimeError(f"{label}: {methods[label]['forwards']} forwards, not {stated[label]}")


def _take_ratios(content: dict[str, Any]) -> None:
    """Add the medians over the rounds: of times over the plain loop's, and of JAX's and equinox's over JAX's scan."""
    for label, method in content["methods"].items():
        method["time_over_plain"] = median(times[label] / times[PLAIN] for times in content["rounds"])
        if label.startswith(("jax", "equinox")):
            method["time_over_scan"] = median(times[label] / times[SCAN] for times in content["rounds"])


def _forget(run: Callable[[str], object], label: str) -> None:
    run(label)


def _seconds(run: Callable[[], object]) -> float:
    gc.collect()
    start = perf_counter()
    run()
    return perf_counter() - start


if __name__ == "__main__":
    main()
