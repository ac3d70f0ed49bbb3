"""A budget in bytes: what is measured is never more than what was planned, and close to it."""

import gc
import json
import tempfile
import time
from dataclasses import make_dataclass, replace

import optree
import pytest
import torch

import membptt
from membptt import Indexed, Plan, PlanError, SlowTier, meter, scan
from membptt.calls import remembered
from membptt.calls.execute import execute
from membptt.planning.profile import Moment, timed
from membptt.planning.tally import Tally
from membptt.planning.trial import Trial
from membptt.state.states import Internal
from membptt_theory.actions import Prices
from membptt_theory.footprint import peak_bytes
from membptt_theory.options import readable
from membptt_theory.policies import POLICIES, planned

from .cells import CELLS, Lstm, ResidualMlp, gradients, plain, problem, relative_error, timed_step


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch):
    monkeypatch.setattr("membptt.planning.trial._SECONDS", 0)


class LstmSegment(torch.nn.Module):
    """A fused core."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4)

    def init(self, batch):
        return tuple(torch.randn(1, batch, 4) for _ in range(2))

    def forward(self, carry, xs):
        ys, carry = self.lstm(xs, carry)
        return carry, ys


class Masked(torch.nn.Module):
    """Every core refers to one large constant, hands one on in its carry, and saves a product of both."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.randn(2, 50))
        self.w = torch.nn.Parameter(torch.randn(50))

    def init(self, batch):
        return torch.randn(batch, 50), torch.randn(batch, 50)

    def forward(self, carry, x):
        h, constant = carry
        return (torch.tanh(h * self.w * self.mask + constant.detach()), constant.detach()), x.sum()


def measured_peak(step, init, xs, plan, **call):
    with meter() as report:
        _, ys = scan(step, init, xs, plan=plan, **call)
        optree.tree_leaves(ys)[0].sum().backward()
    assert report.live_bytes == 0
    assert report.forwards == plan.chosen.forwards
    if plan.chosen.tiers:
        tiers = plan.chosen.tiers
        assert (report.writes, report.reads, report.slow_peak_bytes) == (tiers.writes, tiers.reads, tiers.bytes)
        assert report.cost(tiers.prices) == plan.chosen.schedule().cost
    return report.peak_bytes


@pytest.fixture
def _transfers_for_nothing(monkeypatch):
    """However busy the machine is, two tiers are the fastest."""
    timed = Trial.timed
    monkeypatch.setattr(Trial, "timed", lambda *call: [replace(sizes, write=0.0, read=0.0) for sizes in timed(*call)])


