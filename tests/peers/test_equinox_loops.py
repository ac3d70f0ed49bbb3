"""What equinox's tests of its loops ask for."""

import pytest
import torch

from membptt import meter, scan, while_loop
from membptt_theory import online

from .behaviours import answers, apart
from .loops import D, assert_loops, assert_scans, leaf, looped


def rotating(weight):
    """A step that turns a point by an angle which depends on it, and keeps where it was."""

    def body(carry):
        step, point, visited = carry
        angle = torch.tanh(weight @ point)
        turned = point * angle.cos() + torch.stack([-point[1], point[0]]) * angle.sin()
        place = torch.arange(len(visited)) == step % 8
        return step + 1, turned, torch.where(place, turned[0], visited)

    return body


def start():
    return torch.tensor(0), leaf(2), leaf(20, seed=1)


@answers("test_notangent_forward", "test_forward")
def test_forward():
    """The loop ends where Python's does, with gradients wanted and without."""
    weight = leaf(2, seed=2)
    carry = start()
    wanted = (carry[1], carry[2], weight)
    assert assert_loops(lambda c: c[0] < 5, rotating(weight), carry, wanted=wanted, params=[weight]) == 5
    with torch.no_grad():
        assert assert_loops(lambda c: c[0] < 5, rotating(weight), carry) == 5


@answers("test_backward_checkpointed")
@pytest.mark.parametrize(("slots", "steps"), [(1, 3), (1, 5), (2, 8), (3, 11), (9, 5), (2, 5), (4, 4), (4, 9), (4, 14)])
def test_backward(slots, steps):
    """The backward evaluates the body just as often as is foretold, whatever slots and length."""
    weight = leaf(2, seed=2)
    with meter() as report:
        (_, point, _), count = while_loop(
            lambda c: c[0] < steps, rotating(weight), start(), slots=slots, params=[weight]
        )
        point.sum().backward()
    assert count == steps
    assert report.forwards == online.cost(steps, slots)


@answers("test_backward_bounded")
def test_bounded():
    """A bound on the number of steps, with an error or without."""
    weight = leaf(2, seed=2)
    _, count = while_loop(
        lambda c: True, rotating(weight), start(), slots=2, max_steps=14, strict=False, params=[weight]
    )
    assert count == 14
    with pytest.raises(RuntimeError, match="max_steps"):
        while_loop(lambda c: True, rotating(weight), start(), slots=2, max_steps=14, params=[weight])


@answers("test_vmap_primal_unbatched_cond", "test_vmap_cotangent")
def test_mapped():
    """`vmap` of a loop whose condition is not mapped, and of its gradient."""
    carry = torch.tensor(0), torch.randn(3, 2, dtype=D), torch.randn(3, 20, dtype=D)
    weight = torch.ones(2, dtype=D)

    def run(point, visited):
        return while_loop(lambda c: c[0] < 4, rotating(weight), (carry[0], point, visited), slots=2)[0][1].sum()

    mapped = torch.func.vmap(torch.func.grad(run))(*carry[1:])
    torch.testing.assert_close(
        mapped, torch.stack([torch.func.grad(run)(*each) for each in zip(*carry[1:], strict=True)])
    )


@answers("test_vmap_primal_batched_cond")
def test_rows_that_end_at_different_steps():
    """Rows that end at different steps: a batch in the carry, in which those that have ended keep theirs."""
    x = leaf(4)

    def body(carry):
        x, left = carry
        return torch.where(left > 0, torch.sin(x), x), left - 1

    lengths = torch.tensor([1, 5, 3, 0])
    assert assert_loops(lambda c: bool((c[1] > 0).any()), body, (x, lengths), wanted=(x,)) == 5
    assert_scans(lambda c, at: (torch.where(at < lengths, torch.sin(c), c), c), x, torch.arange(5), wanted=(x,))


@answers("test_nested_loops")
def test_loops_in_each_other():
    """A loop in a loop, both of lengths that their carries decide."""
    x = leaf(2)

    def inner(value):
        return while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, torch.sin(c[1] + c[0])), (torch.tensor(0), value), slots=2
        )[0][1]

    def plain(value):
        for at in range(3):
            value = torch.sin(value + at)
        return value

    (_, computed), _ = while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, inner(c[1])), (torch.tensor(0), x), slots=2)
    expected = x
    for _ in range(4):
        expected = plain(expected)
    torch.testing.assert_close(computed, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each.sum(), x) for each in (computed, expected)))


@answers("test_scan")
@pytest.mark.parametrize("length", [4, None])
def test_scans(length):
    """A scan in a budget of states, with the length given beside the inputs or not."""
    init = torch.tensor(0), torch.tensor(2)
    xs = leaf(4), leaf(4, 2, seed=1)

    def step(carry, x):
        after = carry[0] + 1, carry[1] - 1
        return after, (2 * x[0] + after[0], 2 * x[1] + after[1])

    result, expected = scan(step, init, xs, length=length, slots=2), looped(step, init, xs)
    torch.testing.assert_close(result, expected)
    gradients = (torch.autograd.grad((ys[0].square().sum() + ys[1].square().sum()), xs) for _, ys in (result, expected))
    torch.testing.assert_close(*gradients)


@answers("test_speed_grad_checkpointed_while", "test_speed_while")
def test_many_slots_cost_nothing_by_themselves():
    """Ten thousand slots for a few steps: no work and no memory that grows with them."""
    with meter() as report:
        carry, _ = while_loop(
            lambda c: c[0] < 6, lambda c: (c[0] + 1, torch.sin(c[1])), (torch.tensor(0), leaf(2)), slots=10_000
        )
        carry[1].sum().backward()
    assert report.forwards == online.cost(6, 10_000)
    assert report.peak_bytes < 1000


apart(
    __name__,
    "test_speed_buffer_while",
    asks="Buffers: parts of the carry that are written to once, and not stored with it",
    why="what grows by a step belongs into a scan's outputs, which no state holds",
)
