"""Parameters that a core multiplies with once: their gradients are products, added to the sums in place.

Autograd makes every core's gradient of a weight a tensor of its own, as large as the weight, which is then added to the
sum. For few rows, as in a recurrent network, writing and reading these tensors takes longer than all else that goes
backward.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

NARROW: Final = 32  # rows or columns of a weight; below, MKL rounds otherwise what it adds to, and little is gained
_W: Final = torch.zeros(1, 1, requires_grad=True)
_TURN: Final[Any] = _W.t().grad_fn.__class__
_FACTORS: Final[dict[Any, str]] = {  # by the node of a product: the factor beside the weight, as torch saves it
    torch.addmm(torch.zeros(1), _W, _W).grad_fn.__class__: "mat1",
    torch.mm(_W, _W).grad_fn.__class__: "self",
}


class Product(NamedTuple):
    """One product of a core's graph: rows, times a weight that nothing else of the core uses.

    Args:
        node: of the graph.
        weight: which declared tensor it is.
        bias: which one was added to each row, if nothing else of the core uses that; otherwise ``None``.
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
        return torch.mm(grad.t(), rows) if self.turned else torch.mm(rows.t(), grad)

    def add(self, rows: Tensor, grad: Tensor, total: Tensor) -> None:
        """Add the gradient of the weight to a sum."""
        if self.turned:
            total.addmm_(grad.t(), rows)
        else:
            total.addmm_(rows.t(), grad)


def multiplied(declared: Sequence[Tensor]) -> frozenset[int]:
    """Return which of the declared tensors may be weights of products: real matrices, wide enough to be worth it."""
    return frozenset(
        [
            index
            for index, tensor in enumerate(declared)
            if tensor.dim() == 2 and min(tensor.shape) >= NARROW and tensor.is_floating_point()
            if type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
        ]
    )


def products(
    nodes: Iterable[Any],
    weights: Collection[int],
    declared: Mapping[Any, int],
    shared: Collection[Any],
    since: float,
) -> list[Product]:
    """Find the products among the nodes of a core's graph.

    Args:
        nodes: of the graph.
        weights: which declared tensors are looked for.
        declared: which declared tensor an accumulator adds to.
        shared: nodes that more than one way leads to.
        since: what `nodes_made` gave before the core: older nodes are somebody else's, too.
    """
    products = []
    for node in nodes:
        if node.__class__ not in _FACTORS or node._sequence_nr() < since:
            continue
        *before, (weight, _) = node.next_functions
        turned = weight.__class__ is _TURN
        if turned:
            if weight in shared or weight._sequence_nr() < since:
                continue
            weight = weight.next_functions[0][0]
        index = declared.get(weight)
        if index is None or index not in weights or weight in shared:
            continue
        bias = before[0][0] if len(before) > 1 and getattr(node, "_saved_beta", None) == 1 else None
        products.append(Product(node, index, declared.get(bias) if bias not in shared else None, turned))
    return products
