"""The figures: every claim is checked before it is drawn, every check can fail, and a file is the same in every run."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_schedules import EndReverse, Forward, MultistageCheckpointSchedule
from matplotlib.figure import Figure

from bench import charlm, gradient_time, machine, store
from membptt_proofs.cut import cut
from membptt_theory.actions import Advance
from membptt_theory.derive.chen_memory import memory_at_chens_cost
from membptt_theory.derive.reach import least_slots
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, optimal_cost
from paper_figs import (
    divide,
    fig01,
    fig02a,
    fig02b,
    fig03,
    fig04,
    fig05a,
    fig06,
    fig07,
    fig08,
    fig13,
    fig14,
    fig15,
    fig16,
    fig_charlm,
    make,
    overlay,
    per_step,
    style,
    timeline,
)
from paper_figs.evidence import DataMissingError, FigureClaimError, load_measured, require

ROOT = Path(__file__).parents[1]
COMPUTED = (
    "fig01",
    "fig02a",
    "fig03",
    "fig04",
    "fig05a",
    "fig06",
    "fig07",
    "fig08",
    "fig13",
    "fig14",
    "fig15",
    "fig16",
)


class OneForwardMore:
    """A table whose cost at one entry is one forward too many."""

    def __init__(self, table, steps, slots):
        self._table, self._at = table, (steps, slots)

    def __getattr__(self, name):
        return getattr(self._table, name)

    def cost(self, steps, slots):
        return self._table.cost(steps, slots) + ((steps, slots) == self._at)


def with_one_forward_more(module, monkeypatch, policy, steps, slots):
    build = module.build

    def tampered(name, *sizes, **options):
        table = build(name, *sizes, **options)
        return OneForwardMore(table, steps, slots) if name == policy else table

    monkeypatch.setattr(module, "build", tampered)


@pytest.mark.parametrize("name", COMPUTED)
def test_the_claim_of_a_computed_figure_holds_and_it_is_drawn(name, tmp_path):
    paths = make.make(name, tmp_path)
    assert [path.suffix for path in paths] == [".pdf", ".svg", ".png"]
    assert all(path.stat().st_size > 1000 for path in paths)
    assert sorted(tmp_path.iterdir()) == sorted(paths), "no temporary file is left"


@pytest.mark.parametrize(
    ("figure", "module", "policy", "steps", "slots"),
    [
        (fig02a, per_step, "hsm", 1000, 50),
        (fig02a, per_step, "hsm", 123, 10),
        (fig05a, per_step, "ism", 1000, 1000),
        (fig06, fig06, "msm", 1000, 100),
        (fig06, fig06, "ism", 1918, 20),  # HSM would overtake one step too early
    ],
    ids=str,
)
def test_a_table_with_one_forward_too_many_is_refused(figure, module, policy, steps, slots, monkeypatch):
    with_one_forward_more(module, monkeypatch, policy, steps, slots)
    with pytest.raises(FigureClaimError):
        figure.data()


@pytest.mark.parametrize(
    ("module", "targets"),
    [
        (fig02a, {10: 4635}),
        (fig05a, {10: 3641}),
        (fig03, {4: 8}),
        (fig06, {50: (310, 2723, 2663)}),
        (fig06, {50: (309, 2723, 2664)}),
        (fig07, {2: 0.665}),
    ],
)
def test_a_wrong_target_is_refused(module, targets, monkeypatch):
    monkeypatch.setattr(module, "TARGETS", targets)
    with pytest.raises(FigureClaimError):
        module.data()


def test_the_memory_of_another_equation_is_refused(monkeypatch):
    build = fig07.build
    monkeypatch.setattr(fig07, "build", lambda *sizes, internal, internal_known: build(*sizes, internal=internal))
    with pytest.raises(FigureClaimError, match="the ratio is"):
        fig07.data()


def test_a_ratio_above_the_stated_bound_is_refused(monkeypatch):
    monkeypatch.setattr(fig07, "NEVER_ABOVE", {2: 0.664, 5: 0.52, 10: 0.40})
    with pytest.raises(FigureClaimError, match="the ratio reaches"):
        fig07.data()


TIMELINES = pytest.mark.parametrize("module", [fig01, fig03, fig04, fig08], ids=lambda module: module.__name__)


@TIMELINES
def test_a_timeline_is_refused_where_the_runtime_executes_something_else(module, monkeypatch):
    executed = timeline.executed
    monkeypatch.setattr(timeline, "executed", lambda *sizes: executed(*sizes)[:-1])
    with pytest.raises(FigureClaimError, match="runtime executes other forwards"):
        module.data()


@TIMELINES
def test_a_timeline_of_a_poorer_stream_is_refused(module, monkeypatch):
    schedule = PolicyTable.schedule
    monkeypatch.setattr(PolicyTable, "schedule", lambda table, steps, slots: schedule(table, steps, slots - 2))
    with pytest.raises(FigureClaimError, match="forwards, not"):
        module.data()


def test_a_stream_in_more_slots_than_stated_is_refused(monkeypatch):
    peak = dataclasses.replace(timeline.meter([], steps=0, sizes=fig03.build("ism", 1, 1).sizes), peak=5)
    monkeypatch.setattr(timeline, "meter", lambda *stream, **options: peak)
    with pytest.raises(FigureClaimError, match="5 slots are used at once, not 4"):
        fig03.data()


def test_the_timeline_draws_every_forward_of_the_stream():
    (short, long) = fig03.data()
    assert [len(short.cells), len(long.cells)] == [7 + 4, 24 + 10]
    stream = list(fig03.build("hsm", 10, 4).schedule(10, 4))
    advanced = sum(action.stop - action.start for action in stream if isinstance(action, Advance))
    assert sum(kind is timeline.Kind.ADVANCED for _, kind in long.cells) == advanced
    for time in range(len(long.cells)):
        assert sum(begin <= time < end for _, begin, end in long.hidden) <= 4


@pytest.mark.parametrize("module", [fig01, fig04])
@pytest.mark.parametrize(("name", "message"), [("SPLIT", "first split is 4, not 5"), ("FORWARDS", "forwards, not")])
def test_a_division_that_is_not_the_streams_is_refused(module, name, message, monkeypatch):
    monkeypatch.setattr(module, name, getattr(module, name) + 1)
    with pytest.raises(FigureClaimError, match=message):
        module.data()


@pytest.mark.parametrize("module", [fig01, fig04])
def test_a_division_whose_parts_are_not_in_a_row_is_refused(module, monkeypatch):
    drawn, schedule = module.data().timeline, PolicyTable.schedule
    monkeypatch.setattr(divide, "timeline", lambda *query, **stated: drawn)
    monkeypatch.setattr(PolicyTable, "schedule", lambda *query: list(schedule(*query))[::-1])
    with pytest.raises(FigureClaimError, match="is not divided at y = 4"):
        module.data()


def test_the_rows_of_a_division_are_those_of_its_timeline():
    for module in (fig01, fig04):
        actual = module.data()
        begins, ends = zip(*(part[:2] for part in actual.parts), strict=True)
        assert (begins[0], ends[-1]) == (0, len(actual.timeline.cells))
        assert begins[1:] == ends[:-1]
        for begin, end, forwards, _ in actual.parts:
            rows = [kind for _, kind in actual.timeline.cells[begin:end]]
            assert sum(kind is not timeline.Kind.BACK for kind in rows) == forwards


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SPACING", (28, 21, 15, 10, 8), "the spacing is"),
        ("AVERAGE_COSTS", (324, 320, 84), "spacing, optimum and longest are"),
        ("AVERAGE", (4, 4), "the spacing is"),
        ("EXECUTED", (15, 10, 5, 5), "stores at distances"),
        ("EACH", (3, 4), "forwards, not 119"),
        ("FORWARDS", 118, "forwards, not 118"),
    ],
)
def test_another_spacing_is_refused(name, value, message, monkeypatch):
    monkeypatch.setattr(fig08, name, value)
    with pytest.raises(FigureClaimError, match=message):
        fig08.data()


# how far from optimal, and when it is half


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("COUNTEREXAMPLES", {(3, 7, 4): (14, 14)}, r"take \(14, 13\), not \(14, 14\)"),
        ("COUNTEREXAMPLES", {(3, 7, 5): (14, 13)}, "m = 5: MSM"),
        (
            "WORST",
            {key: dict.fromkeys(value, (2, 16)) for key, value in fig13.WORST.items()},
            "% above the optimum at m = ",
        ),
    ],
    ids=str,
)
def test_another_distance_from_the_optimum_is_refused(name, value, message, monkeypatch):
    monkeypatch.setattr(fig13, name, value)
    with pytest.raises(FigureClaimError, match=message):
        fig13.data()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("B3_FIRST", (80308, 28), "B3 first fails at"), ("B3_LARGEST", (99999, 29, 3.0499), "is largest at")],
)
def test_another_counterexample_of_b3_is_refused(name, value, message, monkeypatch):
    monkeypatch.setattr(fig13, name, value)
    monkeypatch.setattr(fig13, "_near", fig13._far)  # the search takes seconds and has its own mutants
    with pytest.raises(FigureClaimError, match=message):
        fig13.data()


@pytest.mark.parametrize(
    ("policy", "steps", "slots", "message"),
    [
        ("msm_plus", 60, 19, "below the optimum at m = .19."),
        ("msm_plus", 8, 12, "msm_plus, m = 12: the table has"),
        ("msm", 9, 12, "MSM, separate, m = 12: 2 forwards more than"),
    ],
)
def test_a_reference_or_policy_with_one_forward_too_many_is_refused(policy, steps, slots, message, monkeypatch):
    with_one_forward_more(fig13, monkeypatch, policy, steps, slots)
    with pytest.raises(FigureClaimError, match=message):
        fig13._check_worst(fig13._far("separate") if steps == 60 else fig13._near("separate"))


def test_a_revolve_that_the_search_beats_is_refused(monkeypatch):
    monkeypatch.setattr(fig13, "optimal_cost", lambda *sizes: optimal_cost(*sizes) + 1)
    with pytest.raises(FigureClaimError, match="revolve, m = 1: the search takes"):
        fig13._near("separate")


@pytest.mark.parametrize(("steps", "slots"), [(9, 4), (60, 7), (60, 80)])
def test_what_is_called_revolve_is_revolve(steps, slots):
    forwards = 0
    for action in MultistageCheckpointSchedule(steps, min(slots, steps - 1), 0):
        forwards += action.n1 - action.n0 if isinstance(action, Forward) else 0
        if isinstance(action, EndReverse):
            break
    assert forwards == fig13._strategies(steps, "separate")["revolve"][slots - 1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LAST_HALF", {5: 268}, "the last t at half or less is 267, not 268"),
        ("TARGETS", {5: 99}, "99 slots are not the fewest"),
        ("TARGETS", {5: 97}, "97 slots are not the fewest"),
        ("LARGEST", 10**3, "off its limit"),
        ("limit", lambda beta: 0.99 * (2 * beta) ** 0.5 / (1 + beta), "off its limit"),
        ("memory_at_chens_cost", lambda steps, beta: memory_at_chens_cost(steps // 10**4, beta), "best segment"),
        ("SEPARATE_TARGETS", {3: 76}, "the table needs 75 slots"),
        ("separate_limit", lambda beta: 0.99 * (2 / (1 + beta)) ** 0.5, "separate storage at t = 1000000000"),
    ],
)
def test_another_half_is_refused(name, value, message, monkeypatch):
    monkeypatch.setattr(fig14, name, value)
    with pytest.raises(FigureClaimError, match=message):
        fig14.data()


def test_a_closed_form_that_is_not_the_tables_is_refused(monkeypatch):
    monkeypatch.setattr(fig14, "least_slots", lambda t, beta: least_slots(t, beta) + (t == 500))
    with pytest.raises(FigureClaimError, match="beta = 2, t = 500: the table needs"):
        fig14.data()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SEED", 28, r"the schedule says 30 >= 26 >= 22 >= 22, not 31 >= 26 >= 23 >= 22"),
        ("optimal_cost", lambda *_: 40, "does not fall"),
        (
            "cut",
            lambda *sizes: dataclasses.replace(cut(*sizes), right=(*build("hsm", 4, 3).schedule(4, 3),)),
            "3 slots",
        ),
    ],
)
def test_another_cut_is_refused(name, value, message, monkeypatch):
    monkeypatch.setattr(fig16, "OTHERS", 0)
    monkeypatch.setattr(fig16, name, value)
    with pytest.raises(FigureClaimError, match=message):
        fig16.data()


# measured figures, on a small file measured here

SMALL = {"HIDDEN": 3, "BATCH": 2, "LENGTHS": (4, 6), "SLOTS": (2, 3, 4, 5), "ROUNDS": 2, "SINGLE": 5}


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATA", tmp_path / "data")
    for name, value in SMALL.items():
        monkeypatch.setattr(gradient_time, name, value)


def settled(raw):
    """Replace the tiny run's noisy times by some that satisfy the claim."""
    for entry in raw["rounds"]:
        entry["operations"] = {"advance": 1.0, "taped": 1.0, "backward": 2.0}
        entry["plain"] = [3 * t for t in raw["lengths"]]
        for m, forwards in raw["forwards"].items():
            entry["scan"][m] = [1.1 * (cost + 2 * t) for cost, t in zip(forwards, raw["lengths"], strict=True)]
    return raw


