"""Rows of different lengths: each is what it would be by itself, and what stands in the padding is never looked at."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from membptt import Indexed, Ragged, meter, plan, scan

from .cells import relative_error
from .strategies import POLICIES, policies

D = torch.float64
WAYS = [{"slots": 3, "policy": name, **sizes} for name, sizes in POLICIES] + [{"slots": 3, "spill": True}]
DIMS = {"carry": {"h": 0, "z": 1, "count": 0, "steps": None}, "y": (0, 0, None)}


class Cell(nn.Module):
    """Real, complex and whole numbers; rows along another dimension; a counter that the rows share; a total of them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.turn = nn.Linear(3, 3).double(), nn.Parameter(torch.randn(3, 1, dtype=torch.complex128))

    def start(self, rows):
        h = torch.randn(rows, 3, dtype=D, requires_grad=True)
        z = torch.randn(3, rows, dtype=torch.complex128, requires_grad=True)
        return {"h": h, "z": z, "count": torch.zeros(rows, dtype=torch.int64), "steps": torch.zeros(())}

    def forward(self, carry, x):
        h = torch.tanh(self.inner(carry["h"]) + x.log())  # not to be run where x is 0
        z = torch.tanh(carry["z"] * self.turn + h.T)
        state = {"h": h, "z": z, "count": carry["count"] + 1, "steps": carry["steps"] + 1}
        return state, (h, state["count"], z.abs().square().sum())


