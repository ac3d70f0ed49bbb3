"""Gradients of weights that a core multiplies with once are added to their sums in place, and are the same."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from membptt import scan

from .cells import relative_error

SIZE, STEPS, D = 40, 6, torch.float64


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
    "wide": lambda h, x, w, b: nn.functional.linear(h.repeat(30, 1), w, b)[:2],
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


def by_scan(step, h, xs, params):
    return scan(step, h, xs, params=params, slots=2)[1].square().sum()


@pytest.mark.parametrize("context", [nullcontext, save_on_cpu], ids=["", "packed"])
@pytest.mark.parametrize("name", STEPS_OF)
def test_gradients_are_those_of_the_loop_whatever_a_weight_is_used_for(name, context):
    with context():
        actual, expected = (ends(run, STEPS_OF[name]) for run in (by_scan, by_loop))
    pairs = [(a, b) for a, b in zip(actual, expected, strict=True) if b is not None]
    assert relative_error(*(list(each) for each in zip(*pairs, strict=True))) <= 1e-10


def test_a_bias_of_one_element_gets_the_sum_of_all():
    def step(h, x, w, b):
        return torch.addmm(b, h, w.t())

    actual, expected = (ends(run, step, bias=1) for run in (by_scan, by_loop))
    assert relative_error(list(actual), list(expected)) <= 1e-10


def with_weight(step, h, xs, params):
    return sum(y.square().sum() for y in scan(step, h, xs, params=params, slots=2)[1])


def test_a_weight_that_is_an_output_as_well_gets_both_gradients():
    def loop(step, h, xs, params):
        return by_loop(step, h, xs, params) + STEPS * params[0].square().sum()

    actual, expected = ends(with_weight, linear), ends(loop, linear)
    assert relative_error(list(actual), list(expected)) <= 1e-10


def test_the_gradients_of_wide_cells_are_those_of_the_loop_to_the_bit_in_float32():
    for kind in (nn.GRUCell, nn.RNNCell):
        torch.manual_seed(0)
        cell, h, xs = kind(SIZE, 2 * SIZE), torch.randn(3, 2 * SIZE), torch.randn(STEPS, 3, SIZE)

        def step(h, x, cell=cell):
            h = cell(x, h)
            return h, h

        loss, expected = (run(step, h, xs, list(cell.parameters())) for run in (by_scan, by_loop))
        pairs = zip(*(torch.autograd.grad(end, list(cell.parameters())) for end in (loss, expected)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


class Counted(TorchDispatchMode):
    """Counts products that are added to something in place, and the others that are as large as the weight."""

    def __init__(self):
        super().__init__()
        self.added = self.made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.added += func is torch.ops.aten.addmm_.default
        self.made += func is torch.ops.aten.mm.default and result.shape == (SIZE, SIZE)
        return result


@pytest.mark.parametrize(("rows", "added"), [(2, STEPS - 1), (20, STEPS - 1), (21, 0)])
def test_a_weight_gets_a_tensor_of_its_size_once_or_where_that_takes_less_than_the_rows_and_their_gradient(rows, added):
    (w, b, _), xs = parts()
    h = torch.ones(rows, SIZE, dtype=D)
    final, _ = scan(lambda h, x: (torch.tanh(linear(h, x, w, b)), x), h, xs, params=[w, b], slots=2)
    with Counted() as counted:
        final.sum().backward()
    assert (counted.added, counted.made) == (added, STEPS - added)


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
