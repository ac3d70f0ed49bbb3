"""Memory as promised: of a stored state, of planning, of what is remembered."""

import gc
import tracemalloc
import weakref
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import membptt
from membptt import meter, scan
from membptt.calls import remembered
from membptt.run.problem import Problem
from membptt.run.promise import BrokenPromiseWarning
from membptt.state.leaves import compacted
from membptt_theory.actions import Prices
from membptt_theory.cache import TABLES, Cache
from membptt_theory.footprint import Measured
from membptt_theory.options import options
from membptt_theory.policies import POLICIES
from membptt_theory.tables import build
from membptt_theory.tiers import build_tiers

LAYER = nn.GRU(3, 4)


def segment(h, xs):
    """Return a carry that is a view: it keeps the whole output of its core alive."""
    ys, _ = LAYER(xs, h)
    return ys[-1:], ys


def copying(h, xs):
    h, ys = segment(h, xs)
    return h.clone(), ys


def run(step, **options):
    xs, h = torch.ones(640, 2, 3), torch.zeros(1, 2, 4)
    with meter() as report:
        h, ys = scan(step, h, xs, segments=True, params=LAYER.parameters(), **options)
        (h.sum() + ys.sum()).backward()
    return report.peak_bytes


def test_a_carry_that_is_a_view_is_stored_without_what_it_is_a_view_of():
    view, copy = (run(step, slots=8, chunk=32) for step in (segment, copying))
    assert view < copy + 32 * 2 * 4 * 4  # the one core that is at work holds its whole output


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("budget", [20_000, 60_000])
def test_a_plan_for_a_carry_that_is_a_view_keeps_its_promise(policy, budget):
    xs, h = torch.ones(640, 2, 3), torch.zeros(1, 2, 4)
    options = {"segments": True, "params": list(LAYER.parameters())}
    plan = membptt.plan(segment, h, xs, budget=budget, policy=policy, chunk=32, **options)
    assert run(segment, plan=plan) <= plan.peak_bytes <= budget


def test_what_is_copied_lies_as_it_lay():
    whole = torch.randn(9, 6, 5)
    part = whole[2:4].transpose(0, 1)
    (copy,) = compacted((part,), ())
    assert torch.equal(copy, part)
    assert copy.stride() == part.stride()
    assert copy.untyped_storage().nbytes() < whole.nbytes


def test_views_that_fill_their_storage_together_or_keep_nothing_alive_stay():
    whole = torch.randn(8, 3)
    halves = whole.chunk(2)
    assert compacted(halves, ()) is not None
    assert all(a is b for a, b in zip(compacted(halves, ()), halves, strict=True))
    assert compacted((whole[1],), (whole,))[0].data_ptr() == whole[1].data_ptr()  # the caller's
    assert compacted((whole, whole[1]), ())[1].data_ptr() == whole[1].data_ptr()
    expanded = torch.ones(1).expand(1000)
    assert compacted((expanded,), ())[0] is expanded


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 39), st.booleans())
def test_a_stored_leaf_holds_at_most_16_bytes_that_are_not_its_own_hypothesis(rows, columns, first, outside):
    whole = torch.randn(rows, columns)
    part = whole[first % rows :]
    (leaf,) = compacted((part,), (whole,) if outside else ())
    assert torch.equal(leaf, part)
    assert (leaf is part) or leaf.untyped_storage().nbytes() < leaf.nbytes + 16
    assert (leaf is part) == (outside or len(part) == rows or leaf.untyped_storage().nbytes() == whole.nbytes)


def test_a_delay_line_of_inputs_takes_no_memory_of_its_own():
    def delayed(carry, x):
        return (carry[0] + x * carry[1], x), carry[0]

    xs, start = torch.ones(100, 50), (torch.zeros(50, requires_grad=True), torch.zeros(50))
    peaks = []
    for step in (delayed, lambda carry, x: ((carry[0] + x, carry[1]), carry[0])):
        with meter() as report:
            scan(step, start, xs, slots=6)[0][0].sum().backward()
        peaks.append(report.peak_bytes)
    assert peaks[0] <= peaks[1] + 2 * 200


@pytest.mark.parametrize("budget", [2**16, 2**21])
def test_choosing_takes_no_more_memory_than_the_budget_and_a_few_megabytes(budget):
    measured = [Measured(c, 64, 64, 900 * c, 900 * c, 0, 1e-5 * c, 5e-5 * c) for c in (1, 4, 16)]
    options(measured, 50, budget)
    tracemalloc.start()
    try:
        assert options(measured, 4000, budget)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= budget + 12 * 2**20


def test_five_million_steps_are_planned_one_a_core_and_a_table_that_is_too_large_is_no_small_budget():
    def step(h, x):
        return torch.tanh(h + x), x

    xs, h = torch.zeros(1).expand(5_000_000), torch.zeros(1, requires_grad=True)[0]
    plan = membptt.plan(step, h, xs, budget="1GiB", chunk=1)
    assert (plan.steps, plan.chunk) == (5_000_000, 1)
    with pytest.raises(ValueError, match="too large to be planned with, whatever the budget") as told:
        membptt.plan(step, h, xs, budget="1GiB", chunk=1, policy="msm")
    chunk = int(str(told.value).partition("chunk=")[2].split()[0])
    assert membptt.plan(step, h, xs, budget="1GiB", chunk=chunk, policy="msm").chosen.policy == "msm"
    with pytest.raises(ValueError, match="too small: the starting state and one working core"):
        membptt.plan(step, h, xs, budget=1, chunk=1, policy="msm")


