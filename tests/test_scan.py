"""`scan` equals the loop: same values, same gradients, exactly the forwards of the table."""

import gc
import weakref

import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from membptt import scan
from membptt_theory import lock
from membptt_theory.archive import TableError
from membptt_theory.schedule import Schedule
from membptt_theory.tables import build

from .cells import CELLS, Counting, Lstm, Tanh, gradients, plain, problem, relative_error
from .strategies import POLICIES, grid, policies, policy_id, queries

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def cheap(carry, x):
    """The cheapest step there is."""
    return carry * x, None


def forwards_of(table, steps, slots):
    """Count the evaluations that one gradient takes."""
    calls = 0

    def step(carry, x):
        nonlocal calls
        calls += 1
        return cheap(carry, x)

    carry = torch.ones((), requires_grad=True)
    final, _ = scan(step, carry, torch.ones(steps), policy=table, slots=slots)
    final.backward()
    return calls


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_torch_forwards_equal_the_table_exhaustive(policy, sizes):
    table = build(policy, 30, 8, **sizes)
    for t, m in grid(30, 8):
        assert forwards_of(table, t, m) == table.cost(t, m)


@given(queries(most_steps=300, most_slots=20))
def test_torch_forwards_equal_the_table_hypothesis(query):
    table, t, m = query
    t = t if m > 1 else min(t, 40)
    assert forwards_of(table, t, m) == table.cost(t, m)


def test_the_first_pass_evaluates_every_step_once():
    step, init, xs = problem(Lstm, 12, torch.float32)
    counting = Counting(step)
    scan(counting, init, xs, slots=3)
    assert counting.calls == 12


@pytest.mark.parametrize("make", CELLS)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_gradients_equal_plain_autograd_in_float64_exhaustive(make, policy, sizes):
    for steps in (1, 2, 3, 7, 13):
        step, init, xs = problem(make, steps, torch.float64)
        expected = gradients(plain(step, init, xs), step, init, xs)
        for slots in (1, 2, 3, 6, 70):
            actual = gradients(scan(step, init, xs, slots=slots, policy=policy, **sizes), step, init, xs)
            assert relative_error(actual, expected) <= 1e-10


