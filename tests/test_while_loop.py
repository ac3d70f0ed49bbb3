"""`while_loop` equals the loop: same values, same gradients, whatever the length; it promises what `scan` promises."""

from __future__ import annotations

import gc
import itertools
import random
import shutil
import weakref

import numpy as np
import optree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from membptt import meter, scan, while_loop
from membptt_theory import online

from .cells import relative_error

D = torch.float64
COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class Body(nn.Module):
    """A pytree with an integer, dropout, a parameter of its own and one captured from outside."""

    def __init__(self, outside: torch.Tensor) -> None:
        super().__init__()
        self.cell, self.outside = nn.RNNCell(3, 3).double(), outside

    def forward(self, carry):
        h = nn.functional.dropout(self.cell(carry["x"], carry["h"]), 0.3) * self.outside
        return {"h": h, "count": carry["count"] + 1, "x": carry["x"]}


def setting(seed):
    torch.manual_seed(seed)
    outside = torch.full((3,), 0.9, dtype=D, requires_grad=True)
    body = Body(outside)
    h, x = (torch.randn(2, 3, dtype=D, requires_grad=True) for _ in range(2))
    return body, {"h": h, "count": torch.tensor(0), "x": x}, [h, x, outside, *body.cell.parameters()]


def plain(cond, body, init):
    """What `while_loop` must equal: the loop, under plain autograd."""
    carry, steps = init, 0
    while cond(carry):
        carry, steps = body(carry), steps + 1
    return carry, steps


def gradients(carry, wanted):
    loss = sum((leaf * torch.linspace(1, 2, leaf.numel(), dtype=D).view_as(leaf)).sum() for leaf in floating(carry))
    return torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)


def floating(carry):
    return [leaf for leaf in optree.tree_leaves(carry) if leaf.requires_grad]


def by_both(steps, seed=0, **options):
    """Steps and gradients, by the loop and by `while_loop`."""
    body, init, wanted = setting(seed)

    def cond(carry):
        return carry["count"] < steps

    results = []
    for loop in (plain, lambda *call: while_loop(*call, params=[body.outside], **options)):
        torch.manual_seed(seed + 1)
        carry, count = loop(cond, body, init)
        results.append((carry, count, gradients(carry, wanted)))
    return results


def are_equal(results):
    (expected, steps, wanted), (carry, count, actual) = results
    assert steps == count
    for a, b in zip(optree.tree_leaves(carry), optree.tree_leaves(expected), strict=True):
        assert torch.equal(a, b)
    assert relative_error(actual, wanted) <= 1e-10


def test_values_and_gradients_are_those_of_the_loop_exhaustive():
    for steps in (0, 1, 2, 3, 4, 7, 12):
        for slots in (1, 2, 3, 5, 20):
            are_equal(by_both(steps, slots=slots))


@settings(max_examples=15)
@given(st.integers(0, 80), st.integers(1, 20), st.integers(0, 99))
def test_values_and_gradients_are_those_of_the_loop_hypothesis(steps, slots, seed):
    are_equal(by_both(steps, seed, slots=slots if slots > 1 or steps < 30 else 2))


@pytest.mark.parametrize(
    "options",
    [
        {"check": True},
        {"check": False},
        {"budget": "1KiB"},
        {"max_steps": 9},
        {"check": True, "slots": 8, "internal": 3},
    ],
)
def test_options_change_no_gradient(options):
    are_equal(by_both(9, **{"slots": 3} | options if "budget" not in options else options))


@COMPILER
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_body_gives_the_gradients_of_the_loop_and_is_compiled_once():
    weight = torch.tensor([0.5, 0.9], dtype=D, requires_grad=True)
    h = torch.ones(2, dtype=D, requires_grad=True)

    def body(carry):
        return torch.tanh(carry[0] * weight + 0.1), carry[1] + 1

    def run(loop):
        carry, _ = loop(lambda carry: carry[1] < 12, body, (h, torch.tensor(0)))
        return torch.autograd.grad(carry[0].sum(), [h, weight])

    expected = run(plain)
    for _ in range(2):
        actual = run(lambda *call: while_loop(*call, slots=3, params=[weight], compile=True))
        assert relative_error(actual, expected) <= 1e-10


def halving(**options):
    """A loop on numbers: the carry, what is wanted, how often the condition and the body were evaluated."""
    asked, ran = [], []
    weight = torch.tensor(0.5, dtype=D, requires_grad=True)

    def cond(x):
        asked.append(float(x))
        return x > 0.01

    def body(x):
        ran.append(float(x.detach()))
        return x * weight

    start = torch.tensor(64.0, dtype=D, requires_grad=True)
    carry, steps = while_loop(cond, body, start, params=[weight], **options)
    return carry, steps, start, weight, asked, ran


