"""Stored states as tensors: hidden states, internal states, and what a restart from either needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import GradientEdge, get_gradient_edge

from membptt.state.leaves import Leaves
from membptt.state.products import Product
from membptt.torch_private import put_before, put_on, take_off, versions

RandomState = tuple[Tensor, ...]
At = int | slice


Head = Tensor | GradientEdge | None


@dataclass(slots=True)
class Hidden:
    """A hidden state: the carry's leaves at one position, without graph.

    Args:
        leaves: one tensor a carry leaf.
        random: the random state in which the next step must run.
        versions: each leaf's in-place counter when it was stored.
    """

    leaves: Leaves
    random: RandomState
    versions: tuple[int, ...]

    @classmethod
    def of(cls, leaves: Leaves, random: RandomState) -> Hidden:
        """Take note of `leaves` as they are now."""
        return cls(leaves, random, versions(leaves))

    def check(self, position: int) -> None:
        """Refuse a state that somebody has written to since it was stored.

        Raises:
            RuntimeError: a leaf was changed in place.
        """
        now = versions(self.leaves)
        if self.versions == now:
            return
        for index, (current, version) in enumerate(zip(now, self.versions, strict=True)):
            if current != version:
                raise RuntimeError(
                    f"leaf {index} of the carry at position {position} was changed in place after it was computed, so "
                    "a recomputation would start from another state; let the step return new tensors instead"
                )


# One leaf of an output: which leaf it is, at which step (or steps), where its graph begins, and its shape.
Emitted = tuple[int, At, Head, torch.Size]


class Escaped(RuntimeError):
    """A backward came to the graph of a core that its scan is not backpropagating."""


class Enclosure:
    """Hooks around the graph of a core of the first pass: nobody but the scan backpropagates that core.

    The step may have handed a tensor to others beside its outputs. Its graph begins at that core, so that whoever
    backpropagates it would lose the steps before.

    Args:
        leaves: that the core starts from.
        gates: nodes by which gradients leave it otherwise.
    """

    def __init__(self, leaves: Leaves, gates: Iterable[Any]) -> None:
        self._leaves = [leaf for leaf in leaves if leaf.requires_grad]
        self._hooks: dict[int, Any] = {}
        put_before(gates, self._hooks)
        self.__exit__()

    def __enter__(self) -> None:
        """Let a backward through."""
        self._hooks.clear()
        for leaf in self._leaves:
            take_off(leaf, _ENCLOSED)

    def __exit__(self, *raised: object) -> None:
        """Let none through any more."""
        self._hooks[_ENCLOSED] = _refuse
        for leaf in self._leaves:
            put_on(leaf, _ENCLOSED, _refuse)


_ENCLOSED: Final = -1  # no handle has this number


def _refuse(grad: object) -> None:
    raise Escaped(
        "a tensor that the step made reaches the loss beside what the scan returns (through a list, an attribute or "
        "the like): its graph holds the last steps only, and the gradient of the others would be lost. Let the step "
        "return it in y, or hand it on in the carry; detach what is only looked at"
    )


@dataclass(slots=True)
class Internal:
    """An internal state: one core's graph, between leaf inputs of its own and its outputs.

    Args:
        at: the step, or steps, that the core covers.
        carry_in: the input carry's leaves; floating ones are autograd leaves.
        x_in: the inputs' leaves; those whose gradient is wanted are autograd leaves.
        carry_out: the output carry's leaves, with graph: the output hidden state.
        emitted: where the outputs' graphs begin. An output itself is not kept, unless it is a leaf of the carry.
        used: which of the declared tensors its graph reaches.
        products: with some of these, whose gradients need no tensors of their own.
        start: the hidden state that it was recorded from.
        random: the random state after the core.
        saved: bytes by storage of what the graph saved; filled only while a meter runs.
        enclosure: of a core recorded in the first pass.
        cores: under this graph; more than one where blocks of a chain are linked.
        before_last: of linked ones, the state that the last one was given, with graph.
        last_node: of the last one's graph, the node that goes backward last.
    """

    at: At
    carry_in: Leaves
    x_in: Leaves
    carry_out: Leaves
    emitted: list[Emitted]
    used: list[int]
    products: Sequence[Product]
    start: Hidden
    random: RandomState
    saved: dict[int, int] = field(default_factory=dict)
    enclosure: Enclosure | None = None
    cores: int = 1
    before_last: Leaves = ()
    last_node: Any = None

    def output(self) -> Hidden:
        """Return the output hidden state, which this internal state contains."""
        return Hidden.of(tuple([leaf.detach() for leaf in self.carry_out]), self.random)


def head(leaf: Tensor, carry: Leaves) -> Head:
    """Return where the graph of an output begins: an edge, since a tensor would keep the output's storage alive.

    The leaves of the carry are kept anyway, and the engine takes tensors faster than edges.
    """
    if not leaf.requires_grad:
        return None
    for kept in carry:
        if leaf is kept:
            return leaf
    node = leaf.grad_fn
    if node is None or isinstance(node, FunctionCtx):
        return get_gradient_edge(leaf)
    return GradientEdge(node, leaf.output_nr)  # without its questions, which take longer
