"""Bytes of a schedule before it runs: the runtime's stored states on paper, each storage once."""

from __future__ import annotations

from collections.abc import Iterable

from membptt.measure import Measured
from membptt.meter import Report
from membptt_theory.actions import (
    Advance,
    Backward,
    DropHidden,
    DropInternal,
    DropSlow,
    LoadInternal,
    Restore,
    RestoreSlow,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    Tape,
    TieredAction,
)

Parts = dict[int, int]


def peak_bytes(actions: Iterable[TieredAction], cores: int, sizes: Measured) -> int:
    """Return the largest number of bytes in slots, working state and working core after any action.

    A hidden state that is stored by itself, and is the input of one internal state and the output of another, is one
    storage and counts once. States in the slow tier do not count, but for the starting one, which is the caller's.
    """

    def hidden(position: int) -> Parts:
        return {2 * position: sizes.start if position == 0 else sizes.hidden}

    def internal(step: int) -> Parts:
        inner = sizes.tail if step == cores - 1 else sizes.internal
        return {**hidden(step), 2 * step + 1: inner, **hidden(step + 1)}

    held: dict[str | tuple[str, int], Parts] = {}
    report = Report(live_bytes=sizes.shared)

    def put(key: str | tuple[str, int], parts: Parts) -> None:
        report.hold(parts)
        report.release(held.pop(key, {}))
        if parts:
            held[key] = parts

    put(("hidden", 0), hidden(0))
    for action in actions:
        match action:
            case Advance(_, position) | Restore(position) | RestoreSlow(position):
                put("working", hidden(position))
            case Tape(step):
                put("core", internal(step))
                put("working", {})
            case Backward():
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
        report.peak_bytes = max(report.peak_bytes, report.live_bytes)
    return report.peak_bytes


def most_copies(actions: Iterable[TieredAction]) -> int:
    """Return the largest number of states that are in the slow tier by a copy: all but the starting one."""
    held = most = 0
    for action in actions:
        match action:
            case StoreSlow(position) if position > 0:
                held += 1
                most = max(most, held)
            case DropSlow(position) if position > 0:
                held -= 1
    return most
