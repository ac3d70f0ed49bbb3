"""Under `compile=True`, a core that is backpropagated as soon as it is recorded is one function: the same gradients."""

import re
import shutil
from contextlib import contextmanager

import optree
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from membptt import Indexed, meter, scan
from membptt.kernels import pullback
from membptt.kernels.joint import Given, Joined, Joint, Wanted, join_cores
from membptt.kernels.pullback import Pullback
from membptt_theory.tables import build

from .cells import Tanh, gradients, plain, problem, relative_error
from .strategies import POLICIES, policy_id

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
    pytest.mark.filterwarnings("ignore"),
]
D = torch.float64
LONGEST = 9


@pytest.fixture(scope="module")
def tanh():
    """One step, compiled once for all: its carry is a dict, an integer in it."""
    return problem(Tanh, LONGEST, D)


@contextmanager
def counted():
    """Count the cores that were joined."""
    pull, cores = Joined.pull, []

    def counting(self, *given):
        shares = pull(self, *given)
        cores.extend([self.at] * (shares is not None))
        return shares

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Joined, "pull", counting)
        yield cores


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_joined_cores_give_the_gradients_of_plain_autograd(tanh, policy, sizes):
    """Every number of slots; the forwards are the table's, and no core is joined that a policy stores as a graph."""
    step, init, xs = tanh
    expected = gradients(plain(step, init, xs), step, init, xs)
    for slots in range(max(sizes.values(), default=1), LONGEST + 1):
        with meter() as report, counted() as cores:
            result = scan(step, init, xs, slots=slots, policy=policy, compile=True, check=False, **sizes)
            actual = gradients(result, step, init, xs)
        assert relative_error(actual, expected) <= 1e-10
        assert report.forwards == build(policy, LONGEST, slots, **sizes).cost(LONGEST, slots)
        assert (report.backwards, report.live_bytes) == (LONGEST, 0)
        assert policy != "hsm" or len(cores) == LONGEST - 1


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_joined_cores_of_any_loop_give_the_gradients_of_plain_autograd(tanh, data):
    step, init, xs = tanh
    steps, slots = data.draw(st.integers(1, LONGEST)), data.draw(st.integers(1, 4))
    xs = xs[:steps].detach().requires_grad_(data.draw(st.booleans()))
    reduce, check = data.draw(st.sampled_from([None, "sum"])), data.draw(st.sampled_from([None, False, True]))
    ends, reverse = data.draw(st.sampled_from(["carry", "ys", "both"])), data.draw(st.booleans())

    def loss(carry, ys):
        leaves = [carry["h"]] * (ends != "ys") + optree.tree_leaves(ys) * (ends != "carry")
        return sum(leaf.sin().sum() for leaf in leaves) if reduce is None else sum(leaf.sum() for leaf in leaves)

    wanted = [*step.parameters(), *([xs] if xs.requires_grad else [])]
    expected = torch.autograd.grad(loss(*plain(step, init, xs.flip(0) if reverse else xs)), wanted, allow_unused=True)
    result = scan(step, init, xs, slots=slots, reduce=reduce, check=check, reverse=reverse, compile=True)
    actual = torch.autograd.grad(loss(*result), wanted, allow_unused=True)
    assert [grad is None for grad in actual] == [grad is None for grad in expected]
    present = ([grad for grad in grads if grad is not None] for grads in (actual, expected))
    assert relative_error(*present) <= 1e-10


def test_a_hook_on_a_parameter_sees_the_whole_gradient_of_joined_cores(tanh):
    step, init, xs = tanh
    seen = []
    handle = step.w.register_hook(lambda grad: seen.append(grad.clone()))
    with counted() as cores:
        (grad,) = torch.autograd.grad(scan(step, init, xs, slots=3, compile=True)[1]["h"].sum(), [step.w])
    handle.remove()
    assert len(cores) == LONGEST - 1  # all but the last, which the first pass recorded
    assert torch.equal(*seen, grad)


def test_a_weight_that_moves_before_the_backward_is_noticed_by_joined_cores(tanh):
    step, init, xs = tanh
    before = step.w.detach().clone()
    ys = scan(step, init, xs, slots=2, compile=True)[1]
    with torch.no_grad():
        step.w.data = before + 0.1
    with pytest.raises(RuntimeError, match=r"another (carry|output)"):
        ys["h"].sum().backward()
    step.w.data = before


def test_a_joined_core_that_gives_another_carry_is_noticed(tanh, monkeypatch):
    step, init, xs = tanh
    call = Pullback.__call__
    monkeypatch.setattr(Pullback, "__call__", lambda *given: [tensor * 1.01 for tensor in call(*given)])
    ys = scan(step, init, xs, slots=2, compile=True)[1]
    with pytest.raises(RuntimeError, match="another carry"):
        ys["h"].sum().backward()