@pytest.fixture
def measured(small):
    gradient_time.measure("fig02b", "hsm")
    raw = settled(load_measured("fig02b"))
    store.save_figure("fig02b", raw)
    return raw


def test_a_measured_file_names_its_origin_and_is_drawn(measured, tmp_path):
    for key in ("cpu", "threads", "versions", "command", "repeats", "table", "dtype", "hidden", "batch"):
        assert measured[key], key
    actual = fig02b.data()
    assert actual.ratio[2] == pytest.approx(1.1)
    assert actual.predicted[3][-1] == pytest.approx(measured["forwards"]["3"][-1] + 2 * 6)
    assert len(make.make("fig02b", tmp_path)) == 3


def test_a_processor_of_a_long_name_is_told_within_the_figure(measured, tmp_path):
    name = "A Processor of Some Company (of a family, of a model, of a very long name)"
    path = store.path_of("fig02b")
    path.write_text(path.read_text().replace(measured["cpu"], name))
    (drawn,) = make.make("fig02b", tmp_path, formats=("svg",))
    text = drawn.read_text()
    assert name not in text
    assert all(word in text for word in name.split())


def edit_digest(raw):
    raw["table"]["digest"] = "0" * 64


def edit_forwards(raw):
    raw["forwards"]["2"][1] += 1


