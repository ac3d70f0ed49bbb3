"""Stored states as tensors: hidden states, internal states, and what a restart from either needs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from membptt.replay import RandomState

Leaves = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
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
        return cls(leaves, random, tuple(leaf._version for leaf in leaves))

    def check(self, position: int) -> None:
        """Refuse a state that somebody has written to since it was stored.

        Raises:
            RuntimeError: a leaf was changed in place.
        """
        for index, (leaf, version) in enumerate(zip(self.leaves, self.versions, strict=True)):
            if leaf._version != version:
                raise RuntimeError(
                    f"leaf {index} of the carry at position {position} was changed in place after it was computed, so "
                    "a recomputation would start from another state; let the step return new tensors instead"
                )


@dataclass(frozen=True, slots=True)
class Emitted:
    """One leaf of an output: which leaf it is, at which step (or steps), and the tensor with its graph."""

    index: int
    at: int | slice
    leaf: Tensor


@dataclass(frozen=True, slots=True)
class Internal:
    """An internal state: one core's graph, between leaf inputs of its own and its outputs.

    Args:
        span: the steps that the core covers.
        carry_in: the input carry's leaves; floating ones are autograd leaves.
        x_in: the inputs' leaves, time first; those whose gradient is wanted are autograd leaves.
        carry_out: the output carry's leaves, with graph.
        emitted: the outputs' leaves, with graph.
        random: the random state after the core.
    """

    span: slice
    carry_in: Leaves
    x_in: Leaves
    carry_out: Leaves
    emitted: tuple[Emitted, ...]
    random: RandomState

    def output(self) -> Hidden:
        """Return the output hidden state, which this internal state contains."""
        return Hidden.of(tuple(leaf.detach() for leaf in self.carry_out), self.random)


@dataclass(slots=True)
class Slots:
    """The stored states of one call, by position and by step."""

    hidden: dict[int, Hidden] = field(default_factory=dict)
    internal: dict[int, Internal] = field(default_factory=dict)

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


def is_differentiable(tensor: Tensor) -> bool:
    """Whether autograd can give this dtype a gradient."""
    return tensor.is_floating_point() or tensor.is_complex()


def as_leaf(tensor: Tensor, *, wanted: bool = True) -> Tensor:
    """Return an autograd leaf on the same storage, where its gradient is wanted and possible."""
    leaf = tensor.detach()
    return leaf.requires_grad_() if wanted and is_differentiable(tensor) else leaf


def signature(leaves: Leaves) -> tuple[tuple[torch.Size, torch.dtype, torch.device], ...]:
    """Return shape, dtype and device of every leaf."""
    return tuple((leaf.shape, leaf.dtype, leaf.device) for leaf in leaves)
