"""Nodes of a graph of ATen operations: what a transpose is one of, and new ones whose values are known."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Graph, Node

MM: Final = torch.ops.aten.mm.default
ADDMM: Final = torch.ops.aten.addmm.default
ADD: Final = torch.ops.aten.add.Tensor
PERMUTE: Final = torch.ops.aten.permute.default


def transposed(node: Any) -> tuple[Any, bool]:
    """Return what `node` is a transpose of, and whether it is one: two cancel each other."""
    turned = False
    while node.target is PERMUTE and list(node.args[1]) == [1, 0]:
        node, turned = node.args[0], not turned
    return node, turned


def call(graph: Graph, target: Any, *args: Any) -> Node:
    """Return a new node, where `graph` inserts, with its value."""
    node = graph.call_function(target, args)
    node.meta["val"] = target(*torch.fx.map_arg(args, value))
    return node


def transpose(graph: Graph, node: Node) -> Node:
    """Return a new node: the transpose."""
    return call(graph, PERMUTE, node, [1, 0])


def value(node: Any) -> Tensor:
    """Return the tensor, of no data, that stands for what `node` gives."""
    given: Tensor = node.meta["val"]
    return given


def is_static(node: Any) -> bool:
    """Tell whether `node` is a tensor whose sizes are known while compiling."""
    given = node.meta.get("val") if isinstance(node, Node) else None
    return isinstance(given, Tensor) and all(isinstance(size, int) for size in given.shape)
