"""The parts of a backward pass: gradients that are complete are handed on while earlier cores are still recomputed.

Only where that is of use: each part is a stop between cores that may else go backward together, and a look at all that
is around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import torch.distributed as dist
from torch import Tensor

from membptt.state.leaves import Leaves
from membptt.torch_private import IN_PARTS, are_hooked

READY: Final = 2**20  # bytes of gradients that are handed on first, at least: the first bucket of torch's DDP
LATER: Final = 8  # times as many together after that, and twice as many each time. No more in all: one part
MOST: Final = 32  # times as many, at most: torch's DDP waits for 25; but each time costs a look at all modules


class Part(NamedTuple):
    """Cores that go backward in one go, and whose gradients are complete then.

    Args:
        first: the core that goes backward last.
        params: which of the declared tensors no core before uses.
    """

    first: int
    params: tuple[int, ...]

    def of(self, declared: Leaves) -> Leaves:
        """Return its declared tensors."""
        return tuple(map(declared.__getitem__, self.params))


def are_of_use(declared: Sequence[Tensor]) -> bool:
    """Whether the gradients of these tensors are to be handed on in several parts."""
    return _are_many(declared) and _are_awaited(declared)


def _are_many(declared: Iterable[Tensor]) -> bool:
    """Whether these gradients take enough for that."""
    return IN_PARTS and sum(tensor.nbytes for tensor in declared) > LATER * READY


def _are_awaited(declared: Sequence[Tensor]) -> bool:
    """Whether somebody is seen to wait for these gradients: hooks, other ranks, sums that they are added to.

    Such sums, and all gradients at once beside them, would take twice the bytes.
    """
    if dist.is_available() and dist.is_initialized():
        return True
    return are_hooked(declared) or any(tensor.grad is not None for tensor in declared if tensor.is_leaf)


def parts_of(declared: Sequence[Tensor], earliest: Sequence[int], *, start: bool) -> tuple[Part, ...]:
    """Return the parts, that of the first cores first: one, where gradients are few or nothing is known of them.

    Args:
        declared: the tensors whose gradients are wanted.
        earliest: the first core that may use each of them; empty where each may be used by any.
        start: whether the gradient of the starting carry or of the inputs is wanted, too.
    """
    if not earliest:
        return (Part(0, tuple(range(len(declared)))),)
    last_first = sorted(range(len(earliest)), key=earliest.__getitem__, reverse=True) if _are_many(declared) else ()
    parts: list[Part] = []
    waiting: list[int] = []
    size, enough = 0, READY
    for core, using in groupby(last_first, earliest.__getitem__):
        so_far = len(waiting)
        waiting += using
        size += sum(declared[index].nbytes for index in waiting[so_far:])
        if core > 0 and size >= enough:
            parts.append(Part(core, tuple(waiting)))
            waiting, size, enough = [], 0, min(max(2 * enough, LATER * READY), MOST * READY)
    if not parts:
        return (Part(0, tuple(range(len(declared)))),)
    if waiting or start:
        parts.append(Part(0, tuple(waiting)))
    else:  # autograd goes no further: nothing before is wanted
        parts[-1] = parts[-1]._replace(first=0)
    return tuple(reversed(parts))
