"""Bad input gets one clear error, never a wrong gradient."""

import pytest
import torch
from torch import nn

import membptt.nn
from membptt import Indexed, SlowTier, scan
from membptt.step.reach import reach
from membptt.step.refusals import refuse_kernel_dropout
from membptt_theory.tables import build


def keep(carry, x):
    return carry, x


ONE, FOUR, LONG = torch.ones((), requires_grad=True), torch.ones(4), torch.ones(10**5)

BAD_CALLS = [
    (keep, ONE, FOUR, {"slots": 0}, ValueError, "slots must be at least 1"),
    (keep, ONE, FOUR, {"slots": -2}, ValueError, "slots must be at least 1"),
    (keep, ONE, FOUR, {"slots": 2.0}, TypeError, "slots must be an integer"),
    (keep, ONE, FOUR, {"slots": 2, "policy": "best"}, ValueError, "known policies"),
    (keep, ONE, FOUR, {"slots": 2, "policy": 3}, TypeError, "a name, a table or a Schedule"),
    (keep, ONE, FOUR, {"slots": 2, "policy": "msm"}, ValueError, "needs internal >= 2"),
    (keep, ONE, FOUR, {"slots": 2, "policy": "msm", "internal": 2.5}, TypeError, "internal must be an integer"),
    (keep, ONE, FOUR, {"slots": 2, "policy": build("hsm", 3, 3)}, ValueError, "steps must be between"),
    (keep, ONE, FOUR, {"slots": 5, "policy": build("hsm", 9, 3)}, ValueError, "slots must be between"),
    (keep, ONE, LONG, {"slots": 9, "spill": True}, ValueError, "9 slots is too large.* are 1 slots, or 33333 cores"),
    (keep, ONE, LONG, {"slots": 2, "spill": SlowTier(9)}, ValueError, "18 slots .of both tiers, multiplied. is too"),
    (keep, ONE, LONG, {"slots": 4, "policy": "msm", "internal": 2}, ValueError, "4 slots is too large"),
    (keep, ONE, LONG, {"slots": 9999, "policy": "msm", "internal": 2}, ValueError, "are 1 slots, or 1000 cores"),
    (keep, ONE, LONG, {"slots": 9999, "policy": "best"}, ValueError, "known policies"),
    (lambda carry, x: 1 / 0, ONE, torch.ones(0), {"slots": 2}, ValueError, "does not run on tensors that hold no data"),
    (keep, ONE, torch.ones(0), {"slots": 2, "reduce": "mean"}, ValueError, "nothing has no mean"),
    (keep, ONE, (), {"slots": 2}, ValueError, "xs holds no tensor.*or the number of steps, length="),
    (keep, ONE, FOUR, {"slots": 2, "length": 5}, ValueError, "length is 5, xs has 4 steps"),
    (keep, ONE, None, {"slots": 2, "length": 2.0}, TypeError, "length must be an integer"),
    (keep, ONE, None, {"slots": 2, "length": -1}, ValueError, "length must be at least 0"),
    (keep, ONE, None, {"slots": 2, "length": 4, "segments": True}, ValueError, r"give xs=torch.arange\(length\)"),
    (keep, ONE, Indexed(None, lambda a, b: None), {"slots": 2, "reverse": True}, ValueError, r"Indexed\(steps, re"),
    (keep, ONE, FOUR, {"slots": 2, "unroll": 4}, TypeError, "scan has no unroll=.*give chunk=4"),
    (keep, ONE, torch.ones(()), {"slots": 2}, ValueError, "first dimension, time"),
    (keep, ONE, (FOUR, torch.ones(5)), {"slots": 2}, ValueError, r"lengths \[4, 5\]"),
    (keep, ONE, [1.0, 2.0], {"slots": 2}, ValueError, "or the number of steps, length="),
    (keep, ONE, [b"1", FOUR], {"slots": 2}, TypeError, "leaf 0 of xs is a bytes"),
    (keep, {1}, FOUR, {"slots": 2}, TypeError, "leaf 0 of init is a set"),
    (keep, ONE, FOUR, {"slots": 2, "params": [1.0]}, TypeError, "params holds a float"),
    (keep, ONE, FOUR, {"slots": 2, "params": FOUR}, TypeError, r"write params=\[tensor\]"),
    (lambda carry, x: carry, ONE, FOUR, {"slots": 2}, TypeError, "must return a pair"),
    (lambda carry, x: (carry, 1.0), ONE, FOUR, {"slots": 2}, TypeError, "the output y is a float"),
    (lambda carry, x: ((carry,), x), ONE, FOUR, {"slots": 2}, ValueError, "carry of structure"),
    (lambda carry, x: (1.0, x), ONE, FOUR, {"slots": 2}, ValueError, "1.0 in place of a tensor, carry"),
    (lambda carry, x: ({1}, x), ONE, FOUR, {"slots": 2}, TypeError, "the carry is a set"),
    (lambda carry, x: (carry.double(), x), ONE, FOUR, {"slots": 2}, ValueError, "must stay the same"),
    (lambda carry, x: (torch.stack([carry, x]), x), ONE, FOUR, {"slots": 2}, ValueError, "must stay the same"),
]