def test_chunks_and_inputs_are_joined_and_nothing_as_large_as_a_weight_is_made():
    torch.manual_seed(0)
    weight = torch.randn(32, 32, dtype=D).div_(6).requires_grad_()
    xs, h = torch.randn(13, 2, 32, dtype=D, requires_grad=True), torch.randn(2, 32, dtype=D, requires_grad=True)
    gathered = []
    call = Pullback.__call__

    def noted(self, inputs, grads):
        tensors = call(self, inputs, grads)
        gathered.extend(tensor.numel() for tensor in tensors[len(inputs) + len(grads) :])
        return tensors

    def step(h, x):
        h = torch.tanh(nn.functional.linear(h, weight) + x)
        return h, (h * h).sum()

    wanted = [weight, xs, h]
    expected = torch.autograd.grad(plain(step, h, xs)[1].sum(), wanted)
    with pytest.MonkeyPatch.context() as patch, counted() as cores:
        patch.setattr(Pullback, "__call__", noted)
        ys = scan(step, h, xs, slots=2, chunk=2, params=[weight], compile=True)[1]
        actual = torch.autograd.grad(ys.sum(), wanted)
    assert relative_error(actual, expected) <= 1e-10
    assert cores == [slice(at, at + 2) for at in (10, 8, 6, 4, 2, 0)]  # the last, of one step, the first pass recorded
    assert max(gathered) < weight.numel()


# ---- what is not joined ----

memory: list[torch.Tensor] = []
outside = torch.ones(3, dtype=D, requires_grad=True)
table = torch.zeros(3, dtype=D)
last: dict[str, torch.Tensor] = {}


def drops(h, x):
    return nn.functional.dropout(h * x, 0.5), h


def branches(h, x):
    return (h * x if h.sum() > 0 else h + x), h


def keeps(h, x):
    memory[:] = [h.sin()]
    return h * x, h


def undeclared(h, x):
    return h * outside, x


def writes(h, x):
    table.add_(1)
    return h * x, h


def hooks(h, x):
    h.register_hook(lambda grad: 2 * grad)
    return h * x, h


def hands_on(h, x):
    return h, x


def assigns(h, x):
    last["h"] = h * x
    return last["h"], h


NOT_JOINED = {
    drops: "draws random numbers",
    branches: "Unsupported",
    keeps: "keeps tensors beside",
    undeclared: "not declared",
    writes: "writes to what it is given",
    hooks: "hook|Unsupported",
    hands_on: "computes nothing",
    assigns: "assigns",
}


