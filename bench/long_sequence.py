"""Up to a million steps in a memory that does not grow: time a step and memory of `scan`, against plain autograd.

    python -m bench.long_sequence --steps 100 1000 10000 100000 1000000

A small GRU reads inputs that are made from their index, so that nothing but the slots grows with the sequence. The
memory limits are fractions of what plain autograd would hold at a million steps, the same at every length. Compiled
cores take turns with the eager loop and with plain autograd over the same compiled graphs. Plain autograd is measured
up to 100,000 steps; what it would hold at a million is carried on from 10,000 in proportion. The peak of `scan` is
counted on shorter sequences that fill all slots and, where there are as many slots as cores, carried on slot by slot;
the growth of the process at the full length is recorded beside it. The gradients are really computed.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from bench import methods
from bench.cells import Problem, compiled, problem
from bench.fit import Fit
from bench.machine import conditions
from bench.meter import Peak, allocated_bytes, live_bytes
from bench.store import DATA, resume, save
from membptt import Indexed, scan
from membptt_theory.limits import NAMED
from membptt_theory.tables import build, optimal_cost

FORMAT = "membptt-long-sequence/2"
PLAIN_STEPS = 10_000  # where scan's time is compared with plain autograd's, and its memory extrapolated from
PLAIN_LONGEST = 100_000
WHOLE = 1_000_000  # steps of which the memory limits are fractions
FRACTIONS = (1000, 3000, 10_000)
TARGETS = {1000: 1.6, 10_000: 2.1}  # of the time a step of plain autograd
COMPILED = "plain compiled"  # under plain autograd, what `scan` runs as cores: the same steps in a graph
CHUNKS = (20, 50, 100, 200, 500)  # steps
SIZES = {"hidden": 64}


class NothingFitsError(ValueError):
    """No core at all fits into a memory limit."""


@dataclass(frozen=True)
class Choice:
    """Settings for one memory limit."""

    slots: int
    chunk: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every memory limit that is not yet in the data, then print."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    for steps in options.steps:
        run(options.data / f"long_sequence_{steps}.json", steps, options)


def run(path: Path, steps: int, options: argparse.Namespace) -> None:
    """Measure one length, or what is left of it, and print it."""
    content = _resume(path, steps)
    bench = Bench(min(steps, options.plain_steps), steps)
    if not content["plain"]:
        content["plain"] = bench.plain()
        save(path, content)
    if not content["plain_here"] and bench.plain_steps < steps <= options.plain_longest:
        content["plain_here"] = Bench(steps, steps).plain()
        save(path, content)
    for block in options.blocks:
        for fraction in options.fractions:
            name = f"1/{fraction}" + (f", compiled by {block}" if block else "")
            if name in content["runs"]:
                continue
            limit = int(bytes_a_step(content) * options.whole / fraction)
            if limit >= bytes_a_step(content) * steps:
                continue  # plain autograd fits
            try:
                content["runs"][name] = {"fraction": fraction, **measure(bench, limit, block, options.repeats)}
            except NothingFitsError as error:
                print(f"{name}: {error}")
                continue
            save(path, content)
    show(content)


def bytes_a_step(content: dict[str, Any]) -> float:
    """Return the activation memory of plain autograd, per step."""
    return float(content["plain"]["peak_bytes"]) / int(content["plain"]["steps"])


def measure(bench: Bench, limit: int, block: int, repeats: int) -> dict[str, Any]:
    """Choose settings for one limit, count their peak, and time them between runs of plain autograd."""
    choice = bench.choose(block, limit)
    hidden = bench.problem(0).hidden_bytes
    peaks = bench.slot_peaks(block, choice)
    peak = peaks[-1][1] + (choice.slots - peaks[-1][0]) * hidden
    if peak > limit:
        fewer = choice.slots - -(-(peak - limit) // hidden)
        if fewer < 2:
            raise NothingFitsError(f"{choice} takes {peak} bytes, the limit is {limit}")
        choice = replace(choice, slots=fewer)
        peaks = bench.slot_peaks(block, choice)
        peak = peaks[-1][1] + (choice.slots - peaks[-1][0]) * hidden
    plains = {"plain": 0} | ({COMPILED: block} if block else {})
    times: dict[str, list[float]] = {name: [] for name in ("membptt", *plains)}

    def time_plains() -> None:
        for _ in range(3):
            for name, steps in plains.items():
                times[name].append(bench.time_plain(steps))

    for steps in plains.values():
        bench.time_plain(steps)  # warm up
    grown, norm = _resident(), 0.0
    for _ in tqdm(range(repeats), desc=f"{limit / 1e6:.1f} MB, block {block}: {choice}", unit="run"):
        time_plains()
        times["membptt"].append(bench.time(block, choice))
        norm = bench.gradient_norm(block)
    time_plains()
    cores = -(-bench.steps // choice.chunk)
    return {
        "limit_bytes": limit,
        "block": block,
        "policy": "hsm",
        "slots": choice.slots,
        "chunk": choice.chunk,
        "hidden_bytes": hidden,
        "internal_bytes": bench.internal_bytes(block, choice),
        "forwards_a_step": optimal_cost("hsm", cores, choice.slots) / cores,
        "table_digest": build("hsm", cores, choice.slots).digest,
        "peak_bytes": peak,
        "peaks_counted": peaks,  # [slots, bytes] of shorter sequences
        "resident_growth_bytes": _resident() - grown,
        "seconds_a_step": times,
        "gradient_norm": norm,
    }


def show(content: dict[str, Any]) -> None:
    """Print what is measured, with the project's targets."""
    plain, whole = content["plain"], bytes_a_step(content) * content["steps"]
    print(f"GRU {SIZES['hidden']}, batch 16, T = {content['steps']}, {content['device_name']}")
    print(f"plain: {plain['peak_bytes'] / 1e6:.0f} MB at T = {plain['steps']}, {whole / 1e9:.3f} GB in proportion")
    if content["plain_here"]:
        print(f"plain here: {content['plain_here']['peak_bytes'] / 1e9:.3f} GB, measured")
    for name, run in content["runs"].items():
        times = {key: median(values) for key, values in run["seconds_a_step"].items()}
        ratio = times["membptt"] / times["plain"]
        beside = f", {times['membptt'] / times[COMPILED]:.2f} of it compiled alike" if COMPILED in times else ""
        target = TARGETS.get(run["fraction"]) if content["steps"] == WHOLE else None
        verdict = "" if target is None else f"; target {target:g}: {'met' if ratio <= target else 'NOT met'}"
        print(
            f"{name}: m = {run['slots']}, chunk {run['chunk']}: {run['forwards_a_step']:.2f} forwards a step, "
            f"{run['peak_bytes'] / 1e6:.2f} MB (1/{whole / run['peak_bytes']:.0f}), {times['membptt'] * 1e6:.0f} us a "
            f"step, {ratio:.2f} of plain at T = {plain['steps']}{beside}{verdict}"
        )


