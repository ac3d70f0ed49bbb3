"""Chains that keep outputs and internal states: front, search, other recurrences and the machine agree, in bytes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from membptt_proofs.checks import front as checks
from membptt_proofs.front_oracle import beaumont_costs, naive_front, searched_front
from membptt_theory import front as front_module
from membptt_theory import front_near, front_parts
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    Block,
    DropHidden,
    LoadInternal,
    Record,
    Restore,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.chain import Chain, solve_chain
from membptt_theory.equal_blocks import EqualBlocks
from membptt_theory.front import solve_front
from membptt_theory.front_parts import Parts
from membptt_theory.front_terms import Recurrence, everything_alive
from membptt_theory.machine import IllegalActionError, meter_chain
from membptt_theory.tables import build

from .strategies import blocks

PYRAMID = [
    Block(advance=2, record=2, backward=4, output=2**q, internal=3 * 2**q, backward_need=2**q) for q in (4, 4, 3, 2)
]


def assert_every_point_is_metered_exactly(chain):
    front = solve_front(chain)
    for room, cost in front.points:
        report = meter_chain(front.schedule(room), chain)
        assert (report.bytes, report.cost) == (room, cost)


def searched_points(chain, *, persistent):
    """The front by search; each of its schedules does on the machine what the search says."""
    points = []
    for room, cost, actions in searched_front(chain, persistent=persistent):
        report = meter_chain(actions, chain)
        assert (report.bytes, report.cost) == (room, cost)
        points.append((room, cost))
    return points


def all_parts(chain):
    """The front without the shortcut of equal blocks."""
    whole = Parts(everything_alive(chain)).of(0, len(chain))
    return list(zip(whole.bytes.tolist(), whole.costs.tolist(), strict=True))


# --- the front is what its equation, its search and its machine say


def test_front_equals_the_equation_pair_by_pair_exhaustive():
    for count in (1, 2):
        for chain in checks.small_chains(count):
            assert solve_front(chain).points == naive_front(chain)


@given(blocks(longest=9) | blocks(longest=7, most=10**12))
def test_front_equals_the_equation_pair_by_pair_hypothesis(chain):
    assert solve_front(chain).points == naive_front(chain)


def test_front_is_that_of_all_persistent_schedules_exhaustive():
    for count in (1, 2):
        for chain in checks.small_chains(count):
            assert solve_front(chain).points == searched_points(chain, persistent=True)


@settings(max_examples=60)
@given(blocks(longest=4))
def test_front_is_that_of_all_persistent_schedules_hypothesis(chain):
    assert solve_front(chain).points == searched_points(chain, persistent=True)


def test_every_point_is_metered_exactly_exhaustive():
    for count in (1, 2):
        for chain in checks.small_chains(count):
            assert_every_point_is_metered_exactly(chain)


@given(blocks(longest=16) | blocks(longest=12, most=10**12))
def test_every_point_is_metered_exactly_hypothesis(chain):
    assert_every_point_is_metered_exactly(chain)


@given(blocks(longest=12), st.data())
def test_a_budget_between_two_points_gives_the_lower_one_hypothesis(chain, data):
    front = solve_front(chain)
    room, cost = data.draw(st.sampled_from(front.points))
    larger = [other for other, _ in front.points if other > room]
    budget = data.draw(st.integers(room, larger[0] - 1 if larger else room + 10**6))
    report = meter_chain(front.schedule(budget), chain)
    assert (report.bytes, report.cost, front.cost(budget)) == (room, cost, cost)


@given(blocks(longest=12))
def test_a_schedule_says_what_it_takes_wherever_it_is_executed_hypothesis(chain):
    front = solve_front(chain)
    for room, cost in front.points:
        schedule = front.schedule(room)
        report = schedule.meter()
        assert (schedule.cores, schedule.cost, schedule.slots) == (len(chain), cost, report.peak)
        assert report.recorded == len(chain)
        assert [(type(action), tuple(action)) for action in schedule] == list(schedule.instructions())


def test_schedules_of_different_points_have_different_digests():
    front = solve_front(PYRAMID)
    digests = {front.schedule(room).digest for room, _ in front.points}
    assert len(digests) == len(front)
    assert front.schedule(front.points[0][0]).digest == solve_front(PYRAMID).schedule(front.points[0][0]).digest


@given(blocks(longest=12))
def test_the_last_point_is_plain_and_records_each_block_once_hypothesis(chain):
    front = solve_front(chain)
    plain = sum(block.record + block.backward for block in chain)
    assert front.costs[-1] == plain
    assert all(meter_chain(front.schedule(room), chain).recorded == len(chain) for room, _ in front.points)


def test_all_schedules_do_no_better_on_a_pyramid():
    assert solve_front(PYRAMID).points == searched_points(PYRAMID, persistent=False)


def test_an_internal_state_dropped_and_recomputed_can_beat_the_front():
    chain = [Block(output=output, internal=internal) for output, internal in ((1, 0), (2, 0), (2, 0), (1, 1))]
    assert solve_front(chain).points[0] == (6, 9)
    assert searched_points(chain, persistent=False)[0] == (6, 8)
    assert searched_points(chain, persistent=True)[0] == (6, 9)


def test_a_backward_that_waits_can_beat_the_front():
    """Block 2's graph takes less than the gradient that its backward leaves, while blocks 0 and 1 are recorded."""
    chain = [
        Block(advance=4, record=4, backward=3, output=6, internal=5, advance_need=2, backward_need=2),
        Block(advance=4, record=4, backward=2, output=6, internal=12, advance_need=2, record_need=2, backward_need=1),
        Block(advance=4, record=5, backward=2, output=1, internal=2, advance_need=2, record_need=1, backward_need=2),
        Block(advance=2, record=2, backward=2, output=5, internal=12, advance_need=2, record_need=2, backward_need=3),
    ]
    assert (37, 32) in solve_front(chain).points
    assert (36, 32) in searched_points(chain, persistent=False)


