"""Sweeps: each point is kept when it is done, a sweep that was cut off goes on, other conditions are refused."""

import json
import os

import pytest

from bench import store, sweep
from bench.machine import here
from bench.sweep import SweepError
from paper_figs import evidence

POINTS = {f"n={n}": {"n": n} for n in range(5)}
WHERE = {"device": "cpu", "versions": {"torch": "1"}, "hidden": 3}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATA", tmp_path / "data")
    return tmp_path / "data"


def square(argument):
    return {"square": argument["n"] ** 2, "process": os.getpid()}


def refuse_three(argument):
    if argument["n"] == 3:
        raise ArithmeticError("three is refused")
    return square(argument)


def counted(run, calls):
    def counting(argument):
        calls.append(argument["n"])
        return run(argument)

    return counting


def results(content):
    return {key: each["found"]["square"] for key, each in content["points"].items()}


@pytest.mark.parametrize("processes", [1, 2])
def test_every_point_is_measured_once_and_the_file_is_complete(processes):
    content = sweep.sweep("fig99", POINTS, square, conditions=WHERE, processes=processes)
    assert results(content) == {f"n={n}": n**2 for n in range(5)}
    assert evidence.load_measured("fig99") == content
    ran_in = {each["found"]["process"] for each in content["points"].values()}
    assert len(ran_in) <= processes
    assert (os.getpid() in ran_in) == (processes == 1)


@pytest.mark.parametrize("cut", range(5))
def test_a_sweep_that_was_cut_off_goes_on_where_it_was(cut):
    calls = []

    def interrupted(argument):
        if argument["n"] == cut:
            raise KeyboardInterrupt
        return square(argument)

    with pytest.raises(KeyboardInterrupt):
        sweep.sweep("fig99", POINTS, counted(interrupted, calls), conditions=WHERE)
    if cut:
        with pytest.raises(evidence.FigureClaimError, match="unfinished"):
            evidence.load_measured("fig99")
    calls.clear()
    content = sweep.sweep("fig99", POINTS, counted(square, calls), conditions=WHERE)
    assert calls == list(range(cut, 5))
    assert results(content) == {f"n={n}": n**2 for n in range(5)}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_point_that_fails_is_named_and_the_others_are_kept(processes):
    with pytest.raises(SweepError, match="the point n=3 failed: ArithmeticError: three is refused"):
        sweep.sweep("fig99", POINTS, refuse_three, conditions=WHERE, processes=processes)
    kept = json.loads(store.path_of("fig99").read_text())
    assert not kept["complete"]
    assert {"n=0", "n=1"} <= kept["points"].keys()
    assert "n=3" not in kept["points"]


def test_a_finished_sweep_is_not_measured_again_and_may_grow(folder):
    first = sweep.sweep("fig99", POINTS, square, conditions=WHERE)
    calls = []
    assert sweep.sweep("fig99", POINTS, counted(square, calls), conditions=WHERE) == first
    assert calls == []
    grown = sweep.sweep("fig99", {**POINTS, "n=7": {"n": 7}}, counted(square, calls), conditions=WHERE)
    assert calls == [7]
    assert grown["complete"]
    assert [path.name for path in folder.iterdir()] == ["fig99.json"], "no temporary file is left"


def test_a_sweep_that_was_cut_off_is_finished_once_no_more_is_wanted():
    with pytest.raises(SweepError, match="n=3 failed"):
        sweep.sweep("fig99", POINTS, refuse_three, conditions=WHERE)
    fewer = {key: POINTS[key] for key in ("n=0", "n=1", "n=2")}
    assert sweep.sweep("fig99", fewer, square, conditions=WHERE)["complete"]
    assert evidence.load_measured("fig99")["points"].keys() == fewer.keys()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"device": "cuda"}, "another device"),
        ({"versions": {"torch": "2"}}, "another versions"),
        ({"hidden": 4}, "another hidden"),
        ({"batch": 4}, "another batch"),
    ],
)
def test_other_conditions_are_not_mixed_in(other, message):
    sweep.sweep("fig99", POINTS, square, conditions=WHERE)
    with pytest.raises(SweepError, match=message):
        sweep.sweep("fig99", POINTS, square, conditions={**WHERE, **other})


def test_another_number_of_processes_is_another_condition():
    sweep.sweep("fig99", POINTS, square, conditions=WHERE)
    with pytest.raises(SweepError, match="another processes"):
        sweep.sweep("fig99", POINTS, square, conditions=WHERE, processes=2)


@pytest.mark.parametrize("points", [{"n=0": {"n": 0}}, {**POINTS, "n=2": {"n": 3}}])
def test_points_are_never_changed_or_left_out(points):
    sweep.sweep("fig99", POINTS, square, conditions=WHERE)
    with pytest.raises(SweepError, match="holds other points"):
        sweep.sweep("fig99", points, square, conditions=WHERE)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "{}", '{"conditions": {}, "points": {}}', '{"format": "membptt-measured/1", "points": {}}', "null"],
)
def test_a_damaged_file_is_one_clear_error(text, folder):
    folder.mkdir()
    store.path_of("fig99").write_text(text)
    with pytest.raises(SweepError, match=r"fig99\.json .*: move fig99\.json away"):
        sweep.sweep("fig99", POINTS, square, conditions=WHERE)


@pytest.mark.parametrize("content", [{}, {"conditions": 1, "points": {}}, {"conditions": {}, "points": {"a": 1}}])
def test_a_file_that_is_no_sweep_is_one_clear_error(content):
    store.save_figure("fig99", {"figure": "fig99", **content})
    with pytest.raises(SweepError, match=r"fig99\.json is damaged"):
        sweep.sweep("fig99", POINTS, square, conditions=WHERE)


def test_the_file_of_another_figure_is_refused(folder):
    sweep.sweep("fig98", POINTS, square, conditions=WHERE)
    store.path_of("fig98").rename(store.path_of("fig99"))
    with pytest.raises(SweepError, match="does not hold the data of fig99"):
        sweep.sweep("fig99", POINTS, square, conditions=WHERE)


def test_what_json_cannot_hold_is_refused_before_it_is_written(folder):
    with pytest.raises(ValueError, match="the result of n=0 cannot be written"):
        sweep.sweep("fig99", POINTS, lambda argument: {"loss": float("nan")}, conditions=WHERE)
    with pytest.raises(ValueError, match="the points cannot be written"):
        sweep.sweep("fig99", {"a": object()}, square, conditions=WHERE)
    assert not folder.exists()


@pytest.mark.parametrize("processes", [0, 3, -1, True, "2", 1.5])
def test_a_sweep_runs_in_one_or_two_processes(processes):
    with pytest.raises(ValueError, match="1 to 2 processes"):
        sweep.sweep("fig99", POINTS, square, conditions=WHERE, processes=processes)


def test_a_sweep_without_points_is_refused():
    with pytest.raises(ValueError, match="no points"):
        sweep.sweep("fig99", {}, square, conditions=WHERE)


def test_the_conditions_name_device_and_versions():
    pytest.importorskip("torch")
    conditions = here()
    assert conditions["device"] == "cpu"
    assert conditions["cpu"]
    assert set(conditions["versions"]) == {"python", "torch"}