@pytest.mark.parametrize(("step", "init", "xs", "options", "error", "says"), BAD_CALLS)
def test_a_bad_call_is_refused(step, init, xs, options, error, says):
    with pytest.raises(error, match=says):
        scan(step, init, xs, **options)


def growing():
    """A step that behaves until its third call, then returns `late`."""
    calls = 0

    def at(late):
        def step(carry, x):
            nonlocal calls
            calls += 1
            return (carry, x) if calls < 3 else late(carry, x)

        return step

    return at


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (lambda carry, x: ({"h": carry}, x), "step 2 returned a carry of structure"),
        (lambda carry, x: (carry[None], x), "step 2 returned a carry of shape"),
        (lambda carry, x: (carry, (x, x)), "step 2 returned an output of structure"),
        (lambda carry, x: (carry, x[None]), "step 2 returned an output of shape"),
        (lambda carry, x: (carry, x.double()), "step 2 returned an output of shape"),
    ],
)
def test_a_step_that_changes_its_mind_is_refused_by_number(late, says):
    with pytest.raises(ValueError, match=says):
        scan(growing()(late), ONE, FOUR, slots=2)


@pytest.mark.parametrize("policy", ["hsm", "ism"])
def test_a_carry_changed_in_place_is_refused(policy):
    def step(carry, x):
        carry.mul_(x)
        return carry * 1, x

    with pytest.raises(RuntimeError, match=r"in place|inplace"):
        scan(step, torch.ones(()), torch.ones(5, requires_grad=True), slots=2, policy=policy)


def test_inputs_changed_between_forward_and_backward_are_refused():
    init, xs = torch.ones((), requires_grad=True), torch.ones(5)
    final, _ = scan(lambda carry, x: (carry * x, None), init, xs, slots=2)
    xs.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        final.backward()


def test_writing_to_the_result_does_not_disturb_the_stored_states():
    init = torch.ones((), dtype=torch.float64, requires_grad=True)
    final, ys = scan(lambda carry, x: (carry * x, carry), init, torch.full((5,), 2.0, dtype=torch.float64), slots=2)
    loss = final + ys.sum()
    with torch.no_grad():
        final.mul_(0)
        ys.mul_(0)
    loss.backward()
    assert init.grad.item() == 32 + 31


class Normed(torch.nn.Module):
    """Updates running statistics in place while training."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)

    def forward(self, carry, x):
        return self.norm(carry + x), x


class Functional(torch.nn.Module):
    """Updates a plain buffer through a kernel that does not count in-place writes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, carry, x):
        return torch.nn.functional.batch_norm(carry + x, self.mean, self.var, training=True), x


class Remembering(torch.nn.Module):
    """Keeps its state in a tuple."""

    def __init__(self):
        super().__init__()
        self.state = (torch.zeros(2, 3), torch.zeros(2, 3))

    def forward(self, carry, x):
        self.state = (self.state[0] + x, self.state[1])
        return carry + self.state[0], x