def edit_times(raw):
    for entry in raw["rounds"]:
        entry["scan"]["3"][0] *= 2


def edit_plain(raw):
    for entry in raw["rounds"]:
        entry["plain"][0] *= 2


def edit_order(raw):
    for entry in raw["rounds"]:
        entry["scan"]["5"][1] = entry["scan"]["4"][1] * 1.05


def edit_rounds(raw):
    raw["rounds"].pop()


def edit_policy(raw):
    raw["policy"] = "ism"


def edit_completeness(raw):
    raw["complete"] = False


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_digest, "measured with table"),
        (edit_forwards, "the table says"),
        (edit_times, "of the predicted time"),
        (edit_plain, "m = 0 takes 1.00 to 2.00"),
        (edit_order, "out of order"),
        (edit_rounds, "rounds, not"),
        (edit_policy, "policy"),
        (edit_completeness, "unfinished"),
    ],
)
def test_an_edited_measured_file_is_refused(measured, edit, message):
    edit(measured)
    store.save_figure("fig02b", measured)
    with pytest.raises(FigureClaimError, match=message):
        fig02b.data()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"figure": "fig05b", "complete": true}'])
def test_a_damaged_measured_file_is_one_clear_error(text, small):
    store.DATA.mkdir()
    store.path_of("fig02b").write_text(text)
    with pytest.raises(FigureClaimError, match=r"fig02b\.json"):
        fig02b.data()


