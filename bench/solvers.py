"""Dormand and Prince's solver of ordinary differential equations with a step size of its own, as a loop to be run.

Nobody knows how many steps it takes: the step size follows the error, and rejected steps count too.

Ref: dormand1980.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

# The tableau: coefficients of the stages, the solution of order 5, its difference to that of order 4.
STAGES: Final = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR: Final = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class State(NamedTuple):
    """The carry: time, solution, its derivative, and the size of the next step."""

    time: Tensor
    y: Tensor
    slope: Tensor
    size: Tensor


def start(f: Callable[[Tensor], Tensor], y: Tensor, size: float) -> State:
    """Return the carry at time 0, with a first step of `size`."""
    return State(y.new_zeros(()), y, f(y), y.new_tensor(size))


def goes_on(state: State, end: float) -> Tensor:
    """Whether the end is still to come."""
    return state.time < end


def step(f: Callable[[Tensor], Tensor], state: State, end: float, tolerance: float) -> State:
    """Try one step of the autonomous equation ``y' = f(y)``; where its error is too large, only its size changes."""
    size = torch.minimum(state.size, end - state.time)
    slopes = [state.slope]
    y = state.y
    for row in STAGES:
        y = state.y + size * combined(row, slopes)
        slopes.append(f(y))
    error = size * combined(ERROR, slopes) / (tolerance * (1 + torch.maximum(state.y.abs(), y.abs())))
    norm = error.square().mean().sqrt().clamp_min(1e-6)
    accepted = norm <= 1
    factor = (0.9 * norm**-0.2).clamp(0.2, 5.0)
    return State(
        torch.where(accepted, state.time + size, state.time),
        torch.where(accepted, y, state.y),
        torch.where(accepted, slopes[-1], state.slope),
        size * factor,
    )


def combined(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Return the weighted sum of slopes."""
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total + weight * slope
    return total


def van_der_pol(stiffness: Tensor) -> Callable[[Tensor], Tensor]:
    """Return Van der Pol's oscillator, position and velocity in the last dimension; it is stiff where asked to be."""

    def f(y: Tensor) -> Tensor:
        position, velocity = y.unbind(-1)
        return torch.stack([velocity, stiffness * (1 - position * position) * velocity - position], -1)

    return f
