"""The slow tier: hidden states outside the memory they are computed in, and the transfers to and fro.

States on a CUDA device go to pinned host memory, on a stream beside the computation. All others go to a memory-mapped
temporary file (`membptt.mapped`): whatever ends the process, nothing is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import RLock

import torch
from torch import Tensor

from membptt.slow.mapped import MappedFile, Record
from membptt.state.leaves import Layout, Leaves
from membptt_theory.actions import RestoreSlow, TieredInstruction


def ahead(stream: Iterator[TieredInstruction], spill: Spill, window: int, /) -> Iterator[TieredInstruction]:
    """Yield a stream, having the states prefetched that a restart within the next `window` instructions will ask for.

    Args:
        stream: a two-tier stream; it is read `window` instructions ahead.
        spill: the slow tier.
        window: at least 0. Transfers run beside at most so many instructions.
    """
    pending: deque[TieredInstruction] = deque(islice(stream, window))
    for instruction in stream:
        pending.append(instruction)
        _prefetch_next(pending, spill)
        yield pending.popleft()
    while pending:
        _prefetch_next(pending, spill)
        yield pending.popleft()


class Spill:
    """Hidden states of one call by position. What `get` returns is bitwise what `put` was given, strides included.

    Calls from several threads may overlap where their positions differ.

    Args:
        directory: of the temporary file; the system's by default, which may itself be memory (a tmpfs).
        in_flight: stores to pinned memory that may be under way; their device memory is not free yet.

    Attributes:
        bytes: bytes of the states held now.
        reserved: bytes of the file; states that were dropped make room for the next ones.
    """

    def __init__(self, directory: str | Path | None = None, *, in_flight: int = 2) -> None:
        self.bytes = 0
        self._states: dict[int, _State] = {}
        self._file = MappedFile(directory)
        self._device = _Device(in_flight)
        self._fetched: int | None = None
        self._lock = RLock()  # an interrupt between body and exit would leave a plain lock held

    @property
    def reserved(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @property
    def transit(self) -> int:
        """Device bytes of the states on their way: the last `in_flight` stores, and what was prefetched."""
        fetched = self._states.get(self._fetched) if self._fetched is not None else None
        return self._device.written + sum(copy.layout.nbytes for copy in (fetched.pinned if fetched else ()))

    def put(self, position: int, leaves: Leaves, /) -> None:
        """Copy a hidden state to the slow tier. The caller may free its tensors at once, on a CPU overwrite them too.

        Raises:
            ValueError: the position is taken.
            TypeError: a leaf is sparse, or of a tensor subclass.
            OSError: no space left for the file. As after any error, nothing is stored.
        """
        for leaf in leaves:
            if type(leaf) not in (Tensor, torch.nn.Parameter) or leaf.layout is not torch.strided:
                raise TypeError(
                    f"only plain dense tensors can be spilled, got a {type(leaf).__name__} of layout {leaf.layout}: "
                    "leave spill= out, or hand on in the carry the dense tensors that it is made of"
                )
        if position in self._states:
            raise ValueError(f"the slow tier holds the hidden state at position {position} already")
        on_device = [leaf.is_cuda for leaf in leaves]
        state = _State(
            on_device,
            # Resolved here: a copy beside the computation would resolve on the host, before the data are there.
            self._device.put([leaf.detach().resolve_conj().resolve_neg() for leaf in leaves if leaf.is_cuda]),
            self._file.put([leaf.detach() for leaf in leaves if not leaf.is_cuda]),
            sum(leaf.numel() * leaf.element_size() for leaf in leaves),
        )
        with self._lock:
            self._states[position] = state
            self.bytes += state.bytes

    def prefetch(self, position: int, /) -> None:
        """Begin to bring a state back; at most one is on its way, a second call is ignored until it was fetched.

        Raises:
            KeyError: no such state.
        """
        state = self._find(position)
        with self._lock:
            if self._fetched is not None:
                return
            self._fetched = position
        state.fetching = self._device.fetch(state.pinned)
        self._file.will_need(state.record)

    def get(self, position: int, /) -> Leaves:
        """Return new tensors with the state's values, on its device; the state stays.

        Raises:
            KeyError: no such state.
        """
        state = self._find(position)
        fetching, state.fetching = state.fetching, None
        with self._lock:
            self._fetched = None if self._fetched == position else self._fetched
        fetched = self._device.wait(fetching or self._device.fetch(state.pinned))
        read = iter(self._file.get(state.record))
        return tuple(next(fetched) if there else next(read) for there in state.on_device)

    def drop(self, position: int, /) -> None:
        """Let go of a state.

        Raises:
            KeyError: no such state.
        """
        state = self._find(position)
        with self._lock:
            del self._states[position]
            self.bytes -= state.bytes
            self._fetched = None if self._fetched == position else self._fetched
        self._file.free(state.record)

    def close(self) -> None:
        """Let go of everything, the file included; the spill can be used again."""
        with self._lock:
            self._states.clear()
            self.bytes, self._fetched = 0, None
        self._device.close()
        self._file.close()

    def __contains__(self, position: object) -> bool:
        return position in self._states

    def __len__(self) -> int:
        return len(self._states)

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _find(self, position: int) -> _State:
        state = self._states.get(position)
        if state is None:
            raise KeyError(f"the slow tier holds no hidden state at position {position}, only {sorted(self._states)}")
        return state


@dataclass(slots=True)
class _State:
    on_device: list[bool]
    pinned: list[_Pinned]
    record: Record
    bytes: int
    fetching: list[_Fetched] | None = None


@dataclass(frozen=True, slots=True)
class _Pinned:
    host: Tensor
    layout: Layout


@dataclass(frozen=True, slots=True)
class _Fetched:
    leaf: Tensor
    ready: torch.cuda.Event


class _Device:
    """Copies between CUDA devices and pinned host memory, on one stream of its own for each device."""

    def __init__(self, in_flight: int) -> None:
        self._in_flight = in_flight
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._written: deque[tuple[torch.cuda.Event, int]] = deque()
        self._lock = RLock()  # an interrupt between body and exit would leave a plain lock held

    @property
    def written(self) -> int:
        return sum(size for _, size in self._written)

    def put(self, leaves: list[Tensor]) -> list[_Pinned]:
        pinned = []
        for leaf in leaves:
            side = self._beside(leaf.device)
            with torch.cuda.stream(side):
                host = torch.empty_like(leaf, device="cpu", pin_memory=True)
                host.copy_(leaf, non_blocking=True)
            leaf.record_stream(side)  # its memory is not handed out again before the copy is done
            pinned.append(_Pinned(host, Layout.of(leaf)))
        with self._lock:
            for device in {leaf.device for leaf in leaves}:
                size = sum(leaf.nbytes for leaf in leaves if leaf.device == device)
                self._written.append((self._streams[device].record_event(), size))
            while len(self._written) > self._in_flight:
                self._written.popleft()[0].synchronize()
        return pinned

    def fetch(self, pinned: list[_Pinned]) -> list[_Fetched]:
        """Begin the copies back. On its stream, each comes after the copy out of the same state."""
        fetched = []
        for copy in pinned:
            leaf = copy.layout.empty()
            side = self._beside(leaf.device)  # after the allocation: its memory may be in use by earlier kernels
            with torch.cuda.stream(side):
                leaf.copy_(copy.host, non_blocking=True)
            leaf.record_stream(side)
            fetched.append(_Fetched(leaf, side.record_event()))
        return fetched

    def wait(self, fetched: list[_Fetched]) -> Iterator[Tensor]:
        """Let the current streams, not the host, wait for the copies; return the tensors."""
        for copy in fetched:
            current = torch.cuda.current_stream(copy.leaf.device)
            current.wait_event(copy.ready)
            copy.leaf.record_stream(current)
        return iter([copy.leaf for copy in fetched])

    def close(self) -> None:
        self._written.clear()

    def _beside(self, device: torch.device) -> torch.cuda.Stream:
        """Return the stream of `device`, made to wait for what its current stream was given so far."""
        side = self._streams.get(device)
        if side is None:
            side = self._streams.setdefault(device, torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        return side


def _prefetch_next(pending: deque[TieredInstruction], spill: Spill) -> None:
    for kind, places in islice(pending, 1, None):
        if kind is RestoreSlow and places[0] in spill:
            spill.prefetch(places[0])
            return
