"""The autocast state of the first pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache, partial
from typing import Final, NamedTuple

import torch
from torch.amp import is_autocast_available

_IDLE: Final = nullcontext()


@lru_cache(maxsize=8)
def _kinds(devices: frozenset[torch.device]) -> list[str]:
    return sorted({"cpu", *[device.type for device in devices if is_autocast_available(device.type)]})


_Settings = tuple[tuple[str, torch.dtype, bool], ...]


def _settings(kinds: Iterable[str]) -> _Settings:
    return tuple([(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in kinds])


def _switch(settings: _Settings) -> None:
    for kind, dtype, enabled in settings:
        torch.set_autocast_dtype(kind, dtype)
        torch.set_autocast_enabled(kind, enabled)


@contextmanager
def _switched(now: _Settings, then: _Settings) -> Iterator[None]:
    _switch(now)
    try:
        yield
    finally:
        _switch(then)


class Autocast(NamedTuple):
    """The autocast state of the first pass, entered again by every recomputation."""

    settings: _Settings

    @classmethod
    def current(cls, devices: Set[torch.device]) -> Autocast:
        """Take note of the calling thread's autocast state."""
        return cls(_settings(_kinds(frozenset(devices))))

    def aside(self) -> Callable[[], AbstractContextManager[None]] | None:
        """Return what leaves the replayed state for the present one; ``None`` where nothing is cast in either."""
        now = _settings([kind for kind, *_ in self.settings])
        return partial(_switched, now, self.settings) if now != self.settings else None

    def replayed(self) -> AbstractContextManager[None]:
        """Enter that state; casts of weights are not cached, since a cache would tie the steps' graphs together."""
        for kind, _, enabled in self.settings:
            if enabled or torch.is_autocast_enabled(kind):
                return self._entered()
        return _IDLE

    @contextmanager
    def _entered(self) -> Iterator[None]:
        before = _settings([kind for kind, *_ in self.settings])
        cached = torch.is_autocast_cache_enabled()
        try:
            with ExitStack() as stack:
                for kind, dtype, enabled in self.settings:
                    if enabled or torch.is_autocast_enabled(kind):
                        stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False))
                yield
        finally:  # an interrupt may have cut torch's own exit short
            _switch(before)
            torch.set_autocast_cache_enabled(cached)
