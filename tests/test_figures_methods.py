"""Figures 9 to 11: each claim holds on the committed measurements, and a measurement that contradicts it is refused."""

import copy
import re

import pytest

from bench import record, report, store
from paper_figs import evidence, fig09, fig10, fig11, make
from paper_figs.evidence import DataMissingError, FigureClaimError


@pytest.fixture(scope="module")
def lengths():
    return [evidence.load_benchmark(f"long_sequence_{steps}", fig09.FORMAT) for steps in fig09.LENGTHS]


@pytest.fixture(scope="module")
def points():
    names = [f"side_by_side_cpu_{cell}_{steps}" for steps in (100, 1000) for cell in fig10.CELLS]
    return [evidence.load_benchmark(name, fig10.FORMAT) for name in names]


@pytest.fixture(scope="module")
def throughput():
    return evidence.load_benchmark(f"throughput_lstm_{fig11.BUDGET}", fig11.FORMAT)


@pytest.mark.parametrize("name", ["fig09", "fig10", "fig11"])
def test_the_claim_of_a_figure_of_methods_holds_and_it_is_drawn(name, tmp_path):
    paths = make.make(name, tmp_path, formats=("svg",))
    assert all(path.stat().st_size > 1000 for path in paths)


def whole(lengths, fraction):
    return [run for run in lengths[-1]["runs"].values() if run["fraction"] == fraction]


def slower(lengths):
    for run in whole(lengths, 1000):
        run["seconds_a_step"]["membptt"] = [2 * max(run["seconds_a_step"]["plain"])]


def slightly_slower(lengths):
    for run in whole(lengths, 1000):
        run["seconds_a_step"]["membptt"] = [1.1 * seconds for seconds in run["seconds_a_step"]["membptt"]]


def larger(lengths):
    for run in whole(lengths, 10_000):
        run["peak_bytes"] = run["limit_bytes"] + 1


def other_table(lengths):
    for run in whole(lengths, 1000):
        run["table_digest"] = "0" * 64


def one_forward_more(lengths):
    for run in whole(lengths, 1000):
        run["forwards_a_step"] += 0.001


def no_gradient(lengths):
    for run in whole(lengths, 1000):
        run["gradient_norm"] = 0.0


def other_machine(lengths):
    for each in lengths:
        each["device_name"] = "another"


def other_threads(lengths):
    lengths[0]["threads"] = 2


def not_saved(lengths):
    lengths[-1]["plain"]["peak_bytes"] //= 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (slower, "times plain's time, more than 1.6"),
        (slightly_slower, r"times plain's time, not 0\.66 with compiled cores"),
        (larger, "the limit is exceeded"),
        (other_table, "measured with table 000"),
        (one_forward_more, "forwards a step, not"),
        (no_gradient, "no gradient was computed"),
        (other_machine, "nothing is told of another"),
        (other_threads, "different threads"),
        (not_saved, "saved only"),
    ],
)
def test_a_long_sequence_that_contradicts_the_claim_is_refused(lengths, change, complaint):
    changed = copy.deepcopy(lengths)
    change(changed)
    with pytest.raises(FigureClaimError, match=complaint):
        fig09.check(changed)


def test_plain_autograd_over_compiled_graphs_stands_beside_the_eager_loop_where_it_was_measured(monkeypatch):
    names = [f"long_sequence_{steps}_epyc26m2" for steps in (10_000, fig09.WHOLE)]
    files = [evidence.load_benchmark(name, fig09.FORMAT) for name in names]
    assert all(len(run.alike) >= 6 for run in fig09.check(files).runs)
    for run in whole(files, 1000):
        run["seconds_a_step"]["plain compiled"] = [1.1 * time for time in run["seconds_a_step"]["plain compiled"]]
    with pytest.raises(
        FigureClaimError, match=r"plain's compiled graphs take 0\.55 of the eager loop's time, not 0\.5"
    ):
        fig09.check(files)
    for run in whole(files, 1000):
        del run["seconds_a_step"]["plain compiled"]
    with pytest.raises(FigureClaimError, match=r"compiled graphs take None of the eager loop's time, not 0\.5"):
        fig09.check(files)


