"""What a recomputation must find as the first pass found it: random generators, autocast, modules' training mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from threading import RLock
from typing import Any, Final

import torch
from torch import Tensor, nn

from membptt.captures import reached_by

RandomState = tuple[Tensor, ...]

# The default generators belong to the process: of several threads, one at a time may follow or rewind them.
_generators = RLock()  # an interrupt between body and exit would leave a plain lock held
_HELD: Final = "membptt_generators"
# Older torches cannot take one out.
_remove: Callable[[str], None] = getattr(
    torch._C, "_remove_obj_from_tls", lambda flag: torch._C._stash_obj_in_tls(flag, None)
)


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


@dataclass(frozen=True, slots=True)
class Modes:
    """Which of the step's modules were in training mode in the first pass."""

    modules: tuple[tuple[nn.Module, bool], ...]

    @classmethod
    def of(cls, step: Callable[..., Any]) -> Modes:
        """Take note of every module that `step` is or names, and of those below it."""
        named = [value for _, value in reached_by(step) if isinstance(value, nn.Module)]
        return cls(tuple((module, module.training) for one in named for module in one.modules()))

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Switch modules that were switched since, and back again."""
        changed = [(module, mode) for module, mode in self.modules if module.training != mode]
        try:
            for module, mode in changed:
                module.training = mode
            yield
        finally:
            for module, mode in changed:
                module.training = not mode


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


@dataclass(frozen=True, slots=True)
class Autocast:
    """The autocast state of the first pass, entered again by every recomputation."""

    settings: tuple[tuple[str, torch.dtype, bool], ...]

    @classmethod
    def current(cls, devices: set[torch.device]) -> Autocast:
        """Take note of the calling thread's autocast state."""
        kinds = sorted({device.type for device in devices} | {"cpu"})
        return cls(tuple((kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in kinds))

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Enter that state; casts of weights are not cached, since a cache would tie the steps' graphs together."""
        before = [(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind, *_ in self.settings]
        cached = torch.is_autocast_cache_enabled()
        try:
            with ExitStack() as stack:
                for kind, dtype, enabled in self.settings:
                    if enabled or torch.is_autocast_enabled(kind):
                        stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False))
                yield
        finally:  # an interrupt may have cut torch's own exit short
            for kind, dtype, enabled in before:
                torch.set_autocast_dtype(kind, dtype)
                torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_cache_enabled(cached)