def test_tables_of_many_lengths_are_kept_within_their_bytes(monkeypatch):
    monkeypatch.setattr(TABLES, "limit", 2**24)
    alive = []
    for steps in range(1000, 1030):
        alive += [weakref.ref(build("hsm", steps, 100)), weakref.ref(build_tiers(12, 2, 2, Prices(1, 1, steps)))]
    assert build("hsm", 1029, 100) is alive[-2]()
    gc.collect()
    assert TABLES.bytes <= 2**24
    assert sum(ref().kept_bytes for ref in alive if ref() is not None) <= 2**24


def test_what_is_remembered_is_bounded_by_default():
    assert TABLES.limit <= 2**28
    assert remembered._plans.limit + remembered._fronts.limit <= 2**22


def test_plans_of_a_hundred_lengths_are_kept_within_their_bytes(monkeypatch):
    plans = Cache(2**16)
    monkeypatch.setattr(remembered, "_plans", plans)
    monkeypatch.setattr(remembered, "choose", lambda problem, budget, **options: plan)
    plan = membptt.plan(lambda h, x: (h + x, h), torch.ones(1), torch.ones(3, 1), budget="1KiB")
    for steps in range(1, 101):
        call = Problem.of(segment, torch.ones(1), torch.ones(steps), None, segments=False)
        remembered.remembered_plan(call, 999)
    assert 1 < len(plans) < 100
    assert plans.bytes <= 2**16


@given(st.integers(0, 30), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=30))
def test_a_cache_keeps_the_last_used_within_its_bytes_hypothesis(limit, asked):
    cache, order, sizes = Cache(limit), [], {}
    for key, size in asked:
        known = key in order
        assert cache.get(key, lambda key=key: key, lambda _, size=size: size) == key
        sizes[key] = sizes[key] if known else size
        order = [*(other for other in order if other != key), key]
        while not known and len(order) > 1 and sum(sizes[other] for other in order) > limit:
            del order[0]
        assert list(cache._kept) == order
        assert cache.bytes == sum(sizes[other] for other in order)


def stiffening(h, x):
    for _ in range(int(x)):
        h = torch.tanh(1.01 * h)
    return h, h.sum()


@pytest.mark.parametrize("policy", ["hsm", "ism"])
def test_a_step_whose_work_grows_past_its_plan_is_told_once_and_planned_where_it_works_the_most_keeps_to_it(policy):
    xs, h = 1 + torch.arange(60) // 2, torch.full((100,), 0.1, requires_grad=True)
    plan = membptt.plan(stiffening, h, xs, budget=20_000, policy=policy, chunk=1)
    says = r"promised at most \d.* KiB of stored.* plan with a carry"
    with meter() as report, pytest.warns(BrokenPromiseWarning, match=says) as told:
        scan(stiffening, h, xs, plan=plan)[1].sum().backward()
    assert len(told) == 1
    assert report.peak_bytes > plan.peak_bytes
    plan = membptt.plan(stiffening, h, xs.flip(0), budget=40_000, policy=policy, chunk=1)  # the advice
    with meter() as report:
        scan(stiffening, h, xs, plan=plan)[1].sum().backward()
    assert report.peak_bytes <= plan.peak_bytes


def widening(h, x):
    h = torch.tanh(1.01 * h.expand(int(x), 100)).mean(0)
    return h, h.sum()


@pytest.mark.parametrize("policy", ["hsm", "ism"])
def test_a_step_of_which_only_the_sizes_grow_is_told_too(policy):
    xs, h = 1 + torch.arange(60), torch.full((100,), 0.1, requires_grad=True)
    plan = membptt.plan(widening, h, xs, budget=20_000, policy=policy, chunk=1)
    with meter() as report, pytest.warns(BrokenPromiseWarning, match="plan with a carry") as told:
        scan(widening, h, xs, plan=plan)[1].sum().backward()
    assert len(told) == 1
    assert report.peak_bytes > plan.peak_bytes
    plan = membptt.plan(widening, h, xs.flip(0), budget=200_000, policy=policy, chunk=1)  # the advice
    with meter() as report:
        scan(widening, h, xs, plan=plan)[1].sum().backward()
    assert report.peak_bytes <= plan.peak_bytes


def test_fronts_of_chains_are_counted_and_what_was_chosen_on_them_outlives_them(monkeypatch):
    plans, fronts, measured = Cache(40_000), Cache(10_000), []
    monkeypatch.setattr(remembered, "_plans", plans)
    monkeypatch.setattr(remembered, "_fronts", fronts)
    measure = remembered.measured
    monkeypatch.setattr(remembered, "measured", lambda *args: measured.append(measure(*args)) or measured[-1])
    widths = [4 + 3 * (number % 5) + number for number in range(15)]
    chains = [[torch.nn.Linear(*pair) for pair in pairwise(order)] for order in (widths, widths[::-1])]
    for _ in range(3):
        for blocks in chains:
            membptt.chain(blocks, torch.ones(2, blocks[0].in_features), budget="1MiB").sum().backward()
    assert len(measured) == 2
    assert all(plan.kept_bytes > fronts.limit for plan in measured)
    assert len(fronts) == 1
    assert plans.bytes <= plans.limit


def test_what_is_kept_of_a_number_is_not_given_for_an_equal_number_of_another_type():
    calls = []
    ask = Cache(100).remember(lambda number: calls.append(number) or Weighed())
    for number in (2, 2.0, True, 1, 2):
        ask(number)
    assert calls == [2, 2.0, True, 1]


class Weighed:
    kept_bytes = 1
