"""A scan executes any schedule: Chen's, a chain's, and a stream of the caller's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from membptt import meter, plan, scan
from membptt_theory.actions import Advance, Backpropagate, DropHidden, Prices, Record, Restore, Sizes, StoreHidden
from membptt_theory.chain import Chain, solve_chain
from membptt_theory.chen import recursive_cost, recursive_schedule, sqrt_cost, sqrt_schedule
from membptt_theory.formula import Formula
from membptt_theory.front import solve_front
from membptt_theory.machine import IllegalActionError, Machine
from membptt_theory.named import NamedPolicy
from membptt_theory.schedule import Schedule, from_actions
from membptt_theory.tables import build, optimal_cost
from membptt_theory.tiers import build_tiers

from .cells import relative_error
from .strategies import blocks

EACH_ONE = Sizes(hidden=1, internal=1)


def problem(steps):
    generator = torch.Generator().manual_seed(steps)
    weight = torch.randn(3, 3, dtype=torch.float64, generator=generator).mul_(0.5).requires_grad_()
    xs = torch.randn(steps, 2, 3, dtype=torch.float64, generator=generator)
    return (
        (lambda h, x: (torch.tanh(h @ weight + x), (h * x).sum())),
        torch.zeros(2, 3, dtype=torch.float64),
        xs,
        weight,
    )


def gradient_and_report(schedule, **options):
    step, start, xs, weight = problem(schedule.cores)
    with meter() as report:
        h, ys = scan(step, start, xs, policy=schedule, params=[weight], **options)
        (gradient,) = torch.autograd.grad(h.sum() + ys.square().sum(), weight)
    return gradient, report


def plain_gradient(steps, total=torch.stack):
    step, h, xs, weight = problem(steps)
    ys = []
    for x in xs:
        h, y = step(h, x)
        ys.append(y)
    return torch.autograd.grad(h.sum() + total(ys).square().sum(), weight)[0]


def executes(schedule):
    gradient, report = gradient_and_report(schedule)
    assert report.recorded == report.backwards == schedule.cores
    assert relative_error([gradient], [plain_gradient(schedule.cores)]) <= 1e-10
    return report.forwards


@pytest.mark.parametrize("records_last", [True, False])
def test_chens_sqrt_runs_in_torch_at_its_closed_form_exhaustive(records_last):
    for steps in range(1, 13):
        for segment in range(1, steps + 2):
            schedule = sqrt_schedule(steps, segment, records_last=records_last)
            assert executes(schedule) == sqrt_cost(steps, segment, EACH_ONE, records_last=records_last).forwards


@pytest.mark.parametrize("records_last", [True, False])
def test_chens_recursion_runs_in_torch_at_its_closed_form_exhaustive(records_last):
    for steps in range(1, 13):
        for parts in range(2, steps + 2):
            schedule = recursive_schedule(steps, parts, records_last=records_last)
            assert executes(schedule) == recursive_cost(steps, parts, records_last=records_last).forwards


@given(st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_chens_strategies_run_in_torch_at_their_closed_forms_hypothesis(steps, size, records_last):
    sqrt = sqrt_schedule(steps, size, records_last=records_last)
    assert executes(sqrt) == sqrt_cost(steps, size, EACH_ONE, records_last=records_last).forwards
    recursive = recursive_schedule(steps, size + 1, records_last=records_last)
    assert executes(recursive) == recursive_cost(steps, size + 1, records_last=records_last).forwards


@given(st.integers(1, 60), st.integers(1, 30), st.integers(2, 6))
def test_a_schedule_without_a_table_runs_in_torch_hypothesis(steps, slots, internal):
    for formula in (Formula("hsm"), Formula("ism"), Formula("msm_plus", internal)):
        assert executes(formula.schedule(steps, slots)) == formula.cost(steps, slots)


def test_a_call_takes_a_formula_where_the_table_would_be_large():
    step, start, xs, weight = problem(1200)
    with meter() as report:
        h, ys = scan(step, start, xs, slots=60, policy="msm_plus", internal=5, params=[weight])
        (gradient,) = torch.autograd.grad(h.sum() + ys.square().sum(), weight)
    assert isinstance(NamedPolicy("msm_plus", 5).schedule(1200, 60).source, Formula)
    assert report.forwards == optimal_cost("msm_plus", 1200, 60, internal=5)
    assert relative_error([gradient], [plain_gradient(1200)]) <= 1e-10


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=9), st.integers(0, 12))
def test_the_schedule_of_a_chain_runs_in_torch_hypothesis(cores, slots):
    costs, sizes = zip(*cores, strict=True)
    schedule = solve_chain(Chain(costs, sizes, (0,) * len(cores)), slots).schedule(slots)
    assert executes(schedule) == schedule.meter().forwards


@given(blocks(longest=7))
def test_every_schedule_of_a_front_runs_in_torch_hypothesis(chain):
    front = solve_front(chain)
    for room, _ in front.points:
        schedule = front.schedule(room)
        assert executes(schedule) == schedule.meter().forwards


@st.composite
def own_streams(draw):
    """A legal stream of hidden states, drawn action by action; it ends by the shortest way."""
    steps = draw(st.integers(1, 7))
    machine, stream = Machine(steps, Sizes(hidden=1, internal=None)), []

    def do(action):
        machine.execute(action)
        stream.append(action)

    while machine.next_backward >= 0:
        at, last = machine.position, machine.next_backward
        moves = [Restore(q) for q in sorted(machine.hidden) if q <= last]
        if at is not None and at <= last and len(stream) < 40:
            moves += [Advance(at, stop) for stop in range(at + 1, steps + 1)]
            moves += [StoreHidden(at)] * (at not in machine.hidden)
        if len(stream) < 40:
            moves += [DropHidden(q) for q in sorted(machine.hidden) if q > 0]
        if at is not None and at <= last:
            way = [Advance(at, last)] * (at < last) + [Record(last), Backpropagate(last)]
        else:
            way = [Restore(0)] + [Advance(0, last)] * (last > 0) + [Record(last), Backpropagate(last)]
        if len(stream) >= 40 or draw(st.booleans()):
            for action in way:
                do(action)
        else:
            do(draw(st.sampled_from(moves)))
    for q in sorted(machine.hidden):
        do(DropHidden(q))
    return steps, stream


@given(own_streams())
def test_a_stream_of_ones_own_runs_as_the_machine_executed_it_hypothesis(drawn):
    steps, stream = drawn
    schedule = from_actions(stream, cores=steps)
    assert list(schedule) == stream
    assert executes(schedule) == schedule.cost == schedule.meter().forwards


def test_a_step_that_runs_twice_in_the_first_pass_gives_its_output_once():
    """Otherwise a sum over time would count it twice."""
    stream = [Advance(0, 3), Restore(0), Advance(0, 2), StoreHidden(2), Advance(2, 3), Record(3), Backpropagate(3)]
    stream += [Restore(2), Record(2), Backpropagate(2), DropHidden(2), Restore(0), Advance(0, 1), Record(1)]
    stream += [Backpropagate(1), Restore(0), Record(0), Backpropagate(0), DropHidden(0)]
    schedule = from_actions(stream, cores=4)
    gradient, report = gradient_and_report(schedule, reduce="sum")
    assert report.forwards == schedule.cost == 11
    assert relative_error([gradient], [plain_gradient(4, sum)]) <= 1e-10


def test_an_illegal_stream_of_ones_own_never_becomes_a_schedule():
    with pytest.raises(IllegalActionError, match="the working state is not at position 1"):
        from_actions([Record(1), Backpropagate(1)], cores=2)


def test_a_schedule_answers_like_the_table_that_made_it_and_says_what_does_not_fit():
    schedule = build("hsm", 9, 3).schedule(9, 3)
    step, start, xs, weight = problem(9)
    assert gradient_and_report(schedule)[1].forwards == schedule.cost
    with pytest.raises(ValueError, match=r"is of 9 cores, this call has 5"):
        scan(step, start, xs[:5], policy=schedule, params=[weight])
    with pytest.raises(ValueError, match="takes 3 slots: leave slots=4 out"):
        scan(step, start, xs, policy=schedule, slots=4, params=[weight])
    with pytest.raises(ValueError, match="has no slow tier: leave spill out"):
        scan(step, start, xs, policy=schedule, spill=True, params=[weight])
    with pytest.raises(TypeError, match="exactly one of slots=, budget= and plan=, or a Schedule"):
        scan(step, start, xs, policy=build("hsm", 9, 3), params=[weight])
    with pytest.raises(TypeError, match="a budget chooses among policies by name"):
        scan(step, start, xs, policy=schedule, budget="1MiB", params=[weight])
    planned = plan(step, start, xs, budget="64KiB", params=[weight])
    with pytest.raises(TypeError, match="a plan settles policy"):
        scan(step, start, xs, policy=schedule, plan=planned, params=[weight])
    with pytest.raises(TypeError, match="policy must be a name, a table or a Schedule, got int"):
        scan(step, start, xs, policy=7, slots=2, params=[weight])


def test_a_schedule_in_two_tiers_runs_by_itself():
    schedule = build_tiers(9, 2, 3, Prices(4, 1, 1)).schedule(9, 2)
    gradient, report = gradient_and_report(schedule)
    assert report.cost(schedule.prices) == schedule.cost
    assert relative_error([gradient], [plain_gradient(9)]) <= 1e-10


def test_a_table_changed_after_it_was_built_is_noticed_through_its_schedule():
    table = build("hsm", 11, 3)
    changed = object.__new__(type(table))
    for name, value in vars(table).items():
        object.__setattr__(changed, name, value.copy() if name == "splits" else value)
    changed.splits[0, 3, 11] += 1
    with pytest.raises(ValueError, match="was changed"):
        gradient_and_report(changed.schedule(11, 3))


def test_two_streams_of_ones_own_have_one_digest_exactly_where_they_are_equal():
    stream = list(build("hsm", 4, 2).schedule(4, 2))
    same, other = from_actions(stream, cores=4), from_actions(build("hsm", 4, 3).schedule(4, 3), cores=4)
    assert isinstance(same, Schedule)
    assert same.digest == from_actions(iter(stream), cores=4).digest != other.digest
