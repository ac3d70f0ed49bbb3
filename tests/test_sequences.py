"""Sequences as JAX has them: run from either end, of any length, with constants among carry and inputs."""

from collections import namedtuple
from dataclasses import dataclass
from itertools import product

import optree
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from membptt import Indexed, Stateful, plan, scan
from membptt.run.order import Order

from .cells import relative_error
from .strategies import POLICIES, policies

D = torch.float64
HIDDEN = {"slots": 3, "spill": True}
WAYS = [{"slots": 3, "policy": name, **sizes} for name, sizes in POLICIES] + [HIDDEN]


class Cell(nn.Module):
    """A carry of real, complex and whole numbers, a constant, and an output of each kind."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.turn = nn.Linear(3, 3).double(), nn.Parameter(torch.randn(3, dtype=torch.complex128))

    def start(self):
        h = torch.randn(2, 3, dtype=D, requires_grad=True)
        z = torch.randn(2, 3, dtype=torch.complex128, requires_grad=True)
        return {"h": h, "z": z, "count": torch.zeros(2, dtype=torch.int64), "gain": 0.5}

    def forward(self, carry, x):
        h, z, count, gain = (carry[name] for name in ("h", "z", "count", "gain"))
        drive = x["x"] * x["scale"] if x is not None and x["mode"] == "scaled" else 0.1
        h = torch.tanh(gain * self.inner(h) + drive)
        z = torch.tanh(z * self.turn + h)
        return {"h": h, "z": z, "count": count + 1, "gain": gain}, (h * count[:, None], z)

    def segment(self, carry, xs):
        ys = []
        for x in xs["x"]:
            carry, y = self(carry, xs | {"x": x})
            ys.append(y)
        return carry, optree.tree_map(lambda *leaves: torch.stack(leaves), *ys)


def looped(step, init, xs, length, *, reverse, reduce):
    """What `scan` must equal."""
    carry, ys = init, [None] * length
    for at in reversed(range(length)) if reverse else range(length):
        carry, ys[at] = step(carry, xs | {"x": xs["x"][at]} if xs is not None else None)
    ys = optree.tree_map(lambda *leaves: torch.stack(leaves), *ys)
    return carry, ys if reduce is None else optree.tree_map(lambda leaf: getattr(leaf, reduce)(0), ys)


def gradients(result, leaves):
    total = 0
    for leaf in optree.tree_leaves(result):
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad:
            leaf = torch.view_as_real(leaf) if leaf.is_complex() else leaf
            total = total + (torch.linspace(-1, 1, leaf.numel(), dtype=D).cos().reshape(leaf.shape) * leaf).sum()
    return torch.autograd.grad(total, leaves)


def assert_equals_the_loop(length, *, inputs, segments, reverse, reduce, chunk, **way):
    cell = Cell()
    init, x = cell.start(), torch.randn(length, 2, 3, dtype=D, requires_grad=True)
    xs = {"x": x, "scale": 2, "mode": "scaled"} if inputs != "none" else None
    given = xs
    if inputs == "read":
        given = Indexed(length, lambda start, stop: xs | {"x": x[start:stop]})
    options = {"params": [x] if inputs == "read" else None, "length": length if inputs == "none" else None}
    step = cell.segment if segments else cell
    result = scan(step, init, given, segments=segments, reverse=reverse, reduce=reduce, chunk=chunk, **options, **way)
    expected = looped(cell, init, xs, length, reverse=reverse, reduce=reduce)
    assert result[0]["gain"] == 0.5
    assert torch.equal(result[0]["count"], expected[0]["count"])
    wanted = [init["h"], init["z"], *cell.parameters(), *([x] if xs is not None else [])]
    computed, true = gradients(result, wanted), gradients(expected, wanted)
    values = ([leaf.detach() for leaf in (carry["h"], *ys)] for carry, ys in (result, expected))
    assert relative_error(*values) <= 1e-10
    assert relative_error(computed, true) <= 1e-10


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_either_order_equals_the_loop_exhaustive(way):
    for length, inputs, reverse in product((1, 4), ("given", "none", "read"), (False, True)):
        assert_equals_the_loop(length, inputs=inputs, segments=False, reverse=reverse, reduce=None, chunk=1, **way)


@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
def test_either_order_equals_the_loop_at_every_length_and_chunk_exhaustive(reduce):
    for length, chunk, segments in product((1, 2, 5), (1, 2, 3), (False, True)):
        for inputs in ("given", "read") if segments else ("given", "none", "read"):
            options = {"inputs": inputs, "segments": segments, "reduce": reduce, "chunk": chunk}
            assert_equals_the_loop(length, reverse=True, slots=2, **options)


@given(
    policies(),
    st.integers(1, 20),
    st.sampled_from(["given", "none", "read"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "sum", "mean"]),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_either_order_equals_the_loop_hypothesis(policy, length, inputs, segments, reverse, reduce, chunk, slots):
    name, sizes = policy
    options = {"reverse": reverse, "reduce": reduce, "chunk": chunk, "slots": slots, "policy": name, **sizes}
    assert_equals_the_loop(length, inputs=inputs, segments=segments and inputs != "none", **options)


@pytest.mark.parametrize("inputs", ["given", "none", "read"])
def test_second_derivatives_of_either_order(inputs):
    cell = Cell()
    init, x = cell.start(), torch.randn(5, 2, 3, dtype=D, requires_grad=True)
    xs = {"x": x, "scale": 2, "mode": "scaled"} if inputs != "none" else None
    given = Indexed(5, lambda start, stop: xs | {"x": x[start:stop]}) if inputs == "read" else xs
    wanted = [init["h"], *cell.parameters(), *([x] if xs is not None else [])]
    options = {"params": [x] if inputs == "read" else None, "length": 5 if inputs == "none" else None}
    for reverse in (False, True):
        results = [
            scan(cell, init, given, reverse=reverse, slots=2, chunk=2, **options),
            looped(cell, init, xs, 5, reverse=reverse, reduce=None),
        ]
        twice = []
        for _, ys in results:
            loss = ys[0].square().sum() + torch.view_as_real(ys[1]).square().sum()
            first = torch.autograd.grad(loss, wanted, create_graph=True)
            twice.append(torch.autograd.grad(sum(leaf.abs().square().sum() for leaf in first), wanted))
        torch.testing.assert_close(*twice, rtol=1e-9, atol=1e-12)


def test_outputs_of_a_core_that_are_not_turned_round_are_caught(monkeypatch):
    def straight(self, sequence, at, part):
        sequence[self.place(at)] = part

    monkeypatch.setattr(Order, "enter", straight)
    with pytest.raises(AssertionError):
        assert_equals_the_loop(5, inputs="given", segments=True, reverse=True, reduce=None, chunk=3, slots=2)


def test_a_carry_alone_needs_a_length_and_no_inputs():
    carry, ys = scan(lambda c, x: (2 * c, x), torch.ones(2), length=5, slots=2)
    assert ys is None
    assert torch.equal(carry, torch.full((2,), 32.0))


@pytest.mark.parametrize("options", [{"budget": "1MiB"}, {"slots": 2}])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_plan_and_a_budget_take_a_length_and_either_order(options, reverse):
    cell = Cell()
    init = cell.start()
    expected = gradients(looped(cell, init, None, 5, reverse=reverse, reduce=None), list(cell.parameters()))
    for way in (options, {"plan": plan(cell, init, length=5, budget="1MiB")}):
        computed = gradients(scan(cell, init, length=5, reverse=reverse, **way), list(cell.parameters()))
        assert relative_error(computed, expected) <= 1e-10


def test_a_budget_is_planned_anew_for_another_constant():
    """With a wide step the plan of a narrow one would promise too few bytes."""

    def step(carry, x):
        h, width = carry
        return (torch.tanh(h.repeat(width)).view(width, -1).mean(0), width), None

    h = torch.ones(1000, requires_grad=True)
    for width in (1, 50):
        with pytest.raises(ValueError, match="smallest") as refused:
            scan(step, (h, width), length=4, budget=100)
        if width == 1:
            narrow = str(refused.value)
    assert str(refused.value) != narrow


# ---- no step ----


@pytest.mark.parametrize("reduce", [None, "sum"])
@pytest.mark.parametrize("inputs", ["given", "none", "read"])
@pytest.mark.parametrize("segments", [False, True])
def test_a_sequence_of_length_0_gives_the_carry_as_it_came_and_outputs_of_length_0(segments, inputs, reduce):
    cell = Cell()
    init, x = cell.start(), torch.randn(0, 2, 3, dtype=D)
    xs = {"x": x, "scale": 2, "mode": "scaled"}
    given = {"given": xs, "none": None, "read": Indexed(0, lambda start, stop: xs)}[inputs]
    if segments and inputs == "none":
        return
    length = 0 if inputs == "none" else None
    step = cell.segment if segments else cell
    carry, (reals, turned) = scan(step, init, given, length=length, segments=segments, reduce=reduce, slots=2)
    assert carry is init
    shape = (0, 2, 3) if reduce is None else (2, 3)
    assert (reals.shape, reals.dtype, turned.shape, turned.dtype) == (shape, D, shape, torch.complex128)
    assert not reals.any()


def test_what_a_step_keeps_is_as_it_was_after_no_step():
    norm, drawn = nn.BatchNorm1d(3), []

    def step(carry, x):
        drawn.append(torch.rand(1))
        return norm(carry), x

    before, kept = torch.get_rng_state(), {name: leaf.clone() for name, leaf in norm.state_dict().items()}
    scan(step, torch.ones(2, 3), torch.ones(0, 3), slots=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(leaf, kept[name]) for name, leaf in norm.state_dict().items())
    assert all(type(leaf) is torch.Tensor for leaf in norm.state_dict().values())
    net = Stateful(norm)
    _, ys = scan(net, net.init(), torch.ones(0, 2, 3), slots=2)
    assert ys.shape == (0, 2, 3)


def test_a_step_that_looks_at_its_numbers_has_no_outputs_of_length_0():
    with pytest.raises(ValueError, match="Give at least one step"):
        scan(lambda c, x: (c, x.tolist() and x), torch.ones(()), torch.ones(0), slots=2)
    with pytest.raises(ValueError, match="carry of structure"):
        scan(lambda c, x: ((c, c), x), torch.ones(()), torch.ones(0), slots=2)
    with pytest.raises(ValueError, match="nothing to plan"):
        plan(lambda c, x: (c, x), torch.ones(()), torch.ones(0), budget="1MiB")


# ---- constants, and classes ----


@pytest.mark.parametrize("constant", [3, -0.0, float("nan"), True, "word", 1j])
def test_a_constant_reaches_every_step_unchanged(constant):
    seen = []

    def step(carry, x):
        seen.append((carry["k"], x[1]))
        return {"h": torch.tanh(carry["h"] + x[0]), "k": carry["k"]}, carry["h"]

    h = torch.ones(2, dtype=D, requires_grad=True)
    carry, _ = scan(step, {"h": h, "k": constant}, (torch.ones(5, 2, dtype=D), constant), slots=2, chunk=2)
    carry["h"].sum().backward()
    assert {repr(value) for pair in seen for value in pair} == {repr(carry["k"])} == {repr(constant)}
    assert {type(value) for pair in seen for value in pair} == {type(constant)}


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, True), (0.0, -0.0), ("a", "b"), (1, torch.ones(()))])
def test_a_constant_that_changes_is_refused_at_whatever_step(before, after):
    for late in (0, 1):
        calls = []

        def step(carry, x, late=late, calls=calls):
            calls.append(x)
            return (carry[0] + x, after if len(calls) > late else before), None

        with pytest.raises(ValueError, match=rf"step {late} returned .* in place of .*, carry\[1\]: numbers, bools"):
            scan(step, (torch.ones(()), before), torch.ones(3), slots=2)


CONSTANTS = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text(max_size=3)
TREES = st.recursive(
    CONSTANTS | st.just("a tensor"),
    lambda below: st.lists(below, max_size=3) | st.tuples(below, below) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


def filled(tree, tensor):
    """A tree with tensors where it says so."""
    return optree.tree_map(lambda leaf: tensor() if leaf == "a tensor" else leaf, tree)


@given(TREES, TREES)
def test_any_tree_of_tensors_and_constants_goes_through_a_scan_hypothesis(carry, inputs):
    start = torch.ones(2, dtype=D, requires_grad=True), filled(carry, lambda: torch.ones(2, dtype=D))
    xs = torch.ones(3, 2, dtype=D), filled(inputs, lambda: torch.ones(3, 2, dtype=D))
    seen = []

    def step(state, x):
        seen.append(repr(optree.tree_map(is_tensor_or, x[1])))
        rest = optree.tree_map(lambda leaf: leaf.sin() if isinstance(leaf, torch.Tensor) else leaf, state[1])
        return (torch.sin(state[0] + x[0]), rest), state[0]

    (h, rest), _ = scan(step, start, xs, slots=1)
    (gradient,) = torch.autograd.grad(h.sum(), start[0])
    assert torch.allclose(gradient, torch.autograd.grad(looped_sine(start[0]), start[0])[0])
    assert {repr(inputs)} == set(seen)
    assert repr(optree.tree_map(is_tensor_or, rest)) == repr(carry)


def is_tensor_or(leaf):
    """What stands for a leaf in the tree that it was filled into."""
    return "a tensor" if isinstance(leaf, torch.Tensor) else leaf


def looped_sine(h):
    for _ in range(3):
        h = torch.sin(h + 1)
    return h.sum()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_constant_is_compiled_in():
    def step(carry, x):
        h, gain = carry
        return (torch.tanh(gain * h + x), gain), h

    h, xs = torch.ones(2, dtype=D, requires_grad=True), torch.ones(4, 2, dtype=D)
    eager, compiled = (scan(step, (h, 0.5), xs, slots=2, chunk=2, compile=flag)[0][0].sum() for flag in (False, True))
    torch.testing.assert_close(*(torch.autograd.grad(total, h)[0] for total in (eager, compiled)))


Pair = namedtuple("Pair", "h c")


class Box:
    """A class that torch's pytree is told of."""

    def __init__(self, h, c):
        self.h, self.c = h, c


