"""What users' steps do to a scan: the gradient is the loop's, or one true error says what to do, and that works."""

import functools
import itertools
import random
import threading
import types
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from torch import nn

import membptt
from membptt import Indexed, SlowTier, scan, torch_private
from membptt.step.generators import Generators
from membptt.step.reach import reach
from membptt.step.surroundings import Surroundings
from membptt_theory.tables import build

D = torch.float64
WAYS = [
    {"slots": 3},
    {"slots": 2, "chunk": 5},
    {"slots": 6, "policy": "msm", "internal": 2},
    {"slots": 4, "policy": "ism"},
    {"slots": 2, "spill": SlowTier(2)},
]
every_way = pytest.mark.parametrize("options", WAYS, ids=["hsm", "chunks", "msm", "ism", "tiers"])


def loop(step, init, xs, **_):
    carry, ys = init, []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    return carry, torch.stack(ys)


def data():
    return torch.zeros(2, 4, dtype=D), torch.randn(12, 2, 4, dtype=D, generator=torch.Generator().manual_seed(0))


def gru(seed=0):
    torch.manual_seed(seed)
    return nn.GRUCell(4, 4).double()


def recurrence(cell):
    def step(h, x):
        h = cell(x, h)
        return h, h

    return step


def gradient(run, leaves, fn):
    for leaf in leaves:
        leaf.grad = None
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  (the global generator is what is tested)
    torch.manual_seed(1)
    run(fn)
    return torch.cat(
        [torch.zeros_like(leaf).flatten() if leaf.grad is None else leaf.grad.flatten() for leaf in leaves]
    )


def same(run, leaves, options):
    """Whether `run` leaves the same gradients with the scan as with the loop."""
    expected = gradient(run, leaves, loop)
    actual = gradient(run, leaves, lambda step, init, xs, **more: scan(step, init, xs, **options, **more))
    return ((actual - expected).norm() / expected.norm()).item() <= 1e-10


# What is put back


@every_way
def test_a_closure_finds_the_variable_of_its_loop_where_it_was(options):
    cells = nn.ModuleList(gru(seed) for seed in range(3))
    init, xs = data()

    def run(fn):
        ys = xs
        for cell in cells:

            def step(h, x):
                h = cell(x, h)  # noqa: B023  (that it is bound late is what is tested)
                return h, h

            _, ys = fn(step, init, ys, params=list(cells.parameters()))
        ys.square().mean().backward()

    assert same(run, list(cells.parameters()), options)


GAIN = 1.0


def test_a_global_is_found_as_it_was_and_left_as_it_is():
    cell, (init, xs) = gru(), data()

    def step(h, x):
        h = cell(x, h) * GAIN
        return h, h

    def run(fn):
        globals()["GAIN"] = 0.5
        _, ys = fn(step, init, xs, params=list(cell.parameters()))
        globals()["GAIN"] = 2.0
        ys.sum().backward()
        assert GAIN == 2.0

    assert same(run, list(cell.parameters()), {"slots": 3})


class Remembers(nn.Module):
    """Keeps what it saw last in an attribute, a buffer and a place that was empty; none is used."""

    def __init__(self):
        super().__init__()
        self.cell, self.seen, self.first = gru(), torch.zeros(0), None
        self.register_buffer("kept", torch.zeros(0), persistent=False)

    def forward(self, h, x):
        h = self.cell(x, h)
        self.seen, self.kept, self.first = h.detach() + 1, h.detach() + 2, h.detach() + 3
        return h, h


@every_way
@pytest.mark.parametrize("as_at_the_call", [True, False])
def test_what_a_step_keeps_and_does_not_use_is_left_as_the_backward_found_it(options, as_at_the_call):
    net, (init, xs) = Remembers(), data()
    there = {"seen": net.seen, "kept": net.kept}
    if not as_at_the_call:
        there = {name: torch.ones(1) for name in (*there, "first")}

    def run(fn):
        _, ys = fn(net, init, xs)
        vars(net).update({name: value for name, value in there.items() if name != "kept"})
        net.kept = there["kept"]
        ys.square().mean().backward()
        assert all(getattr(net, name) is value for name, value in there.items())

    assert same(run, list(net.parameters()), options)


def test_a_variable_that_the_step_counts_with_goes_on_counting():
    cell, (init, xs), calls = gru(), data(), 0

    def step(h, x):
        nonlocal calls
        calls += 1
        h = cell(x, h)
        return h, h

    with membptt.meter() as report:
        scan(step, init, xs, slots=3, params=cell.parameters())[1].sum().backward()
    assert calls == report.forwards


@every_way
@pytest.mark.parametrize("frozen", [True, False])
def test_weights_that_another_call_put_in_place_are_found_there_again(options, frozen):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = gru().requires_grad_(not frozen)

        def forward(self, fn):
            init, xs = data()
            return fn(recurrence(self.cell), init, xs, params=list(self.cell.parameters()))[1]

    net = Net()
    weights = {name: (w + 0.3 * torch.randn_like(w)).detach().requires_grad_() for name, w in net.named_parameters()}
    before = list(net.parameters())

    def run(fn):
        torch.func.functional_call(net, weights, (fn,)).square().mean().backward()

    assert same(run, list(weights.values()), options)
    assert all(weight is other for weight, other in zip(net.parameters(), before, strict=True))


@every_way
def test_a_hypernetworks_weights_are_found_again_after_the_next_ones_were_put_in_their_place(options):
    torch.manual_seed(0)
    maker, cell, (init, xs) = nn.Linear(2, 48).double(), gru(), data()
    del cell.weight_hh

    def run(fn):
        total = 0.0
        for task in torch.eye(2, dtype=D):
            cell.weight_hh = maker(task).view(12, 4)
            total = (
                total + fn(recurrence(cell), init, xs, params=[*cell.parameters(), cell.weight_hh])[1].square().mean()
            )
        total.backward()

    assert same(run, [*maker.parameters(), *cell.parameters()], options)


def test_averaged_weights_swapped_in_as_objects_are_found_again_and_copied_in_are_refused():
    cell, (init, xs) = gru(), data()
    own, average = cell.weight_hh, nn.Parameter(cell.weight_hh.detach() * 0.5)

    def swapped(fn):
        cell.weight_hh = average
        _, ys = fn(recurrence(cell), init, xs, params=[average])
        cell.weight_hh = own
        ys.sum().backward()

    for weight in cell.parameters():
        weight.requires_grad_(False)
    assert same(swapped, [average], {"slots": 3})
    h0 = init.clone().requires_grad_()
    _, ys = scan(recurrence(cell), h0, xs, slots=3)
    own.data.mul_(0.5)  # as averages are copied in: torch does not count it
    with pytest.raises(RuntimeError, match="what it reads was changed between forward and backward"):
        ys.sum().backward()


@every_way
@pytest.mark.parametrize("late", [0, 9])
def test_pythons_generator_is_rewound_and_left_where_it_was(options, late):
    """Also where only the last steps draw: the first pass is then run once more, following it."""
    cell, (init, xs) = gru(), data()

    def step(carry, x):
        h, count = carry
        drawn = int(count) < late or random.random() < 0.5 or random.gauss(0, 1) > 0
        h = cell(x if drawn else x * 0, h)
        return (h, count + 1), h

    def run(fn):
        _, ys = fn(step, (init, torch.tensor(0)), xs, params=list(cell.parameters()))
        random.random()
        before = random.getstate()
        ys.square().mean().backward()
        assert random.getstate() == before

    assert same(run, list(cell.parameters()), options)


