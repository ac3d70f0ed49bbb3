"""A timeline drawn: position to the right, execution downward (matplotlib is imported when something is drawn)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from membptt_theory.timeline import Kind, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, BLUE, VERMILLION, ORANGE, SKY = "#000000", "#0072B2", "#D55E00", "#E69F00", "#56B4E9"  # Okabe and Ito's

_CELLS: Final[dict[Kind, dict[str, Any]]] = {
    Kind.ADVANCED: {"facecolor": "white", "edgecolor": BLUE},
    Kind.RECORDED: {"facecolor": SKY, "edgecolor": BLUE, "hatch": "//////"},
    Kind.BACK: {"facecolor": BLACK, "edgecolor": BLACK},
}
_LARGEST: Final = 5000  # cells; more are strokes a fraction of a point high


def draw_schedule(timeline: Timeline, title: str = "", /) -> Figure:
    """Draw a schedule and, beside it, the memory that it uses.

    Args:
        timeline: at most 5000 forwards and backwards.
        title: of the figure.

    Raises:
        ValueError: it has more forwards and backwards than a picture can show.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    draw_timeline(left, timeline)
    draw_memory(right, timeline)
    figure.legend(handles=legend(timeline), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def draw_timeline(ax: Axes, timeline: Timeline, /) -> None:
    """Draw which step runs when, and how long each state is stored.

    Raises:
        ValueError: it has more forwards and backwards than a picture can show.
    """
    from matplotlib.collections import LineCollection, PatchCollection  # noqa: PLC0415
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    if len(timeline.cells) > _LARGEST:
        raise ValueError(
            f"the schedule has {len(timeline.cells)} forwards and backwards, a picture can show {_LARGEST} at most: "
            "take fewer steps, or more slots"
        )
    thin = len(timeline.cells) > 150
    for kind, look in _CELLS.items():
        boxes = [
            Rectangle((cell.step + 0.14, time), 0.72, 1)
            if thin
            else Rectangle((cell.step + 0.14, time + 0.1), 0.72, 0.8)
            for time, cell in enumerate(timeline.cells)
            if cell.kind is kind
        ]
        ax.add_collection(PatchCollection(boxes, linewidth=0.2 if thin else 0.6, zorder=2, **look))
    for color, shift, held in ((ORANGE, 0.0, timeline.hidden), (VERMILLION, 0.5, timeline.internal)):
        lines = [[(place + shift, since), (place + shift, until)] for place, since, until in held]
        ax.add_collection(LineCollection(lines, colors=color, linewidths=1.0 if thin else 2.4, zorder=1))
    ax.set(xlim=(-0.5, timeline.steps + 0.5), ylim=(len(timeline.cells) + 0.4, -0.6), xlabel="position")
    ax.set_ylabel("execution order [forwards and backwards of single steps]")


def draw_memory(ax: Axes, timeline: Timeline, /) -> None:
    """Draw the slots in use, time downward as in `draw_timeline`."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    edges = range(len(timeline.memory) + 1)
    ax.stairs(timeline.memory, edges, orientation="horizontal", fill=True, color=ORANGE, alpha=0.5)
    ax.stairs(timeline.memory, edges, orientation="horizontal", color=BLACK, linewidth=0.8)
    ax.axvline(timeline.peak, color=BLACK, linewidth=0.6, linestyle=(0, (4, 2)))
    ax.set(xlim=(0, timeline.peak + 0.5), xlabel="slots in use")
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def legend(timeline: Timeline, /) -> list[Any]:
    """Return the handles of a legend for `draw_timeline`."""
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    states = (
        ("hidden state stored", ORANGE, timeline.hidden),
        ("internal state stored", VERMILLION, timeline.internal),
    )
    return [
        *(Patch(label=kind.value, linewidth=0.6, **look) for kind, look in _CELLS.items()),
        *(Line2D([], [], linewidth=2.4, color=color, label=label) for label, color, held in states if held),
    ]
