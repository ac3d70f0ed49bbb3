"""The stream carries the table out: its metered cost is the table's, its peak fits the slots."""

import sys
import tracemalloc

import pytest
from hypothesis import given

from membptt_theory.actions import Advance, Backward, DropHidden, Restore, StoreHidden, StoreInternal, Tape
from membptt_theory.machine import meter
from membptt_theory.schedule import schedule
from membptt_theory.tables import build

from .strategies import POLICIES, grid, policy_id, queries


def metered(table, steps, slots):
    return meter(schedule(table, steps, slots), steps=steps, sizes=table.sizes)


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_metered_cost_equals_the_table_and_peak_fits_exhaustive(policy, sizes):
    table = build(policy, 120, 12, **sizes)
    for t, m in grid(120, 12):
        report = metered(table, t, m)
        assert report.forwards == table.cost(t, m)
        assert report.peak <= m


@given(queries(most_steps=5000, most_slots=16))
def test_metered_cost_equals_the_table_and_peak_fits_hypothesis(query):
    table, t, m = query
    report = metered(table, t, m)
    assert report.forwards == table.cost(t, m)
    assert report.peak <= m


def test_hsm_uses_every_slot_it_is_given_where_it_has_steps_for_them():
    table = build("hsm", 60, 12)
    assert all(metered(table, t, m).peak == min(t, m) for t, m in grid(60, 12))


def test_one_slot_recomputes_from_the_start_for_every_step():
    """The branch that the paper's Algorithm 2 lacks."""
    table = build("hsm", 3, 1)
    assert list(schedule(table, 3, 1)) == [
        Advance(0, 2),
        Tape(2),
        Backward(2),
        Restore(0),
        Advance(0, 1),
        Tape(1),
        Backward(1),
        Restore(0),
        Tape(0),
        Backward(0),
        DropHidden(0),
    ]


def test_two_slots_store_one_hidden_state():
    table = build("hsm", 3, 2)
    assert list(schedule(table, 3, 2))[:4] == [Advance(0, 1), StoreHidden(1), Advance(1, 2), Tape(2)]


def test_an_internal_state_is_stored_only_where_something_lies_to_its_right():
    table = build("ism", 4, 4)
    stored = [action.step for action in schedule(table, 4, 4) if isinstance(action, StoreInternal)]
    assert stored == [0, 1, 2]


def test_every_step_is_taped_once_whatever_the_policy():
    """So the optimum does not depend on what a backward costs beside a forward."""
    for policy, sizes in POLICIES:
        table = build(policy, 40, 9, **sizes)
        assert all(metered(table, t, m).taped == t for t, m in grid(40, 9))


@pytest.mark.parametrize("policy", ["hsm", "ism"])
def test_a_million_steps_stream_in_the_memory_of_the_slots(policy):
    steps, slots = 10**6, 6
    table = build(policy, steps, slots)
    limit = sys.getrecursionlimit()
    tracemalloc.start()
    try:
        stream = schedule(table, steps, slots)
        for _, _action in zip(range(20_000), stream, strict=False):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert sys.getrecursionlimit() == limit


@pytest.mark.slow
def test_a_million_steps_are_metered_to_the_end():
    table = build("hsm", 10**6, 12)
    assert metered(table, 10**6, 12).forwards == table.cost(10**6, 12)


def test_a_question_outside_the_table_is_refused_at_the_call():
    table = build("hsm", 10, 3)
    for steps, slots in ((0, 1), (11, 1), (5, 0), (5, 4)):
        with pytest.raises(ValueError, match="must be"):
            schedule(table, steps, slots)
    with pytest.raises(TypeError, match="integer"):
        schedule(table, 5, 2.0)
