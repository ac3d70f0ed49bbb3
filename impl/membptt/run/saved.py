"""What a recorded graph keeps for its backward, in bytes by storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Final

import optree
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.autograd.graph import saved_tensors_hooks

from membptt.state.leaves import storages
from membptt.torch_private import inputs_of_region


def saved_by(nodes: Iterable[Any]) -> dict[int, int]:
    """Return the bytes, by storage, of what the nodes of a graph keep for their backward.

    The graph itself is asked, when it is complete: a step may differentiate inside, which hooks of saved tensors forbid
    `torch.func` to do, and a graph that it has released by then weighs nothing.
    """
    return storages(tensor for node in nodes for tensor in _kept_by(node))


def _kept_by(node: Any) -> Iterator[Tensor]:
    kind: Any = type(node)  # its attributes `_raw_saved_...` are those of torch's notes on autograd
    for name in ("_raw_saved_tensors",) if isinstance(node, FunctionCtx) else _saved_names(kind):
        try:
            saved = getattr(node, name)
        except RuntimeError:  # backpropagated inside the step, and released
            continue
        for variable in saved if isinstance(saved, tuple) else (saved,):
            yield from _tensors(variable.data)
            yield from _tensors(inputs_of_region(variable.unpack_hook))
    if isinstance(node, FunctionCtx):
        yield from _tensors(vars(node))  # which the compiler's functions put there, and users'


@lru_cache(maxsize=1024)
def _saved_names(kind: Any) -> tuple[str, ...]:
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in what is saved."""
    return (leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor) and not _is_number(leaf))


def _is_number(leaf: Tensor) -> bool:
    """Whether a tensor stands for a number in the source, such as 2 in ``2 * x``: it widens no other of its kind."""
    narrow = _NARROW.get(leaf.dtype) if leaf.dim() == 0 else None
    return narrow is not None and torch.result_type(leaf, narrow) is narrow.dtype


_NARROW: Final = {
    torch.float64: torch.empty((), dtype=torch.float32),
    torch.int64: torch.empty((), dtype=torch.int32),
    torch.complex128: torch.empty((), dtype=torch.complex64),
}


def record_saved(into: dict[int, int]) -> AbstractContextManager[None]:
    """Note what graphs built inside the ``with`` block save while they do so: nodes that do not tell later, too."""

    def pack(tensor: Tensor) -> Tensor:
        into.update(storages((tensor,)))
        return tensor.detach()  # an output returned as it is would keep its own graph alive

    return saved_tensors_hooks(pack, lambda tensor: tensor)