@pytest.mark.usefixtures("_transfers_for_nothing")
@pytest.mark.parametrize("make", [*CELLS, Masked])
@pytest.mark.parametrize("bound", [None, 2, 7])
def test_measured_peak_of_two_tiers_is_at_most_the_planned_one_and_within_a_tenth_of_it(make, bound):
    chosen = set()
    for steps, chunk in ((60, 1), (61, 7), (33, 2)):
        step, init, xs = problem(make, steps, torch.float32)
        floor = smallest_budget(step, init, xs, chunk=chunk)
        for budget in (floor, 3 * floor // 2, 2 * floor, 5 * floor):
            plan = membptt.plan(step, init, xs, budget=budget, policy="hsm", chunk=chunk, spill=SlowTier(bound))
            peak = measured_peak(step, init, xs, plan)
            assert 0.9 * plan.peak_bytes <= peak <= plan.peak_bytes <= budget
            if plan.chosen.tiers and bound:
                assert plan.chosen.tiers.peak <= bound
            chosen.add(plan.chosen.tiers is not None)
    assert True in chosen


def test_a_step_whose_states_all_belong_to_the_caller_is_planned():
    xs = torch.ones(5, 3, requires_grad=True)
    plan = membptt.plan(lambda carry, x: (x, carry), torch.ones(3), xs, budget="1KiB")
    assert plan.chosen.measured.hidden == 0
    assert {option.policy for option in plan.options} == set(planned())


class Clock:
    """Every reading is a tick after the one before, or a hundred while the machine is busy."""

    def __init__(self, busy=range(0)):
        self.busy, self.readings, self.now = busy, 0, 0.0

    def __call__(self):
        self.now += 100 if self.readings in self.busy else 1
        self.readings += 1
        return Moment(self.now, self.now, 0)


@pytest.mark.parametrize("policy", ["hsm", "ism", "msm_plus"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_the_seconds_of_a_plan_are_those_of_a_gradient(policy, chunk, monkeypatch):
    """A clock that only work moves: 1 for a step without graph, 2 with it, 3 for its backward, 50 for a call."""
    w, now = torch.ones(2, requires_grad=True), [0.0]
    step = timed_step(w, now, ahead=1, graph=2, backward=3)

    def called(*given, **options):
        now[0] += 50
        return execute(*given, **options)

    monkeypatch.setattr("membptt.planning.profile.now", lambda: Moment(now[0], now[0], 0))
    for user in ("membptt.calls.plan", "membptt.calls.scan"):
        monkeypatch.setattr(f"{user}.execute", called)
    init, xs = torch.zeros(2), torch.ones(200, 2)
    plan = membptt.plan(step, init, xs, budget=250 * chunk, params=[w], chunk=chunk, policy=policy)
    assert plan.chosen.forwards > 1.2 * plan.chosen.cores
    before = now[0]
    scan(step, init, xs, plan=plan, params=[w])[0].sum().backward()
    assert plan.seconds == pytest.approx(now[0] - before, rel=0.1)
    assert plan.chosen.measured.call == pytest.approx(50, rel=0.1)


def test_a_run_by_a_plan_weighs_the_graph_of_a_core_once(monkeypatch):
    step, init, xs = problem(Lstm, 20, torch.float32)
    plan = membptt.plan(step, init, xs, budget="1MiB", chunk=2, policy="ism")
    weighed = []
    monkeypatch.setattr("membptt.run.promise.saved_by", lambda nodes: weighed.append(len(nodes)) or {})
    gradients(scan(step, init, xs, plan=plan), step, init, xs)
    assert len(weighed) == 1


def test_planning_under_a_meter_counts_nothing():
    step, init, xs = problem(Lstm, 8, torch.float32)
    with meter() as report:
        membptt.plan(step, init, xs, budget="1MiB")
    assert (report.advanced, report.recorded, report.backwards, report.peak_bytes) == (0, 0, 0, 0)


def test_while_cores_are_timed_no_graph_is_held_that_shares_nothing(monkeypatch):
    step, init, xs = problem(Lstm, 8, torch.float32)
    looked, held = Trial.looked, []

    def counting(self, weighed):
        held.append(sum(type(each) is Internal for each in gc.get_objects()))
        return looked(self, weighed)

    monkeypatch.setattr(Trial, "looked", counting)
    gc.collect()
    before = sum(type(each) is Internal for each in gc.get_objects())
    membptt.plan(step, init, xs, budget="1MiB")
    assert held == [before]


def test_planning_calls_no_hook_of_a_parameter():
    step, init, xs = problem(Lstm, 8, torch.float32)
    seen = []
    for parameter in step.parameters():
        parameter.register_hook(seen.append)
    membptt.plan(step, init, xs, budget="1MiB", policy="hsm")
    assert not seen


@pytest.mark.parametrize(("waits", "seconds"), [(0, 1.0), (1, 10.0)])
def test_what_others_do_meanwhile_takes_no_time_of_a_thread_that_waits_for_nothing(waits, seconds, monkeypatch):
    """It runs one second of ten."""
    moments = iter([Moment(0.0, 0.0, 5), Moment(10.0, 1.0, 5 + waits)])
    monkeypatch.setattr("membptt.planning.profile.now", lambda: next(moments))
    assert timed(lambda: "done", [torch.device("cpu")]) == ("done", seconds)


def test_a_step_that_waits_is_timed_with_that():
    assert timed(lambda: time.sleep(0.02), [])[1] >= 0.02


def test_a_system_that_tells_no_waiting_is_timed_by_the_wall(monkeypatch):
    monkeypatch.setattr("membptt.planning.profile.RUSAGE_THREAD", None)
    monkeypatch.setattr("membptt.planning.profile.time.thread_time", lambda: 0.0)
    assert timed(lambda: None, [])[1] > 0


@pytest.mark.parametrize("half", [0, 1])
def test_a_machine_that_is_busy_half_the_time_changes_no_measured_time(half, monkeypatch):
    step, init, xs = problem(Lstm, 20, torch.float32)

    def planned(clock):
        monkeypatch.setattr("membptt.planning.profile.now", clock)
        return membptt.plan(step, init, xs, budget="1MiB", spill=True)

    calm = Clock()
    expected = planned(calm)
    middle = calm.readings // 2
    busy = planned(Clock([range(middle), range(middle, 2 * middle)][half]))
    assert {option.measured for option in busy.options} == {option.measured for option in expected.options}


def test_a_slow_tier_of_measured_prices_competes_with_one_tier():
    step, init, xs = problem(Lstm, 60, torch.float32)
    budget = 3 * smallest_budget(step, init, xs, chunk=1) // 2
    plan = membptt.plan(step, init, xs, budget=budget, chunk=1, spill=True)
    (two,) = [option for option in plan.options if option.tiers]
    sizes, prices = two.measured, two.tiers.prices
    assert {option.policy for option in plan.options if not option.tiers} >= {"hsm", "ism"}
    assert sizes.slow == sizes.hidden
    assert sizes.transit == 0
    assert prices.forward == 16
    assert abs(prices.write / 16 - sizes.write / sizes.advance) <= 1 / 32
    assert abs(prices.read / 16 - sizes.read / sizes.advance) <= 1 / 32
    transfers = two.tiers.writes * sizes.write + two.tiers.reads * sizes.read
    assert two.seconds == pytest.approx(
        (two.forwards - 60) * sizes.advance + 60 * sizes.backprop + transfers + sizes.call
    )


@pytest.mark.usefixtures("_transfers_for_nothing")
def test_random_states_are_in_the_slow_bytes_of_a_step_that_draws():
    def step(carry, x):
        return torch.nn.functional.dropout(carry, 0.5) + x, None

    carry, xs = torch.ones(3, requires_grad=True), torch.ones(40)
    plan = membptt.plan(step, carry, xs, budget="60", chunk=1, spill=True, policy="hsm")
    assert plan.chosen.measured.slow == 12 + torch.get_rng_state().nbytes
    with meter() as report:
        scan(step, carry, xs, plan=plan)[0].sum().backward()
    assert report.slow_peak_bytes == plan.chosen.tiers.bytes > 0


@pytest.mark.usefixtures("_transfers_for_nothing")
def test_a_plan_in_two_tiers_survives_a_file_and_is_executed_in_a_directory(tmp_path, monkeypatch):
    step, init, xs = problem(Lstm, 25, torch.float64)
    plan = membptt.plan(step, init, xs, budget="1KiB", chunk=1, spill=SlowTier(9), policy="hsm")
    assert plan.chosen.tiers.slots == 9
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    expected = gradients(plain(step, init, xs), step, init, xs)
    places, make = set(), tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *, dir: places.add(dir) or make(dir=dir))
    result = scan(step, init, xs, plan=loaded, spill=SlowTier(directory=tmp_path))
    assert relative_error(gradients(result, step, init, xs), expected) <= 1e-10
    assert places == {tmp_path}
    with pytest.raises(ValueError, match="must be a folder that is there"):
        SlowTier(directory=tmp_path / "none")
    with pytest.raises(ValueError, match="names a directory only"):
        scan(step, init, xs, plan=loaded, spill=SlowTier(3))


@pytest.mark.usefixtures("_transfers_for_nothing")
def test_a_plan_of_transfers_that_the_scan_does_not_make_is_seen_to_be_wrong():
    """The comparison of counts notices a plan whose table is another one."""
    step, init, xs = problem(Lstm, 30, torch.float32)
    plan = membptt.plan(step, init, xs, budget=1000, chunk=1, policy="hsm", spill=True)
    wrong = replace(plan.chosen, tiers=replace(plan.chosen.tiers, prices=Prices(1, 30, 30)))
    measured_peak(step, init, xs, plan)
    with pytest.raises(AssertionError):
        measured_peak(step, init, xs, replace(plan, options=(wrong,)))


@pytest.mark.parametrize("make", CELLS)
@pytest.mark.parametrize("policy", ["auto", *POLICIES])
def test_measured_peak_is_at_most_the_planned_one_and_within_a_tenth_of_it(make, policy):
    for steps, chunk in ((60, 1), (60, 7), (61, 30), (61, None)):
        step, init, xs = problem(make, steps, torch.float32)
        floor = smallest_budget(step, init, xs, chunk=chunk)
        for budget in (floor, 2 * floor, 10 * floor, 100 * floor):
            plan = membptt.plan(step, init, xs, budget=budget, policy=policy, chunk=chunk)
            peak = measured_peak(step, init, xs, plan)
            assert 0.9 * plan.peak_bytes <= peak <= plan.peak_bytes <= budget


@pytest.mark.parametrize("chunk", [5, None])
def test_a_segment_is_planned_like_a_step(chunk):
    step, init, xs = problem(LstmSegment, 40, torch.float32)
    floor = smallest_budget(step, init, xs, chunk=chunk, segments=True)
    plan = membptt.plan(step, init, xs, budget=3 * floor, chunk=chunk, segments=True)
    peak = measured_peak(step, init, xs, plan, segments=True)
    assert 0.9 * plan.peak_bytes <= peak <= plan.peak_bytes <= 3 * floor


def test_storages_that_all_cores_share_count_once():
    step, _, xs = problem(Masked, 30, torch.float32)
    carry = torch.randn(2, 50, requires_grad=True), torch.randn(2, 50)
    plan = membptt.plan(step, carry, xs, budget=20_000, chunk=1)
    with meter() as report:
        scan(step, carry, xs, plan=plan)[0][0].sum().backward()
    assert plan.chosen.measured.shared == 2 * 400
    assert plan.chosen.measured.hidden == 400
    assert 0.9 * plan.peak_bytes <= report.peak_bytes <= plan.peak_bytes


def test_inputs_that_are_read_count_and_inputs_in_memory_do_not():
    step, init, xs = problem(ResidualMlp, 30, torch.float32)
    xs = xs.detach()
    budget = 40 * smallest_budget(step, init, Indexed(30, lambda start, stop: xs[start:stop].clone()), chunk=1)
    sizes = []
    for data in (xs, Indexed(30, lambda start, stop: xs[start:stop].clone())):
        plan = membptt.plan(step, init, data, budget=budget, chunk=1)
        assert 0.9 * plan.peak_bytes <= measured_peak(step, init, data, plan) <= plan.peak_bytes
        sizes.append(plan.chosen.measured.internal)
    assert sizes[1] == sizes[0] + xs[0].nbytes


def smallest_budget(step, init, xs, **options):
    """Take the smallest feasible budget from the error about a smaller one."""
    with pytest.raises(ValueError, match="smallest feasible budget") as failure:
        membptt.plan(step, init, xs, budget=1, **options)
    return int(str(failure.value).rsplit("take ", 1)[1].split()[0])


def test_the_smallest_budget_that_an_error_names_is_feasible_and_one_byte_less_is_not():
    step, init, xs = problem(Lstm, 12, torch.float64)
    floor = smallest_budget(step, init, xs)
    expected = gradients(plain(step, init, xs), step, init, xs)
    assert relative_error(gradients(scan(step, init, xs, budget=floor), step, init, xs), expected) <= 1e-10
    with pytest.raises(ValueError, match="too small"):
        scan(step, init, xs, budget=floor - 1)


def test_a_plan_made_from_wrong_sizes_is_seen_to_be_wrong():
    """The comparison of measured and planned bytes notices a state that weighs one tenth more than it should."""
    step, init, xs = problem(Lstm, 60, torch.float32)
    plan = membptt.plan(step, init, xs, budget=8_000, chunk=1, policy="ism")
    right = plan.chosen.measured
    wrong = replace(right, internal=right.internal * 9 // 10, tail=0, hidden=right.hidden * 9 // 10)
    light = replace(plan.chosen, bytes=peak_bytes(plan.chosen.schedule(), 60, wrong))
    assert measured_peak(step, init, xs, plan) <= plan.chosen.bytes
    assert measured_peak(step, init, xs, replace(plan, options=(light,))) > light.bytes


def test_a_plan_survives_a_file(tmp_path):
    step, init, xs = problem(Lstm, 25, torch.float64)
    plan = membptt.plan(step, init, xs, budget="3KiB")
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    expected = gradients(plain(step, init, xs), step, init, xs)
    assert relative_error(gradients(scan(step, init, xs, plan=loaded), step, init, xs), expected) <= 1e-10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda stored: {**stored, "digest": "0" * 64}, "has digest"),
        (lambda stored: {**stored, "format": "membptt-plan/1"}, "format is 'membptt-plan/1'.*plan anew"),
        (lambda stored: {**stored, "options": [{**stored["options"][0], "tiers": {}}]}, "not a readable plan"),
        (lambda stored: {key: value for key, value in stored.items() if key != "budget"}, "not a readable plan"),
        (lambda stored: {**stored, "options": []}, "not a readable plan"),
        (lambda stored: {**stored, "options": [{**stored["options"][0], "more": 1}]}, "has the fields"),
        (lambda stored: [], "not a readable plan"),
    ],
)
def test_a_changed_plan_is_refused(tmp_path, change, says):
    step, init, xs = problem(Lstm, 9, torch.float32)
    path = tmp_path / "plan.json"
    membptt.plan(step, init, xs, budget="2KiB").save(path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(PlanError, match=says):
        Plan.load(path)
    with pytest.raises(PlanError, match="not a readable plan"):
        Plan.load(tmp_path / "none.json")


def test_a_plan_for_another_length_is_refused():
    step, init, xs = problem(Lstm, 9, torch.float32)
    plan = membptt.plan(step, init, xs, budget="2KiB")
    with pytest.raises(ValueError, match="made for 9 steps"):
        scan(step, init, xs[:8], plan=plan)


def test_a_budget_is_planned_once_for_each_step_and_shape(monkeypatch):
    calls = []
    choose = remembered.choose
    monkeypatch.setattr(remembered, "choose", lambda *args, **options: calls.append(1) or choose(*args, **options))
    step, init, xs = problem(Lstm, 10, torch.float64)
    for _ in range(3):
        scan(step, init, xs, budget=12345)
    scan(step, init, xs[:7], budget=12345)
    assert len(calls) == 2


def test_a_step_may_capture_a_dataclass_itself():
    """Not an instance; and an instance of a class that is below one, and none itself."""
    kind = make_dataclass("Kind", [("factor", float)], frozen=True)
    below = type("Below", (kind,), {})(0.5)

    def step(h, x):
        return h * kind(below.factor).factor + x, x

    assert membptt.scan(step, torch.ones(3, requires_grad=True), torch.ones(10, 3), budget=12345)[0].shape == (3,)


@pytest.mark.parametrize(("frozen", "plans"), [(True, 2), (False, 1)])
def test_another_number_in_a_step_is_another_step_only_where_it_cannot_be_a_counter(frozen, plans, monkeypatch):
    """As the rate of dropout in a layer of `membptt.nn` is."""
    calls = []
    choose = remembered.choose
    monkeypatch.setattr(remembered, "choose", lambda *args, **options: calls.append(1) or choose(*args, **options))

    def call(self, h, x):
        return h * self.factor + x, x

    kind = make_dataclass("Step", [("factor", float)], namespace={"__call__": call}, frozen=frozen)
    for factor in (0.5, 0.25, 0.25):
        scan(kind(factor), torch.ones(3, requires_grad=True), torch.ones(10, 3), budget=12345)
    assert len(calls) == plans


def test_planning_leaves_the_random_state_alone():
    xs = torch.randn(10, 3)
    before = torch.get_rng_state()
    membptt.plan(lambda c, x: (torch.nn.functional.dropout(c, 0.5), x), torch.ones(3), xs, budget="1KiB")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("budget", ["", "lots", 0, "-3MB", "3 x", 1.5, True])
def test_what_is_not_a_size_is_refused(budget):
    with pytest.raises((TypeError, ValueError), match="budget"):
        scan(lambda c, x: (c, x), torch.ones(1), torch.ones(3), budget=budget)


def test_planning_refuses_a_bad_step_like_scan_does():
    with pytest.raises(TypeError, match="must return a pair"):
        scan(lambda c, x: c, torch.ones(1), torch.ones(3), budget="1MB")
    with pytest.raises(ValueError, match="must stay the same"):
        scan(lambda c, x: (c.double(), x), torch.ones(1), torch.ones(3), budget="1MB")


@pytest.mark.parametrize("given", [{}, {"policy": "msm", "internal": 2}, {"slots": 3, "budget": "1MB"}])
def test_exactly_one_budget_is_required(given):
    with pytest.raises(TypeError, match="exactly one"):
        scan(lambda c, x: (c, x), torch.ones(1), torch.ones(3), **given)


def test_a_plan_explains_and_draws_itself(capsys):
    pytest.importorskip("matplotlib")
    step, init, xs = problem(Lstm, 30, torch.float32)
    plan = membptt.plan(step, init, xs, budget="4KiB")
    plan.explain()
    printed = capsys.readouterr().out
    assert plan.chosen.policy in printed
    assert "4 KiB" in printed
    (axes,) = plan.draw().axes
    cells = plan.chosen.forwards + plan.chosen.cores
    assert len(axes.patches) == cells
    assert (axes.get_xlabel(), axes.get_ylim()[0] > axes.get_ylim()[1]) == ("position [cores]", True)


def test_a_plan_is_printed_in_three_lines():
    step, init, xs = problem(Lstm, 30, torch.float32)
    plan = membptt.plan(step, init, xs, budget="4KiB")
    choice, cost, beside = str(plan).splitlines()
    assert choice.startswith("30 steps within 4 KiB: ")
    assert f"{plan.chosen.slots} slots of {readable(plan.chosen.unit)}" in choice
    assert f"{plan.chosen.forwards} forwards of {plan.chosen.cores} cores" in cost
    assert f"a peak of {readable(plan.peak_bytes)}" in cost
    assert f"{readable(plan.outputs)} of outputs" in beside
    assert beside.endswith(f"in all {readable(plan.total_bytes)}")


@pytest.mark.parametrize("segments", [False, True])
def test_a_plan_knows_what_is_beside_its_budget(segments):
    weight, h = torch.ones(3, dtype=torch.float64, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    xs = torch.ones(10, 2, 3, requires_grad=True)

    def step(h, x):
        h = torch.tanh(h + (weight.float() * x).sum(0) if segments else h + weight.float() * x)
        return h, (h.expand(len(x), 2, 3), x[:, :1]) if segments else (h, x[:1])

    plan = membptt.plan(step, h, xs, budget="1MiB", chunk=3, segments=segments, params=[weight])
    assert plan.outputs == 10 * 4 * (6 + 3)
    assert plan.gradients == 3 * 8 + 6 * 4 + 60 * 4
    assert plan.total_bytes == plan.peak_bytes + 2 * plan.outputs + plan.gradients


def test_the_peak_in_all_is_about_the_one_that_is_measured():
    cell, xs, start = torch.nn.GRUCell(16, 32), torch.randn(200, 4, 16), torch.zeros(4, 32)

    def step(h, x):
        h = cell(x, h)
        return h, h

    plan = membptt.plan(step, start, xs, budget="128KiB", chunk=1, params=cell)
    with Tally([xs, start, *cell.parameters()]) as tally:
        _, ys = membptt.scan(step, start, xs, plan=plan, params=cell)
        ys.backward(torch.ones_like(ys))
    assert 0.85 <= tally.peak() / plan.total_bytes <= 1.15


def test_explain_shows_the_best_option_of_each_policy_and_every_option_on_request(capsys):
    step, init, xs = problem(Lstm, 30, torch.float32)
    plan = membptt.plan(step, init, xs, budget="4KiB")
    policies = [option.policy for option in plan.options]

    def rows(**more):
        plan.explain(**more)
        lines = capsys.readouterr().out.splitlines()
        return [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in policies]

    assert rows() == list(dict.fromkeys(policies))
    assert rows(everything=True) == policies


@pytest.mark.usefixtures("_transfers_for_nothing")
def test_a_plan_in_two_tiers_explains_and_draws_itself(capsys):
    pytest.importorskip("matplotlib")
    step, init, xs = problem(Lstm, 30, torch.float32)
    plan = membptt.plan(step, init, xs, budget=1000, chunk=1, policy="hsm", spill=True)
    tiers = plan.chosen.tiers
    plan.explain()
    printed = capsys.readouterr().out
    assert f"{plan.chosen.slots} + {tiers.peak}" in printed
    assert "slow" in printed
    assert "…" not in printed
    figure = plan.draw()
    (axes,) = figure.axes
    assert "stored in the slow tier" in [text.get_text() for text in figure.legends[0].get_texts()]
    dotted = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() != "-"]
    assert len(dotted) == tiers.writes
    assert f"{plan.chosen.slots} and {tiers.peak} slow slots" in axes.get_title(loc="left")


def test_planning_that_runs_out_of_memory_says_so(monkeypatch):
    """A step that fails at its recomputation is left to the scan; this is no step's doing."""

    def fails(*call):
        raise torch.OutOfMemoryError("no memory is left")

    monkeypatch.setattr("membptt.calls.plan._gradient", fails)
    step, init, xs = problem(Lstm, 6, torch.float64)
    with pytest.raises(torch.OutOfMemoryError, match="no memory is left"):
        membptt.plan(step, init, xs, budget="1MiB")