@pytest.mark.parametrize("slots", [1, 2, 3, 6])
def test_the_condition_is_asked_once_a_step_and_the_body_evaluated_as_often_as_is_said(slots):
    carry, steps, start, _, asked, ran = halving(slots=slots)
    assert (steps, len(asked), len(ran)) == (13, 14, 13)
    carry.backward()
    assert len(asked) == 14
    assert len(ran) == online.cost(13, slots)
    assert start.grad.item() == 0.5**13


def test_without_a_step_the_carry_comes_back_with_its_gradient():
    start = torch.ones(3, dtype=D, requires_grad=True)
    carry, steps = while_loop(lambda x: False, lambda x: x / 0, start, slots=3)
    (2 * carry).sum().backward()
    assert steps == 0
    assert torch.equal(carry, torch.ones(3, dtype=D))
    assert torch.equal(start.grad, torch.full((3,), 2.0, dtype=D))


def test_a_condition_may_be_a_bool_of_python():
    start = torch.ones((), requires_grad=True)
    steps = []
    carry, count = while_loop(lambda x: len(steps) < 4, lambda x: (steps.append(0), 2 * x)[1], start, slots=2)
    assert (count, carry.item()) == (4, 16)


def test_what_only_the_condition_uses_need_not_be_declared():
    weight, judge = torch.tensor(2.0, requires_grad=True), nn.Linear(1, 1)
    nn.init.ones_(judge.weight)
    nn.init.zeros_(judge.bias)
    x, steps = while_loop(
        lambda x: (judge(x) < 30).all(), lambda x: x * weight, torch.ones(1, 1), slots=2, params=[weight]
    )
    x.sum().backward()
    assert (steps, weight.grad.item(), judge.weight.grad) == (5, 5 * 2**4, None)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (torch.ones(3, dtype=torch.bool), r"shape \(3,\)"),
        (torch.ones(1, dtype=torch.bool), r"shape \(1,\)"),
        (torch.tensor(1.0), "float32"),
        (1, "got 1"),
        (None, "got None"),
    ],
)
def test_what_is_no_truth_value_is_refused(answer, what):
    with pytest.raises(TypeError, match=f"cond must return a bool.*{what}"):
        while_loop(lambda x: answer, lambda x: x, torch.ones(3, requires_grad=True), slots=2)


def test_a_condition_on_several_elements_is_reduced_as_the_error_says():
    start = torch.tensor([1.0, 8.0], requires_grad=True)
    carry, steps = while_loop(lambda x: (x > 1).any(), lambda x: x / 2, start, slots=2)
    assert (steps, carry.tolist()) == (3, [0.125, 1.0])


def test_a_loop_that_is_too_long_is_one_error_or_cut_short():
    start = torch.ones((), requires_grad=True)
    with pytest.raises(RuntimeError, match="cond still holds after max_steps=5 steps"):
        while_loop(lambda x: x < 100, lambda x: 2 * x, start, slots=2, max_steps=5)
    carry, steps = while_loop(lambda x: x < 100, lambda x: 2 * x, start, slots=2, max_steps=5, strict=False)
    carry.backward()
    assert (steps, carry.item(), start.grad.item()) == (5, 32, 32)
    assert while_loop(lambda x: x < 100, lambda x: 2 * x, start, slots=2, max_steps=7)[1] == 7


@pytest.mark.parametrize("where", ["cond", "body"])
@pytest.mark.parametrize("at", [0, 1, 5, 17])
def test_an_error_in_condition_or_body_leaves_nothing_alive(where, at):
    refs = []

    def body(carry):
        if where == "body" and len(refs) == at:
            raise ZeroDivisionError
        h = torch.tanh(carry)
        refs.append(weakref.ref(h))
        return h

    def cond(carry):
        if where == "cond" and len(refs) == at:
            raise ZeroDivisionError
        return True

    start = torch.ones(3, requires_grad=True)
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError), meter() as report:
            while_loop(cond, body, start, slots=4)
        assert len(refs) == at
        assert not [ref for ref in refs if ref() is not None]
        assert report.live_bytes == 0
    finally:
        gc.enable()