@every_way
@pytest.mark.parametrize("pending", [False, True])
def test_numpys_generator_is_rewound_and_left_where_it_was(options, pending):
    """Also where half of a pair of normal numbers was pending at the call."""
    cell, (init, xs) = gru(), data()

    def step(h, x):
        noise = np.random.randn(1, 3)  # noqa: NPY002
        h = cell(x + torch.from_numpy(noise).sum(), h)
        return h, h

    def run(fn):
        if pending:
            np.random.randn()  # noqa: NPY002
        _, ys = fn(step, init, xs, params=list(cell.parameters()))
        np.random.randn()  # noqa: NPY002
        before = np.random.get_state()  # noqa: NPY002
        ys.square().mean().backward()
        assert str(np.random.get_state()) == str(before)  # noqa: NPY002

    assert same(run, list(cell.parameters()), options)


DRAWS = [
    random.random,
    partial(random.gauss, 0, 1),
    partial(random.getrandbits, 7),
    partial(random.randrange, 9),
    np.random.random,
    np.random.standard_normal,
    partial(np.random.randint, 9),
    partial(np.random.gamma, 0.5),
    torch.rand,
    torch.randn,
]


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: getattr(getattr(draw, "func", draw), "__name__", "draw"))
@pytest.mark.parametrize("before", [0, 1])  # of two normal numbers, one may be kept outside the generator's words
def test_every_draw_from_a_global_generator_is_noticed_and_can_be_repeated(draw, before):
    take = partial(draw, 1) if draw in {torch.rand, torch.randn} else draw
    for _ in range(before):
        take()
    generators = Generators(set())
    start = generators.read()
    assert generators.read() is start
    first = take()
    assert generators.read() is not start
    second = take()
    generators.write(start)
    assert [take(), take()] == [first, second]


@pytest.mark.parametrize("draw", [torch.rand, torch.randn])
def test_draws_are_noticed_also_where_the_memory_of_the_generator_is_not_found(draw, monkeypatch):
    monkeypatch.setattr(torch_private, "_memory", None)
    generators = Generators(set())
    start = generators.read()
    assert generators.read() is start
    first = draw(1)
    assert generators.read() is not start
    generators.write(start)
    assert draw(1) == first


def test_a_generator_of_the_steps_own_is_refused_and_the_global_one_works():
    cell, (init, xs), own = gru(), data(), random.Random(0)

    def step_of(generator):
        def step(h, x):
            h = cell(x * generator.random(), h)
            return h, h

        return step

    leaves = list(cell.parameters())
    with pytest.raises(
        RuntimeError, match=r"draws from a generator of its own.*draw from torch's, Python's or numpy's"
    ):
        scan(step_of(own), init, xs, slots=3, params=leaves)[1].sum().backward()
    assert same(lambda fn: fn(step_of(random), init, xs, params=leaves)[1].sum().backward(), leaves, {"slots": 3})


@every_way
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("hook", ["prune", "weight_norm", "spectral_norm"])
def test_weights_that_a_hook_makes_anew_are_no_state(options, hook):
    cell, (init, xs) = gru(), data()
    if hook == "prune":
        torch.nn.utils.prune.l1_unstructured(cell, "weight_hh", 0.5)
    elif hook == "weight_norm":
        nn.utils.weight_norm(cell, "weight_hh")
    else:
        nn.utils.spectral_norm(cell, "weight_hh").eval()
    leaves = list(cell.parameters())
    assert same(lambda fn: fn(recurrence(cell), init, xs, params=leaves)[1].square().mean().backward(), leaves, options)


@every_way
@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_the_vectors_of_a_spectral_norm_in_training_are_rewound_and_left_where_they_were(options, norm):
    cell, (init, xs) = norm(gru(), "weight_hh"), data()
    leaves, vectors = list(cell.parameters()), list(cell.buffers())
    start = [vector.clone() for vector in vectors]

    def run(fn):
        for vector, value in zip(vectors, start, strict=True):
            vector.data.copy_(value)
        _, ys = fn(recurrence(cell), init, xs, params=leaves)
        after = [vector.clone() for vector in vectors]
        ys.square().mean().backward()
        assert all(map(torch.equal, vectors, after))
        assert not torch.equal(start[0], after[0])

    assert same(run, leaves, options)
    kept = [vector.clone() for vector in vectors]
    membptt.plan(recurrence(cell), init, xs, budget="1MiB", params=leaves, chunk=1)
    assert all(map(torch.equal, vectors, kept))
    with pytest.raises(RuntimeError, match=r"updates '.*_u' and '.*_v' in place"):
        scan(recurrence(cell), init, xs, slots=3, params=leaves, preserve_rng_state=False)


# What is refused, and what to do instead


def padded(fast):
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1).double().eval()
    pad, mix = torch.zeros(3, 5, dtype=torch.bool), nn.Linear(8, 8).double()
    pad[1, 3:] = pad[2, 2:] = True

    def step(h, x):
        h = torch.tanh(mix(encoder(h + x, src_key_padding_mask=pad)))
        return h, h.mean(1)

    leaves = [*encoder.parameters(), *mix.parameters()]
    h0, xs = torch.randn(3, 5, 8, dtype=D), torch.randn(8, 3, 5, 8, dtype=D)
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(fast)
        return same(lambda fn: fn(step, h0, xs, params=leaves)[1].square().mean().backward(), leaves, {"slots": 2})
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_kernel_chosen_by_grad_mode_is_refused_and_without_its_fast_path_it_works():
    with pytest.raises(RuntimeError, match=r"something else with graph than without.*set_fastpath_enabled\(False\)"):
        padded(fast=True)
    assert padded(fast=False)


def test_a_frozen_addend_that_moves_is_named_and_as_an_input_it_may_move():
    cell, (init, xs) = gru(), data()
    offset = nn.Parameter(torch.zeros(4, dtype=D), requires_grad=False)

    def step(h, x):
        h = cell(x, h) + offset
        return h, h

    leaves = list(cell.parameters())
    _, ys = scan(step, init, xs, slots=3, params=leaves)
    offset.add_(1)
    with pytest.raises(RuntimeError, match=r"Changed since the call: 'offset'.*hand it on as an input or in the carry"):
        ys.sum().backward()

    def advised(carry, x):
        h, offset = carry
        h = cell(x, h) + offset
        return (h, offset), h

    def run(fn):
        moving = torch.ones(4, dtype=D)
        _, ys = fn(advised, (init, moving.clone()), xs, params=leaves)
        moving.mul_(-3)
        ys.sum().backward()

    assert same(run, leaves, {"slots": 3})


class Kept:
    pass


class Remembering(nn.Module):
    """Keeps a trace in an object that it holds, which no guard can know."""

    def __init__(self):
        super().__init__()
        self.cell, self.kept = gru(), Kept()

    def forward(self, h, x):
        h = self.cell(x + self.kept.memory, h)
        self.kept.memory = 0.9 * self.kept.memory + x
        return h, h


@every_way
def test_a_state_in_an_object_is_refused_and_in_the_carry_it_works(options):
    net, (init, xs) = Remembering(), data()
    net.kept.memory = torch.zeros(2, 4, dtype=D)
    said = "state outside the carry|kept outside the carry"
    with pytest.raises((RuntimeError, ValueError), match=said):
        scan(net, init, xs, **options)[1].sum().backward()

    def advised(carry, x):
        h, memory = carry
        h = net.cell(x + memory, h)
        return (h, 0.9 * memory + x), h

    leaves, start = list(net.parameters()), (init, torch.zeros(2, 4, dtype=D))
    assert same(lambda fn: fn(advised, start, xs, params=leaves)[1].sum().backward(), leaves, options)


def test_a_counter_that_picks_the_weights_is_named_and_in_the_carry_it_works():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.gains, self.at = gru(), nn.Parameter(1 + torch.rand(12, 4, dtype=D)), 0

        def forward(self, h, x):
            h = self.cell(x * self.gains[self.at % 12], h)
            self.at += 1
            return h, h

    net, (init, xs) = Net(), data()
    with pytest.raises(RuntimeError, match=r"Changed since the call: 'at'.*such as a counter.*in the carry"):
        scan(net, init, xs, slots=3)[1].sum().backward()

    def advised(carry, x):
        h, at = carry
        h = net.cell(x * net.gains[at % 12], h)
        return (h, at + 1), h

    leaves, start = list(net.parameters()), (init, torch.tensor(0))
    assert same(lambda fn: fn(advised, start, xs, params=leaves)[1].sum().backward(), leaves, {"slots": 3})


