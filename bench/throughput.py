"""Tokens per second under a fixed memory: every method with the batch that serves it best, against sequence length.

    python -m bench.throughput --budget 64

Plain autograd and Chen's checkpoints take the largest batch, a power of two, whose measured peak fits; where not even
one sequence fits there is no point. `scan` takes the batch, chunk and slots that are predicted to be fastest. Each
method runs its step eagerly and by torch's fused kernel. All methods of one length are timed in interleaved rounds.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from tqdm import tqdm

from bench import methods
from bench.cells import Problem, fused, problem
from bench.fit import CHUNKS, Fit, Setting, run
from bench.machine import conditions
from bench.meter import Peak, live_bytes
from bench.store import DATA, resume, save

FORMAT = "membptt-throughput/1"
CELL = "lstm"
LENGTHS = (100, 300, 1000, 3000, 10_000)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SCANNED_BATCHES = (16, 64)
KERNEL_STEPS = 20  # of one fused call
POLICIES = ("hsm", "msm")


@dataclass(frozen=True)
class Choice:
    """One method at one length, with what it was given.

    Args:
        method: ``"plain"``, ``"checkpoint"`` or ``"membptt"``.
        kernel: ``"eager"`` or ``"fused"``.
        batch: sequences at a time.
        peak_bytes: measured.
        setting: of `scan`; ``None`` for the others.
        table_digest: of what it executes.
    """

    method: str
    kernel: str
    batch: int
    peak_bytes: int
    setting: Setting | None
    table_digest: str | None = None

    @property
    def label(self) -> str:
        """Return the method's name."""
        return f"{self.method} {self.kernel}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every length that is missing, then print."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    path = options.data / f"throughput_{CELL}_{options.budget}.json"
    content = _resume(path, options)
    for steps in options.steps:
        if str(steps) not in content["lengths"]:
            content["lengths"][str(steps)] = measure(steps, options.budget * 2**20, options.rounds, quick=options.quick)
            save(path, content)
    show(content)


def measure(steps: int, budget: int, rounds: int, *, quick: bool = False) -> dict[str, Any]:
    """Choose every method's batch at one length, and time them in turn."""
    bench = Bench(steps, budget, quick=quick)
    chosen: list[Choice] = []
    for kernel in ("eager", "fused"):
        for choose in (bench.plain, bench.checkpointed, bench.scanned):
            gc.collect()
            choice = choose(kernel)
            if choice is not None:
                chosen.append(choice)
    timed: dict[str, list[float]] = {choice.label: [] for choice in chosen}
    for choice in chosen:
        bench.runner(choice)()
    for _ in tqdm(range(rounds), desc=f"T={steps}: timing", unit="round"):
        for choice in chosen:
            compute = bench.runner(choice)
            before = perf_counter()
            compute()
            timed[choice.label].append(perf_counter() - before)
    return {
        choice.label: {
            **asdict(choice),
            "tokens_a_second": [steps * choice.batch / taken for taken in timed[choice.label]],
        }
        for choice in chosen
    }


class Bench:
    """One length and one budget: problems of every batch.

    Args:
        steps: length.
        budget: bytes.
        quick: the tiny cell of tests.
    """

    def __init__(self, steps: int, budget: int, *, quick: bool) -> None:
        self._steps, self._budget, self._quick = steps, budget, quick
        self._segment = methods.square_root(self.problem("eager", 1))

    def plain(self, kernel: str) -> Choice | None:
        """Return plain autograd with the largest batch that fits."""
        return self._largest("plain", kernel)

    def checkpointed(self, kernel: str) -> Choice | None:
        """Return Chen's strategy with the largest batch that fits."""
        return self._largest("checkpoint", kernel)

    def scanned(self, kernel: str) -> Choice | None:
        """Return `scan` with the batch, policy, slots and chunk of least predicted time a token that fit."""
        candidates: list[tuple[float, int, Setting, Fit]] = []
        for batch in SCANNED_BATCHES:
            on = self.problem(kernel, batch)
            fit = Fit(on, partial(self._peak, on))
            for policy in POLICIES:
                best = fit.best(policy, self._budget, CHUNKS)
                if best is not None:
                    candidates.append((best[1] / batch, batch, best[0], fit))
        for _, batch, setting, fit in sorted(candidates, key=lambda candidate: candidate[0]):
            verified = fit.verified(setting, self._budget)
            if verified is not None:
                digest = verified[0].table(self.problem(kernel, batch).calls).digest
                return Choice("membptt", kernel, batch, verified[1].peak, verified[0], digest)
        return None

    def runner(self, choice: Choice) -> Callable[[], None]:
        """Return the call that computes the gradient."""
        return self._call(choice.method, self.problem(choice.kernel, choice.batch), choice.setting)

    def problem(self, kernel: str, batch: int) -> Problem:
        """Return the cell with so many sequences at a time."""
        on = problem(CELL, self._steps, quick=self._quick, batch=batch)
        if kernel == "fused":
            on = fused(on, KERNEL_STEPS)
        for param in on.params:
            param.grad = torch.zeros_like(param)
        return on

    def _largest(self, method: str, kernel: str) -> Choice | None:
        largest = None
        for batch in BATCHES:
            on = self.problem(kernel, batch)
            peak = self._peak(on, self._call(method, on, None)).peak
            if peak > self._budget:
                break
            largest = Choice(method, kernel, batch, peak, None)
        return largest

    def _call(self, method: str, on: Problem, setting: Setting | None) -> Callable[[], None]:
        if setting is not None:
            return partial(run, on, setting)
        if method == "plain":
            return partial(methods.plain, on)
        segment = max(1, round(self._segment / on.unit))
        return partial(methods.checkpointed, on, segment, reentrant=False)

    @staticmethod
    def _peak(on: Problem, compute: Callable[[], None]) -> Peak:
        grads = [param.grad for param in on.params if param.grad is not None]
        return live_bytes(compute, [*on.params, *grads, *on.init, on.xs, on.output], on.params)


def show(content: dict[str, Any]) -> None:
    """Print tokens per second, medians."""
    print(f"{content['cell']}, {content['budget_bytes'] / 2**20:.0f} MiB, {content['device_name']}")
    for steps, results in sorted(content["lengths"].items(), key=lambda item: int(item[0])):
        parts = [
            f"{label} {median(method['tokens_a_second']):.0f} (batch {method['batch']})"
            for label, method in results.items()
        ]
        print(f"T = {steps}: {'; '.join(parts)} tokens a second")


def _resume(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    fresh = {
        **conditions("cpu"),
        "format": FORMAT,
        "command": f"python -m bench.throughput --budget {options.budget}",
        "cell": CELL,
        "quick": options.quick,
        "budget_bytes": options.budget * 2**20,
        "rounds": options.rounds,
        "lengths": {},
    }
    return resume(path, fresh, ("lengths",))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=list(LENGTHS))
    parser.add_argument("--budget", type=int, default=64, help="MiB of activations")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a tiny cell: only to see it work")
    parser.add_argument("--data", type=Path, default=DATA)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
