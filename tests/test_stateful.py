"""`Stateful` equals the plain loop over a module that keeps its state to itself: outputs, gradients, final state."""

import copy
from itertools import count

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from membptt import scan
from membptt.step.stateful import Stateful, _First

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
    actual = dict(module.named_buffers())
    for prefix, owner in module.named_modules():
        for key, value in vars(owner).items():
            if isinstance(value, torch.Tensor):
                actual[f"{prefix}.{key}"] = value
            elif key == "state":
                actual |= {f"{prefix}.{key}.{index}": leaf for index, leaf in enumerate(value)}
            elif key == "memories":
                actual[f"{prefix}.{key}"] = value["v"]
    return actual


def gradients(ys, module, xs):
    return torch.autograd.grad((torch.arange(ys.numel()).cos().view_as(ys) * ys).sum(), [xs, *module.parameters()])


def overall_error(actual, expected):
    """Largest difference over the largest element of all: norms in a row leave some gradients nothing but rounding."""
    return relative_error(*([torch.cat([leaf.flatten() for leaf in leaves])] for leaves in (actual, expected)))


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
    actual, wanted = state_of(module), state_of(plain)
    assert actual.keys() == wanted.keys()
    for name, tensor in actual.items():
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
        return nn.Sequential(*(build() for build in makes))

    assert_equal(make, steps, seed, overall_error, slots=slots, policy=policy, chunk=chunk, **sizes)


class Appearing(nn.Module):
    """A state that the first call makes: of `start` there is nothing, or less than a state."""

    def __init__(self, start):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        if start is not MISSING:
            self.v = start

    def forward(self, x):
        v = getattr(self, "v", None)
        if not isinstance(v, torch.Tensor) or (v.dim() and v.shape != x.shape):
            v = torch.zeros_like(x)
        self.v = 0.8 * v + torch.tanh(self.inner(x))
        return self.v * 1


MISSING = object()


