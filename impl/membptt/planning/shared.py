"""Which storages the states of a chain share: an open skip connection is handed on as it is, and lies in one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from torch import Tensor

from membptt.planning.tally import rounded
from membptt.state.leaves import Leaves, located
from membptt_theory.actions import Skip

Sizes: TypeAlias = dict[int, int]  # bytes by address


class Shared:
    """Follows the storages of the states of a chain, from one position to the next.

    Those that are there beside the chain are nobody's output: the chain's input, parameters, buffers.

    Args:
        outside: tensors on such storages.
    """

    def __init__(self, outside: Iterable[Tensor]) -> None:
        self._outside = {address for tensor in outside for address, _ in located(tensor)}
        self._position = 0
        self._open: dict[int, tuple[int, int]] = {}  # since where, and bytes, by address: of the newest state
        self._skips: list[Skip] = []

    def sizes(self, leaves: Leaves, stored: Leaves) -> Sizes:
        """Return the bytes of a state by the storages that it is stored in.

        A leaf that is a part of something larger is copied where it is stored, not where it is handed on: it counts as
        what it is a part of.
        """
        return {
            at: rounded(storage.nbytes(), leaf.device.type)
            for leaf, kept in zip(leaves, stored, strict=True)
            for (_, storage), (at, _) in zip(located(leaf), located(kept), strict=True)
            if at not in self._outside
        }

    def follow(self, sizes: Sizes) -> tuple[int, int]:
        """Go on to the next state, while the one before it is alive still.

        Returns:
            The bytes of it that the state before it holds too, and those that are new.
        """
        before, self._position = self._open, self._position + 1
        self._open = {at: (before[at][0] if at in before else self._position, size) for at, size in sizes.items()}
        self._end({at: held for at, held in before.items() if at not in sizes}, self._position - 1)
        handed = sum(size for at, size in sizes.items() if at in before)
        return handed, sum(sizes.values()) - handed

    def skips(self) -> tuple[Skip, ...]:
        """Return the storages that several states hold, once the last state is reached."""
        still, self._open = self._open, {}
        self._end(still, self._position)
        return tuple(self._skips)

    def _end(self, held: dict[int, tuple[int, int]], last: int) -> None:
        self._skips += [Skip(first, last, size) for first, size in held.values() if size and first < last]


def pattern(leaves: Leaves) -> tuple[int, ...]:
    """Return for each leaf of a state the first one that lies in the same storage."""
    addresses = [[address for address, _ in located(leaf)] for leaf in leaves]
    return tuple(map(addresses.index, addresses))
