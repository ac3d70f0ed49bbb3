"""The matrix products of a compiled core are merged: the same numbers from fewer products."""

from __future__ import annotations

import shutil
from functools import reduce
from itertools import pairwise
from operator import add

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx

from membptt import scan
from membptt.kernels import merging, multiply
from membptt.kernels.compiled import compile_options
from membptt.kernels.merging import MergeProducts, merge_rows, merge_sums
from membptt.kernels.nodes import transposed
from tests.cells import Gru, Lstm, ResidualMlp, Tanh, gradients

MM, ADDMM, CAT = torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.cat.default


class Deep(nn.Module):
    """Two layers before a recurrence, so that inputs pass several weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.recur = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 4, bias=False)

    def init(self, batch):
        return torch.randn(batch, 4)

    def forward(self, h, x):
        h = torch.tanh(self.second(torch.relu(self.first(x))) + self.recur(h))
        return h, h


class Tied(nn.Module):
    """One weight for input, state and output."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 3) * 0.5)

    def init(self, batch):
        return torch.randn(batch, 3)

    def forward(self, h, x):
        h = torch.tanh(x @ self.w + h @ self.w)
        return h, h @ self.w


CELLS = [Lstm, Gru, Tanh, ResidualMlp, Deep, Tied]


def core(cell, steps, *, batch=2):
    """Return the gradient of `steps` steps as a function of tensors alone, and its arguments, in float64."""
    torch.manual_seed(0)
    cell = cell().double()
    leaves, spec = torch.utils._pytree.tree_flatten(cell.init(batch))
    leaves = [leaf.double() if leaf.is_floating_point() else leaf for leaf in leaves]
    names = [name for name, _ in cell.named_parameters()]

    @torch.enable_grad()
    def run(xs, *tensors):
        params, starts = tensors[: len(names)], tensors[len(names) :]
        carry, total = torch.utils._pytree.tree_unflatten(list(starts), spec), 0
        for x in xs:
            carry, y = torch.func.functional_call(cell, dict(zip(names, params, strict=True)), (carry, x))
            total = total + sum(leaf.square().sum() for leaf in torch.utils._pytree.tree_leaves(y))
        wanted = [xs, *params, *(start for start in starts if start.is_floating_point())]
        return total, *torch.autograd.grad(total, wanted, allow_unused=True)

    tensors = [*(param.detach().clone() for param in cell.parameters()), *leaves]
    arguments = [torch.randn(steps, batch, 3, dtype=torch.float64), *tensors]
    return run, [leaf.requires_grad_() if leaf.is_floating_point() else leaf for leaf in arguments]


def traced(run, arguments):
    """Return the graph of ATen operations that a compiler would get."""
    graph_module = make_fx(run, tracing_mode="fake", decomposition_table=select_decomp_table())(*arguments)
    with torch.no_grad():
        return make_fx(torch.func.functionalize(graph_module), tracing_mode="fake")(*arguments)


def count(graph, *targets):
    return sum(node.target in targets for node in graph.nodes)


@torch.no_grad()
def assert_merged_equals_single(run, arguments):
    graph_module = traced(run, arguments)
    expected = graph_module(*arguments)
    MergeProducts()(graph_module.graph)
    graph_module.graph.lint()
    graph_module.recompile()
    for merged, single in zip(graph_module(*arguments), expected, strict=True):
        torch.testing.assert_close(merged, single, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_merged_products_give_the_same_gradients(cell, steps):
    assert_merged_equals_single(*core(cell, steps))


OPERATIONS = ("w", "v", "tanh", "plus", "transposed", "returned")


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 30), st.integers(0, 30)), max_size=14))
def test_any_program_of_products_and_sums_stays_what_it_was(program):
    def run(w, v, *starts):
        values, returned = list(starts), []
        for operation, first, second in program:
            left, right = values[first % len(values)], values[second % len(values)]
            match operation:
                case "w":
                    values.append(left @ w)
                case "v":
                    values.append(left @ v.t())
                case "tanh":
                    values.append(left.tanh())
                case "plus":
                    values.append(left + right)
                case "transposed":
                    values.append(left.t() @ right)
                case "returned":
                    returned.append(left)
        return *returned, values[-1], sum(values[2:], start=values[1])

    generator = torch.Generator().manual_seed(0)
    assert_merged_equals_single(
        run, [torch.randn(3, 3, generator=generator, dtype=torch.float64) * 0.5 for _ in range(4)]
    )


def test_inputs_meet_their_weight_in_one_product():
    graph_module = traced(*core(Lstm, 5))
    before = count(graph_module.graph, ADDMM)
    merge_rows(graph_module.graph)
    graph_module.graph.eliminate_dead_code()
    assert (before, count(graph_module.graph, ADDMM)) == (10, 6)


def test_a_sum_of_products_is_one_product():
    def run(w, *xs):
        return sum((x.t() @ y for x, y in pairwise(xs)), start=2 * w)

    graph_module = traced(run, torch.ones(7, 3, 3).unbind(0))
    MergeProducts()(graph_module.graph)
    assert count(graph_module.graph, MM) == 1


def test_sums_with_the_same_left_factors_stack_them_once():
    def run(*xs):
        lefts = [x.t() for x in xs]
        return [reduce(add, map(torch.mm, lefts, rights)) for rights in (xs, [x.cos() for x in xs])]

    graph_module = traced(run, torch.ones(7, 3, 3).unbind(0))
    MergeProducts()(graph_module.graph)
    assert (count(graph_module.graph, MM), count(graph_module.graph, CAT)) == (2, 3)


