"""Loops of unknown length: streams cost what is said, rules equal their referees, promises are kept."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs.online_oracle import by_budget, by_levels, equinox_forwards, least_worst_ratio, with_graphs
from membptt_proofs.online_ranges import costs_by_slopes, worst_ratio
from membptt_theory import online
from membptt_theory.actions import Advance, DropHidden, Record, ReduceInternal, Sizes, StoreHidden
from membptt_theory.footprint import Measured, peak_bytes
from membptt_theory.machine import IllegalActionError, Machine, meter
from membptt_theory.online import internal
from membptt_theory.online import stream as streams
from membptt_theory.online.gaps import NEVER, gap_cost, gap_split, gaps_cost, losses, reach
from membptt_theory.online.policies import CHECKED, MOST_CHECKED, change, for_every_t, handover_level
from membptt_theory.online.rule import Rule, by_rule, filled, front_filling
from membptt_theory.online.staged import bound_after, handed_over, held_at
from membptt_theory.tables import optimal_cost, optimal_split
from membptt_theory.timeline import timeline

NAMES = list(online.POLICIES)


def metered(steps: int, slots: int, name: str):
    return meter(online.schedule(steps, slots, policy=name), steps=steps, sizes=online.SIZES)


def held_along(stores, held=(0,)):
    """What is held after 1, 2, .. steps."""
    held, t = list(held), 1
    for store in stores:
        while t <= store.due:
            yield list(held)
            t += 1
        change(held, store)
    while True:
        yield list(held)


@pytest.mark.parametrize("name", NAMES)
def test_metered_forwards_are_the_cost_and_the_peak_fits_exhaustive(name):
    for m in range(1, 7):
        for t, cost in enumerate(islice(online.POLICIES[name].costs(m), 40), start=1):
            report = metered(t, m, name)
            assert (report.forwards, report.recorded) == (cost, t)
            assert report.peak <= m
            assert online.cost(t, m, policy=name) == cost


@given(st.integers(1, 3_000), st.integers(1, 120), st.sampled_from(NAMES))
def test_metered_forwards_are_the_cost_and_the_peak_fits(steps, slots, name):
    report = metered(steps, slots, name)
    assert (report.forwards, report.recorded) == (online.cost(steps, slots, policy=name), steps)
    assert report.peak <= slots


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(1, 20_000), st.integers(1, 200), st.sampled_from(NAMES))
def test_metered_forwards_are_the_cost_of_long_loops(steps, slots, name):
    report = metered(steps, slots, name)
    assert report.forwards == online.cost(steps, slots, policy=name)
    assert report.peak <= slots


def test_no_policy_beats_the_offline_optimum_exhaustive():
    for name in NAMES:
        for m in range(1, 9):
            for t, cost in enumerate(islice(online.POLICIES[name].costs(m), 200), start=1):
                assert cost >= optimal_cost("hsm", t, m)


@given(st.integers(1, 2_000), st.integers(1, 60), st.sampled_from(NAMES))
def test_no_policy_beats_the_offline_optimum(steps, slots, name):
    assert online.cost(steps, slots, policy=name) >= optimal_cost("hsm", steps, slots)


def driven(steps: int, slots: int, name: str) -> list:
    """A stream driven as a runtime drives it, on a machine that learns its length at the end."""
    stream = online.Stream(slots, policy=name)
    machine = Machine(NEVER, online.SIZES)
    done = []

    def execute(instructions):
        for kind, places in instructions:
            done.append((kind, places))
            machine.execute(kind(*places))

    for step in range(steps):
        todo = stream.before(step)
        if todo and machine.position != todo[-1][1][0]:
            execute([(Advance, (machine.position, *todo[-1][1]))])
        execute(todo)
        assert machine.used <= slots
        assert machine.used == len(stream.held)
    last = steps - stream.policy.keeps_newest
    if machine.position != last:
        execute([(Advance, (machine.position, last))])
    machine.next_backward = steps - 1
    if stream.policy.keeps_newest:
        execute([(Record, (last,))])
    execute(stream.end(steps))
    machine.finish()
    return done


@pytest.mark.parametrize("name", NAMES)
def test_a_driven_stream_is_the_whole_stream_exhaustive(name):
    for m in range(1, 6):
        for t in range(1, 31):
            assert driven(t, m, name) == list(online.instructions(t, m, policy=name))


@given(st.integers(1, 800), st.integers(1, 40), st.sampled_from(NAMES))
def test_a_driven_stream_is_the_whole_stream(steps, slots, name):
    assert driven(steps, slots, name) == list(online.instructions(steps, slots, policy=name))


def test_nothing_is_due_but_at_the_step_that_is_exposed():
    for name in NAMES:
        stream = online.Stream(7, policy=name)
        for step in range(500):
            expected = stream.due
            assert expected >= step
            assert bool(stream.before(step)) == (step == expected)


def test_asking_only_when_something_is_due_is_enough():
    for name in NAMES:
        asked, silent = online.Stream(5, policy=name), online.Stream(5, policy=name)
        for step in range(300):
            asked.before(step)
            if step == silent.due:
                silent.before(step)
        assert list(asked.end(300)) == list(silent.end(300))


def test_the_default_stores_the_input_of_the_newest_step_until_it_hands_over_and_the_carry_from_then_on():
    for m in (2, 5, 12):
        stop = reach(m, 3)
        for store in for_every_t(m, 3):
            assert store.due == store.position + (store.due < stop)
            if store.due > 4 * stop:
                break
        assert store.due > stop


def test_every_store_of_a_full_machine_drops_first():
    stream = online.Stream(4)
    for step in range(200):
        todo = stream.before(step)
        assert [kind for kind, _ in todo] in ([], [StoreHidden], [DropHidden, StoreHidden])


def test_a_backward_pass_can_be_asked_for_twice():
    stream = online.Stream(4)
    for step in range(50):
        stream.before(step)
    assert list(stream.end(50)) == list(stream.end(50))


def test_gap_costs_and_splits_are_the_closed_forms_exhaustive():
    for s in range(1, 13):
        assert gap_cost(0, s) == 0
        for steps in range(1, 301):
            assert gap_cost(steps, s) == optimal_cost("hsm", steps, s)
            assert gap_split(steps, s) == optimal_split("hsm", steps, s)


@given(st.integers(1, 10**6), st.integers(1, 200))
def test_gap_costs_and_splits_are_the_closed_forms(steps, slots):
    assert gap_cost(steps, slots) == optimal_cost("hsm", steps, slots)
    assert gap_split(steps, slots) == optimal_split("hsm", steps, slots)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=12), st.integers(0, 5))
def test_losses_are_the_costs_with_each_state_lost(gaps, spare):
    slots = len(gaps) + spare
    joined = [[*gaps[: j - 1], gaps[j - 1] + gaps[j], *gaps[j + 1 :]] for j in range(1, len(gaps))]
    assert losses(gaps, slots) == (gaps_cost(gaps, slots), [gaps_cost(fewer, slots) for fewer in joined])


def same_as_naive(slots: int, steps: int, rule: Rule) -> None:
    bound = Fraction(*rule.bound)
    naive = by_budget(slots, steps, lambda _: bound, ahead=rule.ahead, delay=rule.delay, latest=rule.latest)
    for held, expected in zip(held_along(by_rule(slots, rule)), naive, strict=False):
        assert held == [0, *expected]


def test_a_rule_decides_as_all_choices_from_scratch_exhaustive():
    for delay in (0, 1):
        for latest in (False, True):
            for bound in ((1, 1), (15, 14), (41, 35)):
                for ahead in (0, 1, 3):
                    same_as_naive(4, 60, Rule(bound, ahead, delay, latest))


@settings(max_examples=30)
@given(st.integers(2, 9), st.integers(1, 80), st.integers(0, 5), st.integers(0, 1), st.booleans())
def test_a_rule_decides_as_all_choices_from_scratch(slots, more, ahead, delay, latest):
    same_as_naive(slots, 90, Rule((more + 8, more + 7), ahead, delay, latest))


def test_levels_are_those_of_a_naive_simulation_exhaustive():
    for m in range(1, 8):
        stores = online.policy("wang_moin_iaccarino").stores(m)
        for held, expected in zip(held_along(stores), by_levels(m, 150), strict=False):
            assert held == [0, *expected]


@settings(max_examples=25)
@given(st.integers(1, 1_500), st.integers(1, 60))
def test_equinox_is_counted_as_its_program_runs(steps, slots):
    assert online.cost(steps, slots, policy="equinox") == equinox_forwards(slots, steps)


def test_front_filling_ends_full_and_wastes_nothing_exhaustive():
    for m in range(2, 13):
        held = [0]
        for store in front_filling(m):
            change(held, store)
            t = store.due + 1
            assert t + gaps_cost([b - a for a, b in zip(held, [*held[1:], t - 1], strict=True)], m) == optimal_cost(
                "hsm", t, m
            )
        assert held == filled(m)
        assert store.due + 1 == reach(m, 2) - 1


def test_the_staged_policy_holds_what_its_stages_say_exhaustive():
    for m in range(2, 9):
        for t, held in enumerate(islice(held_along(online.policy("staged").stores(m)), 400), start=1):
            expected, until = held_at(t, m)
            assert held == expected
            assert until >= t
            assert len(held) <= m


@given(st.integers(2, 30), st.integers(1, 10**7))
def test_the_staged_policy_changes_only_where_it_says(slots, steps):
    held, until = held_at(steps, slots)
    assert len(held) <= slots
    assert held == sorted(set(held))
    if until < NEVER:
        assert held_at(until, slots)[0] == held
        after = held_at(until + 1, slots)[0]
        assert set(after) <= {*held, until}


@settings(max_examples=20)
@given(st.integers(2, 40), st.integers(1, 4_000))
def test_the_default_keeps_its_promise(slots, steps):
    assert online.cost(steps, slots) <= online.promise(slots) * optimal_cost("hsm", steps, slots)


def test_what_is_handed_over_is_bounded_whatever_was_held():
    costs = costs_by_slopes(5_000, 6)
    for level in (2, 3, 4):
        stop = reach(6, level)
        held = [0, *range(stop - 5, stop)]  # the starting state and the newest ones, as bad as can be
        bound = bound_after(6, level, held)
        assert bound > bound_after(6, level)
        for t, now in enumerate(held_along(handed_over(6, level, held), held), start=1):
            if t > 5_000:
                break
            if t > stop:
                gaps = [b - a for a, b in zip(now, [*now[1:], t - 1], strict=True)]
                assert t + gaps_cost(gaps, 6) <= bound * int(costs[6, t])


def test_the_level_of_the_handover_is_the_last_that_was_counted():
    for m in range(2, MOST_CHECKED + 1):
        q = handover_level(m)
        assert reach(m, q) <= CHECKED < reach(m, q + 1)
    assert handover_level(MOST_CHECKED + 1) == 2


def test_a_search_refuses_what_no_policy_keeps():
    with pytest.raises(ValueError, match="no policy in 2 slots keeps 1 up to 8 steps"):
        least_worst_ratio(2, 12, delay=True, most=Fraction(1))


def test_a_count_refuses_too_many_states():
    with pytest.raises(ValueError, match="3 states are held in 2 slots before step 2"):
        worst_ratio([(1, 1, ()), (2, 2, ())], 2, 9, costs_by_slopes(9, 2))


@pytest.mark.parametrize("call", [online.cost, online.instructions, lambda t, m: online.policy("greedy").held(t, m)])
def test_numbers_that_are_none_are_refused(call):
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        call(0, 3)
    with pytest.raises(ValueError, match="slots must be at least 1, got 0"):
        call(3, 0)
    with pytest.raises(TypeError, match="slots must be an integer, got '2' of type str"):
        call(3, "2")


def test_an_unknown_policy_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match="unknown online policy 'best'; there are for_every_t, budget") as error:
        online.cost(3, 2, policy="best")
    for name in str(error.value).split("there are ")[1].split(", "):
        assert online.cost(3, 2, policy=name) >= 5


def test_a_step_that_was_passed_over_is_refused_and_announcing_it_helps():
    stream = online.Stream(3)
    with pytest.raises(ValueError, match="step 2 was passed over: a state is stored before it, announce it first"):
        stream.before(3)
    with pytest.raises(ValueError, match="step 2 was passed over"):
        stream.end(3)
    stream.before(2)
    stream.before(3)
    assert list(stream.end(4))


def test_a_step_is_announced_once():
    stream = online.Stream(3)
    stream.before(1)
    with pytest.raises(ValueError, match="step 1 exists already: announce each step once, in order, from 2 on"):
        stream.before(1)
    assert stream.before(2)


def test_a_loop_ends_once_and_not_before_a_step_that_exists():
    stream = online.Stream(3)
    stream.before(1)
    with pytest.raises(ValueError, match="the loop has 2 steps at least, so many were announced, got 1"):
        stream.end(1)
    stream.end(2)
    with pytest.raises(ValueError, match="the loop ended after 2 steps: there is no step 2, begin a new stream"):
        stream.before(2)


def test_a_loop_has_one_length():
    stream = online.Stream(2)
    stream.before(2)
    stream.end(3)
    with pytest.raises(ValueError, match="the loop ended after 3 steps, it cannot end after 4 too"):
        stream.end(4)
    assert list(stream.end(3))


def test_a_loop_of_no_step_has_no_backward_pass():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        online.Stream(3).end(0)


@pytest.mark.parametrize("alpha", [None, 3])
def test_what_a_policy_does_is_computed_once_however_often_its_loop_runs(alpha, monkeypatch):
    streams._remembered.cache_clear()
    first = list(online.instructions(60, 7, internal=alpha))
    for name in ("changes", "_of_hidden"):
        monkeypatch.setattr(streams, name, lambda *_: pytest.fail("computed again"))
    assert list(online.instructions(60, 7, internal=alpha)) == first
    assert list(online.instructions(41, 7, internal=alpha)) != first


@pytest.mark.parametrize("alpha", [None, 3])
def test_beyond_what_is_remembered_a_policy_goes_on_exhaustive(alpha, monkeypatch):
    expected = [list(online.instructions(t, 5, internal=alpha)) for t in range(1, 60)]
    monkeypatch.setattr(streams, "_REMEMBERED", 4)
    monkeypatch.setattr(streams, "_remembered", streams._Remembered)
    assert [list(online.instructions(t, 5, internal=alpha)) for t in range(1, 60)] == expected


def test_an_interrupt_while_a_policy_is_computed_leaves_it_whole():
    interrupts = iter([KeyboardInterrupt])

    def stores(slots):
        for store in online.POLICIES["budget"].stores(slots):
            if store.due >= 9:
                for interrupt in interrupts:
                    raise interrupt
            yield store

    policy = dataclasses.replace(online.POLICIES["budget"], stores=stores)
    remembered = streams._Remembered(policy, 3, None)
    with pytest.raises(KeyboardInterrupt):
        list(islice(remembered, 30))
    whole = streams._Remembered(online.POLICIES["budget"], 3, None)
    assert list(islice(remembered, 30)) == list(islice(whole, 30))


def test_a_stream_with_a_store_left_out_is_illegal():
    actions = [action for action in online.schedule(40, 3) if action != StoreHidden(1)]
    with pytest.raises(IllegalActionError):
        meter(actions, steps=40, sizes=online.SIZES)


MIXED = {alpha: Sizes(hidden=1, internal=alpha) for alpha in range(2, 13)}


def metered_with_graphs(steps: int, slots: int, alpha: int):
    return meter(online.schedule(steps, slots, internal=alpha), steps=steps, sizes=MIXED[alpha])


def test_with_internal_states_metered_forwards_are_the_cost_and_the_peak_fits_exhaustive():
    for alpha in (2, 3, 5):
        for m in range(1, 9):
            for t, cost in enumerate(islice(internal.costs(m, alpha), 30), start=1):
                report = metered_with_graphs(t, m, alpha)
                assert report.forwards == cost == online.cost(t, m, internal=alpha)
                assert report.peak <= m
                assert optimal_cost("msm_plus", t, m, internal=alpha) <= cost


@settings(max_examples=20)
@given(st.integers(1, 600), st.integers(1, 60), st.integers(2, 12))
def test_with_internal_states_metered_forwards_are_the_cost_and_the_peak_fits(steps, slots, alpha):
    report = metered_with_graphs(steps, slots, alpha)
    assert report.forwards == online.cost(steps, slots, internal=alpha)
    assert report.forwards >= optimal_cost("msm_plus", steps, slots, internal=alpha)
    assert report.peak <= slots


def test_what_is_held_with_internal_states_is_what_a_naive_simulation_holds():
    for alpha in (2, 4):
        for m in (1, 3, 4, 7, 10):
            stream = online.Stream(m, internal=alpha)
            for step, stored in enumerate(with_graphs(m, alpha, 50)):
                stream.before(step)
                assert stream.held == tuple(state for state, graph in stored if not graph)
                assert stream.graphs == tuple(state for state, graph in stored if graph)


@given(st.integers(1, 200), st.integers(2, 8))
def test_while_every_graph_fits_no_step_is_run_twice(slots, alpha):
    fit = 1 + slots // alpha
    assert online.cost(fit, slots, internal=alpha) == fit
    assert online.cost(fit + 1, slots, internal=alpha) > fit + 1


def test_a_stream_with_internal_states_is_legal_as_a_runtime_drives_it_that_learns_the_end_at_the_end():
    """Each step is recorded before it is known whether there is another; a graph that is given up is no core then."""
    for m in range(1, 12):
        for t in range(1, 25):
            stream, machine = online.Stream(m, internal=3), Machine(NEVER, MIXED[3])
            for step in range(t):
                for kind, places in stream.before(step):
                    if kind is StoreHidden:  # the input of the newest step, which is at hand
                        machine.core, machine.position = None, *places
                    machine.execute(kind(*places))
                assert machine.used == len(stream.held) + 3 * len(stream.graphs) <= m
                machine.core, machine.position = None, step
                machine.execute(Record(step))
            machine.next_backward = t - 1
            for kind, places in stream.end(t):
                machine.execute(kind(*places))
            machine.finish()


def test_what_is_done_before_the_second_step_is_the_same_in_any_room_that_holds_a_graph():
    for alpha in (2, 3, 7):
        for m in range(alpha, 40):
            assert online.Stream(m, internal=alpha).before(1) == internal.FIRST


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"internal": 1}, ValueError, "internal must be at least 2, got 1"),
        ({"internal": 2.5}, TypeError, "internal must be an integer"),
        ({"internal": True}, TypeError, "internal must be an integer"),
        ({"internal": 3, "policy": "greedy"}, ValueError, "give internal or policy, not both"),
    ],
)
def test_alphas_that_cannot_be_are_refused(options, error, says):
    for call in (online.cost, online.instructions, online.schedule, lambda t, m, **given: online.Stream(m, **given)):
        with pytest.raises(error, match=says):
            call(5, 4, **options)


def test_a_stream_with_internal_states_shows_in_a_timeline_and_weighs_what_its_states_do():
    stream = list(online.schedule(12, 9, internal=3))
    assert any(isinstance(action, ReduceInternal) for action in stream)
    laid_out = timeline(stream, steps=12, sizes=MIXED[3])
    assert laid_out.forwards == online.cost(12, 9, internal=3)
    # A graph of one byte between two states of one: three of them hold four states, not six.
    assert peak_bytes(stream, 12, Measured(1, 1, 1, 1, 1, 0, 0.0, 0.0)) <= 9 + 3
