"""An adaptive solver on `while_loop`: as exact as it should be, and its gradients are plain autograd's."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise

import pytest
import torch

from bench import solvers
from bench import while_loop as benchmark
from membptt import meter, while_loop
from membptt_theory import online

from .cells import relative_error

D = torch.float64


def solved(f, y, end, tolerance, loop, size=1e-2):
    carry = solvers.start(f, y, size)
    return loop(partial(solvers.goes_on, end=end), lambda state: solvers.step(f, state, end, tolerance), carry)


def plain(cond, body, carry):
    steps = 0
    while cond(carry):
        carry, steps = body(carry), steps + 1
    return carry, steps


def test_the_solution_of_a_decay_is_exact_within_the_tolerance_and_smaller_ones_take_more_steps():
    rate, y = torch.tensor([0.5, 2.0], dtype=D), torch.ones(2, dtype=D)
    counts = []
    for tolerance in (1e-4, 1e-7, 1e-10):
        state, steps = solved(lambda y: -rate * y, y, 3.0, tolerance, plain)
        assert state.time == 3.0
        assert torch.allclose(state.y, torch.exp(-3 * rate), atol=20 * tolerance, rtol=0)
        counts.append(steps)
    assert counts == sorted(set(counts))
    assert counts[2] / counts[1] == pytest.approx(1000 ** (1 / 5), rel=0.3)  # of order 5


@pytest.mark.parametrize("slots", [3, 10])
def test_the_gradients_of_a_stiff_system_are_plain_autograds(slots):
    stiffness = torch.tensor(20.0, dtype=D, requires_grad=True)
    y = torch.tensor([[2.0, 0.0], [1.0, -0.5]], dtype=D, requires_grad=True)
    f = solvers.van_der_pol(stiffness)

    def gradients(loop):
        state, steps = solved(f, y, 1.5, 1e-4, loop)
        return steps, torch.autograd.grad(state.y.sum() + state.time, [stiffness, y])

    steps, expected = gradients(plain)
    with meter() as report:
        count, actual = gradients(lambda *call: while_loop(*call, slots=slots, params=[stiffness]))
    assert steps == count > 20
    assert relative_error(actual, expected) <= 1e-10
    assert report.forwards == online.cost(steps, slots)


def test_rejected_steps_are_among_them():
    y = torch.tensor([[2.0, 0.0]], dtype=D)
    f = solvers.van_der_pol(torch.tensor(20.0, dtype=D))
    sizes = []

    def cond(state):
        sizes.append((float(state.time), float(state.size)))
        return solvers.goes_on(state, 2.0)

    while_loop(cond, lambda state: solvers.step(f, state, 2.0, 1e-5), solvers.start(f, y, 1.0), slots=2)
    again = [b[1] < a[1] for a, b in pairwise(sizes) if a[0] == b[0]]
    assert again
    assert all(again)


def test_the_benchmark_measures_and_writes_what_it_says(tmp_path, capsys):
    sizes = ["--steps", "10", "--slots", "2", "3", "--rounds", "1"]
    benchmark.main(["--problems", "relaxation", *sizes, "--no-torch", "--data", str(tmp_path)])
    content = json.loads((tmp_path / "while_loop_relaxation_10.json").read_text())
    methods = content["methods"]
    assert set(methods) == {"plain", "membptt m=2", "membptt m=3"}
    assert all(method["gradient_error"] < 1e-5 for method in methods.values())
    assert methods["membptt m=2"]["forwards"] == online.cost(10, 2)
    peaks = [methods[label]["peak_bytes"] for label in ("membptt m=2", "membptt m=3", "plain")]
    assert peaks == sorted(set(peaks))
    assert "of plain's time" in capsys.readouterr().out