@pytest.mark.parametrize("onednn", [False, True])
def test_the_left_factors_of_a_product_that_onednn_adds_are_stacked_as_it_takes_them(monkeypatch, onednn):
    """With whole rows: they are transposed where they are stacked, and not copied once more."""
    monkeypatch.setattr(multiply, "is_onednn_faster", lambda: onednn)

    def run(*xs):
        return [reduce(add, [left.permute(1, 0) @ right for left, right in zip(xs[::2], xs[1::2], strict=True)])]

    xs = [torch.randn(16, width) for _ in range(5) for width in (256, 512)]
    graph_module = traced(run, xs)
    merge_sums(graph_module.graph)
    graph_module.graph.eliminate_dead_code()
    (product,) = graph_module.graph.find_nodes(op="call_function", target=MM)
    assert transposed(product.args[0])[1] != onednn
    graph_module.recompile()
    (exact,) = run(*(tensor.double() for tensor in xs))
    assert (graph_module(*xs)[0] - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_products_that_need_each_other_are_left_alone():
    def run(w, h):
        return ((h @ w) @ w) @ w

    graph_module = traced(run, [torch.ones(3, 3), torch.ones(2, 3)])
    before = str(graph_module.graph)
    merge_rows(graph_module.graph)
    assert str(graph_module.graph) == before


def test_merging_products_that_need_each_other_would_be_noticed(monkeypatch):
    monkeypatch.setattr(merging, "_independent", lambda graph, group: [list(group)])
    with pytest.raises((RuntimeError, AssertionError)):
        assert_merged_equals_single(*core(Tied, 3))


def test_a_product_that_is_returned_keeps_its_own_memory():
    def run(w, *xs):
        return [(x @ w).view(-1) for x in xs]

    arguments = [torch.ones(3, 3), *torch.ones(4, 2, 3).unbind(0)]
    graph_module = traced(run, arguments)
    MergeProducts()(graph_module.graph)
    graph_module.recompile()
    assert all(y.untyped_storage().nbytes() == y.nbytes for y in graph_module(*arguments))


def test_random_numbers_are_drawn_in_the_order_of_the_steps():
    def run(w, h, *xs):
        for x in xs:
            h = torch.tanh((x * torch.rand_like(x)) @ w + h * torch.rand_like(h))
        return h

    arguments = [torch.ones(3, 3), torch.ones(2, 3), *torch.ones(3, 2, 3).unbind(0)]
    graph_module = traced(run, arguments)
    torch.manual_seed(5)
    expected = graph_module(*arguments)
    MergeProducts()(graph_module.graph)
    graph_module.recompile()
    torch.manual_seed(5)
    torch.testing.assert_close(graph_module(*arguments), expected)


@pytest.mark.parametrize("batch", [1, 16, 200, 4096])
def test_merged_factors_take_no_more_room_than_allowed(batch):
    hidden, steps = 64, 40

    def run(w, *xs):
        return sum((x.t() @ y for x, y in pairwise(xs)), start=sum(x @ w for x in xs).sum() * w)

    graph_module = traced(run, [torch.ones(hidden, hidden), *torch.ones(steps, batch, hidden).unbind(0)])
    MergeProducts()(graph_module.graph)
    stacks = [node for node in graph_module.graph.nodes if node.target is CAT]
    assert bool(stacks) == (batch < 4096)
    for node in stacks:
        assert 2 * node.meta["val"].nbytes <= max(merging.ROOM, hidden * hidden * 4)


def test_products_of_unknown_size_are_left_alone():
    def run(w, *xs):
        return sum((x @ w).sum() for x in xs), sum(x.t() @ x for x in xs)

    arguments = [torch.ones(3, 3), *torch.ones(4, 2, 3).unbind(0)]
    graph_module = make_fx(run, tracing_mode="symbolic")(*arguments)
    before = count(graph_module.graph, MM)
    MergeProducts()(graph_module.graph)
    assert count(graph_module.graph, MM) == before


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_scan_merges_the_products_of_its_compiled_cores(monkeypatch):
    seen = []

    def watched(self, graph, plain=MergeProducts.__call__):
        before = count(graph, MM, ADDMM)
        plain(self, graph)
        seen.append((before, count(graph, MM, ADDMM)))

    monkeypatch.setattr(MergeProducts, "__call__", watched)
    monkeypatch.setattr(MergeProducts, "uuid", lambda self: None)  # or cached code is taken, and nothing is seen
    torch.manual_seed(0)
    step, xs = Lstm(), torch.randn(8, 2, 3, requires_grad=True)
    init = tuple(start.requires_grad_() for start in step.init(2))
    grads = gradients(scan(step, init, xs, slots=1, chunk=4, compile=True), step, init, xs)
    torch.testing.assert_close(grads, gradients(scan(step, init, xs, slots=8), step, init, xs), rtol=1e-4, atol=1e-6)
    assert set(seen) == {
        (8, 5),
        (16, 10),
        (16, 13),
    }  # forward: states, inputs; backward: also either weight, and inputs are returned; both at once


def test_a_pass_that_the_user_has_set_is_left_in_place():
    with torch._inductor.config.patch(post_grad_custom_pre_pass=MergeProducts()):
        assert "post_grad_custom_pre_pass" not in compile_options()
