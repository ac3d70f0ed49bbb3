"""Which compiled core is worth compiling, by those that were: what is left out would have gained next to nothing."""

from dataclasses import replace
from itertools import combinations, product
from math import inf

import pytest

pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from membptt.planning import promising as module
from membptt.planning.promising import Goal, disagreeing, expected, first, hopeful, promising
from membptt_theory.footprint import Measured

CHUNKS = 1, 2, 4, 8, 16


def line(chunk, steps, *, kept=2, hidden=1, step=1.0, beside=0.0, compiled=True):
    """A core whose bytes and times lie on a line: what a step keeps and takes, and what a core takes beside."""

    def internal(steps):
        return steps * (kept + hidden) - hidden

    sizes = chunk, hidden, hidden, internal(chunk), internal(steps % chunk or chunk), 0
    return Measured(*sizes, beside + chunk * step, beside + 3 * chunk * step, compiled=compiled)


def tried(cores, goal, start):
    """Compile as planning does: some size first, and then whatever promises the least."""
    left = {sizes.chunk: sizes for sizes in cores}
    known = [left.pop(start)]
    while (chunk := promising(known, list(left), goal)) is not None:
        known.append(left.pop(chunk))
    return known


def check_search(steps, budget, start, **sizes):
    """What was tried takes hardly longer than the best of all, if overheads are as expected, or were seen.

    As expected of larger cores are those that are as small; of smaller ones, those that are as large.
    """
    goal = Goal(steps, budget, ("hsm", "ism"))
    cores = {chunk: line(chunk, steps, **sizes) for chunk in CHUNKS if chunk <= steps}
    start = max(chunk for chunk in cores if chunk <= start)
    known, best = tried([*cores.values()], goal, start), min(goal.least([*cores.values()]).values(), default=inf)
    small = sizes["beside"] <= min(module._ADVANCE, cores[start].advance / 2) or start == max(cores)
    large = sizes["beside"] >= module._BACKPROP or start == 1
    if len(known) > 1 or (small and large):
        assert min(goal.least(known).values(), default=inf) <= best / (1 - module._NOTICED) * (1 + 1e-9)


@pytest.mark.parametrize("steps", [1, 5, 12, 33])
@pytest.mark.parametrize("start", [1, 4, 16])
@pytest.mark.parametrize("beside", [0.0, 0.1e-4, 0.3e-4, 1e-3])
def test_no_size_that_is_left_out_would_have_gained_more_than_what_is_noticed(steps, start, beside):
    for kept, hidden, step, budget in product((0, 2, 9), (1, 3), (1e-5, 1e-4, 2e-3), (3, 9, 20, 60, 200)):
        check_search(steps, budget, start, kept=kept, hidden=hidden, step=step, beside=beside)


@given(
    steps=st.integers(1, 80),
    budget=st.integers(1, 500),
    start=st.sampled_from(CHUNKS),
    kept=st.integers(0, 20),
    hidden=st.integers(1, 9),
    step=st.floats(1e-6, 1e-2),
    beside=st.floats(0, 1e-2),
)
def test_no_size_that_is_left_out_would_have_gained_more_at_any_sizes(steps, budget, start, **sizes):
    check_search(steps, budget, start, **sizes)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_sizes_on_a_line_are_expected_exactly_from_any_two_of_them(chunk):
    for known in combinations(CHUNKS, 2):
        told = [line(size, 21, beside=0.5) for size in known]
        sizes, exact = expected(told, chunk, 21), line(chunk, 21, beside=0.5)
        assert (sizes.internal, sizes.tail) == (exact.internal, exact.tail)
        assert (sizes.advance, sizes.backprop) == pytest.approx((exact.advance, exact.backprop))


@pytest.mark.parametrize(("known", "chunk"), [*product(CHUNKS, CHUNKS)])
def test_of_one_alone_bytes_are_those_of_as_many_and_of_the_states_between_them(known, chunk):
    sizes, exact = expected([line(known, 21)], chunk, 21), line(chunk, 21)
    assert (sizes.internal, sizes.tail) == (exact.internal, exact.tail)


def test_of_one_alone_what_adding_gradients_up_takes_is_saved_by_a_larger_core_and_lost_by_a_smaller_one():
    alone = line(4, 64, step=1.0)
    for chunk in (2, 8):
        sizes = expected([alone], chunk, 64, adding=3.0)
        assert sizes.backprop == sizes.stored == pytest.approx(3.0 + 9.0 * chunk / 4)
    assert promising([alone], [8], Goal(64, 10**4), adding=3.0) == 8
    assert promising([alone], [8], Goal(64, 10**4)) is None


