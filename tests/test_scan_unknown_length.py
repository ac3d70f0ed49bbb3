"""`scan` over a sequence whose end nobody knows before it is read: the same gradients, the online policy's forwards."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from membptt import Indexed, SlowTier, meter, plan, scan
from membptt_theory import online

from .cells import Gru, Lstm, gradients, problem, relative_error
from .cells import plain as loop

D = torch.float64


class Source:
    """Reads a tensor as from a file, without saying how long it is, and takes note of the readings."""

    def __init__(self, xs, end=lambda nothing: nothing):
        self.xs, self.end, self.read_at = xs, end, []

    def __call__(self, start, stop):
        self.read_at.append(start)
        return self.xs[start:stop].clone() if start < len(self.xs) else self.end(self.xs[start:stop])

    @property
    def indexed(self):
        return Indexed(None, self)


def both(steps, chunk=1, make=Lstm, seed=0, reduce=None, **options):
    """Values and gradients of the loop, and of a scan that does not know the length."""
    step, init, xs = problem(make, steps, D, seed)
    xs = xs.detach()
    wanted = [*(init if isinstance(init, tuple) else (init,)), *step.parameters()]
    results = []
    carry, ys = loop(step, init, xs)
    ys = ys if reduce is None else getattr(ys, reduce)(0)
    for final, outputs in (
        (carry, ys),
        scan(step, init, Source(xs).indexed, chunk=chunk, reduce=reduce, **options),
    ):
        leaves = final if isinstance(final, tuple) else (final,)
        loss = sum(leaf.sin().sum() for leaf in leaves) + outputs.cos().sum()
        results.append(([*leaves, outputs], torch.autograd.grad(loss, wanted)))
    return results


def are_equal(results):
    (expected, wanted), (values, actual) = results
    for a, b in zip(values, expected, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=1e-12)
    assert relative_error(actual, wanted) <= 1e-10


@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
def test_values_and_gradients_are_those_of_the_loop_exhaustive(reduce):
    for steps in (1, 2, 3, 8, 12):
        for chunk in (1, 3, 4, 20):
            are_equal(both(steps, chunk, slots=2, reduce=reduce))


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(2, 9), st.sampled_from([Lstm, Gru]), st.integers(0, 99))
def test_values_and_gradients_are_those_of_the_loop_hypothesis(steps, chunk, slots, make, seed):
    are_equal(both(steps, chunk, make, seed, slots=slots))


def test_with_internal_states_values_and_gradients_are_those_of_the_loop_exhaustive():
    for steps in (1, 2, 5, 9, 14):
        for chunk in (1, 3):
            for slots, internal in ((1, 2), (4, 3), (5, 2), (9, 3)):
                are_equal(both(steps, chunk, slots=slots, internal=internal))


@settings(max_examples=10)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(2, 12), st.integers(2, 5), st.integers(0, 99))
def test_with_internal_states_values_and_gradients_are_those_of_the_loop_hypothesis(
    steps, chunk, slots, internal, seed
):
    are_equal(both(steps, chunk, Gru, seed, slots=slots, internal=internal))


def test_with_internal_states_the_forwards_are_those_of_the_online_policy():
    step, init, xs = problem(Lstm, 14, D)
    for steps in (1, 4, 5, 14):
        with meter() as report:
            carry, _ = scan(step, init, Source(xs.detach()[:steps]).indexed, slots=12, internal=4)
            carry[0].sum().backward()
        assert report.forwards == online.cost(steps, 12, internal=4)


def test_a_budget_that_holds_every_graph_runs_no_step_twice():
    step, init, xs = problem(Lstm, 14, D)
    for options, forwards in (({"internal": True}, 14), ({}, 27)):
        with meter() as report:
            carry, _ = scan(step, init, Source(xs.detach()).indexed, budget="1MiB", **options)
            carry[0].sum().backward()
        assert report.forwards == forwards


@pytest.mark.parametrize("options", [{"check": True}, {"check": False}, {"policy": "hsm"}])
def test_options_change_no_gradient(options):
    are_equal(both(9, 2, slots=2, **options))


def test_a_budget_needs_no_length_and_is_kept():
    counts = []
    for budget in ("2KiB", "4KiB", "16KiB"):
        with meter() as report:
            are_equal(both(60, budget=budget))
        counts.append(report.forwards)
        assert report.peak_bytes <= 1024 * int(budget.removesuffix("KiB"))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 2 * 60


def test_segments_may_be_cut_short_by_the_end():
    gru, init, xs = nn.GRU(3, 4).double(), torch.zeros(1, 2, 4, dtype=D), torch.randn(11, 2, 3, dtype=D)

    def segment(h, xs):
        ys, h = gru(xs, h)
        return h, ys

    h, ys = scan(segment, init, Source(xs).indexed, slots=2, chunk=4, segments=True, params=gru.parameters())
    expected, final = gru(xs, init)
    assert torch.allclose(ys, expected)
    pair = [torch.autograd.grad(a.sum() + b.sum(), list(gru.parameters())) for a, b in ((h, ys), (final, expected))]
    assert relative_error(*pair) <= 1e-10


@pytest.mark.parametrize("end", [lambda nothing: nothing, lambda nothing: None])
@pytest.mark.parametrize(("steps", "chunk", "readings"), [(6, 2, 4), (5, 2, 3), (3, 1, 4), (3, 5, 1)])
def test_the_first_pass_reads_everything_once_and_the_end_at_most_once(end, steps, chunk, readings):
    step, init, xs = problem(Lstm, steps, D)
    source = Source(xs.detach(), end)
    scan(step, init, source.indexed, slots=2, chunk=chunk)
    assert source.read_at == [chunk * core for core in range(readings)]


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_the_forwards_are_those_of_the_online_policy(slots):
    step, init, xs = problem(Lstm, 30, D)
    with meter() as report:
        _, ys = scan(step, init, Source(xs.detach()).indexed, slots=slots, chunk=4)
        ys.sum().backward(retain_graph=True)
        assert report.forwards == online.cost(8, slots)
        ys.sum().backward()
    assert report.forwards == 2 * online.cost(8, slots)


def test_without_grad_mode_it_is_the_loop():
    step, init, xs = problem(Lstm, 7, D)
    with torch.no_grad(), meter() as report:
        _, ys = scan(step, init, Source(xs.detach()).indexed, slots=2, chunk=3)
    assert torch.allclose(ys, loop(step, init, xs)[1])
    assert (report.advanced, report.recorded) == (3, 0)


def test_an_encoder_that_reads_learns_and_an_undeclared_one_is_refused():
    step, init, _ = problem(Lstm, 9, D)
    encoder, data = nn.Linear(5, 3).double(), torch.randn(9, 2, 5, dtype=D)
    source = Indexed(None, lambda start, stop: encoder(data[start:stop]))
    wanted = list(encoder.parameters())
    actual = torch.autograd.grad(scan(step, init, source, slots=2, chunk=2, params=wanted)[1].sum(), wanted)
    expected = torch.autograd.grad(loop(step, init, encoder(data))[1].sum(), wanted)
    assert relative_error(actual, expected) <= 1e-10
    with pytest.raises(ValueError, match=r"parameter 'encoder\.(weight|bias)'"):
        scan(step, init, source, slots=2, chunk=2)


def test_a_reading_may_draw_random_numbers():
    step, init, xs = problem(Lstm, 9, D)
    noisy = Indexed(None, lambda start, stop: xs[start:stop] + torch.randn(len(xs[start:stop]), 2, 3, dtype=D))
    torch.manual_seed(3)
    final, ys = scan(step, init, noisy, slots=2, params=[xs])
    torch.manual_seed(3)
    expected = loop(step, init, torch.stack([x + torch.randn(1, 2, 3, dtype=D)[0] for x in xs]))
    assert relative_error(gradients((final, ys), step, init, xs), gradients(expected, step, init, xs)) <= 1e-10


def test_an_iterator_is_refused_and_both_ways_out_work():
    step, init, xs = problem(Lstm, 9, D)
    xs = xs.detach()
    with pytest.raises(TypeError, match=r"xs is an iterator.*stack its items in a tensor, or give membptt.Indexed"):
        scan(step, init, iter(xs), slots=2)
    stream, items = iter(xs), []

    def read(start, stop):
        items.extend(islice(stream, max(0, stop - len(items))))
        return torch.stack(items[start:stop]) if start < len(items) else None

    expected = loop(step, init, xs)[1]
    assert torch.allclose(scan(step, init, torch.stack(list(iter(xs))), slots=2)[1], expected)
    ys = scan(step, init, Indexed(None, read), slots=2, chunk=2)[1]
    assert torch.allclose(ys, expected)
    ys.sum().backward()


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "ism"},
        {"spill": True},
        {"spill": SlowTier(2)},
        {"internal": 2, "policy": "hsm"},
        {"internal": 3, "internal_known": 2},
    ],
)
def test_what_needs_the_length_is_refused(options):
    step, init, xs = problem(Lstm, 5, D)
    with pytest.raises(TypeError, match="whose length nobody knows"):
        scan(step, init, Source(xs.detach()).indexed, slots=2, **options)
    with pytest.raises(TypeError, match="exactly one of slots=, budget= and plan="):
        scan(step, init, Source(xs.detach()).indexed)


def test_a_budget_weighs_graphs_where_nobody_knows_the_length_and_a_plan_where_it_is_known():
    step, init, xs = problem(Lstm, 5, D)
    for room in ({"budget": "1MiB"}, {"slots": 4, "policy": "msm"}):
        with pytest.raises(TypeError, match="internal=True is for budget= and a sequence whose length nobody knows"):
            scan(step, init, xs, internal=True, **room)
    with pytest.raises(TypeError, match="internal_known only with slots="):
        scan(step, init, Source(xs.detach()).indexed, budget="1MiB", internal=3)
    with pytest.raises(ValueError, match="internal must be at least 2"):
        scan(step, init, Source(xs.detach()).indexed, slots=4, internal=0)


def test_a_plan_needs_the_length_and_says_what_does_not():
    step, init, xs = problem(Lstm, 5, D)
    with pytest.raises(TypeError, match=r"a plan needs the length.*scan\(budget=\)"):
        plan(step, init, Source(xs.detach()).indexed, budget="1MiB")
    scan(step, init, Source(xs.detach()).indexed, budget="1MiB")


def test_a_source_that_gives_nothing_too_much_or_another_number_later_is_refused():
    step, init, xs = problem(Lstm, 5, D)
    xs = xs.detach()
    for read, what in (
        (lambda start, stop: None, "xs is empty: it has no step"),
        (lambda start, stop: xs[:0], "xs is empty: it has no step"),
        (lambda start, stop: xs, "xs read 5 steps where steps 0..1 were asked for"),
    ):
        with pytest.raises(ValueError, match=what):
            scan(step, init, Indexed(None, read), slots=2, chunk=2)
    source = Source(xs)
    _, ys = scan(step, init, source.indexed, slots=1, chunk=2)
    source.xs = xs[:3]
    with pytest.raises(ValueError, match=r"xs read 1 steps where steps 2\.\.3 were asked for"):
        ys.sum().backward()


def test_bytes_do_not_grow_with_the_length():
    def peak(steps):
        step, init, xs = problem(Lstm, steps, D)
        with meter() as report:
            scan(step, init, Source(xs.detach()).indexed, slots=3, reduce="mean")[1].sum().backward()
        assert report.live_bytes == 0
        return report.peak_bytes

    assert peak(40) == peak(200)


def test_a_step_that_is_another_at_its_recomputation_is_noticed_by_its_outputs_too():
    calls = 0

    def step(carry, x):
        nonlocal calls
        calls += 1
        return carry * 0.9, x + 0.1 * calls

    _, ys = scan(step, torch.ones((), requires_grad=True), Source(torch.ones(8)).indexed, slots=1)
    with pytest.raises(RuntimeError, match="gave another output than the first pass: y differs"):
        ys.sum().backward()
