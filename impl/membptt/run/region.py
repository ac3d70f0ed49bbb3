"""`torch.utils.checkpoint` around a scan: its first run keeps no state, and what its second stores goes backward."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import finalize

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from membptt.torch_private import checkpointed

_kept: Final[dict[int, Any]] = {}  # what a second run stored, as long as its token lives


@dataclass(frozen=True, slots=True)
class Region:
    """One run of a checkpointed region, in which a scan is run.

    Such a region keeps nothing of what its first run saves for the backward, which runs it once more and is handed what
    that run saves in its place. What a scan stores is not saved by autograd: a token of it is.

    Args:
        again: whether it is the run in the backward.
        token: its bytes lie where those of nothing else do, as long as what they stand for is wanted.
    """

    again: bool
    token: Tensor = field(default_factory=lambda: torch.empty(1))

    @classmethod
    def now(cls) -> Region | None:
        """Return the run that is under way, if this is inside a region."""
        run = checkpointed()
        return cls(run == "again") if run is not None else None

    def keep(self, call: Any, execution: Any) -> Any:
        """Return an execution for the node of this run to hold: none in the first, whose stored states are released."""
        if not self.again:
            execution.close()
            return None
        key = self.token.data_ptr()
        _kept[key] = call, execution
        finalize(self.token, _kept.pop, key, None).atexit = False
        return execution


def kept(token: Tensor) -> tuple[Any, Any] | None:
    """Return the call of a second run, with its execution, given the token that the first run saved."""
    pair: tuple[Any, Any] | None = _kept.pop(token.data_ptr(), None)
    return pair


def beyond(region: Region | None) -> AbstractContextManager[object]:
    """Leave the region: a core's graph keeps what it saves, or its backward would run the region once more."""
    return saved_tensors_hooks(_alone, _same) if region is not None else nullcontext()


def _alone(tensor: Tensor) -> Tensor:
    return tensor.detach()  # or a node that saves its own result would keep itself alive


def _same(tensor: Tensor) -> Tensor:
    return tensor
