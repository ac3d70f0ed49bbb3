"""Finds tensors that require grad and were not declared: their gradients would be lost."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from membptt.state.leaves import is_core_leaf
from membptt.step.reach import reach
from membptt.step.surroundings import Surroundings
from membptt.torch_private import hooks_of, number_of

# The node that adds a gradient to a leaf, by way of a leaf: torch has no public name for its class.
_Accumulate: Any = get_gradient_edge(torch.zeros((), requires_grad=True)).node.__class__
_ways: Final[Callable[[Any], Sequence[Any]]] = attrgetter("next_functions")


class Undeclared:
    """Finds, in the graphs of recorded cores, tensors that require grad and were not declared.

    Every recorded core is searched, since a step may capture another tensor at every call.

    Args:
        step: looked through for the names of tensors.
        read: what reads the inputs, if anything does; likewise.
        declared: the tensors whose gradients are not lost. Their accumulators are known by identity as long as this
            object keeps them, which makes the search cheap: it visits the nodes that one core adds.
    """

    def __init__(
        self, step: Callable[..., Any], declared: Sequence[Tensor], read: Callable[..., Any] | None = None
    ) -> None:
        self._steps = (step,) if read is None else (step, read)
        self._ids = dict(zip(map(id, declared), range(len(declared)), strict=True))
        self.accumulators: dict[Any, int] = {}  # of declared tensors, as they are met
        self.frozen: Collection[int] = ()  # identities of tensors that wanted no gradient when the first pass was over
        # Of a node with several outputs, such as unbind's, one may be declared and another not.
        self._edges = {
            (tensor.grad_fn, tensor.output_nr): index
            for index, tensor in enumerate(declared)
            if tensor.grad_fn is not None
        }

    def refuse(self, returned: Sequence[Tensor], own: Iterable[Tensor], since: float) -> Graph:
        """Search the graphs of `returned`, what one core returned, down to `own`, its inputs.

        Not meant are leaves that the core made itself, where `since` is what `nodes_made` gave before it, and that
        nobody else holds: nobody can ask for their gradients. A step that differentiates inside makes such.

        Returns:
            These graphs, and which of the declared tensors they reach.

        Raises:
            ValueError: names a tensor whose gradient would be lost; of several, one that the step's code names.
        """
        edges, mine = self._edges, {*map(id, own)}
        seen: set[Any] = {None}
        used: set[int] = set()
        pending: list[Any] = []
        ends: list[Any] = []  # accumulators, each as often as a node leads to it, and these
        ending: list[Any] = []
        look, go_on = seen.add, pending.append
        lost: list[Tensor] = []
        for tensor in returned:
            node = tensor.grad_fn
            if node is None:
                if tensor.requires_grad and id(tensor) not in mine:
                    if id(tensor) not in self._ids:
                        lost.append(tensor)
                    else:
                        used.add(self._ids[id(tensor)])
            elif edges and (node, tensor.output_nr) in edges:
                used.add(edges[node, tensor.output_nr])
            elif node not in seen:
                look(node)
                go_on(node)
        for node in pending:
            for edge in node.next_functions:
                child = edge[0]
                if child.__class__ is _Accumulate:
                    ends.append(child)
                    ending.append(node)
                elif child not in seen:
                    if edges and edge in edges:
                        used.add(edges[edge])
                    else:
                        look(child)
                        go_on(child)
        for end, node in zip(ends, ending, strict=True):
            index = self.accumulators.get(end)
            if index is not None:
                used.add(index)
                continue
            leaf = id(end.variable)
            if leaf in self._ids:
                self.accumulators[end] = self._ids[leaf]
                used.add(self._ids[leaf])
            elif not (leaf in mine or (number_of(node) >= since and _is_nobodys(end))):
                lost.append(end.variable)
        lost = [tensor for tensor in lost if id(tensor) not in self.frozen]
        if lost:
            raise self._error(lost, pending)
        return Graph(returned, pending, ends, ending, self.accumulators, edges, sorted(used))

    def used_up(self) -> RuntimeError:
        """Return the error for a core that captured a graph which an earlier core's backward used up."""
        return RuntimeError(
            f"the step uses {self._computed()}, which was computed outside the step from tensors that require grad: "
            "every step backpropagates through that one graph, and the first used it up. Pass it in params= itself, "
            "compute it inside the step, or detach it"
        )

    def kept(self) -> RuntimeError:
        """Return the error for a core that uses what another core made, and kept."""
        return RuntimeError(
            "the step uses a tensor that it made at an earlier call, from tensors that require grad, and kept (in an "
            f"attribute, a dict, a cached_property, an lru_cache; found there: {self._computed()}): "
            "of that call a recomputation knows nothing, and the gradient would be lost. Compute it at every step, or "
            "before the scan, as a tensor that is declared in params="
        )

    def _computed(self) -> str:
        """Name the tensors with a graph that the steps reach."""
        names = [
            by_number[number]
            for around in map(Surroundings.of, map(reach, self._steps))
            for by_number in [around.names()]
            for number, tensor in around.numbered()
            if tensor.grad_fn is not None and id(tensor) not in self._ids
        ]
        return " and ".join(map(repr, names)) or "a tensor"

    def _error(self, lost: Sequence[Tensor], nodes: Sequence[Any]) -> ValueError:
        if any(map(is_core_leaf, lost)):
            return ValueError(
                "the step uses a tensor that it made at another call and kept outside the carry (in an attribute, a "
                "list, a variable): its gradient would be lost. Hand it on in the carry (membptt.Stateful does it for "
                "modules), or detach it where the loop does not backpropagate through it"
            )
        name, tensor = self._name(lost, nodes)
        advice = "" if "'" in name else "; if the step made it itself, detach what it returns, and keep it nowhere"
        return ValueError(
            f"the step uses {name}, of shape {tuple(tensor.shape)}, which requires grad but was not declared, so its "
            f"gradient would be lost; pass it in params=, or detach it{advice}"
        )

    def _name(self, lost: Sequence[Tensor], nodes: Sequence[Any]) -> tuple[str, Tensor]:
        """Name one of the `lost` tensors, or one computed from them, as the user's source does: the first of these."""
        ids, computed = {id(tensor) for tensor in lost}, set(nodes)
        names: list[tuple[str, Tensor]] = []
        for name, value in (pair for step in self._steps for pair in reach(step).named):
            if isinstance(value, nn.Module):
                names += [
                    (f"the parameter '{f'{name}.{inner}'.lstrip('.')}'", tensor)
                    for inner, tensor in value.named_parameters()
                ]
            elif value.grad_fn in computed and id(value) not in self._ids:
                return f"the tensor {name!r}", value
            else:
                names.append((f"the tensor {name!r}", value))
        kind = "a parameter" if isinstance(lost[0], nn.Parameter) else "a tensor"
        return next((pair for pair in names if id(pair[1]) in ids), (kind, lost[0]))


