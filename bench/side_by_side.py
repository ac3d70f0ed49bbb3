"""Time and memory of one gradient, all methods side by side: prints a table, writes the data, resumes.

    python -m bench.side_by_side --cells lstm gru --steps 100 1000

Every method computes the same gradient. One round runs each of them once, in turn, so that what slows the machine for a
while slows what is compared. Memory and forwards are counted in runs of their own. `--peers` names a Python with the
extra `peers`, where JAX's plain scan, `jax.checkpoint` in chunks and equinox's checkpointed loop take part in every
round; torch's own `scan` does, too, and `scan` with compiled cores is fitted into the total memory of each.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from bench import driven, machine, methods, record, report, store
from bench.cells import CELLS, FUSED, Problem, compiled, fused, joined, merged, problem
from bench.fit import ACTIVATIONS, CHUNKS, TOTAL, Fit, Setting, Size, operations, run
from bench.meter import Peak, allocated_bytes, cuda_bytes, live_bytes, now
from bench.peer import Loop, Peer
from membptt_theory.policies import POLICIES

BLOCK = 5  # calls of the step in one compiled graph of plain autograd
KERNEL_STEPS = {0: 5, 400: 10, 4000: 20}  # steps of one call of any other kernel, from so many steps on
COMPILED = ("compiled", "merged", "joined", "traced")  # kernels that only torch's allocator sees into
ONE_POLICY = ("msm",)  # policies that are also run with other kernels
ALIKE = 1.2  # budgets closer than this are served by one setting, which fits into the least of them
HEADLINE = "5 % of plain"  # the paper's own budget: always a setting of its own
NO_BUDGET = ("membptt", "jax", "torch scan")  # families whose memory is no budget of scan's
SNAPSHOTS = (10, 50)
STATES = (50, 20)  # that equinox's loop stores
JOINED_CHUNKS = (1, 2, 5, 10, 20)
LONG = 5000  # steps from which on fewer methods are measured: LONG_POLICIES at LONG_BUDGETS
LONG_POLICIES = ("hsm", "msm")
LONG_BUDGETS = ("checkpoint", HEADLINE, "multistage 50", "checkpoint fused", "checkpoint merged")
FEW_POLICIES = ("hsm",)  # the same with --few
FEW_BUDGETS = ("checkpoint", HEADLINE)
MIXED_LIMIT = 3e7  # splits that checkpoint_schedules compares in Python to plan a mixed schedule
GROWS = (
    *("budgets", "methods", "skipped", "fitted", "measured", "rounds", "complete"),
    "rounds_wanted",  # another call may ask for more of them
)
COUNTED = {
    "cpu": "storages made during the run, at the worst moment; inputs, starting carry, parameters and their .grad are "
    "not counted, and peak_bytes leaves out storages of exactly a weight's size (gradients on their way into .grad)",
    "cuda": "torch.cuda.max_memory_allocated during the run, less what was allocated before it: gradients on their way "
    "into .grad are in it",
}


class Variant(NamedTuple):
    """How the step is run: by which kernel, and how many calls of it in one.

    Args:
        kernel: ``"eager"``, ``"compiled"``, ``"merged"`` (compiled as `scan` compiles), ``"fused"``, ``"joined"``
            (`scan` compiles its cores itself), ``"traced"`` (by torch's own loop) or ``"xla"`` (not torch's).
        block: calls of the step in one call of the kernel.
    """

    kernel: str
    block: int

    def __str__(self) -> str:
        """Say it in a method's label."""
        return "compile=True" if self == JOINED else f"{self.kernel} by {self.block}"


class Choice(NamedTuple):
    """What is fitted into a budget.

    Args:
        budget: its name.
        variant: how the step is run.
        policy: as `scan` takes it.
        chunks: calls of the step a core, of which one is chosen.
        size: what of a peak is to be within the budget.
    """

    budget: str
    variant: Variant
    policy: str
    chunks: tuple[int, ...] = CHUNKS
    size: Size = ACTIVATIONS


