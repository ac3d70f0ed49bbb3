"""Bytes of the storages that operations make, for as long as they live: what a block needs, without running a chain."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Set
from functools import partial
from itertools import accumulate
from typing import Any, Final

import optree
from torch import Tensor

from membptt.state.leaves import located
from membptt.torch_private import DispatchMode

_GRAIN: Final = {"cuda": 512}  # bytes: an allocator's smallest unit


class Tally(DispatchMode):  # type: ignore[no-untyped-call]
    """Counts, while it is entered, the storages that operations make; forward and backward.

    Scratch memory that a kernel takes for itself is not seen.

    Args:
        outside: tensors that exist already.
    """

    def __init__(self, outside: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._outside = {address for tensor in outside for address, _ in located(tensor)}
        self._numbers: dict[int, int] = {}  # by address, of those that live
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._changes: list[tuple[int, int]] = []  # number and bytes, negative where a storage dies
        self._made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in (result,) if isinstance(result, Tensor) else optree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return result

    def mark(self) -> int:
        """Return what stands for this moment."""
        return len(self._changes)

    def live(self) -> int:
        """Return the bytes that live now."""
        return sum(size for _, size in self._changes)

    def numbers(self, tensors: Iterable[Tensor]) -> set[int]:
        """Return what stands for the storages of these tensors, which are alive."""
        return {self._numbers.get(address, -1) for tensor in tensors for address, _ in located(tensor)}

    def peak(self, since: int = 0, apart: Set[int] = frozenset()) -> int:
        """Return the most bytes that lived at a time since a moment; of the storages with these numbers none count."""
        totals = accumulate((size for number, size in self._changes if number not in apart), initial=0)
        # The moment itself counts: what lives then lives on.
        skipped = sum(number not in apart for number, _ in self._changes[:since])
        return max(list(totals)[skipped:])

    def _see(self, tensor: Tensor) -> None:
        for address, storage in located(tensor):
            if not storage.nbytes() or address in self._numbers or address in self._outside:
                continue
            self._numbers[address] = number = self._made
            self._made += 1
            size = rounded(storage.nbytes(), tensor.device.type)
            self._alive[number] = weakref.ref(storage, partial(self._forget, address, number, size))
            self._changes.append((number, size))

    def _forget(self, address: int, number: int, size: int, _: object) -> None:
        del self._alive[number]
        if self._numbers.get(address) == number:
            del self._numbers[address]
        self._changes.append((number, -size))


def rounded(size: int, kind: str, /) -> int:
    """Return the bytes that a storage takes on a device of that kind."""
    grain = _GRAIN.get(kind, 1)
    return -(-size // grain) * grain