def test_no_step_is_expected_to_take_less_in_a_smaller_core():
    known = [line(4, 64), line(8, 64, step=70.0)]
    assert expected(known, 1, 64).advance == 1


def test_the_first_core_to_be_compiled_has_as_many_steps_as_the_fastest_eager_one_unless_its_graph_is_large():
    def chosen(fastest, chunks, nodes, close=2.0):
        eager = [line(chunk, 240, step=1.0 if chunk == fastest else close, compiled=False) for chunk in (*CHUNKS, 100)]
        return first(Goal(240, 10**5).least(eager), chunks, nodes)

    assert chosen(8, CHUNKS, 20) == 8
    assert chosen(100, CHUNKS, 1) == 16
    assert chosen(100, CHUNKS, 65) == 2
    assert chosen(8, CHUNKS, inf) == 1
    assert chosen(1, [7], 10**6) == 7
    assert chosen(2, CHUNKS, 10, close=1.05) == 16


def test_where_no_eager_core_fits_one_step_is_compiled_first():
    assert first(Goal(60, 1).least([line(4, 60, compiled=False)]), CHUNKS, 1) == 1


def test_of_three_the_two_next_to_it_tell_what_is_expected():
    known = [line(1, 64), line(4, 64), line(16, 64, step=2.0)]
    assert expected(known, 2, 64).advance == pytest.approx(2)
    assert expected(known, 8, 64).advance == pytest.approx(4 + 28 / 3)
    assert expected(known, 28, 64).advance == pytest.approx(32 + 28)


def test_times_that_fall_with_the_size_promise_no_more_than_the_same_time():
    known = [line(1, 64), replace(line(2, 64), advance=0.5, backprop=0.5)]
    assert expected(known, 4, 64).advance == 1


def test_nothing_is_compiled_where_an_eager_core_takes_less_than_any_can_promise():
    eager = line(1, 64, step=0.5, compiled=False)
    assert promising([line(1, 64)], CHUNKS[1:], Goal(64, 1000)) is not None
    assert promising([eager, line(1, 64)], CHUNKS[1:], Goal(64, 1000)) is None


def test_the_smallest_of_those_that_promise_about_the_least_is_compiled():
    for beside, chunk in ((10.0, 16), (0.45, 4), (0.2, None)):  # the last gain 2.8 % over two steps a core
        known = [line(1, 64, beside=beside), line(2, 64, beside=beside)]
        assert promising(known, [4, 8, 16], Goal(64, 10**4)) == chunk


def test_a_size_that_does_not_fit_promises_nothing():
    known = [line(1, 64, beside=10.0), line(2, 64, beside=10.0)]
    assert promising(known, [16], Goal(64, 20)) is None
    assert promising(known, [4, 16], Goal(64, 20)) == 4


def test_timed_with_care_is_what_comes_within_a_twentieth_of_the_fastest_at_a_look():
    cores = [
        line(1, 60, step=1.0),
        line(2, 60, step=1.03),
        line(4, 60, step=1.1),
        line(4, 60, step=0.99, compiled=False),
    ]
    assert hopeful(cores, Goal(60, 10**4)) == [cores[0], cores[1], cores[3]]
    assert hopeful(cores, Goal(60, 1)) == cores


def test_timed_with_care_is_one_of_either_kind_that_fits():
    eager = [line(chunk, 60, step=step, compiled=False) for chunk, step in ((1, 1.5), (2, 1.3), (30, 1.0))]
    compiled, slow = line(1, 60), line(1, 60, step=70.0)
    assert hopeful([*eager, compiled], Goal(60, 50)) == [eager[1], compiled]
    assert hopeful([eager[2], compiled], Goal(60, 50)) == [compiled]
    assert hopeful([*eager, slow], Goal(60, 50)) == [eager[1], slow]


def test_no_eager_core_is_timed_with_care_that_takes_half_as_long_again_as_a_compiled_one():
    eager = line(2, 60, step=1.6, compiled=False)
    assert hopeful([eager, line(1, 60)], Goal(60, 10**4)) == [line(1, 60)]


@pytest.mark.parametrize("times", [("advance",), ("backprop",), ("apart",)])
@pytest.mark.parametrize("at", range(4))
def test_a_core_that_was_held_up_disagrees_with_those_next_to_it(times, at):
    cores = [replace(line(chunk, 64, beside=0.5), apart=4.0 * chunk) for chunk in (1, 2, 4, 8)]
    assert not disagreeing(cores)
    cores[at] = replace(cores[at], **{time: 70 * getattr(cores[at], time) for time in times})
    assert disagreeing(cores) == [cores[at]]


def test_cores_of_another_kind_say_nothing_of_a_time():
    assert not disagreeing([line(1, 64), line(2, 64), line(1, 64, step=100.0, compiled=False)])
