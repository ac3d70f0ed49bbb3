"""Streams as pictures: position in the sequence to the right, execution downward. Shared by figures 1, 3, 4, 8."""

from __future__ import annotations

from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from membptt_theory.machine import meter
from membptt_theory.policy import PolicyTable
from membptt_theory.timeline import Kind, Timeline
from membptt_theory.timeline import timeline as read
from paper_figs.evidence import require
from paper_figs.style import BLACK, BLUE, GREEN, ORANGE, SKY

ROWS: Final = "execution order [forwards and backwards of single steps]"


def timeline(table: PolicyTable, steps: int, slots: int, /, *, forwards: int) -> Timeline:
    """Read the stream of `table`, meter it, and run it once in torch to compare what was executed.

    Args:
        table: any policy.
        steps: ``t``.
        slots: ``m``.
        forwards: the cost that the figure states.

    Raises:
        FigureClaimError: the stream, the table, the runtime and the figure are not of one mind.
    """
    found = read(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    where = f"t = {steps}"
    counted, cost = found.forwards, table.cost(steps, slots)
    require(counted == cost == forwards, f"{where}: {counted} forwards, not {forwards}")
    backwards = [step for step, kind in found.cells if kind is Kind.BACK]
    require(backwards == list(reversed(range(steps))), f"{where}: steps go backward in the order {backwards}")
    peak = meter(table.schedule(steps, slots), steps=steps, sizes=table.sizes).peak
    require(peak <= slots, f"{where}: {peak} slots are used at once, not {slots}")
    ran = executed(table, steps, slots)
    require(evaluated(found) == ran, f"{where}: the runtime executes other forwards than are drawn")
    return found


def evaluated(found: Timeline, /) -> list[int]:
    """Return the steps that a stream evaluates, in order."""
    return [step for step, kind in found.cells if kind is not Kind.BACK]


def executed(table: PolicyTable, steps: int, slots: int, /) -> list[int]:
    """Run `membptt.scan` on a counting step and return which steps it evaluated, in order."""
    import torch  # noqa: PLC0415  (drawing needs no torch)

    from membptt import scan  # noqa: PLC0415

    seen: list[int] = []

    def step(carry: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(int(x))
        return carry.sin(), carry

    carry, _ = scan(step, torch.ones((), requires_grad=True), torch.arange(steps), slots=slots, policy=table)
    carry.backward()
    return seen


def draw_timeline(ax: Axes, found: Timeline, /, *, line: float = 0.6) -> None:
    """Draw cells, what is stored how long, and restarts; the y axis is left to the caller.

    Args:
        ax: the panel.
        found: the stream.
        line: width of outlines in points; finer where cells are small.
    """
    for time, (step, kind) in enumerate(found.cells):
        ax.add_patch(Rectangle((step + 0.14, time + 0.1), 0.72, 0.8, linewidth=line, zorder=2, **_CELL[kind]))
    scale = line / 0.6
    for bars, look, shift in ((found.hidden, _HIDDEN, 0.0), (found.internal, _INTERNAL, 0.5)):
        for place, begin, end in bars:
            x = place + shift
            ax.plot([x, x], [begin, end], color=look["color"], linewidth=2.2 * scale, solid_capstyle="butt", zorder=3)
            ax.plot(x, begin, markersize=4 * scale, zorder=4, **look)
    for position, time in found.restarts:
        ax.plot(position, time, markersize=3.4 * scale, zorder=5, **_RESTART)
    ax.set_xlim(-0.5, found.steps + 0.3)
    ax.set_xlabel("position [steps]")
    ax.grid(visible=False, axis="y")


def legend(*, hidden: bool, internal: bool) -> list[Any]:
    """Return the legend's handles, with those kinds of stored states that are drawn."""
    handles: list[Any] = [Patch(label=kind.value, linewidth=0.6, **look) for kind, look in _CELL.items()]
    for drawn, look, label in (
        (hidden, _HIDDEN, "hidden state"),
        (internal, _INTERNAL, "internal state"),
    ):
        if drawn:
            handles.append(Line2D([], [], linewidth=2.2, markersize=4, label=f"{label} stored", **look))
    restart = {**_RESTART, "linestyle": "none"}
    return [*handles, Line2D([], [], markersize=3.4, label="restart", **restart)]


_CELL: Final[dict[Kind, dict[str, Any]]] = {
    Kind.ADVANCED: {"facecolor": "white", "edgecolor": BLUE},
    Kind.RECORDED: {"facecolor": SKY, "edgecolor": BLACK, "hatch": "//////"},
    Kind.BACK: {"facecolor": BLACK, "edgecolor": BLACK},
}
_EDGE: Final[dict[str, Any]] = {"markeredgecolor": BLACK, "markeredgewidth": 0.4}
_HIDDEN: Final[dict[str, Any]] = {"color": ORANGE, "marker": "o", **_EDGE}
_INTERNAL: Final[dict[str, Any]] = {"color": GREEN, "marker": "s", **_EDGE}
_RESTART: Final[dict[str, Any]] = {"color": "white", "marker": ">", "markeredgecolor": BLACK, "markeredgewidth": 0.5}
