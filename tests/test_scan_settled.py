"""What a call of scan settles once: whose plan it takes, and which options go together."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from membptt import Indexed, plan, scan
from membptt.calls import remembered
from membptt_theory.cache import Cache


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(remembered, "_plans", Cache(remembered._plans.limit))


def powers(n):
    """A step whose internal state grows with what it captures."""

    def step(h, x):
        for _ in range(n):
            h = torch.tanh(h + x)
        return h, h

    return step


def with_default(n):
    return lambda h, x, n=n: powers(n)(h, x)


def with_keyword(n):
    return lambda h, x, *, n=n: powers(n)(h, x)


def applied(n, h, x):
    return powers(n)(h, x)


class Layers(nn.Module):
    def __init__(self, *cells):
        super().__init__()
        self.cells = nn.ModuleList(cells)

    def forward(self, h, x):
        for cell in self.cells:
            h = cell(x, h)
        return h, h


def run(step, xs=None, **options):
    h = torch.zeros(2, 3, requires_grad=True)
    return scan(step, h, torch.ones(12, 2, 3) if xs is None else xs, **options)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (powers(1), powers(9)),
        (partial(applied, 1), partial(applied, 9)),
        (with_default(1), with_default(9)),
        (with_keyword(1), with_keyword(9)),
        (Layers(nn.GRUCell(3, 3)), Layers(nn.GRUCell(3, 3), nn.GRUCell(3, 3))),
        (Layers(nn.GRUCell(3, 3)).eval(), Layers(nn.GRUCell(3, 3)).train()),
        (Layers(nn.GRUCell(3, 3)).forward, Layers(nn.GRUCell(3, 3), nn.GRUCell(3, 3)).forward),
    ],
    ids=["closures", "partials", "defaults", "keywords", "modules", "modes", "methods"],
)
def test_steps_that_need_plans_of_their_own_get_them(a, b):
    run(a, budget=4000)
    run(b, budget=4000)
    assert len(remembered._plans) == 2


def test_a_step_that_is_made_anew_for_every_call_is_planned_once():
    for _ in range(3):
        run(powers(2), budget=4000)
        run(partial(applied, 2), budget=4000)
    assert len(remembered._plans) == 2


def test_indexed_inputs_of_another_width_get_a_plan_of_their_own():
    def step(h, x):
        return h + x.sum(-1, keepdim=True), h

    for width in (3, 300):
        run(step, Indexed(12, lambda start, stop, width=width: torch.ones(stop - start, 2, width)), budget=20_000)
    assert len(remembered._plans) == 2


def test_inputs_whose_gradient_is_wanted_get_a_plan_of_their_own():
    """A core then saves more."""
    for wanted in (False, True):
        run(powers(2), torch.ones(12, 2, 3, requires_grad=wanted), budget=4000)
    assert len(remembered._plans) == 2


def test_a_function_that_captures_itself_is_planned():
    def step(h, x):
        assert step is not None
        return torch.tanh(h + x), h

    run(step, budget=4000)
    assert len(remembered._plans) == 1


@pytest.mark.parametrize("given", [{"policy": "msm"}, {"chunk": 2}, {"internal": 3}, {"internal_known": 2}], ids=str)
def test_what_a_plan_has_settled_is_not_ignored_but_refused(given):
    step, h, xs = powers(1), torch.zeros(2, 3, requires_grad=True), torch.ones(12, 2, 3)
    planned = plan(step, h, xs, budget=4000)
    with pytest.raises(TypeError, match="a plan settles policy, chunk"):
        scan(step, h, xs, plan=planned, **given)


def test_sizes_of_states_go_with_slots_only():
    with pytest.raises(TypeError, match="internal and internal_known only with slots="):
        run(powers(1), budget=4000, internal=3)


def test_a_cache_of_parametrized_weights_is_refused_since_it_would_lose_their_gradient():
    cell = weight_norm(nn.GRUCell(3, 3), "weight_hh")

    def step(h, x):
        h = cell(x, h)
        return h, h

    with parametrize.cached(), pytest.raises(RuntimeError, match=r"parametrize\.cached"):
        run(step, slots=3, params=cell.parameters())
    h, _ = run(step, slots=3, params=cell.parameters())
    h.sum().backward()
    assert all(param.grad is not None for param in cell.parameters())


def test_a_buffer_that_holds_nan_is_no_update():
    class Marked(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mark", torch.tensor([float("nan"), 1.0]))

        def forward(self, h, x):
            return torch.tanh(h + x), h

    h, _ = run(Marked(), slots=3)
    h.sum().backward()
