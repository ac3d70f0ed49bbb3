"""`Stateful` equals the plain loop over a module that keeps its state to itself: outputs, gradients, final state."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from membptt import scan
from membptt.step.stateful import Stateful

from .cells import relative_error
from .strategies import POLICIES, policies, policy_id


class Spiking(nn.Module):
    """A leaky integrate-and-fire layer: its membrane potential is an attribute; soft spikes, so that gradients flow."""

    def __init__(self, size=3):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size))
        self.potential = torch.zeros(2, size, dtype=torch.float64)

    def forward(self, x):
        potential = 0.9 * self.potential + x @ self.weight
        spike = torch.sigmoid(4 * (potential - 1))
        self.potential = potential - spike
        return spike


class SpikingBuffer(nn.Module):
    """The same with a buffer, updated in place, and a count of calls."""

    def __init__(self, size=3):
        super().__init__()
        self.decay = nn.Parameter(torch.rand(size))
        self.register_buffer("potential", torch.zeros(2, size))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x):
        self.potential.mul_(0.5).add_(x * self.decay)
        self.calls += 1
        return torch.tanh(self.potential) * self.calls.item()


class Remembering(nn.Module):
    """An LSTM cell that remembers its state as a tuple, and a moving average outside the graph."""

    def __init__(self, size=3):
        super().__init__()
        self.cell = nn.LSTMCell(size, size)
        self.state = (torch.zeros(2, size, dtype=torch.float64), torch.ones(2, size, dtype=torch.float64))
        self.average = torch.ones(size, dtype=torch.float64)

    def forward(self, x):
        self.state = self.cell(x / self.average, self.state)
        with torch.no_grad():
            self.average = 0.9 * self.average + 0.1 * (1 + x.abs().mean(0))
        return self.state[0]


class Memories(nn.Module):
    """State in a dict that is written to, beside a constant."""

    def __init__(self, size=3):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(size))
        self.memories = {"v": torch.zeros(2, size, dtype=torch.float64), "threshold": 1.0}

    def forward(self, x):
        self.memories["v"] = self.gain * self.memories["v"] + x
        return torch.sigmoid(self.memories["v"] - self.memories["threshold"])


def batch_norm():
    return nn.BatchNorm1d(3)


def cumulative_norm():
    return nn.BatchNorm1d(3, momentum=None)


def spectral():
    return nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3, bias=False))


def mixed():
    return nn.Sequential(
        nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3), Spiking(), nn.InstanceNorm1d(2, track_running_stats=True)
    )


LAYERS = [batch_norm, cumulative_norm, spectral, Spiking, SpikingBuffer, Remembering, Memories, mixed]


def problem(make, steps, seed=0):
    torch.manual_seed(seed)
    module = make().double()
    return module, copy.deepcopy(module), torch.randn(steps, 2, 3, dtype=torch.float64, requires_grad=True)


def state_of(module):
    """What the module holds, read without the adapter's help."""
    found = dict(module.named_buffers())
    for prefix, owner in module.named_modules():
        for key, value in vars(owner).items():
            if isinstance(value, torch.Tensor):
                found[f"{prefix}.{key}"] = value
            elif key == "state":
                found |= {f"{prefix}.{key}.{index}": leaf for index, leaf in enumerate(value)}
            elif key == "memories":
                found[f"{prefix}.{key}"] = value["v"]
    return found


def gradients(ys, module, xs):
    return torch.autograd.grad((torch.arange(ys.numel()).cos().view_as(ys) * ys).sum(), [xs, *module.parameters()])


def overall_error(found, expected):
    """Largest difference over the largest element of all: norms in a row leave some gradients nothing but rounding."""
    return relative_error(*([torch.cat([leaf.flatten() for leaf in leaves])] for leaves in (found, expected)))


def assert_equal(make, steps, seed=0, error=relative_error, **options):
    module, plain, xs = problem(make, steps, seed)
    expected = torch.stack([plain(x) for x in xs])
    net = Stateful(module)
    carry, ys = scan(net, net.init(), xs, **options)
    assert torch.allclose(ys, expected, rtol=1e-10)
    untouched = state_of(problem(make, steps, seed)[0])
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in state_of(module).items())
    net.load(carry)
    assert error(gradients(ys, module, xs), gradients(expected, plain, xs)) <= 1e-10
    found, wanted = state_of(module), state_of(plain)
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert tensor.dtype == wanted[name].dtype
        assert torch.allclose(tensor, wanted[name], rtol=1e-10)
        assert not tensor.requires_grad


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_adapter_equals_the_plain_loop_exhaustive(make, policy, sizes):
    for steps in (1, 2, 5, 11):
        for slots, chunk in ((1, 1), (3, 1), (2, 3), (1, 20)):
            assert_equal(make, steps, slots=slots, policy=policy, chunk=chunk, **sizes)