def test_a_loop_whose_result_is_thrown_away_leaves_nothing_alive():
    refs = []
    gc.disable()
    try:
        carry, _ = while_loop(lambda x: len(refs) < 30, lambda x: kept(torch.tanh(x), refs), START, slots=4)
        assert sum(ref() is not None for ref in refs) <= 4 + 1
        del carry
        assert not [ref for ref in refs if ref() is not None]
    finally:
        gc.enable()


START = torch.ones(3, requires_grad=True)


def kept(tensor, refs):
    refs.append(weakref.ref(tensor))
    return tensor


@pytest.mark.parametrize("slots", [2, 5])
def test_no_more_states_are_alive_at_any_step_however_long_the_loop(slots):
    for steps in (10, 100, 400):
        refs, most = [], 0

        def body(carry, refs=refs):
            return kept(torch.tanh(carry), refs)

        def cond(carry, steps=steps, refs=refs):
            nonlocal most
            most = max(most, sum(ref() is not None for ref in refs))
            return len(refs) < steps

        while_loop(cond, body, START, slots=slots)
        assert most <= slots + 1  # the starting one is not among them; the newest step's input and output are


def test_bytes_do_not_grow_with_the_number_of_steps():
    def peak(steps):
        with meter() as report:
            carry, _ = while_loop(lambda c: c[1] < steps, body, (torch.ones(8, requires_grad=True), zero), slots=6)
            carry[0].sum().backward()
        assert report.live_bytes == 0
        assert report.backwards == steps
        return report.peak_bytes

    zero = torch.tensor(0)

    def body(carry):
        return torch.tanh(carry[0] * 0.9).exp(), carry[1] + 1

    assert peak(50) == peak(600)


def test_a_budget_is_kept_and_the_smallest_feasible_one_is_named():
    def run(budget):
        body, init, _ = setting(0)
        with meter() as report:
            carry, steps = while_loop(
                lambda carry: carry["count"] < 120, body, init, budget=budget, params=[body.outside]
            )
            gradients(carry, list(body.cell.parameters()))
        assert steps == 120
        assert report.peak_bytes <= budget
        return report.forwards

    with pytest.raises(ValueError, match=r"take (\d+) bytes, the smallest feasible budget") as error:
        run(100)
    least = int(str(error.value).split(" take ")[1].split()[0])
    counts = [run(least), run(least + 200), run(4_000)]
    assert counts[0] == online.cost(120, 1)
    assert counts == sorted(counts, reverse=True)
    with pytest.raises(ValueError, match="too small"):
        run(least - 1)


def test_a_budget_takes_all_the_slots_that_fit():
    """A state of 80 bytes; a step's graph, its input and its output beside them."""
    start = torch.ones(10, dtype=D, requires_grad=True)
    with meter() as report:
        carry, _ = while_loop(lambda x: x.max() < 1e30, lambda x: x * 1.1, start, budget=80 + 2 * 80 + 80 * 7)
        carry.sum().backward()
    assert report.forwards == online.cost(int(report.backwards), 8)


@pytest.mark.parametrize("options", [{}, {"slots": 2, "budget": 100}])
def test_slots_or_a_budget_are_given(options):
    with pytest.raises(TypeError, match="exactly one of slots= and budget="):
        while_loop(lambda x: False, lambda x: x, START, **options)


@pytest.mark.parametrize(
    ("options", "error"), [({"slots": 0}, ValueError), ({"slots": 2.0}, TypeError), ({"budget": "much"}, ValueError),
                           ({"slots": 2, "max_steps": 0}, ValueError), ({"slots": 2, "max_steps": True}, TypeError)]
)  # fmt: skip
def test_numbers_are_checked_before_anything_runs(options, error):
    with pytest.raises(error):
        while_loop(lambda x: 1 / 0, lambda x: 1 / 0, START, **options)


def test_a_retained_graph_is_backpropagated_again_and_the_condition_is_not_asked():
    carry, steps, start, _, asked, ran = halving(slots=3)
    first = torch.autograd.grad(carry, start, retain_graph=True)[0]
    again = torch.autograd.grad(carry, start)[0]
    assert torch.equal(first, again)
    assert len(asked) == steps + 1
    assert len(ran) == 2 * online.cost(steps, 3)


def test_without_grad_mode_nothing_is_recorded_and_the_loop_is_the_same():
    with torch.no_grad():
        carry, steps, _, _, asked, ran = halving(slots=3)
    assert (steps, len(asked), len(ran)) == (13, 14, 13)
    assert not carry.requires_grad
    plainly, count = while_loop(lambda x: x < 9, lambda x: 2 * x, torch.tensor(1.0), slots=1)
    assert (plainly.item(), count, plainly.requires_grad) == (16, 4, False)