def test_running_statistics_are_refused_and_in_eval_mode_or_through_stateful_they_work():
    torch.manual_seed(0)
    norm, mix, (init, xs) = nn.BatchNorm1d(4).double(), nn.Linear(4, 4).double(), data()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.mix = norm, mix

        def forward(self, h, x):
            h = torch.tanh(self.mix(self.norm(h + x)))
            return h, h

    net = Net()
    with pytest.raises(RuntimeError, match=r"updates 'norm.running_mean' and .* in place.*Stateful.*eval mode"):
        scan(net, init, xs, slots=3)
    stateful = membptt.Stateful(net)
    actual = torch.autograd.grad(scan(stateful, stateful.init(init), xs, slots=3)[1].sum(), list(net.parameters()))
    wanted = torch.autograd.grad(loop(net, init, xs)[1].sum(), list(net.parameters()))
    assert all(map(torch.allclose, actual, wanted))
    net.eval()
    leaves = list(net.parameters())
    assert same(lambda fn: fn(net, init, xs)[1].sum().backward(), leaves, {"slots": 3})


# What continuity cannot see


@every_way
def test_what_is_read_by_an_encoder_that_learns_has_its_gradient(options):
    torch.manual_seed(0)
    encoder, cell, (init, xs) = nn.Linear(4, 4).double(), gru(), data()
    leaves = [*encoder.parameters(), *cell.parameters()]

    def run(fn):
        read = Indexed(12, lambda start, stop: encoder(xs[start:stop]))
        fn(recurrence(cell), init, encoder(xs) if fn is loop else read, params=leaves)[1].square().mean().backward()

    assert same(run, leaves, options)


@pytest.mark.parametrize("mine", [True, False])
def test_an_encoder_that_is_not_declared_is_named(mine):
    encoder, cell, (init, xs) = nn.Linear(4, 4).double(), gru(), data()
    read = Indexed(12, lambda start, stop: encoder(xs[start:stop]))
    params = list(cell.requires_grad_(mine).parameters())

    def run():
        scan(recurrence(cell), init, read, slots=3, params=params)[1].sum().backward()

    with pytest.raises(ValueError, match=r"the parameter 'encoder\.\w+'.*pass it in params="):
        run()
    scan(recurrence(cell), init, read, slots=3, params=[*cell.parameters(), *encoder.parameters()])[1].sum().backward()
    assert encoder.weight.grad is not None


def test_what_was_encoded_outside_is_refused_and_declared_itself_it_works():
    encoder, cell, (init, xs) = nn.Linear(4, 4).double(), gru(), data()
    encoded, leaves = encoder(xs), list(cell.parameters())
    read = Indexed(12, lambda start, stop: encoded[start:stop])
    with pytest.raises(RuntimeError, match=r"'encoded', which was computed outside.*Pass it in params= itself"):
        scan(recurrence(cell), init, read, slots=3, params=[*leaves, *encoder.parameters()])[1].sum().backward()
    encoded = encoder(xs)
    scan(recurrence(cell), init, read, slots=3, params=[*leaves, encoded])[1].sum().backward()
    actual, encoder.weight.grad = encoder.weight.grad, None
    loop(recurrence(cell), init, encoder(xs))[1].sum().backward()
    assert torch.allclose(actual, encoder.weight.grad)


def clipped(cell, size=1e-3):
    def step(h, x):
        if h.requires_grad:
            h.register_hook(lambda g: g.clamp(-size, size))
        h = cell(x, h)
        return h, h

    return step


@every_way
@pytest.mark.parametrize("start", ["constant", "leaf", "computed"])
def test_a_hook_on_the_incoming_carry_sees_its_whole_gradient(options, start):
    cell, (init, xs) = gru(), data()
    leaf = init.clone().requires_grad_()

    def run(fn):
        given = {"constant": init, "leaf": leaf.detach().requires_grad_(), "computed": leaf * 1}[start]
        fn(clipped(cell), given, xs, params=list(cell.parameters()))[1].square().mean().backward()
        if start == "leaf":
            leaf.grad = given.grad

    assert same(run, [*cell.parameters(), leaf] if start != "constant" else list(cell.parameters()), options)


@every_way
def test_hooks_on_a_leaf_that_many_steps_hand_on_see_its_whole_gradient(options):
    cell, (init, xs) = gru(), data()

    def step(carry, x):
        h, kept = carry
        if kept.requires_grad:
            kept.register_hook(lambda g: g * 0.5)
        h = cell(x + kept, h)
        return (h, h.square() if x.sum() > 0 else kept), h

    leaves = list(cell.parameters())
    assert same(lambda fn: fn(step, (init, init), xs, params=leaves)[1].sum().backward(), leaves, options)


def test_a_hook_on_a_carry_that_no_step_made_is_refused_and_on_the_tensor_itself_it_works():
    weight, xs = torch.full((3,), 0.5, dtype=D, requires_grad=True), torch.linspace(0, 1, 6, dtype=D)

    def step_of(hooked):
        def step(carry, x):
            h, kept = carry
            if hooked and kept.requires_grad:
                kept.register_hook(lambda g: g * 0.5)
            return (torch.tanh(h * kept + x), weight), h

        return step

    start = torch.zeros(3, dtype=D), torch.zeros(3, dtype=D)
    with pytest.raises(RuntimeError, match="put the hook on that tensor itself, outside the step"):
        scan(step_of(True), start, xs, slots=2, params=[weight])[1].sum().backward()
    weight.register_hook(lambda g: g * 0.5)
    assert same(lambda fn: fn(step_of(False), start, xs, params=[weight])[1].sum().backward(), [weight], {"slots": 2})


@every_way
def test_hooks_of_parameters_fire_once_where_saved_tensors_are_packed(options):
    weight, fired = torch.ones((), dtype=D, requires_grad=True), []
    weight.register_hook(lambda g: fired.append(g) or g * 0.1)
    _, xs = data()

    def step(h, x):
        h = h * 0.5 + weight * x.sum()
        return h, h

    def run(fn):
        fired.clear()
        with torch.autograd.graph.save_on_cpu():
            _, ys = fn(step, torch.zeros((), dtype=D), xs, params=[weight])
        ys.sum().backward()
        assert len(fired) == 1

    assert same(run, [weight], options)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_an_input_changed_in_place_is_refused_where_nothing_requires_grad_too(mode):
    def writing(h, x):
        x.mul_(2)
        return h + x, h

    with mode(), pytest.raises(RuntimeError, match=r"leaf 0 of xs.* was changed in place.*work on a copy"):
        scan(writing, torch.zeros(2), torch.ones(5, 2), slots=2)
    with mode():
        assert scan(lambda h, x: (h + x.clone().mul_(2), h), torch.zeros(2), torch.ones(5, 2), slots=2)[0][0] == 10


@every_way
def test_a_tensor_that_leaves_the_step_beside_its_outputs_is_refused_and_as_an_output_it_works(options):
    cell, (init, xs), kept = gru(), data(), []

    def step(h, x):
        h = cell(x, h)
        kept.append(h.square().mean())
        return h, h

    scan(step, init, xs, params=cell.parameters(), **options)
    with pytest.raises(RuntimeError, match=r"beside what the scan returns.*return it in y"):
        torch.stack(kept).sum().backward()

    def advised(h, x):
        h = cell(x, h)
        return h, h.square().mean()

    leaves = list(cell.parameters())
    assert same(lambda fn: fn(advised, init, xs, params=leaves)[1].sum().backward(), leaves, options)


