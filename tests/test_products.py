"""Gradients of weights that a core only multiplies with are added to their sums in place, and are the same."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from membptt import plan_chain, scan
from membptt.run.adjoint import Adjoint
from membptt.state import products

from .cells import relative_error

SIZE, STEPS, D = 192, 6, torch.float64  # a weight is worth looking at where a core has several products, too
assert SIZE**2 >= products.SMALL


def linear(h, x, w, b):
    return nn.functional.linear(h, w, b)


def hooked(h, x, w, b):
    turned = w.t()
    if turned.requires_grad:
        turned.register_hook(lambda grad: 3 * grad)
    return torch.addmm(b, h, turned)


def hooked_deep_inside(h, x, w, b):
    h = nn.functional.linear(h, w, b)
    if h.grad_fn is not None:
        h.grad_fn.next_functions[2][0].register_hook(lambda grads, _: (2 * grads[0],))
    return h


def hooked_behind(h, x, w, b):
    h = nn.functional.linear(h, w, b)
    if h.requires_grad:
        h.register_hook(lambda grad: 3 * grad)
    return h


def turned_before(h, x, w, b):
    turned = w.t()
    return torch.addmm(b, h, turned) + turned[0]


STEPS_OF = {
    "linear": linear,
    "without bias": lambda h, x, w, b: h @ w.t() + x * b,
    "not turned": lambda h, x, w, b: h @ w + b,
    "twice": lambda h, x, w, b: nn.functional.linear(h, w, b) + nn.functional.linear(x, w),
    "bias twice": lambda h, x, w, b: nn.functional.linear(h, w, b) * b,
    "added elsewhere": lambda h, x, w, b: nn.functional.linear(h, w, b) + w.sum(0),
    "turned once for two": turned_before,
    "scaled": lambda h, x, w, b: torch.addmm(b, h, w.t(), alpha=0.5, beta=3.0),
    "of a product": lambda h, x, w, b: torch.addmm(h, x, w) + b,
    "hooked": hooked,
    "hooked deep inside": hooked_deep_inside,
    "hooked behind": hooked_behind,
    "in a region": lambda h, x, w, b: checkpoint(linear, h, x, w, b, use_reentrant=False),
    "wide": lambda h, x, w, b: nn.functional.linear(h.repeat(SIZE, 1), w, b)[:2],
    "at some steps": lambda h, x, w, b: nn.functional.linear(h, w, b) if x[0, 0] > 0 else h * b,
    "frozen": lambda h, x, w, b: nn.functional.linear(h, w, b.detach()),
}


def parts(bias=SIZE):
    torch.manual_seed(0)
    w, b = (torch.randn(*shape, dtype=D) / 8 for shape in ((SIZE, SIZE), (bias,)))
    tensors = w.requires_grad_(), b.requires_grad_(), torch.randn(2, SIZE, dtype=D, requires_grad=True)
    return tensors, torch.randn(STEPS, 2, SIZE, dtype=D)


def ends(run, wrapped, bias=SIZE):
    (w, b, h), xs = parts(bias)

    def step(h, x):
        h = torch.tanh(wrapped(h, x, w, b))
        return h, (h, w) if run is with_weight else h

    return torch.autograd.grad(run(step, h, xs, [w, b]), (w, b, h), allow_unused=True)


def by_loop(step, h, xs, params):
    total = 0
    for x in xs:
        h, y = step(h, x)
        total = total + y.square().sum()
    return total


def by_scan(step, h, xs, params, chunk=1):
    return scan(step, h, xs, params=params, slots=2, chunk=chunk)[1].square().sum()


def are_equal(actual, expected):
    pairs = [(a, b) for a, b in zip(actual, expected, strict=True) if b is not None]
    return relative_error(*(list(each) for each in zip(*pairs, strict=True))) <= 1e-10


@pytest.mark.parametrize("chunk", [1, 2, STEPS])
@pytest.mark.parametrize("context", [nullcontext, save_on_cpu], ids=["", "packed"])
@pytest.mark.parametrize("name", STEPS_OF)
def test_gradients_are_those_of_the_loop_whatever_a_weight_is_used_for(name, context, chunk):
    with context():
        assert are_equal(*(ends(run, STEPS_OF[name]) for run in (partial(by_scan, chunk=chunk), by_loop)))


# Uses of a weight `w`, or of its bias `b`, of which any may meet any other; beside a second weight, `v`.
USES = {
    "of the carry": lambda h, x, w, b, v: nn.functional.linear(h, w, b),
    "of the input": lambda h, x, w, b, v: nn.functional.linear(x, w, b),
    "of an earlier use": lambda h, x, w, b, v: nn.functional.linear(torch.tanh(h @ w.t()), w, b),
    "not turned": lambda h, x, w, b, v: h @ w,
    "of another weight": lambda h, x, w, b, v: nn.functional.linear(h, v, b),
    "of any other weight": lambda h, x, w, b, v: nn.functional.linear(x, v),
    "scaled": lambda h, x, w, b, v: torch.addmm(b, h, w.t(), alpha=0.5, beta=3.0),
    "scaled bias": lambda h, x, w, b, v: torch.addmm(b, h, v.t(), beta=3.0),
    "from the left": lambda h, x, w, b, v: (w @ h.t()).t(),
    "with itself": lambda h, x, w, b, v: h @ (w @ w),
    "as a bias": lambda h, x, w, b, v: torch.addmm(w, v, v)[: len(h)],
    "as it is": lambda h, x, w, b, v: w[0] * h,
    "bias as it is": lambda h, x, w, b, v: b * h,
    "turned once": lambda h, x, w, b, v: sum(each @ turned for turned in [w.t()] for each in (h, x)),
    "cut off": lambda h, x, w, b, v: nn.functional.linear(h, w, b).detach() + nn.functional.linear(h, v, b),
    "unused": lambda h, x, w, b, v: nn.functional.linear(x, w, b) * 0 + h,
    "at some steps": lambda h, x, w, b, v: nn.functional.linear(h, w, b) if x[0, 0] > 0 else h @ w,
    "in a region": lambda h, x, w, b, v: checkpoint(linear, h, x, w, b, use_reentrant=False),
}


def differ(names, chunk, steps=STEPS, rows=2, slots=2, seed=0):
    """Whether gradients of steps with these uses differ from the loop's."""
    torch.manual_seed(seed)
    w, v = ((torch.randn(SIZE, SIZE, dtype=D) / 8).requires_grad_() for _ in range(2))
    b, h = torch.randn(SIZE, dtype=D, requires_grad=True), torch.randn(rows, SIZE, dtype=D, requires_grad=True)
    xs = torch.randn(steps, rows, SIZE, dtype=D)

    def step(h, x):
        h = torch.tanh(h + sum(USES[name](h, x, w, b, v) for name in names) / len(names))
        return h, h

    ys = scan(step, h, xs, params=[w, b, v], slots=slots, chunk=chunk)[1]
    losses = ys.square().sum(), by_loop(step, h, xs, [])
    actual, expected = (torch.autograd.grad(loss, (w, b, v, h), allow_unused=True) for loss in losses)
    return not are_equal(actual, expected)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("name", USES)