def test_a_loop_in_the_step_of_a_scan_and_a_scan_in_the_body_of_a_loop():
    weight = torch.tensor(0.8, dtype=D, requires_grad=True)
    xs = torch.linspace(0.5, 2, 6, dtype=D)

    def refine(x):
        return while_loop(lambda c: c[1] < 3 + int(x > 1), lambda c: (torch.tanh(c[0] * weight) + x, c[1] + 1),
                          (x, torch.tensor(0)), slots=2, params=[weight, x])[0][0]  # fmt: skip

    def refine_plainly(x):
        carry = x, 0
        while carry[1] < 3 + int(x > 1):
            carry = torch.tanh(carry[0] * weight) + x, carry[1] + 1
        return carry[0]

    def outer(refine, run):
        h, ys = run(lambda h, x: (h * refine(x * h),) * 2, torch.ones((), dtype=D, requires_grad=True), xs)
        return torch.autograd.grad(h + ys.sum(), weight)

    def loop(step, h, xs):
        ys = []
        for x in xs:
            h, y = step(h, x)
            ys.append(y)
        return h, torch.stack(ys)

    expected = outer(refine_plainly, loop)
    assert relative_error(outer(refine, lambda *call: scan(*call, slots=2, params=[weight])), expected) <= 1e-10

    def body(carry):
        h, _ = scan(lambda h, x: (torch.tanh(h * weight + x), None), carry[0], xs, slots=2, params=[weight])
        return h, carry[1] + 1

    def plain_body(carry):
        h = carry[0]
        for x in xs:
            h = torch.tanh(h * weight + x)
        return h, carry[1] + 1

    start = torch.zeros((), dtype=D), torch.tensor(0)
    h = while_loop(lambda c: c[1] < 5, body, start, slots=2, params=[weight])[0][0]
    expected = torch.autograd.grad(plain(lambda c: c[1] < 5, plain_body, start)[0][0], weight)
    assert relative_error(torch.autograd.grad(h, weight), expected) <= 1e-10


def test_the_first_step_may_make_the_carry():
    weight = torch.tensor([0.5, 0.7], dtype=D, requires_grad=True)

    def body(carry):
        h, count = carry
        return (weight if h is None else torch.tanh(h * weight)), count + 1

    for steps in (1, 2, 9):
        (h, _), _ = while_loop(lambda c: c[1] < steps, body, (None, torch.tensor(0)), slots=2, params=[weight])  # noqa: B023
        expected = plain(lambda c: c[1] < steps, body, (None, torch.tensor(0)))[0][0]  # noqa: B023
        pair = (torch.autograd.grad(result.sum(), weight) for result in (h, expected))
        assert relative_error(*pair) <= 1e-10


DRAWS = {"torch": lambda: float(torch.rand(())), "python": random.random, "numpy": lambda: float(np.random.rand())}  # noqa: NPY002


def drawing(by_cond, by_body, from_step=0):
    """A loop whose condition and body draw from generators, and its gradient by the loop."""
    weight = torch.tensor(0.9, dtype=D, requires_grad=True)
    none = lambda: 1.0  # noqa: E731
    ask, noise = DRAWS.get(by_cond, none), DRAWS.get(by_body, none)

    def cond(carry):
        return bool(ask() < 2) and int(carry[1]) < 20

    def body(carry):
        h, count = carry
        return torch.tanh(h * weight + (noise() if int(count) >= from_step else 1.0)), count + 1

    def run(loop):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        carry, _ = loop(cond, body, (torch.zeros((), dtype=D), torch.tensor(0)))
        return [carry[0].detach(), *torch.autograd.grad(carry[0], weight)]

    return run, lambda *call: while_loop(*call, slots=3, params=[weight])


@pytest.mark.parametrize("by_body", [None, *DRAWS])
@pytest.mark.parametrize("by_cond", [None, *DRAWS])
@pytest.mark.parametrize("from_step", [0, 5])
def test_random_numbers_are_those_of_the_loop_or_refused(by_cond, by_body, from_step):
    run, loop = drawing(by_cond, by_body, from_step)
    expected = run(plain)
    if by_cond is not None and by_cond == by_body:
        with pytest.raises(RuntimeError, match="cond and body both draw random numbers"):
            run(loop)
        return
    assert relative_error(run(loop), expected) <= 1e-10


