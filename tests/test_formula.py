"""Schedules without a table: what they cost is the optimum, at any length, and no one can tell them from a table's."""

from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from membptt_theory import mixed
from membptt_theory.actions import StoreHidden, StoreInternal
from membptt_theory.derive import msm_plus
from membptt_theory.footprint import Measured
from membptt_theory.formula import Formula, solve
from membptt_theory.limits import TABLED, Limit, TooLargeError
from membptt_theory.named import NamedPolicy
from membptt_theory.options import check_size, options
from membptt_theory.policies import POLICIES, sized
from membptt_theory.policy import PolicyTable
from membptt_theory.recurrences import KEPT, OWNED, Decision
from membptt_theory.tables import build, optimal_cost

from .strategies import grid

WITH_FORMULA = [(name, sizes) for name, sizes in sized(2, 3, 5) if POLICIES[name].formula]
MILLION = 10**6


def each(parameters):
    return pytest.mark.parametrize(("name", "sizes"), parameters, ids=str)


@each(WITH_FORMULA)
def test_a_formula_costs_what_the_table_costs_exhaustive(name, sizes):
    formula, table = Formula(name, **sizes), build(name, 120, 20, **sizes)
    for t, m in grid(120, 20):
        assert formula.cost(t, m) == table.cost(t, m), (t, m)


@each(WITH_FORMULA)
def test_a_stream_without_a_table_takes_the_forwards_and_the_slots_it_says_exhaustive(name, sizes):
    for t, m in grid(40, 13):
        schedule = Formula(name, **sizes).schedule(t, m)
        report = schedule.meter()
        assert (report.forwards, report.peak <= m) == (schedule.cost, True), (t, m)


def metered(name, internal, steps, slots):
    schedule = Formula(name, internal).schedule(steps, slots)
    report = schedule.meter()
    assert (report.forwards, report.peak <= slots) == (schedule.cost, True)


@settings(max_examples=25)
@given(st.integers(2, 12), st.integers(1, 4000), st.integers(1, 300))
@example(2, 2000, 64)
@example(12, 1000, 144)
def test_a_mixed_stream_without_a_table_takes_the_forwards_it_says_hypothesis(internal, steps, slots):
    metered("msm_plus", internal, steps, slots)


@settings(max_examples=10)
@given(st.sampled_from(["hsm", "ism"]), st.integers(1, 4000), st.integers(1, 300))
def test_a_stream_of_one_kind_without_a_table_takes_the_forwards_it_says_hypothesis(name, steps, slots):
    metered(name, 1, steps, slots)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [100, 1000])
def test_a_million_steps_are_executed_without_a_table(slots):
    metered("msm_plus", 5, MILLION, slots)


@given(st.integers(2, 40), st.integers(1, 10**9), st.integers(1, 10**5))
def test_the_closed_form_lies_less_than_a_stretch_above_every_line_hypothesis(internal, steps, slots):
    """The lines bound every legal schedule (`msm-plus-lines`); the formula meets the best one, or lies between two."""
    slope, stretch = mixed.locate(steps, slots, internal)
    cost = mixed.cost(steps, slots, internal)
    assert steps <= cost <= optimal_cost("hsm", steps, slots)
    if slope > 1 and stretch > slots // internal and slots * slope < 10**5:
        assert cost == slope * steps - msm_plus.limit(slots, internal, slope)


@given(st.integers(2, 40), st.integers(2, 10**6), st.integers(2, 10**4))
def test_a_hidden_split_costs_what_the_closed_form_says_hypothesis(internal, steps, slots):
    decision, y = mixed.decide(steps, slots, internal)
    cost = mixed.cost(steps, slots, internal)
    if decision is Decision.HIDDEN:
        left, right = mixed.cost(y, slots, internal), mixed.cost(steps - y, slots - 1, internal)
        assert (1 <= y < steps, cost) == (True, y + left + right)
    else:
        assert decision is Decision.RELEASE
        assert cost < 2 * steps


def test_no_other_stretch_would_do(monkeypatch):
    """A mutant: splits that reach one step less far into the right part cost forwards."""
    right = mixed.reach
    monkeypatch.setattr(mixed, "reach", lambda r, stretch, m, alpha: right(r, stretch, m, alpha) - (r == 3))
    with pytest.raises(AssertionError):
        test_a_stream_without_a_table_takes_the_forwards_and_the_slots_it_says_exhaustive("msm_plus", {"internal": 2})