@given(
    st.lists(st.sampled_from(LAYERS), min_size=1, max_size=3),
    policies(),
    st.integers(1, 25),
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_adapter_equals_the_plain_loop_hypothesis(makes, which, steps, chunk, slots, seed):
    policy, sizes = which

    def make():
        return nn.Sequential(*(one() for one in makes))

    assert_equal(make, steps, seed, overall_error, slots=slots, policy=policy, chunk=chunk, **sizes)


class WithCarry(nn.Module):
    """A cell with a carry of its own beside running statistics and a membrane potential."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.spiking = Spiking()

    def forward(self, carry, x):
        carry = torch.tanh(self.norm(carry + x))
        return carry, self.spiking(carry)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_module_with_a_carry_of_its_own_keeps_it(steps):
    module, plain, xs = problem(WithCarry, steps)
    start = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    h, expected = start, []
    for x in xs:
        h, y = plain(h, x)
        expected.append(y)
    net = Stateful(module)
    (state, found), ys = scan(net, net.init(start), xs, slots=2)
    assert torch.allclose(found, h, rtol=1e-10)
    a = torch.autograd.grad(ys.square().sum() + found.sum(), [start, xs, *module.parameters()])
    b = torch.autograd.grad(torch.stack(expected).square().sum() + h.sum(), [start, xs, *plain.parameters()])
    assert relative_error(a, b) <= 1e-10
    assert torch.equal(state["norm.running_mean"], plain.norm.running_mean)


class Noisy(Spiking):
    """Draws random numbers in every step."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x))


@pytest.mark.parametrize("steps", [1, 7])
def test_random_numbers_are_those_of_the_loop(steps):
    """Also where the first step is called twice to find out what is part of the graph."""
    module, plain, xs = problem(Noisy, steps)
    net = Stateful(module)
    torch.manual_seed(3)
    _, ys = scan(net, net.init(), xs, slots=2)
    torch.manual_seed(3)
    expected = torch.stack([plain(x) for x in xs])
    assert relative_error(gradients(ys, module, xs), gradients(expected, plain, xs)) <= 1e-10


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("where", ["module", "carry"])
def test_a_starting_state_that_requires_grad_gets_its_gradient(steps, where):
    """Nothing else requires grad, so that only this state ties the steps together."""
    found = []
    for adapted in (True, False):
        torch.manual_seed(0)
        module = SpikingBuffer().double().requires_grad_(False)
        start = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
        xs = torch.ones(steps, 2, 3, dtype=torch.float64)
        if not adapted or where == "module":
            module.potential = start * 1
        if adapted:
            net = Stateful(module)
            carry = net.init()
            if where == "carry":
                carry[0]["potential"] = start * 1
            ys = scan(net, carry, xs, slots=2)[1]
        else:
            ys = torch.stack([module(x) for x in xs])
        found.append(torch.autograd.grad(ys.sum(), start)[0])
    assert torch.allclose(*found, rtol=1e-12)


def windows(module, xs, *, cut, adapted):
    """Windows of four steps; the state handed on with its graph, or written back without it."""
    total, net = torch.zeros((), dtype=xs.dtype), Stateful(module) if adapted else None
    carry = net.init() if adapted else None
    for window in xs.split(4):
        if adapted:
            carry, ys = scan(net, carry, window, slots=2)
            if cut:
                net.load(carry)
                carry = net.init()
        else:
            ys = torch.stack([module(x) for x in window])
            if cut:
                module[2].potential = module[2].potential.detach()
        total = total + ys.square().sum()
    return torch.autograd.grad(total, [xs, *module.parameters()])


@pytest.mark.parametrize("cut", [False, True])
def test_a_carry_handed_on_backpropagates_across_calls_and_a_loaded_one_does_not(cut):
    module, plain, xs = problem(mixed, 12)
    found = windows(module, xs, cut=cut, adapted=True)
    assert relative_error(found, windows(plain, xs, cut=cut, adapted=False)) <= 1e-10
    other = windows(copy.deepcopy(problem(mixed, 12)[0]), xs, cut=not cut, adapted=True)
    assert relative_error(found, other) > 1e-6


class Failing(nn.Module):
    """Fails at a chosen call, after part of its state was updated."""

    def __init__(self):
        super().__init__()
        self.spiking, self.norm, self.left = Spiking(), nn.BatchNorm1d(3), 10**9

    def forward(self, x):
        self.left -= 1
        y = self.norm(self.spiking(x))
        if self.left == 0:
            raise KeyError("injected")
        return y


@pytest.mark.parametrize("call", range(1, 14))
def test_an_exception_leaves_the_module_as_it_was(call):
    module, plain, xs = problem(Failing, 6)
    net = Stateful(module)
    before = {name: (tensor, tensor.clone()) for name, tensor in state_of(module).items()}
    module.left = call
    with pytest.raises(KeyError, match="injected"):
        scan(net, net.init(), xs, slots=2)[1].sum().backward()
    for name, tensor in state_of(module).items():
        assert tensor is before[name][0]
        assert torch.equal(tensor, before[name][1])
    ys = scan(net, net.init(), xs, slots=2)[1]
    expected = torch.stack([plain(x) for x in xs])
    assert relative_error(gradients(ys, module, xs), gradients(expected, plain, xs)) <= 1e-10


def test_loading_writes_buffers_in_place_and_before_backward():
    module, _, xs = problem(mixed, 5)
    mean = module[1].running_mean
    net = Stateful(module)
    carry, ys = scan(net, net.init(), xs, slots=2)
    net.load(carry)
    assert module[1].running_mean is mean
    assert module[1].num_batches_tracked == 5
    ys.sum().backward()


def test_only_named_states_are_carried_and_an_unnamed_update_is_refused():
    module, _, xs = problem(mixed, 5)
    names = ["1.running_mean", "1.running_var", "1.num_batches_tracked", "2.potential"]
    net = Stateful(module, names=names)
    assert net.init()[0].keys() == set(names)
    with pytest.raises(RuntimeError, match=r"3\.num_batches_tracked|3\.running_mean"):
        scan(net, net.init(), xs, slots=2)
    module[3].eval()
    scan(net, net.init(), xs, slots=2)


def test_a_copied_adapter_has_a_state_of_its_own():
    module, _, xs = problem(mixed, 5)
    net = Stateful(module)
    net.init()
    twin = copy.deepcopy(net)
    carry, _ = scan(twin, twin.init(), xs, slots=2)
    twin.load(carry)
    assert twin.module[1].num_batches_tracked == 5
    assert module[1].num_batches_tracked == 0


class Late(nn.Module):
    """Has no state until its first call."""

    def __init__(self):
        super().__init__()
        self.hidden = None

    def forward(self, x):
        self.hidden = x if self.hidden is None else self.hidden + x
        self.trace = self.hidden
        return self.hidden


class Numbers(nn.Module):
    """Keeps a number beside a state tensor."""

    def __init__(self):
        super().__init__()
        self.memory = {"v": torch.zeros(3), "calls": 0}

    def forward(self, x):
        self.memory = {"v": self.memory["v"] + x, "calls": self.memory["calls"] + 1}
        return self.memory["v"]


class Fickle(nn.Module):
    """Updates its state outside the graph at first, inside it later, or the other way round."""

    def __init__(self):
        super().__init__()
        self.v = torch.zeros(2, 3, dtype=torch.float64)
        self.calls = torch.zeros(())

    def forward(self, x):
        self.calls += 1
        if self.calls == 3:
            self.v.add_(x)
        return self.v * x


def twice():
    module = nn.Module()
    module.a = torch.zeros(3)
    module.b = module.a
    return module


def vanishing():
    module = Spiking()
    module.forward = lambda x: (setattr(module, "potential", None), x)
    return module


X = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)

