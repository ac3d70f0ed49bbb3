"""The solvers of torchdiffeq, their very steps driven by `while_loop` as the how-to writes it."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

import membptt
from membptt_theory import online

from .cells import relative_error

if find_spec("torchdiffeq") is None:
    pytest.skip("torchdiffeq is not installed", allow_module_level=True)

from torchdiffeq import odeint

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "neural-ode.md"
METHODS = {"dopri5": 1e-6, "bosh3": 1e-3, "dopri8": 1e-6, "adaptive_heun": 1e-2}


class Field(nn.Module):
    """A field with weights, and with time in it."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()

    def forward(self, t, y):
        return 8 * self.net(y) * t.cos()


@cache
def recipe():
    """Return what the how-to defines."""
    block = re.search(r"```text\n(from torchdiffeq.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names = {"membptt": membptt, "torch": torch, "field": Field().float()}
    exec(block[1], names)
    return names


@pytest.mark.parametrize("method", METHODS)
def test_values_and_gradients_are_those_of_odeint_at_the_forwards_of_the_online_policy(method):
    torch.manual_seed(0)
    odeint_last = recipe()["odeint_last"]
    field, times = Field(), torch.tensor([0.0, 1.0], dtype=torch.float64)
    start = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    wanted, tolerances = (start, *field.parameters()), {"rtol": METHODS[method], "atol": METHODS[method] / 100}
    expected = odeint(field, start, times, method=method, **tolerances)[-1]
    gradients = torch.autograd.grad(expected.square().sum(), wanted)
    for room, cost in (({"slots": 4}, {}), ({"slots": 12, "internal": 4}, {"internal": 4})):
        with membptt.meter() as report:
            y, steps = odeint_last(field, start, times, method, **tolerances, **room)
            actual = torch.autograd.grad(y.square().sum(), wanted)
        assert steps > 1
        assert torch.equal(y, expected)
        assert relative_error(actual, gradients) <= 1e-10
        assert report.forwards == online.cost(steps, room["slots"], **cost)


def test_several_times_are_as_many_calls():
    field, times = Field(), torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    start = torch.randn(3, 2, dtype=torch.float64)
    between, _ = recipe()["odeint_last"](field, start, times[:2], slots=4)
    end, _ = recipe()["odeint_last"](field, between, times[1:], slots=4)
    assert torch.allclose(torch.stack([between, end]), odeint(field, start, times)[1:], rtol=1e-6)