def test_a_start_that_stays_is_decided_about_as_the_recurrence_does_exhaustive():
    for alpha in (2, 3, 4):
        table = build("msm_plus", 60, 24, internal=alpha)
        for m in range(alpha + 1, 25):
            free = m - 1
            last = 1 + free // alpha + (mixed.reach(2, 1 + free // alpha, free, alpha) if free % alpha == 0 else 0)
            for t in range(2, min(60, last) + 1):
                decision, y = mixed.decide(t, m, alpha, KEPT)
                mode, cut = (OWNED, 1) if decision is Decision.HIDDEN else (KEPT, alpha)
                left = table.cost(y - (decision is Decision.INTERNAL), m, KEPT)
                assert table.cost(t, m, KEPT) == y + left + table.cost(t - y, m - cut, mode), (alpha, t, m)


def test_a_policy_by_name_takes_its_formula_where_its_table_would_be_large():
    small, large = (NamedPolicy("msm_plus", 5).schedule(steps, 60) for steps in (500, MILLION))
    assert isinstance(small.source, PolicyTable)
    assert isinstance(large.source, Formula)
    large.verify()
    assert large.cost == optimal_cost("msm_plus", MILLION, 60, internal=5) < optimal_cost("hsm", MILLION, 60)
    first = list(islice(large, 200))
    assert any(isinstance(action, StoreHidden) for action in first)


@each(WITH_FORMULA)
def test_table_and_formula_cost_the_same_on_both_sides_of_the_limit(name, sizes):
    limit = Limit(1000, 10**5, "for a test")
    slots = limit.most_slots(name, 40)
    makers = [solve(name, 40, m, limit, **sizes) for m in (slots, slots + 1)]
    assert [type(maker) for maker in makers] == [PolicyTable, Formula]
    assert [maker.schedule(40, slots).cost for maker in makers] == [Formula(name, **sizes).cost(40, slots)] * 2


def test_a_policy_without_a_formula_is_still_limited():
    with pytest.raises(TooLargeError, match="is too large"):
        solve("msm", MILLION, 60, TABLED, internal=5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Formula("msm", 5), "policy 'msm' has no formula: use one of hsm, ism, msm_plus, or build a table"),
        (lambda: Formula("hsm", 5), "policy 'hsm' has one kind of slot"),
        (lambda: Formula("msm_plus", 1), "needs internal >= 2"),
        (lambda: Formula("hsm").schedule(0, 3), "steps must be at least 1"),
        (lambda: Formula("hsm").decision(3, 0), "slots must be at least 1"),
        (lambda: Formula("hsm").spilling(3, 3, None, None), "spill goes with policy 'hsm' or a TierTable"),
        (lambda: solve("msm_plus", MILLION, 60, TABLED, internal=5, internal_known=4), "leave internal_known out"),
        (lambda: optimal_cost("msm_plus", 10, 3, internal=1), "needs internal >= 2"),
        (lambda: optimal_cost("hsm", 10, 3, internal=2), "has one kind of slot"),
    ],
)
def test_what_has_no_formula_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_formulas_of_the_same_sizes_are_the_same_and_of_other_sizes_are_not():
    assert Formula("msm_plus", 5) == Formula("msm_plus", 5)
    assert len({Formula(name, **sizes).digest for name, sizes in WITH_FORMULA}) == len(WITH_FORMULA)


def test_a_plan_for_a_million_cores_may_store_internal_states():
    """A core's graph of four hidden states, and a budget of 3,000: two forwards a step instead of three."""
    core = Measured(chunk=1, start=100, hidden=100, internal=200, tail=200, shared=0, advance=1.0, backprop=3.0)
    fastest = options([core], MILLION, 300_000)[0]
    assert fastest.policy == "msm_plus"
    assert fastest.forwards < 2 * MILLION < 2.9 * MILLION < optimal_cost("hsm", MILLION, 3000)
    check_size(fastest)
    schedule = fastest.schedule()
    assert (schedule.cost, schedule.slots) == (fastest.forwards, fastest.slots)
    assert any(isinstance(action, StoreInternal) for action in islice(schedule, 4 * MILLION))