def test_a_measurement_that_was_cut_off_is_resumed(small, monkeypatch):
    once = gradient_time.Workload.round
    calls = []

    def cut_off(self, lengths):
        calls.append(lengths)
        if len(calls) == 3:  # the first is the warm-up
            raise KeyboardInterrupt
        return once(self, lengths)

    monkeypatch.setattr(gradient_time.Workload, "round", cut_off)
    with pytest.raises(KeyboardInterrupt):
        gradient_time.measure("fig02b", "hsm")
    with pytest.raises(FigureClaimError, match="unfinished"):
        load_measured("fig02b")
    monkeypatch.setattr(gradient_time.Workload, "round", once)
    gradient_time.measure("fig02b", "hsm")
    actual = load_measured("fig02b")
    assert (len(actual["rounds"]), actual["processes"]) == (2, 2)


@pytest.mark.parametrize("content", ["{", "{}", '{"figure": "fig02b", "format": "membptt-measured/1"}'])
def test_a_measurement_is_not_added_to_a_file_that_is_none(content, small):
    store.DATA.mkdir()
    store.path_of("fig02b").write_text(content)
    with pytest.raises(store.StoreError, match=r"fig02b\.json"):
        gradient_time.measure("fig02b", "hsm")
    assert store.path_of("fig02b").read_text() == content


