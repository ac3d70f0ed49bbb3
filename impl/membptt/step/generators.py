"""The random generators a step may draw from, followed in the first pass and rewound by a recomputation."""

from __future__ import annotations

import ctypes
import math
import os
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import RLock
from typing import Any, Final

import torch
from torch import Tensor

from membptt.state.states import RandomState
from membptt.torch_private import flagged, is_set, version

# The default generators belong to the process: of several threads, one at a time may follow or rewind them.
_generators = RLock()  # an interrupt between body and exit would leave a plain lock held


def _in_a_fork() -> None:
    global _generators  # noqa: PLW0603  (the thread that held it is not in the child)
    _generators = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)

_HELD: Final = "membptt_generators"


class Generators:
    """The global random generators a step may draw from: torch's, of the CPU and the devices in use, Python's, numpy's.

    Python's is read at the beginning, after the first cores and at the end; only where it was drawn from, after all of
    them. Numpy's is read where a look at its memory shows that it was drawn from.

    Args:
        devices: devices of the tensors of the call.
        enabled: ``False`` leaves all generators alone.

    Raises:
        ValueError: the random numbers of a device cannot be restored.
    """

    def __init__(self, devices: set[torch.device], *, enabled: bool = True) -> None:
        self._sources: list[_Source] = []
        self._first: RandomState = ()
        self._last: RandomState = ()
        if enabled:
            named = sorted((device.type, device.index or 0) for device in devices if device.type not in ("cpu", "meta"))
            self._sources = [_Torch(), *(_Device(*device) for device in named), _Python()]
            if _Numpy.in_use():
                self._sources.append(_Numpy())

    def follow(self, buffers: Iterable[Tensor]) -> None:
        """Follow and rewind `buffers` too, which the step updates in place at every call."""
        if self._sources:
            self._sources += map(_Buffer, buffers)

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep the scans of other threads from drawing while this scan follows the generators."""
        return _generators if self._sources and not is_set(_HELD) else nullcontext()

    def handed_on(self) -> AbstractContextManager[None]:
        """Admit what works on behalf of this thread while generators are exclusive: a nested scan's backward on CUDA.

        Autograd runs that backward in a thread of its own, with this thread's storage; this thread waits for it.
        """
        return flagged(_HELD) if self._sources else nullcontext()

    def read(self) -> RandomState:
        """Return the present state; the same object as last time where nothing was drawn in between."""
        if not self._sources:
            return ()
        state = tuple([source.read() if source.follows else source.last for source in self._sources])
        if len(state) != len(self._last) or any(now is not last for now, last in zip(state, self._last, strict=True)):
            self._last = state
            self._first = self._first or state
        return self._last

    def settle(self) -> bool:
        """Stop following what was not drawn from since the first reading: no recomputation will draw from it either.

        Returns:
            Whether every draw was followed. If not, the states read since then are not to be used; the next ones are.
        """
        complete = [source.complete() for source in self._sources]
        if not all(complete):
            return False
        now = self.read()
        for index, source in enumerate(self._sources):
            source.follows = now[index] is not self._first[index]
        if not any(source.follows for source in self._sources):
            self._sources = []
        return True

    def write(self, state: RandomState) -> None:
        """Put the generators into `state`; where nothing was drawn, they are left to whoever draws beside the scan."""
        if state and self._sources:
            for source, saved in zip(self._sources, state, strict=True):
                if source.follows:
                    source.write(saved)

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Leave the generators, on the way out, as they were on the way in."""
        before = self.read()
        try:
            yield
        finally:
            self.write(before)


class _Source:
    """One generator."""

    def __init__(self) -> None:
        self.follows = True
        self.last = torch.empty(_FIRST)

    def read(self) -> Tensor:
        """Return its state: the same object as last time where nothing was drawn."""
        raise NotImplementedError

    def write(self, state: Tensor) -> None:
        """Put it into that state."""
        raise NotImplementedError

    def complete(self) -> bool:
        """Return whether all that was drawn so far was seen by a reading; from now on it will be."""
        return True


_FIRST: Final = 0  # elements of what stands for the state at the first reading