# --- the same equation with the terms of others


@given(st.integers(1, 8), st.data())
def test_front_equals_the_table_of_appendix_c_where_no_internal_state_fits_hypothesis(cores, data):
    parts = [
        data.draw(st.lists(st.integers(*ends), min_size=cores, max_size=cores)) for ends in ((1, 5), (1, 4), (0, 4))
    ]
    chain = Chain(*map(tuple, parts))
    table, front = solve_chain(chain, 16), solve_front(checks.appendix_c(chain))
    for slots in range(max(chain.needs), 17):
        assert front.cost(slots) == table.cost(slots)


def test_front_equals_the_table_of_appendix_c_where_no_internal_state_fits_exhaustive():
    for cores in (1, 2, 3):
        for costs, sizes, needs in itertools.product(
            *(itertools.product(kind, repeat=cores) for kind in ((1, 3), (1, 2), (0, 2)))
        ):
            chain = Chain(costs, sizes, needs)
            table, front = solve_chain(chain, 6), solve_front(checks.appendix_c(chain))
            assert [front.cost(m) for m in range(max(needs), 7)] == [table.cost(m) for m in range(max(needs), 7)]


def test_front_equals_hsm_where_no_internal_state_fits_and_all_cores_are_equal():
    hsm, chain = build("hsm", 30, 12), Chain((1,) * 30, (1,) * 30, (0,) * 30)
    front = solve_front(checks.appendix_c(chain))
    assert [front.cost(m - 1) for m in range(1, 13)] == [hsm.cost(30, m) for m in range(1, 13)]


def assert_the_front_solves_the_recurrence_of_beaumont(most, **stages):
    front = solve_front(checks.beaumont(**stages))
    costs = [front.cost(m) if m >= front.bytes[0] else float("inf") for m in range(most + 1)]
    assert costs == beaumont_costs(**stages, most=most)


def test_front_solves_the_recurrence_of_beaumont_exhaustive():
    stage = list(itertools.product((1, 2), (1, 3), (0, 2), (0, 5), (0, 1)))  # forward, output, more, f, b
    for stages in itertools.product(stage, stage[::3], stage[::7]):
        forward, output, more, first, second = zip(*stages, strict=True)
        recorded = tuple(map(sum, zip(output, more, strict=True)))
        assert_the_front_solves_the_recurrence_of_beaumont(
            30, forward=forward, backward=forward, output=output, recorded=recorded, needs=(first, second)
        )


@given(st.integers(1, 6), st.data())
def test_front_solves_the_recurrence_of_beaumont_hypothesis(count, data):
    numbers = st.lists(st.integers(1, 9), min_size=count, max_size=count)
    output, more = data.draw(numbers), data.draw(numbers)
    assert_the_front_solves_the_recurrence_of_beaumont(
        80,
        forward=data.draw(numbers),
        backward=data.draw(numbers),
        output=output,
        recorded=[a + extra for a, extra in zip(output, more, strict=True)],
        needs=(data.draw(numbers), data.draw(numbers)),
    )