def test_a_measurement_under_other_conditions_is_not_mixed_in(measured, monkeypatch):
    store.save_figure("fig02b", {**measured, "complete": False, "cpu": f"{machine.cpu_name()}, another one"})
    with pytest.raises(store.StoreError, match="another cpu"):
        gradient_time.measure("fig02b", "hsm")


@pytest.mark.parametrize("name", ["fig02b", "fig05b"])
def test_the_committed_measurement_satisfies_its_claim(name):
    try:
        actual = make.load(name).data()
    except DataMissingError:
        pytest.skip(f"{name} is not measured yet")
    assert len(actual.seconds) == 6  # standard BPTT and five budgets


def test_a_figure_without_data_says_so_and_is_skipped(small, tmp_path, capsys):
    assert make.main(["fig02b", "--out", str(tmp_path / "out")]) == 0
    assert "fig02b: skipped" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


# the workload


@pytest.fixture(scope="module")
def trained():
    return fig_charlm.data(quick=True)


def test_scan_trains_the_character_model_like_autograd(trained, tmp_path):
    assert trained.difference <= 1e-10
    with make.style():
        fig_charlm.draw(trained).savefig(tmp_path / "figure.png")


def test_a_loss_that_differs_is_refused(trained):
    losses = [loss * (1 + 3e-10) for loss in trained.scanned.losses]
    with pytest.raises(FigureClaimError, match="differs from autograd"):
        fig_charlm.check(trained.setup, "", trained.plain, dataclasses.replace(trained.scanned, losses=losses))


def test_a_forward_too_many_is_refused(trained):
    forwards = [*trained.scanned.forwards[:-1], trained.scanned.forwards[-1] + 1]
    with pytest.raises(FigureClaimError, match="the table says"):
        fig_charlm.check(trained.setup, "", trained.plain, dataclasses.replace(trained.scanned, forwards=forwards))


def test_a_model_that_learns_nothing_is_refused(trained):
    flat = [trained.plain.losses[0]] * trained.setup.updates
    plain, scanned = (dataclasses.replace(curve, losses=flat) for curve in (trained.plain, trained.scanned))
    with pytest.raises(FigureClaimError, match="nothing was learned"):
        fig_charlm.check(trained.setup, "", plain, scanned)


def test_the_text_is_deterministic_and_may_be_any_path(tmp_path):
    assert charlm.read_text(50_000) == charlm.read_text(60_000)[:50_000]
    (tmp_path / "b.py").write_text("two")
    (tmp_path / "a.py").write_text("one")
    assert charlm.read_text(6, tmp_path) == "onetwo"
    assert charlm.read_text(2, tmp_path / "b.py") == "tw"
    with pytest.raises(ValueError, match="holds 6 characters of text, 7 are wanted"):
        charlm.read_text(7, tmp_path)


def test_too_little_text_is_one_clear_error():
    with pytest.raises(ValueError, match="too few"):
        charlm.train_both("x" * 100, fig_charlm.QUICK)


