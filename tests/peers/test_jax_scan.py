"""What JAX's tests of `lax.scan`, `lax.while_loop` and `lax.map` ask for."""

from collections import namedtuple

import pytest
import torch
from torch import nn

from membptt import Indexed, scan, while_loop

from .behaviours import answers, apart
from .loops import D, assert_loops, assert_scans, leaf, looped, total

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")  # of torch's forward mode
WEIGHT = torch.linspace(0.1, 0.9, 2, dtype=D)


def step(c, a):
    b = torch.cos(a.sin().sum(-1) + c.cos().sum(-1) + WEIGHT.sum())
    return torch.sin(c * b[..., None]), b


def problem(*batch):
    return leaf(*batch, 4), leaf(5, *batch, 3, seed=1)


@answers("testScanImpl", "testScanGrad", "testScanRnn")
def test_values_and_gradients():
    """Values and gradients of a scan are those of the loop."""
    c, a = problem()
    assert_scans(step, c, a, wanted=(c, a))
    weight, x = leaf(2, 6), leaf(3, 4, seed=1)
    assert_scans(
        lambda h, x: (torch.tanh(weight @ torch.cat([h, x])), h.exp()),
        torch.zeros(2, dtype=D),
        x,
        wanted=(weight, x),
        params=[weight],
    )


@answers("testScanJVP", "testScanLinearize", "testWhileJVP")
def test_tangents():
    """Forward mode: a tangent is carried along."""
    c, a = (leaf.detach() for leaf in problem())
    computed = torch.func.jvp(lambda c, a: total(scan(step, c, a, slots=2)), (c, a), (c, a))
    expected = torch.func.jvp(lambda c, a: total(looped(step, c, a)), (c, a), (c, a))
    torch.testing.assert_close(computed, expected)


@answers("testScanHigherOrderDifferentiation")
def test_second_derivatives():
    """Derivatives of derivatives."""
    c, a = problem()
    assert torch.autograd.gradgradcheck(lambda c, a: scan(step, c, a, slots=2), (c, a))


@answers("testScanVmap", "testScanVmapTuples")
def test_mapped():
    """`vmap` of a scan, and of its gradient, over carry or inputs."""
    c, a = (leaf.detach() for leaf in problem(7))
    run = torch.func.vmap(torch.func.grad(lambda c, a: total(scan(step, c, a, slots=2))), in_dims=(0, 1))
    expected = torch.stack(
        [torch.func.grad(lambda c, a: total(looped(step, c, a)))(c[at], a[:, at]) for at in range(7)]
    )
    torch.testing.assert_close(run(c, a), expected)


@answers("testIssue711", "testIssue757")
def test_a_gradient_inside():
    """A step that differentiates inside, and a gradient around it."""
    gain, x0 = leaf(), leaf(3, seed=1)

    def descend(x, _):
        slope = torch.func.grad(lambda x: (x.sin() * gain).sum())(x)
        return x - 0.1 * slope, None

    carries = []
    for run, way in ((scan, {"slots": 2, "params": [gain]}), (looped, {})):
        carry, _ = run(lambda x, at: (descend(x, at)[0], at), x0, torch.arange(5), **way)
        carries.append(torch.autograd.grad(torch.sin(1 - carry).sum(), (gain, x0)))
    torch.testing.assert_close(*carries)


@answers("testIssue744", "test_scan_init_weak_type")
def test_named_tuples_and_numbers():
    """Named tuples as carry; numbers among the inputs, which have no time, are constants here."""
    point = namedtuple("Point", "x y")
    carry, ys = scan(
        lambda p, at: (point(p.x + at, p.y * 2), p.x), point(torch.ones(()), torch.ones(())), torch.arange(5), slots=2
    )
    assert type(carry) is point
    assert (float(carry.x), float(carry.y), ys.tolist()) == (11, 32, [1, 1, 2, 4, 7])
    with pytest.raises(ValueError, match="or the number of steps, length="):
        scan(lambda p, at: (p, at), torch.ones(()), list(range(5)), slots=2)


@answers("testScanBodyOutputError")
def test_no_pair():
    """A step that returns no pair: an error that says what it returned."""
    with pytest.raises(TypeError, match=r"must return a pair \(carry, y\), got Tensor at step 0"):
        scan(lambda c, x: c, torch.zeros(()), torch.arange(5), slots=2)


@answers("testScanBodyCarryPytreeMismatchErrors", "testScanBodyCarryTypeMismatchErrors", "testScanMetadataError")
@pytest.mark.parametrize(
    "body",
    [
        lambda x, _: ((x[0],), None),
        lambda x, _: ([x[0], x[1]], None),
        lambda x, _: ({"a": x[0]}, None),
        lambda x, _: ((x[0].float(), x[1]), None),
        lambda x, _: ((x[0].reshape(1, 1), x[1]), None),
        lambda x, _: ((0, x[1]), None),
    ],
)
def test_another_carry(body):
    """A carry of another structure, shape or dtype: an error that shows both."""
    with pytest.raises(ValueError, match=r"step 0 returned .*(carry of|in place of)"):
        scan(body, (torch.tensor(0), torch.tensor(1)), length=1, slots=2)