class Graph(NamedTuple):
    """The graphs of what one core returned, as they were searched.

    Args:
        returned: by the core.
        nodes: theirs, without the accumulators of leaves.
        ends: these accumulators, each as often as a node leads to it.
        ending: these nodes.
        accumulators: of declared tensors: which each of them is of.
        edges: of declared tensors with a graph.
        used: which of the declared tensors they reach, in ascending order.
    """

    returned: Sequence[Tensor]
    nodes: list[Any]
    ends: list[Any]
    ending: list[Any]
    accumulators: Mapping[Any, int]
    edges: Collection[Any]
    used: list[int]

    def gates(self, since: float) -> list[Any]:
        """Return the nodes made since then from which a gradient goes on to a declared tensor."""
        accumulators, edges = self.accumulators, self.edges
        to_declared = {node: None for node, end in zip(self.ending, self.ends, strict=True) if end in accumulators}
        if edges:
            to_declared |= {node: None for node in self.nodes if any(edge in edges for edge in _ways(node))}
        return [node for node in to_declared if number_of(node) >= since]

    def shared(self) -> dict[Any, int]:
        """Return the nodes, and accumulators, that more than one way leads to, and how many do."""
        counts = Counter(map(itemgetter(0), chain.from_iterable(map(_ways, self.nodes))))
        counts.update({get_gradient_edge(tensor).node for tensor in self.returned if tensor.requires_grad})
        return {node: count for node, count in counts.items() if count > 1}


def _is_nobodys(accumulator: Any) -> bool:
    """Whether nothing but its graph holds a leaf."""
    return _references(accumulator) == _ALONE and not hooks_of(accumulator.variable)


def _references(accumulator: Any) -> int:
    leaf = accumulator.variable
    return sys.getrefcount(leaf)


def _count_alone() -> int:
    """Count the references to a leaf that nobody holds; 0, which no leaf has, where held ones have no more."""
    held = torch.zeros((), requires_grad=True)
    alone, other = ((leaf * 1).grad_fn for leaf in (torch.zeros((), requires_grad=True), held))
    counts = [_references(node.next_functions[0][0]) for node in (alone, other) if node is not None]
    return counts[0] if counts[0] < counts[1] else 0


_ALONE = _count_alone()
