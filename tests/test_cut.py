"""A schedule cut as the proof of optimality cuts it: both parts are schedules, and cost no more than the whole."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_proofs import cut as module
from membptt_proofs.cut import HIDDEN, cut, forwards, random_schedule
from membptt_theory.actions import Advance, Backpropagate, DropHidden, Record, Restore, StoreHidden
from membptt_theory.chen import recursive_schedule
from membptt_theory.machine import Machine, meter
from membptt_theory.tables import build, optimal_cost


def every_schedule(steps, slots, most):
    """Every complete schedule of at most so many forwards that is never twice in the same state."""

    def state(machine):
        return machine.position, machine.core, frozenset(machine.hidden), machine.next_backward

    def choices(machine):
        place = machine.position
        if machine.core is not None:
            yield from [Backpropagate(machine.core)] if machine.core == machine.next_backward else []
            return
        if place is not None and place < steps:
            yield Record(place)
            yield from (Advance(place, stop) for stop in range(place + 1, steps))
            if place not in machine.hidden and machine.used < slots:
                yield StoreHidden(place)
        yield from (Restore(position) for position in sorted(machine.hidden) if position != place)
        yield from (DropHidden(position) for position in sorted(machine.hidden))

    def extended(actions, seen):
        machine = Machine(steps, HIDDEN)
        for action in actions:
            machine.execute(action)
        if machine.forwards > most or (here := state(machine)) in seen:
            return
        if machine.next_backward < 0:
            yield (*actions, *map(DropHidden, sorted(machine.hidden)))
            return
        for action in choices(machine):
            yield from extended([*actions, action], {*seen, here})

    return extended([], frozenset())


def is_cut_as_the_proof_says(actions, steps, slots):
    parts = cut(actions, steps, slots)
    whole, place, cost = parts.whole, parts.place, forwards(parts.whole, 0, steps)
    right = meter(parts.right, steps=steps - place, sizes=HIDDEN)
    assert right.peak <= slots - 1
    assert right.forwards <= forwards(whole, place, steps)
    if place:
        left = meter(parts.left, steps=place, sizes=HIDDEN)
        assert left.peak <= slots
        assert left.forwards == forwards(whole[parts.instant :], 0, place)
        assert parts.first_pass >= place
    else:
        assert parts.left == ()
    least = place + optimal_cost("hsm", place, slots) + optimal_cost("hsm", steps - place, slots - 1)
    assert cost >= parts.bound >= least >= optimal_cost("hsm", steps, slots)


@pytest.mark.parametrize(
    ("steps", "slots", "most"),
    [(1, 2, 3), (2, 2, 4), (2, 3, 4), (3, 2, 5), pytest.param(3, 3, 5, marks=pytest.mark.slow)],
)
def test_every_short_schedule_is_cut_as_the_proof_says_exhaustive(steps, slots, most):
    count = 0
    for count, whole in enumerate(every_schedule(steps, slots, most), 1):  # noqa: B007
        is_cut_as_the_proof_says(whole, steps, slots)
    assert count > 1


@given(st.integers(1, 20), st.integers(2, 6), st.randoms(use_true_random=False))
def test_a_random_schedule_is_cut_as_the_proof_says_hypothesis(steps, slots, rng):
    is_cut_as_the_proof_says(random_schedule(steps, slots, rng), steps, slots)


def test_the_best_schedules_are_cut_where_they_store_first_or_a_slot_is_too_many():
    table = build("hsm", 30, 6)
    for steps in range(1, 31):
        for slots in range(2, 7):
            is_cut_as_the_proof_says(table.schedule(steps, slots), steps, slots)
    assert cut(table.schedule(10, 3), 10, 3).place == table.decision(10, 3)[1]


def test_other_peoples_schedules_are_cut_too():
    whole = list(recursive_schedule(40, 3))
    is_cut_as_the_proof_says(whole, 40, meter(whole, steps=40, sizes=HIDDEN).peak)


@given(st.integers(1, 20), st.integers(1, 6), st.randoms(use_true_random=False))
def test_a_random_schedule_is_complete_and_fits(steps, slots, rng):
    assert meter(random_schedule(steps, slots, rng), steps=steps, sizes=HIDDEN).peak <= slots


def drops_early(whole, steps):
    """Whether a state is dropped whose step is still to go backward."""
    machine = Machine(steps, HIDDEN)
    early = False
    for action in whole:
        early |= isinstance(action, DropHidden) and action.position <= machine.next_backward
        machine.execute(action)
    return early


def test_random_schedules_have_the_best_among_them_and_what_drops_states_early():
    schedules = [random_schedule(4, 2, random.Random(seed)) for seed in range(100)]
    costs = [forwards(whole, 0, 4) for whole in schedules]
    assert min(costs) == optimal_cost("hsm", 4, 2) < max(costs)
    assert any(drops_early(whole, 4) for whole in schedules)


@pytest.mark.parametrize("part", ["_left", "_right"])
def test_a_part_of_one_step_more_is_no_schedule(monkeypatch, part):
    """A mutant: cut elsewhere, a part is refused by the machine, or does not fit, or costs too much."""
    right = getattr(module, part)
    monkeypatch.setattr(module, part, lambda actions, v, *steps: right(actions, v + 1, *steps))
    with pytest.raises((AssertionError, ValueError)):
        test_the_best_schedules_are_cut_where_they_store_first_or_a_slot_is_too_many()


@pytest.mark.parametrize(
    ("slots", "message"),
    [(1, "a schedule is cut in 2 slots or more, got 1"), (2, "takes 3 slots, more than the 2 it is to be cut for")],
)
def test_too_few_slots_are_refused(slots, message):
    with pytest.raises(ValueError, match=message):
        cut(build("hsm", 10, 3).schedule(10, 3), 10, slots)
