"""A call looks once at what it is given: the inputs are flattened once, the names walked once, little else is run."""

import sys

import pytest
import torch
from torch import nn

import membptt
from membptt import Indexed, scan
from membptt.run import problem
from membptt.run.inputs import Inputs
from membptt_theory import named
from membptt_theory.tables import optimal_cost


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
    walked = 1 + isinstance(xs, Indexed)  # the names of what reads, too
    for calls in (1, 2):  # a budget is planned at the first
        run(xs, **options)
        assert looks == {"inputs": calls, "names": calls * walked}


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


def functions_run(steps):
    """How many functions of the runtime and the theory run in a second call of so many steps, backward included."""
    counts = {"functions": 0}

    def note(frame, event, value):
        counts["functions"] += event == "call" and frame.f_globals.get("__name__", "").startswith("membptt")

    xs = torch.ones(steps, 2, 3)
    run(xs, slots=3)
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run(xs, slots=3)
    finally:
        sys.setprofile(before)
    return counts["functions"]


def test_a_call_of_one_step_runs_a_bounded_number_of_functions():
    assert functions_run(1) <= 450


def test_an_evaluation_more_runs_a_bounded_number_of_functions():
    evaluations = optimal_cost("hsm", 40, 3) - optimal_cost("hsm", 20, 3)
    assert functions_run(40) - functions_run(20) <= 21 * evaluations


def test_a_schedule_is_solved_once_whatever_the_number_of_calls(monkeypatch):
    solved = []
    original = named.solve
    monkeypatch.setattr(named, "solve", lambda *args, **options: solved.append(args) or original(*args, **options))
    for _ in range(3):
        run(torch.ones(29, 2, 3), slots=4)
    assert len(solved) == 1
    with pytest.raises(TypeError, match="integer"):  # of what equals 4 and is none nothing is remembered
        run(torch.ones(29, 2, 3), slots=4.0)
