"""Whatever happens in the middle of a scan, nothing is left behind; and whatever the model, the gradient is right."""

import contextlib
import gc
import weakref

import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from membptt import Indexed, SlowTier, meter, scan
from membptt_theory.actions import Prices
from membptt_theory.schedule import Schedule
from membptt_theory.tables import build
from membptt_theory.tiers import build_tiers

from .cells import Lstm, plain, problem, relative_error
from .strategies import POLICIES, policies, policy_id

FAULTS = [KeyError("injected"), torch.OutOfMemoryError("injected"), KeyboardInterrupt("injected")]
STEPS, SLOTS = 6, 3
TWO_TIERS = [("hsm", {"spill": SlowTier(slow, Prices(8, 2, 1))}) for slow in (2, None)]


class Saboteur:
    """Raises at one action of a stream."""

    def __init__(self, monkeypatch, index, fault):
        self.index, self.fault, self.count = index, fault, 0
        self.instructions = Schedule.instructions
        monkeypatch.setattr(Schedule, "instructions", lambda schedule, stream=self.stream: stream(schedule))
        monkeypatch.setattr("membptt.run.execution._WINDOW", 0)  # every action before the fault is carried out

    def stream(self, schedule):
        for instruction in self.instructions(schedule):
            self.count += 1
            if self.count - 1 == self.index:
                raise self.fault
            yield instruction


def length_of(policy, sizes):
    if "spill" not in sizes:
        return len(list(build(policy, STEPS, SLOTS, **sizes).schedule(STEPS, SLOTS).instructions()))
    slow = sizes["spill"]
    return len(list(build_tiers(STEPS, SLOTS, slow.slots, slow.prices).schedule(STEPS, SLOTS, slow.slots)))


def tracked(alive):
    """A step whose every product is known, so that one can ask which of them are still there."""
    w = nn.Parameter(torch.full((3,), 0.9))

    def step(carry, x):
        gate = torch.sin(carry * w)
        new = torch.tanh(gate + x)
        alive.update((gate, new))
        return new, new * 2

    return step, w


def still(alive):
    """How many are there, once cycles are broken up."""
    if alive:
        gc.collect()
    return len(alive)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES + TWO_TIERS, ids=policy_id)
def test_a_fault_at_any_action_leaves_nothing_behind_and_the_next_call_works(monkeypatch, policy, sizes, fault):
    length = length_of(policy, sizes)
    init, xs = torch.zeros(3, requires_grad=True), torch.linspace(0, 1, STEPS)
    alive = weakref.WeakSet()
    step, w = tracked(alive)

    def call():
        _, ys = scan(step, init, xs, slots=SLOTS, policy=policy, params=[w], **sizes)
        ys.sum().backward()

    call()
    expected = w.grad, init.grad
    for index in range(length):
        w.grad = init.grad = None
        with monkeypatch.context() as patch, meter() as report:
            Saboteur(patch, index, fault)
            with pytest.raises(type(fault), match="injected"):
                call()
        fault.__traceback__ = None
        assert still(alive) == 0
        assert report.live_bytes == report.slow_bytes == 0
        assert w.grad is init.grad is None
        call()
        assert torch.equal(w.grad, expected[0])
        assert torch.equal(init.grad, expected[1])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(
    "options", [{"slots": SLOTS, "policy": "msm", "internal": 2}, {"slots": 2, **TWO_TIERS[0][1]}], ids=["msm", "tiers"]
)
def test_a_fault_inside_any_evaluation_leaves_nothing_behind(fault, where, options):
    init, xs = torch.zeros(3, requires_grad=True), torch.linspace(0, 1, STEPS)
    alive = weakref.WeakSet()
    inner, w = tracked(alive)
    with meter() as report:
        scan(inner, init, xs, params=[w], **options)[1].sum().backward()
    total, w.grad, init.grad = report.forwards, None, None
    for evil in range(total):
        calls = 0

        def step(carry, x, evil=evil):
            nonlocal calls
            calls += 1
            if calls - 1 == evil and where == "before":
                raise fault
            result = inner(carry, x)
            if calls - 1 == evil:
                raise fault
            return result

        with pytest.raises(type(fault), match="injected"):
            scan(step, init, xs, params=[w], **options)[1].sum().backward()
        fault.__traceback__ = None
        assert still(alive) == 0
        assert w.grad is init.grad is None


def test_after_a_failed_backward_the_random_state_is_what_it_was():
    calls = 0

    def step(carry, x):
        nonlocal calls
        calls += 1
        if calls == 14:
            raise KeyError("injected")
        return nn.functional.dropout(carry, 0.5), None

    final, _ = scan(step, torch.ones(4, requires_grad=True), torch.ones(10), slots=2)
    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        final.sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


