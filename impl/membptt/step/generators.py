"""The random generators a step may draw from, followed in the first pass and rewound by a recomputation."""

from __future__ import annotations

import ctypes
import math
import os
import random
import sys
from collections.abc import Iterable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from itertools import starmap
from operator import is_, mul
from threading import RLock
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from membptt.state.states import RandomState
from membptt.torch_private import flagged, generator_memory, is_set, version

# The default generators belong to the process: of several threads, one at a time may follow or rewind them.
_generators = RLock()  # an interrupt between body and exit would leave a plain lock held


def _in_a_fork() -> None:
    global _generators  # noqa: PLW0603  (the thread that held it is not in the child)
    _generators = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)

_HELD: Final = "membptt_generators"
_IDLE: Final = nullcontext()
_HOSTS: Final = ("cpu", "meta")  # devices without generators of their own
_START: Final = torch.empty(0)  # stands for the state at the first reading


class Generators:
    """The global random generators a step may draw from: torch's, of the CPU and the devices in use, Python's, numpy's.

    Python's and numpy's are read where a look at their memory shows that they were drawn from.

    Args:
        devices: devices of the tensors of the call.
        enabled: ``False`` leaves all generators alone.

    Raises:
        ValueError: the random numbers of a device cannot be restored.
    """

    def __init__(self, devices: Set[torch.device], *, enabled: bool = True) -> None:
        self._sources: list[_Source] = []
        self._first: RandomState = ()
        self._last: RandomState = ()
        if enabled:
            self._sources = [_Torch(), *starmap(_Device, _accelerators(frozenset(devices))), _Python()]
            if _Numpy.in_use():
                self._sources.append(_Numpy())

    def follow(self, buffers: Iterable[Tensor]) -> None:
        """Follow and rewind `buffers` too, which the step updates in place at every call."""
        if self._sources:
            self._sources += map(_Buffer, buffers)

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep the scans of other threads from drawing while this scan follows the generators."""
        return _generators if self._sources and not is_set(_HELD) else _IDLE

    def handed_on(self) -> AbstractContextManager[None]:
        """Admit what works on behalf of this thread while generators are exclusive: a nested scan's backward on CUDA.

        Autograd runs that backward in a thread of its own, with this thread's storage; this thread waits for it.
        """
        return flagged(_HELD) if self._sources else _IDLE

    def read(self) -> RandomState:
        """Return the present state; the same object as last time where nothing was drawn in between."""
        if not self._sources:
            return ()
        state = tuple([source.read() if source.follows else source.last for source in self._sources])
        if len(state) != len(self._last) or not all(map(is_, state, self._last)):
            self._last = state
            self._first = self._first or state
        return self._last

    def settle(self) -> None:
        """Stop following what was not drawn from since the first reading: no recomputation will draw from it either."""
        for source, now, first in zip(self._sources, self._last, self._first, strict=True):
            source.follows = now is not first
        if not any(source.follows for source in self._sources):
            self._sources = []

    def write(self, state: RandomState) -> None:
        """Put the generators into `state`; where nothing was drawn, they are left to whoever draws beside the scan."""
        if state and self._sources:
            for source, saved in zip(self._sources, state, strict=True):
                if source.follows:
                    source.write(saved)

    def replayed(self) -> AbstractContextManager[None]:
        """Do all of this where anything is followed."""
        return self._replayed() if self._sources else _IDLE

    @contextmanager
    def _replayed(self) -> Iterator[None]:
        with self.exclusive(), self.handed_on(), self.preserved():
            yield

    def preserved(self) -> AbstractContextManager[None]:
        """Leave the generators, on the way out, as they were on the way in."""
        return self._preserved() if self._sources else _IDLE

    @contextmanager
    def _preserved(self) -> Iterator[None]:
        before = self.read()
        try:
            yield
        finally:
            self.write(before)


@lru_cache(maxsize=64)
def _accelerators(devices: frozenset[torch.device]) -> list[tuple[str, int]]:
    return sorted([(device.type, device.index or 0) for device in devices if device.type not in _HOSTS])


class _Source:
    """One generator."""

    follows = True
    last = _START

    def read(self) -> Tensor:
        """Return its state: the same object as last time where nothing was drawn."""
        raise NotImplementedError

    def write(self, state: Tensor) -> None:
        """Put it into that state."""
        raise NotImplementedError


class _Torch(_Source):
    """Torch's generator on the CPU: its memory tells whether it was drawn from."""

    latest: ClassVar[tuple[Any, Tensor]] = None, _START  # what the memory was when the state was read last; that state
    _seen: Any = None

    def read(self) -> Tensor:
        seen = generator_memory()
        if seen != self._seen:
            latest = self.latest
            if seen != latest[0]:
                latest = seen, torch.default_generator.get_state()
                if generator_memory() == seen:  # or another thread has drawn in between
                    type(self).latest = latest
            self._seen, self.last = latest
        return self.last

    def write(self, state: Tensor) -> None:
        torch.set_rng_state(state)