@given(policies(), st.sampled_from(CELLS), st.integers(1, 40), st.integers(1, 30), st.integers(0, 99))
def test_gradients_equal_plain_autograd_in_float64_hypothesis(which, make, steps, slots, seed):
    policy, sizes = which
    step, init, xs = problem(make, steps, torch.float64, seed)
    actual = gradients(scan(step, init, xs, slots=slots, policy=policy, **sizes), step, init, xs)
    assert relative_error(actual, gradients(plain(step, init, xs), step, init, xs)) <= 1e-10


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("make", [Lstm, Tanh])
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_gradients_equal_plain_autograd_bitwise_in_float32(make, policy, sizes, device):
    """Both add a parameter's gradients up from the last step to the first, so not one bit may differ."""
    step, init, xs = problem(make, 25, torch.float32)
    if device == "cuda":
        step = step.to(device)
        init = optree.tree_map(lambda leaf: leaf.detach().to(device).requires_grad_(leaf.requires_grad), init)
        xs = xs.detach().to(device).requires_grad_()
    expected = plain(step, init, xs)
    actual = scan(step, init, xs, slots=4, policy=policy, **sizes)
    for a, b in zip(optree.tree_leaves(actual), optree.tree_leaves(expected), strict=True):
        assert torch.equal(a, b)
    pairs = zip(gradients(actual, step, init, xs), gradients(expected, step, init, xs), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_loss_inside_a_larger_model_trains_everything():
    torch.manual_seed(0)
    encoder, step, head = torch.nn.Linear(5, 3), Lstm(), torch.nn.Linear(4, 1)
    data, init = torch.randn(9, 2, 5), step.init(2)
    modules = torch.nn.ModuleList([encoder, step, head])

    def grads(run):
        modules.zero_grad()
        _, ys = run(step, init, encoder(data))
        head(ys).square().mean().backward()
        return [parameter.grad.clone() for parameter in modules.parameters()]

    actual = grads(lambda *call: scan(*call, slots=3, policy="msm", internal=3))
    assert relative_error(actual, grads(plain)) <= 1e-5


def test_params_of_a_plain_function_are_declared():
    w = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    scaled = w * 2  # a declared tensor need not be a leaf

    def step(carry, x):
        return torch.tanh(carry * scaled + x), carry

    xs, init = torch.randn(8, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    actual = torch.autograd.grad(scan(step, init, xs, slots=2, params=[scaled])[0], w, retain_graph=True)
    expected = torch.autograd.grad(plain(step, init, xs)[0], w)
    assert relative_error(list(actual), list(expected)) <= 1e-10


def test_parameters_of_a_bound_method_are_found():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(torch.tensor(0.3))

        def step(self, carry, x):
            return carry * self.a + x, carry

    model = Model()
    scan(model.step, torch.ones(()), torch.ones(5), slots=2)[0].backward()
    assert model.a.grad is not None


def test_a_missing_gradient_is_refused_and_the_culprit_named():
    weight = torch.tensor(0.5, requires_grad=True)
    layer = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="the tensor 'weight'"):
        scan(lambda carry, x: (carry * weight, x), torch.ones((), requires_grad=True), torch.ones(4), slots=2)
    with pytest.raises(ValueError, match=r"the parameter 'layer\.weight'"):
        scan(lambda carry, x: (layer(carry), x), torch.ones(1, requires_grad=True), torch.ones(4), slots=2)


@pytest.mark.parametrize("part", ["init", "xs", "nothing"])
def test_only_the_gradients_that_are_wanted_are_given(part):
    init, xs = torch.ones(2), torch.ones(6, 2)
    if part != "nothing":
        {"init": init, "xs": xs}[part].requires_grad_()
    final, ys = scan(lambda carry, x: (carry * x, carry + x), init, xs, slots=2)
    assert final.requires_grad == ys.requires_grad == (part != "nothing")
    if part != "nothing":
        (final.sum() + ys.sum()).backward()
    assert (init.grad is not None) == (part == "init")
    assert (xs.grad is not None) == (part == "xs")


def test_without_grad_mode_nothing_is_recorded():
    step, init, xs = problem(Lstm, 6, torch.float32)
    with torch.no_grad():
        (h, _), ys = scan(step, init, xs, slots=2)
    assert not h.requires_grad
    assert not ys.requires_grad
    assert torch.equal(ys, plain(step, init, xs)[1])


def test_a_carry_that_the_loss_ignores_still_passes_the_others_gradient_on():
    init = (torch.ones((), dtype=torch.float64, requires_grad=True), torch.ones((), dtype=torch.float64))

    def step(carry, x):
        return (carry[0] * x, carry[1] + 1), carry[1]

    xs = torch.full((5,), 2.0, dtype=torch.float64)
    (a, _), _ = scan(step, init, xs, slots=2)
    a.backward()
    assert init[0].grad.item() == 32


def test_dropout_is_recomputed_with_the_first_pass_masks():
    class Dropping(Tanh):
        def forward(self, carry, x):
            carry, y = super().forward(carry, x)
            return {**carry, "h": torch.nn.functional.dropout(carry["h"], 0.5)}, y

    step, init, xs = problem(Dropping, 15, torch.float64)
    torch.manual_seed(7)
    expected = gradients(plain(step, init, xs), step, init, xs)
    for policy, sizes in POLICIES:
        torch.manual_seed(7)
        result = scan(step, init, xs, slots=3, policy=policy, **sizes)
        after = torch.get_rng_state()
        assert relative_error(gradients(result, step, init, xs), expected) <= 1e-10
        assert torch.equal(torch.get_rng_state(), after)


def test_autocast_of_the_first_pass_is_replayed():
    step, init, xs = problem(Tanh, 9, torch.float32)
    seen = []

    class Watching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = step

        def forward(self, carry, x):
            seen.append(torch.is_autocast_enabled("cpu"))
            carry, y = self.inner(carry, x)
            return {**carry, "h": carry["h"].float()}, y["norm"].float()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        final, _ = scan(Watching(), init, xs, slots=2)
    final["h"].sum().backward()
    assert len(seen) > 9
    assert all(seen)


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_gradients_under_autocast_are_those_of_plain_autograd_under_it(policy, sizes):
    """Recomputed outside the context, as backward is; within the precision of a sum of bfloat16 products."""
    step, init, xs = problem(Lstm, 9, torch.float32)

    def run(by):
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            (h, c), ys = by(widened, init, xs)
        return gradients(((h, c), ys), step, init, xs)

    class Widened(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = step

        def forward(self, carry, x):
            (h, c), y = self.inner(carry, x)
            return (h.float(), c.float()), y.float()

    widened = Widened()
    actual = run(lambda *call: scan(*call, slots=3, policy=policy, **sizes))
    assert relative_error(actual, run(plain)) <= 1e-5
    with torch.autocast("cpu", enabled=False):
        exact = gradients(plain(step, init, xs), step, init, xs)
    assert relative_error(actual, exact) > 1e-4


@pytest.mark.cuda
def test_dropout_on_cuda_is_recomputed_with_the_first_pass_masks():
    w = torch.full((50,), 0.9, dtype=torch.float64, device="cuda", requires_grad=True)
    init, xs = torch.ones(50, dtype=torch.float64, device="cuda"), torch.ones(12, device="cuda")
    for policy, sizes in POLICIES:
        final, _ = scan(
            lambda c, x: (torch.nn.functional.dropout(c * w, 0.1), None),
            init,
            xs,
            slots=2,
            policy=policy,
            params=[w],
            **sizes,
        )
        after = torch.cuda.get_rng_state()
        (grad,) = torch.autograd.grad(final.sum(), w)
        assert torch.allclose(grad * 0.9, 12 * final.detach(), rtol=1e-9)
        assert torch.equal(torch.cuda.get_rng_state(), after)


def test_a_scan_inside_a_scan_differentiates():
    w = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def inner(carry, x):
        return torch.tanh(w * carry + x), carry

    def outer_by(run):
        def outer(carry, xs):
            carry, ys = run(inner, carry, xs)
            return carry, ys.sum()

        return outer

    xs, init = torch.randn(5, 6, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    nested = outer_by(lambda *call: scan(*call, slots=2, params=[w]))
    actual = torch.autograd.grad(scan(nested, init, xs, slots=2, params=[w])[1].sum(), w)
    expected = torch.autograd.grad(plain(outer_by(plain), init, xs)[1].sum(), w)
    assert relative_error(list(actual), list(expected)) <= 1e-10


def test_the_executed_table_has_the_digest_of_the_lock(monkeypatch):
    executed, instructions = [], Schedule.instructions

    def spy(schedule):
        executed.append(schedule.digest)
        return instructions(schedule)

    monkeypatch.setattr(Schedule, "instructions", spy)
    locked = {entry: sha for entry, sha in lock.read().items() if entry.steps == 30}
    for policy, internal, known, steps, slots in locked:
        scan(
            cheap,
            torch.ones((), requires_grad=True),
            torch.ones(steps),
            slots=slots,
            policy=policy,
            internal=internal,
            internal_known=known,
        )
    assert executed == list(locked.values())
    assert len(executed) == 5


@pytest.mark.parametrize("name", ["costs", "decisions", "splits"])
def test_a_tampered_table_is_refused(name):
    table = build("hsm", 17, 3)
    changed = getattr(table, name).copy()
    changed[0, 2, 11] += 1
    fake = object.__new__(type(table))
    for key, value in vars(table).items():
        object.__setattr__(fake, key, value)
    object.__setattr__(fake, name, changed)
    with pytest.raises(TableError, match="was changed"):
        scan(cheap, torch.ones((), requires_grad=True), torch.ones(17), slots=3, policy=fake)


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_retained_graph_is_backpropagated_again_by_running_the_scan_again(policy, sizes):
    step, init, xs = problem(Lstm, 6, torch.float64)
    counting = Counting(step)
    _, ys = scan(counting, init, xs, slots=2, policy=policy, **sizes)
    wanted = [xs, *step.parameters()]
    first = torch.autograd.grad(ys.square().sum(), wanted, retain_graph=True)
    once = counting.calls
    second = torch.autograd.grad(ys.square().sum(), wanted)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert counting.calls == 2 * once


def test_a_graph_that_was_not_retained_cannot_be_backpropagated_again():
    step, init, xs = problem(Lstm, 6, torch.float64)
    _, ys = scan(step, init, xs, slots=2)
    loss = ys.sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


def test_nothing_outlives_a_call_that_is_never_backpropagated():
    alive = weakref.WeakSet()

    def step(carry, x):
        new = carry * x
        alive.add(new)
        return new, None

    final, _ = scan(step, torch.ones(3, requires_grad=True), torch.ones(20, 3), slots=5)
    assert len(alive) > 0
    del final
    gc.collect()
    assert len(alive) == 0


def test_inference_mode_gives_the_values():
    step, init, xs = problem(Lstm, 6, torch.float32)
    with torch.inference_mode():
        _, ys = scan(step, init, xs, slots=2)
    assert torch.equal(ys, plain(step, init, xs)[1])