REFUSED = [
    (lambda: Stateful(lambda x: x), TypeError, "adapts a torch.nn.Module"),
    (lambda: Stateful(nn.Linear(3, 3)).init(), ValueError, "no tensor state"),
    (lambda: Stateful(Spiking(), names=["voltage"]).init(), ValueError, r"\['voltage'\]; it has \['potential'\]"),
    (lambda: Stateful(twice()).init(), ValueError, "'a' and 'b' share memory"),
    (lambda: Stateful(Spiking())(({"potential": X[0]},), X[0]), RuntimeError, r"call init\(\) first"),
    (lambda: run(vanishing()), RuntimeError, r"turned the state tensors \['potential'\] into \[\]"),
    (lambda: run(Numbers()), RuntimeError, "keep numbers out of it"),
    (lambda: run(nn.Sequential(Spiking().double(), Late())), RuntimeError, r"'1\.hidden', '1\.trace'"),
    (lambda: run(Fickle()), RuntimeError, r"\['v'\] was outside the graph"),
    (lambda: Stateful(Spiking()).load(({"voltage": X},)), ValueError, "the carry has the state"),
]


def run(module):
    net = Stateful(module)
    return scan(net, net.init(), X, slots=2)[1].sum().backward()


@pytest.mark.parametrize(("call", "error", "says"), REFUSED)
def test_what_cannot_be_adapted_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_a_state_that_appears_late_is_taken_back_so_that_the_next_call_starts_as_the_first_did():
    module = nn.Sequential(Spiking().double(), Late())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="hidden"):
            run(module)
        assert module[1].hidden is None
        assert not hasattr(module[1], "trace")


def test_an_adapter_that_does_not_copy_is_caught(monkeypatch):
    """Without the copies, batch normalisation writes into the stored states."""
    clone = torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, "clone", lambda self, **more: clone(self, **more) if more else self)
    with pytest.raises((AssertionError, RuntimeError)):
        assert_equal(batch_norm, 11, slots=2)


def test_an_adapter_that_cuts_the_graph_is_caught(monkeypatch):
    call = Stateful._call

    def cut(self, state, *rest):
        after, _, result = call(self, state, *rest)
        return {name: leaf.detach() for name, leaf in after.items()}, set(), result

    monkeypatch.setattr(Stateful, "_call", cut)
    with pytest.raises(AssertionError):
        assert_equal(Spiking, 11, slots=2)