class _Device(_Source):
    """Torch's generator on an accelerator."""

    _seen: Any = None

    def __init__(self, kind: str, index: int) -> None:
        self._module: Any = getattr(torch, kind, None)
        self._at = () if kind == "mps" else (index,)
        if not (hasattr(self._module, "get_rng_state") and hasattr(self._module, "set_rng_state")):
            raise ValueError(
                f"the random numbers of a device of type {kind!r} cannot be restored for a recomputation (torch has no "
                f"torch.{kind}.get_rng_state); where the step draws none, give preserve_rng_state=False"
            )

    def read(self) -> Tensor:
        state: Tensor = self._module.get_rng_state(*self._at)
        seen = ctypes.string_at(state.data_ptr(), state.nbytes)
        if seen != self._seen:
            self._seen, self.last = seen, state
        return self.last

    def write(self, state: Tensor) -> None:
        self._module.set_rng_state(state, *self._at)


class _Buffer(_Source):
    """A small buffer that is updated in place."""

    def __init__(self, buffer: Tensor) -> None:
        self._buffer = buffer
        self._counted = -1

    def read(self) -> Tensor:
        if version(self._buffer) != self._counted:
            self._counted, self.last = version(self._buffer), self._buffer.detach().clone()
        return self.last

    def write(self, state: Tensor) -> None:
        with torch.no_grad():
            self._buffer.copy_(state)
        self._counted, self.last = version(self._buffer), state


class _Python(_Source):
    """The generator of Python's ``random``: its memory tells whether it was drawn from, and is looked at in no time."""

    latest: ClassVar[tuple[Any, Any]] = None, None  # what the memory was when the state was read last, and that state
    _seen: Any = None
    _start: Any = None

    def read(self) -> Tensor:
        seen = self._memory()
        if seen != self._seen:
            if seen != self.latest[0]:
                type(self).latest = seen, self._get()
            if self._seen is None:
                self._start = self.latest[1]
            else:
                self.last = _packed(*self.latest[1])
            self._seen = seen
        return self.last

    def write(self, state: Tensor) -> None:
        if state is not self.last or self._memory() != self._seen:
            self._set(*(_unpacked(state) if len(state) else self._start))
            self._seen, self.last = self._memory(), state

    def _memory(self) -> Any:
        generator: Any = random.random.__self__  # type: ignore[attr-defined]
        return _view(id(generator) + _HEAD, _SHOWN).raw, generator.gauss_next  # a position and some words

    def _get(self) -> _Words:
        _, words, gauss = random.getstate()
        return words, gauss

    def _set(self, words: tuple[int, ...], gauss: float | None) -> None:
        random.setstate((3, words, gauss))


class _Numpy(_Python):
    """The generator behind numpy's functions, where it is the Mersenne Twister that numpy starts with."""

    latest = None, None

    def __init__(self) -> None:
        self._module: Any = sys.modules["numpy.random"]
        self._address = _address(self._module.get_bit_generator())

    @staticmethod
    def in_use() -> bool:
        """Whether anybody can draw from it, and its state can be read."""
        module = sys.modules.get("numpy.random")
        get = getattr(module, "get_bit_generator", None)
        return get is not None and type(get()).__name__ == "MT19937"

    def _memory(self) -> Any:
        state = self._module.random.__self__  # half of a pair of normal numbers may be kept in it
        words, position = _view(self._address, _SHOWN), _view(self._address + 4 * 624, 4)
        return words.raw, position.raw, _view(id(state) + _HEAD, type(state).__basicsize__ - _HEAD).raw

    def _get(self) -> _Words:
        _, words, position, kept, gauss = self._module.get_state()
        return (*words.tolist(), position), gauss if kept else None

    def _set(self, words: tuple[int, ...], gauss: float | None) -> None:
        self._module.set_state(("MT19937", words[:-1], words[-1], gauss is not None, gauss or 0.0))


@lru_cache(maxsize=1)
def _address(generator: Any) -> int:
    return int(generator.ctypes.state_address)


_Words = tuple[tuple[int, ...], float | None]


# A twister makes all its words anew at once, and its position tells how many are used: a few words tell as much as all.
_SHOWN: Final = 256  # bytes
_HEAD: Final = object.__basicsize__  # of an object, which counts references
_array: Final[Any] = lru_cache(maxsize=16)(partial(mul, ctypes.c_char))  # the type of so many bytes


@lru_cache(maxsize=64)
def _view(address: int, size: int) -> Any:
    """Return what shows the bytes at an address, as they are when it is asked for its ``raw``."""
    return _array(size).from_address(address)


def _packed(words: tuple[int, ...], gauss: float | None) -> Tensor:
    """Return a state as a tensor: whole numbers below 2**32, and one that may be missing."""
    return torch.tensor([*words, float("nan") if gauss is None else gauss], dtype=torch.float64)


def _unpacked(state: Tensor) -> _Words:
    *words, gauss = state.tolist()
    return tuple(map(int, words)), None if math.isnan(gauss) else gauss
