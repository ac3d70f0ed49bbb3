"""A compiled core beside the same core captured in a CUDA graph: the captured one runs where it proves itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from statistics import median
from threading import get_ident
from time import perf_counter
from typing import Any

import optree
import torch
from torch import Tensor

from membptt.replay import Generators
from membptt.slots import signature
from membptt.witness import bits

_Result = tuple[Any, Sequence[Any]]
_Chunk = Callable[[Any, Sequence[Any]], _Result]
_ROUNDS = 5


class Captured:
    """Decides, for every kind of core, which of two ways to run it.

    Only cores without graph are replayed. The tensors that a recorded core saves for its backward would lie in the
    captured graph's memory, where the next replay overwrites them, and stored internal states must last. The first
    core of each kind (shapes, thread, autocast) is run both ways, from the same random state: the captured way is taken
    if it gives the same bits, draws the same random numbers, and is faster by the median of a few runs.

    Args:
        plain: the compiled core.
        replayed: the captured one; what it returns lies in memory that its next call writes to.
    """

    def __init__(self, plain: _Chunk, replayed: _Chunk) -> None:
        self._plain = plain
        self._replayed = replayed
        self._chosen: dict[object, _Chunk] = {}

    def __call__(self, carry: Any, parts: Sequence[Any]) -> _Result:
        """Run one core."""
        if torch.is_grad_enabled():
            return self._plain(carry, parts)
        leaves = _leaves((carry, parts))
        kind = get_ident(), torch.is_autocast_enabled("cuda"), len(parts), signature(tuple(leaves))
        chosen = self._chosen.get(kind)
        if chosen is None:
            self._chosen[kind], result = self._try(carry, parts, leaves)
            return result
        if chosen is self._plain:
            return self._plain(carry, parts)
        try:
            return self._replay(carry, parts)
        except Exception as error:  # a parameter at another address, for example
            self._chosen[kind] = self._plain
            _say(f"a captured core failed ({type(error).__name__})")
            return self._plain(carry, parts)

    def _replay(self, carry: Any, parts: Sequence[Any]) -> _Result:
        """Run the captured core; the carry, which may be stored, leaves its memory, unless it is an input's."""
        given = {leaf.untyped_storage().data_ptr() for leaf in _leaves((carry, parts))}
        copies: dict[int, Tensor] = {}

        def copied(leaf: Tensor) -> Tensor:
            if leaf.untyped_storage().data_ptr() in given:
                return leaf
            return copies.setdefault(id(leaf), leaf.clone())

        after, ys = self._replayed(carry, parts)
        return optree.tree_map(copied, after), ys

    def _try(self, carry: Any, parts: Sequence[Any], leaves: Sequence[Tensor]) -> tuple[_Chunk, _Result]:
        """Run one core both ways; return the better way, and the plain one's result."""
        generators = Generators({leaf.device for leaf in leaves})
        before = generators.read()
        expected = self._plain(carry, parts)
        after = generators.read()
        try:
            generators.write(before)
            found = self._replay(carry, parts)
            drawn = generators.read()
            if not (_same(found, expected) and _same(drawn, after)):
                _say("a captured core gave other bits than the compiled one")
                return self._plain, expected
            taken: dict[_Chunk, list[float]] = {self._plain: [], self._replay: []}
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
    return [leaf for leaf in optree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _same(found: Any, expected: Any) -> bool:
    some, others = optree.tree_leaves(found), optree.tree_leaves(expected)
    return len(some) == len(others) and all(
        one.shape == other.shape and one.dtype == other.dtype and torch.equal(bits(one), bits(other))
        for one, other in zip(some, others, strict=True)
    )


def _finish(leaves: Sequence[Tensor]) -> None:
    for device in {leaf.device for leaf in leaves if leaf.device.type == "cuda"}:
        torch.cuda.synchronize(device)


def _say(what: str) -> None:
    warnings.warn(f"{what}; compile=True goes on without graph capture", stacklevel=4)
