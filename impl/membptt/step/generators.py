"""The random generators a step may draw from, followed in the first pass and rewound by a recomputation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import RLock
from typing import Final

import torch

from membptt.state.states import RandomState
from membptt.torch_private import flagged, is_set

# The default generators belong to the process: of several threads, one at a time may follow or rewind them.
_generators = RLock()  # an interrupt between body and exit would leave a plain lock held


_HELD: Final = "membptt_generators"


class Generators:
    """The default random generators a step may draw from: the CPU's, and those of the CUDA devices in use.

    Args:
        devices: devices of the tensors of the call.
        enabled: ``False`` leaves all generators alone.
    """

    def __init__(self, devices: set[torch.device], *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._cuda = sorted(device.index or 0 for device in devices if device.type == "cuda")
        self._first: RandomState = ()
        self._last: RandomState = ()

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep the scans of other threads from drawing meanwhile, as long as this one follows the generators."""
        return _generators if self._enabled and not is_set(_HELD) else nullcontext()

    def handed_on(self) -> AbstractContextManager[None]:
        """Let in, while it is exclusive, what works for this thread: on a CUDA device a nested scan's backward does.

        Autograd runs that in another thread, to which it hands this one's storage, and this one waits for it.
        """
        return flagged(_HELD) if self._enabled else nullcontext()

    def read(self) -> RandomState:
        """Return the present state; the same object as last time where nothing was drawn in between."""
        if not self._enabled:
            return ()
        state = (torch.get_rng_state(), *(torch.cuda.get_rng_state(index) for index in self._cuda))
        if len(state) != len(self._last) or not all(map(torch.equal, state, self._last)):
            self._last = state
            self._first = self._first or state
        return self._last

    def settle(self) -> None:
        """Stop following the generators if nothing was drawn since the first reading: no recomputation will draw."""
        self._enabled = self._enabled and self.read() is not self._first

    def write(self, state: RandomState) -> None:
        """Put the generators into `state`; where nothing was drawn, they are left to whoever draws beside the scan."""
        if not state or not self._enabled:
            return
        torch.set_rng_state(state[0])
        for index, cuda in zip(self._cuda, state[1:], strict=True):
            torch.cuda.set_rng_state(cuda, index)

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Leave the generators, on the way out, as they were on the way in."""
        before = self.read()
        try:
            yield
        finally:
            self.write(before)
