"""Large products of compiled cores are left to the library that multiplies faster on this host."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from membptt import scan
from membptt.kernels import merging, multiply
from membptt.kernels.joint import join_cores
from membptt.kernels.merging import MergeProducts
from membptt.kernels.multiply import PRODUCT, add_product, is_large, is_onednn_faster, take_onednn
from membptt.kernels.nodes import PERMUTE
from membptt.torch_private import MissingPrivateNameWarning, lower_product
from tests.cells import relative_error

MM, ADDMM = torch.ops.aten.mm.default, torch.ops.aten.addmm.default
has_onednn = pytest.mark.skipif(multiply.onednn_linear is None, reason="torch without oneDNN")
LEFT, RIGHT = torch.randn(16, 256), torch.randn(256, 512)


def taken(function, *tensors):
    """Return how many products of a function's graph are oneDNN's, and what the graph then gives."""
    graph = make_fx(function, tracing_mode="fake")(*tensors)
    take_onednn(graph.graph)
    graph.recompile()
    return len(graph.graph.find_nodes(op="call_function", target=PRODUCT)), graph(*tensors)


@has_onednn
@pytest.mark.parametrize(
    ("function", "tensors"),
    [
        (torch.mm, (LEFT, RIGHT)),
        (lambda left, right: torch.mm(left, right.t()), (LEFT, torch.randn(512, 256))),
        (lambda left, right: torch.mm(left.t(), right), (torch.randn(256, 64), torch.randn(256, 512))),
        (torch.addmm, (torch.randn(512), LEFT, RIGHT)),
        (lambda left, right: torch.mm(left[::2], right), (torch.randn(32, 256), RIGHT)),
        (lambda left, right: torch.mm(left, right.permute(1, 0)), (LEFT, torch.randn(512, 256))),
        (lambda bias, left, right: torch.addmm(bias, left, right.permute(1, 0)), (RIGHT[0], LEFT, RIGHT.t())),
    ],
    ids=[
        "plain",
        "weight transposed",
        "left transposed",
        "with a bias",
        "with gaps",
        "few rows, weight transposed",
        "few rows, weight transposed, with a bias",
    ],
)
def test_a_large_product_is_onednns_and_the_same_within_rounding(function, tensors):
    count, result = taken(function, *tensors)
    assert count == 1
    exact = function(*(tensor.double() for tensor in tensors))
    assert (result - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize(
    ("function", "tensors"),
    [
        (torch.mm, (LEFT[:, :255], RIGHT[:255])),
        (torch.mm, (torch.randn(4, 1024), torch.randn(1024, 512))),
        (torch.mm, (LEFT.double(), RIGHT.double())),
        (torch.addmm, (torch.randn(16, 512), LEFT, RIGHT)),
        (lambda bias, left, right: torch.addmm(bias, left, right, beta=2), (torch.randn(512), LEFT, RIGHT)),
        (lambda left, right: torch.bmm(left[None], right[None]), (LEFT, RIGHT)),
    ],
    ids=["a little smaller", "few rows", "double", "a matrix added", "scaled", "a batch"],
)
def test_any_other_product_stays_as_it_is(function, tensors):
    count, result = taken(function, *tensors)
    assert count == 0
    assert torch.equal(result, function(*tensors))


@has_onednn
def test_a_weight_that_is_transposed_twice_is_multiplied_as_it_lies():
    """As in the backward of a recorded core: its transpose, taken as rows, would be copied, a second weight."""
    graph = make_fx(lambda left, weight: left @ weight.permute(1, 0).permute(1, 0), tracing_mode="fake")(
        LEFT, RIGHT
    ).graph
    take_onednn(graph)
    (product,) = graph.find_nodes(op="call_function", target=PRODUCT)
    assert list(product.args[:2]) == graph.find_nodes(op="placeholder")


@has_onednn
@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 900), st.booleans(), st.integers(0, 2**31))
def test_a_product_is_onednns_where_it_is_large_and_equals_the_exact_one(rows, between, columns, turned, seed):
    torch.manual_seed(seed)
    left = torch.randn(rows, between)
    right = torch.randn(columns, between).t() if turned else torch.randn(between, columns)
    count, result = taken(torch.mm, left, right)
    exact = left.double() @ right.double()
    assert count == is_large(left, right)
    assert (result - exact).abs().max() <= 1e-4 * (1 + exact.abs().max())


@has_onednn
@pytest.mark.parametrize(("rows", "first"), [(11, (11, 512)), (12, (512, 12)), (64, (512, 64)), (65, (65, 512))])
def test_of_a_few_rows_and_a_transposed_weight_the_transposed_product_is_taken(rows, first):
    graph = make_fx(lambda left, right: left @ right.permute(1, 0), tracing_mode="fake")(
        torch.randn(rows, 512), torch.randn(512, 512)
    ).graph
    take_onednn(graph)
    (product,) = graph.find_nodes(op="call_function", target=PRODUCT)
    assert product.meta["val"].shape == first
    assert len(graph.find_nodes(op="call_function", target=PERMUTE)) == (3 if first[0] == 512 else 1)


@has_onednn
def test_a_factor_with_gaps_is_no_thousand_times_slower():
    """OneDNN has no fast way for it: the product is taken of a copy."""
    left, wide = torch.randn(160, 256), torch.randn(256, 1024)
    seen = []

    def watched(left, right, *rest, plain=multiply.onednn_linear):
        seen.append(right.is_contiguous() or right.t().is_contiguous())
        return plain(left, right, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiply, "onednn_linear", watched)
        actual = torch.ops.membptt.product(left, wide[:, ::2], None)
    exact = left.double() @ wide[:, ::2].double()
    assert seen == [True]
    assert (actual - exact).abs().max() <= 1e-5 * exact.abs().max()


@has_onednn
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("lie", ["plain", "transposed", "with gaps", "computed"])
def test_compiled_code_calls_onednn_without_a_way_through_python(monkeypatch, lie, biased):
    """That way takes a tenth of the product of a few rows."""
    take_onednn(torch.fx.Graph())
    wide, left, bias = torch.randn(256, 1024), torch.randn(16, 256), torch.randn(512) if biased else None
    right = {"transposed": torch.randn(512, 256).t(), "with gaps": wide[:, ::2]}.get(lie, wide[:, :512].contiguous())

    def run(left, right, bias):
        return torch.ops.membptt.product(left, right.exp() if lie == "computed" else right, bias) + 1

    exact = left.double() @ (right.exp() if lie == "computed" else right).double() + (bias if biased else 0) + 1
    monkeypatch.setattr(multiply, "onednn_linear", None)  # as Python finds it
    actual = torch.compile(run, fullgraph=True)(left, right, bias)
    assert (actual - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.filterwarnings("ignore")
@has_onednn
def test_where_inductor_has_lost_a_name_products_go_by_python_with_a_warning(monkeypatch):
    from torch._inductor import mkldnn_ir
    from torch._inductor.lowering import lowerings

    monkeypatch.delattr(mkldnn_ir, "_create_output_node")
    monkeypatch.delitem(lowerings, PRODUCT, raising=False)
    with pytest.warns(MissingPrivateNameWarning, match="go by way of Python"):
        lower_product(PRODUCT)
    assert PRODUCT not in lowerings


def test_an_operation_without_a_function_in_c_is_called_and_not_spoken_of(capfd):
    weight = (torch.eye(6) + 0.1 * torch.randn(6, 6)).requires_grad_()

    def step(carry, x):
        carry = torch.tanh(carry @ torch.linalg.inv(weight) + x)
        return carry, carry.sum()

    init, xs = torch.randn(3, 6), torch.randn(9, 3, 6)

    def gradient(**how):
        return torch.autograd.grad(scan(step, init, xs, slots=3, params=[weight], **how)[1].sum(), [weight])

    expected = gradient()
    capfd.readouterr()
    actual = gradient(compile=True)
    assert "shim" not in "".join(capfd.readouterr())
    assert join_cores(step, [init.device]).problem is None
    assert relative_error(actual, expected) <= 1e-5


def added(total, left, right):
    """Add a product as where oneDNN is faster; return the sizes of the products that it made."""
    sizes = []

    def watched(factor, other, *rest, plain=multiply.onednn_linear):
        sizes.append(factor.shape[0] * other.shape[0])
        return plain(factor, other, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiply, "is_onednn_faster", lambda: True)
        patch.setattr(multiply, "onednn_linear", watched)
        add_product(total, left, right)
    return sizes


@has_onednn
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("between", [64, 80, 160, 320])
@pytest.mark.parametrize("rows", [256, 768, 1000])
def test_a_product_is_added_in_parts_no_larger_than_its_factors(rows, between, turned):
    left = torch.randn(between, rows).t() if turned else torch.randn(rows, between)
    right, total = torch.randn(between, 256), torch.randn(rows, 256)
    exact = total.double() + left.double() @ right.double()
    sizes = added(total, left, right)
    assert sum(sizes) == total.numel()
    assert max(sizes) <= left.numel() + right.numel()
    assert (total - exact).abs().max() <= 1e-5 * exact.abs().max()


@has_onednn
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 600), st.integers(1, 200), st.integers(1, 600), st.booleans(), st.integers(0, 2**31))
def test_whatever_its_sizes_an_added_product_is_the_exact_one(rows, between, columns, turned, seed):
    torch.manual_seed(seed)
    left = torch.randn(between, rows).t() if turned else torch.randn(rows, between)
    right, total = torch.randn(between, columns), torch.randn(rows, columns)
    exact = total.double() + left.double() @ right.double()
    sizes = added(total, left, right)
    assert bool(sizes) == (between >= 64 and is_large(left, right))
    assert (total - exact).abs().max() <= 1e-4 * (1 + exact.abs().max())


def test_a_product_of_double_precision_is_added_by_torchs_own_library():
    left, right, total = (torch.randn(256, 256, dtype=torch.float64) for _ in range(3))
    expected = torch.addmm(total, left, right)
    assert added(total, left, right) == []
    assert torch.equal(total, expected)


@pytest.mark.parametrize(("torchs", "onednns", "faster"), [(2.0, 1.0, True), (1.2, 1.0, False), (1.0, 2.0, False)])
@has_onednn
def test_the_library_is_chosen_by_the_time_it_takes_and_only_where_that_is_plain(monkeypatch, torchs, onednns, faster):
    times = iter([torchs, onednns] * multiply._ROUNDS)
    monkeypatch.setattr(multiply, "_seconds", lambda call: next(times))
    assert is_onednn_faster.__wrapped__() == faster


def test_without_onednn_torchs_own_library_stays(monkeypatch):
    monkeypatch.setattr(multiply, "onednn_linear", None)
    assert not is_onednn_faster.__wrapped__()


def test_compiled_code_is_cached_by_the_choice(monkeypatch):
    """It may be carried to another processor."""
    ids = []
    for choice in (False, True):
        monkeypatch.setattr(merging, "is_onednn_faster", lambda choice=choice: choice)
        ids.append(MergeProducts().uuid())
    assert ids[0] != ids[1]


@has_onednn
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chunk", [1, 3])
def test_compiled_cores_give_the_loops_gradient_by_either_library(monkeypatch, chunk):
    torch.manual_seed(0)
    cell = nn.LSTMCell(64, 160)

    def step(carry, x):
        carry = cell(x, carry)
        return carry, carry[0].sum()

    seen = []

    def watched(self, graph, plain=MergeProducts.__call__):
        plain(self, graph)
        seen.append(len(graph.find_nodes(op="call_function", target=PRODUCT)))

    monkeypatch.setattr(MergeProducts, "__call__", watched)
    monkeypatch.setattr(MergeProducts, "uuid", lambda self: None)  # or cached code is taken, and nothing is seen
    init, xs = (torch.randn(32, 160), torch.randn(32, 160)), torch.randn(9, 32, 64)
    params = list(cell.parameters())
    expected = torch.autograd.grad(scan(step, init, xs, slots=9, params=cell)[1].sum(), params)
    for onednn in (False, True):
        monkeypatch.setattr(merging, "is_onednn_faster", lambda onednn=onednn: onednn)
        seen.clear()

        def again(carry, x):
            return step(carry, x)

        actual = torch.autograd.grad(
            scan(again, init, xs, slots=2, params=cell, compile=True, chunk=chunk)[1].sum(), params
        )
        assert any(seen) == onednn
        assert relative_error(actual, expected) <= 1e-4