# the command


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two figures, drawn in another process with another hash seed."""
    out = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-m", "paper_figs.make", "fig02a", "fig03", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True)
    return out


def test_files_are_the_same_bytes_in_every_run(drawn):
    assert make.main(["fig02a", "fig03", "--check", "--out", str(drawn)]) == 0


def test_files_bear_no_date(drawn):
    for path in drawn.iterdir():
        assert not any(word in path.read_bytes() for word in (b"CreationDate", b"<dc:date>", b"date:create"))


def test_a_changed_or_absent_file_fails_the_check(drawn, capsys):
    (drawn / "fig02a.svg").write_bytes((drawn / "fig02a.svg").read_bytes() + b" ")
    (drawn / "fig03.pdf").unlink()
    assert make.main(["fig02a", "fig03", "--check", "--out", str(drawn)]) == 1
    errors = capsys.readouterr().err
    assert "fig02a.svg" in errors
    assert "fig03.pdf is absent" in errors


def test_a_false_claim_writes_nothing_and_fails_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fig03, "TARGETS", {4: 8})
    assert make.main(["fig03", "--out", str(tmp_path)]) == 1
    assert "fig03: FAILED" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_lists_every_figure(capsys):
    assert make.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name} " in listed for name in make.FIGURES)
    assert {path.stem for path in (ROOT / "paper_figs").glob("fig*.py")} == set(make.FIGURES)


def test_an_unknown_figure_is_one_clear_error(capsys):
    with pytest.raises(SystemExit):
        make.main(["fig99"])
    assert "unknown figure 'fig99'" in capsys.readouterr().err


def test_a_computed_figure_has_nothing_to_measure(capsys):
    assert make.main(["fig03", "--measure"]) == 1
    assert "nothing to measure" in capsys.readouterr().err


def test_a_false_claim_is_an_exception_under_python_O():
    code = "from paper_figs.evidence import require; require(False, 'the sky is green')"
    ran = subprocess.run([sys.executable, "-O", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "FigureClaimError: the sky is green" in ran.stderr
    require(True, "nothing happens")


def test_the_prediction_counts_each_step_recorded_once():
    table = per_step.build("hsm", 10, 4)
    operations = {"advance": 1.0, "taped": 10.0, "backward": 100.0}
    assert overlay._predict(table, operations, 4)[-1] == (24 - 10) + 10 * 110
    assert overlay._predict(table, operations, overlay.PLAIN)[-1] == 10 * 110


# the training run that is committed


def test_the_committed_training_run_satisfies_its_claim():
    try:
        actual = fig_charlm.data()
    except DataMissingError:
        pytest.skip("fig_charlm is not measured yet")
    assert len(actual.plain.losses) == actual.setup.updates


def test_a_training_run_is_saved_and_read_back(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "DATA", tmp_path)
    for module in (charlm, fig_charlm):
        monkeypatch.setattr(module, "Setup", lambda: fig_charlm.QUICK)
    charlm.measure()
    actual = fig_charlm.data()
    assert actual.setup == fig_charlm.QUICK
    raw = load_measured("fig_charlm")
    assert {"cpu", "versions", "sha256", "command"} <= raw.keys()
    raw["setup"]["slots"] += 1
    store.save_figure("fig_charlm", raw)
    with pytest.raises(FigureClaimError, match="was trained with"):
        fig_charlm.data()


def online_with(monkeypatch, name, **changed):
    wrong = dataclasses.replace(fig15.POLICIES[name], **changed)
    monkeypatch.setattr(fig15, "POLICIES", {**fig15.POLICIES, name: wrong})


@pytest.mark.parametrize(
    ("name", "other", "says"),
    [
        ("for_every_t", "greedy", "for_every_t, m = 5: worst is"),
        ("greedy", "staged", "greedy, m = 5: worst is"),
        ("equinox", "wang_moin_iaccarino", "equinox, m = 5: worst is"),
    ],
)
def test_another_online_policy_than_that_of_figure_15_is_refused(name, other, says, monkeypatch):
    online_with(monkeypatch, name, stores=fig15.POLICIES[other].stores)
    with pytest.raises(FigureClaimError, match=says):
        fig15.data()


def test_online_streams_that_are_not_what_is_counted_are_refused(monkeypatch):
    right = fig15.schedule
    monkeypatch.setattr(fig15, "schedule", lambda t, m, policy: right(t, m - 1, policy=policy))
    with pytest.raises(FigureClaimError, match="executed"):
        fig15.data()


def test_a_panel_without_a_title_is_refused():
    figure, (left, right) = style.panels(2)
    left.set_title("(a)  memory")
    right.set_title("(b)")
    right.set(xlabel="steps", ylabel="bytes")
    assert style.untitled(figure) == ["steps / bytes"]
    right.set_title("(b)  time", loc="left")
    assert style.untitled(figure) == []


def test_a_panel_below_a_titled_one_needs_no_title_of_its_own():
    figure = Figure()
    above, below = figure.subplots(2, 1)
    above.set_title("cost")
    assert style.untitled(figure) == []
    above.set_title("")
    below.set_title("cost", loc="left")
    assert style.untitled(figure) == []


def test_a_legend_wider_than_its_figure_is_seen():
    figure, (ax,) = style.panels(1)
    for name in ("one budget", "another budget"):
        ax.plot([1, 2], label=name)
    figure.legend(loc="outside lower center", ncols=2)
    figure.draw_without_rendering()
    assert style.overhanging(figure) == []
    figure.legend(title="a budget and its policy " * 6, loc="outside lower center")
    figure.draw_without_rendering()
    assert [side.partition(":")[0] for side in style.overhanging(figure)] == ["left", "right"]


def test_a_figure_that_is_cut_off_is_not_written(tmp_path, monkeypatch):
    def draw(costs):
        figure, (ax,) = style.panels(1)
        ax.set_title("a title that is longer than its figure is wide " * 3, loc="left")
        return figure

    monkeypatch.setattr(fig02a, "draw", draw)
    with pytest.raises(FigureClaimError, match=r"cut off, in points: .*right"):
        make.make("fig02a", tmp_path)


def test_a_figure_without_titles_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(fig02a, "draw", lambda costs: style.panels(1)[0])
    with pytest.raises(FigureClaimError, match="panels without a title"):
        make.make("fig02a", tmp_path)


@pytest.mark.parametrize("name", make.FIGURES)
def test_the_text_of_a_picture_can_be_searched(name):
    picture = (make.OUT.parent / "gallery" / f"{name}.svg").read_text()
    text = re.sub("<[^>]*>", "", " ".join(re.findall(r"<text.*?</text>", picture, flags=re.DOTALL)))
    assert len(re.findall(r"[a-z]{4,}", text)) > 2


def test_letters_of_one_line_become_one_piece_of_text_each_where_it_was():
    letters = '<tspan x="0" y="1" style="s">a</tspan>\n <tspan x="2" y="1" style="s">&lt;</tspan>'
    other = '<tspan x="3" y="2" style="s">c</tspan>'
    assert make.joined(letters + other) == '<tspan x="0 2" y="1" style="s">a&lt;</tspan>' + other
    assert make.joined(other) == other


def test_names_in_a_picture_tell_their_order_and_nothing_else():
    """So the last bits of a layout, of which they are made, do not matter."""
    picture = '<path id="{0}"/><use href="#{0}"/><g clip-path="url(#{1})"/><clipPath id="{1}"/><text>{1}</text>'
    first, second = picture.format("m0123456789", "pabcdef0123"), picture.format("mffffffffff", "p0000000000")
    assert make.numbered(first) == picture.format("m1", "p2").replace("<text>p2", "<text>pabcdef0123")
    assert make.numbered(second).replace("p0000000000", "pabcdef0123") == make.numbered(first)


def test_an_svg_says_where_things_lie_in_hundredths_of_a_point_and_nothing_else_in_it_is_rounded():
    picture = '<path d="M -0.001 7.126 {0}\nz"/><use x="{0}" y="-12.5049"/><g transform="scale({0})">{0}</g>'
    shorter = '<path d="M 0 7.13 1234.57\nz"/><use x="1234.57" y="-12.5"/><g transform="scale({0})">{0}</g>'
    assert make.rounded(picture.format("1234.56789")) == shorter.format("1234.56789")
