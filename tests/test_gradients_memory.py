"""Gradients of weights in memory: what is added up stands beside no second tensor of its size."""

import pytest
import torch
from torch import nn

from membptt import scan
from membptt.planning.tally import Tally
from membptt.torch_private import is_alone

from .cells import relative_error


class Wide(torch.nn.Module):
    """One weight, much larger than all else."""

    def __init__(self, turned):
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(torch.randn(192, 192) / 14), torch.nn.Parameter(torch.randn(192))
        self.turned = turned

    def forward(self, carry, x):
        weight = self.weight.t() if self.turned else self.weight
        carry = torch.tanh(torch.addmm(self.bias, carry, weight) + x)
        return carry, carry.sum()


@pytest.mark.parametrize("chunk", [1, 2, 3])
@pytest.mark.parametrize("turned", [False, True])
def test_no_share_of_a_weight_stands_beside_its_sum(turned, chunk):
    torch.manual_seed(0)
    step, init, xs = Wide(turned), torch.zeros(2, 192), torch.randn(12, 2, 192)
    size = step.weight.nbytes
    with Tally((*step.parameters(), init, xs)) as tally:
        carry, _ = scan(step, init, xs, slots=3, chunk=chunk)
        carry.sum().backward()
    assert size <= tally.peak() < 1.9 * size

    sums = [parameter.grad for parameter in step.parameters()]
    carry = init
    for x in xs:
        carry, _ = step(carry, x)
    expected = torch.autograd.grad(carry.sum(), list(step.parameters()))
    assert relative_error(sums, expected) <= 1e-5


@pytest.mark.parametrize("turned", [False, True])
def test_the_gradient_of_a_single_core_has_the_bits_and_strides_of_autograds(turned):
    torch.manual_seed(0)
    step, init, xs = Wide(turned), torch.randn(2, 192), torch.randn(1, 2, 192)
    actual = torch.autograd.grad(scan(step, init, xs, slots=1)[0].sum(), list(step.parameters()))
    expected = torch.autograd.grad(step(init, xs[0])[0].sum(), list(step.parameters()))
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()


class Weighted(nn.Module):
    """A weight whose gradient is no product of matrices: each share is a tensor of its size."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4096) / 8)

    def forward(self, carry, x):
        carry = torch.tanh(carry + (self.weight * x).sum())
        return carry, carry


def test_a_first_share_that_is_alone_is_the_sum_to_which_the_others_are_added(monkeypatch):
    """No third tensor is made for their sum."""
    torch.manual_seed(0)
    step, init, xs = Weighted(), torch.zeros(()), torch.randn(12, 4096) / 64

    def peak():
        step.weight.grad = None
        with Tally((*step.parameters(), init, xs)) as tally:
            scan(step, init, xs, slots=3, check=False)[0].sum().backward()
        return tally.peak(), step.weight.grad

    least, actual = peak()
    monkeypatch.setattr("membptt.run.adjoint.is_alone", lambda *_: False)
    most, expected = peak()
    assert most - least >= 0.9 * step.weight.nbytes
    assert torch.equal(actual, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of the compiler's own
def test_joined_cores_add_to_the_first_share_of_a_recorded_one(monkeypatch):
    torch.manual_seed(0)
    cell = nn.LSTMCell(8, 64)

    def step(carry, x):
        carry = cell(x, carry)
        return carry, carry[0].sum()

    init, xs, copies = (torch.zeros(2, 64), torch.zeros(2, 64)), torch.randn(12, 2, 8), []
    real = torch.Tensor.clone
    monkeypatch.setattr(
        torch.Tensor, "clone", lambda leaf, **options: copies.append(leaf.shape) or real(leaf, **options)
    )
    scan(step, init, xs, slots=3, params=cell, compile=True)[1].sum().backward()
    assert cell.weight_hh.shape not in copies


class Same(torch.autograd.Function):
    """Adds two biases; its backward hands on the very tensor that it is given, to all."""

    @staticmethod
    def forward(ctx, carry, bias, other):
        return carry + bias + other

    @staticmethod
    def backward(ctx, grad):
        return grad, grad, grad


class Kept(torch.autograd.Function):
    """Adds two biases; its backward gives the same tensor every time, as one from a cache."""

    gradient = torch.empty(0)

    @staticmethod
    def forward(ctx, carry, bias, other):
        return carry + bias + other

    @staticmethod
    def backward(ctx, grad):
        return grad, Kept.gradient, grad.clone()


@pytest.mark.parametrize("add", [Same, Kept])
@pytest.mark.parametrize("mutant", [False, True])
def test_a_first_share_that_others_refer_to_is_left_as_it_is(add, mutant, monkeypatch):
    biases = [torch.randn(3, requires_grad=True) for _ in range(2)]
    carry, xs = torch.zeros(3, requires_grad=True), torch.randn(6, 3)

    def step(carry, x):
        carry = add.apply(carry, *biases)
        return carry, carry * x

    if mutant:
        monkeypatch.setattr("membptt.run.adjoint.is_alone", lambda *_: True)
    Kept.gradient = torch.full((3,), 0.5)
    final, ys = scan(step, carry, xs, slots=2, params=biases)
    actual = torch.autograd.grad(final.sum() + ys.sum(), [*biases, carry])
    Kept.gradient = torch.full((3,), 0.5)
    after, total = carry, 0.0
    for x in xs:
        after, y = step(after, x)
        total = total + y.sum()
    expected = torch.autograd.grad(after.sum() + total, [*biases, carry])
    assert (relative_error(actual, expected) > 1e-6) == mutant


def kept_by_python(tensors):
    return [tensors[0]]


def kept_by_a_view(tensors):
    return tensors[0].view(-1)


def kept_by_a_graph(tensors):
    return tensors[0] * torch.ones(4, 4, requires_grad=True)


def kept_by_a_numpy_array(tensors):
    return tensors[0].numpy()


@pytest.mark.parametrize("keep", [kept_by_python, kept_by_a_view, kept_by_a_graph, kept_by_a_numpy_array])
def test_a_tensor_is_alone_until_something_refers_to_it_and_after_that(keep):
    tensors = [torch.randn(4, 4)]
    assert is_alone(tensors, 0)
    other = keep(tensors)
    assert not is_alone(tensors, 0)
    del other
    assert is_alone(tensors, 0)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(1).expand(4),
        torch.randn(8)[:4],
        torch.randn(2, 2).to_sparse(),
        nn.Parameter(torch.randn(3)),
    ],
    ids=["expanded", "part", "sparse", "parameter"],
)
def test_what_does_not_fill_its_own_memory_is_never_alone(tensor):
    tensors = [tensor.detach().clone() if tensor.layout is not torch.strided else tensor]
    del tensor
    assert not is_alone(tensors, 0)