EAGER, JOINED, XLA, TRACED = (Variant(kernel, 1) for kernel in ("eager", "joined", "xla", "traced"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print every point asked for."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    for cell in options.cells:
        for steps in options.steps:
            path = record.path_of(options.data, options.device, cell, steps)
            if not options.show:
                measure(path, cell, steps, options)
            for kept in store.processors(path).values():
                report.show(record.load(kept))


def measure(path: Path, cell: str, steps: int, options: argparse.Namespace) -> None:
    """Measure one point, or what is left of it.

    Raises:
        StoreError: the unfinished file at `path` was measured under other conditions.
    """
    with ExitStack() as stack:
        _measure(path, Bench(cell, steps, options, stack), options)


def _measure(path: Path, bench: Bench, options: argparse.Namespace) -> None:
    point = record.check(store.resume(path, bench.fresh(), GROWS))
    point["rounds_wanted"] = max(point["rounds_wanted"], options.rounds)
    if not point["measured"]:
        gc.freeze()  # what is imported stays: every later collection is quick
        bench.settle(point, path)
        gc.unfreeze()
        point["measured"] = True
        store.save(path, record.check(point))
    missing = range(len(point["rounds"]), point["rounds_wanted"])
    bench.warm(point if missing else {"methods": []})
    bar = tqdm(
        total=len(missing) * len(point["methods"]), desc=f"{point['cell']} T={point['steps']}: timing", unit="run"
    )
    for _ in missing:
        point["rounds"].append(bench.round(point["methods"], bar))
        point["complete"] = len(point["rounds"]) >= point["rounds_wanted"]
        store.save(path, record.check(point))
    bar.close()


class Bench:
    """One cell at one length: its problems, eager and compiled, and the methods on them."""

    def __init__(self, cell: str, steps: int, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        self._problems: dict[Variant, Problem] = {}
        self._make: Callable[[], Problem] = partial(problem, cell, steps, quick=options.quick, device=options.device)
        self._steps = steps
        self._eager = self.problem(EAGER)
        self._peer: Peer | None = None
        if options.peers:
            on = self._eager
            loops = _loops(on.calls)
            peer = Peer(options.peers, "sequence", cell, on.calls, loops, weights=on.params, init=on.init, xs=on.xs)
            self._peer = stack.enter_context(peer)

    def problem(self, variant: Variant) -> Problem:
        """Return the problem, its step run as `variant` says."""
        if variant not in self._problems:
            plain = self._make()
            whole = {
                "eager": lambda given, _: given,
                "traced": lambda given, _: given,
                "joined": lambda given, _: joined(given),
            }
            blocked = {**whole, "compiled": compiled, "merged": merged, "fused": fused}[variant.kernel]
            self._problems[variant] = blocked(plain, variant.block)
            for param in plain.params:
                param.grad = torch.zeros_like(param)
        return self._problems[variant]

    def fresh(self) -> dict[str, Any]:
        """Return an empty record under today's conditions."""
        small, around = self._options.quick, machine.conditions(self._options.device)
        theirs = self._peer.versions if self._peer else {}
        return {
            **around,
            "versions": {**around["versions"], **theirs},
            "format": record.FORMAT,
            "command": "python -m bench.side_by_side " + " ".join(self._options.given),
            "quick": small,
            "cell": self._eager.cell,
            "steps": self._steps,
            "calls": self._eager.calls,
            "unit": self._eager.unit,
            "batch": len(self._eager.init[0]),
            "sizes": CELLS[self._eager.cell][2 if small else 1],
            "hidden_bytes": self._eager.hidden_bytes,
            "counted": COUNTED[self._options.device],
            "budgets": {},
            "methods": [],
            "skipped": {},
            "fitted": [],
            "measured": False,
            "rounds": [],
            "rounds_wanted": self._options.rounds,
            "complete": False,
        }

    def settle(self, point: dict[str, Any], path: Path) -> None:
        """Measure the references, derive the budgets from them, and fit `scan` into each; saved after every method."""
        compilable, kernels = self._compiled(point), self._fused()
        if compilable and self._eager.unit == 1 and self._calls_fit():
            kernels.append(Variant("merged", self._kernel_steps()))
        for method in tqdm(
            self._references(point, compilable, kernels), desc=f"{point['cell']} T={self._steps}: references"
        ):
            if method["label"] not in {counted["label"] for counted in point["methods"]}:
                try:
                    self._count(method)
                    point["methods"].append(method)
                except Exception as error:
                    if method["family"] != "torch scan":
                        raise
                    point["skipped"][method["label"]] = f"it fails: {type(error).__name__}"
                store.save(path, record.check(point))
        peaks = {
            method["label"]: method["peak_bytes"]
            for method in point["methods"]
            if method["family"] not in NO_BUDGET and (method["kernel"] == "eager" or method["family"] == "checkpoint")
        }
        total = {
            method["label"]: method["peak_bytes_with_gradients"]
            for method in point["methods"]
            if method["family"] == "jax" and method["settings"]["size"]
        }
        own = {
            **{name: peak for name, peak in peaks.items() if name != "plain"},
            "half of checkpoint": peaks["checkpoint"] // 2,
            HEADLINE: peaks["plain"] // 20,
        }
        point["budgets"] = {**own, **total}
        others = kernels or compilable[-1:]
        fits = {variant: Fit(self.problem(variant), partial(self._peak, variant)) for variant in (EAGER, *others)}
        budgets, policies = FEW_BUDGETS if self._options.few else LONG_BUDGETS, tuple(POLICIES)
        if self._few:
            policies = FEW_POLICIES if self._options.few else LONG_POLICIES
        asked = {name: size for name, size in own.items() if not self._few or name in budgets}
        names = _leaders(asked)
        chosen = [Choice(name, EAGER, policy) for name in names for policy in policies]
        # One step a core, to compare with the other implementation of the same schedule.
        chosen += [Choice(name, EAGER, "hsm", (1,)) for name in names if name.startswith("multistage")]
        chosen += [Choice(name, variant, policy) for name in names for variant in others for policy in ONE_POLICY]
        if compilable and self._peer:
            fits[JOINED] = Fit(self.problem(JOINED), partial(self._peak, JOINED), self._eager)
            chosen.append(Choice(HEADLINE, JOINED, "hsm", JOINED_CHUNKS))
            chosen += [Choice(name, JOINED, "hsm", JOINED_CHUNKS, TOTAL) for name in total]
        done = len(point["fitted"])
        for choice in tqdm(chosen[done:], desc=f"{point['cell']} T={self._steps}: fitting"):
            self._fit(point, fits, choice)
            point["fitted"].append([choice.budget, str(choice.variant), choice.policy])
            store.save(path, record.check(point))

    def warm(self, point: dict[str, Any]) -> None:
        """Compile and plan what will be timed: a training loop does both once."""
        for method in tqdm(point["methods"], desc=f"{self._eager.cell} T={self._steps}: warming up", unit="run"):
            if method["kernel"] in COMPILED or method["family"] in ("mixed", "membptt"):
                self.runner(method)()

    def round(self, chosen: list[dict[str, Any]], bar: Any) -> dict[str, Any]:
        """Time everything once, in seconds."""
        timed: dict[str, float] = {}
        for method in chosen:
            timed[method["label"]] = self._seconds(method)
            bar.update()
        timed_cores = [method for method in chosen if method["family"] == "membptt" and _variant(method) != JOINED]
        cores = {(_variant(method), method["settings"]["chunk"]) for method in timed_cores}
        timed_operations = {
            f"{variant.kernel} {variant.block}x{chunk}": operations(self.problem(variant), chunk)
            for variant, chunk in sorted(cores)
        }
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return {"seconds": timed, "operations": timed_operations, "load": load}

    def runner(self, method: dict[str, Any]) -> Callable[[], None]:
        """Return the call that computes the gradient as `method` says."""
        on, settings = self.problem(_variant(method)), method["settings"]
        match method["family"]:
            case "plain":
                return partial(methods.plain, on)
            case "checkpoint":
                return partial(methods.checkpointed, on, **settings)
            case "nested":
                return partial(methods.nested, on, **settings)
            case "multistage":
                return partial(driven.multistage, on, **settings)
            case "mixed":
                return partial(driven.mixed, on, **settings)
            case "torch scan":
                return partial(methods.torchs_scan, on, **settings)
            case "membptt":
                return partial(run, on, Setting(**settings))
        raise record.RecordError(f"no method {method['family']!r}")

    def _seconds(self, method: dict[str, Any]) -> float:
        if method["family"] == "jax":
            return self.peer().time(method["label"])
        compute = self.runner(method)
        self._clear()
        start = now(self._options.device)
        compute()
        return now(self._options.device) - start

    def peer(self) -> Peer:
        """Return the other process."""
        if self._peer is None:
            raise record.RecordError("the file has methods of JAX: --peers names a Python that has it")
        return self._peer

    @property
    def _few(self) -> bool:
        return self._options.few or self._steps >= LONG

    def _references(
        self, point: dict[str, Any], compilable: Sequence[Variant], kernels: Sequence[Variant]
    ) -> list[dict[str, Any]]:
        calls = self._eager.calls
        segment = methods.square_root(self._eager)
        references = [_method("plain", "plain")]
        references += [_method(f"plain {variant}", "plain", variant) for variant in (*compilable, *kernels)]
        if self._peer:
            references += [_method(str(loop), "jax", XLA, **loop._asdict()) for loop in _loops(calls)]
            references += [_method("torch scan", "torch scan", TRACED, compile=False)] if self._steps < LONG else []
            references += [_method("torch scan compiled", "torch scan", TRACED, compile=True)] if compilable else []
        references += [
            _method("checkpoint", "checkpoint", segment=segment, reentrant=False),
            _method("checkpoint reentrant", "checkpoint", segment=segment, reentrant=True),
            _method("nested", "nested", segment=methods.cube_root(self._eager)),
        ]
        references += [
            _method(
                f"checkpoint {variant.kernel}",
                "checkpoint",
                variant,
                segment=max(1, round(segment / variant.block)),
                reentrant=False,
            )
            for variant in kernels
        ]
        fitting = [snapshots for snapshots in SNAPSHOTS if snapshots < calls][-1 if self._few else 0 :]
        references += [_method(f"multistage {snapshots}", "multistage", snapshots=snapshots) for snapshots in fitting]
        for snapshots in fitting[-1:]:
            if self._options.few:
                point["skipped"][f"mixed {snapshots}"] = "few methods were asked for"
            elif calls**2 * snapshots / 2 > MIXED_LIMIT:
                point["skipped"][f"mixed {snapshots}"] = (
                    "checkpoint_schedules plans it in O(T^2 m), in Python unless numba is installed"
                )
            else:
                references.append(_method(f"mixed {snapshots}", "mixed", snapshots=snapshots))
        return references

    def _fit(self, point: dict[str, Any], fits: dict[Variant, Fit], choice: Choice) -> None:
        name, variant, policy, chunks, size = choice
        budget, kind = point["budgets"][name], "" if variant == EAGER else f", {variant}"
        settled = fits[variant].settled(policy, budget, chunks, size)
        if settled is None:
            reason = f"nothing fits into {budget} bytes at a reasonable cost"
            point["skipped"][f"{policy} at {name}{kind}"] = reason
            return
        setting, peak, forwards = settled
        label = f"membptt {policy}, m = {setting.slots}, chunk {setting.chunk}{kind}"
        by_label = {method["label"]: method for method in point["methods"]}
        if label not in by_label:
            method = _method(label, "membptt", variant, **vars(setting))
            method["table_digest"] = setting.table(self.problem(variant).calls).digest
            self._note(method, peak, forwards)
            point["methods"].append(method)
            by_label[label] = method
        total = {method["label"] for method in point["methods"] if method["family"] == "jax"}
        close = [each for each, bytes_ in point["budgets"].items() if budget <= bytes_ <= ALIKE * budget]
        alike = [name] if size is TOTAL else [each for each in close if each not in total]
        by_label[label]["budgets"] = sorted({*by_label[label]["budgets"], *alike})

    def _count(self, method: dict[str, Any]) -> None:
        if method["family"] == "jax":
            theirs = self.peer().methods[method["label"]]
            method["settings"]["gradient_error"] = self._error(self.peer().gradients[method["label"]])
            peak = Peak(theirs["peak_bytes"], theirs["peak_bytes"])  # whose gradients cannot be told apart
            self._note(method, peak, theirs["forwards"] * self._eager.unit)
            return
        on, compute = self.problem(_variant(method)), self.runner(method)
        self._clear()
        on.counter[0] = 0
        compute()
        forwards = on.counter[0]
        self._note(method, self._peak(_variant(method), compute), forwards)

    @staticmethod
    def _note(method: dict[str, Any], peak: Peak, forwards: int) -> None:
        method["peak_bytes"], method["peak_bytes_with_gradients"] = peak.peak, peak.peak_with_gradients
        method["forwards"] = forwards

    def _peak(self, variant: Variant, compute: Callable[[], None]) -> Peak:
        on = self.problem(variant)
        self._clear()
        gc.collect()  # or blocks of former runs would be freed in the middle of this one
        if on.xs.is_cuda:
            compute()  # compiles, tunes, and makes the workspaces that last
            return cuda_bytes(compute)
        if variant.kernel in COMPILED:
            compute()  # compiles, which allocates too
            return allocated_bytes(compute, on.params)
        grads = [param.grad for param in on.params if param.grad is not None]
        return live_bytes(compute, [*on.params, *grads, *on.init, on.xs, on.output], on.params)

    def _error(self, gradients: Sequence[torch.Tensor]) -> float:
        """Return the largest error of a gradient against plain's, over its largest element."""
        self._clear()
        methods.plain(self._eager)
        pairs = zip(gradients, self._eager.params, strict=True)
        return max(float((mine - param.grad).abs().max() / param.grad.abs().max()) for mine, param in pairs)  # type: ignore[operator, union-attr]

    def _clear(self) -> None:
        for on in self._problems.values():
            for param in on.params:
                if param.grad is not None:
                    param.grad.zero_()

    def _compiled(self, point: dict[str, Any]) -> list[Variant]:
        """Return the variants that `torch.compile` makes by default; none without a compiler."""
        if not self._options.compile:
            point["skipped"]["compiled"] = "switched off"
            return []
        try:
            torch.compile(lambda x: x.sin() + 1)(torch.ones(2, device=self._options.device))
        except Exception as error:
            point["skipped"]["compiled"] = f"no compiler: {type(error).__name__}"
            return []
        larger = BLOCK if self._eager.unit == 1 and self._eager.calls % BLOCK == 0 else 1
        return [Variant("compiled", block) for block in sorted({1, larger}) if block == larger or not self._few]

    def _fused(self) -> list[Variant]:
        """Return the variant run by torch's own kernel for sequences, where the cell has one."""
        return [Variant("fused", self._kernel_steps())] if self._eager.cell in FUSED and self._calls_fit() else []

    def _kernel_steps(self) -> int:
        return max(size for least, size in KERNEL_STEPS.items() if self._steps >= least)

    def _calls_fit(self) -> bool:
        return self._eager.calls % self._kernel_steps() == 0


def _leaders(budgets: dict[str, int]) -> list[str]:
    """Return the budgets that need settings of their own, ascending."""
    leaders: list[str] = []
    for name in sorted(budgets, key=budgets.__getitem__):
        if not leaders or budgets[name] > ALIKE * budgets[leaders[-1]] or name == HEADLINE:
            leaders.append(name)
    return leaders


def _loops(calls: int) -> list[Loop]:
    """Return what is measured of JAX and equinox; chunks divide the calls, near to their root and a third of it."""
    divisors = [size for size in range(2, calls) if calls % size == 0]
    wanted = calls**0.5 / 3, calls**0.5
    chunks = {min(divisors, key=lambda size: abs(log(size / each))) for each in wanted} if divisors else set()
    states = [Loop("equinox", size) for size in STATES if size < calls]
    return [Loop("scan"), *(Loop("checkpoint", size) for size in sorted(chunks)), *states]


def _variant(method: dict[str, Any]) -> Variant:
    return Variant(method["kernel"], method["block"])


def _method(label: str, family: str, variant: Variant = EAGER, /, **settings: Any) -> dict[str, Any]:
    return {
        "label": label,
        "family": family,
        "settings": settings,
        **variant._asdict(),
        "budgets": [],
        "peak_bytes": 0,
        "peak_bytes_with_gradients": 0,
        "forwards": 0,
        "table_digest": None,
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--steps", nargs="+", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny cells and a short sequence: only to see it work")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--few", action="store_true", help="fewer methods than even at great lengths")
    parser.add_argument("--peers", metavar="PYTHON", help="measure JAX and equinox too, in this Python")
    parser.add_argument("--show", action="store_true", help="measure nothing, print what is there")
    parser.add_argument("--data", type=Path, default=store.DATA)
    options = parser.parse_args(given)
    options.steps = options.steps or ([40] if options.quick else [100, 1000, 10_000])
    if min(*options.steps, options.rounds) < 1:
        parser.error("--steps and --rounds are at least 1")
    if options.peers and options.device != "cpu":
        parser.error("--peers is for the CPU")
    options.given = given
    return options


if __name__ == "__main__":
    main()