def live():
    """Bytes of all tensors that Python can reach."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, nn.Parameter):
            with contextlib.suppress(NotImplementedError):  # a compiler's tracing leaves tensors without storage
                storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


def test_the_copies_of_watched_states_do_not_wait_for_the_backward():
    norm, init, xs = nn.BatchNorm1d(10_000).eval(), torch.zeros((), requires_grad=True), torch.ones(3, 1, 10_000)
    before = live()
    final, _ = scan(lambda h, x: (h + norm(x).sum(), None), init, xs, slots=2, params=norm.parameters())
    assert final.requires_grad
    assert live() - before < norm.running_mean.nbytes


@pytest.mark.parametrize(
    "options", [{"slots": 2}, {"slots": 4, "policy": "msm", "internal": 2, "chunk": 2}, {"slots": 2, "spill": True}]
)
def test_a_thousand_training_steps_show_no_growth_of_live_bytes(options):
    torch.manual_seed(0)
    step = Lstm()
    optimizer = torch.optim.SGD(step.parameters(), lr=0.01)
    init, xs = step.init(2), torch.randn(5, 2, 3)
    seen = []
    for iteration in range(1000):
        optimizer.zero_grad()
        _, ys = scan(step, init, xs, **options)
        ys.square().mean().backward()
        optimizer.step()
        del ys
        if iteration in (9, 499, 999):
            seen.append(live())
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_live_bytes_notice_a_leak():
    before = live()
    leak = [torch.ones(100)]
    assert live() == before + 400
    del leak


@st.composite
def cells(draw):
    """A random cell: a pytree of carries of random shapes, some integer, mixed by random smooth functions."""
    widths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    nest = draw(st.sampled_from(["tuple", "dict", "list", "nested"]))
    counter = draw(st.booleans())
    functions = draw(st.lists(st.sampled_from([torch.tanh, torch.sin, torch.sigmoid]), min_size=3, max_size=3))
    outputs = draw(st.sampled_from(["carry", "scalar", "view", "input", "none"]))
    return widths, nest, counter, functions, outputs


class Random(nn.Module):
    """The cell that `cells` describes."""

    def __init__(self, widths, nest, counter, functions, outputs):
        super().__init__()
        self.mixers = nn.ModuleList(nn.Linear(sum(widths) + 3, width) for width in widths)
        self.nest, self.counter, self.functions, self.outputs = nest, counter, functions, outputs

    def pack(self, parts, count):
        extra = [count] if self.counter else []
        match self.nest:
            case "tuple":
                return (*parts, *extra)
            case "list":
                return [*parts, *extra]
            case "dict":
                return {str(index): part for index, part in enumerate([*parts, *extra])}
        return {"first": parts[0], "rest": ([*parts[1:]], tuple(extra))}

    def init(self, batch):
        return self.pack([torch.randn(batch, mixer.out_features) for mixer in self.mixers], torch.tensor(3))

    def forward(self, carry, x):
        leaves = optree.tree_leaves(carry)
        parts = [leaf for leaf in leaves if leaf.is_floating_point()]
        count = next((leaf for leaf in leaves if not leaf.is_floating_point()), None)
        everything = torch.cat([*parts, x], -1)
        # The last part is handed on as it is: an identity in the recurrence, and a leaf that many states share.
        states = [f(mixer(everything)) for f, mixer in zip(self.functions, self.mixers, strict=False)]
        states[-1] = states[-1] if len(states) < 3 else parts[-1]
        carry = self.pack(states, None if count is None else count + 1)
        match self.outputs:
            case "carry":
                return carry, carry
            case "scalar":
                return carry, (states[0].square().sum(), torch.ones(()))
            case "view":
                return carry, states[0][:, :1]
            case "input":
                return carry, [x, states[0].detach()]
        return carry, None


def loop(step, init, xs):
    """`plain`, for outputs that are ``None`` too."""

    def boxed(carry, x):
        carry, y = step(carry, x)
        return carry, [y]

    carry, ys = plain(boxed, init, xs)
    return carry, ys[0]


either = policies() | st.builds(
    lambda slow, prices: ("hsm", {"spill": SlowTier(slow, Prices(*prices))}),
    st.none() | st.integers(0, 9),
    st.tuples(*[st.integers(1, 9)] * 3),
)


@given(cells(), either, st.integers(1, 25), st.integers(1, 30), st.integers(1, 8), st.booleans(), st.integers(0, 9))
def test_random_models_have_the_gradients_of_plain_autograd_hypothesis(
    cell, which, steps, slots, chunk, by_index, seed
):
    policy, sizes = which
    step, init, xs = problem(lambda: Random(*cell), steps, torch.float64, seed)
    data = Indexed(steps, lambda start, stop: xs.detach()[start:stop]) if by_index else xs
    actual = scan(step, init, data, slots=slots, policy=policy, chunk=chunk, check=True, **sizes)
    expected = loop(step, init, xs.detach() if by_index else xs)
    assert optree.tree_structure(actual) == optree.tree_structure(expected)
    for a, b in zip(optree.tree_leaves(actual), optree.tree_leaves(expected), strict=True):
        assert torch.equal(a, b)
    assert relative_error(all_gradients(actual, step, init, xs), all_gradients(expected, step, init, xs)) <= 1e-10


def all_gradients(result, step, init, xs):
    """As `gradients`, with zeros where a loss does not depend on something."""
    loss = sum(
        (torch.linspace(-1, 1, leaf.numel(), dtype=leaf.dtype).cos().reshape(leaf.shape) * leaf).sum()
        for leaf in optree.tree_leaves(result)
        if leaf.is_floating_point()
    )
    wanted = [leaf for leaf in optree.tree_leaves(init) if leaf.requires_grad] + [xs, *step.parameters()]
    return list(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))


@given(cells(), st.integers(1, 25), st.integers(0, 9), st.sampled_from([1, 1.5, 3, 20]), st.booleans())
def test_random_models_in_a_random_budget_hypothesis(cell, steps, seed, generosity, spill):
    step, init, xs = problem(lambda: Random(*cell), steps, torch.float64, seed)
    try:
        scan(step, init, xs, budget=1)
    except ValueError as error:
        floor = int(str(error).rsplit("take ", 1)[1].split()[0])
    with pytest.MonkeyPatch.context() as patch, meter() as report:
        patch.setattr("membptt.planning.trial._SECONDS", 0)
        actual = scan(step, init, xs, budget=int(generosity * floor), spill=spill)
        given_gradients = all_gradients(actual, step, init, xs)
    assert report.peak_bytes <= generosity * floor
    assert relative_error(given_gradients, all_gradients(loop(step, init, xs), step, init, xs)) <= 1e-10
