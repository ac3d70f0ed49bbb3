"""Which library multiplies the large matrices of a compiled core on a host: the one that torch takes, or oneDNN.

Torch takes MKL, which leaves out the widest vector instructions of processors that are not Intel's: there oneDNN is up
to twice as fast. One product is timed with each, once in a process, when something is compiled for the first time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Graph

from membptt.kernels.nodes import ADD, ADDMM, MM, call, is_static, transpose, transposed, value
from membptt.torch_private import lower_product, onednn_linear

LARGE: Final = 2**21  # multiplications, at least: a smaller product is done before oneDNN has begun
_ADDENDS: Final = 64  # of each element, at least: with fewer, adding a product up in a second pass takes what it saved
_ROWS: Final = 8  # at least
_FEW: Final = range(12, 65)  # rows, of which the transposed product takes a tenth to a quarter less
_FASTER: Final = 1.25  # times, at least, or torch's own choice stays
_ROUNDS: Final = 20

_library = torch.library.Library("membptt", "DEF")  # type: ignore[no-untyped-call]
# Flexible: a transposed weight is taken as it lies, and not copied first.
_SCHEMA: Final = "product(Tensor left, Tensor right, Tensor? bias) -> Tensor"
_library.define(_SCHEMA, tags=(torch.Tag.flexible_layout,))  # type: ignore[no-untyped-call]


def _product(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    if not (right.is_contiguous() or right.t().is_contiguous()):
        right = right.contiguous()  # with gaps, oneDNN takes a thousand times as long
    product: Tensor = onednn_linear(left, right.t(), bias, "none", [], "")
    return product


def _shape(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    del bias
    return left.new_empty(left.shape[0], right.shape[1])


_library.impl("product", _product, "CPU")  # type: ignore[no-untyped-call]
_library.impl("product", _shape, "Meta")  # type: ignore[no-untyped-call]
PRODUCT: Final[Any] = torch.ops.membptt.product.default


@lru_cache(maxsize=1)
def is_onednn_faster() -> bool:
    """Whether oneDNN multiplies a large matrix noticeably faster here than what torch takes."""
    if onednn_linear is None:
        return False
    left, right = torch.ones(160, 256), torch.ones(1024, 256).t()
    ways: list[Callable[[], Tensor]] = [lambda: torch.mm(left, right), lambda: _product(left, right, None)]
    turns = [[_seconds(way) for way in ways] for _ in range(_ROUNDS)]
    torchs, onednns = map(min, zip(*turns, strict=True))
    return bool(torchs > _FASTER * onednns)


def take_onednn(graph: Graph) -> None:
    """Replace the large products on the host by oneDNN's.

    Of a few rows and a transposed weight, the transposed product is taken: the longer side of the result comes first.
    """
    _lowered()
    for node in list(graph.nodes):
        if node.target not in (MM, ADDMM) or node.kwargs or not all(map(is_static, node.args)):
            continue
        arguments: tuple[Any, ...] = node.args
        *bias, left, right = arguments
        if not all(_is_plain(value(each)) for each in arguments):
            continue
        if is_large(value(left), value(right)) and all(value(each).dim() == 1 for each in bias):
            weight, turned = transposed(right)
            with graph.inserting_before(node):
                if turned and value(left).shape[0] in _FEW:
                    product = call(graph, PRODUCT, weight, transpose(graph, left), None)
                    product = transpose(graph, product)
                    for each in bias:
                        product = call(graph, ADD, product, each)
                else:
                    right = right if turned else weight  # of one that is turned twice, its transpose would be copied
                    product = call(graph, PRODUCT, left, right, *(bias or [None]))
            node.replace_all_uses_with(product)
            graph.erase_node(node)


@lru_cache(maxsize=1)
def _lowered() -> None:
    lower_product(PRODUCT)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the product of two matrices to a third, by oneDNN where that is faster: it multiplies, and does not add.

    Its product is taken in parts, none of which is larger than the two factors.
    """
    if not (_is_plain(total) and is_added_by_onednn(left, right)):
        total.addmm_(left, right)
        return
    parts = -(-total.numel() // (left.numel() + right.numel()))
    for place, factor in zip(total.chunk(parts), left.contiguous().chunk(parts), strict=True):
        place.add_(_product(factor, right, None))


def is_added_by_onednn(left: Tensor, right: Tensor) -> bool:
    """Whether `add_product` leaves a product of these to oneDNN, which wants the rows of the left one whole."""
    fits = _is_plain(left) and _is_plain(right) and left.shape[1] >= _ADDENDS and is_large(left, right)
    return fits and is_onednn_faster()


def is_large(left: Tensor, right: Tensor) -> bool:
    """Whether a product of these is large enough for oneDNN."""
    rows, between = left.shape
    return rows >= _ROWS and rows * between * right.shape[1] >= LARGE


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is of single precision, on the host."""
    return tensor.dtype is torch.float32 and tensor.device.type == "cpu"


def _seconds(call: Callable[[], Tensor]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