def test_gradients_are_those_of_the_loop_whatever_two_uses_a_weight_has_exhaustive(name, chunk):
    assert [other for other in USES if differ([name, other], chunk)] == []


@given(
    st.lists(st.sampled_from([*USES]), min_size=1, max_size=4), st.integers(1, 7), st.integers(1, 9),
    st.integers(1, 30), st.integers(1, 4), st.integers(0, 99),
)  # fmt: skip
def test_gradients_are_those_of_the_loop_whatever_uses_a_weight_has_hypothesis(names, chunk, steps, rows, slots, seed):
    assert not differ(names, chunk, steps, rows, slots, seed)


@pytest.mark.parametrize("use", ["from the left", "as it is", "as a bias", "bias as it is"])
def test_a_use_that_is_no_such_product_would_be_missed_if_ways_to_a_weight_were_not_counted(use, monkeypatch):
    right = products.products
    monkeypatch.setattr("membptt.run.core.products", lambda *args: right(*args[:3], {}, args[4]))
    assert differ(["of the carry", use], 1)


def test_a_bias_of_one_element_gets_the_sum_of_all():
    def step(h, x, w, b):
        return torch.addmm(b, h, w.t())

    for chunk in (1, 2):
        assert are_equal(*(ends(run, step, bias=1) for run in (partial(by_scan, chunk=chunk), by_loop)))


def with_weight(step, h, xs, params):
    return sum(y.square().sum() for y in scan(step, h, xs, params=params, slots=2)[1])


def test_a_weight_that_is_an_output_as_well_gets_both_gradients():
    def loop(step, h, xs, params):
        return by_loop(step, h, xs, params) + STEPS * params[0].square().sum()

    actual, expected = ends(with_weight, linear), ends(loop, linear)
    assert relative_error(list(actual), list(expected)) <= 1e-10


