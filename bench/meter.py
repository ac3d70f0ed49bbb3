"""What a gradient needs, deterministically: the peak of live bytes, and forwards. Never while it is timed.

Counted are the storages made during the run. What is there before (parameters, their gradients, inputs, the starting
carry) is not. A storage of exactly the size of a weight is a gradient on its way into ``.grad`` and is kept apart:
``peak`` is without them, ``peak_with_gradients`` with them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from time import perf_counter
from typing import Any

import optree
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Peak:
    """Bytes at the worst moment, without and with gradients of weights on their way."""

    peak: int
    peak_with_gradients: int


def live_bytes(run: Callable[[], object], outside: Iterable[Tensor], weights: Iterable[Tensor]) -> Peak:
    """Run eager code on a CPU and count the storages that its operations make, each for as long as it is alive.

    Args:
        run: what is measured; nothing compiled in it.
        outside: tensors that exist already.
        weights: tells which sizes are gradients.
    """
    counter = _Counter(weights)
    with _Storages(counter, outside):
        run()
    return counter.result()


def bytes_beside(run: Callable[[], object], outside: Iterable[Tensor], weights: Iterable[Tensor]) -> int:
    """Run eager code on a CPU and return the peak of the storages beside the ``.grad`` that `weights` have afterwards.

    Args:
        run: what is measured; nothing compiled in it.
        outside: tensors that exist already.
        weights: their gradients are left out, exactly, each from the moment it is made.
    """
    counter = _Counter(())
    with _Storages(counter, outside) as storages:
        run()
    return counter.peak_without({storages.number(weight.grad) for weight in weights if weight.grad is not None})


def allocated_bytes(run: Callable[[], None], weights: Iterable[Tensor]) -> Peak:
    """Run anything on a CPU and count what torch's allocator hands out; slower, and it sees into compiled code."""
    counter = _Counter(weights)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    result: Any = profiled.profiler.kineto_results
    # Event order: the profiler's clock ticks more slowly than the allocator works.
    for change in _allocations(result.experimental_event_tree()):
        if change.alloc_size > 0:
            counter.add(change.ptr, change.alloc_size)
        else:
            counter.remove(change.ptr)
    return counter.result()


def now(device: str) -> float:
    """Return the time in seconds, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


def cuda_bytes(run: Callable[[], None]) -> Peak:
    """Run anything on a GPU; its allocator cannot tell gradients apart, so both numbers contain them."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    return Peak(peak, peak)


class _Counter:
    """Adds up live blocks and remembers the worst moments."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._gradients = {weight.nbytes for weight in weights if weight.dim() > 1}
        self._sizes: dict[int, int] = {}
        self._live = self._live_all = self._peak = self._peak_all = 0
        self._numbers: dict[int, int] = {}  # of the blocks that live, by key
        self._changes: list[tuple[int, int]] = []  # the number of each block made or freed, and its bytes

    def add(self, key: int, size: int) -> None:
        self._numbers[key] = len(self._changes)
        self._changes.append((len(self._changes), size))
        self._sizes[key] = size
        self._live_all += size
        self._peak_all = max(self._peak_all, self._live_all)
        if size not in self._gradients:
            self._live += size
            self._peak = max(self._peak, self._live)

    def remove(self, key: int) -> None:
        size = self._sizes.pop(key, 0)
        self._changes.append((self._numbers.pop(key, -1), -size))
        self._live_all -= size
        if size not in self._gradients:
            self._live -= size

    def number(self, key: int) -> int:
        return self._numbers.get(key, -1)

    def peak_without(self, numbers: set[int]) -> int:
        """Return the peak of the blocks that have other numbers."""
        return max(accumulate((size for number, size in self._changes if number not in numbers), initial=0))

    def result(self) -> Peak:
        return Peak(self._peak, self._peak_all)


class _Storages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation, forward and backward, and watches the storages of its results until they die."""

    def __init__(self, counter: _Counter, outside: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counter = counter
        self._outside = {tensor.untyped_storage()._cdata for tensor in outside}
        self._watched: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self._watch(result)
        else:
            for leaf in optree.tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self._watch(leaf)
        return result

    def number(self, tensor: Tensor) -> int:
        """Return the number of the storage that a tensor lies in."""
        return self._counter.number(tensor.untyped_storage()._cdata)

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._watched or key in self._outside:
            return
        self._watched[key] = weakref.ref(storage, partial(self._forget, key))
        self._counter.add(key, storage.nbytes())

    def _forget(self, key: int, _: object) -> None:
        del self._watched[key]
        self._counter.remove(key)


def _allocations(events: Iterable[Any]) -> Iterator[Any]:
    """Yield the allocator's events in the order of time."""
    allocations, pending = [], list(events)
    while pending:
        event = pending.pop()
        pending += event.children
        if event.tag.name == "Allocation":
            allocations.append(event)
    allocations.sort(key=lambda event: (event.start_time_ns, event.id))
    for event in allocations:
        yield event.extra_fields
