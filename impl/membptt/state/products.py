"""Parameters that a core only multiplies with: their gradients are products, added to the sums in place.

Autograd makes every use's gradient of a weight a tensor of its own, as large as the weight, adds up those of a core in
another one, and that is then added to the sum. For few rows, as in a recurrent network, writing and reading these
tensors takes longer than all else that goes backward.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from membptt.torch_private import number_of

NARROW: Final = 32  # rows or columns of a weight; below, MKL rounds otherwise what it adds to, and little is gained
SMALL: Final = 2**15  # numbers in a weight; below, several products are not worth looking at one by one
_W: Final = torch.zeros(1, 1, requires_grad=True)
_TURN: Final[Any] = _W.t().grad_fn.__class__
# By the node of a product: the factor beside the weight, which torch's notes on autograd show as `_saved_mat1`.
_FACTORS: Final[dict[Any, str]] = {
    torch.addmm(torch.zeros(1), _W, _W).grad_fn.__class__: "mat1",
    torch.mm(_W, _W).grad_fn.__class__: "self",
}


class Product(NamedTuple):
    """One product of a core's graph: rows, times a weight that the core uses in such products only.

    Args:
        node: of the graph.
        weight: which declared tensor it is.
        bias: which one was added to each row, if the core only adds it to such products; otherwise ``None``.
        turned: whether the weight was transposed.
    """

    node: Any
    weight: int
    bias: int | None
    turned: bool

    @property
    def edge(self) -> GradientEdge:
        """Where the gradient of the product arrives."""
        return GradientEdge(self.node, 0)

    def rows(self) -> Tensor | None:
        """Return the rows; ``None`` where somebody packed them, where they are no plain tensor, or were scaled."""
        node, name = self.node, _FACTORS[self.node.__class__]
        saved = getattr(node, f"_raw_saved_{name}", None)
        if saved is None or saved.unpack_hook is not None or getattr(node, "_saved_alpha", 1) != 1:
            return None
        rows: Tensor | None = getattr(node, f"_saved_{name}")
        return rows if type(rows) is Tensor and rows.layout is torch.strided else None

    def share(self, rows: Tensor, grad: Tensor) -> Tensor:
        """Return the gradient of the weight, given that of the product."""
        shape = rows.shape[1], grad.shape[1]
        total = grad.new_empty(shape[::-1] if self.turned else shape)
        # In place: autocast, which is as in the first pass here, would cast the factors of any other product.
        self.add(rows, grad, total, beta=0)
        return total

    def add(self, rows: Tensor, grad: Tensor, total: Tensor, *, beta: int = 1) -> None:
        """Add the gradient of the weight to a sum, or, with a `beta` of 0, put it there."""
        if self.turned:
            total.addmm_(grad.t(), rows, beta=beta)
        else:
            total.addmm_(rows.t(), grad, beta=beta)


def multiplied(declared: Sequence[Tensor]) -> dict[int, int]:
    """Return which of the declared tensors may be weights of products, and how many numbers are in them.

    They are real matrices, wide enough to be worth it.
    """
    return {
        index: tensor.numel()
        for index, tensor in enumerate(declared)
        if tensor.dim() == 2 and min(tensor.shape) >= NARROW and tensor.is_floating_point()
        if type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
    }


def products(
    nodes: Iterable[Any],
    weights: Mapping[int, int],
    declared: Mapping[Any, int],
    shared: Mapping[Any, int],
    since: float,
) -> list[Product]:
    """Find the products among the nodes of a core's graph, of weights all of whose uses there are such.

    Args:
        nodes: of the graph.
        weights: which declared tensors are looked for, and how many numbers are in them.
        declared: which declared tensor an accumulator adds to.
        shared: how many ways lead to a node, where there are several.
        since: what `nodes_made` gave before the core: older nodes are somebody else's, too.

    Returns:
        They, the one that goes backward first in front: gradients are added up in the order of the loop.
    """
    candidates: list[Product] = []
    ways: dict[Any, int] = {}  # that lead from these products to a weight, of those that several lead to
    ways_to_bias: dict[Any, int] = {}
    for node in nodes:
        if node.__class__ not in _FACTORS or number_of(node) < since:
            continue
        *before, (weight, _) = node.next_functions
        turned = weight.__class__ is _TURN
        if turned:
            if weight in shared or number_of(weight) < since:
                continue
            weight = weight.next_functions[0][0]
        index = declared.get(weight)
        if index is None or index not in weights:
            continue
        if weight in shared:
            if weights[index] < SMALL:
                continue
            ways[weight] = ways.get(weight, 0) + 1
        bias = before[0][0] if len(before) > 1 and getattr(node, "_saved_beta", None) == 1 else None
        if bias in shared:
            ways_to_bias[bias] = ways_to_bias.get(bias, 0) + 1
        candidates.append(Product(node, index, declared.get(bias), turned))
    if not ways and not ways_to_bias:
        return candidates
    partly, elsewhere = (
        [declared[end] for end, count in each.items() if end in declared and count < shared[end]]
        for each in (ways, ways_to_bias)
    )
    return sorted(without(candidates, partly, elsewhere), key=_number, reverse=True)


def without(products: Iterable[Product], weights: Collection[int], biases: Collection[int | None]) -> list[Product]:
    """Leave out the products of some weights, and of the others the biases that are added elsewhere, too.

    Args:
        products: all of a core.
        weights: to leave out: autograd makes their gradients, and those of what is added to their products.
        biases: to leave out.
    """
    elsewhere = {*biases, *(each.bias for each in products if each.weight in weights)}
    return [
        each._replace(bias=None) if each.bias in elsewhere else each for each in products if each.weight not in weights
    ]


def _number(product: Product) -> float:
    return number_of(product.node)
