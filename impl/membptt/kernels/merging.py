"""Merge the matrix products that the steps of a compiled core have in common: a graph pass for `torch.compile`.

Every step multiplies by the same weights, so a core's graph holds the same small product over and over. Two kinds are
merged: products of one weight whose other factors do not wait for each other (what the inputs contribute), stacked
row upon row; and sums of products (the gradient of a weight), which are one product along a longer inner dimension.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import torch
from torch.fx import Graph, Node

from membptt import torch_private
from membptt.kernels import multiply, nodes
from membptt.kernels.multiply import is_added_by_onednn, is_onednn_faster, take_onednn
from membptt.kernels.nodes import ADD, ADDMM, MM, call, is_static, transpose, transposed, value
from membptt.torch_private import OPERATION, graph_pass, hash_of_files, schema_of

ROOM: Final = 2**19  # bytes that the factors of one merged product may take, or as many as the weight if it has more
_CAT: Final = torch.ops.aten.cat.default
_SLICE: Final = torch.ops.aten.slice.Tensor
_RESHAPE: Final = torch.ops.aten.reshape.default


class MergeProducts(graph_pass()):  # type: ignore[misc]
    """The pass, as `torch.compile` takes it; it runs on a core's forward and on its backward.

    A merged product sums in another order than single ones do, so results differ by rounding.
    """

    def __call__(self, graph: Graph) -> None:
        """Rewrite `graph`, whose nodes are ATen operations that change nothing in place."""
        merge_rows(graph)
        graph.eliminate_dead_code()
        merge_sums(graph)
        graph.eliminate_dead_code()
        if is_onednn_faster():
            take_onednn(graph)

    def uuid(self) -> Any:
        """Return what compiled code is cached by: it may be carried to another processor."""
        files = __file__, multiply.__file__, nodes.__file__, torch_private.__file__
        return hash_of_files(files), is_onednn_faster()


def merge_rows(graph: Graph) -> None:
    """Replace products of one weight that do not depend on each other by slices of one product."""
    groups: dict[Any, list[Node]] = {}
    for node in graph.nodes:
        if _is_product(node) and not _is_returned(node):
            *bias, _, weight = node.args
            groups.setdefault((node.target, *bias, *transposed(weight)), []).append(node)
    for group in groups.values():
        if len(group) > 1:
            for batch in _independent(graph, group):
                _stack_rows(graph, batch)


def merge_sums(graph: Graph) -> None:
    """Replace the products in a sum by one product."""
    order = {node: at for at, node in enumerate(graph.nodes)}
    shared: dict[Any, tuple[int, Node]] = {}  # by single factors, where they were stacked, and the stack
    for root in list(graph.nodes):
        if not _is_sum(root) or _is_absorbed(root):
            continue
        products, parts = _terms(root)
        merged = False
        for batch in _bounded(sorted(products, key=order.__getitem__), inner=True):
            if len(batch) == 1:
                parts += batch
                continue
            merged = True
            last = batch[-1]  # where all factors are there
            lefts, rights = ([node.args[side] for node in batch] for side in (0, 1))
            with graph.inserting_before(last):
                # Weights that meet in one sum have left factors in common.
                since, left = shared.get((*lefts,), (len(order), None))
                right = _stack(graph, rights, 0)
                if left is None or since > order[last]:
                    left = _stack(graph, lefts, 1)
                    if transposed(left)[1] and is_added_by_onednn(value(left), value(right)):
                        left = call(graph, _CAT, lefts, 1)
                    shared[(*lefts,)] = order[last], left
                parts.append(call(graph, MM, left, right))
        if merged:
            total = parts[0]
            with graph.inserting_before(root):
                for part in parts[1:]:
                    total = call(graph, ADD, total, part)
            root.replace_all_uses_with(total)


def factors(node: Node) -> tuple[list[tuple[Any, Any]], list[Node], bool]:
    """Return a tensor as a sum: of products, by their factors, and of the rest; and whether all that is transposed."""
    base, turned = transposed(node)
    products, rest = _terms(base) if _is_sum(base) else ([base], [])
    if not all(product.target is MM and _is_product(product) for product in products) or not products:
        return [], [base], turned
    return [(product.args[-2], product.args[-1]) for product in products], rest, turned


def is_fixed(node: Node) -> bool:
    """Tell whether `node` must stay where it is: random numbers are drawn in the order of the steps."""
    if node.op != "call_function" or node.target is operator.getitem:
        return False
    if not isinstance(node.target, OPERATION):
        return True
    return schema_of(node.target).is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags


def _independent(graph: Graph, group: Sequence[Node]) -> list[list[Node]]:
    """Cut products of one weight, in the graph's order, into runs of two and more of which none needs another."""
    batches: list[list[Node]] = []
    members, waiting = set(group), set[Node]()  # waiting: what needs one of the present run, or must not be moved
    for node in graph.nodes:
        waits = any(before in waiting for before in node.all_input_nodes)
        if node in members:
            if waits or not batches:
                batches.append([])
                waiting.clear()
            batches[-1].append(node)
        if waits or node in members or is_fixed(node):
            waiting.add(node)
    runs = chain.from_iterable(_bounded(batch, inner=False) for batch in batches)
    return [run for run in runs if len(run) > 1]


