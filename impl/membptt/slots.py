"""Stored states as tensors: hidden states, internal states, and what a restart from either needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from membptt.replay import RandomState

if TYPE_CHECKING:
    from membptt.tier import SlowStates

Leaves = tuple[Tensor, ...]
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
        for index, (found, version) in enumerate(zip(now, self.versions, strict=True)):
            if found != version:
                raise RuntimeError(
                    f"leaf {index} of the carry at position {position} was changed in place after it was computed, so "
                    "a recomputation would start from another state; let the step return new tensors instead"
                )


def versions(leaves: Leaves) -> tuple[int, ...]:
    """Return the in-place counter of every leaf."""
    # Tensors made in inference mode have no counter, and are never stored for a backward.
    return tuple([0 if leaf.is_inference() else leaf._version for leaf in leaves])


@dataclass(frozen=True, slots=True)
class Layout:
    """How a leaf lies in memory. CUDA's dropout draws by strides and alignment, so that a copy has to lie alike.

    Args:
        shape: of the leaf.
        stride: of the leaf; dense where its elements overlap.
        lead: elements between a boundary of 16 bytes and its first one.
        dtype: of the leaf.
        device: of the leaf.
    """

    shape: torch.Size
    stride: tuple[int, ...]
    lead: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, leaf: Tensor) -> Layout:
        """Take note of a leaf's."""
        overlaps = any(step == 0 and size > 1 for step, size in zip(leaf.stride(), leaf.shape, strict=True))
        stride = torch.empty(leaf.shape, device="meta").stride() if overlaps else leaf.stride()
        return cls(leaf.shape, stride, leaf.data_ptr() % 16 // leaf.element_size(), leaf.dtype, leaf.device)

    @property
    def nbytes(self) -> int:
        """Bytes from that boundary to the last element."""
        return self._extent() * self.dtype.itemsize

    def empty(self) -> Tensor:
        """Return a new tensor of that layout."""
        whole = torch.empty(self._extent(), dtype=self.dtype, device=self.device)
        return whole.as_strided(self.shape, self.stride, self.lead)

    def _extent(self) -> int:
        if not self.shape.numel():
            return self.lead
        return self.lead + 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


@dataclass(slots=True)
class Emitted:
    """One leaf of an output: which leaf it is, at which step (or steps), where its graph begins, and its shape."""

    index: int
    at: At
    head: Head
    shape: torch.Size


@dataclass(slots=True)
class Internal:
    """An internal state: one core's graph, between leaf inputs of its own and its outputs.

    Args:
        at: the step, or steps, that the core covers.
        carry_in: the input carry's leaves; floating ones are autograd leaves.
        x_in: the inputs' leaves; those whose gradient is wanted are autograd leaves.
        carry_out: the output carry's leaves, with graph: the output hidden state.
        emitted: where the outputs' graphs begin. An output itself is not kept, unless it is a leaf of the carry.
        random: the random state after the core.
        saved: bytes by storage of what the graph saved; filled only while a meter runs.
    """

    at: At
    carry_in: Leaves
    x_in: Leaves
    carry_out: Leaves
    emitted: list[Emitted]
    random: RandomState
    saved: dict[int, int]

    def output(self) -> Hidden:
        """Return the output hidden state, which this internal state contains."""
        return Hidden.of(tuple([leaf.detach() for leaf in self.carry_out]), self.random)


@dataclass(slots=True)
class Slots:
    """The stored states of one call, by position and by step; `slow` holds those of the slow tier, if there is one."""

    hidden: dict[int, Hidden] = field(default_factory=dict)
    internal: dict[int, Internal] = field(default_factory=dict)
    slow: SlowStates | None = None

    def restore(self, position: int) -> Hidden:
        """Return the hidden state at `position`, stored by itself or as the output of an internal state."""
        state = self.hidden.get(position)
        if state is None:
            return self.internal[position - 1].output()
        state.check(position)
        return state

    def clear(self) -> None:
        """Let go of every stored state."""
        self.hidden.clear()
        self.internal.clear()
        if self.slow is not None:
            self.slow.close()


def is_differentiable(tensor: Tensor) -> bool:
    """Whether autograd can give this dtype a gradient."""
    return tensor.is_floating_point() or tensor.is_complex()


def as_leaf(tensor: Tensor, wanted: bool, /) -> Tensor:
    """Return a tensor of its own on the same storage: an autograd leaf where its gradient is wanted."""
    return tensor.detach().requires_grad_() if wanted else tensor.detach()


def head(leaf: Tensor, carry: Leaves) -> Head:
    """Return where the graph of an output begins: an edge, since a tensor would keep the output's storage alive.

    The leaves of the carry are kept anyway, and the engine takes tensors faster than edges.
    """
    if not leaf.requires_grad:
        return None
    for kept in carry:
        if leaf is kept:
            return leaf
    return get_gradient_edge(leaf)


def signature(leaves: Leaves) -> tuple[tuple[torch.Size, torch.dtype, torch.device], ...]:
    """Return shape, dtype and device of every leaf."""
    return tuple((leaf.shape, leaf.dtype, leaf.device) for leaf in leaves)
