"""A scan beside other code: what draws, switches, freezes or compiles around it is left alone, and leaves it alone."""

import threading
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from membptt import meter, plan, scan

from .cells import plain, relative_error
from .strategies import POLICIES, policies, policy_id


def quiet(carry, x):
    """Draws nothing."""
    return torch.tanh(carry + x), carry


def noisy(carry, x):
    return nn.functional.dropout(carry * x, 0.5), carry


def start():
    return torch.ones(8, requires_grad=True)


def left_alone(policy, sizes, slots, chunk):
    final, _ = scan(quiet, start(), torch.ones(9), slots=slots, policy=policy, chunk=chunk, **sizes)
    torch.rand(3)  # drawn between forward and backward
    before = torch.get_rng_state()
    final.sum().backward()
    return torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_the_backward_of_a_step_that_draws_nothing_leaves_the_generator_alone_exhaustive(policy, sizes):
    assert all(left_alone(policy, sizes, slots, chunk) for slots in range(1, 11) for chunk in range(1, 11))


@given(policies(), st.integers(1, 30), st.integers(1, 12))
def test_the_backward_of_a_step_that_draws_nothing_leaves_the_generator_alone_hypothesis(which, slots, chunk):
    assert left_alone(*which, slots, chunk)


@pytest.mark.parametrize("step", [quiet, noisy])
def test_a_backward_leaves_the_generator_where_it_finds_it(step):
    torch.manual_seed(1)
    final, _ = scan(step, start(), torch.ones(9), slots=2)
    expected = torch.get_rng_state()
    final.sum().backward()
    assert torch.equal(torch.get_rng_state(), expected)


def test_a_scan_that_draws_nothing_does_not_rewind_one_that_draws_in_another_thread():
    stop, failed = threading.Event(), []

    def calm():
        while not stop.is_set():
            scan(quiet, start(), torch.ones(30), slots=3)[0].sum().backward()

    def drawing():
        try:
            for _ in range(60):
                scan(noisy, start(), torch.ones(30), slots=3, check=True)[0].sum().backward()
        except RuntimeError as error:
            failed.append(error)
        stop.set()

    threads = [threading.Thread(target=calm), threading.Thread(target=drawing)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chunk", [1, 7])
def test_half_precision_is_added_up_in_single_precision(dtype, chunk):
    xs = torch.full((4000, 1), 20.0, dtype=dtype)
    step = lambda carry, x: (carry, x)  # noqa: E731
    call = partial(scan, step, torch.zeros(1), xs, slots=2, chunk=chunk)
    assert (call(reduce="mean")[1].item(), call(reduce="mean")[1].dtype) == (20.0, dtype)
    total = call(reduce="sum")[1]
    assert torch.equal(total, torch.tensor([80_000.0]).to(dtype))


@pytest.mark.parametrize("chunk", [1, 5])
def test_a_step_that_switches_gradients_on_by_itself_keeps_no_graph_beyond_a_core(chunk):
    alive, w = [], torch.full((4,), 0.9, requires_grad=True)

    @torch.enable_grad()
    def step(carry, x):
        if carry.grad_fn is not None:
            depth, node = 0, carry.grad_fn
            while node is not None:
                depth, node = depth + 1, next((child for child, _ in node.next_functions if child is not None), None)
            alive.append(depth)
        return torch.tanh(carry * w + x), carry

    init = torch.zeros(4, requires_grad=True)
    final, ys = scan(step, init, torch.ones(40), slots=4, params=[w], chunk=chunk)
    actual = torch.autograd.grad(final.sum() + ys.sum(), [w, init])
    assert max(alive, default=0) <= 4 * chunk
    wanted_final, wanted_ys = plain(step, init, torch.ones(40))
    wanted = torch.autograd.grad(wanted_final.sum() + wanted_ys.sum(), [w, init])
    assert relative_error(list(actual), list(wanted)) <= 1e-5


def test_a_retained_gradient_of_a_declared_tensor_is_the_whole_one():
    leaf = torch.ones(1, 1, requires_grad=True)
    w = leaf * 1.0
    w.retain_grad()
    final, _ = scan(lambda c, x: (c @ w + x, c), torch.zeros(1, 1), torch.ones(4, 1, 1), slots=2, params=[w])
    final.sum().backward()
    assert (leaf.grad.item(), w.grad.item()) == (6, 6)


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.drop = nn.RNNCell(2, 2), nn.Dropout(0.5)

    def forward(self, carry, x):
        h = self.drop(self.cell(x, carry))
        return h, h


def named_by(module):
    return lambda carry, x: module(carry, x)  # noqa: PLW0108  (what is tested is a module that a closure names)


@pytest.mark.parametrize("step_of", [lambda module: module, named_by])
@pytest.mark.parametrize("slots", [1, 3, 12])
def test_a_module_switched_to_eval_before_backward_is_recomputed_as_it_was(step_of, slots):
    module = Dropping()

    def gradient(switch):
        torch.manual_seed(2)
        module.train()
        params = list(module.parameters())
        _, ys = scan(step_of(module), torch.zeros(3, 2), torch.ones(12, 3, 2), slots=slots, params=params)
        module.train(not switch)
        actual = torch.autograd.grad(ys.sum(), params)
        assert {entry.training for entry in module.modules()} == {not switch}
        return actual

    assert all(map(torch.equal, gradient(switch=True), gradient(switch=False)))


def test_parameters_frozen_before_backward_get_no_gradient_and_inputs_theirs():
    torch.manual_seed(0)
    critic, maker = nn.RNNCell(2, 2), nn.Linear(2, 2)

    def step(carry, x):
        h = critic(x, carry)
        return h, h

    def gradients(run):
        critic.requires_grad_(True)
        maker.zero_grad()
        _, ys = run(step, torch.zeros(1, 2), maker(torch.ones(6, 1, 2)))
        critic.requires_grad_(False)
        ys.sum().backward()
        return [entry.grad for entry in maker.parameters()]

    actual = gradients(partial(scan, slots=2, params=list(critic.parameters())))
    assert [entry.grad for entry in critic.parameters()] == [None] * 4
    assert relative_error(actual, gradients(plain)) <= 1e-5


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_module_around_a_scan_goes_on_after_it():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(3, 4), nn.Linear(4, 1)

        def forward(self, xs):
            step = lambda h, x: ((new := self.cell(x, h)), new)  # noqa: E731
            h, _ = scan(step, xs.new_zeros(2, 4), xs * 2, slots=2, params=self.cell.parameters())
            return self.head(h).sum()

    model, xs = Model(), torch.randn(9, 2, 3)
    wanted = torch.autograd.grad(model(xs), list(model.parameters()))
    actual = torch.autograd.grad(torch.compile(model, backend="aot_eager")(xs), list(model.parameters()))
    assert relative_error(list(actual), list(wanted)) <= 1e-5


def test_a_plan_of_a_smaller_model_is_refused():
    def step_of(cell):
        return lambda h, x: ((new := cell(x, h)), new)

    small, large, xs = nn.GRUCell(2, 4), nn.GRUCell(2, 400), torch.ones(20, 1, 2)
    planned = plan(step_of(small), torch.zeros(1, 4), xs, budget="8KiB", params=small.parameters())
    with pytest.raises(ValueError, match=r"made for hidden states of \d+ bytes.*has 1600: plan anew"):
        scan(step_of(large), torch.zeros(1, 400), xs, plan=planned, params=large.parameters())
    with meter() as report:
        scan(step_of(small), torch.zeros(1, 4), xs, plan=planned, params=small.parameters())[0].sum().backward()
    assert report.peak_bytes <= planned.peak_bytes
