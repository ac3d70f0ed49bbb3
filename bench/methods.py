"""The methods that are compared: each computes the same gradient of a `Problem` and adds it to ``.grad``."""

from __future__ import annotations

from math import ceil, isqrt
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan as _scan_of_torch
from torch.utils.checkpoint import checkpoint

from bench.cells import Carry, Problem
from membptt import scan
from membptt_theory.policy import PolicyTable

scan_of_torch: Any = _scan_of_torch


def plain(problem: Problem) -> None:
    """Loop under autograd: every step's graph is kept."""
    carry, total = _loop(problem, 0, problem.calls, problem.init, problem.output)
    problem.loss(carry, total).backward()  # type: ignore[no-untyped-call]


def checkpointed(problem: Problem, segment: int, *, reentrant: bool) -> None:
    """`torch.utils.checkpoint` over equal segments (Chen et al., sqrt(T) strategy).

    Args:
        problem: what to differentiate.
        segment: calls of the step a segment.
        reentrant: which of torch's two implementations.
    """

    def run(start: int, total: Tensor, *carry: Tensor) -> tuple[Tensor, ...]:
        carry, total = _loop(problem, start, min(start + segment, problem.calls), carry, total)
        return total, *carry

    # The reentrant mode returns no gradient at all where no input requires one.
    state = (problem.output.clone().requires_grad_(), *problem.init)
    for start in range(0, problem.calls, segment):
        state = checkpoint(run, start, *state, use_reentrant=reentrant, preserve_rng_state=False)
    problem.loss(state[1:], state[0]).backward()  # type: ignore[no-untyped-call]


def nested(problem: Problem, segment: int) -> None:
    """`torch.utils.checkpoint` in two levels, non-reentrant: segments of `segment` segments.

    Args:
        problem: what to differentiate.
        segment: calls of the step an inner segment, and inner segments an outer one.
    """

    def inner(start: int, total: Tensor, *carry: Tensor) -> tuple[Tensor, ...]:
        carry, total = _loop(problem, start, min(start + segment, problem.calls), carry, total)
        return total, *carry

    def outer(start: int, *state: Tensor) -> tuple[Tensor, ...]:
        for low in range(start, min(start + segment**2, problem.calls), segment):
            state = checkpoint(inner, low, *state, use_reentrant=False, preserve_rng_state=False)
        return state

    state = (problem.output.clone().requires_grad_(), *problem.init)
    for start in range(0, problem.calls, segment**2):
        state = checkpoint(outer, start, *state, use_reentrant=False, preserve_rng_state=False)
    problem.loss(state[1:], state[0]).backward()  # type: ignore[no-untyped-call]


def square_root(problem: Problem) -> int:
    """Return the segment of Chen's strategy."""
    return isqrt(problem.calls - 1) + 1


def cube_root(problem: Problem) -> int:
    """Return the inner segment of two levels."""
    root: float = problem.calls ** (1 / 3)
    return ceil(round(root, 9))


def scanned(problem: Problem, policy: str | PolicyTable, slots: int, chunk: int = 1, **options: Any) -> None:
    """`membptt.scan`.

    Args:
        problem: what to differentiate.
        policy: as `scan` takes it.
        slots: as `scan` takes it.
        chunk: calls of the step a core.
        options: anything else that `scan` takes.
    """
    carry, total = scan(
        problem.step,
        problem.init,
        problem.xs,
        slots=slots,
        policy=policy,
        chunk=chunk,
        params=problem.params,
        reduce="sum",
        compile=problem.compile,
        **options,
    )
    problem.loss(carry, total).backward()  # type: ignore[no-untyped-call]


def torchs_scan(problem: Problem, *, compile: bool) -> None:
    """Torch's own `scan`, which is no public name yet; eager, it traces the bare step anew at every call."""

    def step(state: tuple[Carry, Tensor], x: Tensor) -> tuple[tuple[Carry, Tensor], Tensor]:
        carry, y = problem.bare(state[0], x)
        return (tuple(leaf.clone() for leaf in carry), state[1] + y), y.new_zeros(())  # nothing may alias

    run = torch.compile(scan_of_torch) if compile else scan_of_torch
    (carry, total), _ = run(step, (problem.init, problem.output), problem.xs)
    problem.loss(carry, total).backward()  # type: ignore[no-untyped-call]


def _loop(problem: Problem, start: int, stop: int, carry: Carry, total: Tensor) -> tuple[Carry, Tensor]:
    for x in problem.xs[start:stop].unbind(0):
        carry, y = problem.step(carry, x)
        total = total + y
    return carry, total