class Filled(nn.Module):
    """Containers that the first call fills: a dict, a list of `None`, a pair in place of `None`; one tensor twice."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.memories, self.layers, self.pair, self.names = {}, [None, 0.0], None, ["kept"]

    def forward(self, x):
        h, c = self.pair or (x, 0.5 * x)
        self.pair = torch.tanh(self.inner(x) + c), 0.9 * c + h
        self.memories["v"] = 0.7 * self.memories.get("v", 0.0) + self.pair[0]
        self.layers[0] = self.pair[1]
        self.layers[1] = 0.6 * self.layers[1] + x
        return self.memories["v"] + self.layers[0] + self.layers[1]


class Flagged(nn.Module):
    """A flag, a count and a number that decays, beside tensors that the first call makes and all update in place."""

    def __init__(self):
        super().__init__()
        self.inner, self.ready, self.rate = nn.Linear(3, 3), False, 1.0
        self.register_buffer("v", None)
        self.seen = {"calls": 0}

    def forward(self, x):
        if not self.ready:
            self.ready, self.v = True, torch.zeros_like(x)
            self.average = torch.zeros(3, dtype=x.dtype)
        self.seen["calls"] += 1
        self.rate *= 0.9
        self.v.mul_(self.rate).add_(self.inner(x) * self.seen["calls"])
        with torch.no_grad():
            self.average.mul_(0.5).add_(x.mean(0))
        return torch.tanh(self.v) + self.average.clone()


class Settling(nn.Module):
    """Words, and what is gone after the first call: a tensor in place of which there is `None`, a missing attribute."""

    def __init__(self):
        super().__init__()
        self.inner, self.mode = nn.Linear(3, 3), None
        self.first, self.second = torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        self.v = 0.0

    def forward(self, x):
        if self.mode is None:
            self.mode, self.shape = "on", x.shape
            x = x * self.first * self.second
            self.first = None
            del self.second
        if hasattr(self, "second") or self.first is not None:
            raise AssertionError("the first call's")
        self.v = 0.8 * self.v + self.inner(x)
        return torch.tanh(self.v) * len(self.mode)


APPEARING = {
    "missing": lambda: Appearing(MISSING),
    "None": lambda: Appearing(None),
    "number": lambda: Appearing(0.0),
    "empty": lambda: Appearing(torch.zeros(0)),
    "0-d": lambda: Appearing(torch.zeros(())),
    "filled": Filled,
    "flagged": Flagged,
    "settling": Settling,
}


def assert_appearing(makes, steps, batches, seed=0, **options):
    """On a fresh module: outputs, gradients, and how it goes on, where every sequence is loaded before its backward."""
    torch.manual_seed(seed)
    fresh = nn.Sequential(*(make() for make in makes)).double()
    net = Stateful(copy.deepcopy(fresh))
    first = net.init()
    for batch in batches:
        xs = torch.randn(steps, batch, 3, dtype=torch.float64, requires_grad=True)
        plain = copy.deepcopy(fresh)
        expected = torch.stack([plain(x) for x in xs])
        carry, ys = scan(net, first, xs, **options)
        assert torch.equal(ys, expected)
        net.load(carry)
        assert torch.allclose(net.module(xs[0]), plain(xs[0]), rtol=1e-12)
        actual = gradients(ys, net.module, xs)
        assert overall_error(actual, gradients(expected, plain, xs)) <= 1e-10
        net.module.load_state_dict(fresh.state_dict(), strict=False)


@pytest.mark.parametrize("kind", APPEARING)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_state_that_the_first_call_makes_equals_the_plain_loop_exhaustive(kind, policy, sizes):
    for steps in (1, 2, 7):
        for slots, chunk in ((3, 1), (2, 3), (1, 20)):
            assert_appearing([APPEARING[kind]], steps, (4, 4, 2), slots=slots, policy=policy, chunk=chunk, **sizes)


@given(
    st.lists(st.sampled_from(list(APPEARING.values())), min_size=1, max_size=3),
    policies(),
    st.lists(st.integers(2, 4), min_size=1, max_size=3),
    st.integers(1, 15),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_states_that_the_first_call_makes_equal_the_plain_loop_hypothesis(
    makes, which, batches, steps, chunk, slots, seed
):
    policy, sizes = which
    assert_appearing(makes, steps, batches, seed, slots=slots, policy=policy, chunk=chunk, **sizes)


def test_after_a_scan_the_module_is_as_it_was_before_its_first_call():
    module = Filled().double()
    containers = module.memories, module.layers
    run(module)
    assert (module.memories, module.layers) == ({}, [None, 0.0])
    assert module.memories is containers[0]
    assert module.layers is containers[1]
    assert module.pair is None
    flagged = Flagged().double()
    run(flagged)
    assert (flagged.ready, flagged.rate, flagged.seen, flagged.v) == (False, 1.0, {"calls": 0}, None)
    assert not hasattr(flagged, "average")


def test_a_first_call_that_fails_leaves_nothing_behind():
    module = nn.Sequential(Flagged(), Filled(), Failing()).double()
    module[2].fails_at = 1
    with pytest.raises(KeyError, match="injected"):
        run(module)
    assert (module[0].ready, module[0].seen, module[0].v) == (False, {"calls": 0}, None)
    assert not hasattr(module[0], "average")
    assert (module[1].memories, module[1].layers, module[1].pair) == ({}, [None, 0.0], None)


def test_a_module_without_state_is_a_step():
    layer = nn.Linear(3, 3).double()
    net = Stateful(layer)
    carry, ys = scan(net, net.init(), X, slots=2)
    assert carry == ({},)
    assert torch.equal(ys, torch.stack([layer(x) for x in X]))


@pytest.mark.parametrize("steps", [1, 6])
def test_a_start_with_a_graph_gets_its_gradient_though_the_first_step_gives_it_another_shape(steps):
    actual = []
    for adapted in (True, False):
        torch.manual_seed(0)
        module, start = Appearing(None).double(), torch.ones((), dtype=torch.float64, requires_grad=True)
        module.v = start * 2
        xs = torch.ones(steps, 2, 3, dtype=torch.float64)
        net = Stateful(module)
        ys = scan(net, net.init(), xs, slots=2)[1] if adapted else torch.stack([module(x) for x in xs])
        actual.append(torch.autograd.grad(ys.sum(), [start, *module.parameters()]))
    assert relative_error(*actual) <= 1e-12


def test_one_tensor_under_two_names_is_one_state():
    """An update in place is seen under both, as in the loop."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = torch.zeros(2, 3, dtype=torch.float64)

        def forward(self, x):
            self.a = self.a + x
            self.b = self.a
            self.b.mul_(0.5)
            return self.a * self.b

    module, plain = Shared(), Shared()
    net = Stateful(module)
    assert net.init()[0].keys() == {"a"}
    ys = scan(net, net.init(), X, slots=2)[1]
    expected = torch.stack([plain(x) for x in X])
    assert torch.equal(ys, expected)
    assert relative_error(*(torch.autograd.grad(y.sum(), [X]) for y in (ys, expected))) <= 1e-12