torch.utils._pytree.register_pytree_node(Box, lambda box: ([box.h, box.c], None), lambda parts, _: Box(*parts))


@dataclass
class Data:
    h: torch.Tensor
    c: torch.Tensor


torch.export.register_dataclass(Data)


@pytest.mark.parametrize("kind", [Pair, Box, Data])
def test_classes_that_torch_knows_are_trees(kind):
    cell = nn.LSTMCell(3, 4).double()
    start = [torch.zeros(2, 4, dtype=D) for _ in range(2)]
    xs = torch.randn(6, 2, 3, dtype=D)

    def step(carry, x):
        carry = kind(*cell(x.h - x.c, (carry.h, carry.c)))
        return carry, kind(carry.h, carry.c)

    carry, ys = scan(step, kind(*start), kind(xs, 2 * xs), slots=2, chunk=2, params=cell)
    assert type(carry) is type(ys) is kind
    state, hs = start, []
    for x in xs:
        state = cell(-x, state)
        hs.append(state[0])
    torch.testing.assert_close(ys.h, torch.stack(hs))
    computed, expected = (
        torch.autograd.grad(leaf.sum(), [*cell.parameters()]) for leaf in (carry.c + ys.h.sum(0), state[1] + sum(hs))
    )
    assert relative_error(computed, expected) <= 1e-10


@pytest.mark.parametrize("read", [False, True])
def test_a_sequence_that_is_run_from_its_end_is_planned(read):
    cell, xs = torch.nn.GRUCell(3, 4), torch.randn(300, 2, 3)  # longer than what planning runs

    def step(h, x):
        h = cell(x, h)
        return h, h

    inputs = Indexed(len(xs), lambda start, stop: xs[start:stop]) if read else xs
    _, ys = scan(step, torch.zeros(2, 4), inputs, reverse=True, budget="64KiB", params=cell)
    _, wanted = scan(step, torch.zeros(2, 4), xs, reverse=True, slots=8, params=cell)
    assert torch.equal(ys, wanted)
