"""A scan in two tiers: the table's transfers, the gradients of one tier to the bit, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
from dataclasses import fields, replace

import optree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import membptt
from membptt import Indexed, Prices, SlowTier, meter, scan
from membptt.slow.spill import Spill
from membptt.slow.tier import SlowStates
from membptt_theory.archive import TableError
from membptt_theory.machine import meter_tiers
from membptt_theory.tables import build
from membptt_theory.tiers import TierTable, build_tiers, useful_slow

from .cells import CELLS, Counting, Lstm, Tanh, gradients, plain, problem, relative_error

SAMPLE = Prices(3, 2, 1)
PRICES = [Prices(1, 0, 0), Prices(1, 1, 1), SAMPLE, Prices(2, 9, 5)]


def cheap(carry, x):
    """The cheapest step there is."""
    return carry * x, None


def metered(table, t, f, s):
    """What one gradient of the cheapest step does."""
    carry = torch.ones((), dtype=torch.float64, requires_grad=True)
    with meter() as report:
        final, _ = scan(cheap, carry, torch.full((t,), 2.0, dtype=torch.float64), slots=f, policy=table)
        final.backward()
    assert report.live_bytes == report.slow_bytes == 0
    assert float(carry.grad) == 2.0**t
    assert report.cost(table.prices) == table.cost(t, f, s)
    return report


@pytest.mark.parametrize("prices", PRICES, ids=str)
@pytest.mark.parametrize("slow", [0, 1, 2, None])
def test_forwards_writes_and_reads_are_those_of_the_table_exhaustive(prices, slow):
    table = build_tiers(8, 3, slow, prices)
    for t, f in itertools.product(range(1, 9), range(1, 4)):
        actual = metered(table, t, f, slow)
        paper = meter_tiers(table.schedule(t, f, slow), steps=t)
        assert (actual.forwards, actual.writes, actual.reads) == (paper.forwards, paper.writes, paper.reads)
        assert actual.slow_peak_bytes <= 8 * paper.slow_peak
        assert actual.slow_peak_bytes >= 8 * (paper.slow_peak - 1)  # the starting state is not copied


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 150), st.integers(1, 6), st.sampled_from([0, 1, 3, 7, None]), st.tuples(*[st.integers(1, 20)] * 3)
)
def test_forwards_writes_and_reads_are_those_of_the_table_hypothesis(t, f, s, prices):
    table = build_tiers(t, f, s, Prices(*prices))
    actual = metered(table, t, f, s)
    paper = meter_tiers(table.schedule(t, f, s), steps=t)
    assert (actual.forwards, actual.writes, actual.reads) == (paper.forwards, paper.writes, paper.reads)


def test_the_step_is_evaluated_as_often_as_the_meter_says():
    step, init, xs = problem(Lstm, 30, torch.float64)
    counting = Counting(step)
    with meter() as report:
        gradients(scan(counting, init, xs, slots=2, spill=True), step, init, xs)
    assert counting.calls == report.forwards
    assert report.writes > 0


@pytest.mark.parametrize("make", CELLS)
@pytest.mark.parametrize("chunk", [1, 3])
def test_gradients_equal_plain_autograd_and_one_tier_to_the_bit_exhaustive(make, chunk):
    for t in (1, 2, 5, 14):
        step, init, xs = problem(make, t, torch.float64)
        expected = gradients(plain(step, init, xs), step, init, xs)
        for f, s in itertools.product((1, 2, 4), (1, 3, None)):
            once = gradients(scan(step, init, xs, slots=f, chunk=chunk), step, init, xs)
            actual = scan(step, init, xs, slots=f, chunk=chunk, spill=SlowTier(s, SAMPLE), check=True)
            actual = gradients(actual, step, init, xs)
            assert all(map(torch.equal, actual, once))
            assert relative_error(actual, expected) <= 1e-10


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(CELLS), st.integers(1, 60), st.integers(1, 6), st.sampled_from([0, 1, 2, 5, None]),
    st.integers(1, 8), st.sampled_from(PRICES), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_gradients_equal_plain_autograd_hypothesis(make, t, f, s, chunk, prices, by_index, seed):
    step, init, xs = problem(make, t, torch.float64, seed)
    if by_index:
        xs = xs.detach()
    data = Indexed(t, lambda start, stop: xs[start:stop]) if by_index else xs
    actual = scan(step, init, data, slots=f, chunk=chunk, spill=SlowTier(s, prices))
    expected = plain(step, init, xs)
    for a, b in zip(optree.tree_leaves(actual), optree.tree_leaves(expected), strict=True):
        assert torch.equal(a, b)
    wanted = xs if not by_index else torch.zeros((), requires_grad=True)
    results = [of(step, init, wanted, result) for result in (actual, expected)]
    assert relative_error(*results) <= 1e-10


def of(step, init, xs, result):
    loss = sum(leaf.cos().sum() for leaf in optree.tree_leaves(result) if leaf.is_floating_point())
    wanted = [leaf for leaf in optree.tree_leaves(init) if leaf.requires_grad] + [xs, *step.parameters()]
    actual = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [*actual]


@pytest.mark.parametrize("make", [Lstm, Tanh])
def test_gradients_equal_plain_autograd_bitwise_in_float32(make):
    step, init, xs = problem(make, 25, torch.float32)
    actual = gradients(scan(step, init, xs, slots=2, spill=True), step, init, xs)
    assert all(map(torch.equal, actual, gradients(plain(step, init, xs), step, init, xs)))


@pytest.mark.parametrize("name", ["get", "restore"])
def test_a_slow_tier_that_mixes_states_up_is_caught_by_the_gradients(monkeypatch, name):
    step, init, xs = problem(Lstm, 25, torch.float64)
    expected = gradients(plain(step, init, xs), step, init, xs)
    kind = Spill if name == "get" else SlowStates
    right = getattr(kind, name)

    def wrong(self, at):
        held = self._states if name == "get" else self._rests
        return right(self, min(held, key=lambda b: (b == 0, b)) if at else at)

    monkeypatch.setattr(kind, name, wrong)
    with pytest.raises(RuntimeError, match="gave another carry"):
        gradients(scan(step, init, xs, slots=2, spill=True), step, init, xs)
    with meter() as report:
        actual = gradients(scan(step, init, xs, slots=2, spill=True, check=False), step, init, xs)
    assert report.reads > 1
    assert relative_error(actual, expected) > 1e-3


def noisy(carry, x):
    """Draws at every second step."""
    carry = torch.tanh(carry + x.mean())
    return (nn.functional.dropout(carry, 0.4) if int(x[0]) % 2 else carry), carry


def with_noise(run):
    torch.manual_seed(5)
    carry = torch.ones(6, dtype=torch.float64, requires_grad=True)
    xs = torch.arange(30, dtype=torch.float64)[:, None].expand(30, 3)
    final, ys = run(noisy, carry, xs)
    return torch.autograd.grad(final.sum() + ys.square().sum(), carry)[0]


def test_dropout_is_recomputed_with_the_masks_of_the_first_pass():
    expected = with_noise(plain)
    with meter() as report:
        actual = with_noise(lambda *problem: scan(*problem, slots=2, spill=True))
    assert relative_error([actual], [expected]) <= 1e-10
    assert report.reads > 2
    # The random states are in the slow tier too, and in it only where they were drawn from.
    random = torch.get_rng_state().nbytes
    assert report.slow_peak_bytes > random
    calm, carry = [], torch.ones(6, requires_grad=True)
    for draws in (False, True):
        with meter() as report:
            step = (lambda c, x: (c * x, None)) if not draws else (lambda c, x: (nn.functional.dropout(c * x), None))
            scan(step, carry, torch.ones(30), slots=2, spill=True)[0].sum().backward()
        calm.append(report.slow_peak_bytes)
    assert calm[1] - calm[0] == calm[0] // 24 * random


def test_a_random_state_that_is_not_restored_is_caught_by_the_gradients(monkeypatch):
    expected = with_noise(plain)
    right = SlowStates.restore
    monkeypatch.setattr(SlowStates, "restore", lambda self, at: replace(right(self, at), random=()))
    with pytest.raises(RuntimeError, match="gave another carry"):
        with_noise(lambda *problem: scan(*problem, slots=2, spill=True))
    actual = with_noise(lambda *problem: scan(*problem, slots=2, spill=True, check=False))
    assert relative_error([actual], [expected]) > 1e-6


def test_what_is_the_callers_is_not_copied_and_its_changes_are_noticed():
    """A leaf of the starting carry that every step hands on stays where it is, under the eyes of its version."""

    def step(carry, x):
        h, constant = carry
        return (torch.tanh(h * constant + x), constant), h

    constant, h = torch.full((50,), 0.9), torch.zeros(2, requires_grad=True)
    xs = torch.ones(20)

    def step_of(carry, x):
        (h, constant), y = step((carry[0].repeat(25), carry[1]), x)
        return (h[:2].clone(), constant), y

    with meter() as report:
        scan(step_of, (h, constant), xs, slots=2, spill=True)[0][0].sum().backward()
    assert report.writes > 2
    assert 0 < report.slow_peak_bytes < 200
    final, _ = scan(step_of, (h, constant), xs, slots=2, spill=True)
    constant.mul_(1)
    with pytest.raises(RuntimeError, match=r"leaf 1 of the carry at position \d+ was changed in place|modified by an"):
        final[0].sum().backward()


def test_a_step_that_writes_to_its_carry_is_refused():
    def step(carry, x):
        with torch.no_grad():
            carry.add_(x)
        return carry * 1, None

    with pytest.raises(RuntimeError, match="changed in place"):
        scan(step, torch.ones(3, requires_grad=True) * 1, torch.ones(12), slots=2, spill=True)[0].sum().backward()


def test_a_retained_graph_is_backpropagated_again():
    step, init, xs = problem(Lstm, 17, torch.float64)
    result = scan(step, init, xs, slots=2, spill=True)
    loss = sum(leaf.square().sum() for leaf in optree.tree_leaves(result))
    first = torch.autograd.grad(loss, list(step.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(step.parameters()), retain_graph=True)
    assert all(map(torch.equal, first, second))


def test_a_scan_inside_a_scan_spills_too():
    w = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)

    def inner(carry, x):
        return torch.sin(carry * w + x), carry

    def outer_by(run):
        def outer(carry, x):
            carry, ys = run(inner, carry, x)
            return carry, ys.sum()

        return outer

    init, xs = torch.ones((), dtype=torch.float64), torch.randn(9, 9, dtype=torch.float64)
    expected = torch.autograd.grad(plain(outer_by(plain), init, xs)[1].sum(), w)
    call = {"slots": 2, "params": [w], "spill": True}
    actual = torch.autograd.grad(scan(outer_by(lambda *p: scan(*p, **call)), init, xs, **call)[1].sum(), w)
    assert relative_error(actual, expected) <= 1e-10


def test_two_threads_spill_beside_each_other():
    failures = []
    expected = []
    for seed in range(2):
        step, init, xs = problem(Lstm, 20, torch.float64, seed)
        expected.append(gradients(plain(step, init, xs), step, init, xs))

    problems = [problem(Lstm, 20, torch.float64, seed) for seed in range(2)]

    def work(seed):
        step, init, xs = problems[seed]
        for _ in range(10):
            try:
                actual = gradients(scan(step, init, xs, slots=2, spill=True), step, init, xs)
                assert relative_error(actual, expected[seed]) <= 1e-10
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("both", [False, True])
def test_layers_spill(kind, both):
    torch.manual_seed(0)
    theirs = getattr(nn, kind)(3, 4, 2, bidirectional=both).double()
    ours = getattr(membptt.nn, kind)(3, 4, 2, bidirectional=both, slots=2, chunk=2, spill=True).double()
    ours.load_state_dict(theirs.state_dict())
    xs = torch.randn(19, 2, 3, dtype=torch.float64)
    expected = torch.autograd.grad(theirs(xs)[0].square().sum(), list(theirs.parameters()))
    with meter() as report:
        actual = torch.autograd.grad(ours(xs)[0].square().sum(), list(ours.parameters()))
    assert relative_error(actual, expected) <= 1e-10
    assert report.writes > 0
    assert "slots=2, chunk=2, policy=hsm, spill=True" in repr(ours)


def linked(directory):
    """Mappings and descriptors of files that are, or were, in a directory."""
    gc.collect()
    with open("/proc/self/maps") as file:
        mappings = sum(str(directory) in line for line in file)
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return mappings + sum(str(directory) in os.readlink(link) for link in links if os.path.islink(link))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("method", ["put", "get", "drop", "prefetch"])
@pytest.mark.parametrize("fault", [OSError(28, "injected"), KeyboardInterrupt("injected")], ids=["full", "Ctrl-C"])
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_a_fault_in_any_transfer_leaves_no_file_and_the_next_call_works(monkeypatch, tmp_path, method, fault, every):
    step, init, xs = problem(Lstm, 12, torch.float64)
    right, calls = getattr(Spill, method), 0

    def call():
        with meter() as report:
            try:
                result = scan(step, init, xs, slots=2, spill=SlowTier(prices=SAMPLE, directory=tmp_path))
                return gradients(result, step, init, xs)
            finally:
                assert report.slow_bytes == report.live_bytes == 0

    def count(*arguments):
        nonlocal calls
        calls += 1
        return right(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Spill, method, count)
        expected = call()
    assert calls > 2
    for evil in {*range(0, calls, every), calls - 1}:
        turns = itertools.count()

        def wrong(*arguments, turns=turns, evil=evil):
            if next(turns) == evil:
                raise fault
            return right(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Spill, method, wrong)
            with pytest.raises(type(fault), match="injected"):
                call()
        fault.__traceback__ = None
        assert linked(tmp_path) == 0
        assert list(tmp_path.iterdir()) == []
    assert all(map(torch.equal, call(), expected))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_result_that_is_thrown_away_takes_its_file_with_it(tmp_path):
    step, init, xs = problem(Lstm, 20, torch.float64)
    result = scan(step, init, xs, slots=2, spill=SlowTier(directory=tmp_path))
    assert linked(tmp_path) > 0
    del result
    assert linked(tmp_path) == 0


def changed(table):
    """A copy whose costs somebody has written to."""
    fake = object.__new__(TierTable)
    for field in fields(TierTable):
        object.__setattr__(fake, field.name, getattr(table, field.name))
    costs = table.costs.copy()
    costs[0, 0, 2, 5] += 1
    object.__setattr__(fake, "costs", costs)
    return fake


def test_a_changed_table_is_refused_and_its_digest_is_checked_once(monkeypatch):
    table = build_tiers(9, 2, None, SAMPLE)
    carry, xs = torch.ones((), requires_grad=True), torch.ones(9)
    with pytest.raises(TableError, match="was changed"):
        scan(cheap, carry, xs, slots=2, policy=changed(table))
    scan(cheap, carry, xs, slots=2, policy=table)
    monkeypatch.setattr(TierTable, "compute_digest", lambda self: "0" * 64)
    scan(cheap, carry, xs, slots=2, policy=table)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        ({"policy": "ism"}, ValueError, "spill goes with policy 'hsm'.*got 'ism'"),
        ({"policy": "msm", "internal": 3}, ValueError, "got 'msm'"),
        ({"policy": "msm_plus", "internal": 3}, ValueError, "got 'msm_plus'"),
        ({"policy": build("hsm", 9, 2)}, ValueError, "got a PolicyTable"),
        ({"slots": 0}, ValueError, "slots must be at least 1"),
        ({"spill": 3}, TypeError, "spill must be True, False or a SlowTier, got int"),
        ({"policy": build_tiers(9, 2, None, SAMPLE), "spill": SlowTier(prices=PRICES[0])}, ValueError, "built for"),
        ({"policy": build_tiers(9, 2, None, SAMPLE), "spill": SlowTier(3)}, ValueError, "slow must be None"),
        ({"policy": build_tiers(9, 2, 4, SAMPLE), "spill": SlowTier(5)}, ValueError, "slow must be between 0 and 4"),
        ({"policy": build_tiers(8, 2, None, SAMPLE)}, ValueError, "steps must be between"),
        ({"slots": None, "budget": 10**6, "policy": build_tiers(9, 2, None, SAMPLE)}, TypeError, "with a TierTable"),
        ({"slots": None, "budget": 10**6, "policy": "ism"}, ValueError, "'auto' or 'hsm', got 'ism'"),
        ({"slots": None, "budget": 10**6, "spill": SlowTier(prices=SAMPLE)}, ValueError, "measures the prices"),
    ],
    ids=range(13),
)
def test_what_two_tiers_cannot_do_is_one_clear_error(call, error, says):
    with pytest.raises(error, match=says):
        scan(cheap, torch.ones((), requires_grad=True), torch.ones(9), **{"slots": 2, "spill": True, **call})


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"slots": -1}, ValueError),
        ({"slots": 1.0}, TypeError),
        ({"slots": True}, TypeError),
        ({"prices": 3}, TypeError),
    ],
)
def test_a_slow_tier_of_no_sense_is_refused(given, error):
    with pytest.raises(error):
        SlowTier(**given)


def test_more_slow_slots_than_steps_are_as_many_as_the_schedule_wants():
    assert [useful_slow(5, s) for s in (0, 4, 5, 9, None)] == [0, 4, None, None, None]
    with pytest.raises(ValueError, match="slow must be at least 0"):
        useful_slow(5, -1)


def test_without_slow_slots_it_is_hsm():
    step, init, xs = problem(Lstm, 20, torch.float64)
    with meter() as report:
        gradients(scan(step, init, xs, slots=3, spill=SlowTier(0)), step, init, xs)
    assert (report.forwards, report.writes, report.reads) == (build("hsm", 20, 3).cost(20, 3), 0, 0)


def test_a_leaf_that_cannot_be_spilled_is_refused_before_anything_is_lost():
    kind = type("Subclass", (torch.Tensor,), {})
    carry = torch.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match="plain dense"):
        scan(lambda c, x: ((c * x).as_subclass(kind), None), carry, torch.ones(9), slots=1, spill=True)


def test_costs_in_the_papers_unit_are_forwards_where_transfers_are_free():
    actual = metered(build_tiers(50, 2, None, Prices(1, 0, 0)), 50, 2, None)
    assert actual.forwards == 2 * 50 - 1
    assert actual.cost(Prices(1, 0, 0)) == 99


@pytest.mark.cuda
class TestOnCuda:
    def test_gradients_are_those_of_one_tier_to_the_bit(self):
        step, init, xs = problem(Lstm, 40, torch.float32)
        step, xs = step.cuda(), xs.detach().cuda().requires_grad_()
        init = optree.tree_map(lambda leaf: leaf.detach().cuda().requires_grad_(), init)
        with meter() as report:
            actual = gradients(scan(step, init, xs, slots=2, spill=True), step, init, xs)
        assert report.writes > 3
        assert all(map(torch.equal, actual, gradients(scan(step, init, xs, slots=2), step, init, xs)))

    def test_dropout_on_the_device_is_recomputed_with_its_masks(self):
        def gradient(**call):
            torch.manual_seed(3)
            carry = torch.ones(1000, device="cuda", requires_grad=True)
            final, _ = scan(
                lambda c, x: (nn.functional.dropout(c * x, 0.1), None), carry, torch.ones(30).cuda(), **call
            )
            return torch.autograd.grad(final.sum(), carry)[0]

        assert torch.equal(gradient(slots=2, spill=True), gradient(slots=30))

    def test_the_device_holds_no_more_than_the_plan_says(self):
        width = 2**20
        w = torch.full((width,), 0.9, device="cuda", requires_grad=True)
        step = lambda c, x: (torch.tanh(c * w + x), None)  # noqa: E731
        carry, xs = torch.zeros(width, device="cuda"), torch.ones(64, device="cuda")
        planned = membptt.plan(step, carry, xs, budget="28MiB", params=[w], spill=True, policy="hsm", chunk=1)
        # Whether two tiers are the fastest depends on the machine: the test is of the best that has two.
        tiered = next(option for option in planned.options if option.tiers is not None and option.tiers.writes)
        planned = replace(planned, options=(tiered,), digest=tiered.schedule().digest)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        # Active, not allocated: a block that a copy on another stream still reads is active until it has been read.
        before = torch.cuda.memory_stats()["active_bytes.all.current"]
        scan(step, carry, xs, plan=planned, params=[w])[0].sum().backward()
        # Beside the stored states: the final carry's clone, gradients of carry and parameter and what is added up.
        peak = torch.cuda.memory_stats()["active_bytes.all.peak"]
        assert peak - before <= planned.peak_bytes + 8 * 4 * width
