"""The slow tier as a scan uses it: what a caller may ask of it, and its hidden states with all a restart needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import Tensor

from membptt.slow.spill import Spill
from membptt.state.leaves import Leaves, storages
from membptt.state.states import Hidden, RandomState
from membptt.torch_private import versions
from membptt_theory.actions import Prices

IN_FLIGHT: Final = 1  # stores to pinned memory under way: more would take more of the device's memory


@dataclass(frozen=True, slots=True)
class SlowTier:
    """A second tier for hidden states: pinned host memory for those on a CUDA device, for others an unnamed file.

    Args:
        slots: hidden states it may hold; ``None``: as many as the schedule wants.
        prices: of a core's forward, of a write and of a read, in any common integer unit. ``None``: as the plan
            measured them; where there is no plan, a write and a read cost a forward each.
        directory: of the file; the system's by default, which may itself be memory (a tmpfs).

    Raises:
        TypeError: `slots` is not an integer, or `prices` are no `Prices`.
        ValueError: ``slots < 0``, or no such directory.
    """

    slots: int | None = None
    prices: Prices | None = None
    directory: str | Path | None = None

    def __post_init__(self) -> None:
        if self.slots is not None and (isinstance(self.slots, bool) or not isinstance(self.slots, int)):
            raise TypeError(f"slots of the slow tier must be an integer or None, got {self.slots!r}")
        if self.slots is not None and self.slots < 0:
            raise ValueError(f"slots of the slow tier must be at least 0, got {self.slots}")
        if self.prices is not None and not isinstance(self.prices, Prices):
            raise TypeError(f"prices must be Prices, got {type(self.prices).__name__}")
        if self.directory is not None and not Path(self.directory).is_dir():
            raise ValueError(f"directory of the slow tier must be a folder that is there, got {str(self.directory)!r}")


def slow_tier(spill: bool | SlowTier, /) -> SlowTier | None:
    """Return what a caller's ``spill`` asks for.

    Raises:
        TypeError: neither a truth value nor a `SlowTier`.
    """
    if isinstance(spill, bool):
        return SlowTier() if spill else None
    if not isinstance(spill, SlowTier):
        raise TypeError(f"spill must be True, False or a SlowTier, got {type(spill).__name__}")
    return spill


class SlowStates:
    """The hidden states of one call in its slow tier, by position, each with its random state.

    What belongs to the caller stays where it is: leaves of the starting carry, at its own position or handed on as they
    are, are in memory whatever happens, and a copy would only be a second one.

    Args:
        start: the starting hidden state.
        directory: of the spill's file.
    """

    def __init__(self, start: Hidden, directory: str | Path | None) -> None:
        self.spill = Spill(directory, in_flight=IN_FLIGHT)
        self._start = start  # while it is held, no other storage has its storages' addresses
        self._callers = storages(start.leaves).keys()
        self._rests: dict[int, _Rest] = {}

    def store(self, position: int, state: Hidden) -> None:
        """Copy a hidden state to the slow tier."""
        kept = [leaf if self._is_callers(leaf) else None for leaf in state.leaves]
        copied = [leaf for leaf, stays in zip(state.leaves, kept, strict=True) if stays is None]
        # Where no random number was drawn, all states share the first one's.
        drawn = state.random is not self._start.random
        self.spill.put(position, (*copied, *(state.random if drawn else ())))
        self._rests[position] = _Rest(kept, state.versions, None if drawn else state.random)

    def _is_callers(self, leaf: Tensor) -> bool:
        return storages((leaf,)).keys() <= self._callers

    def restore(self, position: int) -> Hidden:
        """Return a hidden state; it stays in the slow tier.

        Raises:
            RuntimeError: a leaf that stayed in memory was changed in place.
        """
        rest = self._rests[position]
        fetched = iter(self.spill.get(position))
        leaves = tuple([next(fetched) if leaf is None else leaf for leaf in rest.kept])
        random = tuple(fetched) if rest.random is None else rest.random
        now = zip(versions(leaves), rest.versions, rest.kept, strict=True)
        state = Hidden(leaves, random, tuple([version if leaf is None else then for version, then, leaf in now]))
        state.check(position)
        return state

    def drop(self, position: int) -> None:
        """Let go of a state."""
        self.spill.drop(position)
        del self._rests[position]

    def kept(self, position: int) -> Leaves:
        """Return what of a state is still in fast memory: nothing of one that is not held."""
        rest = self._rests.get(position)
        return tuple([leaf for leaf in rest.kept if leaf is not None]) if rest else ()

    def close(self) -> None:
        """Let go of everything."""
        self.spill.close()
        self._rests.clear()


@dataclass(frozen=True, slots=True)
class _Rest:
    """What of a slow state is not in the spill: the caller's leaves, the versions of all, a random state not drawn."""

    kept: list[Tensor | None]
    versions: tuple[int, ...]
    random: RandomState | None