@given(st.integers(1, 40), st.integers(1, 6))
def test_front_equals_the_table_of_10_where_all_blocks_are_equal_hypothesis(steps, known):
    table = build("msm", steps, known * steps + 1, internal=known + 1, internal_known=known)
    front = solve_front(checks.shared_slots(steps, known))
    for m in range(1, known * steps + 2):
        assert front.cost(m - 1) == table.cost(steps, m)


# --- equal blocks, and a last one that may differ


@st.composite
def equal_blocks(draw, *, longest, most=6):
    """Equal blocks that need most while they go backward, and a last block of any kind."""
    output, internal = draw(st.integers(1, most)), draw(st.integers(0, 3 * most))
    block = Block(advance=2, record=3, backward=draw(st.integers(0, 3)), output=output, internal=internal)
    block = replace(block, backward_need=draw(st.integers(0, most)))
    last = draw(blocks(longest=1, most=most) | st.just([block]))
    return [block] * draw(st.integers(1, longest)) + last


def test_equal_blocks_have_the_front_of_all_their_parts_exhaustive():
    for output, internal, count in itertools.product(range(1, 4), range(7), range(2, 11)):
        chain = [Block(advance=3, backward=1, output=output, internal=internal, backward_need=output)] * count
        assert solve_front(chain).points == all_parts(chain)
        assert_every_point_is_metered_exactly(chain)


def test_equal_blocks_and_a_loss_have_the_front_of_all_their_parts_exhaustive():
    for output, internal, count, need in itertools.product((1, 3), (0, 2, 5), range(1, 9), (0, 2, 9, 40)):
        chain = [Block(advance=3, backward=1, output=output, internal=internal, backward_need=output)] * count
        chain.append(Block(advance=1, backward=1, output=0, internal=1, backward_need=need))
        assert solve_front(chain).points == all_parts(chain)
        assert_every_point_is_metered_exactly(chain)


@given(equal_blocks(longest=20))
def test_equal_blocks_have_the_front_of_all_their_parts_hypothesis(chain):
    assert solve_front(chain).points == all_parts(chain)


def test_few_equal_blocks_of_odd_sizes_need_no_table_of_gigabytes():
    block = Block(advance=2, record=2, backward=2, output=100, internal=101, backward_need=10**12)
    chain = [block, block, replace(block, internal=2 * 10**12)]
    assert front_module._equal_blocks(everything_alive(chain)).table_bytes > front_module.TABLE
    assert solve_front(chain).points == all_parts(chain)
    assert_every_point_is_metered_exactly(chain)


@settings(max_examples=25)
@given(equal_blocks(longest=40, most=10**6))
def test_equal_blocks_are_metered_exactly_hypothesis(chain):
    assert_every_point_is_metered_exactly(chain)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 60), st.integers(-99, 99), st.data())
def test_a_split_of_equal_blocks_costs_what_its_parts_cost_hypothesis(count, output, more, last, data):
    internal = output + more

    def least(t, room, extra):
        points = EqualBlocks(t, output, internal, extra).points()
        return min((cost for least_room, cost in points.items() if least_room <= room), default=None)

    solved = EqualBlocks(count, output, internal, last)
    room = data.draw(st.integers(0, solved.kept + (count - 1) * internal))
    cost = least(count, room, last)
    assume(cost is not None)
    split = solved.split(count, room)
    if split == 0:
        assert cost == 0
    else:
        assert cost == split + least(split - 1, room, 0) + least(count - split, room - output, last)


def test_a_thousand_equal_blocks_run_from_the_start_for_each_where_there_is_room_for_nothing_else():
    chain = [Block(output=1, internal=9, backward=2, backward_need=1)] * 1000
    front = solve_front(chain)
    assert front.points[-1][1] == 3000
    assert front.points[0][1] == 2000 + 1000 * 1001 // 2
    report = meter_chain(front.schedule(int(front.bytes[0])), chain)
    assert (report.bytes, report.cost) == front.points[0]


@pytest.mark.parametrize("last", [0, -7, 50])
def test_the_work_of_equal_blocks_is_known_beforehand(last):
    solved = EqualBlocks(300, 10, 67, last)
    rows, count = len(solved._room), solved.count
    assert rows * count**2 // 2 <= solved.additions <= 3 * rows * count**2


def test_equal_blocks_with_a_loss_of_many_times_their_bytes_are_solved_in_full():
    chain = [Block(output=1, internal=1, backward_need=1)] * 10 + [Block(output=1, internal=10**6)]
    assert front_module._equal_blocks(everything_alive(chain)).additions > front_module.ADDITIONS
    assert solve_front(chain).points == all_parts(chain)


