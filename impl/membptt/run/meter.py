"""What a scan did, counted: forwards and backwards of cores, live bytes of the storages in its slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

from membptt.slow.tier import SlowStates
from membptt.state.leaves import Leaves, storages
from membptt.state.states import Hidden, Internal
from membptt.state.store import Store
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    DropSlow,
    LoadInternal,
    Prices,
    Record,
    ReduceInternal,
    RestoreSlow,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    TieredInstruction,
)
from membptt_theory.footprint import Holders


@contextmanager
def meter() -> Iterator[Report]:
    """Count what the scans called inside the ``with`` block do, their backward passes included.

    Counts are exact and the same from run to run. Nothing is counted, and nothing is paid, outside such a block.

    >>> import torch
    >>> from membptt import scan
    >>> step = lambda h, x: (torch.tanh(h + x), h)
    >>> with meter() as report:
    ...     h, _ = scan(step, torch.zeros(2, requires_grad=True), torch.ones(1000, 2), slots=10)
    ...     h.sum().backward()
    >>> report.forwards
    4636
    """
    report, before = Report(), _active.get()
    try:
        _active.set(report)  # inside: an interrupt must not leave it set
        yield report
    finally:
        _active.set(before)


@contextmanager
def unmetered() -> Iterator[None]:
    """Count nothing of what is run inside."""
    before = _active.get()
    try:
        _active.set(None)
        yield
    finally:
        _active.set(before)


@dataclass(slots=True)
class Report(Holders):
    """Counts of one or several scans.

    Args:
        advanced: cores run without graph.
        recorded: cores run with graph.
        backwards: cores backpropagated.
        live_bytes: bytes of the storages held in slots, working state and working core, each storage once; inputs,
            parameters, outputs and gradients are not stored states. The slow tier is not in it; on a CUDA device, what
            is on its way there or back is.
        peak_bytes: the largest `live_bytes` after any action.
        writes: stores to the slow tier.
        reads: restarts from the slow tier.
        slow_bytes: bytes of the states in the slow tier.
        slow_peak_bytes: the largest `slow_bytes` after any action.
    """

    advanced: int = 0
    recorded: int = 0
    backwards: int = 0
    writes: int = 0
    reads: int = 0
    slow_bytes: int = 0
    slow_peak_bytes: int = 0

    @property
    def forwards(self) -> int:
        """Forward evaluations of cores: those without and those with graph."""
        return self.advanced + self.recorded

    def cost(self, prices: Prices, /) -> int:
        """Return forwards, writes and reads, each at its price: what a two-tier table calls its cost."""
        return prices.forward * self.forwards + prices.write * self.writes + prices.read * self.reads


def active() -> Report | None:
    """Return the report of the ``with`` block that the caller is in, if any."""
    return _active.get()


class Probe:
    """Follows one execution, action by action.

    Args:
        report: what to add to.
        outside: tensors whose storages belong to the caller: inputs and parameters.
    """

    def __init__(self, report: Report, outside: Iterable[Tensor]) -> None:
        self._report = report
        self._outside = storages(outside)
        self._held: dict[object, tuple[object, dict[int, int]]] = {}
        self._slow = self._transit = 0

    def after(
        self,
        instruction: TieredInstruction | None,
        working: Hidden | None,
        recorded: Internal | None,
        store: Store,
        slow: SlowStates | None,
    ) -> None:
        """Take note of what `instruction` ran and of what is held after it; ``None`` stands for the start."""
        report = self._report
        self._put("working", working)
        self._put("core", recorded)
        kind, places = instruction or (StoreHidden, (0,))
        place = places[0]
        if kind is Advance:
            report.advanced += places[1] - place
        elif kind is Record:
            report.recorded += 1
        elif kind is Backpropagate:
            report.backwards += 1
        elif kind in {StoreHidden, DropHidden}:
            self._put(("hidden", place), store.hidden.get(place))
        elif kind in {StoreInternal, LoadInternal, DropInternal}:
            self._put(("internal", place), store.internal.get(place))
        elif kind is ReduceInternal:
            self._put(("hidden", place), store.hidden[place])
            self._put(("internal", place), None)
        elif kind in {StoreSlow, DropSlow} and slow is not None:
            report.writes += kind is StoreSlow
            self._put(("slow", place), slow.kept(place))
        elif kind is RestoreSlow:
            report.reads += 1
        if slow is not None:
            self._weigh(slow.spill.bytes, slow.spill.transit)
        report.peak_bytes = max(report.peak_bytes, report.live_bytes)

    def close(self) -> None:
        """Release everything."""
        for key in list(self._held):
            self._put(key, None)
        self._weigh(0, 0)

    def _weigh(self, slow: int, transit: int) -> None:
        report = self._report
        report.live_bytes += transit - self._transit
        report.slow_bytes += slow - self._slow
        report.slow_peak_bytes = max(report.slow_peak_bytes, report.slow_bytes)
        self._slow, self._transit = slow, transit

    def _put(self, key: object, state: Hidden | Internal | Leaves | None) -> None:
        before, parts = self._held.pop(key, (None, {}))
        if state is not None and state is before:
            self._held[key] = before, parts
            return
        if state is not None:
            new = {storage: size for storage, size in parts_of(state).items() if storage not in self._outside}
            self._report.hold(new)
            self._held[key] = state, new
        self._report.release(parts)


def parts_of(state: Hidden | Internal | Leaves) -> dict[int, int]:
    """Return the bytes of a stored state by storage."""
    if not isinstance(state, Internal):
        return storages(state.leaves if isinstance(state, Hidden) else state)
    return {**storages((*state.carry_in, *state.carry_out)), **storages(state.x_in, owned=True), **state.saved}


_active: ContextVar[Report | None] = ContextVar("membptt_meter", default=None)
