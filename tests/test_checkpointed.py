"""A scan in `torch.utils.checkpoint` keeps nothing until its backward; hooks of modules fire at every evaluation."""

import gc

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from membptt import chain, meter, scan, while_loop
from membptt.run import region

from .cells import CELLS, Counting, gradients, plain, problem
from .strategies import POLICIES, policy_id
from .test_second_derivatives import assert_same, derivatives, tensors_of

D = torch.float64
BOTH = pytest.mark.parametrize("reentrant", [False, True])
WAYS = [
    *[{"policy": policy, "slots": 6 if sizes else 3, **sizes} for policy, sizes in POLICIES],
    {"slots": 2, "chunk": 3},
    {"slots": 2, "spill": True},
    {"slots": 2, "check": True},
]


@BOTH
@pytest.mark.parametrize("way", WAYS, ids=policy_id)
def test_a_checkpointed_scan_costs_a_run_more_and_gives_the_gradient(way, reentrant):
    step, init, xs = problem(CELLS[1], 12, D)
    counting = Counting(step)
    with meter() as report:
        expected = gradients(scan(counting, init, xs, **way), counting, init, xs)
    forwards = report.forwards
    counting.calls = 0
    result = checkpoint(lambda *given: scan(counting, *given, **way), init, xs, use_reentrant=reentrant)
    assert counting.calls >= 12
    before = counting.calls
    if reentrant:
        sum(leaf.sum() for leaf in result).backward()  # torch refuses autograd.grad there
    else:
        assert_same(gradients(result, counting, init, xs), expected)
    chunk = way.get("chunk", 1)
    assert counting.calls - before == forwards * chunk
    assert region._kept == {}


@BOTH
def test_a_checkpointed_scan_keeps_no_state_until_its_backward(reentrant):
    w, h = torch.randn(17, 17, dtype=D).div_(8).requires_grad_(), torch.randn(23, 17, dtype=D, requires_grad=True)

    def states():
        gc.collect()
        alike = (each for each in gc.get_objects() if type(each) is torch.Tensor and each.shape == h.shape)
        return len({each.data_ptr() for each in alike})

    def run(h):
        return scan(lambda h, x: (torch.tanh(h @ w + x), ()), h, torch.ones(24, 17, dtype=D), slots=6, params=[w])[0]

    run(h).sum().backward()  # what is made once
    before = states()
    kept = run(h)
    assert states() - before > 6
    del kept
    end = checkpoint(run, h, use_reentrant=reentrant)
    assert states() - before <= 1
    end.sum().backward()


def test_what_a_checkpointed_region_is_asked_for_is_the_loop_s():
    """Twice, with a graph, in another region, without early stop, with dropout, beside other operations."""
    step, init, xs = problem(CELLS[2], 6, D)
    wanted, drop = tensors_of(step, init, xs), nn.Dropout(0.3)

    def noisy(carry, x):
        return step(carry, drop(x))

    def region_of(run):
        return lambda init, xs: run(noisy, init, xs.sin())[1]["h"].sum(0).cos()

    def inner(init, xs):
        return checkpoint(region_of(ours), init, xs, use_reentrant=False)

    def ours(step_, *given):
        return scan(step_, *given, slots=2, params=[step])

    def of(run):
        torch.manual_seed(4)
        result = run(init, xs) * 2
        twice = [torch.autograd.grad(result.sum(), wanted, retain_graph=True) for _ in range(2)]
        return twice, derivatives(result, wanted, 2)

    expected = of(region_of(plain))
    assert_same(of(inner), expected)
    assert_same(of(lambda *given: checkpoint(inner, *given, use_reentrant=False)), expected)
    with set_checkpoint_early_stop(False):
        assert_same(of(inner), expected)
    assert region._kept == {}


def test_loops_and_chains_are_checkpointed():
    w, h = torch.full((3, 3), 0.3, dtype=D, requires_grad=True), torch.ones(3, dtype=D, requires_grad=True)
    blocks = [nn.Linear(3, 3).double(), torch.tanh, nn.Linear(3, 3).double()]
    wanted = [w, h, *blocks[0].parameters(), *blocks[2].parameters()]

    def both(h):
        h, _ = while_loop(lambda h: h.abs().max() > 0.2, lambda h: torch.tanh(w @ h), h, slots=2, params=[w])
        return chain(blocks, h, budget="1MiB")

    def loop(h):
        while h.abs().max() > 0.2:
            h = torch.tanh(w @ h)
        return blocks[2](torch.tanh(blocks[0](h)))

    ours = checkpoint(both, h, use_reentrant=False)
    assert_same(derivatives(ours, wanted, 1), derivatives(loop(h), wanted, 1))


def test_a_region_that_saves_nothing_for_a_scan_s_gradient_keeps_nothing():
    """The backward takes another way, and what the second run stored is released with it."""
    step, init, xs = problem(CELLS[1], 6, D)
    other = torch.ones(3, dtype=D, requires_grad=True)

    def run(init, xs, other):
        return scan(step, init, xs, slots=2)[0], other.sin().square()

    final, beside = checkpoint(run, init, xs, other, use_reentrant=False)
    beside.sum().backward()
    del final, beside
    assert region._kept == {}


def test_forward_hooks_of_modules_inside_the_step_fire_at_every_evaluation():
    """A hook of a parameter fires once, one of a module whenever the module is called."""
    step, init, xs = problem(CELLS[1], 10, D)
    fired = []
    step.cell.register_forward_hook(lambda *_: fired.append("module"))
    step.cell.weight_hh.register_hook(lambda _: fired.append("parameter"))
    with meter() as report:
        scan(step, init, xs, slots=3)[0].sum().backward()
    assert fired.count("module") == report.forwards > 10
    assert fired.count("parameter") == 1
