"""Train by full backpropagation through `scan` or by truncated backpropagation in the same bytes, and write it down."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter, process_time
from typing import Any, Final

import torch
from torch import nn

from bench.meter import live_bytes
from bench.tasks import Batch, Carry, Model, Task, adding, copying, judge, looking, reading
from membptt import scan
from membptt_theory.tables import optimal_cost

CLIP: Final = 1.0
METHODS: Final = ("full", "truncated")
MEASURED: Final = ("updates", "seconds", "processor", "loss", "right")  # at each judgement


@dataclass(frozen=True, slots=True)
class Setup:
    """One training run.

    Args:
        task: ``"adding"``, ``"copying"``, ``"reading"`` or ``"looking"``.
        method: ``"full"`` or ``"truncated"``.
        steps: ``t``.
        lag: of `copying`, steps from symbol to answer; 0 elsewhere.
        items: of `copying`, symbols in a row; 1 elsewhere.
        seed: of parameters and batches.
        hidden: size of the LSTM.
        batch: sequences side by side.
        rate: Adam's learning rate.
        chunk: steps of one core of `scan`.
        slots: ``m``, hidden states that `scan` may store.
        seconds: of wall time to train for.
        judged: how often the model is judged on held-out sequences, at equal distances of time, and once before.
        held_out: sequences that it is judged on.
        path: of a set to read; an empty text means the one that is there already.
    """

    task: str
    method: str
    steps: int
    seed: int
    chunk: int
    slots: int
    seconds: float
    rate: float
    lag: int = 0
    items: int = 1
    hidden: int = 32
    batch: int = 16
    judged: int = 20
    held_out: int = 128
    path: str = ""

    @property
    def forwards(self) -> int:
        """Cores that `scan` evaluates for one gradient, by its table."""
        return optimal_cost("hsm", math.ceil(self.steps / self.chunk), self.slots)


def train(argument: dict[str, Any], /, clock: Callable[[], float] = perf_counter) -> dict[str, Any]:
    """Train once, for a given wall time, and return the curve with the bytes that the gradient took.

    Time is that of the training alone: the model is judged, and its bytes are counted, off the clock.

    Args:
        argument: the fields of a `Setup`.
        clock: seconds; with a clock that counts batches, training is the same at every pace of the machine.

    Returns:
        Measured peak bytes of one gradient, the window (the whole sequence for the full method), the bytes of a window
        one step longer, and for each judgement: updates, wall and processor seconds, loss, share of right answers.
    """
    setup = Setup(**argument)
    if setup.method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {setup.method!r}")
    torch.set_num_threads(1)
    weighed = weigh(setup)
    window = setup.steps if setup.method == "full" else weighed["window"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setup.seed)
        task = make_task(setup)
        model = Model(task, setup.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=setup.rate)
    generator = torch.Generator().manual_seed(setup.seed)
    curve: dict[str, list[float]] = {key: [] for key in MEASURED}
    updates, seconds, processor = 0, 0.0, 0.0

    def update() -> None:
        nonlocal updates
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        updates += 1

    carry = model.start(setup.batch)
    while True:
        if seconds >= setup.seconds * len(curve["loss"]) / setup.judged:
            loss, right = judge(model, task.held_out(setup.held_out))
            judgement = (updates, seconds, processor, loss, right)
            if not math.isfinite(loss):
                raise ArithmeticError(f"the loss is {loss} after {updates} updates")
            for key, value in zip(curve, judgement, strict=True):
                curve[key].append(value)
            if len(curve["loss"]) > setup.judged:
                break
        start, begun = clock(), process_time()
        batch = task.draw(generator, setup.batch)
        carry = gradient(
            model, batch, carry if task.carries else model.start(setup.batch), setup, window, update=update
        )
        seconds += clock() - start
        processor += process_time() - begun
    return {**weighed, "window": window, "curve": curve}


def gradient(
    model: Model, batch: Batch, carry: Carry, setup: Setup, window: int, *, update: Callable[[], None]
) -> Carry:
    """Take the gradient of one batch by the method of `setup`, calling `update` after each backward; return the state.

    Truncated backpropagation cuts the sequence into windows, the last one full, and updates after each window in which
    something is asked for; the other windows are only advanced.
    """
    if setup.method == "full":
        carry, loss = scan(
            model, carry, batch.tensors(), slots=setup.slots, chunk=setup.chunk, segments=True, reduce="sum"
        )
        loss.backward()
        update()
        return carry[0].detach(), carry[1].detach()
    stops = range(len(batch.xs) % window or window, len(batch.xs) + 1, window)
    for stop in stops:
        part = batch.part(max(0, stop - window), stop)
        asked = float(part[2].sum())
        with torch.set_grad_enabled(asked > 0):
            carry, losses = model(carry, part)
        if asked > 0:
            (losses.sum() / asked).backward()
            update()
        carry = carry[0].detach(), carry[1].detach()
    return carry


def make_task(setup: Setup) -> Task:
    """Return the task that `setup` names."""
    path = setup.path or None
    match setup.task:
        case "adding":
            return adding(setup.steps)
        case "copying":
            return copying(setup.steps, setup.lag, setup.items)
        case "reading":
            return reading(setup.steps, path)
        case "looking":
            return looking(path)
    raise ValueError(f"no task {setup.task!r}")


def weigh(setup: Setup) -> dict[str, int]:
    """Measure what one gradient takes, all live storages but inputs, parameters and gradients, and fit a window to it.

    Returns:
        ``bytes`` of the method itself, ``full_bytes`` of `scan`, and the largest ``window`` of truncated
        backpropagation that takes no more, with ``window_bytes`` and, one step longer, ``longer_bytes``.
    """
    # What the bytes do not depend on is left out of the key.
    sizes = _weigh(replace(setup, method="full", seed=0, seconds=0, rate=0, judged=0, held_out=0))
    return {**sizes, "bytes": sizes["full_bytes" if setup.method == "full" else "window_bytes"]}


@functools.cache
def _weigh(setup: Setup) -> dict[str, int]:
    task = make_task(setup)
    model = Model(task, setup.hidden)
    drawn = task.draw(torch.Generator().manual_seed(0), setup.batch)
    _peak(model, drawn, setup, setup.steps)  # makes what is made once a process, and belongs to no method
    full = _peak(model, drawn, setup, setup.steps)
    truncated = replace(setup, method="truncated")
    low, high = 1, setup.steps  # a window of `low` fits; one of `high` does not, or is all there is
    if _peak(model, drawn, truncated, 1) > full:
        raise ValueError(f"{full} bytes do not hold a window of one step")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _peak(model, drawn, truncated, middle) <= full else (low, middle)
    fits, longer = (_peak(model, drawn, truncated, window) for window in (low, high))
    return {"full_bytes": full, "window": low, "window_bytes": fits, "longer_bytes": longer}


def _peak(model: Model, batch: Batch, setup: Setup, window: int) -> int:
    """Return the peak of one gradient; of a truncated one, that of its last two windows: the others are no larger."""
    if setup.method == "truncated":
        batch = Batch(*batch.part(max(0, len(batch.xs) - 2 * window), len(batch.xs)))
    carry = model.start(setup.batch)
    params = list(model.parameters())
    for param in params:
        param.grad = torch.zeros_like(param)
    outside = [*params, *(param.grad for param in params if param.grad is not None), *batch.tensors(), *carry]

    def run() -> None:
        gradient(model, batch, carry, setup, window, update=lambda: None)

    return live_bytes(run, outside, params).peak