@answers("test_scan_reverse")
def test_reverse():
    """A cumulative sum from either end, in tensors and in what is read."""
    xs = torch.tensor([3, 1, 4, 1, 5, 9])
    for reverse in (False, True):
        expected = xs.flip(0).cumsum(0).flip(0) if reverse else xs.cumsum(0)
        for given in (xs, Indexed(6, lambda start, stop: xs[start:stop])):
            _, ys = scan(lambda c, x: (c + x, c + x), torch.tensor(0), given, reverse=reverse, slots=2, chunk=4)
            assert torch.equal(ys, expected)


@answers("test_scan_unroll", "testScanInvalidUnrollRaises")
def test_unroll():
    """JAX's `unroll` is `chunk` here, says the error, and any is right; none, or fewer, is refused."""
    c, a = problem()
    with pytest.raises(TypeError, match="give chunk=2"):
        scan(step, c, a, slots=2, unroll=2)
    expected = torch.autograd.grad(total(looped(step, c, a)), (c, a))
    for chunk in range(1, 7):
        computed = torch.autograd.grad(total(scan(step, c, a, slots=2, chunk=chunk)), (c, a))
        torch.testing.assert_close(computed, expected)
    for chunk in (0, -1):
        with pytest.raises(ValueError, match="chunk must be at least 1"):
            scan(step, c, a, slots=2, chunk=chunk)


@answers("testMap", "testMapEmpty")
@pytest.mark.parametrize("length", [10, 0])
def test_map(length):
    """A scan without a carry maps, also nothing."""
    xs = torch.arange(length)
    _, ys = scan(lambda nothing, x: ((), x * x), (), xs, slots=2)
    assert torch.equal(ys, xs * xs)


@answers("testWhileCondConstant")
def test_no_step_at_all():
    """A loop whose condition never holds returns what it was given."""
    assert while_loop(lambda c: False, lambda c: c, (), slots=2) == ((), 0)


@answers("testForiLoopBatched", "testStaticForiGrad", "testWhileJVPViaForiLoop")
def test_a_counted_loop():
    """A loop with a counter: `xs=torch.arange(n)`, or `length=n` where the step does not look at it."""
    x = leaf(3)
    assert_scans(lambda c, i: (torch.sin(c) * (i + 1), None), x, torch.arange(4), wanted=(x,))
    assert_scans(lambda c, _: (2 * c, c), x, wanted=(x,), length=3)


@answers("testIssue649", "testIssue514")
def test_a_loop_with_constants():
    """A number in the carry of a loop is a constant; one that changes is a tensor."""
    carry, steps = while_loop(lambda c: c[1] < 10, lambda c: (c[0], c[1] + 1), (33, torch.tensor(4)), slots=2)
    assert (carry[0], int(carry[1]), steps) == (33, 10, 6)
    with pytest.raises(ValueError, match="7 in place of 33"):
        while_loop(lambda c: c[1] < 10, lambda c: (7, c[1] + 1), (33, torch.tensor(4)), slots=2)


@answers("testWhileJVPWithGrowingNonzeroTangents")
def test_a_loop_whose_carry_begins_to_depend():
    """A loop whose carry comes to depend on what wants a gradient only as it goes on."""
    x, y, z = leaf(2), torch.ones(2, dtype=D), torch.ones(2, dtype=D)
    steps = assert_loops(
        lambda c: c[0] < 2,
        lambda c: (c[0] + 1, c[1], c[1] * c[1], c[2] * c[2]),
        (torch.tensor(0), x, y, z),
        wanted=(x,),
    )
    assert steps == 2


@answers("testCaching")
def test_modules():
    """The same step again and again; parameters of a module are found by themselves."""

    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2).double()

        def forward(self, c, x):
            return torch.tanh(self.inner(c) + x), c

    cell, init, xs = Cell(), leaf(2), leaf(4, 2, seed=1)
    for _ in range(2):
        assert_scans(cell, init, xs, wanted=(init, xs, *cell.parameters()))


apart(
    __name__,
    "testScanVmapFixpoint",
    asks="A constant in the carry that becomes mapped as it goes on",
    why="every leaf of the carry is a tensor of one shape from the start",
)
apart(
    __name__,
    "testIssue804",
    "test_caches_depend_on_axis_env",
    asks="Collectives inside the step, by the name of an axis",
    why="torch has no named axes; wrappers of DDP go around the scan",
)