@pytest.mark.parametrize("private", [True, False])
def test_so_is_the_carry_that_a_core_was_given_also_by_public_hooks_and_beside_hooks_of_the_steps_own(
    private, monkeypatch
):
    if not private:
        monkeypatch.setattr(torch_private, "_add_hooks", None)
    cell, (init, xs), kept, seen = gru(), data(), [], []

    def step(h, x):
        if h.requires_grad:
            h.register_hook(seen.append)
        kept.append(h)
        h = cell(x, h)
        kept.append(h.square())
        return h, h

    loss = scan(step, init, xs, slots=3, params=cell)[1].sum()
    with_graph = [tensor for tensor in kept if tensor.requires_grad]
    assert len(with_graph) > 1
    for tensor in with_graph:
        with pytest.raises(RuntimeError, match=r"beside what the scan returns.*return it in y"):
            tensor.sum().backward(retain_graph=True)
    seen.clear()
    loss.backward()
    assert len(seen) == len(xs) - 1  # the starting carry wants no gradient


@pytest.mark.parametrize("options", [*WAYS, {"budget": "64KiB"}])
@pytest.mark.parametrize("ask", [torch.autograd.grad, lambda loss, leaves: loss.backward(inputs=leaves)])
def test_it_is_refused_too_where_only_some_gradients_are_asked_for(options, ask):
    """No gradient of the leaves that a core starts from is computed then; planning has run the step as well."""
    cell, (init, xs) = gru(), data()
    for pick in (lambda losses: losses, lambda losses: [loss for loss in losses if loss.requires_grad][:1]):
        kept = []

        def step(h, x, kept=kept):
            h = cell(x, h)
            kept.append(h.square().mean())
            return h, h

        scan(step, init, xs, params=cell, **options)
        with pytest.raises(RuntimeError, match=r"beside what the scan returns.*return it in y"):
            ask(torch.stack(pick(kept)).sum(), list(cell.parameters()))


# What used to crash


@pytest.mark.parametrize("functional", [True, False])
@pytest.mark.parametrize("options", [{"slots": 3}, {"budget": "64KiB"}], ids=["slots", "budget"])
def test_a_gradient_inside_the_step_works_under_a_budget_too(functional, options):
    """More of them in `test_inner_gradients`."""
    torch.manual_seed(0)
    energy = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).double()

    def force(z):
        if functional:
            return torch.func.grad(lambda z: energy(z).sum())(z)
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            return torch.autograd.grad(energy(z).sum(), z, create_graph=True)[0]

    def step(z, x):
        q, p = force(z).chunk(2, -1)
        z = z + 0.1 * torch.cat([p, -q], -1)
        return z, z.square().mean()

    leaves, start = list(energy.parameters()), torch.randn(8, 4, dtype=D, requires_grad=True)
    assert same(lambda fn: fn(step, start, data()[1], params=leaves)[1].mean().backward(), leaves, options)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_scripted_and_traced_modules_work(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4).double()
            self.register_buffer("gain", torch.ones(4, dtype=D))

        def forward(self, h, x):
            return torch.tanh(self.inner(h + x) * self.gain)

    torch.manual_seed(0)
    init, xs = data()
    net = torch.jit.script(Net()) if kind == "scripted" else torch.jit.trace(Net(), (init, xs[0]))

    def step(h, x):
        h = net(h, x)
        return h, h

    leaves = list(net.parameters())
    assert same(lambda fn: fn(step, init, xs, params=leaves)[1].square().mean().backward(), leaves, {"slots": 3})


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_sparse_buffers_are_no_obstacle(layout):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4).double()
            self.register_buffer("adjacency", getattr(torch.eye(4, dtype=D), layout)())

        def forward(self, h, x):
            h = torch.tanh((self.adjacency @ self.inner(h + x).T).T)
            return h, h

    torch.manual_seed(0)
    net, (init, xs) = Net(), data()
    leaves = list(net.parameters())
    assert same(lambda fn: fn(net, init, xs)[1].square().mean().backward(), leaves, {"slots": 3})


# What it costs


def test_what_a_step_holds_as_data_is_not_looked_at(monkeypatch):
    """A dict of words beside the cell, a list of lists in its closure, a large constant buffer: nothing is copied."""

    class Words(dict):
        def items(self):
            raise AssertionError("the words were looked through")

        __iter__ = values = keys = items

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.words = gru(), Words((str(index), index) for index in range(100))
            self.register_buffer("constant", torch.zeros(10**6))

        def forward(self, h, x):
            h = self.cell(x, h)
            return h, h

    net, (init, xs) = Net(), data()
    sizes, cloned = [], torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, "clone", lambda self, **more: sizes.append(self.numel()) or cloned(self, **more))
    scan(net, init, xs, slots=3)[1].sum().backward()
    assert max(sizes, default=0) < 10**4
    nested = [[[0] * 60 for _ in range(60)] for _ in range(60)]

    def step(h, x):
        assert nested
        h = net.cell(x, h)
        return h, h

    visited = []
    inside = membptt.step.reach._inside
    monkeypatch.setattr("membptt.step.reach._inside", lambda *pair: visited.append(pair) or inside(*pair))
    scan(step, init, xs, slots=3, params=net.cell.parameters())
    assert len(visited) < 10 * 8192


# Other accelerators


@pytest.mark.parametrize(("kind", "takes"), [("xpu", 1), ("mps", 0)])
def test_the_generators_of_other_accelerators_are_followed_through_their_own_module(monkeypatch, kind, takes):

    state = torch.zeros(4, dtype=torch.uint8)

    def get(*at):
        assert len(at) == takes
        return state.clone()

    def put(new, *at):
        assert len(at) == takes
        state.copy_(new)

    monkeypatch.setattr(torch, kind, types.SimpleNamespace(get_rng_state=get, set_rng_state=put))
    generators = Generators({torch.device(kind, 0)})
    before = generators.read()
    assert generators.read() is before
    state += 1
    assert generators.read() is not before
    generators.write(before)
    assert int(state.sum()) == 0


def test_a_device_whose_random_numbers_cannot_be_restored_is_refused(monkeypatch):

    monkeypatch.setattr(torch, "hpu", types.SimpleNamespace(), raising=False)
    with pytest.raises(ValueError, match="give preserve_rng_state=False"):
        Generators({torch.device("hpu", 0)})
    assert Generators({torch.device("hpu", 0)}, enabled=False).read() == ()


# Planning runs the step before the scan does; where the scan recomputes nothing, continuity has nothing to compare


PLANNED = [{"budget": "64MiB", "policy": "ism"}, {"budget": "64MiB", "chunk": 12}]
however_planned = pytest.mark.parametrize("options", PLANNED, ids=["stores everything", "one core"])


@however_planned
@pytest.mark.parametrize("place", ["closure", "attribute"])
def test_what_a_step_assigns_to_while_it_is_planned_is_put_back(options, place):
    cell, gains = gru(), nn.Parameter(1 + torch.rand(12, 4, dtype=D))
    leaves = [*cell.parameters(), gains]

    def run(fn):
        at, cell.at, cell.mean = 0, 0, torch.zeros(4, dtype=D)

        def closure(h, x):
            nonlocal at
            h, at = cell(x * gains[at % 12], h), at + 1
            return h, h

        def attribute(h, x):
            h, cell.at = cell(x * gains[cell.at % 11] - cell.mean, h), cell.at + 1
            cell.mean = 0.9 * cell.mean + 0.1 * h.detach().mean(0)
            return h, h

        fn(closure if place == "closure" else attribute, *data(), params=leaves)[1].square().mean().backward()

    assert same(run, leaves, options)


def _with_a_list(gains, cell):
    counter = [0]

    def step(h, x):
        h, counter[0] = cell(x * gains[counter[0] % 11], h), counter[0] + 1
        return h, h

    return step


def _with_an_iterator(gains, cell):
    turns = itertools.cycle(range(11))

    def step(h, x):
        h = cell(x * gains[next(turns)], h)
        return h, h

    return step


def _only_in_the_output(gains, cell):
    turns = itertools.cycle(range(11))

    def step(h, x):
        h = cell(x, h)
        return h, h * gains[next(turns)]

    return step