@pytest.mark.parametrize(("step", "problem"), NOT_JOINED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_be_joined_is_recorded_as_before(step, problem):
    joint = Joint(step)
    assert joint.problem is None
    assert not joined(joint)
    assert re.search(problem, joint.problem)
    assert not joined(joint)  # nor is it tried again


def joined(joint, mode=torch.enable_grad):
    """Join and pull back one core of a step on three numbers."""
    own, leaf = (torch.ones(3, dtype=D), torch.full((3,), 2.0, dtype=D)), optree.tree_structure(0)
    with mode():
        traced = joint.trace(Given(own[:1], leaf, [own[1:]], leaf), Wanted([True], [False], {}))
        pulled = traced and traced.pull(own, [torch.ones(3, dtype=D), None], lambda param: None)
    return pulled is not None


def test_a_step_that_can_be_joined_is_not_while_autocast_is_on():
    joint = Joint(lambda h, x: (h * x, h))
    with torch.autocast("cpu", torch.bfloat16):
        assert not joined(joint)
    assert joint.problem is None


def test_cores_are_joined_on_the_host_only_and_remembered_by_their_step():
    def step(h, x):
        return h, x

    assert join_cores(step, [torch.device("meta")]) is None
    assert join_cores(step, [torch.device("cpu")]) is join_cores(step, [torch.device("cpu")])


@pytest.mark.filterwarnings("error:compile=True")
@torch._dynamo.config.patch(recompile_limit=2)
def test_beyond_dynamos_limit_only_what_is_new_is_not_joined():
    joint = Joint(lambda carry, x: (torch.tanh(carry + x), x))
    leaf = optree.tree_structure(torch.ones(0))

    def traced(rows):
        own = torch.ones(rows), torch.ones(rows)
        return joint.trace(Given(own[:1], leaf, [own[1:]], leaf), Wanted([True], [False], {}))

    assert traced(2)
    assert traced(3)
    with pytest.warns(UserWarning, match="as many shapes of carry and inputs as Dynamo allows"):
        assert traced(4) is None
    assert traced(5) is None
    assert traced(2)
    assert joint.problem is None


def test_what_is_read_at_every_core_may_change_what_the_step_finds():
    """A source sets a mask beside what it reads: only where that is looked at before every core, each finds its own."""
    xs, mask = torch.rand(7, 3, dtype=D), [torch.zeros(3, dtype=D)]
    h = torch.full((3,), 0.5, dtype=D, requires_grad=True)

    def read(start, stop):
        mask[0] = xs[start] / 2
        return xs[start:stop]

    def step(h, x):
        return torch.sin(h + mask[0]) * x, h * mask[0]

    def total(run):
        carry, ys = run
        return torch.autograd.grad(carry.sum() + ys.sum(), h)

    def loop(h):
        ys = []
        for x in xs:
            h, y = torch.sin(h + x / 2) * x, h * x / 2
            ys.append(y)
        return h, torch.stack(ys)

    with counted() as cores:
        actual = total(scan(step, h, Indexed(7, read), slots=2, compile=True))
    assert cores
    torch.testing.assert_close(actual, total(loop(h)))


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell])
def test_what_torchs_cells_compute_in_place_is_taken_as_it_is(cell, monkeypatch):
    """Their gates are parts of one tensor, which is not put together again after each is written to."""
    torch.manual_seed(0)
    cell = cell(3, 4, dtype=D)
    compiled, graphs = pullback._compiled, []
    monkeypatch.setattr(pullback, "_compiled", lambda traced: graphs.append(traced.graph) or compiled(traced))

    def step(carry, x):
        after = cell(x, carry if len(carry) > 1 else carry[0])
        after = after if isinstance(after, tuple) else (after,)
        return after, after[0]

    init = (torch.zeros(2, 4, dtype=D),) * (2 if isinstance(cell, nn.LSTMCell) else 1)
    xs, wanted = torch.randn(8, 2, 3, dtype=D), [*cell.parameters()]
    expected = torch.autograd.grad(plain(step, init, xs)[1].sin().sum(), wanted)
    _, ys = scan(step, init, xs, slots=2, chunk=2, compile=True, params=cell)
    torch.testing.assert_close(torch.autograd.grad(ys.sin().sum(), wanted), expected)
    assert len(graphs) == 2  # advanced, and backpropagated
    targets = [node.target for graph in graphs for node in graph.nodes]
    assert torch.ops.aten.sigmoid.default in targets
    assert torch.ops.aten.slice_scatter.default not in targets


def test_what_dynamo_guards_is_looked_at_once_in_a_pass():
    """Not at every core, which takes longer than a small core does."""
    w, seen = torch.full((3,), 0.5, dtype=D, requires_grad=True), []
    trace = Joint.trace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Joint, "trace", lambda self, given, wanted: seen.append(1) or trace(self, given, wanted))
        carry, _ = scan(
            lambda h, x: (torch.sin(h * w + x), None),
            w.detach(),
            torch.rand(20, 3, dtype=D),
            slots=3,
            params=[w],
            compile=True,
        )
        assert len(seen) == 1
        carry.sum().backward()
    assert len(seen) == 2


def test_a_training_mode_that_changes_between_two_scans_is_seen():
    torch.manual_seed(0)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.rand(3, dtype=D))

        def forward(self, h, x):
            return torch.sin(h * self.w + x) * (2 if self.training else 1), h

    step, h, xs = Scaled(), torch.zeros(3, dtype=D), torch.rand(6, 3, dtype=D)
    for mode in (True, False, True):
        step.train(mode)
        expected = torch.autograd.grad(plain(step, h, xs)[0].sum(), step.w)
        actual = torch.autograd.grad(scan(step, h, xs, slots=2, compile=True)[0].sum(), step.w)
        torch.testing.assert_close(actual, expected)


def test_dropout_under_compile_draws_the_same_in_advancing_and_recording():
    torch.manual_seed(0)
    xs, h = torch.randn(6, 3, dtype=D), torch.ones(3, dtype=D, requires_grad=True)
    with counted() as cores:
        final, _ = scan(drops, h, xs, slots=2, compile=True)
        final.sum().backward()
    kept = final != 0
    torch.testing.assert_close(h.grad, torch.where(kept, 2.0**6 * xs.prod(0), 0.0))
    assert not cores


def test_a_step_that_is_another_at_every_call_is_refused_as_one():
    """Each call is traced anew, so that none of those that are run once more was pulled back before."""
    w, turns = torch.full((3,), 0.5, dtype=D, requires_grad=True), [0]

    def step(carry, x):
        turns[0] += 1
        return torch.sin(carry * w + x * turns[0]), carry

    carry, _ = scan(step, torch.ones(3, dtype=D), torch.ones(5, 3, dtype=D), slots=3, params=[w], compile=True)
    with pytest.raises(RuntimeError, match="gave another carry"):
        carry.sum().backward()
