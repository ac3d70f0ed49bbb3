"""Measure figures 2b and 5b: the time of one gradient by standard BPTT and by `scan`, and of its single operations."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bench.machine import here
from bench.store import FIGURE, path_of, resume, save
from membptt import scan
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build

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
    that what slows the machine for a while slows what is compared. A run that was cut
    off is resumed, a finished one left alone.

    Args:
        name: the figure.
        policy: ``"hsm"`` or ``"ism"``.

    Raises:
        StoreError: the file that is there is damaged, of another format, or was measured under other conditions.
    """
    torch.set_num_threads(1)
    table = build(policy, max(LENGTHS), max(SLOTS))
    workload = Workload(table)
    forwards = {str(m): [workload.count(t, m) for t in LENGTHS] for m in SLOTS}
    fresh = {**_conditions(name, policy, table), "forwards": forwards, "rounds": [], "processes": 0, "complete": False}
    content = resume(path_of(name), fresh, ("rounds", "processes", "complete"))
    if content["complete"]:
        return
    content["processes"] += 1
    workload.round(LENGTHS[:2])  # warm up
    rounds = content["rounds"]
    for _ in tqdm(range(len(rounds), ROUNDS), initial=len(rounds), total=ROUNDS, desc=name, unit="round"):
        rounds.append(workload.round(LENGTHS))
        content["complete"] = len(rounds) == ROUNDS
        save(path_of(name), content)


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
        times: dict[str, Any] = {"operations": self._operations(), "plain": [], "scan": {str(m): [] for m in SLOTS}}
        if hasattr(os, "getloadavg"):
            times["load"] = os.getloadavg()[0]  # what else ran meanwhile
        for steps in lengths:
            times["plain"].append(_timed(self._plain, steps))
            for slots in SLOTS:
                times["scan"][str(slots)].append(_timed(self._scanned, steps, slots))
        return times

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
        ys.square().mean().backward()  # type: ignore[no-untyped-call]

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


def _conditions(name: str, policy: str, table: PolicyTable) -> dict[str, Any]:
    return {
        **here(torch.get_num_threads()),
        "format": FIGURE,
        "figure": name,
        "command": f"python -m paper_figs.make {name} --measure",
        "policy": policy,
        "dtype": "float32",
        "hidden": HIDDEN,
        "batch": BATCH,
        "lengths": list(LENGTHS),
        "slots": list(SLOTS),
        "repeats": ROUNDS,
        "table": {"steps": table.steps, "slots": table.slots, "digest": table.digest},
    }