def _after_a_while(gains, cell):
    counter = []

    def step(h, x):
        counter.append(None)
        h = cell(x * gains[int(len(counter) > 4)], h)
        return h, h

    return step


def _at_its_first_call(gains, cell):
    flags = {"first": True}

    def step(h, x):
        h = cell(x, h + gains[0] if flags["first"] else h)
        flags["first"] = False
        return h, h

    return step


KINDS = [_with_a_list, _with_an_iterator, _only_in_the_output, _after_a_while, _at_its_first_call]


@however_planned
@pytest.mark.parametrize("kind", KINDS)
def test_what_planning_cannot_put_back_is_refused_and_in_the_carry_it_works(options, kind):
    cell, gains = gru(), nn.Parameter(1 + torch.rand(12, 4, dtype=D))
    leaves = [*cell.parameters(), gains]
    with pytest.raises(RuntimeError, match=r"planning runs the step a few times, .* Hand that state on in the carry"):
        scan(kind(gains, cell), *data(), params=leaves, **options)

    def counting(carry, x):
        h, at = carry
        h = cell(x * gains[at % 12], h)
        return (h, at + 1), h

    h0, xs = data()

    def run(fn):
        fn(counting, (h0, torch.tensor(0)), xs, params=leaves)[1].square().mean().backward()

    assert same(run, leaves, options)


def test_planning_a_chain_puts_back_what_a_block_assigns_to_and_refuses_what_it_cannot_put_back():
    torch.manual_seed(0)
    first, second, x = nn.Linear(4, 4).double(), nn.Linear(4, 4).double(), torch.randn(2, 4, dtype=D)
    first.at, turns = 0, itertools.cycle([1.0, 2.0])

    def counts(x):
        first.at += 1
        return first(x) * first.at

    def turning(x):
        return second(x) * next(turns)

    leaves = [*first.parameters(), *second.parameters()]
    membptt.chain([counts, second], x, budget="1MiB", params=leaves).square().sum().backward()
    gradients = [leaf.grad.clone() for leaf in leaves]
    first.at = 0
    for leaf in leaves:
        leaf.grad = None
    second(counts(x)).square().sum().backward()
    assert all(torch.equal(*pair) for pair in zip(gradients, [leaf.grad for leaf in leaves], strict=True))
    with pytest.raises(RuntimeError, match=r"planning runs blocks\[1\] a few times"):
        membptt.chain([first, turning], x, budget="1MiB", params=leaves)


# What has no shape yet, what is computed once, and how a difference is told


def test_lazy_parameters_are_refused_and_after_a_call_they_work():
    cell, (h0, xs) = gru(), data()

    def run(fn, first=True):
        torch.manual_seed(3)
        lazy = nn.LazyLinear(4, dtype=D)

        def step(h, x):
            h = cell(lazy(x), h)
            return h, h

        if first:
            with torch.no_grad():
                step(h0, xs[0])
        fn(step, h0, xs, params=[cell, lazy])[1].square().mean().backward()

    with pytest.raises(ValueError, match="Call the step once before the scan"):
        run(partial(scan, slots=3), first=False)
    assert same(
        lambda fn: run(lambda *args, params, **_: fn(*args, params=params)), list(cell.parameters()), {"slots": 3}
    )


def test_a_parameter_that_the_step_makes_itself_is_named_and_declared_beforehand_it_works():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.gain = gru(), None

        def forward(self, h, x):
            if self.gain is None:
                self.gain = nn.Parameter(torch.full((4,), 1.5, dtype=D))
            h = self.cell(x * self.gain, h)
            return h, h

    h0, xs = data()
    with pytest.raises(ValueError, match="the parameter 'gain', of shape"):
        scan(Net(), h0, xs, slots=3)
    net = Net()
    net(h0, xs[0])  # now it is there, and a parameter of the step's module
    assert same(lambda fn: fn(net, h0, xs)[1].square().mean().backward(), list(net.parameters()), {"slots": 3})


def test_a_weight_that_is_computed_once_is_computed_before_the_scan_and_declared():
    """What continuity cannot see: the first call, without graph, would cache it as a constant."""
    cell, (h0, xs) = gru(), data()
    half = nn.Parameter(torch.randn(4, 4, dtype=D))

    def run(fn):
        weight = half + half.T

        def step(h, x):
            h = cell(x @ weight, h)
            return h, h

        fn(step, h0, xs, params=[cell, weight])[1].square().mean().backward()

    assert same(run, [*cell.parameters(), half], {"slots": 3})


def test_a_small_difference_is_told_in_figures_that_are_not_zero():
    cell, (h0, xs), third = gru(), data(), [1 / 3]

    def step(h, x):
        h = cell(x * third[0], h)
        return h, h

    _, ys = scan(step, h0, xs, slots=3, params=[cell])
    third[0] += 1e-7
    with pytest.raises(RuntimeError, match=r"differs by [1-9]e-0\d% of its size"):
        ys.square().mean().backward()


class _Symmetric(nn.Module):
    def __init__(self, *, keeps):
        super().__init__()
        self.cell, self.root, self.weight, self.keeps = gru(), nn.Parameter(torch.ones(4, 4, dtype=D)), None, keeps
        self.mask = self.looked_at = None

    def forward(self, h, x):
        if self.weight is None or not self.keeps:
            self.weight = self.root + self.root.T
        if self.mask is None:  # a cache of what wants no gradient
            self.mask = torch.arange(4, dtype=D)
        self.looked_at = h = self.cell(self.mask * x @ self.weight, h)
        return h, h


@every_way
def test_a_weight_that_a_module_computes_once_is_refused_and_at_every_step_it_works(options):
    h0, xs = data()
    _, ys = scan(_Symmetric(keeps=True), h0, xs, **options)
    with pytest.raises(RuntimeError, match=r"made at an earlier call, .* found there: 'weight' .* Compute it at"):
        ys.square().mean().backward()
    net = _Symmetric(keeps=False)

    def run(fn):
        net.weight = net.mask = net.looked_at = None
        fn(net, h0, xs)[1].square().mean().backward()

    assert same(run, list(net.parameters()), options)


class _Kept:
    """Where a cache is an attribute, or a property."""

    def __init__(self, compute):
        self.compute, self.weight = compute, None

    @functools.cached_property
    def prop(self):
        return self.compute()

    def attribute(self):
        if self.weight is None:
            self.weight = self.compute()
        return self.weight


def in_a_dict(compute):
    kept = {}
    return lambda: kept["weight"] if "weight" in kept else kept.setdefault("weight", compute())


def in_a_list(compute):
    kept = []
    return lambda: (kept or kept.append(compute()) or kept)[0]


def in_a_variable(compute):
    weight = None

    def get():
        nonlocal weight
        weight = compute() if weight is None else weight
        return weight

    return get


CACHES = {
    "lru_cache": functools.lru_cache,
    "cached_property": lambda compute: partial(getattr, _Kept(compute), "prop"),
    "attribute of an object": lambda compute: _Kept(compute).attribute,
    "dict": in_a_dict,
    "list": in_a_list,
    "variable": in_a_variable,
}


def cached(cache, compute):
    """Return a step that caches what `compute` gives."""
    get = cache(compute)

    def step(h, x):
        h = torch.tanh(x @ get() + h)
        return h, h

    return step


@pytest.mark.parametrize(
    "way", [{"slots": 3}, {"slots": 2, "chunk": 5}, {"slots": 4, "policy": "ism"}, {"budget": "64KiB"}], ids=str
)
@pytest.mark.parametrize("saves", [torch.tanh, torch.t], ids=["tanh", "transposed"])
@pytest.mark.filterwarnings("ignore:the plan promised:membptt.BrokenPromiseWarning")  # the first core does compute more
@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
def test_a_weight_that_is_cached_at_the_first_call_is_refused(cache, saves, way):
    half, (h0, xs) = nn.Parameter(torch.ones(4, 4, dtype=D)), data()
    with pytest.raises(RuntimeError, match="made at an earlier call, from tensors that require grad, and kept"):
        scan(cached(cache, lambda: saves(half)), h0, xs, params=[half], **way)[1].square().mean().backward()