@pytest.mark.parametrize("where", [0, 5, 11])
def test_one_block_that_differs_is_noticed(where):
    chain = [Block(output=4, internal=9, backward_need=4)] * 12
    chain[where] = replace(chain[where], internal=10)
    assert solve_front(chain).points == naive_front(chain)


@pytest.mark.parametrize(("name", "need"), [("advance_need", 100), ("record_need", 100), ("record_need", 5)])
def test_equal_blocks_that_need_most_where_the_shortcut_does_not_look_are_solved_in_full(name, need):
    chain = [replace(Block(output=4, internal=9, backward_need=4), **{name: need})] * 8
    assert solve_front(chain).points == naive_front(chain)
    assert_every_point_is_metered_exactly(chain)


@pytest.mark.parametrize("sizes", [(-1, 1, 1), (2**14, 1, 1), (3, 0, 1), (3, 2, 1)])
def test_equal_blocks_refuse_what_has_no_meaning(sizes):
    with pytest.raises(ValueError, match="count must be between"):
        EqualBlocks(*sizes)


# --- the machine that weighs everything alive

TWO = [
    Block(advance=2, record=3, backward=5, output=10, internal=100, advance_need=1, record_need=7, backward_need=30),
    Block(advance=2, record=3, backward=5, output=20, internal=200, advance_need=1, record_need=7, backward_need=40),
]
LAST = [Record(1), Backpropagate(1)]
FIRST = [Restore(0), Record(0), Backpropagate(0), DropHidden(0)]


@pytest.mark.parametrize(
    ("stream", "cost", "peak"),
    [
        # Block 1 goes backward: its input 10, graph 200, output 20, that one's gradient 20, and 40.
        ([Advance(0, 1), *LAST, *FIRST], 2 + 3 + 5 + 3 + 5, 290),
        # The same with graph 0 kept beside it: output 0 and input 1 are one tensor.
        ([Record(0), StoreInternal(0), *LAST, LoadInternal(0), Backpropagate(0), DropHidden(0)], 16, 390),
        # An output stored by itself is the working state too, and counts once.
        ([Advance(0, 1), StoreHidden(1), *LAST, DropHidden(1), *FIRST], 18, 290),
    ],
)
def test_everything_alive_is_counted_once(stream, cost, peak):
    report = meter_chain(stream, TWO)
    assert (report.cost, report.bytes) == (cost, peak)


@pytest.mark.parametrize(
    ("changed", "peak"),
    [
        ({"advance_need": 1000}, 10 + 1000),  # beside output 0, the input being the caller's
        ({"record_need": 1000}, 10 + 100 + 1000 + 10),  # beside graph 0, output 0 and its gradient, which waits
        ({"backward_need": 1000}, 10 + 100 + 10 + 1000),  # beside graph 0, output 0 and its gradient
    ],
)
def test_what_a_running_block_needs_is_on_top_of_what_is_alive(changed, peak):
    chain = [replace(TWO[0], **changed), TWO[1]]
    assert meter_chain([Advance(0, 1), *LAST, *FIRST], chain).bytes == peak


def test_an_illegal_stream_on_a_chain_is_refused_with_its_index():
    with pytest.raises(IllegalActionError, match=r"action 1, Record\(step=0\): the working state is not at position 0"):
        meter_chain([Advance(0, 1), Record(0)], TWO)
    with pytest.raises(IllegalActionError, match="step 0 not backpropagated"):
        meter_chain([Advance(0, 1), *LAST], TWO)


@given(blocks(longest=8), st.data())
def test_no_action_of_a_schedule_can_be_left_out_hypothesis(chain, data):
    front = solve_front(chain)
    stream = list(front.schedule(data.draw(st.sampled_from(front.points))[0]))
    left_out = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(IllegalActionError):
        meter_chain(stream[:left_out] + stream[left_out + 1 :], chain)


def test_a_choice_made_worse_is_caught_by_the_machine():
    front = solve_front(PYRAMID)
    room, cost = front.points[-1]
    report = meter_chain(replace(front, choose=lambda start, stop, room: 1).schedule(room), PYRAMID)
    assert report.cost > cost


