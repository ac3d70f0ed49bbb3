"""Chains whose states share tensors: each is counted once, by front, equation, search, machine and as objects."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs.checks import front_skips as checks
from membptt_proofs.front_oracle import naive_front, objects_peak, searched_front
from membptt_theory import front as front_module
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    Block,
    DropHidden,
    LoadInternal,
    Record,
    Restore,
    Skip,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.front import solve_front
from membptt_theory.front_near import Near
from membptt_theory.front_parts import Parts
from membptt_theory.front_terms import everything_alive
from membptt_theory.machine import meter_chain

from .strategies import blocks


@st.composite
def skipping_chains(draw, *, longest, most=5):
    """Blocks of any kind, equal ones among them, and up to three skips; gradients of any bytes."""
    chain = draw(blocks(longest=longest, most=most))
    if draw(st.booleans()):
        chain = [replace(block, gradient=draw(st.integers(0, 2 * most))) for block in chain]
    ends = st.tuples(st.integers(0, len(chain) - 1), st.integers(1, len(chain))).filter(lambda ends: ends[0] < ends[1])
    skips = [Skip(*draw(ends), draw(st.integers(0, most))) for _ in range(draw(st.integers(1, 3)))]
    return checks.with_skips(chain, skips)


def assert_every_point_is_metered_exactly(chain, skips):
    front = checks.solve(chain, skips)
    for room, cost in front.points:
        schedule = front.schedule(room)
        report = meter_chain(schedule, chain, skips)
        assert (report.bytes, report.cost) == (room, cost)
        assert objects_peak(schedule, chain, skips) == room


# --- the front is what its equation, its search and its machines say


def test_front_with_skips_equals_the_equation_pair_by_pair_exhaustive():
    for count in (1, 2):
        for chain, skips in checks.small_skipping_chains(count):
            assert checks.solve(chain, skips).points == naive_front(chain, skips)


@given(skipping_chains(longest=8) | skipping_chains(longest=6, most=10**12))
def test_front_with_skips_equals_the_equation_pair_by_pair_hypothesis(chain):
    assert checks.solve(*chain).points == naive_front(*chain)


def test_front_with_skips_is_that_of_all_nested_schedules_exhaustive():
    for count in (1, 2):
        for chain, skips in checks.small_skipping_chains(count):
            assert checks.solve(chain, skips).points == checks.searched(chain, skips, nested=True)


@settings(max_examples=60)
@given(skipping_chains(longest=4))
def test_front_with_skips_is_that_of_all_nested_schedules_hypothesis(chain):
    assert checks.solve(*chain).points == checks.searched(*chain, nested=True)


def test_every_point_with_skips_is_metered_exactly_exhaustive():
    for count in (1, 2):
        for chain, skips in checks.small_skipping_chains(count):
            assert_every_point_is_metered_exactly(chain, skips)


@given(skipping_chains(longest=12) | skipping_chains(longest=8, most=10**12))
def test_every_point_with_skips_is_metered_exactly_hypothesis(chain):
    assert_every_point_is_metered_exactly(*chain)


@settings(max_examples=40)
@given(skipping_chains(longest=4))
def test_every_schedule_of_the_search_does_on_the_machine_what_the_search_says_hypothesis(chain):
    for room, cost, actions in searched_front(*chain):
        report = meter_chain(actions, *chain)
        assert (report.bytes, report.cost) == (room, cost)


@given(blocks(longest=9))
def test_a_skip_of_no_bytes_changes_nothing_hypothesis(chain):
    terms = everything_alive(chain, [Skip(0, len(chain), 0)])
    assert terms == everything_alive(chain)
    skips = [Skip(1, len(chain), 0)] if len(chain) > 1 else []
    assert checks.solve(chain, skips).points == solve_front(chain).points


@given(skipping_chains(longest=8))
def test_a_skip_counted_once_takes_no_more_than_counted_in_each_hypothesis(chain):
    once, each = checks.solve(*chain), solve_front(chain[0])
    assert all(once.cost(room) <= cost for room, cost in each.points)


@given(skipping_chains(longest=10), st.data())
def test_a_part_of_a_recurrence_has_the_front_that_it_has_in_the_whole_hypothesis(chain, data):
    terms = everything_alive(*chain)
    start = data.draw(st.integers(0, len(terms) - 1))
    stop = data.draw(st.integers(start + 1, len(terms)))
    inside, alone = Parts(terms).of(start, stop), Parts(terms.part(start, stop)).of(0, stop - start)
    assert inside.bytes.tolist() == alone.bytes.tolist()
    assert inside.costs.tolist() == alone.costs.tolist()


# --- what is counted, in numbers

BLOCK = Block(advance=2, record=2, backward=2, output=10, internal=100, backward_need=10)
# State 1 is a skip of 40 bytes and 10 others; state 2 has the skip and 10 others; state 3 has 10 bytes.
OPEN, CHAIN = [Skip(1, 2, 40)], [replace(BLOCK, output=50), replace(BLOCK, output=50, gradient=70), BLOCK, BLOCK]
LAST = [Record(3), Backpropagate(3), Restore(2)]
END = [Record(2), Backpropagate(2), DropHidden(2), Restore(1), Record(1), Backpropagate(1)]
REST = [DropHidden(1), Restore(0), Record(0), Backpropagate(0), DropHidden(0)]
BOTH = [Advance(0, 1), StoreHidden(1), Advance(1, 2), StoreHidden(2), Advance(2, 3), *LAST, *END, *REST]


def test_a_skip_in_two_stored_states_counts_once_and_its_gradient_beside_it():
    # Block 1 goes backward: state 1's 50, graph 100, 10 of state 2, that one's gradient 70, and 10.
    assert meter_chain(BOTH, CHAIN, OPEN).bytes == 50 + 100 + 10 + 70 + 10 == objects_peak(BOTH, CHAIN, OPEN)
    assert meter_chain(BOTH, CHAIN).bytes == 50 + 100 + 50 + 70 + 10


def test_a_skip_that_is_made_again_beside_the_first_one_is_another_tensor():
    """Which the machine, that goes by names, does not see; no schedule of a front does so."""
    again = [Advance(0, 2), StoreHidden(2), Restore(0), Advance(0, 1), StoreHidden(1), Restore(2), Advance(2, 3)]
    again += [*LAST, *END, *REST]
    blocks = [replace(block, internal=0, gradient=0, backward_need=0) for block in CHAIN]
    assert objects_peak(again, blocks, OPEN) == meter_chain(again, blocks, OPEN).bytes + 40


def test_a_graph_holds_the_skips_of_its_input_and_of_its_output():
    stream = [Record(0), StoreInternal(0), Record(1), StoreInternal(1), Advance(2, 3), Record(3), Backpropagate(3)]
    stream += [Restore(2), Record(2), Backpropagate(2)]
    stream += [LoadInternal(1), Backpropagate(1), LoadInternal(0), Backpropagate(0), DropHidden(0)]
    # Block 3 goes backward: graphs 0, 1 and 3, 50 of state 1, 10 each of states 2, 3 and 4, a gradient, and 10.
    assert meter_chain(stream, CHAIN, OPEN).bytes == 300 + 50 + 30 + 10 + 10
    assert objects_peak(stream, CHAIN, OPEN) == meter_chain(stream, CHAIN, OPEN).bytes


def test_what_is_the_caller_s_takes_no_bytes_but_its_gradient_does():
    chain = [replace(BLOCK, output=50, advance_need=200)] * 3
    terms = everything_alive(chain, [Skip(0, 3, 40)])
    assert (terms.output, terms.gradient, terms.skips) == ((10,) * 3, (50, 50, 0), ())


# --- equal blocks


@pytest.mark.parametrize("skips", [[Skip(p, p + 1, 3) for p in range(1, 8)], [Skip(1, 7, 3)], [Skip(2, 5, 3)]])
def test_equal_blocks_that_share_tensors_are_told_apart_where_they_differ(skips):
    chain, skips = checks.with_skips([Block(output=2, internal=4, backward_need=3)] * 8, skips)
    assert checks.solve(chain, skips).points == naive_front(chain, skips)
    assert_every_point_is_metered_exactly(chain, skips)


def test_parts_of_equal_blocks_share_a_front_where_they_share_their_skips(monkeypatch):
    solved, solve = [], Parts._solve
    monkeypatch.setattr(Parts, "_solve", lambda self, *part: solved.append(part) or solve(self, *part))
    block = Block(output=5, internal=9, backward_need=5)
    Parts(everything_alive([block] * 20, [Skip(p, p + 1, 2) for p in range(1, 20)]))
    # Of each length: at the start, where all of the output is made; at the end, where no gradient waits; elsewhere.
    assert len(solved) == 20 + 19 + 18


@pytest.mark.parametrize("first", [0, 1])
def test_a_thousand_equal_blocks_under_one_open_skip_are_equal_blocks(first):
    equal = Block(advance=10, record=11, backward=20, output=9, internal=15, backward_need=10)
    chain = [replace(equal, internal=30), *[equal] * 1000, Block(output=1, internal=7, backward_need=9)]
    skips = [Skip(first, 1001, 4)]
    front = checks.solve(chain, skips)
    for room, cost in (front.points[0], front.points[len(front) // 2], front.points[-1]):
        report = meter_chain(front.schedule(room), chain, skips)
        assert (report.bytes, report.cost) == (room, cost)
    exact = checks.solve([*chain[:20], chain[-1]], [replace(skips[0], last=20)])
    near = front_module.front_with_others_before(exact.recurrence, 1)
    assert all(near.cost(room + 10 + 9) <= cost for room, cost in exact.points)
    assert all(exact.cost(room) <= cost for room, cost in near.points)


TWELVE = [Block(output=7, internal=9, backward=2, backward_need=7)] * 12
EACH_IN_FOUR = [Skip(p, min(p + 3, 12), 1) for p in range(1, 12)]


def test_a_long_chain_with_skips_keeps_a_few_points_of_each_part_and_counts_them_once(monkeypatch):
    exact = checks.solve(TWELVE, EACH_IN_FOUR)
    monkeypatch.setattr(Parts, "limit", 80)
    front = checks.solve(TWELVE, EACH_IN_FOUR)
    assert front.below is not None
    for room, cost in front.points:
        report = meter_chain(front.schedule(room), TWELVE, EACH_IN_FOUR)
        assert (report.bytes, report.cost) == (room, cost)
        assert front.least(room) <= exact.cost(room) <= cost


def test_a_chain_with_skips_too_long_to_be_solved_is_solved_with_each_counted(monkeypatch):
    exact = checks.solve(TWELVE, EACH_IN_FOUR)
    monkeypatch.setattr(front_module, "MANY", 5)
    for kind in (Parts, Near):
        monkeypatch.setattr(kind, "limit", 80)
    front = checks.solve(TWELVE, EACH_IN_FOUR)
    reports = [meter_chain(front.schedule(room), TWELVE, EACH_IN_FOUR) for room, _ in front.points]
    for (room, cost), report in zip(front.points, reports, strict=True):
        assert report.bytes <= room
        assert report.cost == cost >= exact.cost(report.bytes)
    assert any(report.bytes < room for (room, _), report in zip(front.points, reports, strict=True))


# --- refusals


@pytest.mark.parametrize("ends", [(1, 1), (2, 1), (-1, 2)])
def test_a_skip_refuses_states_that_do_not_follow_each_other(ends):
    with pytest.raises(ValueError, match="0 <= first < last"):
        Skip(*ends, 4)


def test_a_skip_refuses_what_is_no_size():
    with pytest.raises(ValueError, match="at least 0"):
        Skip(0, 1, -1)
    with pytest.raises(TypeError, match="bytes must be an integer"):
        Skip(0, 1, True)


@pytest.mark.parametrize("skip", [Skip(1, 5, 1), Skip(0, 4, 11), Skip(2, 3, 11)])
def test_skips_that_the_states_of_a_chain_cannot_hold_are_refused(skip):
    with pytest.raises(ValueError, match=r"states 0 \.\. 4|fewer bytes than the skips"):
        everything_alive([BLOCK] * 4, [skip])


@pytest.mark.parametrize("skips", [(Skip(0, 2, 1),), (Skip(2, 4, 1),), (Skip(1, 2, 60),)])
def test_a_recurrence_refuses_skips_that_it_cannot_hold(skips):
    terms = everything_alive(CHAIN, OPEN)
    with pytest.raises(ValueError, match=r"positions 1 \.\. 3|fewer bytes than the skips"):
        replace(terms, skips=skips)


def test_random_chains_of_the_checks_are_chains():
    for case in range(50):
        chain, skips = checks.random_skipping_chain(Random(case), 1 + case % 5)
        assert_every_point_is_metered_exactly(chain, skips)