class Bench:
    """The cell, eager and compiled, at the length of plain autograd; longer ones read the same rows in another order.

    Args:
        plain_steps: length of plain autograd.
        steps: length of the long sequence.
    """

    def __init__(self, plain_steps: int, steps: int) -> None:
        self.plain_steps, self.steps = plain_steps, steps
        self._problems: dict[int, Problem] = {}
        self._fits: dict[int, Fit] = {}

    def problem(self, block: int) -> Problem:
        """Return the problem, eager (0) or with so many steps in one compiled graph."""
        if block not in self._problems:
            eager = problem("gru", self.plain_steps, sizes=SIZES)
            self._problems[block] = compiled(eager, block) if block else eager
            for param in eager.params:
                param.grad = torch.zeros_like(param)
        return self._problems[block]

    def plain(self) -> dict[str, Any]:
        """Count plain autograd's peak over `plain_steps` steps, and time it."""
        peak = self.peak(0, partial(methods.plain, self.problem(0))).peak
        return {"steps": self.plain_steps, "peak_bytes": peak, "seconds_a_step": [self.time_plain() for _ in range(3)]}

    def internal_bytes(self, block: int, choice: Choice) -> int:
        """Return what one core's internal state takes."""
        return self._fits[block].core(choice.chunk // max(1, block)).internal

    def choose(self, block: int, limit: int) -> Choice:
        """Return the HSM settings that are predicted to be fastest within `limit` bytes.

        Raises:
            NothingFitsError: no chunk does, at any number of slots.
        """
        on = self.problem(block)
        fit = self._fits.setdefault(block, Fit(on, partial(self.peak, block)))
        choices = []
        chunks = [chunk for chunk in CHUNKS if 8 * chunk <= self.plain_steps and not chunk % max(1, block)]
        fit.time([chunk // max(1, block) for chunk in chunks])
        for chunk in chunks:
            calls = chunk // max(1, block)
            cores = -(-self.steps // chunk)
            core = fit.core(calls)
            # Inputs are made when they are read: one core's are alive, and the next one's while they are made.
            read = 2 * chunk * self.problem(0).xs[0].nbytes
            slots = min((limit - core.beside.peak - read) // core.hidden, cores)
            if slots < 2 or slots > NAMED.most_slots("hsm", cores):
                continue
            again = optimal_cost("hsm", cores, slots) - cores
            advance, gradient = fit.seconds[calls]
            choices.append(Choice(slots, chunk, cores * gradient + again * advance))
        if not choices:
            raise NothingFitsError(f"nothing fits into {limit} bytes")
        return min(choices, key=lambda choice: choice.seconds)

    def slot_peaks(self, block: int, choice: Choice) -> list[tuple[int, int]]:
        """Count the peak for fewer slots, then for as many as half a plain sequence fills, each with all slots in use.

        Raises:
            RuntimeError: a slot is not what its carry takes, so that the peak could not be carried on.
        """
        cores = self.plain_steps // choice.chunk // 2
        most = min(choice.slots, cores)
        peaks = []
        for slots in sorted({max(2, most // 2), most}):
            steps = min(self.plain_steps, 2 * slots * choice.chunk)
            # What compares carries keeps a few numbers a core, which are no part of a slot.
            run = partial(self._scan, block, steps, slots, choice.chunk, check=False)
            peaks.append((slots, self.peak(block, run).peak))
        (fewer, low), (more, high) = peaks[0], peaks[-1]
        if high - low != (more - fewer) * self.problem(0).hidden_bytes:
            raise RuntimeError(f"{more - fewer} slots took {high - low} bytes")
        return peaks

    def time(self, block: int, choice: Choice) -> float:
        """Time one gradient over the long sequence, in seconds a step."""
        build("hsm", -(-self.steps // choice.chunk), choice.slots)  # cached: planning is not part of a training step
        return _timed(partial(self._scan, block, self.steps, choice.slots, choice.chunk)) / self.steps

    def time_plain(self, block: int = 0) -> float:
        """Time one gradient of plain autograd, eager (0) or compiled, in seconds a step."""
        return _timed(partial(methods.plain, self.problem(block))) / self.plain_steps

    def peak(self, block: int, run: Callable[[], None]) -> Peak:
        """Count live bytes."""
        on = self.problem(block)
        if block:
            run()  # compiles, which allocates too
            return allocated_bytes(run, on.params)
        grads = [param.grad for param in on.params if param.grad is not None]
        return live_bytes(run, [*on.params, *grads, *on.init, on.xs, on.output], on.params)

    def gradient_norm(self, block: int) -> float:
        """Return the norm of what the last run left in ``.grad``."""
        grads = [param.grad for param in self.problem(block).params if param.grad is not None]
        return float(torch.stack([grad.square().sum() for grad in grads]).sum().sqrt())

    def _scan(self, block: int, steps: int, slots: int, chunk: int, *, check: bool | None = None) -> None:
        on = self.problem(block)
        for param in on.params:
            if param.grad is not None:
                param.grad.zero_()
        unit = max(1, block)

        def read(start: int, stop: int) -> Tensor:
            return on.xs[(torch.arange(start, stop) * 7919) % on.calls]

        carry, total = scan(
            on.step,
            on.init,
            Indexed(steps // unit, read),
            slots=min(slots, -(-steps // chunk)),
            chunk=chunk // unit,
            params=on.params,
            reduce="sum",
            check=check,
        )
        on.loss(carry, total).backward()  # type: ignore[no-untyped-call]


def _timed(run: Callable[[], None]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def _resident() -> int:
    """Return the largest resident size of the process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _resume(path: Path, steps: int) -> dict[str, Any]:
    fresh = {
        **conditions("cpu"),
        "format": FORMAT,
        "command": f"python -m bench.long_sequence --steps {steps}",
        "steps": steps,
        "sizes": SIZES,
        "plain": {},
        "plain_here": {},
        "runs": {},
    }
    return resume(path, fresh, ("plain", "plain_here", "runs"))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", type=int, default=[100, 1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--whole", type=int, default=WHOLE, help="steps of which the limits are fractions")
    parser.add_argument("--plain-steps", type=int, default=PLAIN_STEPS)
    parser.add_argument("--plain-longest", type=int, default=PLAIN_LONGEST)
    parser.add_argument("--fractions", nargs="+", type=int, default=list(FRACTIONS))
    parser.add_argument("--blocks", nargs="+", type=int, default=[10, 0], help="0: eager; else steps a compiled graph")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
