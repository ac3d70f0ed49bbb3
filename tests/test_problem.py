"""A call looks once at what it is given: the inputs are flattened once, and the step's names are walked once."""

import pytest
import torch
from torch import nn

import membptt
from membptt import Indexed, scan
from membptt.run import problem
from membptt.run.inputs import Inputs


@pytest.fixture
def looks(monkeypatch):
    """How often inputs were looked at, and how often the step's names were walked."""
    counts = {"inputs": 0, "names": 0}
    init, reach = Inputs.__init__, problem.reach

    def look(self, *args, **options):
        counts["inputs"] += 1
        init(self, *args, **options)

    def walk(step):
        counts["names"] += 1
        return reach(step)

    monkeypatch.setattr(Inputs, "__init__", look)
    monkeypatch.setattr(problem, "reach", walk)
    return counts


CELL = nn.GRUCell(3, 4)


def step(h, x):
    h = CELL(x, h)
    return h, h


def run(xs, **options):
    h, ys = scan(step, torch.zeros(2, 4), xs, params=CELL.parameters(), **options)
    (h.sum() + ys.sum()).backward()


@pytest.mark.parametrize("options", [{"slots": 3}, {"slots": 3, "chunk": 4}, {"budget": "40KiB"}], ids=str)
@pytest.mark.parametrize("xs", [torch.ones(23, 2, 3), Indexed(23, lambda a, b: torch.ones(b - a, 2, 3))], ids=type)
def test_a_call_looks_once_at_its_inputs_and_at_its_step(looks, options, xs):
    for calls in (1, 2):  # a budget is planned at the first
        run(xs, **options)
        assert looks == {"inputs": calls, "names": calls}


def test_making_a_plan_and_calling_with_it_look_once_each(looks):
    xs = torch.ones(23, 2, 3)
    plan = membptt.plan(step, torch.zeros(2, 4), xs, params=CELL.parameters(), budget="40KiB")
    assert looks == {"inputs": 1, "names": 1}
    run(xs, plan=plan)
    assert looks == {"inputs": 2, "names": 2}


def test_a_layer_looks_once_a_direction(looks):
    layer = membptt.nn.GRU(3, 4, slots=3, chunk=4, bidirectional=True)
    layer(torch.ones(23, 2, 3))[0].sum().backward()
    assert looks == {"inputs": 2, "names": 2}
