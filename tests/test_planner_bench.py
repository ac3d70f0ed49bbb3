"""The benchmark that runs a plan's options: it compares the chosen one with the fastest, and promises with times."""

import pytest

pytest.importorskip("torch")

from bench import planner
from bench.cells import CELLS, problem


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_planned_and_its_options_are_run(cell, monkeypatch, capsys):
    monkeypatch.setattr("membptt.planning.trial._SECONDS", 0)
    monkeypatch.setattr("membptt.planning.trial._GRADIENT", 0)
    planner.main(["--cells", cell, "--steps", "20", "--rounds", "1", "--quick"])
    out = capsys.readouterr().out
    assert out.startswith(f"{cell}, 20 steps in ")
    assert "eager" in out
    assert "of the fastest one's time" in out


def test_a_plan_that_chose_the_slowest_is_noticed(monkeypatch):
    """The chosen option is said to take three times as long as it was promised to."""
    posed = problem("gru", 20, quick=True)
    plan = planner.planned(posed, 1.0)
    rivals = {option.measured.chunk for option in plan.options if option.seconds <= planner._PROMISING * plan.seconds}
    slow = {plan.chosen: 3}
    monkeypatch.setattr(planner, "_gradient", lambda posed, alone: slow.get(alone.chosen, 1) * alone.seconds)
    trusted = planner.trust(posed, plan, 3)
    assert len(trusted.promise) == len(rivals)
    assert trusted.promise[0] == pytest.approx(3)
    assert trusted.promise[1:] == pytest.approx([1] * (len(rivals) - 1))
    assert trusted.choice >= (2 if len(rivals) > 1 else 1)
