"""The benchmark computes what it says: equal gradients, honest meters, whole data files."""

from __future__ import annotations

import gc
import json
import os
import re
from pathlib import Path
from statistics import median

import pytest
import torch

from bench import (
    cells,
    driven,
    drop_in,
    fit,
    long_sequence,
    meter,
    methods,
    overhead,
    record,
    report,
    schedule_speed,
    side_by_side,
    store,
    throughput,
)
from membptt_theory.tables import optimal_cost
from paper_figs import fig09, fig10

from .test_plan_compiled import COMPILER

DATA = store.DATA
STEPS = 20
METHODS = {
    "checkpoint": lambda p: methods.checkpointed(p, methods.square_root(p), reentrant=False),
    "checkpoint reentrant": lambda p: methods.checkpointed(p, methods.square_root(p), reentrant=True),
    "nested": lambda p: methods.nested(p, methods.cube_root(p)),
    "multistage": lambda p: driven.multistage(p, 3),
    "mixed": lambda p: driven.mixed(p, 3),
    "hsm": lambda p: methods.scanned(p, "hsm", 3),
    "hsm in chunks": lambda p: methods.scanned(p, "hsm", 2, 3),
    "ism": lambda p: methods.scanned(p, "ism", 3),
    "msm": lambda p: methods.scanned(p, "msm", 9, 2, internal=4, internal_known=3),
    "msm_plus": lambda p: methods.scanned(p, "msm_plus", 9, internal=4),
}
SCRIPTS = {"cells": ["lstm"], "steps": ["20"]}


def tiny(cell, dtype=torch.float64):
    problem = cells.problem(cell, STEPS, quick=True, dtype=dtype)
    for param in problem.params:
        param.grad = torch.zeros_like(param)
    return problem


def gradients(run, on):
    for param in on.params:
        param.grad.zero_()
    on.counter[0] = 0
    run(on)
    return [param.grad.clone() for param in on.params]


def outside(on):
    return [*on.params, *(param.grad for param in on.params), *on.init, on.xs, on.output]


def error(actual, expected):
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("cell", list(cells.CELLS))
@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_computes_the_gradient_of_plain_autograd(cell, name):
    on = tiny(cell)
    expected = gradients(methods.plain, on)
    assert all(float(entry.abs().max()) > 0 for entry in expected)
    assert error(gradients(METHODS[name], on), expected) < 1e-10


@pytest.mark.parametrize("name", ["nested", "multistage", "hsm"])
def test_a_method_that_loses_a_step_is_noticed(name):
    on = tiny("lstm")
    expected = gradients(methods.plain, on)
    on.xs[13] += 0.1
    assert error(gradients(METHODS[name], on), expected) > 1e-6