class Leaky(torch.nn.Module):
    """Keeps its membrane potential as an attribute, the way spiking layers do."""

    def __init__(self):
        super().__init__()
        self.potential = torch.zeros(2, 3)

    def forward(self, carry, x):
        self.potential = 0.9 * self.potential + x
        return carry + self.potential, x


UPDATING = [(Normed, r"norm\.running_mean"), (Functional, "mean")]
REPLACING = [(Remembering, r"state\[0\]"), (Leaky, "potential")]


@pytest.mark.parametrize(("make", "name"), UPDATING)
def test_a_step_that_updates_a_buffer_in_place_is_refused_at_once(make, name):
    with pytest.raises(RuntimeError, match=f"updates .*{name}.* in place"):
        scan(make(), torch.ones(2, 3, requires_grad=True), torch.randn(5, 2, 3), slots=2)


@pytest.mark.parametrize(("make", "name"), REPLACING)
def test_a_step_that_keeps_state_inside_its_module_is_refused(make, name):
    final, _ = scan(make(), torch.ones(2, 3, requires_grad=True), torch.randn(5, 2, 3), slots=2)
    with pytest.raises(RuntimeError, match=f"another carry.*Changed since the call: .*{name}"):
        final.sum().backward()


def test_a_module_that_keeps_its_state_still_is_accepted():
    final, _ = scan(Normed().eval(), torch.ones(2, 3), torch.randn(5, 2, 3), slots=2)
    assert final.requires_grad


@pytest.mark.parametrize("call", range(1, 14))
def test_an_exception_in_the_step_leaves_the_next_call_working(call):
    """One gradient of 6 steps in 2 slots evaluates the step 15 times; each evaluation may fail."""
    calls = 0

    def step(carry, x):
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyError("injected")
        return torch.sin(carry * x), carry

    init, xs = torch.ones((), requires_grad=True), torch.ones(6)

    def gradient():
        final, _ = scan(step, init, xs, slots=2)
        return torch.autograd.grad(final, init)[0]

    with pytest.raises(KeyError, match="injected"):
        gradient()
    assert torch.equal(gradient(), gradient())


def doubled(init):
    """A scan of one input, as the transforms of `torch.func` want it."""
    return scan(lambda carry, x: (torch.sin(carry * x), x), init, FOUR, slots=2)[0].sum()


def test_a_scan_without_gradients_is_mapped_and_one_that_maps_inside_its_step_is_differentiated():
    inits = torch.linspace(0, 1, 3)
    with torch.no_grad():
        assert torch.equal(torch.func.vmap(doubled)(inits), torch.stack([doubled(start) for start in inits]))
    final, _ = scan(lambda carry, x: (torch.func.vmap(torch.sin)(carry) * x, x), ONE.expand(3), FOUR, slots=2)
    assert final.sum().requires_grad


class Stacked(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.inner = nn.Sequential(nn.Identity(), layer)

    def forward(self, carry, x):
        return carry, x


def named_by(layer):
    return lambda carry, x: (carry, layer(x))


@pytest.mark.parametrize("step_of", [lambda layer: layer, Stacked, named_by])
def test_dropout_that_cudnn_draws_is_refused_and_no_other(step_of):
    refused = nn.LSTM(3, 3, num_layers=2, dropout=0.1)
    with pytest.raises(ValueError, match=r"a torch\.nn\.LSTM with dropout=0\.1"):
        refuse_kernel_dropout(reach(step_of(refused)).named, {torch.device("cuda", 0)})
    refuse_kernel_dropout(reach(step_of(refused)).named, {torch.device("cpu")})
    harmless = [nn.LSTM(3, 3, num_layers=2), nn.Dropout(0.1), nn.GRU(3, 3, num_layers=2, dropout=0.1).eval()]
    for layer in [*harmless, membptt.nn.GRU(3, 3, num_layers=2, dropout=0.1, slots=2)]:
        refuse_kernel_dropout(reach(step_of(layer)).named, {torch.device("cuda", 0)})
