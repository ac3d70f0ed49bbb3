"""Figure 3: the optimal HSM policies as a timeline, drawn from the stream that the runtime executes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from membptt_theory.actions import Advance, Backward, DropHidden, Restore, StoreHidden, Tape
from membptt_theory.machine import meter
from membptt_theory.policy import PolicyTable
from membptt_theory.schedule import schedule
from membptt_theory.tables import build
from paper_figs.evidence import require
from paper_figs.style import BLACK, BLUE, COLUMN, ORANGE, SKY, label_panels, panels

CLAIM: Final = (
    "The optimal HSM policies with m = 4 slots for t = 4 and t = 10 steps take 7 and 24 forwards, hold no more "
    "than 4 hidden states at any time, and are, forward by forward, what the runtime executes."
)
SAYS: Final = (
    "The picture is the program: every cell is one evaluation or one backward that the runtime executes, in that "
    "order. White cells are what is paid for storing little."
)
DOES_NOT_SAY: Final = (
    "that a policy looks as simple in more slots or at longer sequences; and where several splits are equally "
    "cheap it shows the smallest one only."
)
SLOTS: Final = 4
TARGETS: Final = {4: 7, 10: 24}  # t: forwards


class Kind(Enum):
    """What is done to one step in one row of the timeline."""

    ADVANCED = "advanced"
    TAPED = "taped"
    BACK = "backpropagated"


@dataclass(frozen=True)
class Timeline:
    """One stream; time counts forwards and backwards of single steps.

    Args:
        steps: ``t``.
        peak: largest number of slots in use.
        cells: ``(time, step, kind)``.
        stored: ``(position, from time, to time)`` of every stored hidden state.
        restored: ``(position, time)`` of every restart from a stored state.
    """

    steps: int
    peak: int
    cells: tuple[tuple[int, int, Kind], ...]
    stored: tuple[tuple[int, int, int], ...]
    restored: tuple[tuple[int, int], ...]


def data() -> list[Timeline]:
    """Read the streams, meter them, and run each once in torch to compare what was executed.

    Raises:
        FigureClaimError: the claim is false.
    """
    table = build("hsm", max(TARGETS), SLOTS)
    found = []
    for steps, target in TARGETS.items():
        timeline = _timeline(table, steps)
        forwards = [step for _, step, kind in timeline.cells if kind is not Kind.BACK]
        backwards = [step for _, step, kind in timeline.cells if kind is Kind.BACK]
        require(
            len(forwards) == table.cost(steps, SLOTS) == target, f"t = {steps}: {len(forwards)} forwards, not {target}"
        )
        require(backwards == list(reversed(range(steps))), f"t = {steps}: steps go backward in the order {backwards}")
        require(timeline.peak == SLOTS, f"t = {steps}: {timeline.peak} slots are used at once, not {SLOTS}")
        require(forwards == _executed(table, steps), f"t = {steps}: the runtime executes other forwards than are drawn")
        found.append(timeline)
    return found


def draw(found: list[Timeline]) -> Figure:
    """Draw position to the right and execution downward."""
    ratios = [timeline.steps + 1.5 for timeline in found]
    figure, axes = panels(len(found), width=COLUMN, height=4.0, width_ratios=ratios, sharey=True)
    for ax, timeline in zip(axes, found, strict=True):
        _draw_timeline(ax, timeline)
        ax.set_title(f"$t = {timeline.steps}$", loc="left")
    label_panels(axes)
    longest = max(len(timeline.cells) for timeline in found)
    axes[0].set(ylabel="execution order [forwards and backwards of single steps]", ylim=(longest + 0.4, -0.8))
    axes[0].legend(handles=_legend(), loc="lower left", bbox_to_anchor=(0, 0.03), handlelength=1.5)
    return figure


def _timeline(table: PolicyTable, steps: int) -> Timeline:
    stream = list(schedule(table, steps, SLOTS))
    cells: list[tuple[int, int, Kind]] = []
    stored, restored = [], []
    since = {0: 0}
    for action in stream:
        match action:
            case Advance(start, stop):
                cells += [(len(cells) + step - start, step, Kind.ADVANCED) for step in range(start, stop)]
            case Tape(step):
                cells.append((len(cells), step, Kind.TAPED))
            case Backward(step):
                cells.append((len(cells), step, Kind.BACK))
            case StoreHidden(position):
                since[position] = len(cells)
            case DropHidden(position):
                stored.append((position, since.pop(position), len(cells)))
            case Restore(position):
                restored.append((position, len(cells)))
    peak = meter(stream, steps=steps, sizes=table.sizes).peak
    return Timeline(steps, peak, tuple(cells), tuple(stored), tuple(restored))


def _executed(table: PolicyTable, steps: int) -> list[int]:
    """Run `membptt.scan` on a counting step and return which steps it evaluated, in order."""
    import torch  # noqa: PLC0415  (drawing needs no torch)

    from membptt import scan  # noqa: PLC0415

    seen: list[int] = []

    def step(carry: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(int(x))
        return carry.sin(), carry

    carry, _ = scan(step, torch.ones((), requires_grad=True), torch.arange(steps), slots=SLOTS, policy=table)
    carry.backward()
    return seen


_CELL: Final[dict[Kind, dict[str, Any]]] = {
    Kind.ADVANCED: {"facecolor": "white", "edgecolor": BLUE},
    Kind.TAPED: {"facecolor": SKY, "edgecolor": BLACK, "hatch": "//////"},
    Kind.BACK: {"facecolor": BLACK, "edgecolor": BLACK},
}


def _draw_timeline(ax: Axes, timeline: Timeline) -> None:
    for time, step, kind in timeline.cells:
        ax.add_patch(Rectangle((step + 0.14, time + 0.1), 0.72, 0.8, linewidth=0.6, zorder=2, **_CELL[kind]))
    for position, begin, end in timeline.stored:
        ax.plot([position, position], [begin, end], color=ORANGE, linewidth=2.2, solid_capstyle="butt", zorder=3)
        ax.plot(position, begin, "o", color=ORANGE, markeredgecolor=BLACK, markeredgewidth=0.4, markersize=4, zorder=4)
    for position, time in timeline.restored:
        ax.plot(
            position, time, ">", color="white", markeredgecolor=BLACK, markeredgewidth=0.5, markersize=3.4, zorder=5
        )
    ax.set_xlim(-0.5, timeline.steps + 0.3)
    ax.set_xticks(range(0, timeline.steps + 1, 2))
    ax.set_xlabel("position")
    ax.grid(visible=False, axis="y")


def _legend() -> list[Any]:
    dot: dict[str, Any] = {"color": ORANGE, "markeredgecolor": BLACK, "markeredgewidth": 0.4}
    return [
        *(Patch(label=kind.value, linewidth=0.6, **look) for kind, look in _CELL.items()),
        Line2D([], [], linewidth=2.2, marker="o", markersize=4, label="state stored", **dot),
        Line2D(
            [],
            [],
            linestyle="none",
            marker=">",
            markersize=3.4,
            color="white",
            markeredgecolor=BLACK,
            label="restart from it",
        ),
    ]