class Floating(nn.Module):
    """The same without its whole numbers among the outputs: they have no sum."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, carry, x):
        carry, (h, _, total) = self.cell(carry, x)
        return carry, (h, total)


def by_rows(cell, init, xs, lengths, *, reverse):
    """What `scan` must equal: each row by itself."""
    longest = max(lengths)
    h, z, count, totals = [], [], [], torch.zeros(longest, dtype=D)
    hs = [[torch.zeros(3, dtype=D)] * longest for _ in lengths]
    counts = torch.zeros(longest, len(lengths), dtype=torch.int64)
    for row, length in enumerate(lengths):
        carry = {"h": init["h"][row : row + 1], "z": init["z"][:, row : row + 1], "count": torch.zeros(1), "steps": 0}
        for at in reversed(range(length)) if reverse else range(length):
            carry, (y, number, total) = cell(carry, xs[at, row : row + 1])
            hs[row][at], counts[at, row] = y[0], int(number)
            totals = totals + torch.where(torch.arange(longest) == at, total, 0)
        h.append(carry["h"])
        z.append(carry["z"])
        count.append(int(carry["count"]))
    ys = torch.stack([torch.stack(each) for each in hs], 1), counts, totals
    return {"h": torch.cat(h), "z": torch.cat(z, 1), "count": torch.tensor(count)}, ys


def gradients(carry, ys, leaves, reduce):
    total = (torch.linspace(-1, 1, carry["h"].numel(), dtype=D).cos().view_as(carry["h"]) * carry["h"]).sum()
    total = total + torch.view_as_real(carry["z"]).square().sum()
    for leaf in ys:
        leaf = getattr(leaf, reduce)(0) if reduce else leaf
        total = total + (torch.linspace(0, 2, leaf.numel(), dtype=D).cos().view_as(leaf) * leaf).sum()
    return torch.autograd.grad(total, leaves)


def assert_each_row_is_what_it_would_be_by_itself(lengths, *, reverse=False, read=False, reduce=None, more=1, **way):
    cell, rows, steps = Cell(), len(lengths), max(lengths) + more
    init, xs = cell.start(rows), torch.rand(steps, rows, 3, dtype=D) + 0.1
    for row, length in enumerate(lengths):
        xs[length:, row] = float("nan")
    xs.requires_grad_()
    dims = DIMS if reduce is None else DIMS | {"y": (0, None)}
    ragged = Ragged(Floating(cell) if reduce else cell, lengths, **dims)
    given = Indexed(steps, lambda start, stop: xs[start:stop]) if read else xs
    params = [xs] if read else None
    carry, ys = scan(ragged, init, ragged.steps(given), reverse=reverse, reduce=reduce, params=params, **way)
    expected, outputs = by_rows(cell, init, xs, lengths, reverse=reverse)
    assert torch.equal(carry["count"], expected["count"])
    assert int(carry["steps"]) == max(lengths)
    if not reduce:
        assert torch.equal(ys[1], outputs[1])
        assert relative_error([ys[0].detach(), ys[2].detach()], [outputs[0].detach(), outputs[2].detach()]) <= 1e-10
    wanted = [init["h"], init["z"], xs, *cell.parameters()]
    computed = gradients(carry, (ys[0], ys[-1]), wanted, None)
    assert relative_error(computed, gradients(expected, (outputs[0], outputs[2]), wanted, reduce)) <= 1e-10
    for row, length in enumerate(lengths):
        assert not computed[2][length:, row].any()  # zero, not NaN


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_each_row_is_what_it_would_be_by_itself_under_every_policy(way):
    for reverse in (False, True):
        assert_each_row_is_what_it_would_be_by_itself([2, 5, 0, 4], reverse=reverse, **way)


def test_each_row_is_what_it_would_be_by_itself_exhaustive():
    for lengths, reverse in product(product(range(4), repeat=3), (False, True)):
        if any(lengths):
            assert_each_row_is_what_it_would_be_by_itself(lengths, reverse=reverse, slots=2, chunk=2)


@given(
    policies(),
    st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "sum", "mean"]),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_each_row_is_what_it_would_be_by_itself_hypothesis(policy, lengths, reverse, read, reduce, chunk, slots):
    name, sizes = policy
    options = {"reverse": reverse, "read": read, "reduce": reduce, "chunk": chunk}
    assert_each_row_is_what_it_would_be_by_itself(lengths, slots=slots, policy=name, **options, **sizes)


@pytest.mark.parametrize("reverse", [False, True])
def test_second_derivatives_of_rows_of_different_lengths(reverse):
    lengths, cell = [3, 1, 2], Cell()
    init, xs = cell.start(3), (torch.rand(3, 3, 3, dtype=D) + 0.1).requires_grad_()
    ragged, wanted, twice = Ragged(cell, lengths, **DIMS), [init["h"], xs, *cell.parameters()], []
    results = (
        scan(ragged, init, ragged.steps(xs), reverse=reverse, slots=2),
        by_rows(cell, init, xs, lengths, reverse=reverse),
    )
    for _, ys in results:
        first = torch.autograd.grad(ys[0].square().sum(), wanted, create_graph=True, allow_unused=True)
        slopes = sum(leaf.square().sum() for leaf in first if leaf is not None and not leaf.is_complex())
        twice.append(torch.autograd.grad(slopes, wanted, allow_unused=True))
    assert [leaf is None for leaf in twice[0]] == [leaf is None for leaf in twice[1]]
    pairs = [pair for pair in zip(*twice, strict=True) if pair[0] is not None]
    torch.testing.assert_close(*map(list, zip(*pairs, strict=True)), rtol=1e-9, atol=1e-12)


def test_rows_that_are_only_hidden_and_still_run_are_caught(monkeypatch):
    """The usual way, a choice by `torch.where` after the step: NaN in the padding reaches the gradients."""
    monkeypatch.setattr(Ragged, "_select", lambda self, leaf, dim, ended: leaf)

    def enter(self, leaf, part, dim, ended):
        rows = self._index(ended, leaf.device)
        return part if dim is None else leaf.index_copy(dim, rows, part.index_select(dim, rows))

    monkeypatch.setattr(Ragged, "_enter", enter)
    taken = Ragged._taken
    monkeypatch.setattr(Ragged, "_taken", lambda self, what, tree, rows=None: taken(self, what, tree))
    with pytest.raises(AssertionError):
        assert_each_row_is_what_it_would_be_by_itself([1, 3], slots=2)


def test_the_step_runs_on_the_rows_that_take_part_and_on_no_others():
    seen = []

    def step(h, x):
        seen.append(len(x))
        return h + x, None

    ragged = Ragged(step, torch.tensor([3, 1, 2]))
    scan(ragged, torch.zeros(3), ragged.steps(torch.ones(7, 3)), slots=2)
    assert seen == [3, 2, 1]


def test_a_budget_goes_with_rows_of_different_lengths():
    cell = nn.GRUCell(3, 4).double()

    def step(h, x):
        h = cell(x, h)
        return h, h

    xs, h0 = torch.randn(9, 3, 3, dtype=D), torch.zeros(3, 4, dtype=D)
    losses = []
    for lengths in ([9, 2, 5], [9, 9, 9]):
        ragged = Ragged(step, lengths)
        for means in ({"budget": "8KiB"}, {"slots": 9}):
            _, ys = scan(ragged, h0, ragged.steps(xs), params=cell, **means)
            ys.sum().backward()
            losses.append(float(ys.detach().sum()))
    assert abs(losses[0] - losses[1]) < 1e-12
    assert abs(losses[2] - losses[3]) < 1e-12
    assert abs(losses[0] - losses[2]) > 1e-3


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("chunk", [1, 2, 9])
def test_a_plan_of_one_batch_keeps_its_promise_for_rows_of_any_other_lengths(chunk, reverse):
    cell = nn.GRUCell(3, 4).double()

    def step(h, x):
        h = cell(x, h)
        return h, h

    xs, h0 = torch.randn(9, 3, 3, dtype=D), torch.zeros(3, 4, dtype=D)
    of_any = [Ragged(step, lengths) for lengths in ([9, 1, 2], [9, 9, 9], [9, 8, 9], [0, 9, 3])]
    plans = [
        plan(each, h0, each.steps(xs), budget="8KiB", params=cell, chunk=chunk, reverse=reverse) for each in of_any
    ]
    # One plan for all of them: their times differ from one measurement to the next, their sizes do not.
    assert len({(each.chosen.slots, each.peak_bytes) for each in plans}) == 1
    for each in of_any:
        with meter() as report:
            _, ys = scan(each, h0, each.steps(xs), params=cell, plan=plans[0], reverse=reverse)
            ys.sum().backward()
        assert report.peak_bytes <= plans[0].peak_bytes <= 8192


def add(carry, x):
    return carry + x, carry


@pytest.mark.parametrize(
    ("lengths", "options", "xs", "error", "says"),
    [
        ([1.0, 2], {}, None, TypeError, "lengths must be integers"),
        ([True, 2], {}, None, TypeError, "lengths must be integers"),
        (torch.ones(2), {}, None, TypeError, "lengths must be integers"),
        ([-1, 2], {}, None, ValueError, "at least 0, and one of them at least 1"),
        ([0, 0], {}, None, ValueError, "at least 0, and one of them at least 1"),
        ([], {}, None, ValueError, "at least 0, and one of them at least 1"),
        ([3, 5], {}, torch.ones(4, 2), ValueError, "longest sequence has 5 steps, and xs has 4"),
        ([3, 5], {}, Indexed(None, lambda a, b: None), TypeError, r"give Indexed\(steps, read\)"),
        ([3, 4, 1], {}, torch.ones(4, 2), ValueError, r"leaf 0 of the carry has shape \(2,\), and dimension 0"),
        ([3, 4], {"carry": 1}, torch.ones(4, 2), ValueError, "dimension 1 of it is to count 2 rows: say which one"),
        ([3, 4], {"y": -2}, torch.ones(4, 2), ValueError, "leaf 0 of the output y"),
        ([3, 4], {"x": 0}, torch.ones(4), ValueError, "leaf 0 of x"),
    ],
)
def test_what_says_nothing_of_rows_is_refused(lengths, options, xs, error, says):
    with pytest.raises(error, match=says):
        scan(ragged := Ragged(add, lengths, **options), torch.zeros(2), ragged.steps(xs), slots=2)


def test_inputs_that_are_not_its_own_and_segments_are_refused():
    ragged = Ragged(add, [3, 4])
    for xs, options in ((torch.ones(4, 2), {}), (ragged.steps(torch.ones(4, 2)), {"segments": True})):
        with pytest.raises(ValueError, match=r"scanned over its own steps\(xs\), one at a time"):
            scan(ragged, torch.zeros(2), xs, slots=2, **options)
    with pytest.raises(TypeError, match="a step is called"):
        Ragged(nn.GRUCell(3, 3), [3, 4])


def test_a_carry_that_the_first_step_would_make_is_refused_where_rows_take_no_part():
    def step(h, x):
        return x if h is None else h + x, None

    late, full = Ragged(step, [0, 2]), Ragged(step, [1, 2])
    with pytest.raises(ValueError, match="start from a carry like the one that the step returns"):
        scan(late, None, late.steps(torch.ones(2, 2)), slots=2)
    carry, _ = scan(full, None, full.steps(torch.ones(2, 2)), slots=2)
    assert carry.tolist() == [1, 2]
