"""The blocks of a chain as one step that is told which block it is; what a block may update at its first run only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from itertools import chain, repeat
from types import MethodType
from typing import Any, Final
from weakref import WeakSet

from torch import Tensor, nn

from membptt.state.trees import tree_leaves
from membptt.step.identity import code_of
from membptt.step.modules import modules_below
from membptt.torch_private import buffers_of, versions

Block = Callable[[Any], Any]
LONGEST: Final = 4096  # blocks
_NOTHING: Final[tuple[Any, ...]] = ()


class Number(int):
    """The number of a block: what a chain's step is given in place of an input, and the structure of that."""

    def unflatten(self, nothing: Iterable[Any]) -> Number:
        """Return what has this structure and no leaves."""
        del nothing
        return self


class Blocks:
    """The blocks of a chain, as a step: ``step(state, number) -> (state, ())``.

    A block's running statistics, those of batch and instance normalisation in training mode, are updated when it is run
    for the first time. A later run starts from what they were then, and leaves them as they are now.

    Args:
        blocks: at least one.
        named: what each of them names that is a function or a method.
        joined: of the caller's blocks, those that the first one here joins beside its first.

    Attributes:
        modules: those that the blocks are, or name, and all below them.
    """

    def __init__(self, blocks: Iterable[Block], named: Sequence[Sequence[Any]] = (), joined: int = 0) -> None:
        self.blocks = tuple(blocks)
        self._joined = joined
        # A module says by itself what is below it: a list for each is felt where there are a thousand.
        self._named = [
            modules_below(values) if values else _NOTHING for values in named or repeat((), len(self.blocks))
        ]
        self.modules = modules_below(chain(self.blocks, *filter(None, self._named)))
        self._statistics = [_NOTHING for _ in self.blocks]
        if next(_statistics(self.modules), None) is not None:
            pairs = zip(self.blocks, self._named, strict=True)
            self._statistics = [(*_statistics(modules_below([block, *below])),) for block, below in pairs]
        self._before: list[list[Tensor] | None] = [None for _ in self.blocks]

    def fresh(self) -> list[int]:
        """Return the blocks that were never run, as far as is known: they may begin to cache what they compute."""
        return [number for number in range(len(self.blocks)) if not all(map(_is_settled, self._makers(number)))]

    def settle(self) -> None:
        """Take note that all blocks were run, with graph, and kept nothing."""
        for maker in chain.from_iterable(map(self._makers, range(len(self.blocks)))):
            with suppress(TypeError):  # not hashable, or nothing may refer to it weakly
                _settled.add(maker)

    def _makers(self, number: int) -> list[Any]:
        """Return what a block is known by: itself, with the modules that a function names; a method is always new."""
        block = self.blocks[number]
        below = self._named[number]
        return [*below] if isinstance(block, MethodType) else [block, *below]

    def codes(self) -> frozenset[Any]:
        """Return what the blocks are by their code: of modules, the types of all of them."""
        pairs = zip(self.blocks, self._named, strict=True)
        below = (block.modules() if isinstance(block, nn.Module) else each for block, each in pairs)
        modules = {type(module) for each in below for module in each}
        return frozenset(modules.union(code_of(block) for block in self.blocks if not isinstance(block, nn.Module)))

    def again(self) -> Blocks:
        """Return the same blocks, of which no run is the first one: the statistics stay as they are."""
        blocks = copy(self)
        blocks._before = [_copies(places) for places in self._statistics]
        return blocks

    def __call__(self, state: Any, number: int) -> tuple[Any, tuple[()]]:
        """Run one block.

        Raises:
            RuntimeError: it changes in place what it is given.
        """
        leaves = [state] if type(state) is Tensor else [each for each in tree_leaves(state) if isinstance(each, Tensor)]
        given = versions(leaves)
        try:
            if self._statistics[number]:
                with self._once(number):
                    result = self.blocks[number](state)
            else:
                result = self.blocks[number](state)
        except RuntimeError as error:
            if "leaf Variable that requires grad is being used in an in-place operation" not in str(error):
                raise
            raise self._in_place(number) from error
        if versions(leaves) != given:
            raise self._in_place(number)
        return result, ()

    def run_again(self, state: Any, number: int) -> tuple[Any, tuple[()]]:
        """Run one block once more; that it changes nothing in place was seen before."""
        return self(state, number) if self._statistics[number] else (self.blocks[number](state), ())

    def name(self, number: int) -> str:
        """Return what the caller calls a block."""
        return f"blocks[{number + self._joined}]" if number or not self._joined else f"blocks[:{self._joined + 1}]"

    def rewound(self) -> Iterator[Tensor]:
        """Yield the running statistics."""
        return (place[key] for places in self._statistics for place, key in places)

    @contextmanager
    def _once(self, number: int) -> Iterator[None]:
        """Let the first run of a block update its statistics; put copies in their place for every other run."""
        places, before = self._statistics[number], self._before[number]
        if before is None:
            self._before[number] = _copies(places)
            yield
            return
        own = [place[key] for place, key in places]
        try:
            for (place, key), tensor in zip(places, before, strict=True):
                place[key] = tensor.clone()
            yield
        finally:
            for (place, key), tensor in zip(places, own, strict=True):
                place[key] = tensor

    def _in_place(self, number: int) -> RuntimeError:
        block = self.blocks[number]
        kind = type(block).__name__ if isinstance(block, nn.Module) else getattr(block, "__name__", "a function")
        return RuntimeError(
            f"{self.name(number)} ({kind}) changes in place what it is given, which is stored as the output of the "
            "block before it: give it inplace=False, or make one block of the two (torch.nn.Sequential)"
        )


_settled: Final[WeakSet[Any]] = WeakSet()


def _is_settled(maker: Any) -> bool:
    try:
        return maker in _settled
    except TypeError:
        return False


def _statistics(modules: Iterable[nn.Module]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the places of running statistics that a call in the present mode updates, each once."""
    for module in dict.fromkeys(modules):
        buffers = buffers_of(module)
        if buffers and module.training and {"running_mean", "running_var"} <= buffers.keys():
            yield from ((buffers, key) for key, tensor in buffers.items() if tensor is not None)


def _copies(places: Sequence[tuple[dict[str, Any], str]]) -> list[Tensor]:
    return [place[key].clone() for place, key in places]
