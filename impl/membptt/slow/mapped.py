"""Tensors in a memory-mapped temporary file, which never has a name that outlives the call that makes it."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import IO, Final

import torch
from torch import Tensor

_ALIGNMENT: Final = 64  # of a leaf in its record: a cache line, and more than any dtype asks for
_LARGEST_GROWTH: Final = 2**28


@dataclass(frozen=True, slots=True)
class Record:
    """The leaves of one state, one after the other: a part of a mapping, and each leaf's place and form in it.

    Args:
        mapping: the part of the file that holds the record, as bytes; ``None`` where no leaf has an element.
        start: first byte in `mapping`.
        length: bytes, whole pages.
        leaves: offset from `start`, a tensor without storage of the leaf's form, its device.
    """

    mapping: Tensor | None
    start: int
    length: int
    leaves: list[tuple[int, Tensor, torch.device]]


class MappedFile:
    """A memory-mapped temporary file that grows by parts; freed records are used again by others of their length.

    Args:
        directory: of the file; the system's by default.

    Attributes:
        size: bytes of the file.
    """

    def __init__(self, directory: str | Path | None) -> None:
        self.size = 0
        self._directory = directory
        self._mapping: Tensor | None = None  # the part that has room left
        self._next = 0
        self._free: dict[int, list[tuple[Tensor, int]]] = {}
        self._lock = RLock()  # an interrupt between body and exit would leave a plain lock held

    def put(self, leaves: list[Tensor]) -> Record:
        """Write the leaves of a state.

        Raises:
            OSError: no space left. As after any error, nothing is stored.
        """
        length, placed = 0, []
        for leaf in leaves:
            placed.append((length, torch.empty_like(leaf, device="meta"), leaf.device))
            length += -(-leaf.numel() * leaf.element_size() // _ALIGNMENT) * _ALIGNMENT
        length = -(-length // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        record = Record(*self._take(length), length, placed)
        try:
            for leaf, view in zip(leaves, _views(record), strict=True):
                view.copy_(leaf)
            _advise(record, "MADV_DONTNEED")  # the file has it: the pages need not stay in this process
        except BaseException:
            self.free(record)
            raise
        return record

    def get(self, record: Record) -> list[Tensor]:
        """Read them, each into a new tensor of its form."""
        leaves = []
        for (_, form, device), view in zip(record.leaves, _views(record), strict=True):
            leaves.append(_empty(form, device).copy_(view))
        _advise(record, "MADV_DONTNEED")
        return leaves

    def will_need(self, record: Record) -> None:
        """Let the system read ahead."""
        _advise(record, "MADV_WILLNEED")

    def free(self, record: Record) -> None:
        """Let the next record of that length have its room."""
        if record.mapping is not None:
            with self._lock:
                self._free.setdefault(record.length, []).append((record.mapping, record.start))

    def close(self) -> None:
        """Let go of the file; the next record begins another."""
        # Mappings end with their last reference; none is closed under a copy that another thread has under way.
        with self._lock:
            self._free.clear()
            self._mapping, self._next, self.size = None, 0, 0

    def _take(self, length: int) -> tuple[Tensor | None, int]:
        if not length:
            return None, 0
        with self._lock:
            if self._free.get(length):
                return self._free[length].pop()
            if self._mapping is None or self._next + length > len(self._mapping):
                growth = max(length, min(self.size, _LARGEST_GROWTH))
                self._mapping, self._next = _map_unnamed(self._directory, growth), 0
                self.size += growth
            start = self._next
            self._next += length
            return self._mapping, start


def _views(record: Record) -> Iterator[Tensor]:
    """Yield each leaf as a tensor on the mapped file."""
    for offset, form, _ in record.leaves:
        if record.mapping is None or not form.numel():
            yield _empty(form, torch.device("cpu"))
            continue
        start, length = record.start + offset, form.numel() * form.element_size()
        yield record.mapping[start : start + length].view(form.dtype).as_strided(form.shape, form.stride())


def _empty(form: Tensor, device: torch.device) -> Tensor:
    # Not empty_like: from a tensor without storage that goes through Python, and imports half of sympy.
    return torch.empty_strided(form.shape, form.stride(), dtype=form.dtype, device=device)


def _map_unnamed(directory: str | Path | None, length: int) -> Tensor:
    """Map a file that has no name; it is gone with its mapping, which holds no descriptor: graphs may be many."""
    with tempfile.TemporaryFile(dir=directory) as file:
        _reserve(file, length)
        mapping = torch.from_file(f"/dev/fd/{file.fileno()}", shared=True, size=length, dtype=torch.uint8)
        file.close()  # here too: Ctrl-C between body and exit would leave it to the collector
        return mapping


def _reserve(file: IO[bytes], length: int) -> None:
    """Give the file its blocks now: on a full disk that is an error, a write to its mapping would be a bus error."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, length)
    else:
        file.truncate(length)


def _advise(record: Record, advice: str) -> None:
    """Tell the system what happens to a record's pages, where it can be told."""
    if record.mapping is not None and hasattr(mmap, advice):
        start = ctypes.c_void_p(record.mapping.data_ptr() + record.start)
        _libc().madvise(start, ctypes.c_size_t(record.length), getattr(mmap, advice))


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
