"""The autocast state of the first pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from threading import local
from typing import Final, NamedTuple

import torch
from torch.amp import is_autocast_available

from membptt.torch_private import casts_are_kept

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


class _UnderWay(local):
    """What is entered in this thread, the last one at the end."""

    def __init__(self) -> None:
        self.marks: list[object] = []


_under_way: Final = _UnderWay()


@contextmanager
def _undone(restore: Callable[[], None]) -> Iterator[None]:
    """Restore on the way out; but not late, as where an interrupt has cut it short, when what is around has done so."""
    mark, marks = object(), _under_way.marks

    def end() -> None:
        if marks is _under_way.marks and mark in marks:
            restore()
            del marks[marks.index(mark) :]

    marks.append(mark)
    try:
        try:
            yield
        finally:
            end()
    finally:
        end()  # Ctrl-C may have cut the first short


@contextmanager
def _switched(now: _Settings, then: _Settings) -> Iterator[None]:
    with _undone(partial(_switch, then)):
        _switch(now)
        yield


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
        return self._entered() if casts_are_kept() else _IDLE

    @contextmanager
    def _entered(self) -> Iterator[None]:
        before = _settings([kind for kind, *_ in self.settings])
        cached = torch.is_autocast_cache_enabled()

        def restore() -> None:
            _switch(before)
            torch.set_autocast_cache_enabled(cached)

        with _undone(restore):
            _switch(self.settings)  # not by torch.autocast, which would restore what it found however late
            torch.set_autocast_cache_enabled(False)
            yield