def test_a_weight_that_is_cached_for_every_position_is_refused():
    cell, half, (h0, xs) = gru(), nn.Parameter(torch.ones(4, 4, dtype=D)), data()
    weight = functools.cache(lambda at: half.tanh() / (1 + at))

    def step(carry, x):
        h, at = carry
        h = cell(x @ weight(int(at)), h)
        return (h, at + 1), h

    _, ys = scan(step, (h0, torch.tensor(0)), xs, slots=3, params=[half, cell])
    with pytest.raises(RuntimeError, match="made at an earlier call, from tensors that require grad, and kept"):
        ys.square().mean().backward()


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
def test_what_is_cached_and_wants_no_gradient_is_no_concern(cache):
    half, (h0, xs) = nn.Parameter(torch.ones(4, 4, dtype=D)), data()
    for compute in (lambda: torch.eye(4, dtype=D), lambda: half.detach().tanh(), torch.no_grad()(half.tanh)):

        def run(fn, compute=compute):
            step = cached(cache, compute)
            fn(lambda h, x: step(h, x @ half), h0, xs, params=[half])[1].square().mean().backward()

        assert same(run, [half], {"slots": 3})


def test_what_was_frozen_since_the_first_pass_is_no_concern():
    cell, (h0, xs) = gru(), data()
    _, ys = scan(recurrence(cell), h0, xs, slots=3, params=[cell])
    cell.bias_hh.requires_grad_(False)
    ys.square().mean().backward()
    assert cell.weight_hh.grad is not None


# What is frozen, cast or hooked between forward and backward


@every_way
@pytest.mark.parametrize("declared", [True, False])
def test_weights_that_are_frozen_for_the_forward_only_get_no_gradient_and_may_learn_again(options, declared):
    """As a world model is, through which an actor is trained on imagined steps."""
    world, actor, bias, (h0, xs) = gru(), nn.Linear(4, 4).double(), torch.ones(4, dtype=D), data()

    def step(h, x):
        h = world(x + actor(h).tanh() + bias, h)
        return h, h

    def run(fn):
        world.requires_grad_(False)
        _, ys = fn(step, h0, xs, params=[world, actor] if declared else [actor])
        for weight in (*world.parameters(), bias):
            weight.requires_grad_(True)
        ys.square().mean().backward()
        bias.requires_grad_(False)

    assert same(run, [*actor.parameters(), *world.parameters()], options)
    assert all(weight.grad is None for weight in world.parameters())


def test_blocks_that_are_frozen_for_the_forward_only_may_learn_again():
    torch.manual_seed(0)
    blocks, x = [nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double() for _ in range(8)], torch.randn(2, 4, dtype=D)
    schedules = [build(policy, 8, 2).schedule(8, 2) for policy in ("hsm", "ism")]
    ways = [{"schedule": schedule} for schedule in schedules]
    gradients = []
    for call in (nn.Sequential(*blocks), *[partial(membptt.chain, blocks, **way) for way in ways]):
        for block in blocks:
            block.requires_grad_(block not in blocks[:3]).zero_grad()
        loss = call(x).square().sum()
        for block in blocks:
            block.requires_grad_(True)
        loss.backward()
        assert all(weight.grad is None for block in blocks[:3] for weight in block.parameters())
        gradients.append([weight.grad for block in blocks[3:] for weight in block.parameters()])
    assert all(torch.equal(*pair) for others in gradients[1:] for pair in zip(gradients[0], others, strict=True))


@every_way
def test_hooks_find_what_is_there_when_they_run(options):
    """The step finds what was there at the call; the loop's hooks run in the backward, and so do a scan's."""
    cell, (h0, xs), limit = gru(), data(), 1.0
    cell.limit = torch.tensor(1.0, dtype=D)

    def clip(grad):
        return grad.clamp(-limit, limit).clamp(max=float(cell.limit))

    def step(h, x):
        h = cell(x, h * limit)
        if h.requires_grad:
            h.register_hook(clip)
        return h, h

    def run(fn):
        nonlocal limit
        limit, cell.limit = 1.0, torch.tensor(1.0, dtype=D)
        loss = fn(step, h0, xs, params=[cell])[1].square().mean()
        limit, cell.limit = 1e-2 * loss.item(), torch.tensor(1e-3 * loss.item())
        loss.backward()

    assert same(run, list(cell.parameters()), options)


