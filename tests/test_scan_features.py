"""Meter, hooks, checks, threads and compiled cores: what `scan` does beside the loop."""

import gc
import shutil
import threading
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from membptt import chain, meter, scan, while_loop
from membptt_theory.tables import build

from .cells import CELLS, Gru, Lstm, gradients, plain, problem, relative_error
from .strategies import POLICIES, policy_id


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_metered_forwards_and_backwards_equal_the_table(policy, sizes):
    step, init, xs = problem(Lstm, 20, torch.float32)
    with meter() as report:
        _, ys = scan(step, init, xs, slots=5, policy=policy, **sizes)
        ys.sum().backward()
    assert report.forwards == build(policy, 20, 5, **sizes).cost(20, 5)
    assert report.backwards == 20
    assert report.live_bytes == 0
    assert report.peak_bytes > 0


def test_metered_peak_of_hidden_states_is_the_sum_of_their_sizes():
    """Every state is 1000 numbers; a graph of sin saves its input, which is one of them, and the output is another."""
    carry = torch.zeros(1000, dtype=torch.float32, requires_grad=True)
    with meter() as report:
        final, _ = scan(lambda c, x: (torch.sin(c), x), carry, torch.zeros(100), slots=7)
        final.sum().backward()
    assert report.peak_bytes == (7 + 2) * 4000


def test_a_meter_counts_what_is_held_until_backward_and_what_is_thrown_away():
    step, init, xs = problem(Lstm, 20, torch.float32)
    with meter() as report:
        result = scan(step, init, xs, slots=5)
        assert report.live_bytes > 0
        del result
        gc.collect()
    assert report.live_bytes == 0
    assert report.backwards == 0


def test_without_a_meter_nothing_is_counted():
    step, init, xs = problem(Lstm, 8, torch.float32)
    with meter() as report:
        pass
    gradients(scan(step, init, xs, slots=2), step, init, xs)
    assert report.forwards == report.peak_bytes == 0


@pytest.mark.parametrize("declared", ["leaf", "not a leaf"])
def test_a_hook_on_a_parameter_fires_once_and_sees_the_whole_gradient(declared):
    base = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    w = base if declared == "leaf" else base * 1
    seen = []
    w.register_hook(lambda grad: seen.append(grad.clone()) or 2 * grad)
    init, xs = torch.ones((), dtype=torch.float64), torch.ones(9, dtype=torch.float64)
    final, _ = scan(lambda c, x: (torch.tanh(w * c + x), None), init, xs, slots=2, params=[w])
    final.backward()
    other = base.detach().requires_grad_()
    expected = torch.autograd.grad(plain(lambda c, x: (torch.tanh(other * c + x), x), init, xs)[0], other)[0]
    assert len(seen) == 1
    assert torch.allclose(seen[0], expected, rtol=1e-12)
    assert torch.allclose(base.grad, 2 * expected, rtol=1e-12)


def test_hooks_of_a_parameter_that_threads_share_fire_once_for_each_of_them():
    w, xs, fired = torch.full((3,), 0.5, requires_grad=True), torch.rand(20, 3), []
    w.register_hook(lambda grad: fired.append(grad) or 2 * grad)

    def train():
        for _ in range(10):
            scan(lambda c, x: (torch.tanh(c * w + x), None), torch.ones(3), xs, slots=3, params=[w])[0].sum().backward()

    train()
    once, w.grad = w.grad, None
    fired.clear()
    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fired) == 40
    assert torch.allclose(w.grad, 4 * once)


def test_accumulation_hooks_fire_once():
    step, init, xs = problem(Lstm, 9, torch.float32)
    fired = []
    for name, parameter in step.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: fired.append(name))
    scan(step, init, xs, slots=3)[1].sum().backward()
    assert sorted(fired) == sorted(dict(step.named_parameters()))


def test_hooks_are_back_after_a_failing_backward():
    w = torch.ones((), requires_grad=True)
    seen, calls = [], 0
    w.register_hook(seen.append)

    def step(carry, x):
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyError("injected")
        return carry * w, None

    final, _ = scan(step, torch.ones(()), torch.ones(6), slots=2, params=[w])
    with pytest.raises(KeyError):
        final.backward()
    (w * 1).backward()
    assert len(seen) == 1


class OwnGenerator(nn.Module):
    """Draws from a generator that nobody restores."""

    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, carry, x):
        return carry + torch.rand(2, generator=self.generator), x


def test_a_step_that_is_not_deterministic_is_noticed_unless_that_is_switched_off():
    carry, xs = torch.ones(2, requires_grad=True), torch.ones(8)
    scan(OwnGenerator(), carry, xs, slots=2, check=False)[0].sum().backward()
    with pytest.raises(RuntimeError, match="another carry than the one the scan went on from"):
        scan(OwnGenerator(), carry, xs, slots=2)[0].sum().backward()
    with pytest.raises(RuntimeError, match="not deterministic"):
        scan(OwnGenerator(), carry, xs, slots=2, check=True)[0].sum().backward()