def test_compiled_blocks_are_the_same_recurrence(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    on = tiny("gru")
    blocked = cells.compiled(on, 5)
    assert blocked.calls == STEPS // 5
    assert blocked.unit == 5
    expected = gradients(methods.plain, on)
    # The same loss but for the count of outputs that its mean divides by.
    object.__setattr__(blocked, "loss", on.loss)
    assert error(gradients(methods.plain, blocked), expected) < 1e-10
    assert blocked.counter[0] == STEPS
    with pytest.raises(ValueError, match="cannot be cut into blocks of 7"):
        cells.compiled(on, 7)


@pytest.mark.parametrize("cell", list(cells.FUSED))
def test_torchs_own_kernel_runs_the_same_recurrence(cell):
    on = tiny(cell)
    blocked = cells.fused(on, 5)
    assert (blocked.calls, blocked.unit) == (STEPS // 5, 5)
    object.__setattr__(blocked, "loss", on.loss)  # the same loss but for the count of outputs its mean divides by
    expected = gradients(methods.plain, on)
    assert error(gradients(methods.plain, blocked), expected) < 1e-10
    assert blocked.counter[0] == STEPS
    assert error(gradients(lambda p: methods.scanned(p, "hsm", 2), blocked), expected) < 1e-10
    with pytest.raises(ValueError, match="cannot be cut into blocks of 7"):
        cells.fused(on, 7)


def test_only_cells_that_torch_has_a_kernel_for_are_fused():
    with pytest.raises(ValueError, match="sequences of lstm, gru, not of 'spiking'"):
        cells.fused(tiny("spiking"), 5)


def test_at_great_lengths_fewer_methods_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(side_by_side, "LONG", STEPS)
    quick(tmp_path)
    point = record.load(tmp_path / "side_by_side_cpu_lstm_20.json")
    assert {policy for _, _, policy in point["fitted"]} == set(side_by_side.LONG_POLICIES)
    assert {name for name, _, _ in point["fitted"]} <= set(side_by_side.LONG_BUDGETS)
    assert "mixed 10" in {entry["label"] for entry in point["methods"]}


def test_the_state_space_segment_equals_its_recurrence_step_by_step():
    on = tiny("state-space")
    module, x = on.bare, on.xs[0]
    one_by_one = cells.StateSpace(4, 2, 1).double()
    one_by_one.load_state_dict(module.state_dict())
    carry, total = on.init, 0
    for row in x:
        carry, y = one_by_one(carry, row.unsqueeze(0))
        total = total + y
    whole, y = module(on.init, x)
    assert torch.allclose(whole[0], carry[0], rtol=1e-12, atol=1e-14)
    assert torch.allclose(y, total, rtol=1e-12, atol=1e-14)


def test_unknown_cells_and_lengths_are_refused():
    with pytest.raises(ValueError, match="no cell 'mamba'"):
        cells.problem("mamba", 10)
    with pytest.raises(ValueError, match="segments of 5 steps"):
        cells.problem("state-space", 12, quick=True)


def test_multistage_driven_by_hand_takes_the_forwards_of_hsm():
    on = tiny("lstm")
    gradients(lambda p: driven.multistage(p, 3), on)
    assert on.counter[0] == optimal_cost("hsm", STEPS, 3)
    gradients(lambda p: methods.scanned(p, "hsm", 3), on)
    assert on.counter[0] == optimal_cost("hsm", STEPS, 3)


def test_the_meter_counts_a_known_peak_exactly():
    x, weight = torch.ones(100), torch.ones(7, 3)

    def work():
        a = x * x  # 400 bytes
        b = a + x  # 800
        del a
        c = b * x  # 800 at most, the first block is free again
        del b, c
        _ = weight * weight  # the size of a weight: kept apart

    actual = meter.live_bytes(work, [x, weight], [weight])
    assert actual == meter.Peak(800, 800)
    assert meter.allocated_bytes(work, [weight]) == actual
    assert meter.live_bytes(lambda: (weight * weight, x * x), [x, weight], [weight]) == meter.Peak(400, 484)


@pytest.mark.parametrize("name", ["checkpoint", "multistage", "mixed", "hsm", "ism"])
def test_both_meters_agree(name):
    on = tiny("lstm", torch.float32)
    METHODS[name](on)
    seen = meter.live_bytes(lambda: METHODS[name](on), outside(on), on.params).peak_with_gradients
    allocated = meter.allocated_bytes(lambda: METHODS[name](on), on.params).peak_with_gradients
    # scan reads the random generators' state, which no operation makes.
    assert abs(allocated - seen) <= 2 * torch.get_rng_state().nbytes


def test_a_leak_is_seen_by_the_meter():
    on, kept = tiny("lstm", torch.float32), []

    def leaky():
        methods.scanned(on, "hsm", 2)
        kept.append(torch.ones(1000))

    honest = meter.live_bytes(lambda: methods.scanned(on, "hsm", 2), outside(on), on.params).peak
    assert meter.live_bytes(lambda: (leaky(), leaky()), outside(on), on.params).peak > honest


@pytest.mark.parametrize("policy", ["hsm", "ism", "msm", "msm_plus"])
def test_fitted_settings_stay_within_their_budget(policy):
    gc.collect()  # what former tests left behind is not measured
    on = tiny("attention-memory", torch.float32)
    finder = fit.Fit(on, lambda run: meter.live_bytes(run, outside(on), on.params))
    whole = meter.live_bytes(lambda: methods.plain(on), outside(on), on.params).peak
    budget = whole // 4
    setting, predicted = finder.best(policy, budget)
    setting, actual, forwards = finder.verified(setting, budget)
    assert actual.peak <= budget
    assert forwards == setting.table(on.calls).cost(-(-on.calls // setting.chunk), setting.slots) * setting.chunk
    assert predicted > 0
    assert finder.best(policy, 100) is None


def collected(on):
    """A meter that what former runs left behind does not reach."""

    def peak(run):
        gc.collect()
        return meter.live_bytes(run, outside(on), on.params)

    return peak


def test_slots_are_given_back_and_more_are_tried_until_the_budget_is_filled():
    on = tiny("lstm", torch.float32)
    finder = fit.Fit(on, collected(on))
    fit.run(on, fit.Setting("hsm", 2, 1))
    budget = collected(on)(lambda: fit.run(on, fit.Setting("hsm", 6, 1))).peak
    assert [finder.verified(fit.Setting("hsm", estimate, 1), budget)[0].slots for estimate in (1, 9)] == [6, 6]


def test_a_budget_in_all_counts_the_gradients_that_are_on_their_way():
    on = tiny("lstm", torch.float32)
    finder = fit.Fit(on, collected(on))
    fit.run(on, fit.Setting("hsm", 2, 1))
    budget = collected(on)(lambda: fit.run(on, fit.Setting("hsm", 16, 1))).peak
    activations, total = (finder.settled("hsm", budget, (1,), size)[0] for size in (fit.ACTIVATIONS, fit.TOTAL))
    assert total.slots < activations.slots == 16


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_cores_that_scan_compiles_are_fitted_by_running_them():
    on = tiny("gru", torch.float32)
    compiled = cells.joined(on)
    finder = fit.Fit(compiled, lambda run: meter.allocated_bytes(run, on.params), on)
    fit.run(compiled, fit.Setting("hsm", 4, 1))  # compiles
    budget = fit.TOTAL(meter.allocated_bytes(lambda: fit.run(compiled, fit.Setting("hsm", 4, 1)), on.params))
    setting, peak, forwards = finder.settled("hsm", budget, (1, 2), fit.TOTAL)
    assert fit.TOTAL(peak) <= budget
    assert forwards == setting.table(STEPS).cost(STEPS // setting.chunk, setting.slots) * setting.chunk
    assert error(gradients(lambda p: fit.run(cells.joined(p), setting), on), gradients(methods.plain, on)) < 1e-5


def quick(folder, *more):
    arguments = ["--quick", "--no-compile", "--cells", *SCRIPTS["cells"], "--steps", *SCRIPTS["steps"]]
    side_by_side.main([*arguments, "--rounds", "1", "--data", str(folder), *more])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    quick(folder)
    return folder / "side_by_side_cpu_lstm_20.json"


def test_the_quick_run_prints_the_table_and_writes_a_legal_file(measured, capsys):
    point = record.load(measured)
    assert point["complete"]
    assert [path.name for path in measured.parent.iterdir()] == [measured.name]
    labels = {entry["label"] for entry in point["methods"]}
    assert {"plain", "checkpoint", "checkpoint reentrant", "nested", "multistage 10", "mixed 10"} <= labels
    assert {"plain fused by 5", "checkpoint fused"} <= labels
    families = {entry["settings"].get("policy") for entry in point["methods"]}
    assert {"hsm", "ism", "msm", "msm_plus"} <= families
    for entry in point["methods"]:
        assert all(entry["peak_bytes"] <= point["budgets"][name] for name in entry["budgets"])
    quick(measured.parent, "--show")
    printed = capsys.readouterr().out
    assert all(label.split(",")[0] in printed for label in labels)
    assert "target" in printed


def test_a_finished_point_is_not_measured_again_and_an_unfinished_one_goes_on(measured):
    before = measured.read_bytes()
    quick(measured.parent)
    assert measured.read_bytes() == before
    quick(measured.parent, "--rounds", "2")
    point = record.load(measured)
    assert len(point["rounds"]) == 2
    assert point["rounds"][0] == json.loads(before)["rounds"][0]


def test_a_point_measured_under_other_conditions_is_not_continued(measured):
    point = json.loads(measured.read_text()) | {"threads": 7}
    other = measured.parent / "other"
    store.save(record.path_of(other, "cpu", "lstm", 20), point)
    with pytest.raises(store.StoreError, match="another threads"):
        quick(other)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "point.json"
    store.save(path, {"old": True})

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        store.save(path, {"old": False})
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_every_damage_to_a_record_is_refused(measured):
    good = json.loads(measured.read_text())
    assert record.check(good) == good
    for key in good:
        with pytest.raises(record.RecordError):
            record.check({name: value for name, value in good.items() if name != key})
        with pytest.raises(record.RecordError):
            record.check(good | {key: object()})
    for change in ({"format": "other/1"}, {"complete": False}, {"methods": good["methods"][:-1]}, {"extra": 1}):
        with pytest.raises(record.RecordError):
            record.check(good | change)
    with pytest.raises(record.RecordError, match="same label"):
        record.check(good | {"methods": good["methods"] + good["methods"][:1]})


def test_a_damaged_file_names_itself(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{")
    with pytest.raises(record.RecordError, match=r"broken\.json"):
        record.load(path)


def test_the_table_has_a_row_a_method_under_its_heads(measured):
    lines = []
    point = record.load(measured)
    report.show(point, lines.append)
    assert all(name in lines[0].splitlines()[2] for name in report.HEAD)
    assert [row[0] for row in report.rows(point)] == sorted(
        [entry["label"] for entry in point["methods"]], key=[row[0] for row in report.rows(point)].index
    )


def test_a_target_that_is_missed_is_called_so(measured):
    point = record.load(measured)
    for entry in point["rounds"]:
        for label in entry["seconds"]:
            entry["seconds"][label] = 1000.0 if label.startswith("membptt") else 1.0
    lines = list(report.targets(point))
    assert lines
    assert all("NOT met" in line for line in lines)


def test_schedule_speed_prints_its_ratio_and_writes_its_data(tmp_path, capsys):
    schedule_speed.main(["--steps", "300", "--slots", "5", "--rounds", "2", "--data", str(tmp_path)])
    assert "times faster" in capsys.readouterr().out
    content = json.loads((tmp_path / "schedule_speed_300_5.json").read_text())
    assert content["forwards"] == optimal_cost("hsm", 300, 5)
    assert len(content["rounds"]) == 2
    assert set(content["times_faster"]) == {"cold", "instructions", "actions"}


def test_the_runtimes_own_cost_is_measured_in_pairs_and_written(tmp_path, capsys):
    overhead.main(["--rounds", "2", "--steps", "50", "--repeat", "2", "--data", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "continuity: " in printed
    content = json.loads((tmp_path / "overhead.json").read_text())
    assert [len(call["rounds"]) for call in content["calls"].values()] == [2, 2]
    assert content["calls"]["20"]["evaluations"] == optimal_cost("hsm", 20, overhead.SLOTS)
    assert len(content["continuity"]["rounds"]) == 2


def test_the_long_sequence_stays_within_its_memory_and_resumes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(long_sequence, "SIZES", {"hidden": 8})
    arguments = ["--steps", "1000", "--whole", "1000", "--plain-steps", "200", "--plain-longest", "1000"]
    arguments += ["--fractions", "10", "1", "--blocks", "0"]
    long_sequence.main([*arguments, "--data", str(tmp_path)])
    assert "of plain at T = 200" in capsys.readouterr().out
    path = tmp_path / "long_sequence_1000.json"
    before = path.read_bytes()
    (entry,) = json.loads(before)["runs"].values()
    assert entry["peak_bytes"] <= entry["limit_bytes"]
    assert entry["gradient_norm"] > 0
    whole = json.loads(before)["plain_here"]
    assert whole["steps"] == 1000
    assert whole["peak_bytes"] > entry["peak_bytes"]
    long_sequence.main([*arguments, "--data", str(tmp_path)])
    assert path.read_bytes() == before


def test_compiled_cores_take_turns_with_plain_autograd_over_the_same_graphs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(long_sequence, "SIZES", {"hidden": 8})
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    arguments = ["--steps", "200", "--whole", "200", "--plain-steps", "200", "--fractions", "2", "--blocks", "10", "0"]
    long_sequence.main([*arguments, "--data", str(tmp_path)])
    assert "of it compiled alike" in capsys.readouterr().out
    runs = json.loads((tmp_path / "long_sequence_200.json").read_text())["runs"]
    compiled, eager = (runs[name]["seconds_a_step"] for name in ("1/2, compiled by 10", "1/2"))
    assert len(compiled["plain compiled"]) == len(compiled["plain"]) == 6
    assert "plain compiled" not in eager
    again, chosen = long_sequence.Bench(200, 200), runs["1/2, compiled by 10"]
    again.time(10, long_sequence.Choice(chosen["slots"], chosen["chunk"], 0.0))
    # The scan's, not what plain autograd has added to it since.
    assert chosen["gradient_norm"] == pytest.approx(again.gradient_norm(10), rel=1e-4)


@pytest.fixture(scope="module")
def throughputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("throughput")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "BATCHES", (1, 2, 4, 8, 16))
        patch.setattr(throughput, "SCANNED_BATCHES", (2, 8))
        patch.setattr(throughput, "CHUNKS", (1, 2))
        patch.setattr(throughput.Bench, "__init__", _with_budget(throughput.Bench.__init__, 60_000))
        throughput.main(["--quick", "--budget", "1", "--steps", "40", "80", "--rounds", "2", "--data", str(folder)])
    return folder / "throughput_lstm_1.json"


def _with_budget(init, budget):
    return lambda self, steps, _, *, quick: init(self, steps, budget, quick=quick)


def test_throughput_gives_every_method_the_largest_batch_that_fits(throughputs):
    content = json.loads(throughputs.read_text())
    for steps, actual in content["lengths"].items():
        assert {"membptt eager", "membptt fused", "checkpoint eager"} <= set(actual)
        for label, entry in actual.items():
            assert entry["peak_bytes"] <= 60_000
            assert len(entry["tokens_a_second"]) == 2
            if not label.startswith("membptt") and entry["batch"] < 16:
                bench = throughput.Bench(int(steps), 60_000, quick=True)
                twice = bench.problem(entry["kernel"], 2 * entry["batch"])
                assert bench._peak(twice, bench._call(entry["method"], twice, None)).peak > 60_000


def test_throughput_of_other_conditions_is_not_continued(throughputs, tmp_path):
    store.save(tmp_path / throughputs.name, json.loads(throughputs.read_text()) | {"threads": 7})
    with pytest.raises(store.StoreError, match="another threads"):
        throughput.main(["--quick", "--budget", "1", "--steps", "100", "--rounds", "2", "--data", str(tmp_path)])


def test_the_drop_in_layer_is_measured_in_a_twentieth_of_torchs_memory(tmp_path, capsys):
    drop_in.main(["--steps", "400", "--batch", "4", "--hidden", "16", "--rounds", "1", "--data", str(tmp_path)])
    content = json.loads((tmp_path / "drop_in_cpu_400.json").read_text())
    assert content["peak_bytes"] * drop_in.FRACTION <= content["torch_peak_bytes"]
    assert content["largest_gradient_difference"] < drop_in.TOLERANCE
    assert "of torch.nn.LSTM's time" in capsys.readouterr().out


@COMPILER
@pytest.mark.filterwarnings("ignore")
def test_a_drop_in_layer_with_compiled_cores_is_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(drop_in, "COMPILED_CHUNKS", (2,))
    sizes = ["--steps", "400", "--batch", "4", "--hidden", "16", "--rounds", "1", "--data", str(tmp_path)]
    drop_in.main([*sizes, "--layer", "GRU", "--compile"])
    content = json.loads((tmp_path / "drop_in_gru_compile_cpu_400.json").read_text())
    assert content["peak_bytes"] * drop_in.FRACTION <= content["torch_peak_bytes"]
    assert "chunk=2, compile=True) takes" in capsys.readouterr().out


def test_an_lstm_has_no_compiled_cores_to_be_measured(tmp_path, capsys):
    with pytest.raises(SystemExit):
        drop_in.main(["--compile", "--data", str(tmp_path)])
    assert "add --layer GRU" in capsys.readouterr().err


def test_a_drop_in_layer_with_another_gradient_is_refused(tmp_path, monkeypatch):
    ours = drop_in.Bench.ours

    def wrong(self, chunk, slots):
        ours(self, chunk, slots)
        self._layer.weight_hh_l0.grad.mul_(1.01)

    monkeypatch.setattr(drop_in.Bench, "ours", wrong)
    with pytest.raises(RuntimeError, match="the gradients differ"):
        drop_in.main(["--steps", "400", "--batch", "4", "--hidden", "16", "--rounds", "1", "--data", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def seen(cell):
    """The row of one cell in the table of the benchmarks' README, from the committed data."""
    point = record.load(record.path_of(DATA, "cpu", cell, 1000))
    actual = [re.match(r"(.*), (eager|compiled|merged|fused): (?:median )?([\d.]+)(?:, worst ([\d.]+))?", line).groups()
             for line in report.targets(point)]  # fmt: skip
    by_target = {name: {kind: value for n, kind, value, _ in actual if n == name} for name, *_ in actual}

    def both(name):
        values = by_target[name]
        return f"{float(values['eager']):.2f}, {min(map(float, values.values())):.2f}"

    (worst,) = (last for name, kind, _, last in actual if (name, kind) == ("time / cost model", "eager"))
    memory = min(map(float, by_target["memory at the time of checkpoint"].values()))
    model = float(by_target["time / cost model"]["eager"])
    columns = [both("time at the memory of checkpoint"), both("time at the memory of checkpoint reentrant")]
    columns += [f"{memory:.2f}", both("time at 5 % of plain's memory"), f"{model:.2f}, {float(worst):.2f}"]
    return f"| {cell} | {' | '.join(columns)} |"


@pytest.mark.parametrize("cell", list(cells.CELLS))
def test_the_readme_says_what_the_committed_data_say(cell):
    assert seen(cell) in (DATA.parent / "README.md").read_text().splitlines()


def test_the_readme_says_how_fast_schedules_are_iterated():
    speed = json.loads((DATA / "schedule_speed_100000_100.json").read_text())["times_faster"]
    text = " ".join((DATA.parent / "README.md").read_text().split())
    assert f"iterated {speed['instructions']:.1f} times as fast" in text
    assert f"as action objects {speed['actions']:.1f} times" in text


def layer(name):
    """What a drop-in layer takes of the time of torch's, and how many times less memory."""
    drop = json.loads((DATA / f"{name}.json").read_text())
    time = median(entry["membptt"] / entry["torch"] for entry in drop["rounds"])
    return time, drop["torch_peak_bytes"] / drop["peak_bytes"]


def test_the_page_on_layers_says_what_compiled_ones_take():
    time, saved = layer("drop_in_gru_compile_cpu_1000")
    root = DATA.parents[1]
    for page in ("docs/how-to/lstm.md", "CHANGELOG.md"):
        text = " ".join((root / page).read_text().split())
        assert f"{time:.2f} of the time of `torch.nn.GRU` in 1/{saved:.0f} of its memory" in text


def expected():
    """The rows of the front page's table, from the committed data."""
    lstm = record.load(record.path_of(DATA, "cpu", "lstm", 1000))
    by_kind = {}
    for line in report.targets(lstm):
        if actual := re.match(r"time at 5 % of plain's memory, (\w+): ([\d.]+)", line):
            by_kind[actual[1]] = float(actual[2])
    (whole,) = (entry["label"] for entry in lstm["methods"] if entry["label"].startswith("plain merged"))
    compiled = f"{by_kind['merged']:.2f} compiled (plain compiled alike: {report.ratio(lstm, whole, 'plain'):.2f})"
    cells = f"1/20 | {by_kind['eager']:.2f} eager, {compiled}"
    yield f"| `scan`, LSTMCell 256, 1,000 steps | {cells} |"
    time, saved = layer("drop_in_cpu_10000")
    yield f"| `membptt.nn.LSTM` 256, 10,000 steps | 1/{saved:.0f} | {time:.2f} of `torch.nn.LSTM` |"
    time, saved = layer("drop_in_gru_compile_cpu_1000")
    yield f"| `membptt.nn.GRU` 256, 1,000 steps, compiled | 1/{saved:.0f} | {time:.2f} of `torch.nn.GRU`, on the EPYC |"
    long = json.loads((DATA / "long_sequence_1000000.json").read_text())
    whole = long["plain"]["peak_bytes"] * long["steps"] / long["plain"]["steps"]
    for fraction in (1000, 10_000):
        run = long["runs"][f"1/{fraction}, compiled by 10"]
        time = median(run["seconds_a_step"]["membptt"]) / median(run["seconds_a_step"]["plain"])
        here, alike = fig09.MEASURED["epyc26m2"][fraction]
        beside = f"on the EPYC {here:.2f} (plain compiled alike: {alike:.2f})"
        cells = f"1/{whole / run['peak_bytes']:,.0f} | {time:.2f} a step, compiled (plain: eager); {beside}"
        yield f"| `scan`, GRU 64, 1,000,000 steps | {cells} |"


def compared(cell):
    """Return, by processor, the times of 1,000 steps of a cell over other libraries'."""
    return {where: cells[cell] for (where, steps), cells in fig10.AGAINST.items() if steps == 1000 and cell in cells}


@pytest.mark.parametrize(("cell", "sentence"), [("lstm", "LSTM 256 {}"), ("gru", "GRU 256 {}")])
def test_the_front_page_says_how_scan_compares_with_jax(cell, sentence):
    """Over all processors; that figure 10's numbers are those of the committed data is asserted there."""
    parts = []
    for library, whose in (("jax checkpoint", "`jax.checkpoint`'s time"), ("equinox", "equinox's checkpointed scan's")):
        times = [
            time
            for (_, steps), by_cell in fig10.AGAINST.items()
            for method, time in by_cell.get(cell, {}).items()
            if steps == 1000 and method.startswith(library)
        ]
        of = f" of {whose}" if cell == "lstm" else ""
        parts.append(f"{min(times):.2f} to {max(times):.2f}{of}")
    front = " ".join((Path(__file__).parents[1] / "README.md").read_text().split())
    assert sentence.format(" and ".join(parts)) in front


def test_the_front_page_and_the_benchmarks_name_the_processors_of_their_tables():
    front = (Path(__file__).parents[1] / "README.md").read_text()
    about = " ".join(front[front.index("## What to expect") : front.index("| gradient of |")].split())
    names = ["drop_in_cpu_10000", "side_by_side_cpu_lstm_1000", "long_sequence_1000000"]
    (first,) = {store.device_of(json.loads((DATA / f"{name}.json").read_text())) for name in names}
    other = store.device_of(json.loads((DATA / "long_sequence_1000000_epyc26m2.json").read_text()))
    here = store.device_of(json.loads((DATA / "drop_in_gru_compile_cpu_1000.json").read_text()))
    assert here == other
    assert about.index(f"`{first}`") < about.index(f"`membptt.nn.GRU` only, on an `{other}`")
    points = [record.load(record.path_of(DATA, "cpu", cell, 1000)) for cell in cells.CELLS]
    (only,) = {store.device_of(point) for point in points}
    assert f"At T = 1,000, on one thread of `{only}`, whose files" in (DATA.parent / "README.md").read_text()


def test_the_front_page_says_where_a_spiking_cell_was_slower_than_jax():
    spiking = compared("spiking")
    for times in spiking.values():
        assert min(time for method, time in times.items() if method.startswith("jax checkpoint")) > 1
    front = " ".join((Path(__file__).parents[1] / "README.md").read_text().split())
    seen = " and ".join(f"`{where}`" for where in spiking)
    assert f"a small spiking cell is faster under `jax.checkpoint`, seen on {seen} only" in front


def test_the_front_page_says_where_a_cell_with_attention_was_slower_than_jax():
    attention = compared("attention-memory")
    times = [time for methods in attention.values() for time in methods.values()]
    front = " ".join((Path(__file__).parents[1] / "README.md").read_text().split())
    seen = " and ".join(f"`{where}`" for where in attention)
    says = f"takes {min(times):.2f} to {max(times):.2f} times JAX's and equinox's time, seen on {seen} only"
    assert f"a cell with an attention memory {says}" in front


def test_the_front_page_says_what_the_committed_data_say():
    front = (Path(__file__).parents[1] / "README.md").read_text().splitlines()
    assert [row for row in expected() if row not in front] == []