def test_a_body_that_is_another_at_its_recomputation_is_noticed():
    calls = 0

    def body(carry):
        nonlocal calls
        calls += 1
        return torch.tanh(carry + 0.01 * calls)

    steps = iter(range(10))
    carry, _ = while_loop(lambda c: next(steps, None) is not None, body, START, slots=3)
    with pytest.raises(RuntimeError, match=r"recomputing core \d+ \(step \d+\) gave another carry"):
        carry.sum().backward()


def test_what_a_scan_refuses_is_refused():
    weight, layer = torch.tensor(0.5, requires_grad=True), nn.Linear(3, 3)
    for body, what in (
        (lambda x: x * weight, "tensor 'weight'"),
        (lambda x: 2 * layer(x), r"parameter 'layer\.weight'"),
    ):
        with pytest.raises(ValueError, match=f"the {what}"):
            while_loop(lambda x: True, body, START, slots=2)
    for body in (lambda x: x.add_(1), lambda x: x[0]):
        with pytest.raises((RuntimeError, ValueError), match=r"in place|in-place|must stay the same"):
            while_loop(lambda x: True, body, START, slots=2)
    with pytest.raises(RuntimeError, match="changed in place"):
        while_loop(lambda x: x.add_(1).sum() < 100, lambda x: x * 2, START.detach() * START[0], slots=2)
    with pytest.raises(TypeError, match="only tensors are allowed"):
        while_loop(lambda x: True, lambda x: x, {3}, slots=2)


def test_an_error_of_type_in_the_body_stays_what_it_is():
    with pytest.raises(TypeError, match="unsupported operand"):
        while_loop(lambda x: True, lambda x: x + "1", START, slots=2)
    with pytest.raises(TypeError, match="positional argument"):
        while_loop(lambda x: True, lambda x, y: x, START, slots=2)


def test_the_parameters_of_a_bound_method_are_found():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.tensor(0.3))

        def body(self, carry):
            return carry * self.a

    model = Model()
    while_loop(lambda x: x > 0.01, model.body, torch.ones(()), slots=2)[0].backward()
    assert model.a.grad is not None


def test_a_batch_whose_members_stop_at_different_times():
    """The recipe of the README: those that are through keep their state, and the loop runs over the slowest."""
    weight = torch.tensor(0.8, dtype=D, requires_grad=True)
    start = torch.tensor([1.0, 5.0, 40.0, 0.1], dtype=D, requires_grad=True)

    def goes_on(x):
        return x > 0.5

    def body(carry):
        x, steps = carry
        active = goes_on(x)
        return torch.where(active, x * weight, x), steps + active

    init = start, torch.zeros(4, dtype=torch.int64)
    (x, counts), steps = while_loop(lambda carry: goes_on(carry[0]).any(), body, init, slots=3, params=[weight])
    alone = [plain(goes_on, lambda x: x * weight, member) for member in start.unbind()]
    assert counts.tolist() == [count for _, count in alone]
    assert steps == max(counts)
    expected = torch.autograd.grad(sum(x for x, _ in alone), [start, weight])
    assert relative_error(torch.autograd.grad(x.sum(), [start, weight]), expected) <= 1e-10


def test_with_internal_states_values_and_gradients_are_those_of_the_loop_exhaustive():
    for steps in (0, 1, 2, 3, 4, 7, 12):
        for slots, internal in ((1, 2), (4, 3), (4, 4), (6, 2), (9, 3), (40, 3)):
            are_equal(by_both(steps, slots=slots, internal=internal))


@settings(max_examples=15)
@given(st.integers(0, 80), st.integers(2, 30), st.integers(2, 8), st.integers(0, 99))
def test_with_internal_states_values_and_gradients_are_those_of_the_loop_hypothesis(steps, slots, internal, seed):
    are_equal(by_both(steps, seed, slots=slots, internal=internal))


def evaluated(steps, **options):
    """What one gradient took: the meter's report."""
    body, init, _ = setting(0)
    with meter() as report:
        carry, _ = while_loop(lambda c: c["count"] < steps, body, init, params=[body.outside], **options)
        gradients(carry, list(body.cell.parameters()))
    return report


def test_while_every_graph_fits_a_loop_costs_what_it_does_under_plain_autograd_and_then_what_is_said():
    for steps in range(1, 30):
        forwards = evaluated(steps, slots=12, internal=3).forwards
        assert forwards == online.cost(steps, 12, internal=3)
        assert forwards == steps if steps <= 5 else forwards > steps
        assert forwards < evaluated(steps, slots=12).forwards or steps == 1