# --- refusals


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("advance", 0, ValueError),
        ("record", 0, ValueError),
        ("backward", -1, ValueError),
        ("output", -1, ValueError),
        ("internal", 1.5, TypeError),
        ("advance_need", True, TypeError),
        ("record_need", -1, ValueError),
        ("backward_need", "3", TypeError),
    ],
)
def test_a_block_refuses_what_is_no_cost_or_size(field, value, error):
    with pytest.raises(error, match=field):
        Block(**{"output": 1, "internal": 1, field: value})


def test_a_chain_without_blocks_is_refused():
    with pytest.raises(ValueError, match="at least one block"):
        solve_front([])


@pytest.mark.parametrize(
    "block",
    [
        Block(output=2**48, internal=1),
        Block(output=1, internal=1, backward_need=2**48),
        Block(output=1, internal=1, record=2**60),
    ],
)
def test_numbers_too_large_to_be_exact_are_refused(block):
    with pytest.raises(ValueError, match=r"must stay below 2\*\*48|cost less than 2\*\*60"):
        solve_front([block])


@pytest.mark.parametrize("change", [{"gradient": (0,)}, {"output": (-1, 0)}, {"carried": (11, 20)}])
def test_a_recurrence_refuses_terms_that_have_no_meaning(change):
    with pytest.raises(ValueError, match=r"one entry a block|at least 0|cannot take more"):
        replace(everything_alive(TWO), **change)


def test_a_chain_too_long_to_be_solved_is_refused_before_anything_is_solved(monkeypatch):
    monkeypatch.setattr(front_parts.Parts, "_solve", None)
    chain = [replace(block, output=block.output + i) for i, block in enumerate(PYRAMID * 100)]
    with pytest.raises(ValueError, match=r"400 blocks .* join neighbouring blocks .* until about 300 of them are left"):
        solve_front(chain)


def test_a_long_chain_whose_blocks_differ_is_solved_with_a_few_points_a_part_and_says_how_near(monkeypatch):
    chain = [replace(block, output=block.output + i) for i, block in enumerate(PYRAMID * 5)]
    exact = solve_front(chain)
    monkeypatch.setattr(front_parts.Parts, "limit", 10**3)
    monkeypatch.setattr(front_near, "MOST", (64, 8))
    monkeypatch.setattr(front_near.Near, "limit", 3 * 10**4)
    seen = []
    front = solve_front(chain, tell=lambda *at: seen.append(at))
    assert len(front) < len(exact)
    assert front.bytes[0] == exact.bytes[0]
    assert all(front.least(room) <= cost <= front.cost(room) for room, cost in exact.points)
    assert any(front.least(room) < front.cost(room) for room, _ in front.points)
    assert all(
        (meter_chain(front.schedule(room), chain).bytes, front.schedule(room).cost) == (room, cost)
        for room, cost in front.points
    )
    assert seen[-1][0] == seen[-1][1] == len(seen)


@pytest.mark.parametrize(("name", "most"), [("limit", 100), ("memory", 12_000)])
def test_a_chain_too_long_to_be_solved_is_refused_and_one_of_larger_blocks_is_solved(monkeypatch, name, most):
    for parts in (front_parts.Parts, front_near.Near):
        monkeypatch.setattr(parts, name, most)
    chain = [replace(block, output=block.output + i) for i, block in enumerate(PYRAMID * 2)]
    with pytest.raises(ValueError, match=r"8 blocks .* join neighbouring blocks"):
        solve_front(chain)
    joined = [
        replace(second, internal=first.internal + first.output + second.internal)
        for first, second in zip(chain[::2], chain[1::2], strict=True)
    ]
    assert solve_front(joined).points == naive_front(joined)


def test_a_budget_below_the_least_names_that_one_and_it_works():
    front = solve_front(PYRAMID)
    least = int(front.bytes[0])
    with pytest.raises(ValueError, match=f"at least {least} bytes, got a budget of {least - 1}"):
        front.schedule(least - 1)
    assert meter_chain(front.schedule(least), PYRAMID).bytes == least


def test_a_front_descends_in_cost_and_ascends_in_bytes():
    front = solve_front(PYRAMID)
    assert len(front) == len(front.points) == 3
    assert (np.diff(front.bytes) > 0).all()
    assert (np.diff(front.costs) < 0).all()


def test_a_recurrence_with_methods_of_its_own_is_not_taken_for_equal_blocks():
    terms = everything_alive([Block(output=4, internal=9, backward_need=4)] * 6)

    class Dearer(Recurrence):
        def around(self, start, stop, /):
            return super().around(start, stop) + 5

    own = Dearer(*terms.terms())
    assert solve_front(own).bytes[0] == solve_front(terms).bytes[0] + 5