@every_way
def test_what_a_hook_keeps_is_there_after_the_backward_and_in_the_next(options):
    """As a running mean of the gradient's size is, by which it is clipped."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.size, self.last = gru(), torch.tensor(1e-3, dtype=D), torch.zeros(2, 4, dtype=D)

        def forward(self, h, x):
            self.last = h = self.cell(x, h)  # the step's own: it is as the first pass left it
            if h.requires_grad:
                h.register_hook(self.scaled)
            return h, h

        def scaled(self, grad):
            self.size = 0.9 * self.size + 0.1 * grad.norm()
            return grad * self.size / (self.size + grad.norm())

    kept = []

    def run(fn):
        net = Net()
        for _ in range(3):
            final, ys = fn(net, *data())
            ys.square().mean().backward()
            assert torch.equal(net.last, final)
        kept.append(net.size)
        leaf.grad = net.cell.weight_hh.grad

    leaf = torch.zeros(12, 4, dtype=D)
    assert same(run, [leaf], options)
    assert torch.allclose(*kept)


class _Product(torch.autograd.Function):
    """Takes note of whether its backward is cast."""

    cast: list[bool] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        _Product.cast.append(torch.is_autocast_enabled("cpu"))
        return grad @ weight.T, x.T @ grad


@every_way
@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("product", [torch.matmul, _Product.apply], ids=["formula", "function"])
def test_a_backward_outside_autocast_is_not_cast_though_the_step_is(options, around, product):
    torch.manual_seed(0)
    weight, (h0, xs) = nn.Parameter(torch.randn(4, 4) * 0.5), (leaf.float() for leaf in data())

    def step(h, x):
        with torch.autocast("cpu", enabled=False):  # as what needs more digits is kept out of it
            h = torch.tanh(product(h, weight) + x)
        return h, h

    gradients = []
    for fn in (loop, partial(scan, **options)):
        _Product.cast.clear()
        with torch.autocast("cpu", torch.bfloat16):
            loss = fn(step, h0, xs, params=[weight])[1].square().mean()
        with torch.autocast("cpu", torch.bfloat16, enabled=around):
            gradients += torch.autograd.grad(loss, weight)
        assert set(_Product.cast) <= {around}
    assert torch.allclose(*gradients, rtol=2e-2 if around else 1e-5, atol=0 if not around else 1e-4)


def test_a_second_derivative_outside_autocast_is_not_cast_either():
    torch.manual_seed(0)
    weight, (h0, xs) = nn.Parameter(torch.randn(4, 4) * 0.5), (leaf.float() for leaf in data())

    def step(h, x):
        with torch.autocast("cpu", enabled=False):
            h = torch.tanh(h @ weight + x)
        return h, h

    seconds = []
    for fn in (loop, partial(scan, slots=3)):
        with torch.autocast("cpu", torch.bfloat16):
            loss = fn(step, h0, xs, params=[weight])[1].square().mean()
        (first,) = torch.autograd.grad(loss, weight, create_graph=True)
        seconds += torch.autograd.grad(first.square().sum(), weight)
    assert torch.allclose(*seconds, rtol=1e-4, atol=1e-8)


def test_under_autocast_a_budget_is_planned_without_the_cache_of_casts():
    torch.manual_seed(0)
    layer, (h0, xs) = nn.Linear(4, 4), (leaf.float() for leaf in data())

    def step(h, x):
        h = torch.tanh(layer(h) + layer(x)).float()
        return h, h

    gradients = []
    for fn in (loop, partial(scan, budget="64KiB")):
        with torch.autocast("cpu", torch.bfloat16):
            loss = fn(step, h0, xs, params=[layer])[1].square().mean()
        gradients += torch.autograd.grad(loss, layer.weight)
    assert (gradients[0] - gradients[1]).norm() <= 2e-2 * gradients[0].norm()  # in bfloat16


def test_a_backward_inside_a_cache_of_parametrized_weights_is_refused():
    layer, (h0, xs) = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4).double()), data()
    loss = scan(lambda h, x: (torch.tanh(layer(h) + x),) * 2, h0, xs, slots=3, params=[layer])[1].sum()
    with (
        nn.utils.parametrize.cached(),
        pytest.raises(RuntimeError, match=r"or its backward, runs inside torch.*parametrize\.cached\(\)"),
    ):
        loss.backward(retain_graph=True)
    loss.backward()


# What reads the inputs


@every_way
def test_what_reads_finds_the_variable_of_its_loop_where_it_was(options):
    cell, (h0, xs) = gru(), data()

    def run(fn):
        losses = []
        for part in (xs, -xs, xs.square()):
            read = Indexed(12, lambda start, stop: part[start:stop])  # noqa: B023  (late, which is what is tested)
            losses.append(fn(recurrence(cell), h0, part if fn is loop else read, params=[cell])[1].square().mean())
        sum(losses).backward()

    assert same(run, list(cell.parameters()), options)


@pytest.mark.parametrize("options", [*WAYS, {"budget": "64KiB"}])
def test_what_reads_draws_the_same_again_and_is_in_the_same_mode(options):
    torch.manual_seed(0)
    cell, encoder, (h0, xs) = gru(), nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).double(), data()
    leaves, drawn = [*cell.parameters(), *encoder.parameters()], []

    def read(start, stop):
        return torch.stack([encoder(x) + random.random() for x in xs[start:stop]])

    def run(fn):
        encoder.train()
        inputs = (read(at, at + 1)[0] for at in range(12)) if fn is loop else Indexed(12, read)
        loss = fn(recurrence(cell), h0, inputs, params=leaves)[1].square().mean()
        drawn.append(torch.rand(1))
        encoder.eval()
        loss.backward()

    assert same(run, leaves, options)
    assert torch.equal(*drawn)


def test_running_statistics_of_what_reads_are_refused():
    cell, norm, (h0, xs) = gru(), nn.BatchNorm1d(4).double(), data()
    read = Indexed(12, lambda start, stop: torch.stack([norm(x) for x in xs[start:stop]]))
    with pytest.raises(RuntimeError, match=r"updates 'norm\.running_mean' and .*put the module into eval mode"):
        scan(recurrence(cell), h0, read, slots=3, params=[cell, norm])
    norm.eval()
    scan(recurrence(cell), h0, read, slots=3, params=[cell, norm])[1].sum().backward()


def test_what_reads_may_put_all_it_reads_into_one_tensor():
    cell, (h0, xs), kept = gru(), data(), torch.zeros(1, 2, 4, dtype=D)

    def run(fn):
        read = Indexed(12, lambda start, stop: kept.copy_(xs[start:stop]))
        fn(recurrence(cell), h0, xs if fn is loop else read, params=[cell])[1].square().mean().backward()

    assert same(run, list(cell.parameters()), {"slots": 3})


# Modules that no module registers


class _Hiding(nn.Module):
    def __init__(self, hide, module):
        super().__init__()
        self.cell = gru()
        object.__setattr__(self, "hidden", hide(module))

    def forward(self, h, x):
        hidden = self.hidden.get("a") if isinstance(self.hidden, dict) else self.hidden
        h = self.cell((hidden[0] if isinstance(hidden, (list, tuple)) else hidden)(x), h)
        return h, h


WAYS_TO_HIDE = {
    "list": lambda module: [module],
    "tuple": lambda module: (module,),
    "dict": lambda module: {"a": module},
    "attribute": lambda module: module,
}
hidden = pytest.mark.parametrize("hide", WAYS_TO_HIDE.values(), ids=WAYS_TO_HIDE)


@hidden
def test_running_statistics_of_a_module_that_is_hidden_are_refused_and_through_stateful_they_work(hide):
    norm, (h0, xs) = nn.BatchNorm1d(4).double(), data()
    with pytest.raises(RuntimeError, match=r"updates .*hidden.*\.0\.running_mean.* in place.*Stateful"):
        scan(_Hiding(hide, nn.Sequential(norm)), h0, xs, slots=3, params=[norm])
    means = []
    for scanned in (False, True):
        norm = nn.BatchNorm1d(4).double()
        net = _Hiding(hide, nn.Sequential(norm))
        if scanned:
            stateful = membptt.Stateful(net)
            carry, ys = scan(stateful, stateful.init(h0), xs, slots=3, params=[norm])
            ys.sum().backward()
            stateful.load(carry)
        else:
            loop(net, h0, xs)
        means.append(norm.running_mean)
    assert torch.equal(*means)


@hidden
def test_a_module_that_is_hidden_is_found_in_the_mode_it_was_in(hide):
    dropout, (h0, xs) = nn.Dropout(0.5), data()
    net = _Hiding(hide, dropout)

    def run(fn):
        dropout.train()
        loss = fn(net, h0, xs)[1].square().mean()
        dropout.eval()
        loss.backward()

    assert same(run, list(net.parameters()), {"slots": 3})


def test_of_modules_that_are_hidden_so_many_are_looked_at():
    """Such as a model that a small part of it knows."""
    whole, (h0, xs) = nn.ModuleList(nn.Identity() for _ in range(1000)), data()
    whole.append(net := _Hiding(WAYS_TO_HIDE["list"], nn.Identity()))
    net.hidden.append(whole)
    assert len(Surroundings.of(reach(net)).modules) < 100
    assert same(lambda fn: fn(net, h0, xs)[1].sum().backward(), list(net.parameters()), {"slots": 3})


# Sparse tensors, and the zeros of forward mode


class _Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4).double()
        self.register_buffer("adjacency", torch.eye(6, dtype=D).to_sparse())

    def forward(self, x):
        return torch.tanh(self.adjacency @ self.inner(x))


def _by_jvp(net):
    def block(x):
        value, tangent = torch.func.jvp(lambda x: torch.tanh(net(x)), (x,), (torch.ones_like(x),))
        return value + tangent

    return block


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")  # which torch.func.jvp imports
@pytest.mark.parametrize("kind", ["sparse buffer", "sparse gradient", "sparse state", "jvp"])
def test_a_chain_that_has_sparse_tensors_or_tangents_is_planned(kind):
    torch.manual_seed(0)
    x, state = torch.randn(6, 4, dtype=D), lambda x: x
    embedding = nn.Embedding(9, 4, sparse=True).double()
    layers = [_Graph() if kind == "sparse buffer" else nn.Linear(4, 4).double() for _ in range(5)]
    blocks = list(layers)
    if kind == "sparse gradient":
        x, blocks = torch.arange(6), [embedding, *layers, lambda x: x @ embedding.weight.T]
    if kind == "sparse state":
        x = x, torch.eye(6, dtype=D).to_sparse()
        blocks = [lambda s, layer=layer: (torch.tanh(s[1] @ layer(s[0])), s[1]) for layer in layers]
        state = lambda s: s[0]  # noqa: E731
    if kind == "jvp":
        blocks = [_by_jvp(layer) for layer in layers]
    params = nn.ModuleList([*layers, embedding])

    def gradient(run):
        params.zero_grad()
        state(run(x)).square().sum().backward()
        return [weight.grad.to_dense() for weight in params.parameters() if weight.grad is not None]

    wanted = gradient(lambda x: functools.reduce(lambda x, block: block(x), blocks, x))
    plan = membptt.plan_chain(blocks, x, params=params)
    for budget in ("1MiB", plan.front[0].bytes):
        actual = gradient(partial(membptt.chain, blocks, budget=budget, params=params))
        assert all(map(torch.allclose, actual, wanted))


@every_way
@pytest.mark.parametrize("odd", [True, False])
def test_a_weight_whose_gradient_is_sparse_at_some_steps_and_dense_at_others(options, odd):
    torch.manual_seed(0)
    cell, embedding, (h0, _) = gru(), nn.Embedding(7, 4, sparse=True).double(), data()
    tokens = torch.randint(7, (12, 2)), torch.arange(12)

    def step(h, x):
        token, at = x
        h = cell(embedding(token) if (int(at) % 2 == 0) is odd else embedding.weight[token], h)
        return h, h

    gradients = []
    for fn in (partial(scan, **options), None):
        embedding.weight.grad = None
        if fn is None:
            h, ys = h0, []
            for each in zip(*tokens, strict=True):
                h, y = step(h, each)
                ys.append(y)
            ys = torch.stack(ys)
        else:
            _, ys = fn(step, h0, tokens, params=[cell, embedding])
        ys.square().mean().backward()
        gradients.append(embedding.weight.grad.to_dense())
    assert torch.allclose(*gradients)


@pytest.mark.parametrize("options", [*WAYS, {"budget": "64KiB"}])
def test_sparse_inputs_are_cut_into_steps(options):
    cell, (h0, xs) = gru(), data()
    sparse = (xs * (xs > 0)).to_sparse()

    def step(h, x):
        h = cell(x.to_dense(), h)
        return h, h

    leaves = list(cell.parameters())
    assert same(lambda fn: fn(step, h0, sparse, params=leaves)[1].square().mean().backward(), leaves, options)


# What a step cannot do without a graph, in place, or twice


@pytest.mark.parametrize("way", ["scan", "while_loop"])
@pytest.mark.parametrize(
    "asks",
    [
        lambda h: h.register_hook(lambda grad: grad),
        lambda h: h.retain_grad(),
        lambda h: torch.autograd.grad(h.sum(), h, create_graph=True),
    ],
    ids=["hook", "retain_grad", "grad"],
)
def test_a_step_that_needs_a_graph_everywhere_is_told_how_to_do_without(asks, way):
    cell, (h0, xs) = gru(), data()

    def step(h, x, asks=asks):
        h = cell(x, h)
        asks(h)
        return h, h

    def run(step):
        if way == "scan":
            scan(step, h0, xs, slots=3, params=[cell])[1].sum().backward()
        else:
            start = h0, torch.tensor(0)
            body = lambda carry: (step(carry[0], xs[carry[1]])[0], carry[1] + 1)  # noqa: E731
            membptt.while_loop(lambda carry: carry[1] < 12, body, start, slots=3, params=[cell])[0][0].sum().backward()

    with pytest.raises(RuntimeError, match=r"run without graph .*if h\.requires_grad:.*torch\.func\.grad, or under"):
        run(step)
    run(partial(step, asks=lambda h: asks(h) if h.requires_grad else None))


def test_a_carry_that_is_detached_in_place_is_refused_and_detached_it_works():
    """In the loop, the output of the step before is the same tensor, and cut with it."""
    weight, (h0, xs) = nn.Parameter(torch.ones(4, dtype=D)), data()

    def step_of(cut):
        def step(carry, x):
            h, at = carry
            if int(at) % 4 == 3:
                h = cut(h)
            h = 0.5 * h + weight * x
            return (h, at + 1), h

        return step

    start = h0, torch.tensor(0)
    with pytest.raises(RuntimeError, match=r"cuts the carry it was given in place \(detach_\(\)"):
        scan(step_of(torch.Tensor.detach_), start, xs, slots=3, params=[weight])[1].sum().backward()
    cuts = step_of(torch.Tensor.detach)
    assert same(lambda fn: fn(cuts, start, xs, params=[weight])[1].square().mean().backward(), [weight], {"slots": 3})


def test_a_step_that_fails_only_when_it_is_run_again_is_told_why():
    cell, (h0, xs) = gru(), data()
    targets = iter(xs)

    def step(h, x):
        h = cell(x + next(targets), h)
        return h, h

    _, ys = scan(step, h0, xs, slots=3, params=[cell])
    with pytest.raises(StopIteration) as raised:
        ys.sum().backward()
    assert any("runs the step again" in note and "used up" in note for note in raised.value.__notes__)


def local_learning(local, accumulate):
    """A step that learns by a loss of its own, and hands nothing of that on."""

    def step(h, x):
        with torch.enable_grad():
            loss = (local(h.detach()) - x).square().sum()
            share = accumulate(loss, local.weight)
        h = torch.tanh(h + x)
        return h, (h, share)

    return step


def by_backward(loss, weight):
    loss.backward()
    return torch.zeros_like(weight)


def by_grad(loss, weight):
    return torch.autograd.grad(loss, weight)[0]


@pytest.mark.parametrize(
    "options", [{"slots": 2}, {"slots": 9, "policy": "ism"}, {"budget": "2KiB"}, {"slots": 2, "chunk": 3}]
)
def test_a_step_that_calls_backward_inside_is_refused_and_with_autograd_grad_it_works(options):
    local, init, xs = nn.Linear(3, 3, bias=False), torch.zeros(3, requires_grad=True), torch.randn(9, 3)

    def run():
        scan(local_learning(local, by_backward), init, xs, params=local, **options)[1][0].sum().backward()

    if options.get("policy") == "ism":  # each core is run once only, as in the loop
        run()
        actual = local.weight.grad.clone()
    else:
        with pytest.raises(RuntimeError, match=r"the step calls backward\(\) inside") as said:
            run()
        assert "take that gradient by torch.autograd.grad, and return it" in str(said.value)
        _, (ys, shares) = scan(local_learning(local, by_grad), init, xs, params=local, **options)
        ys.sum().backward()
        actual = shares.detach().sum(0)
    local.weight.grad = None
    h, step = init.detach(), local_learning(local, by_backward)
    for x in xs:
        h, _ = step(h, x)
    torch.testing.assert_close(actual, local.weight.grad)


def test_a_block_that_calls_backward_inside_is_refused():
    local, x = nn.Linear(3, 3, bias=False), torch.randn(4, 3, requires_grad=True)

    class Learns(nn.Module):
        def __init__(self):
            super().__init__()
            self.local, self.inner = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            with torch.enable_grad():
                self.local(x.detach()).sum().backward()
            return torch.tanh(self.inner(x))

    blocks = [Learns() for _ in range(6)]
    with pytest.raises(RuntimeError, match=r"calls backward\(\) inside"):
        membptt.chain([*blocks, local], x, budget="1MiB")
    y = membptt.chain([*blocks, local], x, schedule=build("hsm", 7, 2).schedule(7, 2))
    with pytest.raises(RuntimeError, match=r"calls backward\(\) inside"):
        y.sum().backward()


def test_gradients_that_another_thread_adds_meanwhile_are_not_the_steps():
    """As where several threads train one model."""
    cell, init, xs, calls = nn.RNNCell(3, 3), torch.zeros(1, 3), torch.randn(9, 1, 3), []

    def step(h, x):
        h = cell(x, h)
        return h, h

    def meanwhile(h, x):
        calls.append(1)
        if len(calls) in (2, 20):
            thread = threading.Thread(target=lambda: cell(torch.ones(1, 3)).sum().backward())
            thread.start()
            thread.join()
        return step(h, x)

    scan(meanwhile, init, xs, slots=2, params=cell)[1].sum().backward()
    expected = torch.autograd.grad(scan(step, init, xs, slots=9, params=cell)[1].sum(), list(cell.parameters()))
    others = torch.autograd.grad(cell(torch.ones(1, 3)).sum(), list(cell.parameters()))
    assert len(calls) >= 20
    for parameter, mine, other in zip(cell.parameters(), expected, others, strict=True):
        torch.testing.assert_close(parameter.grad, mine + 2 * other)
