"""What the runtime itself costs: a call of scan beside the steps it runs, and the comparison of carries within a run.

    python -m bench.overhead

Two parts, in processor seconds of interleaved rounds, medians of the ratios of one round:

- a call: a scan of a GRU cell of 4, batch 1, over 1 and 20 steps in 5 slots, forward and backward, against the loop
  under autograd. The fixed cost is what is left of the scan after the loop's time a step, for each of its evaluations.
- continuity: a GRU cell of 64, batch 16, one step a core, 1,000 steps in 40 slots, with the comparison and without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bench.machine import conditions
from bench.store import DATA, save
from membptt import scan
from membptt_theory.tables import optimal_cost

FORMAT = "membptt-overhead/1"
SLOTS = 5
CALLS = (1, 20)  # steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1000, help="of the scan with and without continuity")
    parser.add_argument("--repeat", type=int, default=200, help="of a short call in a round")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    calls = {steps: _call(steps, options.repeat, options.rounds) for steps in CALLS}
    compared = _continuity(options.steps, options.rounds)
    content = {
        **conditions("cpu"),
        "format": FORMAT,
        "command": f"python -m bench.overhead --rounds {options.rounds} --steps {options.steps}",
        "clock": "processor seconds",
        "calls": {str(steps): call for steps, call in calls.items()},
        "continuity": {"steps": options.steps, "slots": 40, "rounds": compared},
    }
    save(options.data / "overhead.json", content)
    for steps, call in calls.items():
        print(
            f"scan of {steps} steps in {SLOTS} slots: {call['ratio']:.2f} of the loop's time, "
            f"{1e6 * call['fixed']:.0f} us beside its {call['evaluations']} evaluations"
        )
    print(f"continuity: {median(ratio - 1 for ratio in compared):+.1%} of a scan of {options.steps} steps, GRU 64")


def _call(steps: int, repeat: int, rounds: int) -> dict[str, Any]:
    cell, h0, xs = nn.GRUCell(4, 4), torch.zeros(1, 4), torch.randn(steps, 1, 4)
    params = list(cell.parameters())

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = cell(x, h)
        return h, h

    def by_loop() -> None:
        h, ys = h0, []
        for x in xs:
            h, y = step(h, x)
            ys.append(y)
        torch.autograd.grad(torch.stack(ys).sum(), params)

    def by_scan() -> None:
        torch.autograd.grad(scan(step, h0, xs, slots=SLOTS, params=params)[1].sum(), params)

    evaluations = optimal_cost("hsm", steps, SLOTS)
    times = [(_seconds(by_loop, repeat), _seconds(by_scan, repeat)) for _ in tqdm(range(rounds), unit="round")]
    return {
        "rounds": times,
        "evaluations": evaluations,
        "ratio": median(scanned / loop for loop, scanned in times),
        "fixed": median(scanned - loop * evaluations / steps for loop, scanned in times),
    }


def _continuity(steps: int, rounds: int) -> list[float]:
    cell, h0, xs = nn.GRUCell(64, 64), torch.zeros(16, 64), torch.randn(steps, 16, 64)
    params = list(cell.parameters())

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = cell(x, h)
        return h, h.sum()

    def gradient(check: bool | None) -> None:
        torch.autograd.grad(scan(step, h0, xs, slots=40, params=params, check=check)[1].sum(), params)

    ratios = []
    for number in tqdm(range(rounds), unit="round"):
        # In turns which goes first: the second finds warmer caches.
        order = (None, False) if number % 2 else (False, None)
        times = {check: _seconds(lambda check=check: gradient(check), 1) for check in order}  # type: ignore[misc]
        ratios.append(times[None] / times[False])
    return ratios


def _seconds(work: Callable[[], None], repeat: int) -> float:
    work()
    start = process_time()
    for _ in range(repeat):
        work()
    return (process_time() - start) / repeat


if __name__ == "__main__":
    main()
