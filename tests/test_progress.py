"""How far a gradient is: told exactly, shown in a terminal, never in a log; a hopeless schedule is announced."""

import io
import re
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import membptt
from membptt.planning.choice import HopelessScheduleWarning
from membptt.run import progress
from membptt_theory.tables import fewest_slots, optimal_cost


def step(h, x):
    return torch.tanh(h + x), h


class Screen(io.StringIO):
    """Standard error, as a terminal or as a log."""

    def __init__(self, *, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def gradient(steps=12, **options):
    """The gradient of one scan."""
    h = torch.zeros(2, requires_grad=True)
    membptt.scan(step, h, torch.ones(steps, 2), **options)[0].sum().backward()
    return h.grad


def told(steps, **options):
    """What a function is told during one scan."""
    seen = []
    gradient(steps, progress=lambda done, total: seen.append((done, total)), **options)
    return seen


def check_counts(seen, cores):
    """It only grows, and ends with every core run and every core backpropagated."""
    assert [total for _, total in seen] == [2 * cores] * len(seen)
    done = [done for done, _ in seen]
    assert done == sorted(set(done))
    assert done[-1] == 2 * cores
    assert set(range(cores, 2 * cores + 1)) <= set(done)  # one by one, once the first pass is over


@pytest.mark.parametrize(
    "policy", [{"policy": "hsm"}, {"policy": "ism"}, {"policy": "msm_plus", "internal": 2}], ids=str
)
@pytest.mark.parametrize("steps", range(1, 7))
@pytest.mark.parametrize("slots", range(1, 5))
def test_a_function_is_told_of_every_core_once_each_way(policy, steps, slots):
    check_counts(told(steps, slots=slots, **policy), steps)


@given(steps=st.integers(1, 60), slots=st.integers(1, 20), chunk=st.integers(1, 9))
def test_a_function_is_told_of_every_core_of_any_scan(steps, slots, chunk):
    check_counts(told(steps, slots=slots, chunk=chunk), -(-steps // min(chunk, steps)))


def test_two_tiers_tell_the_same(tmp_path):
    check_counts(told(9, slots=1, spill=membptt.SlowTier(directory=tmp_path)), 9)


def test_a_chain_tells_of_its_blocks():
    seen = []
    blocks = [torch.nn.Linear(3, 3) for _ in range(4)]
    plan = membptt.plan_chain(blocks, torch.ones(2, 3))
    least = plan.within(plan.front[0].bytes)
    membptt.chain(blocks, torch.ones(2, 3), plan=least, progress=lambda *at: seen.append(at)).sum().backward()
    check_counts(seen, 4)


def test_a_loop_says_0_while_its_length_is_unknown():
    seen = []
    h = torch.ones(1, requires_grad=True)
    after, steps = membptt.while_loop(
        lambda h: bool(h < 9), lambda h: h + 1, h, slots=3, progress=lambda *at: seen.append(at)
    )
    assert seen == [(done, 0) for done in range(1, steps + 1)]
    after.sum().backward()
    assert seen[steps:] == [(steps + done, 2 * steps) for done in range(1, steps + 1)]


def test_a_second_backward_of_a_retained_graph_is_told_from_the_start():
    seen = []
    h = torch.zeros(2, requires_grad=True)
    last, _ = membptt.scan(step, h, torch.ones(5, 2), slots=2, progress=lambda done, total: seen.append(done))
    last.sum().backward(retain_graph=True)
    first = list(seen)
    last.sum().backward()
    assert seen == first + first


def test_a_function_that_raises_stops_the_gradient_and_leaves_nothing():
    def stop(done, total):
        if done == total - 2:
            raise KeyboardInterrupt

    with membptt.meter() as report, pytest.raises(KeyboardInterrupt):
        gradient(slots=3, progress=stop)
    assert report.live_bytes == 0
    assert torch.equal(gradient(slots=3, progress=False), gradient(slots=3))


def test_progress_is_a_bool_or_a_function():
    with pytest.raises(TypeError, match="progress must be True, False or a function"):
        gradient(slots=3, progress="bar")


def screened(monkeypatch, *, terminal, patience=progress._PATIENCE, **options):
    """What one scan writes to standard error."""
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(progress.sys, "stderr", screen)
    monkeypatch.setattr(progress, "_PATIENCE", patience)
    gradient(**options)
    return screen.getvalue()


def test_a_long_gradient_in_a_terminal_shows_a_bar_that_is_gone_afterwards(monkeypatch):
    written = screened(monkeypatch, terminal=True, patience=0.0, slots=3)
    assert "gradient" in written
    assert written.rsplit("\r", 2)[-2].strip() == ""  # the last thing written is a blank line


@pytest.mark.parametrize(
    ("terminal", "options"),
    [(False, {"patience": 0.0}), (True, {}), (True, {"progress": False, "patience": 0.0})],
    ids=["in a log", "if it takes a moment", "if it is switched off"],
)
def test_there_is_no_bar(terminal, options, monkeypatch):
    assert screened(monkeypatch, terminal=terminal, slots=3, **options) == ""


def test_true_shows_a_bar_wherever_standard_error_goes(monkeypatch):
    assert "gradient" in screened(monkeypatch, terminal=False, slots=3, progress=True)


def test_nothing_is_followed_where_nobody_asks(monkeypatch):
    monkeypatch.setattr(progress.sys, "stderr", Screen(terminal=False))
    assert progress.told(None, "gradient") is None


def test_planning_shows_its_own_bar_and_tells_a_function_nothing_of_it(monkeypatch):
    written = screened(monkeypatch, terminal=True, patience=0.0, budget="64KiB")
    assert "planning" in written
    seen = told(40, budget="64KiB")
    check_counts(seen, seen[-1][1] // 2)


def test_a_plan_counts_its_measurements():
    seen = []
    xs = torch.ones(20, 2)
    membptt.plan(step, torch.zeros(2), xs, budget="64KiB", chunk=2, progress=lambda *at: seen.append(at))
    total = seen[0][1]
    assert total > 1
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_a_chain_s_plan_counts_its_blocks():
    seen = []
    blocks = [torch.nn.Linear(3, 3) for _ in range(3)]
    membptt.plan_chain(blocks, torch.ones(2, 3), progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]


class Begun(Exception):
    pass


def announced(steps, **options):
    """The warnings of a scan that is stopped before its first step."""

    def stop(h, x):
        raise Begun

    h, xs = torch.zeros(2, requires_grad=True), torch.ones(1).expand(steps, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        with pytest.raises(Begun):
            membptt.scan(stop, h, xs, **options)
    return [str(warning.message) for warning in caught if warning.category is HopelessScheduleWarning]


def test_a_hopeless_schedule_is_announced_before_its_first_step():
    (message,) = announced(20_000, slots=1)
    assert "20,000 cores in 1 slot are 200,010,000 forwards, 10,000 for each core" in message


def test_what_the_announcement_advises_is_not_hopeless():
    (message,) = announced(20_000, slots=1)
    slots = int(re.search(r"slots=(\d+)", message)[1])
    assert optimal_cost("hsm", 20_000, slots) <= 60_000 < optimal_cost("hsm", 20_000, slots - 1)
    for advised in ({"slots": slots}, {"slots": 1, "chunk": 1000}, {"budget": "1MiB"}):
        assert announced(20_000, **advised) == []


def test_a_slow_schedule_of_few_steps_is_not_announced():
    assert announced(1000, slots=1) == []


@pytest.mark.parametrize("steps", range(1, 30))
def test_the_fewest_slots_are_the_fewest(steps):
    for forwards in range(optimal_cost("hsm", steps, steps), steps * (steps + 1) // 2 + 2):
        costs = (slots for slots in range(1, steps + 1) if optimal_cost("hsm", steps, slots) <= forwards)
        assert fewest_slots(steps, forwards) == next(costs)


def test_fewer_forwards_than_any_number_of_slots_takes_are_refused():
    with pytest.raises(ValueError, match="take 19 forwards at least, got 18"):
        fewest_slots(10, 18)