def _stack_rows(graph: Graph, batch: Sequence[Node]) -> None:
    """Put one product of all rows before the first of `batch`, and before that whatever the rows are made of."""
    first = batch[0]
    factors = [node.args[-2] for node in batch]
    for node in _between(graph, first, factors):
        first.prepend(node)
    *bias, _, weight = first.args
    with graph.inserting_before(first):
        whole, start = call(graph, first.target, *bias, _stack(graph, factors, 0), weight), 0
        for node in batch:
            stop = start + value(node).shape[0]
            node.replace_all_uses_with(call(graph, _SLICE, whole, 0, start, stop))
            start = stop


def _between(graph: Graph, first: Node, wanted: Sequence[Any]) -> list[Node]:
    """Return, in order, the nodes after `first` that `wanted` need, themselves among them."""
    in_order = list(graph.nodes)
    after = set(in_order[in_order.index(first) :])
    needed, todo = set[Node](), list(wanted)
    while todo:
        node = todo.pop()
        if node in after and node not in needed:
            needed.add(node)
            todo += node.all_input_nodes
    return [node for node in in_order if node in needed]


def _bounded(batch: Sequence[Node], *, inner: bool) -> list[list[Node]]:
    """Cut a run of products where their factors, and what is stacked beside them, would take too much room."""
    cut: list[list[Node]] = []
    taken = 0
    for node in batch:
        (rows, between), columns, size = value(node.args[-2]).shape, value(node).shape[1], value(node).element_size()
        # Along the inner dimension both factors are stacked; along the rows one factor and the result.
        own = size * (between * (rows + columns) if inner else rows * (between + columns))
        weight = size * (rows if inner else between) * columns
        if not cut or taken + own > max(ROOM, weight):
            cut.append([])
            taken = 0
        cut[-1].append(node)
        taken += own
    return cut


def _terms(root: Node) -> tuple[list[Node], list[Node]]:
    """Return what a tree of additions sums up: products of no other use, and the rest."""
    products: list[Node] = []
    others: list[Node] = []
    todo = [root]
    while todo:
        node = todo.pop()
        if node is root or (_is_sum(node) and _is_absorbed(node)):
            todo += [part for part in node.args if isinstance(part, Node)]
        elif node.target is MM and _is_product(node) and len(node.users) == 1:
            products.append(node)
        else:
            others.append(node)
    return products, others


def _is_product(node: Node) -> bool:
    if node.target not in (MM, ADDMM) or node.kwargs:
        return False
    if node.target is ADDMM and value(node.args[0]).dim() != 1:
        return False
    return all(map(is_static, node.args[-2:]))


def _is_sum(node: Node) -> bool:
    """Tell whether `node` adds two tensors of its own shape and type."""
    if node.target is not ADD or node.kwargs or not all(map(is_static, (node, *node.args))):
        return False
    whole = value(node)
    return all(
        (part.shape, part.dtype, part.device) == (whole.shape, whole.dtype, whole.device)
        for part in map(value, node.args)
    )


def _is_absorbed(node: Node) -> bool:
    """Tell whether `node` is only a term of another sum."""
    return len(node.users) == 1 and all(map(_is_sum, node.users))


def _is_returned(node: Node) -> bool:
    """Tell whether the caller gets `node` or a view of it: its memory must not be shared with others."""
    return any(user.op == "output" or (_is_view(user) and _is_returned(user)) for user in node.users)


def _is_view(node: Node) -> bool:
    return node.target in (operator.getitem, _RESHAPE) or (isinstance(node.target, OPERATION) and node.target.is_view)


def _stack(graph: Graph, matrices: Sequence[Any], dim: int) -> Node:
    """Concatenate matrices; transposes are concatenated before they are transposed, which keeps rows whole."""
    parts, swapped = zip(*map(transposed, matrices), strict=True)
    if all(swapped):
        return transpose(graph, call(graph, _CAT, list(parts), 1 - dim))
    return call(graph, _CAT, list(matrices), dim)