# --- equal blocks with others before them

EQUAL = Block(advance=10, record=11, backward=20, output=5, internal=15, backward_need=6)
OTHERS = (
    Block(advance=3, record=4, backward=7, output=5, internal=9, backward_need=3),
    Block(advance=8, record=9, backward=9, output=2, internal=30, advance_need=4, backward_need=1),
)
TAIL = Block(advance=1, record=2, backward=3, output=1, internal=7, backward_need=3)


@pytest.mark.parametrize("others", [1, 2])
@pytest.mark.parametrize("count", [2, 5, 12, 30])
def test_with_others_before_equal_blocks_every_point_is_metered_and_near_the_exact_front(others, count):
    chain = [*OTHERS[:others], *[EQUAL] * count, TAIL]
    exact, front = solve_front(chain), front_module.front_with_others_before(everything_alive(chain), others)
    for room, cost in front.points:
        report = meter_chain(front.schedule(room), chain)
        assert (report.bytes, report.cost) == (room, cost)
        assert cost >= exact.cost(room)
    for room, cost in exact.points:
        assert front.cost(room + EQUAL.output + OTHERS[0].output) <= cost


def test_a_thousand_equal_blocks_with_others_before_them_are_solved():
    front = solve_front([*OTHERS, *[EQUAL] * 1000, TAIL])
    for room, cost in (front.points[0], front.points[len(front) // 2], front.points[-1]):
        report = meter_chain(front.schedule(room), [*OTHERS, *[EQUAL] * 1000, TAIL])
        assert (report.bytes, report.cost) == (room, cost)


@pytest.mark.parametrize("others", [0, 1, 2])
@pytest.mark.parametrize("last", [(TAIL, OTHERS[0]), (*OTHERS, TAIL), (OTHERS[1], TAIL, OTHERS[0], TAIL)], ids=len)
@pytest.mark.parametrize("count", [6, 9, 20])
def test_a_few_others_after_equal_blocks_are_recorded_together_and_every_point_is_metered(
    monkeypatch, others, last, count
):
    chain = [*OTHERS[:others], *[EQUAL] * count, *last]
    terms, exact = everything_alive(chain), solve_front(chain)
    monkeypatch.setattr(front_module, "MANY", 4)
    front = solve_front(chain)
    assert front.cuts == (*range(others + count + 1), len(chain))
    assert_every_point_is_metered_exactly(chain)
    more = sum(terms.internal[others + count : -1]) + EQUAL.output + (EQUAL.output + OTHERS[0].output) * (others > 0)
    for room, cost in exact.points:
        assert front.cost(room + more) <= cost
    assert all(cost >= exact.cost(room) for room, cost in front.points)


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("last", [(), (TAIL,), (*OTHERS, TAIL)], ids=len)
@pytest.mark.parametrize("count", [20, 21, 22, 23])
def test_equal_blocks_whose_table_is_too_large_are_grouped_and_every_point_is_metered(monkeypatch, others, last, count):
    chain = [*OTHERS[:others], *[EQUAL] * count, *last]
    exact = solve_front(chain)
    monkeypatch.setattr(front_module, "MANY", 4)
    monkeypatch.setattr(front_module, "ADDITIONS", 3000)
    front = solve_front(chain)
    own = others + (others > 0)  # the first equal block after another one is given something else
    assert front.cuts[:own] == (*range(own),)
    assert set(np.diff(front.cuts[own:-1])) == {2}
    assert front.cuts[-1] == len(chain)
    assert_every_point_is_metered_exactly(chain)
    assert all(cost >= exact.cost(room) for room, cost in front.points)


@pytest.mark.parametrize("chain", [[OTHERS[0], *[EQUAL] * 1000, OTHERS[1], TAIL], [*[EQUAL] * 4095, TAIL]], ids=len)
def test_a_thousand_equal_blocks_between_others_and_four_thousand_are_solved(chain):
    front = solve_front(chain)
    for room, cost in (front.points[0], front.points[len(front) // 2], front.points[-1]):
        report = meter_chain(front.schedule(room), chain)
        assert (report.bytes, report.cost) == (room, cost)


def test_a_recurrence_of_one_s_own_is_not_grouped(monkeypatch):
    class Dearer(Recurrence):
        def around(self, start, stop, /):
            return super().around(start, stop) + 5

    monkeypatch.setattr(front_module, "MANY", 4)
    front = solve_front(Dearer(*everything_alive([*[EQUAL] * 9, *OTHERS]).terms()))
    assert not front.cuts
