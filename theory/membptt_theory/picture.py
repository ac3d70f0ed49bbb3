"""A schedule drawn, the only place where one is: position to the right, execution downward.

Hidden states have one colour and internal states another, those of `membptt_theory.palette`. Few forwards and backwards
are drawn as a box each; many as strokes, in which what runs without a break is one line. Only who draws needs
matplotlib. (`membptt_theory.terminal` draws the same in characters.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from membptt_theory.palette import ADVANCED, BACKPROPAGATED, BLACK, HIDDEN, INTERNAL, MEMORY, RECORDED, WHITE
from membptt_theory.timeline import Kind, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BOXES: Final = 400  # cells; more are drawn as strokes
MOST_STROKES: Final = 500_000  # cells; more cannot be seen

Line = list[tuple[float, float]]


def draw_schedule(timeline: Timeline, title: str = "", /, *, unit: str = "steps") -> Figure:
    """Draw a schedule and, beside it, the memory that it uses.

    Args:
        timeline: at most `MOST_STROKES` forwards and backwards.
        title: of the figure.
        unit: what the positions count.

    Raises:
        ValueError: it has more forwards and backwards than a picture can show.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    draw_timeline(left, timeline, unit=unit)
    draw_memory(right, timeline)
    figure.legend(handles=legend(timeline), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def draw_timeline(ax: Axes, timeline: Timeline, /, *, unit: str = "steps") -> None:
    """Draw which step runs when, how long each state is stored, and from which states it runs on.

    Args:
        ax: the panel; its limits and labels are set.
        timeline: at most `MOST_STROKES` forwards and backwards.
        unit: what the positions count.

    Raises:
        ValueError: it has more forwards and backwards than a picture can show.
    """
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    check_drawable(len(timeline.cells))
    (_draw_boxes if len(timeline.cells) <= MOST_BOXES else _draw_strokes)(ax, timeline)
    ax.set(xlim=(-0.5, timeline.steps + 0.3), ylim=(len(timeline.cells) + 0.4, -0.8))
    ax.set(xlabel=f"position [{unit}]", ylabel=f"execution order [forwards and backwards of single {unit}]")
    ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    ax.grid(visible=False, axis="y")


def check_drawable(cells: int, /) -> None:
    """Check, before it is laid out, that a schedule of so many forwards and backwards can be drawn.

    Raises:
        ValueError: it cannot.
    """
    if cells > MOST_STROKES:
        raise ValueError(
            f"the schedule has {cells} forwards and backwards, a picture can show {MOST_STROKES}: "
            "take fewer steps, or more slots"
        )


def draw_memory(ax: Axes, timeline: Timeline, /) -> None:
    """Draw the slots in use (of the fast tier, where there are two), time downward as in `draw_timeline`."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    edges = range(len(timeline.memory) + 1)
    ax.stairs(timeline.memory, edges, orientation="horizontal", fill=True, color=MEMORY, alpha=0.5)
    ax.stairs(timeline.memory, edges, orientation="horizontal", color=BLACK, linewidth=0.8)
    ax.axvline(timeline.peak, color=BLACK, linewidth=0.6, linestyle=(0, (4, 2)))
    ax.set(xlim=(0, timeline.peak + 0.5), xlabel="slots in use")
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def draw_front(ax: Axes, points: Sequence[tuple[float, float]], chosen: int | None = None, /) -> None:
    """Draw a front of bytes and time: the least time in every budget, and the chosen point.

    Args:
        ax: the panel; its labels are set.
        points: budgets in MiB and times relative to plain's, the least budget first.
        chosen: the index of a point.
    """
    sizes, times = zip(*points, strict=True)
    ax.step(sizes, times, where="post", color=BLACK, linewidth=0.8)
    ax.plot(sizes, times, linestyle="none", marker=".", markersize=3, color=BLACK)
    if chosen is not None:
        size, time = points[chosen]
        ax.plot([size], [time], linestyle="none", marker="o", color=INTERNAL, label="chosen")
        ax.legend(frameon=False)
    ax.set(xlabel="budget [MiB]", ylabel="predicted time / plain's")


def legend(timeline: Timeline, /) -> list[Any]:
    """Return the handles of a legend for `draw_timeline`, with the kinds of states that `timeline` stores."""
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    boxes = len(timeline.cells) <= MOST_BOXES
    handles: list[Any] = [
        Patch(label=kind.value, linewidth=0.6, **_CELL[kind])
        if boxes
        else Line2D([], [], label=kind.value, color=_STROKE[kind])
        for kind in Kind
    ]
    for states, _, look, label in _stored(timeline):
        if states:
            marked = look if boxes else {**look, "marker": ""}
            handles.append(Line2D([], [], linewidth=2.2, markersize=4, label=label, **marked))
    if timeline.restarts and boxes:
        handles.append(Line2D([], [], markersize=3.4, linestyle="none", label="restart", **_RESTART))
    return handles


def strokes(timeline: Timeline, /) -> dict[Kind, list[Line]]:
    """Return the cells as lines: what runs without a break, one step after the other, is one."""
    lines: dict[Kind, list[Line]] = {kind: [] for kind in Kind}
    for kind, first, last, time in _runs(timeline):
        forward = kind is not Kind.BACK
        begin, end = (first, last + 1) if forward else (first + 1, last)
        lines[kind].append([(begin, time), (end, time + abs(last - first) + 1)])
    return lines


def _runs(timeline: Timeline) -> Iterator[tuple[Kind, int, int, int]]:
    """Yield each run of cells of one kind in neighbouring steps: its kind, first and last step, and when it begins."""
    begin = 0
    cells = timeline.cells
    for time, (cell, following) in enumerate(pairwise((*cells, None))):
        assert cell is not None
        stride = -1 if cell.kind is Kind.BACK else 1
        if following is None or following.kind is not cell.kind or following.step != cell.step + stride:
            yield cell.kind, cells[begin].step, cell.step, begin
            begin = time + 1


def _draw_boxes(ax: Axes, timeline: Timeline) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    width = 0.6 if len(timeline.cells) <= 150 else 0.3  # of outlines, in points: finer where cells are small
    for time, (step, kind) in enumerate(timeline.cells):
        ax.add_patch(Rectangle((step + 0.14, time + 0.1), 0.72, 0.8, linewidth=width, zorder=2, **_CELL[kind]))
    scale = width / 0.6
    for states, shift, look, _ in _stored(timeline):
        bar = {"color": look["color"], "linestyle": look.get("linestyle", "-")}
        for place, begin, end in states:
            x = place + shift
            ax.plot([x, x], [begin, end], linewidth=2.2 * scale, solid_capstyle="butt", zorder=3, **bar)
            ax.plot(x, begin, markersize=4 * scale, zorder=4, **look)
    for position, time in timeline.restarts:
        ax.plot(position, time, markersize=3.4 * scale, zorder=5, **_RESTART)


def _draw_strokes(ax: Axes, timeline: Timeline) -> None:
    from matplotlib.collections import LineCollection  # noqa: PLC0415

    for states, shift, look, label in _stored(timeline):
        lines = [[(place + shift, begin), (place + shift, end)] for place, begin, end in states]
        if lines:
            dash = look.get("linestyle", "-")
            ax.add_collection(LineCollection(lines, colors=look["color"], linestyles=dash, linewidths=1.2, label=label))
    for kind, lines in strokes(timeline).items():
        ax.add_collection(LineCollection(lines, colors=_STROKE[kind], linewidths=1.0, label=kind.value))


def _stored(timeline: Timeline) -> list[tuple[Any, float, dict[str, Any], str]]:
    """Return each kind of stored states: where they begin and end, how far to the right, their look, their name."""
    return [
        (timeline.hidden, 0.0, _HIDDEN, "hidden state stored"),
        (timeline.slow, 0.0, _SLOW, "stored in the slow tier"),
        (timeline.internal, 0.5, _INTERNAL, "internal state stored"),
    ]


_CELL: Final[dict[Kind, dict[str, Any]]] = {
    Kind.ADVANCED: {"facecolor": WHITE, "edgecolor": ADVANCED},
    Kind.RECORDED: {"facecolor": RECORDED, "edgecolor": BLACK, "hatch": "//////"},
    Kind.BACK: {"facecolor": BACKPROPAGATED, "edgecolor": BACKPROPAGATED},
}
_STROKE: Final = {Kind.ADVANCED: ADVANCED, Kind.RECORDED: RECORDED, Kind.BACK: BACKPROPAGATED}
_EDGE: Final[dict[str, Any]] = {"markeredgecolor": BLACK, "markeredgewidth": 0.4}
_HIDDEN: Final[dict[str, Any]] = {"color": HIDDEN, "marker": "o", **_EDGE}
_SLOW: Final[dict[str, Any]] = {"color": HIDDEN, "marker": "D", "linestyle": (0, (1, 1)), **_EDGE}
_INTERNAL: Final[dict[str, Any]] = {"color": INTERNAL, "marker": "s", **_EDGE}
_RESTART: Final[dict[str, Any]] = {"color": WHITE, "marker": ">", "markeredgecolor": BLACK, "markeredgewidth": 0.5}
