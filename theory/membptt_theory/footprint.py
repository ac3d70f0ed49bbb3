"""Bytes of a schedule before it runs: the runtime's stored states on paper, each storage once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    DropSlow,
    LoadInternal,
    Record,
    ReduceInternal,
    Restore,
    RestoreSlow,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    TieredAction,
)

Parts = dict[int, int]


@dataclass(frozen=True, slots=True)
class Measured:
    """One core of `chunk` steps: what its states weigh, and how long it takes.

    Args:
        chunk: steps.
        start: bytes of the starting hidden state.
        hidden: bytes of any other hidden state.
        internal: bytes of an internal state beyond its input and output hidden states.
        tail: the same for the last core, which may be shorter.
        shared: bytes that all stored states refer to, counted once.
        advance: time of a forward without graph, in any unit; the others are in the same.
        backprop: time of a forward with graph and its backward, together.
        slow: bytes of a hidden state in the slow tier, with its random state where the step draws; 0: not measured.
        transit: bytes of the device that states in transit to or from the slow tier may take.
        write: time of a store to the slow tier.
        read: time of a restart from it.
        call: time of a gradient beside that of its cores.
        compiled: by which kernels its times were measured.
        apart: as `backprop`, where the core is stored with its graph in between; ``None``: as long.
    """

    chunk: int
    start: int
    hidden: int
    internal: int
    tail: int
    shared: int
    advance: float
    backprop: float
    slow: int = 0
    transit: int = 0
    write: float = 0.0
    read: float = 0.0
    call: float = 0.0
    compiled: bool = False
    apart: float | None = None

    @property
    def stored(self) -> float:
        """Time of a forward with graph, and of its backward later on."""
        return self.backprop if self.apart is None else self.apart


@dataclass(slots=True)
class Holders:
    """Bytes of the storages that are held, each counted once, however many hold it.

    Args:
        live_bytes: held now.
        peak_bytes: the largest `live_bytes` that was noted.
    """

    live_bytes: int = 0
    peak_bytes: int = 0
    _holders: Parts = field(default_factory=dict, init=False, repr=False)

    def hold(self, parts: dict[int, int]) -> None:
        """Count one more holder of each storage."""
        for storage, size in parts.items():
            holders = self._holders.get(storage, 0)
            self._holders[storage] = holders + 1
            self.live_bytes += 0 if holders else size

    def release(self, parts: dict[int, int]) -> None:
        """Count one holder fewer of each storage."""
        for storage, size in parts.items():
            self._holders[storage] -= 1
            if not self._holders[storage]:
                del self._holders[storage]
                self.live_bytes -= size


def peak_bytes(actions: Iterable[TieredAction], cores: int, sizes: Measured) -> int:
    """Return the largest number of bytes in slots, working state and working core after any action.

    A hidden state that is stored by itself, and is the input of one internal state and the output of another, is one
    storage and counts once. Of the states in the slow tier only the starting one counts: it is the caller's.
    """

    def hidden(position: int) -> Parts:
        return {2 * position: sizes.start if position == 0 else sizes.hidden}

    def internal(step: int) -> Parts:
        inner = sizes.tail if step == cores - 1 else sizes.internal
        return {**hidden(step), 2 * step + 1: inner, **hidden(step + 1)}

    held: dict[str | tuple[str, int], Parts] = {}
    held_bytes = Holders(live_bytes=sizes.shared)

    def put(key: str | tuple[str, int], parts: Parts) -> None:
        held_bytes.hold(parts)
        held_bytes.release(held.pop(key, {}))
        if parts:
            held[key] = parts

    put(("hidden", 0), hidden(0))
    for action in actions:
        match action:
            case Advance(_, position) | Restore(position) | RestoreSlow(position):
                put("working", hidden(position))
            case Record(step):
                put("core", internal(step))
                put("working", {})
            case Backpropagate():
                put("core", {})
                put("working", {})
            case StoreHidden(position):
                put(("hidden", position), hidden(position))
            case StoreInternal(step):
                put(("internal", step), internal(step))
                put("working", hidden(step + 1))
                put("core", {})
            case LoadInternal(step):
                put("core", internal(step))
                put(("internal", step), {})
            case DropHidden(position):
                put(("hidden", position), {})
            case StoreSlow(position):
                put(("slow", position), hidden(0) if position == 0 else {})
            case DropSlow(position):
                put(("slow", position), {})
            case DropInternal(step):
                put(("internal", step), {})
            case ReduceInternal(step):
                put(("hidden", step), hidden(step))
                put(("internal", step), {})
        held_bytes.peak_bytes = max(held_bytes.peak_bytes, held_bytes.live_bytes)
    return held_bytes.peak_bytes


def most_copies(actions: Iterable[TieredAction]) -> int:
    """Return the largest number of copies in the slow tier: a starting state there is not copied."""
    held = most = 0
    for action in actions:
        match action:
            case StoreSlow(position) if position > 0:
                held += 1
                most = max(most, held)
            case DropSlow(position) if position > 0:
                held -= 1
    return most