def test_a_processor_that_the_claim_does_not_name_is_refused(monkeypatch):
    monkeypatch.delitem(fig09.MEASURED, "epyc26m2")
    with pytest.raises(FigureClaimError, match="nothing is told of epyc26m2"):
        fig09.data()


def test_a_processor_that_the_claim_names_without_data_is_refused(monkeypatch):
    monkeypatch.setitem(fig09.MEASURED, "other", fig09.MEASURED["xeon"])
    with pytest.raises(FigureClaimError, match=r"measured on \['epyc26m2', 'xeon'\], not on"):
        fig09.data()


def test_a_million_steps_that_were_not_run_are_missing_data(lengths):
    changed = copy.deepcopy(lengths)
    changed[-1]["runs"] = {}
    with pytest.raises(DataMissingError, match="unfinished"):
        fig09.check(changed)


def test_states_of_other_sizes_save_another_part():
    with pytest.raises(FigureClaimError, match=r"mixing saves 0\.\d+ of all forwards, not"):
        fig09.count(hidden=4096, graph=4096 * 0.5)


def test_mixing_that_costs_forwards_is_refused(monkeypatch):
    right = fig09.optimal_cost
    worse = lambda policy, *sizes, **alpha: right(policy, *sizes, **alpha) * (2 if policy == "msm_plus" else 1)  # noqa: E731
    monkeypatch.setattr(fig09, "optimal_cost", worse)
    with pytest.raises(FigureClaimError, match="mixing costs forwards"):
        fig09.count(hidden=4096, graph=4096 * 5.9)


def test_plain_memory_beyond_what_was_measured_is_marked_as_carried_on(lengths):
    actual = fig09.check(lengths)
    assert fig09.WHOLE not in actual.plain
    assert actual.plain == {
        entry["steps"]: (entry["plain_here"] or entry["plain"])["peak_bytes"]
        for entry in lengths
        if entry["steps"] < fig09.WHOLE
    }


def at(points, cell, steps):
    return next(entry for entry in points if (entry["cell"], entry["steps"]) == (cell, steps))


def retimed(point, factor, chosen):
    labels = [entry["label"] for entry in point["methods"] if chosen(entry)]
    assert labels
    for entry in point["rounds"]:
        for label in labels:
            entry["seconds"][label] *= factor


@pytest.mark.parametrize("cell", list(fig10.CELLS))
@pytest.mark.parametrize(
    ("factor", "chosen", "complaint"),
    [
        (0.2, lambda entry: entry["family"] == "nested", "nested"),
        (0.2, lambda entry: entry["label"] == "checkpoint reentrant", "checkpoint reentrant"),
        (4.0, lambda entry: entry["family"] == "membptt", "in the memory of"),
        (3.0, lambda entry: entry["family"] == "membptt" and entry["kernel"] == "eager", "eager"),
    ],
)
def test_a_method_that_is_ahead_of_scan_is_not_drawn_over(points, cell, factor, chosen, complaint):
    changed = copy.deepcopy(points)
    retimed(at(changed, cell, 1000), factor, chosen)
    with pytest.raises(FigureClaimError, match=complaint):
        fig10.check(changed)


def test_what_the_figure_says_of_the_reentrant_mode_is_what_was_measured():
    """The numbers are those of the benchmark's own report."""
    says = re.compile(r"time at the memory of checkpoint reentrant, eager: ([\d.]+)")
    for steps, told in fig10.REENTRANT.items():
        points = [record.load(record.path_of(store.DATA, "cpu", cell, steps)) for cell in fig10.CELLS]
        actual = [float(match[1]) for point in points for line in report.targets(point) if (match := says.match(line))]
        assert len(actual) == len(fig10.CELLS)
        assert (round(min(actual), 2), round(max(actual), 2)) == told


def test_other_memory_of_checkpoint_schedules_than_the_figure_tells_is_refused(points):
    changed = copy.deepcopy(points)
    retimed(at(changed, "state-space", 1000), 1.1, lambda entry: entry["label"] == "multistage 10")
    with pytest.raises(FigureClaimError, match="state-space: the least memory and its time"):
        fig10.check(changed)


