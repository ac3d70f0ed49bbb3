"""Carries that the first step makes: where the start has nothing yet, the scan is the plain loop all the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from membptt import meter, plan, scan
from membptt.state.forms import Form
from membptt_theory.tables import optimal_cost

from .cells import plain as loop
from .cells import relative_error
from .strategies import POLICIES, policies, policy_id

W = torch.tensor([[0.5, -0.3, 0.2], [0.1, 0.4, -0.6], [0.7, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)


def of_none(state, x):
    """As in norse: no state, then a tuple."""
    v, i = state if state is not None else (torch.zeros_like(x), x * 0.5)
    v, i = 0.9 * v + i, torch.tanh(i @ W + x)
    return (v, i), v * i


def of_a_part(caches, x):
    """As in mambapy: part of the state is there, and the list that holds it is written to."""
    h, last = caches[0]
    h = torch.tanh((h if h is not None else 0) + x @ W)
    caches[0] = (h, x + 0.5 * last)
    return caches, h * last


def of_empty(memory, x):
    """As in snnTorch: a memory without elements."""
    if memory.shape != x.shape:
        memory = torch.zeros_like(x)
    memory = 0.8 * memory + torch.tanh(x @ W)
    return memory, memory * 1


def of_a_leaf(state, x):
    """As in norse, whose first step makes a leaf that requires grad: nobody can ask for its gradient."""
    if state is None:
        state = torch.zeros((), dtype=torch.float64)
        state.requires_grad = True
    state = torch.tanh(state + x @ W)
    return state, state * 1


STARTS = {
    "None": (of_none, lambda start: None),
    "part": (of_a_part, lambda start: [(None, start)]),
    "empty": (of_empty, lambda start: torch.zeros(0, dtype=torch.float64)),
    "leaf": (of_a_leaf, lambda start: None),
}


def gradients(kind, steps, batch=2, run=loop, **options):
    step, make = STARTS[kind]
    noise = torch.Generator().manual_seed(steps)
    xs = torch.randn(steps, batch, 3, dtype=torch.float64, generator=noise).requires_grad_()
    start = torch.randn(batch, 3, dtype=torch.float64, generator=noise).requires_grad_()
    carry, ys = run(step, make(start), xs, **options)
    weights = torch.arange(ys.numel()).cos().view_as(ys)
    leaves = torch.utils._pytree.tree_leaves(carry)
    wanted = [xs, W, start] if kind == "part" else [xs, W]
    return ys, torch.autograd.grad((weights * ys).sum() + sum(leaf.sum() for leaf in leaves), wanted)


def assert_equal(kind, steps, batch=2, **options):
    expected, wanted = gradients(kind, steps, batch)
    ys, actual = gradients(kind, steps, batch, scan, params=[W], **options)
    assert torch.equal(ys, expected)
    assert relative_error(actual, wanted) <= 1e-10


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_carry_that_the_first_step_makes_equals_the_plain_loop_exhaustive(kind, policy, sizes):
    for steps in (1, 2, 3, 8):
        for slots, chunk in ((1, 1), (3, 1), (2, 3), (1, 20)):
            assert_equal(kind, steps, slots=slots, policy=policy, chunk=chunk, **sizes)


@given(
    st.sampled_from(list(STARTS)),
    policies(),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(1, 9),
)
def test_a_carry_that_the_first_step_makes_equals_the_plain_loop_hypothesis(kind, which, steps, batch, chunk, slots):
    policy, sizes = which
    assert_equal(kind, steps, batch, slots=slots, policy=policy, chunk=chunk, **sizes)


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("options", [{"spill": True, "slots": 2}, {"check": True, "slots": 3}, {"budget": "16KiB"}])
def test_it_goes_with_every_other_option(kind, options):
    for steps in (1, 2, 9):
        assert_equal(kind, steps, **options)


@pytest.mark.parametrize("kind", STARTS)
def test_it_costs_no_forward_more_than_the_table_says(kind):
    for steps in (1, 2, 9):
        with meter() as report:
            assert_equal(kind, steps, slots=3)
        assert report.forwards == optimal_cost("hsm", steps, 3)


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_its_peak_is_at_most_the_planned_one(kind, steps):
    step, make = STARTS[kind]
    xs, start = torch.ones(steps, 2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    chosen = plan(step, make(start), xs, budget="16KiB", params=[W])
    with meter() as report:
        scan(step, make(start), xs, plan=chosen, params=[W])[1].sum().backward()
    assert report.peak_bytes <= chosen.peak_bytes


def test_a_leaf_of_the_first_steps_own_is_nobodys_where_no_gradient_is_wanted():
    def step(state, x):
        state = torch.zeros(3, requires_grad=True) if state is None else state
        return state * x, x

    xs = torch.ones(4, 3)
    assert torch.equal(scan(step, None, xs, slots=2)[0], torch.zeros(3))


@pytest.mark.parametrize("kind", STARTS)
def test_nothing_is_recorded_where_no_gradient_is_wanted(kind):
    step, make = STARTS[kind]
    xs, start = torch.ones(5, 2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    with torch.no_grad():
        carry, ys = scan(step, make(start), xs, slots=2)
        final, expected = loop(step, make(start), xs)
    assert torch.equal(ys, expected)
    leaves = zip(*(torch.utils._pytree.tree_leaves(tree) for tree in (carry, final)), strict=True)
    assert all(torch.equal(a, b) for a, b in leaves)


def broadcast(h, x):
    h = torch.tanh(x if h is None else h + x)
    return h, h


def test_a_start_of_another_shape_is_refused_and_none_in_its_place_works():
    xs = torch.ones(4, 2, 3)
    with pytest.raises(ValueError, match=r"step 0 returned .*must stay the same.*or from None"):
        scan(broadcast, torch.zeros(3), xs, slots=2)
    with pytest.raises(ValueError, match=r"step 0 returned a carry of structure.*or from None"):
        scan(lambda h, x: ((x, x), x), torch.zeros(3), xs, slots=2)
    assert torch.equal(scan(broadcast, None, xs, slots=2)[1], loop(broadcast, None, xs)[1])
    assert torch.equal(scan(broadcast, torch.zeros(2, 3), xs, slots=2)[1], loop(broadcast, None, xs)[1])


@pytest.mark.parametrize("options", [{}, {"chunk": 3}, {"chunk": 20}, {"policy": "ism"}])
@pytest.mark.parametrize("wanted", [False, True])
def test_only_the_first_step_may_make_a_carry(options, wanted):
    def growing(h, x):
        h = x[None] if h is None else torch.cat([h, x[None]])
        return h, x

    with pytest.raises(ValueError, match=r"step 1 returned .*return as output y what grows"):
        scan(growing, None, torch.ones(5, 3, requires_grad=wanted), slots=2, **options)


def test_a_part_that_was_there_keeps_its_form_beside_one_that_was_not():
    with pytest.raises(ValueError, match="step 0 returned a carry of shape"):
        scan(lambda c, x: ((x, x.double()), x), (None, torch.zeros(3)), torch.ones(4, 3), slots=2)


class Held:
    """An object, deep enough that no name leads to its tensor."""

    def __init__(self, tensor):
        self.inner = type("Inner", (), {"tensor": tensor})()


@pytest.mark.parametrize("hold", [lambda t: t, lambda t: [t], lambda t: {"t": t}, Held])
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_a_leaf_that_somebody_holds_is_still_refused_where_only_the_first_step_uses_it(hold, steps):
    held = hold(torch.zeros(3, requires_grad=True))

    def step(state, x):
        if state is None:
            state = held.inner.tensor if isinstance(held, Held) else held
            state = state if isinstance(state, torch.Tensor) else next(iter(getattr(state, "values", lambda: state)()))
        state = torch.tanh(state + x)
        return state, state

    with pytest.raises(ValueError, match="was not declared"):
        scan(step, None, torch.ones(steps, 3, requires_grad=True), slots=2)[1].sum().backward()


def test_what_was_made_of_a_leaf_that_nobody_holds_any_more_is_still_refused():
    built = torch.ones(3, requires_grad=True) * 2

    def step(state, x):
        state = built * x if state is None else state * x
        return state, x

    with pytest.raises(ValueError, match="was not declared"):
        scan(step, None, torch.ones(6, 3, requires_grad=True), slots=2)[0].sum().backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_parameter_that_only_a_scripted_module_holds_is_still_refused():
    scripted = torch.jit.script(torch.nn.Linear(3, 3))

    def step(state, x):
        return scripted(x), x

    with pytest.raises(ValueError, match="was not declared"):
        scan(step, None, torch.ones(6, 3, requires_grad=True), slots=2)[0].sum().backward()


def test_a_leaf_of_the_step_with_a_hook_is_refused():
    def step(state, x):
        leaf = torch.ones(3, requires_grad=True)
        leaf.register_hook(print)
        return leaf * x, x

    with pytest.raises(ValueError, match="was not declared"):
        scan(step, None, torch.ones(6, 3, requires_grad=True), slots=2)[0].sum().backward()


def test_a_form_that_is_taken_from_the_start_alone_is_caught(monkeypatch):
    monkeypatch.setattr(Form, "after", lambda self, carry: (self, self.flatten(carry, 0)))
    with pytest.raises(ValueError, match="carry of structure"):
        assert_equal("None", 5, slots=2)
