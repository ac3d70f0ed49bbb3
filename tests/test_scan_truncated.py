"""Truncated backpropagation: a carry handed on sends its gradient to the scan before it, a detached one does not."""

import optree
import pytest
import torch

from membptt import scan

from .cells import CELLS, plain, problem, relative_error
from .strategies import POLICIES, policy_id


def windows(run, step, init, xs, *, cut):
    """One loss over windows of four steps."""
    total, carry = torch.zeros((), dtype=xs.dtype), init
    for window in xs.split(4):
        carry, ys = run(step, carry, window)
        total = total + sum(leaf.square().sum() for leaf in optree.tree_leaves(ys))
        if cut:
            carry = optree.tree_map(torch.Tensor.detach, carry)
    wanted = [*(leaf for leaf in optree.tree_leaves(init) if leaf.requires_grad), xs, *step.parameters()]
    return torch.autograd.grad(total, wanted)


@pytest.mark.parametrize("make", CELLS)
@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_windows_equal_the_loops_and_only_a_cut_one_forgets(make, policy, sizes):
    step, init, xs = problem(make, 14, torch.float64)

    def run(*call):
        return scan(*call, slots=2, policy=policy, **sizes)

    whole = windows(plain, step, init, xs, cut=False)
    truncated = windows(plain, step, init, xs, cut=True)
    assert relative_error(windows(run, step, init, xs, cut=False), whole) <= 1e-10
    assert relative_error(windows(run, step, init, xs, cut=True), truncated) <= 1e-10
    assert relative_error(truncated, whole) > 1e-3


def test_a_backward_a_window_frees_what_the_window_stored_and_equals_the_loops():
    step, init, xs = problem(CELLS[0], 12, torch.float64)
    gradients_seen = []
    for run in (lambda *call: scan(*call, slots=2), plain):
        carry = init
        for window in xs.split(4):
            carry, ys = run(step, carry, window)
            ys.square().sum().backward()
            carry = tuple(leaf.detach() for leaf in carry)
        gradients_seen.append([parameter.grad for parameter in step.parameters()])
        step.zero_grad()
    assert relative_error(*gradients_seen) <= 1e-10


def test_a_carry_that_is_not_cut_leads_into_the_graph_that_is_used_up():
    step, init, xs = problem(CELLS[0], 8, torch.float64)
    carry, ys = scan(step, init, xs[:4], slots=2)
    ys.sum().backward()
    _, ys = scan(step, carry, xs[4:], slots=2)
    with pytest.raises(RuntimeError, match="second time"):
        ys.sum().backward()
