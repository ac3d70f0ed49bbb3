"""A traced core as compiled functions: forward, and the pullback, with the factors of what parameters' sums get.

A parameter's gradient is mostly a product of two factors, or a sum of such. The function returns the factors, and the
product is added right into the sum: no second tensor as large as the parameter is ever there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from membptt.kernels.compiled import CannotJoin, compile_options
from membptt.kernels.merging import factors, is_fixed, merge_sums
from membptt.kernels.multiply import add_product
from membptt.kernels.nodes import transposed
from membptt.state.leaves import Layout, Leaves
from membptt.torch_private import compile_operations, decompositions, trace_operations

_ALIAS = torch.ops.aten.alias.default


class Piece(NamedTuple):
    """Which tensor, of all that a pullback takes and returns; and whether it is transposed."""

    source: int
    turned: bool

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return it."""
        tensor = tensors[self.source]
        return tensor.t() if self.turned else tensor


@dataclass(frozen=True)
class Pullback:
    """Returns what it takes and what it makes of that; from among these tensors everything is taken.

    Args:
        compiled: the function.
        layouts: of the gradients that it takes.
        forward: by output of the traced core: which tensor it is.
        own: places of carry and inputs, and which results their gradients are.
        products: places of parameters, and the two factors of what is added.
        shares: places of parameters, and what is added.
    """

    compiled: Any
    layouts: Sequence[Layout]
    forward: Mapping[int, int]
    own: Mapping[int, Piece]
    products: Sequence[tuple[int, Piece, Piece]]
    shares: Sequence[tuple[int, Piece]]

    def __call__(self, inputs: Leaves, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run it."""
        given = [
            grad if grad.stride() == layout.stride else layout.empty().copy_(grad)
            for grad, layout in zip(grads, self.layouts, strict=True)
        ]
        tensors = [*inputs, *given]
        with torch.no_grad():
            return [*tensors, *self.compiled(tensors.copy())]

    @property
    def summed(self) -> Iterable[int]:
        """The places of parameters that something is added to."""
        return dict.fromkeys([place for place, *_ in self.products] + [place for place, _ in self.shares])

    def add(self, tensors: Sequence[Tensor], sums: Mapping[int, Tensor]) -> None:
        """Add to the sums of the parameters' gradients."""
        with torch.no_grad():
            for place, left, right in self.products:
                add_product(sums[place], left.of(tensors), right.of(tensors))
            for place, piece in self.shares:
                sums[place].add_(piece.of(tensors))

    def gradients(self, tensors: Sequence[Tensor]) -> Mapping[int, Tensor]:
        """Return the gradients of carry and inputs, by place."""
        return {place: piece.of(tensors) for place, piece in self.own.items()}


class Forward:
    """Returns what a traced core returns.

    Args:
        compiled: the function.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def __call__(self, inputs: Leaves) -> Sequence[Tensor]:
        """Run it."""
        with torch.no_grad():
            results = self._compiled(list(inputs))
        return [result.detach() if result.requires_grad else result for result in results]  # one that is handed on


def forward(module: GraphModule, inputs: Leaves) -> Forward:
    """Compile a traced core, to be run without graph.

    Args:
        module: the core, a function of `inputs`.
        inputs: tensors such as it is given.

    Raises:
        CannotJoin: it draws random numbers or writes to what it is given.
    """

    def run(*tensors: Tensor) -> list[Tensor]:
        with torch.enable_grad():  # as the pullback runs it: a step may take gradients of its own
            return [tensor.detach() for tensor in module(*tensors)]

    with torch.no_grad():
        return Forward(_compiled(_traced(run, _plain(inputs))))


def pullback(
    module: GraphModule,
    inputs: Leaves,
    *,
    wanted: Sequence[int],
    places: Sequence[int],
    own: int,
    heads: Sequence[int],
    kept: Sequence[int],
    grads: Sequence[Tensor],
) -> Pullback:
    """Derive the pullback of a traced core, and compile it.

    Args:
        module: the core, a function of `inputs`.
        inputs: tensors such as it is given.
        wanted: the inputs that get a gradient.
        places: of the inputs, among carry and inputs of the core, and, from `own` on, declared tensors.
        own: how many of them are carry and inputs.
        heads: the outputs that have a gradient, or ``~input`` where an input is handed on.
        kept: the outputs that are returned.
        grads: a gradient of each head.

    Raises:
        CannotJoin: it draws random numbers or writes to what it is given, or no gradient reaches an input.
    """
    plain = _plain(inputs)
    layouts = [Layout.of(grad) for grad in grads]
    reached: list[int] = []

    def pulled(*tensors: Tensor) -> list[Tensor]:
        leaves = [tensor.detach() for tensor in tensors[: len(inputs)]]
        for index in wanted:
            leaves[index].requires_grad_()
        with torch.enable_grad():
            returned = module(*leaves)
        ends = [returned[head] if head >= 0 else leaves[~head] for head in heads]
        pairs = [pair for pair in zip(ends, tensors[len(inputs) :], strict=True) if pair[0].requires_grad]
        if not pairs or not wanted:
            raise CannotJoin("no gradient reaches an input")
        shares = torch.autograd.grad(
            [end for end, _ in pairs],
            [leaves[index] for index in wanted],
            [grad for _, grad in pairs],
            allow_unused=True,
        )
        reached[:] = [index for index, share in zip(wanted, shares, strict=True) if share is not None]
        return [*(returned[index].detach() for index in kept), *(share for share in shares if share is not None)]

    given = [*plain, *(layout.empty().zero_() for layout in layouts)]
    with torch.no_grad():
        traced = _traced(pulled, given)
        results = _simplify(traced.graph)
        forward = {output: at for at, output in enumerate(kept, len(given))}
        pieces, products, shares = _Pieces(traced.graph, results[: len(kept)]), [], []
        by_place: dict[int, Piece] = {}
        for index, result in zip(reached, results[len(kept) :], strict=True):
            place = places[index]
            if place < own:
                by_place[place] = pieces.of(result)
                continue
            pairs, rest, turned = factors(result)
            for left, right in pairs:
                first, second = (right, left) if turned else (left, right)
                products.append((place, pieces.of(first, turned), pieces.of(second, turned)))
            shares += [(place, pieces.of(node, turned)) for node in rest]
        pieces.put()
        compiled = _compiled(traced)
    return Pullback(compiled, layouts, forward, by_place, products, shares)


def _plain(inputs: Leaves) -> list[Tensor]:
    if any(type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout is not torch.strided for tensor in inputs):
        raise CannotJoin("it uses tensors of another kind")
    return [tensor.detach() for tensor in inputs]


def _traced(function: Callable[..., list[Tensor]], given: Sequence[Tensor]) -> GraphModule:
    """Return the graph of what `function` does with such tensors, which changes nothing in place; nothing is run."""
    operations = trace_operations(function, given, {})
    # Once more without autograd, so that what a step computes in place is not in place any more. Taken apart after that
    # only: what torch's cells write to would be views of one tensor otherwise, put together again at every write.
    traced = trace_operations(torch.func.functionalize(operations), given, decompositions())
    if any(torch.Tag.nondeterministic_seeded in _tags(node) for node in (*operations.graph.nodes, *traced.graph.nodes)):
        raise CannotJoin("it draws random numbers")
    traced.graph.eliminate_dead_code()
    if any(map(is_fixed, traced.graph.nodes)):
        raise CannotJoin("it writes to what it is given")
    return traced


def _compiled(traced: GraphModule) -> Any:
    traced.recompile()
    return compile_operations(traced, compile_options())


def _simplify(graph: Graph) -> list[Node]:
    """Take out what changes nothing, merge products; return the results."""
    for node in list(graph.nodes):
        base, turned = transposed(node)
        if node.target is _ALIAS:
            node.replace_all_uses_with(node.args[0])
        elif base is not node and not turned:
            node.replace_all_uses_with(base)
    graph.eliminate_dead_code()
    merge_sums(graph)
    graph.eliminate_dead_code()
    return list(graph.output_node().args[0])  # type: ignore[arg-type]


class _Pieces:
    """Collects what a graph is to return: each tensor once, no transposes, no inputs."""

    def __init__(self, graph: Graph, kept: Sequence[Node]) -> None:
        self._graph = graph
        self._returned = list(kept)
        self._inputs = {node: index for index, node in enumerate(graph.find_nodes(op="placeholder"))}

    def of(self, node: Node, turn: bool = False) -> Piece:
        """Return where `node`, or its transpose, will be found."""
        node, turned = transposed(node)
        if node in self._inputs:
            return Piece(self._inputs[node], turned != turn)
        if node not in self._returned:
            self._returned.append(node)
        return Piece(len(self._inputs) + self._returned.index(node), turned != turn)

    def put(self) -> None:
        """Have the graph return them."""
        self._graph.output_node().args = (self._returned,)
        self._graph.eliminate_dead_code()


def _tags(node: Node) -> Sequence[Any]:
    return getattr(node.target, "tags", ())