@pytest.mark.parametrize("make", CELLS)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_deterministic_step_passes_the_check(make, policy, sizes):
    step, init, xs = problem(make, 11, torch.float32)
    gradients(scan(step, init, xs, slots=3, policy=policy, check=True, **sizes), step, init, xs)


def test_two_threads_do_not_mix_random_states():
    """Each thread's gradient is that of the masks of its own first pass: the output decides it uniquely."""
    failures = []

    def work(seed):
        w = torch.full((50,), 0.9, dtype=torch.float64, requires_grad=True)
        for _ in range(15):
            final, _ = scan(
                lambda c, x: (nn.functional.dropout(c * w, 0.1), None),
                torch.ones(50, dtype=torch.float64),
                torch.ones(12),
                slots=2,
                params=[w],
            )
            (grad,) = torch.autograd.grad(final.sum(), w)
            if not torch.allclose(grad * 0.9, 12 * final.detach(), rtol=1e-9):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_two_threads_do_not_mix_autocast():
    failures = []

    def work(enabled):
        linear = nn.Linear(8, 8)

        def step(carry, x):
            mapped = linear(carry)
            if (mapped.dtype is torch.bfloat16) != enabled:
                failures.append(enabled)
            return mapped.float(), None

        for _ in range(15):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                final, _ = scan(step, torch.ones(2, 8), torch.ones(10), slots=2, params=linear.parameters())
            final.sum().backward()

    threads = [threading.Thread(target=work, args=(enabled,)) for enabled in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("around", [None, False, True], ids=["no region", "switched off", "switched on"])
@pytest.mark.parametrize("backward", [None, False, True], ids=["no region", "switched off", "switched on"])
@pytest.mark.parametrize("call", ["scan", "while_loop", "chain"])
def test_a_step_that_casts_by_itself_is_right_in_any_region_of_autocast(call, around, backward):
    """In a region, even one that is switched off, torch keeps the casts of weights from step to step."""
    torch.manual_seed(0)
    linear, start = nn.Linear(8, 8), torch.randn(2, 8)

    def step(carry):
        with torch.autocast("cpu", torch.bfloat16):
            return torch.tanh(linear(carry)).float()

    def region(enabled):
        return torch.autocast("cpu", torch.bfloat16, enabled=enabled) if enabled is not None else nullcontext()

    def run():
        if call == "scan":
            return scan(lambda c, _: (step(c), None), start, None, length=9, slots=3, params=[*linear.parameters()])[0]
        if call == "while_loop":
            state = start, torch.tensor(0)
            (final, _), _ = while_loop(
                lambda c: c[1] < 9, lambda c: (step(c[0]), c[1] + 1), state, slots=3, params=[*linear.parameters()]
            )
            return final
        return chain([step] * 9, start, schedule=build("hsm", 9, 3).schedule(9, 3), params=[*linear.parameters()])

    with region(around):
        final = run()
    with region(backward):
        actual = torch.autograd.grad(final.sum(), [*linear.parameters()])
    expected = start
    for _ in range(9):  # each step with casts of its own
        expected = step(expected)
    wanted = torch.autograd.grad(expected.sum(), [*linear.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(actual, wanted, strict=True))


def test_an_output_is_not_kept_for_its_gradient():
    """The readout of a step is no part of its internal state."""
    alive = weakref.WeakSet()

    def step(carry, x):
        y = carry + 1
        alive.add(y)
        return torch.sin(carry), y

    result = scan(step, torch.ones(3, requires_grad=True), torch.ones(20), slots=20, policy="ism")
    gc.collect()
    assert len(alive) == 0
    result[1].sum().backward()


COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@COMPILER
@pytest.mark.filterwarnings("ignore")
def test_compiled_cores_give_the_gradients_of_plain_autograd():
    step, init, xs = problem(Gru, 6, torch.float64)
    expected = gradients(plain(step, init, xs), step, init, xs)
    actual = gradients(scan(step, init, xs, slots=2, chunk=2, compile=True), step, init, xs)
    assert relative_error(actual, expected) <= 1e-10


def test_without_a_compiler_the_step_runs_eagerly_and_says_so(monkeypatch):
    monkeypatch.setattr("membptt.kernels.compiled._problem", lambda kind: "NoCompiler")
    step, init, xs = problem(Lstm, 5, torch.float64)
    with pytest.warns(UserWarning, match="compile=True has no effect"):
        result = scan(step, init, xs, slots=2, compile=True)
    expected = gradients(plain(step, init, xs), step, init, xs)
    assert relative_error(gradients(result, step, init, xs), expected) <= 1e-10


def test_tensors_that_hold_no_data_are_scanned_for_their_shapes():
    cell = torch.nn.GRUCell(3, 4, device="meta")

    def step(h, x):
        h = cell(x, h)
        return h, h

    h, ys = scan(step, torch.zeros(2, 4, device="meta"), torch.zeros(5, 2, 3, device="meta"), slots=2, params=cell)
    assert (h.shape, ys.shape, ys.device.type) == ((2, 4), (5, 2, 4), "meta")
