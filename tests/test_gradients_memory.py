"""Gradients of weights in memory: what is added up stands beside no second tensor of its size."""

import pytest
import torch

from membptt import scan
from membptt.planning.tally import Tally

from .cells import relative_error


class Wide(torch.nn.Module):
    """One weight, much larger than all else."""

    def __init__(self, turned):
        super().__init__()
        self.weight, self.bias = torch.nn.Parameter(torch.randn(64, 64) / 8), torch.nn.Parameter(torch.randn(64))
        self.turned = turned

    def forward(self, carry, x):
        weight = self.weight.t() if self.turned else self.weight
        carry = torch.tanh(torch.addmm(self.bias, carry, weight) + x)
        return carry, carry.sum()


@pytest.mark.parametrize("turned", [False, True])
def test_no_share_of_a_weight_stands_beside_its_sum(turned):
    torch.manual_seed(0)
    step, init, xs = Wide(turned), torch.zeros(2, 64), torch.randn(12, 2, 64)
    size = step.weight.nbytes
    with Tally((*step.parameters(), init, xs)) as tally:
        carry, _ = scan(step, init, xs, slots=3)
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
    step, init, xs = Wide(turned), torch.randn(2, 64), torch.randn(1, 2, 64)
    actual = torch.autograd.grad(scan(step, init, xs, slots=1)[0].sum(), list(step.parameters()))
    expected = torch.autograd.grad(step(init, xs[0])[0].sum(), list(step.parameters()))
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()
