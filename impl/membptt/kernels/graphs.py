"""A compiled core beside the same core captured in a CUDA graph: the captured one runs where it proves itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from threading import local
from time import perf_counter
from typing import Any

import optree
import torch
from torch import Tensor

from membptt.state.leaves import Layout, bits, signature
from membptt.state.trees import NAMESPACE, tree_leaves
from membptt.step.generators import Generators

Result = tuple[Any, Sequence[Any]]
Chunk = Callable[[Any, Sequence[Any]], Result]
_ROUNDS = 5


class Captured:
    """Decides, for every kind of core, which of two ways to run it.

    Only cores without graph are replayed. The tensors that a recorded core saves for its backward would lie in the
    captured graph's memory, where the next replay overwrites them, and stored internal states must last. The first
    core of each kind (shapes, thread, autocast) is run both ways, from the same random state, and again from the carry
    it returned: the captured way is taken if it gives the same bits both times, draws the same random numbers, and is
    faster by the median of a few runs.

    Args:
        plain: the compiled core.
        replayed: the captured one; what it returns lies in memory that its next call writes to.
    """

    def __init__(self, plain: Chunk, replayed: Chunk) -> None:
        self._plain = plain
        self._replayed = replayed
        self._mine = local()  # every thread has captured graphs of its own

    def __call__(self, carry: Any, parts: Sequence[Any]) -> Result:
        """Run one core."""
        if torch.is_grad_enabled():
            return self._plain(carry, parts)
        leaves = _leaves((carry, parts))
        autocast = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        kind = autocast, len(parts), signature(tuple(leaves))
        ways: dict[object, Chunk] = self._mine.__dict__.setdefault("ways", {})
        chosen = ways.get(kind)
        if chosen is None:
            chosen, result = self._try(carry, parts, leaves)
            if chosen is not None:
                ways[kind] = chosen
            return result
        if chosen is self._plain:
            return self._plain(carry, parts)
        try:
            return self._replay(carry, parts)
        except Exception as error:  # a parameter at another address, for example
            ways[kind] = self._plain
            _say(f"a captured core failed ({type(error).__name__})")
            return self._plain(carry, parts)

    def _replay(self, carry: Any, parts: Sequence[Any]) -> Result:
        """Run the captured core; the carry, which may be stored, leaves its memory, unless it is an input's."""
        leaves = _leaves((carry, parts))
        given = {leaf.untyped_storage().data_ptr() for leaf in leaves}
        copies: dict[int, Tensor] = {}

        def copied(leaf: Tensor) -> Tensor:
            if leaf.untyped_storage().data_ptr() in given:
                return leaf
            return copies.setdefault(id(leaf), Layout.of(leaf).empty().copy_(leaf))

        with self._on_device(leaves):
            after, ys = self._replayed(carry, parts)
        return optree.tree_map(copied, after, namespace=NAMESPACE), ys

    @contextmanager
    def _on_device(self, leaves: Sequence[Tensor]) -> Iterator[None]:
        """Make the leaves' CUDA device the current one: a capture takes place there, whatever its kernels run on."""
        device = next((leaf.device for leaf in leaves if leaf.is_cuda), None)
        if device is None:
            yield
            return
        stream, last = torch.cuda.current_stream(device), self._mine.__dict__.get("stream")
        if last is not None and last != stream:
            stream.wait_stream(last)  # that replay's memory is written to again
        self._mine.stream = stream
        # A capture that breaks off would leave its own stream the current one.
        with torch.cuda.device(device), torch.cuda.stream(stream):
            yield

    def _try(self, carry: Any, parts: Sequence[Any], leaves: Sequence[Tensor]) -> tuple[Chunk | None, Result]:
        """Run one core both ways; return the better way, and the plain one's result.

        No way is better yet where a second core gives what the first gave: a replay that is stuck would too.
        """
        generators = Generators({leaf.device for leaf in leaves})
        before = generators.read()
        expected = self._plain(carry, parts)
        after = generators.read()
        try:
            generators.write(before)
            second = self._plain(expected[0], parts)
            if _same(second, expected):
                return None, expected
            for given, wanted in ((carry, expected), (expected[0], second)):
                generators.write(before)
                replay = self._replay(given, parts)
                if not (_same(replay, wanted) and _same(generators.read(), after)):
                    _say("a captured core gave other bits than the compiled one")
                    return self._plain, expected
            taken: dict[Chunk, list[float]] = {self._plain: [], self._replay: []}
            for _ in range(_ROUNDS):
                for way, times in taken.items():
                    generators.write(before)
                    _finish(leaves)
                    start = perf_counter()
                    way(carry, parts)
                    _finish(leaves)
                    times.append(perf_counter() - start)
        except Exception as error:
            _say(f"a captured core failed ({type(error).__name__})")
            return self._plain, expected
        finally:
            generators.write(after)
        plain, replayed = (median(times) for times in taken.values())
        return (self._replay if replayed < plain else self._plain), expected


def _leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _same(result: Any, expected: Any) -> bool:
    some, others = _leaves(result), _leaves(expected)
    return len(some) == len(others) and all(
        leaf.shape == other.shape and leaf.dtype == other.dtype and torch.equal(bits(leaf), bits(other))
        for leaf, other in zip(some, others, strict=True)
    )


def _finish(leaves: Sequence[Tensor]) -> None:
    for device in {leaf.device for leaf in leaves if leaf.device.type == "cuda"}:
        torch.cuda.synchronize(device)


def _say(what: str) -> None:
    warnings.warn(f"{what}; compiled cores go on without graph capture", stacklevel=4)
