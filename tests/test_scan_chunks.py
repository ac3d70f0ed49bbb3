"""Cores of several steps, segments, inputs by index and reduced outputs: still exactly the loop."""

import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from membptt import Indexed, scan
from membptt_theory.tables import optimal_cost

from .cells import CELLS, Counting, Gru, Lstm, gradients, plain, problem, relative_error
from .strategies import policies


@pytest.mark.parametrize("make", CELLS)
def test_chunked_gradients_equal_plain_autograd_exhaustive(make):
    for steps in (1, 4, 7, 12):
        step, init, xs = problem(make, steps, torch.float64)
        expected = gradients(plain(step, init, xs), step, init, xs)
        for chunk in (1, 2, 3, 5, 20):
            actual = gradients(scan(step, init, xs, slots=2, chunk=chunk), step, init, xs)
            assert relative_error(actual, expected) <= 1e-10


@given(policies(), st.sampled_from(CELLS), st.integers(1, 40), st.integers(1, 9), st.integers(1, 12))
def test_chunked_gradients_equal_plain_autograd_hypothesis(which, make, steps, slots, chunk):
    policy, sizes = which
    step, init, xs = problem(make, steps, torch.float64)
    actual = gradients(scan(step, init, xs, slots=slots, policy=policy, chunk=chunk, **sizes), step, init, xs)
    assert relative_error(actual, gradients(plain(step, init, xs), step, init, xs)) <= 1e-10


def test_the_table_counts_cores():
    """24 steps in chunks of 4 are 6 cores; every core but the shorter last one evaluates 4 steps."""
    step, init, xs = problem(Lstm, 24, torch.float32)
    counting = Counting(step)
    (h, _), _ = scan(counting, init, xs, slots=2, chunk=4)
    h.sum().backward()
    assert counting.calls == 4 * optimal_cost("hsm", 6, 2)


class LstmSegment(torch.nn.Module):
    """A fused core: torch's own LSTM eats a whole segment."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4)

    def forward(self, carry, xs):
        ys, carry = self.lstm(xs, carry)
        return carry, ys


@pytest.mark.parametrize("chunk", [1, 3, 5, 17, 40])
def test_a_segment_equals_the_whole_sequence_at_once(chunk):
    torch.manual_seed(0)
    step = LstmSegment().double()
    xs = torch.randn(17, 2, 3, dtype=torch.float64, requires_grad=True)
    init = tuple(torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = gradients(step(init, xs), step, init, xs)
    actual = gradients(scan(step, init, xs, slots=2, chunk=chunk, segments=True), step, init, xs)
    assert relative_error(actual, expected) <= 1e-10


def test_a_segment_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="must return outputs with that many steps"):
        scan(
            lambda c, x: (c, x[:1]),
            torch.ones(1, requires_grad=True),
            torch.ones(6, 1),
            slots=2,
            chunk=3,
            segments=True,
        )


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_reduced_outputs_equal_the_reduced_stack(reduce, chunk):
    step, init, xs = problem(Gru, 11, torch.float64)
    carry, ys = plain(step, init, xs)
    expected = (carry, getattr(ys, reduce)(0))
    actual = scan(step, init, xs, slots=3, chunk=chunk, reduce=reduce)
    assert actual[1].shape == (2, 2)
    assert torch.allclose(actual[1], expected[1], rtol=1e-12)
    assert relative_error(gradients(actual, step, init, xs), gradients(expected, step, init, xs)) <= 1e-10


def test_a_reduced_segment_equals_the_reduced_stack():
    step = LstmSegment().double()
    xs = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    init = tuple(torch.zeros(1, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    carry, ys = step(init, xs)
    expected = gradients((carry, ys.mean(0)), step, init, xs)
    actual = scan(step, init, xs, slots=2, chunk=4, segments=True, reduce="mean")
    assert relative_error(gradients(actual, step, init, xs), expected) <= 1e-10


@pytest.mark.parametrize("chunk", [1, 4])
def test_inputs_read_by_position_equal_inputs_in_memory(chunk):
    step, init, xs = problem(Gru, 13, torch.float64)
    reads = []

    def read(start, stop):
        reads.append((start, stop))
        return xs.detach()[start:stop]

    init = optree.tree_map(lambda leaf: leaf, init)
    wanted = [init, *step.parameters()]
    expected = torch.autograd.grad(scan(step, init, xs, slots=3, chunk=chunk)[1].sum(), wanted)
    actual = torch.autograd.grad(scan(step, init, Indexed(13, read), slots=3, chunk=chunk)[1].sum(), wanted)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    assert all(stop - start <= chunk for start, stop in reads)


BAD = [
    ({"chunk": 0}, torch.ones(4), ValueError, "chunk must be at least 1"),
    ({"chunk": 1.5}, torch.ones(4), TypeError, "chunk must be an integer"),
    ({"reduce": "max"}, torch.ones(4), ValueError, "reduce must be"),
    ({"reduce": "sum"}, torch.ones(4, dtype=torch.int64), TypeError, "floating outputs"),
    ({}, Indexed(-1, lambda start, stop: torch.ones(stop - start)), ValueError, "steps of xs must be at least 0"),
    ({}, Indexed(4, lambda start, stop: torch.ones(7)), ValueError, "xs read 7 steps"),
    ({}, Indexed(4, lambda start, stop: [1.0]), ValueError, "xs reads no tensor"),
    ({}, Indexed(4, lambda start, stop: [{1.0}]), TypeError, "what xs reads"),
]


@pytest.mark.parametrize(("options", "xs", "error", "says"), BAD)
def test_bad_options_are_refused(options, xs, error, says):
    with pytest.raises(error, match=says):
        scan(lambda carry, x: (carry, x), torch.ones((), requires_grad=True), xs, slots=2, **options)