@pytest.mark.parametrize(
    ("kind", "chunk"), [(nn.GRUCell, 1), *((kind, chunk) for kind in (nn.RNNCell, nn.LSTMCell) for chunk in (1, 2, 5))]
)
def test_the_gradients_of_wide_cells_are_those_of_the_loop_to_the_bit_in_float32(kind, chunk):
    """They are added up from the last step to the first. A GRU's carry has three uses, added up by core at its ends."""
    torch.manual_seed(0)
    cell, h, xs = kind(SIZE, 2 * SIZE), torch.randn(3, 2 * SIZE), torch.randn(STEPS, 3, SIZE)

    def step(carry, x):
        after = cell(x, carry if kind is nn.LSTMCell else carry[0])
        after = after if kind is nn.LSTMCell else (after,)
        return after, after[0]

    start = (h, h) if kind is nn.LSTMCell else (h,)
    loss, expected = (run(step, start, xs, list(cell.parameters())) for run in (partial(by_scan, chunk=chunk), by_loop))
    pairs = zip(*(torch.autograd.grad(end, list(cell.parameters())) for end in (loss, expected)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Counted(TorchDispatchMode):
    """Counts products that are added to something in place, and the others that are as large as the weight."""

    PRODUCTS = torch.ops.aten.mm, torch.ops.aten.addmm_

    def __init__(self):
        super().__init__()
        self.added = self.made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        added = func is torch.ops.aten.addmm_.default and kwargs.get("beta", 1) == 1
        self.added += added
        self.made += func.overloadpacket in self.PRODUCTS and not added and result.shape == (SIZE, SIZE)
        return result


def count(rows, steps, chunk, slots=2):
    """Return how many products are added in place, and how many tensors are made that are as large as the weight."""
    (w, b, _), _ = parts()
    h, xs = torch.ones(rows, SIZE, dtype=D), torch.randn(steps, rows, SIZE, dtype=D)
    final, _ = scan(lambda h, x: (torch.tanh(linear(h, x, w, b)), x), h, xs, params=[w, b], slots=slots, chunk=chunk)
    with Counted() as counted:
        final.sum().backward()
    return counted.added, counted.made


@pytest.mark.parametrize(
    ("rows", "chunk", "added"),
    [(2, 1, STEPS - 1), (96, 1, STEPS - 1), (97, 1, 0), (2, 3, STEPS - 1), (64, 3, STEPS - 1), (65, 3, 0)],
)
def test_a_weight_gets_one_tensor_of_its_size_or_where_that_takes_less_than_the_rows_and_their_gradients(
    rows, chunk, added
):
    """Less than that one of a single product, less than that and their sum of several."""
    assert count(rows, STEPS, chunk) == (added, STEPS - added)


def test_a_weight_gets_one_tensor_of_its_size_whatever_the_chunk_exhaustive():
    for steps in range(1, 7):
        for chunk in range(1, steps + 1):
            assert count(2, steps, chunk) == (steps - 1, 1)


@given(st.integers(1, 30), st.integers(1, 10), st.integers(1, 10), st.integers(1, 4))
def test_a_weight_gets_one_tensor_of_its_size_whatever_the_chunk_hypothesis(steps, rows, chunk, slots):
    chunk = min(chunk, SIZE // rows)
    assert count(rows, steps, chunk, slots) == (steps - 1, 1)


@pytest.mark.parametrize(("steps", "chunk"), [(1, 1), (STEPS, 1), (STEPS, 2)])
def test_products_that_a_step_keeps_out_of_autocast_have_gradients_in_full_precision(steps, chunk):
    torch.manual_seed(0)
    w, h = (torch.randn(SIZE, SIZE) / 8).requires_grad_(), torch.randn(2, SIZE)
    xs = torch.randn(steps, 2, SIZE)

    def step(h, x):
        with torch.autocast("cpu", enabled=False):
            h = torch.tanh(h @ w + x)
        return h, h

    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = by_scan(step, h, xs, [w], chunk), by_loop(step, h, xs, [w])
    actual, expected = (torch.autograd.grad(loss, [w]) for loss in losses)
    assert actual[0].dtype is torch.float32
    assert relative_error(actual, expected) <= 1e-6


def test_sums_that_a_plan_of_a_chain_makes_keep_no_graph(monkeypatch):
    (w, b, h), xs = parts()
    kept, real = [], Adjoint.step

    def step(self, internal):
        real(self, internal)
        kept.extend(total.requires_grad for total in self.params if total is not None)

    monkeypatch.setattr(Adjoint, "step", step)
    plan_chain([lambda h: linear(h, xs[0], w, b), torch.tanh, lambda h: h.sum()], h, params=[w, b])
    assert kept
    assert not any(kept)


def test_what_a_step_packs_is_unpacked_once():
    (w, b, h), xs = parts()
    packed, unpacked = [], []

    def step(h, x):
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: packed.append(0) or tensor, lambda tensor: unpacked.append(0) or tensor
        ):
            return linear(h, x, w, b), x

    final, _ = scan(step, h, xs, params=[w, b], policy="ism", slots=STEPS)  # each core is recorded once
    final.sum().backward()
    assert len(packed) == len(unpacked) > STEPS