def test_a_budget_is_kept_with_internal_states_too_and_the_smallest_feasible_one_is_named():
    with pytest.raises(
        ValueError, match=r"too small to keep a graph: .* take (\d+) bytes; leave internal out"
    ) as error:
        evaluated(60, budget=500, internal=True)
    least = int(str(error.value).split(" take ")[1].split()[0])
    assert evaluated(60, budget=500).peak_bytes <= 500
    with pytest.raises(ValueError, match="too small"):
        evaluated(60, budget=least - 1, internal=True)
    counts = []
    for budget in (least, least + 600, 3 * least, 10 * least, 100 * least):
        for steps in (1, 2, 3, 60):
            report = evaluated(steps, budget=budget, internal=True)
            assert report.live_bytes == 0
            assert report.peak_bytes <= budget
            assert report.forwards <= evaluated(steps, budget=budget).forwards
        counts.append(report.forwards)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 60


def test_a_budget_of_many_small_states_holds_as_many_graphs_and_little_work():
    """A state of eight bytes beside a graph of some 16,000: slots are made larger, the budget is kept."""
    weight = torch.linspace(0.1, 0.9, 1_000, dtype=D, requires_grad=True)

    def run(steps, budget):
        start = (torch.ones((), dtype=D, requires_grad=True), torch.tensor(0))
        with meter() as report:
            carry, _ = while_loop(
                lambda carry: carry[1] < steps,
                lambda carry: (torch.tanh(weight * carry[0]).mean(), carry[1] + 1),
                start,
                budget=budget,
                internal=True,
                params=[weight],
            )
            carry[0].backward()
        assert report.peak_bytes <= budget
        return report.forwards

    assert [run(steps, 400_000) for steps in (1, 2, 20)] == [1, 2, 20]
    assert 60 < run(60, 400_000) < online.cost(60, 10)


def test_a_body_that_changes_nothing_runs_in_the_smallest_budget_that_is_named():
    start = torch.ones(4, dtype=D, requires_grad=True)
    for steps in (1, 2, 3, 20):
        remaining = iter([True] * steps)
        carry, count = while_loop(
            lambda _, left=remaining: next(left, False), lambda x: x, start, budget=1_000, internal=True
        )
        assert count == steps
        assert torch.equal(*torch.autograd.grad(carry.sum(), [start]), torch.ones(4, dtype=D))


def test_a_retained_graph_is_backpropagated_again_with_internal_states_too():
    for options in ({"slots": 7, "internal": 3}, {"budget": "4KiB", "internal": True}):
        for steps in (1, 2, 9):
            body, init, wanted = setting(0)
            carry, _ = while_loop(lambda c, n=steps: c["count"] < n, body, init, params=[body.outside], **options)
            loss = sum(leaf.sum() for leaf in floating(carry))
            first = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True, materialize_grads=True)
            again = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
            assert all(map(torch.equal, first, again))


def test_a_state_that_is_changed_in_place_while_graphs_are_given_up_is_refused_or_needed_no_more():
    """In five slots, two a graph, graphs are given up from step 4 on, and the states before them stay, as they were."""

    def gradient(changed=0, before=0):
        seen = []

        def body(carry):
            seen.append(carry)
            if len(seen) == before:
                seen[changed].detach().mul_(2)
            return torch.sin(carry)

        start = torch.ones(3, dtype=D, requires_grad=True)
        carry, _ = while_loop(lambda _: len(seen) < 9, body, start, slots=5, internal=2)
        return torch.autograd.grad(carry.sum(), start)[0]

    expected, refused = gradient(), {}
    for changed, before in itertools.combinations(range(1, 9), 2):
        try:
            assert torch.equal(gradient(changed, before), expected)
        except RuntimeError as error:
            refused[changed, before] = str(error)
    assert len(refused) > 8
    assert any("carry at position 4 was changed in place" in message for message in refused.values())


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"slots": 4, "internal": 1}, ValueError, "internal must be at least 2, got 1"),
        ({"slots": 4, "internal": 2.0}, TypeError, "internal must be an integer"),
        ({"slots": 4, "internal": True}, TypeError, "at least 2, got True"),
        ({"budget": "1MiB", "internal": 3}, TypeError, "give internal=True, got 3"),
        ({"internal": 3}, TypeError, "exactly one of slots= and budget="),
    ],
)
def test_what_internal_cannot_be_is_refused_before_anything_runs(options, error, says):
    with pytest.raises(error, match=says):
        while_loop(lambda _: pytest.fail("asked"), lambda x: x, torch.ones(1), **options)