@pytest.mark.parametrize("label", ["multistage 10", "membptt hsm, m = 50, chunk 1"])
def test_so_is_what_it_tells_of_the_processor_on_which_scan_takes_less(label):
    point = evidence.load_benchmark("side_by_side_cpu_state-space_1000_xeon6m167", fig10.FORMAT)
    (panel,) = fig10.check([point]).panels
    assert panel.fastest(fig10.OURS, panel.front(["plain"])[0].bytes // 20) < 1
    retimed(point, 1.05, lambda entry: entry["label"] == label)
    with pytest.raises(FigureClaimError, match="state-space: the least memory and its time"):
        fig10.check([point])


def test_a_setting_beyond_five_per_cent_of_plains_memory_is_not_told_as_within():
    point = evidence.load_benchmark("side_by_side_cpu_state-space_1000_xeon6m167", fig10.FORMAT)
    next(entry for entry in point["methods"] if entry["label"] == "plain")["peak_bytes"] = 20 * 30_000_000
    with pytest.raises(FigureClaimError, match=r"are \(36, 1.51, 25, 1.32, 30, [\d.]+\), not"):
        fig10.check([point])


@pytest.mark.parametrize("change", [{"complete": False}, {"quick": True}, {"threads": 2}])
def test_an_unfinished_tiny_or_foreign_point_is_refused(points, change):
    changed = copy.deepcopy(points)
    changed[0] |= change
    with pytest.raises(FigureClaimError):
        fig10.check(changed)


@pytest.mark.parametrize("change", [{"table_digest": "0" * 64}, {"forwards": 1}])
def test_a_point_of_another_table_or_with_other_forwards_is_refused(points, change):
    changed = copy.deepcopy(points)
    method = next(entry for entry in at(changed, "gru", 1000)["methods"] if entry["family"] == "membptt")
    method |= change
    with pytest.raises(FigureClaimError, match=r"measured with table|forwards"):
        fig10.check(changed)


def test_the_front_holds_what_no_other_method_beats_in_both():
    dots = [(1, 3.0), (2, 2.0), (3, 2.5), (4, 1.0), (1, 3.5)]
    held = tuple(fig10.Dot(str(size), "membptt", size, size, time) for size, time in dots)
    panel = fig10.Panel("xeon", "lstm", 1000, held)
    assert [(dot.bytes, dot.time) for dot in panel.front(["membptt"])] == [(1, 3.0), (2, 2.0), (4, 1.0)]


def entry(raw, steps, label):
    return raw["lengths"][str(steps)][label]


def overfull(raw):
    entry(raw, 1000, "plain eager")["peak_bytes"] = raw["budget_bytes"] + 1


def foreign_table(raw):
    entry(raw, 1000, "membptt fused")["table_digest"] = "0" * 64


def chen_ahead(raw):
    actual = entry(raw, 1000, "checkpoint eager")
    actual["tokens_a_second"] = [10 * entry for entry in actual["tokens_a_second"]]


def plain_behind(raw):
    actual = entry(raw, 100, "plain eager")
    actual["tokens_a_second"] = [entry / 10 for entry in actual["tokens_a_second"]]


@pytest.mark.parametrize("change", [overfull, foreign_table, chen_ahead, plain_behind])
def test_a_throughput_that_contradicts_the_claim_is_refused(throughput, change):
    changed = copy.deepcopy(throughput)
    change(changed)
    with pytest.raises(FigureClaimError):
        fig11.check(changed)


def test_a_benchmark_that_was_not_run_is_missing_data(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATA", tmp_path)
    for figure in (fig09, fig10, fig11):
        with pytest.raises(DataMissingError):
            figure.data()
    (tmp_path / "throughput_lstm_64.json").write_text("{")
    with pytest.raises(FigureClaimError, match="damaged"):
        fig11.data()
    (tmp_path / "throughput_lstm_64.json").write_text('{"format": "other/1"}')
    with pytest.raises(FigureClaimError, match="reads 'membptt-throughput/1'"):
        fig11.data()