def test_an_adapter_that_forgets_what_was_there_before_a_state_is_caught(monkeypatch):
    monkeypatch.setattr(_First, "before", property(lambda self: {}, lambda self, value: None), raising=False)
    with pytest.raises((AssertionError, ValueError, RuntimeError)):  # the last, where its recomputation is another
        assert_appearing([Filled], 7, (4,), slots=2)


def test_an_adapter_that_does_not_carry_numbers_is_caught(monkeypatch):
    monkeypatch.setattr("membptt.step.places._NUMBERS", {})
    with pytest.raises((AssertionError, RuntimeError)):
        assert_appearing([Flagged], 7, (4,), slots=2)


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
    (state, actual), ys = scan(net, net.init(start), xs, slots=2)
    assert torch.allclose(actual, h, rtol=1e-10)
    a = torch.autograd.grad(ys.square().sum() + actual.sum(), [start, xs, *module.parameters()])
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
    actual = []
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
        actual.append(torch.autograd.grad(ys.sum(), start)[0])
    assert torch.allclose(*actual, rtol=1e-12)


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
    actual = windows(module, xs, cut=cut, adapted=True)
    assert relative_error(actual, windows(plain, xs, cut=cut, adapted=False)) <= 1e-10
    other = windows(copy.deepcopy(problem(mixed, 12)[0]), xs, cut=not cut, adapted=True)
    assert relative_error(actual, other) > 1e-6


class Failing(nn.Module):
    """Fails at a chosen call, after part of its state was updated."""

    def __init__(self):
        super().__init__()
        self.spiking, self.norm, self.calls, self.fails_at = Spiking(), nn.BatchNorm1d(3), count(1), None

    def forward(self, x):
        y = self.norm(self.spiking(x))
        if next(self.calls) == self.fails_at:
            raise KeyError("injected")
        return y


@pytest.mark.parametrize("call", range(1, 14))
def test_an_exception_leaves_the_module_as_it_was(call):
    module, plain, xs = problem(Failing, 6)
    net = Stateful(module)
    before = {name: (tensor, tensor.clone()) for name, tensor in state_of(module).items()}
    module.fails_at = call
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


def overlapping():
    module = nn.Module()
    module.a = torch.zeros(3)
    module.b = module.a[1:]
    return module


class Odd(nn.Module):
    """Does something else at its third call."""

    def __init__(self, late):
        super().__init__()
        self.v, self.calls, self.late = torch.zeros(2, 3), count(), late

    def forward(self, x):
        self.v = self.v + x
        self.w, self.number = [self.v, "on"], 1.0 + next(self.calls)
        if self.number == 3:
            self.late(self)
        return x * 1


def parting(module):
    module.w = [module.v * 1, "on"]


X = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)

REFUSED = [
    (lambda: Stateful(lambda x: x), TypeError, "adapts a torch.nn.Module"),
    (lambda: run(Spiking().double(), ["voltage"]), ValueError, r"\['voltage'\] after its first step; it has \[\]"),
    (lambda: Stateful(overlapping()).init(), ValueError, "'a' and 'b' share memory"),
    (lambda: scan(Stateful(Spiking()), None, X, slots=2), TypeError, r"give init=net.init\(\), got None"),
    (lambda: scan(Stateful(Spiking()), X[0], X, slots=2), TypeError, r"give init=net.init\(\), got tensor"),
    (lambda: Stateful(Spiking())(({"potential": X[0]},), X[0]), RuntimeError, r"call init\(\) first"),
    (lambda: run(Odd(lambda module: setattr(module, "v", None))), RuntimeError, "changed what 'v' is"),
    (lambda: run(Odd(lambda module: delattr(module, "v"))), RuntimeError, "changed what 'v' is"),
    (lambda: run(Odd(lambda module: module.w.append(module.v))), RuntimeError, "changed what 'w' is"),
    (lambda: run(Odd(lambda module: module.w.__setitem__(1, "off"))), RuntimeError, "changed what 'w' is"),
    (lambda: run(Odd(lambda module: setattr(module, "number", 3))), RuntimeError, "changed what 'number' is"),
    (lambda: run(Odd(parting)), RuntimeError, "what was one tensor stays one"),
    (lambda: run(Fickle()), RuntimeError, r"\['v'\] was outside the graph"),
    (lambda: Stateful(Spiking()).load(({"voltage": X},)), ValueError, "the carry has the state"),
]


