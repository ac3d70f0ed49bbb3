"""Figures 1 and 4 share their form: one stream, cut into the three parts of its first division."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from membptt_theory.actions import (
    Advance,
    Backpropagate,
    LoadInternal,
    Record,
    Restore,
    StoreHidden,
    StoreInternal,
    TieredAction,
)
from membptt_theory.palette import GREY
from membptt_theory.picture import draw_timeline, legend
from membptt_theory.tables import build
from membptt_theory.timeline import Timeline
from paper_figs.evidence import require
from paper_figs.style import COLUMN, panels
from paper_figs.timeline import timeline

STEPS: Final = 10
SLOTS: Final = 3


@dataclass(frozen=True)
class Division:
    """One stream and its first division.

    Args:
        timeline: of the whole stream.
        split: ``y``.
        parts: ``(first row, end row, forwards, what is done)``, from top to bottom.
    """

    timeline: Timeline
    split: int
    parts: tuple[tuple[int, int, int, str], ...]


def division(policy: str, /, *, split: int, forwards: int) -> Division:
    """Read the stream and check that it is a first pass, the right part's own stream, the left part's own stream.

    Args:
        policy: ``"hsm"`` or ``"ism"``.
        split: ``y`` that the figure states.
        forwards: ``C`` that the figure states.

    Raises:
        FigureClaimError: the stream is not so divided, or has another split or cost.
    """
    table = build(policy, STEPS, SLOTS)
    drawn = timeline(table, STEPS, SLOTS, forwards=forwards)
    y = table.decision(STEPS, SLOTS)[1]
    require(y == split, f"{policy}: the first split is {y}, not {split}")
    internal = policy == "ism"
    first: list[TieredAction] = [Advance(0, y - 1), Record(y - 1), StoreInternal(y - 1)]
    if not internal:
        first = [Advance(0, y), StoreHidden(y)]
    right = [_shifted(action, y) for action in table.schedule(STEPS - y, SLOTS - 1)]
    loaded: list[TieredAction] = [LoadInternal(y - 1), Backpropagate(y - 1)] if internal else []
    left = list(table.schedule(y - internal, SLOTS))
    stream = list(table.schedule(STEPS, SLOTS))
    require(stream == [*first, *right, *loaded, Restore(0), *left], f"{policy}: the stream is not divided at y = {y}")
    costs = y, table.cost(STEPS - y, SLOTS - 1), table.cost(y - internal, SLOTS)
    require(sum(costs) == forwards, f"{policy}: the parts cost {costs}, together not {forwards}")
    ends = _ends([costs[0], costs[1] + STEPS - y, internal, costs[2] + y - internal])
    way = (
        f"advance {y - 1} steps,\nrecord step {y - 1} and store\nits internal state"
        if internal
        else f"advance {y} steps,\nstore hidden state {y}"
    )
    words = (
        f"$y = {y}$: {way}",
        f"right part: {STEPS - y} steps\nin $m-1 = {SLOTS - 1}$ slots",
        f"load it, backpropagate\nstep {y - 1}",
        f"left part: {y - internal} steps\nin $m = {SLOTS}$ slots",
    )
    parts = zip((0, *ends), ends, (costs[0], costs[1], 0, costs[2]), words, strict=False)
    return Division(drawn, y, tuple(part for part in parts if part[1] > part[0]))


def draw_division(parts: Division, policy: str) -> Figure:
    """Draw the timeline, and beside it a bracket around the rows of each part."""
    figure, (ax, margin) = panels(2, width=COLUMN, height=4.3, width_ratios=(1.5, 1), sharey=True)
    draw_timeline(ax, parts.timeline)
    ax.set_xticks(range(0, parts.timeline.steps + 1, 2))
    ax.axvline(parts.split, color=GREY, linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
    ax.set_title(f"{policy}, $t = {STEPS}$, $m = {SLOTS}$", loc="left")
    margin.set_axis_off()
    margin.set_xlim(0, 1)
    for begin, end, forwards, words in parts.parts:
        _bracket(margin, begin, end, f"{words}\n{forwards} forwards" if forwards else words)
        ax.axhline(end, color=GREY, linewidth=0.5, zorder=0)
    handles = legend(parts.timeline)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=1.5, columnspacing=1.2)
    return figure


def _bracket(ax: Axes, begin: int, end: int, words: str) -> None:
    low, high = begin + 0.15, end - 0.15
    ax.plot([0, 0.06, 0.06, 0], [low, low, high, high], color="black", linewidth=0.8, clip_on=False)
    ax.text(0.12, (low + high) / 2, words, va="center", fontsize=7, linespacing=1.15)


def _ends(rows: list[int]) -> list[int]:
    return [sum(rows[: k + 1]) for k in range(len(rows))]


def _shifted(action: TieredAction, by: int) -> TieredAction:
    """Return the action `by` positions to the right."""
    moved: dict[str, Any] = {each.name: getattr(action, each.name) + by for each in fields(action)}
    return replace(action, **moved)
