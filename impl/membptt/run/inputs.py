"""The input sequence: tensors in memory, or anything that can be read again by position."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any, Final, Self

import optree
import torch
from torch import Tensor

from membptt.run.order import Order
from membptt.state.leaves import Leaves
from membptt.state.states import At
from membptt.state.trees import flatten
from membptt.step.blocks import Number


@dataclass(frozen=True, slots=True)
class Indexed:
    """Inputs that are read when they are needed, as often as they are needed: they need not fit in memory.

    Args:
        steps: length of the sequence; ``None`` where nobody knows it before it is read.
        read: ``read(start, stop)`` returns steps ``start .. stop-1`` as a pytree of tensors with time as first
            dimension. It must return the same values every time. A gradient flows through what it computes from
            tensors that `scan` is given as ``params=``. Where `steps` is ``None``, it returns fewer steps at the end:
            those that are left, or none (``None`` will do).
    """

    steps: int | None
    read: Callable[[int, int], Any]


UNKNOWN: Final = 2**63 - 1  # steps: more than anybody takes


class Inputs:
    """The input sequence, in cores of a step each unless it is `cut` into larger ones.

    Args:
        xs: a pytree of tensors whose first dimension is time, or `Indexed`; without a tensor in it, it is handed to
            every step as it is.
        segments: a core takes its steps at once, time first, even where it is a single one.
        length: how many steps there are, where no tensor tells.
        reverse: the last step is run first.

    Raises:
        TypeError: a leaf is not a tensor, or the length is not an integer.
        ValueError: no time dimension, leaves of different length, or nothing that tells the length.

    Attributes:
        known: whether the length is known. If not, `steps` is larger than any, and becomes known by `goes_on`.
        order: in which the sequence is run.
    """

    def __init__(self, xs: Any, *, segments: bool = False, length: int | None = None, reverse: bool = False) -> None:
        self.read = xs.read if isinstance(xs, Indexed) else None
        self._segments = segments
        self.leaves: Leaves = ()
        self._ahead: tuple[int, Leaves, optree.PyTreeSpec] | None = None  # where the next core starts, and its inputs
        self.known = not isinstance(xs, Indexed) or xs.steps is not None
        if isinstance(xs, Indexed):
            self.steps = _count("the number of steps of xs", xs.steps, least=0) if self.known else UNKNOWN
        elif not isinstance(xs, Tensor) and hasattr(xs, "__next__"):
            raise TypeError(_ITERATOR)
        else:
            self.leaves, self._spec = flatten("xs", xs)
            self.steps = _length(self.leaves) if self.leaves else _told(length, segments=segments)
        if length is not None and self.steps != length:
            steps = self.steps if self.known else "an unknown number of"
            raise ValueError(f"length is {length!r}, xs has {steps} steps: leave length out, it is for xs=None")
        if reverse and not self.known:
            raise ValueError(
                "reverse=True begins with the last step, and nobody knows which that is: give Indexed(steps, read)"
            )
        self.order = Order(self.steps if reverse else None)
        self.wanted = tuple([leaf.requires_grad for leaf in self.leaves])
        self._dense = all(leaf.layout is torch.strided for leaf in self.leaves)
        self.chunk, self.cores, self._single = 1, self.steps, not segments

    @classmethod
    def nothing(cls) -> Inputs:
        """Return the inputs of a loop that takes none."""
        inputs = cls(Indexed(None, lambda start, stop: None))
        nothing: Any = ()
        inputs.read, inputs._spec = None, optree.tree_structure(nothing)
        return inputs

    def cut(self, chunk: int) -> Self:
        """Return the same sequence in cores of `chunk` steps.

        Raises:
            TypeError: `chunk` is not an integer.
            ValueError: ``chunk < 1``.
        """
        if type(chunk) is int and chunk == self.chunk and self.known and self.read is None:
            return self
        inputs = object.__new__(type(self))
        vars(inputs).update(vars(self))
        inputs.chunk = _count("chunk", chunk)
        inputs.cores = -(-self.steps // chunk)
        inputs._single = chunk == 1 and not self._segments
        return inputs

    def first(self, cores: int) -> Self:
        """Return what a run of the first cores only takes, at least one, each where it is in the whole sequence."""
        inputs = object.__new__(type(self))
        vars(inputs).update(vars(self))
        inputs.cores = min(cores, self.cores)
        inputs.steps = min(self.steps, inputs.cores * self.chunk)
        if self.order.backwards:  # its last steps, without those before
            read, skipped = self.read, self.steps - inputs.steps
            inputs.order, inputs.leaves = Order(inputs.steps), tuple([leaf[skipped:] for leaf in self.leaves])
            if read is not None:
                inputs.read = lambda start, stop: read(start + skipped, stop + skipped)
        return inputs

    def at(self, core: int) -> At:
        """Return the step that `core` covers, or the steps; the last core may be shorter."""
        if self._single:
            return core
        return slice(core * self.chunk, min((core + 1) * self.chunk, self.steps))

    @property
    def places(self) -> int:
        """How many places the sequence has, and its outputs have: a step takes one of them."""
        return self.steps

    def goes_on(self, core: int) -> bool:
        """Whether there is a core `core`: its inputs are read, and kept for the next `fetch`.

        Raises:
            TypeError: `Indexed` read something other than tensors.
            ValueError: it read more steps than were asked for, or none at the very beginning.
        """
        start = core * self.chunk
        if self.known or self.read is None:
            return start < self.steps
        leaves, spec = flatten("what xs reads", self.read(start, start + self.chunk))
        steps = _length(leaves) if leaves else 0
        if steps > self.chunk:
            raise ValueError(f"xs read {steps} steps where steps {start}..{start + self.chunk - 1} were asked for")
        if core == 0 and not steps:
            raise ValueError(_EMPTY)
        if steps < self.chunk:
            self.known, self.steps, self.cores = True, start + steps, core + (steps > 0)
        self._ahead = (start, leaves, spec) if steps else None
        return steps > 0

    def fetch(self, leaves: Leaves, at: At) -> tuple[list[Tensor], optree.PyTreeSpec]:
        """Return the inputs of a step, or of several with time first: views of `leaves`, or what `Indexed` reads.

        Raises:
            TypeError: `Indexed` read something other than tensors.
            ValueError: it read another number of steps.
        """
        if self.read is None:
            if not self.order.backwards:
                return [leaf[at] if self._dense else _part(leaf, at) for leaf in leaves], self._spec
            return [self.order.part(leaf, at) for leaf in leaves], self._spec
        place = self.order.place(at)
        start, stop = (place.start, place.stop) if isinstance(place, slice) else (place, place + 1)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == start:
            _, leaves, spec = ahead
        else:
            leaves, spec = flatten("what xs reads", self.read(start, stop))
        if _length(leaves) != stop - start:
            raise ValueError(f"xs read {_length(leaves)} steps where steps {start}..{stop - 1} were asked for")
        if not isinstance(at, slice):
            return [leaf[0] for leaf in leaves], spec
        return [leaf.flip(0) for leaf in leaves] if self.order.backwards else list(leaves), spec

    def all(self, leaves: Leaves, cores: range) -> Iterator[tuple[Sequence[Tensor], optree.PyTreeSpec]]:
        """Yield what `fetch` returns for each of these cores; where those are all, in one operation a leaf.

        The backward of that is one as well, where that of indexing fills zeros for every core.
        """
        if self.read is None and leaves and len(cores) == self.cores:
            ordered = (leaf.flip(0) if self.order.backwards else leaf for leaf in leaves)
            parts = (leaf.unbind(0) if self._single else torch.split(leaf, self.chunk) for leaf in ordered)
            yield from ((part, self._spec) for part in zip(*parts, strict=True))
        else:
            yield from (self.fetch(leaves, self.at(core)) for core in cores)

    def few(self, leaves: Leaves, cores: range) -> Iterable[tuple[Sequence[Tensor], optree.PyTreeSpec]]:
        """Return what `fetch` returns for each of these cores: single steps in memory a block at a time."""
        in_blocks = self.read is None and leaves and not self.order.backwards and len(cores) >= _BY_STEP
        if in_blocks and not isinstance(self.at(cores.start), slice):
            return self._unbound(leaves, cores)
        return (self.fetch(leaves, self.at(core)) for core in cores)

    def _unbound(self, leaves: Leaves, cores: range) -> Iterator[tuple[Sequence[Tensor], optree.PyTreeSpec]]:
        for first in cores[::_BLOCK]:
            parts = [_part(leaf, slice(first, min(first + _BLOCK, cores.stop))).unbind(0) for leaf in leaves]
            yield from zip(zip(*parts, strict=True), repeat(self._spec), strict=False)


def _part(leaf: Tensor, at: At) -> Tensor:
    """Return a step, or several, also of what is sparse and has no slices."""
    if leaf.layout is torch.strided or not isinstance(at, slice):
        return leaf[at]
    return leaf.index_select(0, torch.arange(at.start, at.stop, device=leaf.device))


_BY_STEP: Final = 4  # steps: fewer are indexed one by one, which takes less time
_BLOCK: Final = 64  # steps: no more views are at hand at once
_EMPTY: Final = "xs is empty: it has no step, and at least one is needed"
_ITERATOR: Final = (
    "xs is an iterator, which can be read only once, and a recomputation reads again: stack its items in a tensor, or "
    "give membptt.Indexed(None, read), where read keeps what it takes from the iterator in a list"
)


class Rows(Inputs):
    """A packed batch of sequences: the rows of all steps, one step after the other, of each step fewer or as many.

    A core takes the rows of its steps, as one tensor, with the first of these steps and the one behind the last.

    Args:
        data: ``(rows, ...)``.
        sizes: rows of each step.
    """

    def __init__(self, data: Tensor, sizes: Sequence[int]) -> None:
        super().__init__(None, length=len(sizes))
        self.leaves, self.wanted = (data,), (data.requires_grad,)
        self._starts = [0, *accumulate(sizes)]

    @property
    def places(self) -> int:
        """How many rows there are."""
        return self._starts[-1]

    def at(self, core: int) -> slice:
        """Return the rows that `core` takes."""
        return slice(self._starts[core * self.chunk], self._starts[min((core + 1) * self.chunk, self.steps)])

    def fetch(self, leaves: Leaves, at: At) -> tuple[list[Tensor], optree.PyTreeSpec]:
        """Return the rows of a core, a view, between which steps they lie being constants of the structure."""
        assert isinstance(at, slice)
        return self._given(leaves[0][at], at)

    def all(self, leaves: Leaves, cores: range) -> Iterator[tuple[Sequence[Tensor], optree.PyTreeSpec]]:
        """Yield what `fetch` returns for each of these cores, which are all."""
        places = [self.at(core) for core in cores]
        parts = torch.split(leaves[0], [at.stop - at.start for at in places])
        yield from (self._given(rows, at) for rows, at in zip(parts, places, strict=True))

    def _given(self, rows: Tensor, at: slice) -> tuple[list[Tensor], optree.PyTreeSpec]:
        steps = bisect_left(self._starts, at.start), bisect_left(self._starts, at.stop)
        return [rows], flatten("xs", (rows, *steps))[1]


class Numbers(Inputs):
    """In place of inputs, the number of each block of a chain.

    Args:
        count: of the blocks, at least 1.
    """

    def __init__(self, count: int) -> None:
        super().__init__(None, length=count)

    def fetch(self, leaves: Leaves, at: At) -> tuple[list[Tensor], Any]:
        """Return the number of a block: there are no leaves in it."""
        del leaves
        return [], Number(at.start if isinstance(at, slice) else at)


def _told(length: int | None, *, segments: bool) -> int:
    if length is None:
        raise ValueError(
            "xs holds no tensor: give at least one whose first dimension is time, or the number of steps, length="
        )
    if segments:
        raise ValueError(
            "a segment learns from its inputs how many steps it is to take, and there are none: give "
            "xs=torch.arange(length)"
        )
    return _count("length", length, least=0)


def _length(leaves: Leaves) -> int:
    if not leaves:
        raise ValueError("xs reads no tensor: read() is to return at least one whose first dimension is time")
    shapes = [leaf.shape for leaf in leaves]
    if not all(shapes):
        raise ValueError("every leaf of xs needs a first dimension, time; got a tensor without dimensions")
    lengths = {shape[0] for shape in shapes}
    if len(lengths) != 1:
        raise ValueError(f"the leaves of xs must agree in their first dimension (time), got lengths {sorted(lengths)}")
    return lengths.pop()


def _count(name: str, value: Any, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value
