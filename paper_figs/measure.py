"""Measure figures 2b and 5b: the time of one gradient by standard BPTT and by `scan`, and of its single operations."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import torch
from torch import Tensor, nn
from tqdm import tqdm

from membptt import scan
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build
from paper_figs.evidence import measured_path, read_measured, require, save_measured

HIDDEN: Final = 256  # the paper's size, as are batch and slots
BATCH: Final = 64
LENGTHS: Final = (50, 100, 200, 400, 600, 800, 1000)
SLOTS: Final = (10, 50, 100, 500, 1000)
ROUNDS: Final = 5
SINGLE: Final = 200  # steps over which one operation is timed
State = tuple[Tensor, Tensor]


def measure(name: str, policy: str, /) -> None:
    """Measure in rounds, each once through everything, and keep every finished round.

    One round times each operation of the bare step, then for every length standard BPTT and every budget in turn, so
    that what slows the machine for a while slows what is compared. A run that was cut off is resumed.

    Args:
        name: the figure.
        policy: ``"hsm"`` or ``"ism"``.

    Raises:
        FigureClaimError: the file that is there is damaged or of another format.
        RuntimeError: an unfinished file was measured under other conditions.
    """
    torch.set_num_threads(1)
    table = build(policy, max(LENGTHS), max(SLOTS))
    content = _resume(name, {**_conditions(name, policy, table), "rounds": []})
    content["processes"] += 1
    workload = Workload(table)
    content["forwards"] = {str(m): [workload.count(t, m) for t in LENGTHS] for m in SLOTS}
    workload.round(LENGTHS[:2])  # warm up
    rounds = content["rounds"]
    for _ in tqdm(range(len(rounds), ROUNDS), initial=len(rounds), total=ROUNDS, desc=name, unit="round"):
        rounds.append(workload.round(LENGTHS))
        content["complete"] = len(rounds) == ROUNDS
        save_measured(name, content)


def cpu_name() -> str:
    """Return what the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Workload:
    """The LSTM whose gradient is timed.

    Args:
        table: what `scan` executes.
    """

    def __init__(self, table: PolicyTable) -> None:
        torch.manual_seed(0)
        self._table = table
        self._cell = nn.LSTMCell(HIDDEN, HIDDEN)
        self._params = list(self._cell.parameters())
        self._xs = torch.randn(max(table.steps, SINGLE), BATCH, HIDDEN)
        self._init: State = (torch.zeros(BATCH, HIDDEN), torch.zeros(BATCH, HIDDEN))
        self._calls = 0

    def count(self, steps: int, slots: int) -> int:
        """Return how often one gradient by `scan` evaluates the step."""
        before = self._calls
        self._scanned(steps, slots)
        return self._calls - before

    def round(self, lengths: Sequence[int]) -> dict[str, Any]:
        """Time everything once, in seconds."""
        found: dict[str, Any] = {"operations": self._operations(), "plain": [], "scan": {str(m): [] for m in SLOTS}}
        if hasattr(os, "getloadavg"):
            found["load"] = os.getloadavg()[0]  # what else ran meanwhile
        for steps in lengths:
            found["plain"].append(_timed(self._plain, steps))
            for slots in SLOTS:
                found["scan"][str(slots)].append(_timed(self._scanned, steps, slots))
        return found

    def _step(self, carry: State, x: Tensor) -> tuple[State, Tensor]:
        self._calls += 1
        h, c = self._cell(x, carry)
        return (h, c), h

    def _plain(self, steps: int) -> None:
        self._cell.zero_grad()
        carry, outputs = self._init, []
        for p in range(steps):
            carry, y = self._step(carry, self._xs[p])
            outputs.append(y)
        torch.stack(outputs).square().mean().backward()  # type: ignore[no-untyped-call]

    def _scanned(self, steps: int, slots: int) -> None:
        self._cell.zero_grad()
        xs = self._xs[:steps]
        _, ys = scan(self._step, self._init, xs, slots=slots, policy=self._table, params=self._params)
        ys.square().mean().backward()

    def _operations(self) -> dict[str, float]:
        """Time the three operations of the cost model on the bare step, without the runtime; seconds each."""
        advance = recorded = backward = 0.0
        carry = self._init
        adjoint = tuple(torch.ones_like(leaf) for leaf in carry)
        totals = [torch.zeros_like(param) for param in self._params]
        for p in range(SINGLE):
            start = perf_counter()
            with torch.no_grad():
                following, _ = self._step(carry, self._xs[p])
            advance += perf_counter() - start
            start = perf_counter()
            h, c = (leaf.detach().requires_grad_() for leaf in carry)
            outputs, _ = self._step((h, c), self._xs[p])
            recorded += perf_counter() - start
            start = perf_counter()
            grads = torch.autograd.grad(outputs, (h, c, *self._params), adjoint)
            for total, grad in zip(totals, grads[2:], strict=True):
                total.add_(grad)
            backward += perf_counter() - start
            carry = following
        return {"advance": advance / SINGLE, "taped": recorded / SINGLE, "backward": backward / SINGLE}


def _timed(run: Callable[..., None], *sizes: int) -> float:
    start = perf_counter()
    run(*sizes)
    return perf_counter() - start


def _resume(name: str, fresh: dict[str, Any]) -> dict[str, Any]:
    path = measured_path(name)
    empty = {"processes": 0, "complete": False}
    if not path.exists():
        return {**fresh, **empty}
    found = read_measured(name)
    if found.get("complete") is True:
        return {**fresh, **empty}
    resumable = isinstance(found.get("rounds"), list) and isinstance(found.get("processes"), int)
    require(resumable, f"{path.name} holds no rounds to add to: delete it first")
    other = [key for key, value in fresh.items() if key != "rounds" and found.get(key) != value]
    if other:
        raise RuntimeError(
            f"{path.name} is unfinished and was measured with another {', '.join(other)}: delete it first"
        )
    return found


def _conditions(name: str, policy: str, table: PolicyTable) -> dict[str, Any]:
    return {
        "figure": name,
        "command": f"python -m paper_figs.make {name} --measure",
        "policy": policy,
        "device": "cpu",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "system": platform.system(),
        "dtype": "float32",
        "hidden": HIDDEN,
        "batch": BATCH,
        "lengths": list(LENGTHS),
        "slots": list(SLOTS),
        "repeats": ROUNDS,
        "table": {"steps": table.steps, "slots": table.slots, "digest": table.digest},
    }
