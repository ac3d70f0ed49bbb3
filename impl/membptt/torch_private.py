"""Every name of torch that is not public."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.utils import parametrizations

# How many nodes of autograd's graph this thread has made; without it, a leaf that a step makes itself is refused.
nodes_made: Callable[[], float] = getattr(torch._C._autograd, "_get_sequence_nr", lambda: float("inf"))

# Older torches cannot take one out.
_remove: Callable[[str], None] = getattr(
    torch._C, "_remove_obj_from_tls", lambda flag: torch._C._stash_obj_in_tls(flag, None)
)


# The parametrization of a spectral norm, which keeps its two vectors in buffers.
SpectralParametrization: type = getattr(parametrizations, "_SpectralNorm", type(None))


@contextmanager
def flagged(flag: str) -> Iterator[None]:
    """Set `flag` in this thread's storage, which autograd's engine hands to threads that work for it."""
    if is_set(flag):
        yield
        return
    try:
        try:
            torch._C._stash_obj_in_tls(flag, True)
            yield
        finally:
            _unset(flag)
    finally:
        _unset(flag)  # Ctrl-C may have cut the first short


def is_set(flag: str) -> bool:
    """Whether `flag` is set in this thread's storage."""
    return torch._C._is_key_in_tls(flag) and bool(torch._C._get_obj_in_tls(flag))


def _unset(flag: str) -> None:
    # Taken out, not overwritten: a thread that ends with an object there may wait for ever, as torch says of its own.
    if torch._C._is_key_in_tls(flag):
        _remove(flag)
