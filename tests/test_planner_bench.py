"""The benchmarks of plans: options are run, promises compared with times, and a first call with what it compiles."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from torch._dynamo.utils import counters

from bench import first_call, planner
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
    plan = replace(plan, options=tuple(replace(option, seconds=plan.seconds) for option in plan.options))
    rivals = {(option.policy, option.measured.chunk) for option in plan.options}
    assert len(rivals) > len({chunk for _, chunk in rivals})
    slow = {plan.chosen: 3}
    monkeypatch.setattr(planner, "gradient", lambda posed, alone: slow.get(alone.chosen, 1) * alone.seconds)
    trusted = planner.trust(posed, plan, 3)
    assert len(trusted.promise) == len(rivals)
    assert trusted.promise[0] == pytest.approx(3)
    assert trusted.promise[1:] == pytest.approx([1] * (len(rivals) - 1))
    assert trusted.choice == pytest.approx(3)


def test_a_first_call_is_planned_and_run_and_its_plan_run_alone(monkeypatch, capsys):
    """In this process, and where nothing can be compiled: so eager cores are chosen."""
    monkeypatch.setattr(first_call, "_alone", lambda run, *given: run(*given))
    monkeypatch.setattr("membptt.kernels.compiled._problem", lambda kind: "none here")
    monkeypatch.setitem(counters["inductor"], "fxgraph_cache_miss", 7)  # by whatever ran before in this process
    with pytest.warns(UserWarning, match="none here"):
        first_call.main(["--cells", "gru", "--steps", "20", "--quick"])
    out = capsys.readouterr().out
    assert out.startswith("gru, 20 steps in ")
    assert "eager" in out
    assert "times as long" not in out


def test_a_first_call_that_compiled_what_no_cache_held_does_not_count(monkeypatch, capsys):
    """Runs compile two sizes, one more, and none; then one that never finds everything."""
    plan = planner.planned(problem("gru", 20, quick=True), 1.0)
    runs = iter([2, 1, 0, *[1] * 5])

    def alone(run, pose, given):
        planned = run is first_call.by_budget
        return first_call.First(plan, 3.0, 1.5, 0.5, next(runs) if planned else 0)

    monkeypatch.setattr(first_call, "_alone", alone)
    first_call.main(["--cells", "gru", "--steps", "20", "40", "--quick"])
    told = capsys.readouterr().out
    assert told.startswith("gru, 20 steps in ")
    assert "gru, 40 steps: a size that was never tried before in each of 5 runs" in told
    assert not list(runs)


def test_a_first_call_is_compared_with_compiling_what_it_chose():
    plan = planner.planned(problem("gru", 20, quick=True), 1.0)
    chosen = replace(plan.chosen, measured=replace(plan.chosen.measured, compiled=True))
    plan = replace(plan, options=(chosen,))
    whole, alone = first_call.First(plan, 3.0, 1.5, 0.5), first_call.First(plan, 0.0, 3.5, 0.5)
    assert "compiled" in first_call.told("gru", whole, alone)
    assert first_call.told("gru", whole, alone).endswith(": 1.50 times as long")
