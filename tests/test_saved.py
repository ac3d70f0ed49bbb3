"""What a graph keeps, asked of the graph, is what it saved: by torch's own hooks, where those can see it."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from membptt import meter, scan
from membptt.run.saved import record_saved, saved_by
from membptt.torch_private import is_opaque

X = torch.linspace(-1, 1, 128).view(8, 16).requires_grad_()


def layers():
    torch.manual_seed(0)
    linear, gru = nn.Linear(16, 16), nn.GRU(16, 16)
    attention = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    kernel = torch.ones(8, 8, 3, requires_grad=True)
    return {
        "linear": lambda: linear(X).tanh(),
        "numbers": lambda: 0.9 * X * 2 + X.sin() / 3,
        "fused": lambda: gru(X[None])[0],
        "attention": lambda: attention(X[None]),
        "convolution": lambda: nn.functional.conv1d(X[None], kernel).relu(),
        "lists": lambda: X[torch.tensor([0, 1])].max(0).values.softmax(0).log(),
        "function": lambda: Tripled.apply(X),
        "checkpointed": lambda: checkpoint(lambda x: linear(linear(x).tanh()).tanh(), X * X, use_reentrant=False),
        "mapped": lambda: torch.func.vmap(lambda row: row.sin() * row)(X),
    }


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x, x * 3)
        return x * 3

    @staticmethod
    def backward(ctx, grad):
        return grad * 3


class InAttribute(Tripled):
    @staticmethod
    def forward(ctx, x):
        ctx.kept = [x * 2]
        return x * 3


def nodes(result):
    pending = [result.grad_fn]
    for node in pending:
        pending += [child for child, _ in node.next_functions if child is not None and child not in pending]
    return pending


@pytest.mark.parametrize("layer", layers())
def test_the_graph_tells_what_hooks_see(layer):
    run, seen = layers()[layer], {}
    with record_saved(seen):
        run()
    result = run()
    assert sum(saved_by(nodes(result)).values()) == sum(seen.values()) > 0
    assert not any(map(is_opaque, nodes(result)))


def test_it_tells_what_hooks_do_not_see():
    result = InAttribute.apply(X)
    assert sum(saved_by(nodes(result)).values()) == X.nbytes
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (x.to(torch.bfloat16), x.dtype), lambda both: both[0]):
        result = X.sin()
    assert sum(saved_by(nodes(result)).values()) == X.nbytes // 2


def test_a_graph_that_the_step_has_let_go_of_weighs_nothing():
    energy = X.sin().square().sum()
    torch.autograd.grad(energy, X)
    assert saved_by(nodes(energy * 1)) == {}


def written(h):
    turned = h * 1
    turned[:, 1:].mul_(h[:, :1].cos())
    return turned


def scripted(h):
    return (h.sin() * h).exp() * h


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")
@pytest.mark.parametrize("function", [written, scripted])
def test_what_a_node_does_not_tell_is_seen_while_it_is_saved(function):
    inner = torch.jit.script(function) if function is scripted else function
    for _ in range(4):  # a scripted function has nodes of its own from the third call on
        result = inner(X)
    assert any(map(is_opaque, nodes(result)))
    seen = {}
    with record_saved(seen):
        result = inner(X)
    with meter() as report:
        scan(lambda h, x: ((new := inner(h)), new.sum()), X, torch.zeros(1), slots=1)
    own = {result.untyped_storage().data_ptr(), X.untyped_storage().data_ptr()}
    assert report.peak_bytes == 2 * X.nbytes + sum(size for key, size in seen.items() if key not in own)


def test_inputs_of_a_region_that_are_left_out_are_caught(monkeypatch):
    monkeypatch.setattr("membptt.run.saved.inputs_of_region", lambda hook: ())
    with pytest.raises(AssertionError):
        test_the_graph_tells_what_hooks_see("checkpointed")
