"""The oracle against the machine, the tables against the oracle: what is optimal over every legal schedule."""

from __future__ import annotations

import copy
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs import oracle
from membptt_proofs.oracle import Storage, least_costs, least_forwards, optimal_schedule
from membptt_proofs.oracle_shared import detached_costs
from membptt_theory import policy as policies
from membptt_theory import tables
from membptt_theory.actions import (
    Action,
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    LoadInternal,
    Record,
    Restore,
    Sizes,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.machine import IllegalActionError, Machine, meter
from membptt_theory.policies import recurrence
from membptt_theory.recurrences import KEPT, OWNED, Recurrence
from membptt_theory.tables import build, optimal_cost

HSM, ISM = Sizes(hidden=1, internal=None), Sizes(hidden=None, internal=1)
ALPHAS = range(2, 6)
STEPS = 7


class DetachedMachine(Machine):
    """A machine whose stored internal states leave out their input, which must be there when they are loaded."""

    def execute(self, action: Action) -> None:
        if isinstance(action, LoadInternal):
            there = action.step in (self.position, *self.hidden) or action.step - 1 in self.internal
            self._need(there, action, "its input hidden state is missing")
        super().execute(action)


def mixed(alpha: int, storage: Storage) -> Sizes:
    return Sizes(1, alpha) if storage == "separate" else Sizes(1, alpha, alpha - 1)


def machine_for(steps: int, sizes: Sizes, storage: Storage) -> Machine:
    if storage == "detached":
        assert sizes.internal is not None
        return DetachedMachine(steps, Sizes(1, sizes.internal - 1))
    return Machine(steps, sizes)


def cheapest_stream(start: Machine, slots: int) -> int | None:
    """Dijkstra over the machine's own states and actions, without any argument of ours."""

    def state(machine: Machine) -> tuple[object, ...]:
        stored = frozenset(machine.hidden), frozenset(machine.internal)
        return machine.position, machine.core, *stored, machine.next_backward

    def moves(machine: Machine) -> Iterator[Action]:
        if machine.position is not None:
            p = machine.position
            yield from (Advance(p, p + 1), Record(p), StoreHidden(p))
        if machine.core is not None:
            yield from (Backpropagate(machine.core), StoreInternal(machine.core))
        for q in machine.hidden | ({0} if machine.sizes.hidden is None else set()):
            yield from (Restore(q), DropHidden(q))
        for p in machine.internal:
            yield from (Restore(p + 1), LoadInternal(p), DropInternal(p))

    best = {state(start): 0}
    heap, tie = [(0, 0, start)], itertools.count()
    while heap:
        forwards, _, machine = heapq.heappop(heap)
        if machine.next_backward < 0:
            return forwards
        for action in moves(machine) if best[state(machine)] == forwards else ():
            after = copy.copy(machine)
            after.hidden, after.internal = set(machine.hidden), set(machine.internal)
            try:
                after.execute(action)
            except IllegalActionError:
                continue
            if after.used <= slots and after.forwards < best.get(state(after), after.forwards + 1):
                best[state(after)] = after.forwards
                heapq.heappush(heap, (after.forwards, next(tie), after))
    return None


def settings_of(steps: int, alphas: range) -> Iterator[tuple[Sizes, Storage, range]]:
    yield HSM, "separate", range(1, steps + 2)
    yield ISM, "separate", range(steps + 2)
    for alpha in alphas:
        for storage in ("separate", "shared", "detached"):
            yield mixed(alpha, storage), storage, range(1, alpha * steps + 2)


def assert_no_stream_is_cheaper(steps: int, alphas: range) -> None:
    for t in range(1, steps + 1):
        for sizes, storage, budgets in settings_of(t, alphas):
            for m in budgets:
                cost = cheapest_stream(machine_for(t, sizes, storage), m)
                assert cost == least_forwards(t, m, sizes, storage=storage), (t, m, sizes, storage)


def test_no_stream_of_machine_actions_beats_the_oracle_exhaustive():
    assert_no_stream_is_cheaper(3, range(2, 4))


@pytest.mark.slow
def test_no_stream_of_machine_actions_beats_the_oracle_on_longer_sequences_exhaustive():
    assert_no_stream_is_cheaper(4, ALPHAS)


def assert_witness(t: int, m: int, sizes: Sizes, storage: Storage) -> None:
    machine = machine_for(t, sizes, storage)
    for action in optimal_schedule(t, m, sizes, storage=storage):
        machine.execute(action)
    report = machine.finish()
    assert report.forwards == least_forwards(t, m, sizes, storage=storage)
    assert report.peak <= m


def test_the_machine_accepts_the_oracle_s_schedule_at_its_cost_and_peak_exhaustive():
    for sizes, storage, budgets in settings_of(6, ALPHAS):
        for m in budgets:
            for t in range(7):
                assert_witness(t, m, sizes, storage)


@settings(max_examples=40, deadline=None)
@given(t=st.integers(0, 9), m=st.integers(1, 60), alpha=st.integers(2, 9), storage=st.sampled_from(Storage.__args__))
def test_the_machine_accepts_the_oracle_s_schedule_at_its_cost_and_peak_hypothesis(t, m, alpha, storage):
    assert_witness(t, m, mixed(alpha, storage), storage)


def table_row(policy: str, m: int, **sizes: int) -> list[int]:
    table = build(policy, STEPS, m, **sizes)
    return [table.cost(t, m) for t in range(STEPS + 1)]


def test_hsm_is_optimal_exhaustive():
    for m in range(1, STEPS + 2):
        assert table_row("hsm", m) == least_costs(STEPS, m, HSM)


def test_ism_with_one_slot_more_is_optimal_because_it_wastes_the_working_core_exhaustive():
    for m in range(STEPS + 2):
        assert table_row("ism", m + 1) == least_costs(STEPS, m, ISM)


def test_ism_with_the_same_slots_is_not_optimal():
    assert (optimal_cost("ism", 2, 1), least_forwards(2, 1, ISM)) == (3, 2)


def test_msm_plus_is_optimal_exhaustive():
    for alpha in ALPHAS:
        for m in range(1, alpha * STEPS + 1):
            assert table_row("msm_plus", m, internal=alpha) == least_costs(STEPS, m, mixed(alpha, "separate"))


def test_msm_without_double_storage_is_optimal_for_shared_storage_exhaustive():
    for alpha in ALPHAS:
        for m in range(1, alpha * STEPS + 1):
            optimum = least_costs(STEPS, m, mixed(alpha, "shared"), storage="shared")
            assert table_row("msm", m, internal=alpha, internal_known=alpha - 1) == optimum


def test_the_detached_recurrence_is_optimal_for_detached_storage_exhaustive():
    for alpha in ALPHAS:
        costs = detached_costs(STEPS, alpha * STEPS, alpha)
        for m in range(1, alpha * STEPS + 1):
            assert costs[m] == least_costs(STEPS, m, mixed(alpha, "detached"), storage="detached")


@settings(max_examples=30, deadline=None)
@given(t=st.integers(1, 9), m=st.integers(1, 80), alpha=st.integers(2, 12))
def test_the_optimal_recurrences_stay_optimal_hypothesis(t, m, alpha):
    shared = mixed(alpha, "shared")
    assert build("hsm", t, m).cost(t, m) == least_forwards(t, m, HSM)
    assert build("ism", t, m).cost(t, m) == least_forwards(t, m - 1, ISM)
    assert build("msm_plus", t, m, internal=alpha).cost(t, m) == least_forwards(t, m, mixed(alpha, "separate"))
    ten = build("msm", t, m, internal=alpha, internal_known=alpha - 1)
    assert ten.cost(t, m) == least_forwards(t, m, shared, storage="shared")
    assert detached_costs(t, m, alpha)[m][t] == least_forwards(t, m, shared, storage="detached")


def exceptions(steps: int, alpha: int, storage: Storage) -> dict[tuple[int, int], int]:
    """``(t, m) -> gap`` wherever the paper's MSM costs more than the optimum."""
    known = None if storage == "separate" else alpha - 1
    gaps = {}
    for m in range(1, alpha * steps + 1):
        table = build("msm", steps, m, internal=alpha, internal_known=known)
        for t, least in enumerate(least_costs(steps, m, mixed(alpha, storage), storage=storage)):
            if table.cost(t, m) != least:
                gaps[t, m] = table.cost(t, m) - least
    return gaps


def test_msm_is_not_optimal_and_the_smallest_counterexample_has_two_steps():
    for alpha in ALPHAS:
        assert not exceptions(1, alpha, "separate")
        assert exceptions(2, alpha, "separate") == {(2, alpha): 1}
        assert (build("msm", 2, alpha, internal=alpha).cost(2, alpha), least_forwards(2, alpha, Sizes(1, alpha))) == (
            3,
            2,
        )


def test_msm_s_gap_at_the_first_case_that_the_search_won():
    assert (build("msm", 7, 4, internal=3).cost(7, 4), least_forwards(7, 4, Sizes(1, 3))) == (14, 13)


def test_msm_s_gap_is_one_forward_on_the_small_range_exhaustive():
    assert [len(exceptions(STEPS, alpha, "separate")) for alpha in ALPHAS] == [20, 20, 18, 17]
    assert all(gap == 1 for alpha in ALPHAS for gap in exceptions(STEPS, alpha, "separate").values())


def test_msm_without_double_storage_misses_detached_inputs_from_five_steps_on():
    for alpha in ALPHAS:
        assert not exceptions(4, alpha, "detached")
        assert exceptions(5, alpha, "detached") == {(5, 2 * alpha - 1): 1}
        assert sorted(exceptions(STEPS, alpha, "detached").values()) == [1, 1, 1, 1]


def test_the_optimum_does_not_depend_on_the_ratio_of_advance_to_record_exhaustive():
    for sizes, storage, budgets in settings_of(STEPS, ALPHAS):
        for m in budgets:
            forwards = least_costs(STEPS, m, sizes, storage=storage)
            for advance, record in ((1, 2), (1, 3), (2, 3), (3, 7)):
                weighted = least_costs(STEPS, m, sizes, storage=storage, advance=advance, record=record)
                assert weighted == [advance * (f - t) + record * t for t, f in enumerate(forwards)]


def test_every_policy_records_each_step_exactly_once_exhaustive():
    for alpha in ALPHAS:
        for policy, extra in (
            ("hsm", {}),
            ("ism", {}),
            ("msm", {"internal": alpha}),
            ("msm", {"internal": alpha, "internal_known": alpha - 1}),
            ("msm_plus", {"internal": alpha}),
        ):
            table = build(policy, 12, 2 * alpha + 3, **extra)
            for t in range(1, 13):
                for m in range(1, 2 * alpha + 4):
                    assert meter(table.schedule(t, m), steps=t, sizes=table.sizes).recorded == t


@settings(max_examples=30, deadline=None)
@given(t=st.integers(1, 200), m=st.integers(1, 30), alpha=st.integers(2, 8))
def test_every_policy_records_each_step_exactly_once_hypothesis(t, m, alpha):
    table = build("msm_plus", 200, 30, internal=alpha)
    assert meter(table.schedule(t, m), steps=t, sizes=table.sizes).recorded == t


def test_a_schedule_that_drops_an_internal_state_records_twice_and_costs_more():
    again = [
        Restore(0),
        Record(0),
        StoreInternal(0),
        Record(1),
        Backpropagate(1),
        DropInternal(0),
        Restore(0),
        Record(0),
    ]
    report = meter([*again, Backpropagate(0), DropHidden(0)], steps=2, sizes=Sizes(1, 2))
    assert (report.forwards, report.recorded) == (3, 3)
    assert report.forwards > least_forwards(2, 3, Sizes(1, 2))


def test_an_oracle_that_may_not_drop_states_is_caught(monkeypatch):
    monkeypatch.setattr(oracle, "_lowered", lambda values, axes: values)
    monkeypatch.setattr(oracle, "_solve", oracle._solve.__wrapped__)
    with pytest.raises(AssertionError):
        assert_no_stream_is_cheaper(3, range(2, 3))


def test_an_oracle_that_forgets_a_step_s_cost_is_caught(monkeypatch):
    passed = oracle._passed
    monkeypatch.setattr(oracle, "_passed", lambda values, q, advance, record: passed(values, q, 0, record))
    monkeypatch.setattr(oracle, "_solve", oracle._solve.__wrapped__)
    with pytest.raises(AssertionError):
        assert_no_stream_is_cheaper(3, range(2, 3))


def test_a_release_that_saves_no_slot_is_caught(monkeypatch):
    def mutant(policy: str, **sizes: int | None) -> Recurrence:
        rule = recurrence(policy, **sizes)
        *others, release = rule.cuts[OWNED]
        return replace(rule, cuts=((*others, replace(release, room=release.room + 1)), rule.cuts[KEPT]))

    monkeypatch.setattr(tables, "recurrence", mutant)
    monkeypatch.setattr(policies, "recurrence", mutant)
    monkeypatch.setattr(tables, "_build", tables._build.__wrapped__)
    assert table_row("msm_plus", 3, internal=3) != least_costs(STEPS, 3, Sizes(1, 3))


def test_an_oracle_schedule_with_an_action_left_out_is_refused():
    stream = list(optimal_schedule(6, 5, Sizes(1, 3)))
    for i, action in enumerate(stream):
        if not isinstance(action, Restore):
            with pytest.raises(IllegalActionError):
                meter(stream[:i] + stream[i + 1 :], steps=6, sizes=Sizes(1, 3))


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((-1, 2, HSM), {}),
        ((3, 0, HSM), {}),
        ((3, 5, Sizes(1, 3)), {"storage": "shared"}),
        ((3, 5, Sizes(1, 4, 2)), {"storage": "shared"}),
        ((3, 5, ISM), {"storage": "detached"}),
        ((3, 5, HSM), {"advance": 2, "record": 1}),
    ],
)
def test_the_oracle_refuses_what_its_memory_model_does_not_have(arguments, keywords):
    with pytest.raises(ValueError, match=r"must|needs"):
        least_costs(*arguments, **keywords)
