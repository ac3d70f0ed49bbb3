"""On a CUDA device autograd runs a backward in a separate thread, which is imitated here without a device.

That thread receives the thread-local storage of the thread that called backward and waits for it, but none of its
context variables.
"""

import threading

import pytest
import torch
from torch import nn

from membptt import meter, scan
from membptt.step.generators import _HELD, Generators
from membptt.torch_private import is_set
from membptt_theory.tables import optimal_cost


def elsewhere(run, storage=(_HELD,)):
    """Run in another thread, as the engine would."""
    handed = {key: torch._C._get_obj_in_tls(key) for key in storage if torch._C._is_key_in_tls(key)}
    results = []

    def work():
        for key, value in handed.items():
            torch._C._stash_obj_in_tls(key, value)
        results.append(run())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "each thread waits for the other"
    return results[0]


def noisy(carry, x):
    return nn.functional.dropout(carry * x, 0.5), carry


def nested_gradient(call):
    """A scan whose step differentiates a scan that draws, each such backward run by `call`."""

    def step(carry, x):
        with torch.enable_grad():
            guess = torch.ones(64).requires_grad_()
            inner, _ = scan(noisy, guess, torch.ones(4), slots=2)
            masked = call(lambda: torch.autograd.grad(inner.sum(), guess)[0])
        return carry * x + masked, None

    torch.manual_seed(5)
    init = torch.ones(64, requires_grad=True)
    final, _ = scan(step, init, torch.full((5,), 0.5), slots=2)
    return final.detach(), torch.autograd.grad(final.sum(), init)[0]


def test_a_backward_in_the_engines_thread_does_not_wait_for_the_scan_around_it():
    expected, computed = nested_gradient(lambda run: run()), nested_gradient(elsewhere)
    assert all(map(torch.equal, computed, expected))


def test_a_thread_without_that_storage_has_to_wait():
    generators, entered = Generators(set()), threading.Event()

    def enter():
        with generators.exclusive():
            entered.set()

    other = threading.Thread(target=enter)
    with generators.exclusive(), generators.handed_on():
        assert is_set(_HELD)
        other.start()
        assert not entered.wait(0.3)
    assert not torch._C._is_key_in_tls(_HELD)  # a thread that ends while something is stored there may hang
    other.join(20)
    assert entered.is_set()


@pytest.mark.parametrize("call", [lambda run: run(), lambda run: elsewhere(run, storage=())])
def test_what_a_backward_in_another_thread_recomputes_is_counted(call):
    w = torch.tensor(0.9, requires_grad=True)

    def step(carry, x):
        inner, _ = scan(lambda c, _: (torch.tanh(c * w), c), carry, x, slots=2, params=[w])
        return inner, inner

    with meter() as report:
        final, _ = scan(step, torch.ones((), requires_grad=True), torch.ones(9, 5), slots=3, params=[w])
        call(final.backward)
    outer, inner = optimal_cost("hsm", 9, 3), optimal_cost("hsm", 5, 2)
    assert report.forwards == outer + (outer - 9) * 5 + 9 * inner
    assert report.backwards == 9 + 9 * 5
