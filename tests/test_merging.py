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
from membptt.kernels import merging
from membptt.kernels.compiled import compile_options
from membptt.kernels.merging import MergeProducts, merge_rows
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
    return run, [one.requires_grad_() if one.is_floating_point() else one for one in arguments]


def traced(run, arguments):
    """Return the graph of ATen operations that a compiler would get."""
    made = make_fx(run, tracing_mode="fake", decomposition_table=select_decomp_table())(*arguments)
    with torch.no_grad():
        return make_fx(torch.func.functionalize(made), tracing_mode="fake")(*arguments)


def count(graph, *targets):
    return sum(node.target in targets for node in graph.nodes)


@torch.no_grad()
def assert_merged_equals_single(run, arguments):
    made = traced(run, arguments)
    expected = made(*arguments)
    MergeProducts()(made.graph)
    made.graph.lint()
    made.recompile()
    for one, other in zip(made(*arguments), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_merged_products_give_the_same_gradients(cell, steps):
    assert_merged_equals_single(*core(cell, steps))


OPERATIONS = ("w", "v", "tanh", "plus", "transposed", "returned")


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 30), st.integers(0, 30)), max_size=14))
def test_any_program_of_products_and_sums_stays_what_it_was(program):
    def run(w, v, *starts):
        made, returned = list(starts), []
        for operation, one, other in program:
            left, right = made[one % len(made)], made[other % len(made)]
            match operation:
                case "w":
                    made.append(left @ w)
                case "v":
                    made.append(left @ v.t())
                case "tanh":
                    made.append(left.tanh())
                case "plus":
                    made.append(left + right)
                case "transposed":
                    made.append(left.t() @ right)
                case "returned":
                    returned.append(left)
        return *returned, made[-1], sum(made[2:], start=made[1])

    generator = torch.Generator().manual_seed(0)
    assert_merged_equals_single(
        run, [torch.randn(3, 3, generator=generator, dtype=torch.float64) * 0.5 for _ in range(4)]
    )


def test_inputs_meet_their_weight_in_one_product():
    made = traced(*core(Lstm, 5))
    before = count(made.graph, ADDMM)
    merge_rows(made.graph)
    made.graph.eliminate_dead_code()
    assert (before, count(made.graph, ADDMM)) == (10, 6)


def test_a_sum_of_products_is_one_product():
    def run(w, *xs):
        return sum((x.t() @ y for x, y in pairwise(xs)), start=2 * w)

    made = traced(run, torch.ones(7, 3, 3).unbind(0))
    MergeProducts()(made.graph)
    assert count(made.graph, MM) == 1


def test_sums_with_the_same_left_factors_stack_them_once():
    def run(*xs):
        lefts = [x.t() for x in xs]
        return [reduce(add, map(torch.mm, lefts, rights)) for rights in (xs, [x.cos() for x in xs])]

    made = traced(run, torch.ones(7, 3, 3).unbind(0))
    MergeProducts()(made.graph)
    assert (count(made.graph, MM), count(made.graph, CAT)) == (2, 3)


def test_products_that_need_each_other_are_left_alone():
    def run(w, h):
        return ((h @ w) @ w) @ w

    made = traced(run, [torch.ones(3, 3), torch.ones(2, 3)])
    before = str(made.graph)
    merge_rows(made.graph)
    assert str(made.graph) == before


def test_merging_products_that_need_each_other_would_be_noticed(monkeypatch):
    monkeypatch.setattr(merging, "_independent", lambda graph, group: [list(group)])
    with pytest.raises((RuntimeError, AssertionError)):
        assert_merged_equals_single(*core(Tied, 3))


def test_a_product_that_is_returned_keeps_memory_of_its_own():
    def run(w, *xs):
        return [(x @ w).view(-1) for x in xs]

    arguments = [torch.ones(3, 3), *torch.ones(4, 2, 3).unbind(0)]
    made = traced(run, arguments)
    MergeProducts()(made.graph)
    made.recompile()
    assert all(y.untyped_storage().nbytes() == y.nbytes for y in made(*arguments))


def test_random_numbers_are_drawn_in_the_order_of_the_steps():
    def run(w, h, *xs):
        for x in xs:
            h = torch.tanh((x * torch.rand_like(x)) @ w + h * torch.rand_like(h))
        return h

    arguments = [torch.ones(3, 3), torch.ones(2, 3), *torch.ones(3, 2, 3).unbind(0)]
    made = traced(run, arguments)
    torch.manual_seed(5)
    expected = made(*arguments)
    MergeProducts()(made.graph)
    made.recompile()
    torch.manual_seed(5)
    torch.testing.assert_close(made(*arguments), expected)


@pytest.mark.parametrize("batch", [1, 16, 200, 4096])
def test_merged_factors_take_no_more_room_than_allowed(batch):
    hidden, steps = 64, 40

    def run(w, *xs):
        return sum((x.t() @ y for x, y in pairwise(xs)), start=sum(x @ w for x in xs).sum() * w)

    made = traced(run, [torch.ones(hidden, hidden), *torch.ones(steps, batch, hidden).unbind(0)])
    MergeProducts()(made.graph)
    stacks = [node for node in made.graph.nodes if node.target is CAT]
    assert bool(stacks) == (batch < 4096)
    for node in stacks:
        assert 2 * node.meta["val"].nbytes <= max(merging.ROOM, hidden * hidden * 4)


def test_products_of_unknown_size_are_left_alone():
    def run(w, *xs):
        return sum((x @ w).sum() for x in xs), sum(x.t() @ x for x in xs)

    arguments = [torch.ones(3, 3), *torch.ones(4, 2, 3).unbind(0)]
    made = make_fx(run, tracing_mode="symbolic")(*arguments)
    before = count(made.graph, MM)
    MergeProducts()(made.graph)
    assert count(made.graph, MM) == before


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
    found = gradients(scan(step, init, xs, slots=1, chunk=4, compile=True), step, init, xs)
    torch.testing.assert_close(found, gradients(scan(step, init, xs, slots=8), step, init, xs), rtol=1e-4, atol=1e-6)
    assert set(seen) == {
        (8, 5),
        (16, 10),
    }  # forward: states, inputs; backward: also either weight, and inputs are returned


def test_a_pass_that_the_user_has_set_is_left_in_place():
    with torch._inductor.config.patch(post_grad_custom_pre_pass=MergeProducts()):
        assert "post_grad_custom_pre_pass" not in compile_options()