def run(module, names=None):
    net = Stateful(module, names)
    return scan(net, net.init(), X, slots=2)[1].sum().backward()


@pytest.mark.parametrize(("call", "error", "says"), REFUSED)
def test_what_cannot_be_adapted_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()


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


class Cache:
    """A plain object, as people keep what they remember in."""

    def __init__(self, memory=None):
        self.memory, self.calls = memory, 0


class Caching(nn.Module):
    """Remembers in an object, in objects of a list, and counts there; in place where that is asked for."""

    def __init__(self, *, in_place=False, keep=Cache):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.in_place = nn.GRUCell(4, 4).double(), in_place
        self.cache, self.later = keep(torch.zeros(2, 4, dtype=torch.float64)), [Cache(), Cache()]

    def forward(self, h, x):
        h = self.cell(x + self.cache.memory * (1 + self.cache.calls % 2), h)
        if self.in_place:
            self.cache.memory.mul_(0.9).add_(x)
        else:
            self.cache.memory = 0.9 * self.cache.memory + h
        self.cache.calls += 1
        for cache in self.later:
            cache.memory = h * 0.1 if cache.memory is None else cache.memory * 0.5 + h
        return h, h + self.later[1].memory


@pytest.mark.parametrize(
    "options", [{"slots": 3}, {"slots": 2, "chunk": 3}, {"slots": 4, "policy": "ism"}, {"budget": "64KiB"}]
)
def test_states_in_objects_that_a_module_holds_are_carried(options):
    xs, h0 = torch.linspace(-1, 1, 72, dtype=torch.float64).view(9, 2, 4), torch.zeros(2, 4, dtype=torch.float64)
    looped, scanned = Caching(), Caching()
    h, ys = h0, []
    for x in xs:
        h, y = looped(h, x)
        ys.append(y)
    wanted = torch.autograd.grad(torch.stack(ys).square().sum(), list(looped.parameters()))
    net = Stateful(scanned)
    carry, ys = scan(net, net.init(h0), xs, **options)
    actual = torch.autograd.grad(ys.square().sum(), list(scanned.parameters()))
    assert all(map(torch.allclose, actual, wanted))
    assert scanned.cache.calls == 0
    net.load(carry)
    assert scanned.cache.calls == 9
    assert torch.allclose(scanned.cache.memory, looped.cache.memory)
    assert torch.allclose(scanned.later[0].memory, looped.later[0].memory)


class KeptInside(nn.Module):
    """The same as a module of its own, as the error advises."""

    def __init__(self, memory):
        super().__init__()
        self.register_buffer("memory", memory)
        self.calls = 0


def test_a_state_in_an_object_that_is_written_in_place_is_refused_and_in_a_module_it_works():
    xs, h0 = torch.linspace(-1, 1, 72, dtype=torch.float64).view(9, 2, 4), torch.zeros(2, 4, dtype=torch.float64)
    net = Stateful(Caching(in_place=True))
    with pytest.raises(RuntimeError, match=r"writes to 'cache.memory' in place.*keep the state in a buffer"):
        scan(net, net.init(h0), xs, slots=3)
    looped, net = Caching(in_place=True, keep=KeptInside), Stateful(Caching(in_place=True, keep=KeptInside))
    h = h0
    for x in xs:
        with torch.no_grad():
            h, _ = looped(h, x)
    carry, _ = scan(net, net.init(h0), xs, slots=3)
    carry[1].sum().backward()
    assert torch.allclose(carry[1], h)
