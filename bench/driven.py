"""The schedules of the PyPI package `checkpoint_schedules`, driven by hand: its actions, carried out in torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from checkpoint_schedules import (
    Copy,
    EndForward,
    EndReverse,
    Forward,
    MixedCheckpointSchedule,
    Move,
    MultistageCheckpointSchedule,
    Reverse,
    StorageType,
)
from torch import Tensor

from bench.cells import Carry, Problem


def multistage(problem: Problem, snapshots: int) -> None:
    """Store hidden states only: binomial checkpointing (revolve), the same schedule cost as HSM.

    Args:
        problem: what to differentiate.
        snapshots: states in memory, the starting one included.
    """
    _drive(problem, MultistageCheckpointSchedule(problem.calls, snapshots, 0))


def mixed(problem: Problem, snapshots: int) -> None:
    """Store hidden or internal states, counted as equally large.

    Args:
        problem: what to differentiate.
        snapshots: states in memory, of either kind.
    """
    _drive(problem, MixedCheckpointSchedule(problem.calls, snapshots, storage=StorageType.RAM))


def actions(schedule: Any) -> Iterator[Any]:
    """Yield the actions of a schedule up to its end."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numba not available", RuntimeWarning)
        for action in schedule:
            yield action
            if isinstance(action, EndReverse):
                return


@dataclass(slots=True)
class _Recorded:
    """One step's graph: from leaves of its own to its results."""

    carry_in: Carry
    carry_out: Carry
    y: Tensor


def _drive(problem: Problem, schedule: Any) -> None:
    stored: dict[int, Carry | _Recorded] = {}
    state, recorded = problem.init, None
    total = problem.output.clone()
    adjoint, share = problem.init, problem.output  # set where the forward pass ends
    first = True
    for action in actions(schedule):
        match action:
            case Forward():
                if action.write_ics:
                    stored[action.n0] = state
                if action.write_adj_deps:
                    recorded = _record(problem, action.n0, state)
                    state = tuple(leaf.detach() for leaf in recorded.carry_out)
                    if first:
                        total.add_(recorded.y.detach())
                    if action.storage == StorageType.RAM:
                        stored[action.n0], recorded = recorded, None
                else:
                    state = _advance(problem, action.n0, action.n1, state, total if first else None)
            case EndForward():
                first = False
                ends = [leaf.detach().requires_grad_() for leaf in (total, *state)]
                share, *carry = torch.autograd.grad(problem.loss(tuple(ends[1:]), ends[0]), ends)
                adjoint = tuple(carry)
            case Reverse():
                assert recorded is not None
                adjoint = _backward(problem, recorded, adjoint, share)
                recorded = None
            case Copy() | Move():
                kept = stored.pop(action.n) if isinstance(action, Move) else stored[action.n]
                if isinstance(kept, _Recorded):
                    recorded = kept
                else:
                    state = kept
                del kept  # it would keep a state alive that is needed no more


def _advance(problem: Problem, start: int, stop: int, carry: Carry, total: Tensor | None) -> Carry:
    with torch.no_grad():
        for x in problem.xs[start:stop].unbind(0):
            carry, y = problem.step(carry, x)
            if total is not None:
                total.add_(y)
    return carry


def _record(problem: Problem, step: int, carry: Carry) -> _Recorded:
    leaves = tuple(leaf.detach().requires_grad_() for leaf in carry)
    following, y = problem.step(leaves, problem.xs[step])
    return _Recorded(leaves, following, y)


def _backward(problem: Problem, recorded: _Recorded, adjoint: Carry, share: Tensor) -> Carry:
    """Return the gradient of the step's input carry; ``.grad`` of the parameters is added to in place."""
    heads = [
        (output, grad)
        for output, grad in ((recorded.y, share), *zip(recorded.carry_out, adjoint, strict=True))
        if output.requires_grad
    ]
    outputs, grads = zip(*heads, strict=True)
    torch.autograd.backward(outputs, grads, inputs=[*recorded.carry_in, *problem.params])
    return tuple(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in recorded.carry_in)