class _Torch(_Source):
    """Torch's generator on the CPU."""

    def read(self) -> Tensor:
        state = self._now()
        if not torch.equal(state, self.last):
            self.last = state
        return self.last

    def write(self, state: Tensor) -> None:
        torch.set_rng_state(state)

    def _now(self) -> Tensor:
        return torch.get_rng_state()


class _Device(_Torch):
    """Torch's generator on an accelerator."""

    def __init__(self, kind: str, index: int) -> None:
        super().__init__()
        self._module: Any = getattr(torch, kind, None)
        self._at = () if kind == "mps" else (index,)
        if not (hasattr(self._module, "get_rng_state") and hasattr(self._module, "set_rng_state")):
            raise ValueError(
                f"the random numbers of a device of type {kind!r} cannot be restored for a recomputation (torch has no "
                f"torch.{kind}.get_rng_state); where the step draws none, give preserve_rng_state=False"
            )

    def write(self, state: Tensor) -> None:
        self._module.set_rng_state(state, *self._at)

    def _now(self) -> Tensor:
        state: Tensor = self._module.get_rng_state(*self._at)
        return state


class _Buffer(_Source):
    """A small buffer that is updated in place."""

    def __init__(self, buffer: Tensor) -> None:
        super().__init__()
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
    """The generator of Python's ``random``."""

    def __init__(self) -> None:
        super().__init__()
        self._start: Any = None
        self._known: Any = None
        self._readings = 0
        self._every_time = False

    def read(self) -> Tensor:
        self._readings += 1
        if self._every_time or self._readings <= 2:
            now = random.getstate()
            if self._start is None:
                self._start = self._known = now
            elif now != self._known:
                self._known, self.last, self._every_time = now, _packed(now[1], now[2]), True
        return self.last

    def write(self, state: Tensor) -> None:
        self._known, self.last = (3, *_unpacked(state)) if len(state) else self._start, state
        if random.getstate() != self._known:
            random.setstate(self._known)

    def complete(self) -> bool:
        seen, self._every_time = self._every_time or random.getstate() == self._known, True
        return seen


class _Numpy(_Source):
    """The generator behind numpy's functions, where it is the Mersenne Twister that numpy starts with."""

    def __init__(self) -> None:
        super().__init__()
        self._module: Any = sys.modules["numpy.random"]
        self._address = self._module.get_bit_generator().ctypes.state_address
        self._start: Any = None
        self._known: Any = None
        self._seen = b""

    @staticmethod
    def in_use() -> bool:
        """Whether anybody can draw from it, and its state can be read."""
        module = sys.modules.get("numpy.random")
        get = getattr(module, "get_bit_generator", None)
        return get is not None and type(get()).__name__ == "MT19937"

    def read(self) -> Tensor:
        # Half of a pair of normal numbers may be kept where that memory does not show it.
        if self._known is not None and not self._known[3] and self._memory() == self._seen:
            return self.last
        now = self._whole()
        if self._known is None:
            self._start = self._known = now
        elif not _same_numpy(now, self._known):
            self._known, self.last = now, _packed([*now[1].tolist(), now[2]], now[4] if now[3] else None)
        return self.last

    def write(self, state: Tensor) -> None:
        wanted = self._start
        if len(state):
            (*key, position), gauss = _unpacked(state)
            wanted = ("MT19937", key, position, gauss is not None, gauss or 0.0)
        if not _same_numpy(self._whole(), wanted):
            self._module.set_state(wanted)
        self._known, self.last = self._whole(), state

    def _memory(self) -> bytes:
        return ctypes.string_at(self._address, 4 * 625)  # 624 words and the position among them

    def _whole(self) -> Any:
        self._seen = self._memory()
        return self._module.get_state()


def _same_numpy(a: Any, b: Any) -> bool:
    return list(a[1]) == list(b[1]) and a[2:4] == b[2:4] and (not a[3] or a[4] == b[4])


def _packed(numbers: Any, gauss: float | None) -> Tensor:
    """Return a state as a tensor: whole numbers below 2**32, and one that may be missing."""
    return torch.tensor([*numbers, float("nan") if gauss is None else gauss], dtype=torch.float64)


def _unpacked(state: Tensor) -> tuple[tuple[int, ...], float | None]:
    *numbers, gauss = state.tolist()
    return tuple(map(int, numbers)), None if math.isnan(gauss) else gauss
