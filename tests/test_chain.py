"""The heterogeneous chain of appendix C: table, stream and search agree, and where the search is cheaper."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs.chain_oracle import cheapest_chain_schedule
from membptt_theory.actions import Action, Advance, DropHidden, Record, Restore, Sizes
from membptt_theory.chain import UNREACHABLE, Chain, solve_chain
from membptt_theory.machine import IllegalActionError, Machine
from membptt_theory.tables import build

SMALLEST_WITH_UNIT_COSTS = Chain((1,) * 7, (1, 2, 3, 3, 1, 1, 1), (0,) * 7)
SMALLEST_WITH_NEEDS = Chain((1, 2, 2, 2, 2), (1, 3, 3, 1, 1), (0, 0, 1, 0, 2))


def measure(chain: Chain, actions: Iterable[Action]) -> tuple[int, int]:
    """Execute a stream on the machine; return its cost and its peak, working needs included, the input excluded."""
    machine = Machine(len(chain), Sizes(hidden=1, internal=None))
    cost = peak = 0
    for action in actions:
        machine.execute(action)
        used = sum(chain.sizes[q - 1] for q in machine.hidden - {0})
        peak = max(peak, used)
        cores = range(0)
        if isinstance(action, Advance):
            cores = range(action.start, action.stop)
        elif isinstance(action, Record):
            cores = range(action.step, action.step + 1)
        for i in cores:
            cost += chain.costs[i]
            peak = max(peak, used + chain.needs[i])
    machine.finish()
    return cost, peak


def searched(chain: Chain, slots: int, *, persistent: bool) -> int:
    cost, actions = cheapest_chain_schedule(chain.costs, chain.sizes, chain.needs, slots, persistent=persistent)
    spent, peak = measure(chain, actions)
    assert spent == cost
    assert peak <= slots
    return cost


def assert_table_and_stream_equal_the_search(chain: Chain, slots: int, *, persistent: bool) -> None:
    table = solve_chain(chain, slots)
    cost, peak = measure(chain, table.schedule(slots))
    assert cost == table.cost(slots) == searched(chain, slots, persistent=persistent)
    assert peak <= slots


@st.composite
def chains(draw, longest=6):
    n = draw(st.integers(1, longest))
    parts = (draw(st.lists(st.integers(*ends), min_size=n, max_size=n)) for ends in ((1, 5), (1, 4), (0, 4)))
    chain = Chain(*map(tuple, parts))
    return chain, draw(st.integers(max(chain.needs), max(chain.needs) + 8))


def small_chains(sizes: Iterable[tuple[int, ...]], cores: int) -> Iterable[Chain]:
    for costs in itertools.product((1, 2, 3), repeat=cores):
        for needs in itertools.product((0, 2), repeat=cores):
            for size in sizes:
                yield Chain(costs, size, needs)


def test_the_table_is_optimal_over_persistent_schedules_exhaustive():
    for cores in range(1, 4):
        sizes = [(*s, 1) for s in itertools.product((1, 2, 3), repeat=cores - 1)]
        for chain in small_chains(sizes, cores):
            for slots in range(max(chain.needs), 5):
                assert_table_and_stream_equal_the_search(chain, slots, persistent=True)


@settings(max_examples=300, deadline=None)
@given(chains())
def test_the_table_is_optimal_over_persistent_schedules_hypothesis(chain_and_slots):
    chain, slots = chain_and_slots
    assert_table_and_stream_equal_the_search(chain, slots, persistent=True)
    assert searched(chain, slots, persistent=False) <= solve_chain(chain, slots).cost(slots)


def test_the_table_is_optimal_over_all_schedules_where_sizes_are_equal_exhaustive():
    for cores in range(1, 5):
        for chain in small_chains([(1,) * cores], cores):
            for slots in range(max(chain.needs), cores + 2):
                assert_table_and_stream_equal_the_search(chain, slots, persistent=False)


@settings(max_examples=200, deadline=None)
@given(chains(longest=7), st.integers(1, 3))
def test_the_table_is_optimal_over_all_schedules_where_sizes_are_equal_hypothesis(chain_and_slots, size):
    chain, slots = chain_and_slots
    equal = replace(chain, sizes=(size,) * len(chain))
    assert_table_and_stream_equal_the_search(equal, slots, persistent=False)


def test_the_table_is_optimal_over_all_schedules_of_four_cores_exhaustive():
    for cores in range(1, 5):
        for sizes in itertools.product((1, 2, 3), repeat=cores - 1):
            for costs in itertools.product((1, 2), repeat=cores):
                chain = Chain(costs, (*sizes, 1), (0,) * cores)
                for slots in range(4):
                    assert solve_chain(chain, slots).cost(slots) == searched(chain, slots, persistent=False)


@pytest.mark.parametrize(
    ("chain", "slots", "table", "search"), [(SMALLEST_WITH_UNIT_COSTS, 2, 19, 18), (SMALLEST_WITH_NEEDS, 4, 22, 21)]
)
def test_a_schedule_that_drops_and_recomputes_a_state_beats_the_table(chain, slots, table, search):
    assert solve_chain(chain, slots).cost(slots) == table == searched(chain, slots, persistent=True)
    assert searched(chain, slots, persistent=False) == search


def test_six_cores_of_unit_cost_are_too_few_for_a_drop_to_pay():
    for sizes in itertools.product((1, 2, 3), repeat=5):
        chain = Chain((1,) * 6, (*sizes, 1), (0,) * 6)
        assert solve_chain(chain, 2).cost(2) == searched(chain, 2, persistent=False)


def test_the_homogeneous_chain_is_hsm_with_one_slot_more_for_the_input_exhaustive():
    hsm = build("hsm", 30, 12)
    table = solve_chain(Chain((1,) * 30, (1,) * 30, (0,) * 30), 11)
    for slots in range(12):
        assert table.costs[0, :, slots].tolist() == [hsm.cost(t, slots + 1) for t in range(31)]


@settings(max_examples=25, deadline=None)
@given(t=st.integers(1, 40), m=st.integers(0, 30), size=st.integers(1, 4), cost=st.integers(1, 9))
def test_the_homogeneous_chain_is_hsm_in_its_own_units_hypothesis(t, m, size, cost):
    table = solve_chain(Chain((cost,) * t, (size,) * t, (0,) * t), m)
    assert table.cost(m) == cost * build("hsm", t, m // size + 1).cost(t, m // size + 1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_without_room_the_cost_is_the_quadratic_boundary_hypothesis(costs):
    t = len(costs)
    boundary = sum((t - i) * u for i, u in enumerate(costs))
    table = solve_chain(Chain(tuple(costs), (4,) * t, (0,) * t), 3)
    assert table.cost(0) == table.cost(3) == boundary


def test_a_core_that_needs_more_than_the_budget_is_refused_by_table_and_search():
    chain = Chain((1, 1), (1, 1), (0, 3))
    table = solve_chain(chain, 5)
    assert (table.costs[0, 2, :3] == UNREACHABLE).all()
    for slots in range(3):
        with pytest.raises(ValueError, match="at least 3 slots"):
            table.schedule(slots)
        with pytest.raises(ValueError, match="needs 3"):
            cheapest_chain_schedule(chain.costs, chain.sizes, chain.needs, slots)
    assert table.cost(3) == 3


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        (((), (), ()), ValueError),
        (((1,), (1, 1), (0,)), ValueError),
        (((0,), (1,), (0,)), ValueError),
        (((1,), (0,), (0,)), ValueError),
        (((1,), (1,), (-1,)), ValueError),
        (((1.0,), (1,), (0,)), TypeError),
        (((True,), (1,), (0,)), TypeError),
        (((2**60,), (1,), (0,)), ValueError),
    ],
)
def test_a_chain_refuses_what_is_not_a_chain(parts, error):
    with pytest.raises(error):
        Chain(*parts)


def test_a_table_for_shifted_sizes_is_caught_by_the_search():
    chain = Chain((1, 2, 1, 3, 1), (1, 3, 2, 1, 2), (0, 1, 0, 0, 1))
    shifted = replace(chain, sizes=(*chain.sizes[1:], chain.sizes[0]))
    assert solve_chain(shifted, 3).cost(3) != searched(chain, 3, persistent=True)


def test_a_split_made_worse_is_caught_by_the_meter():
    chain = Chain((1,) * 6, (1,) * 6, (0,) * 6)
    table = solve_chain(chain, 2)
    splits = table.splits.copy()
    splits[0, 6, 2] = 5
    assert measure(chain, replace(table, splits=splits).schedule(2))[0] > table.cost(2)


def test_a_stream_with_a_restart_left_out_is_refused():
    chain = Chain((1,) * 6, (1,) * 6, (0,) * 6)
    stream = list(solve_chain(chain, 2).schedule(2))
    for i, action in enumerate(stream):
        if isinstance(action, Restore | DropHidden):
            with pytest.raises(IllegalActionError):
                measure(chain, stream[:i] + stream[i + 1 :])
