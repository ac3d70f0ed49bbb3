"""Figure 8: the spacing of one pass, by the paper's argument and in the stream that the runtime executes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from membptt_theory.derive.regime import longest_average, longest_each
from membptt_theory.palette import BLACK, GREY, SKY
from membptt_theory.picture import draw_timeline, legend
from membptt_theory.tables import build
from membptt_theory.timeline import Timeline
from paper_figs.evidence import require
from paper_figs.style import COLUMN, label_panels
from paper_figs.timeline import evaluated, timeline

CLAIM: Final = (
    "(a) With T(a, m) the longest t of at most a forwards a step, one pass that stores hidden states at distances T(3, "
    "5), T(3, 4), T(3, 3), T(3, 2) = 28, 21, 15, 10 and leaves T(4, 1) = 7 steps takes exactly 4 forwards a step: 324 "
    "for 81 steps in 5 slots, 3 more than the optimum, and 3 steps short of T(4, 5) = 84. (b) With L(a, m) the "
    "longest t at which no step runs more than a times, the stream of L(4, 4) = 35 steps in 4 slots stores in its "
    "first pass at distances L(3, 4), L(3, 3), L(3, 2) = 15, 10, 6, leaves L(4, 1) = 4 steps, runs no step more than "
    "4 times, and takes 119 forwards. It is what the runtime executes."
)
SAYS: Final = (
    "Why a little more memory or one more forward a step carries so much further: each part of the pass is the longest "
    "that its slots can do at one forward a step less, so the lengths add up like binomial coefficients."
)
DOES_NOT_SAY: Final = (
    "that the paper's spacing is optimal: the table's own costs 3 forwards less at the same 81 steps. The paper gives "
    "no sizes for this figure; these are chosen to be readable."
)
AVERAGE: Final = (3, 5)  # a, m of panel (a)
SPACING: Final = (28, 21, 15, 10, 7)
AVERAGE_COSTS: Final = (324, 321, 84)  # forwards of the spacing, of the optimum, and T(a + 1, m)
EACH: Final = (4, 4)  # a, m of panel (b)
EXECUTED: Final = (15, 10, 6, 4)
FORWARDS: Final = 119


@dataclass(frozen=True)
class Spacing:
    """Both panels.

    Args:
        parts: ``(steps, slots, forwards)`` of the parts of panel (a), without the pass; the last has none.
        timeline: of panel (b).
        distances: between the hidden states that its first pass stores, and the steps left.
    """

    parts: tuple[tuple[int, int, int], ...]
    timeline: Timeline
    distances: tuple[int, ...]


def data() -> Spacing:
    """Read the lengths, their costs and the stream.

    Raises:
        FigureClaimError: the claim is false.
    """
    drawn = _executed()
    return Spacing(_paper(), drawn, _distances(drawn))


def draw(spacing: Spacing) -> Figure:
    """Draw the paper's argument above, the stream below."""
    figure = Figure(figsize=(COLUMN, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1, 2.9))
    _draw_parts(above, spacing)
    draw_timeline(below, spacing.timeline)
    rows = len(spacing.timeline.cells)
    below.set(ylim=(rows + 1, -13))
    arrow = {"arrowstyle": "<->", "lw": 0.6, "shrinkA": 0, "shrinkB": 0}
    at = 0
    for distance in spacing.distances:
        below.annotate("", (at, -4), (at + distance, -4), arrowprops=arrow)
        below.text(at + distance / 2, -5.5, str(distance), ha="center", va="bottom", fontsize=7)
        at += distance
    steps, slots = spacing.timeline.steps, EACH[1]
    below.set_title(f"executed: $t = L({EACH[0]}, {slots}) = {steps}$, $m = {slots}$", loc="left")
    below.legend(handles=legend(spacing.timeline), loc="lower right", handlelength=1.5)
    label_panels([above, below])
    return figure


def _paper() -> tuple[tuple[int, int, int], ...]:
    average, slots = AVERAGE
    lengths = [longest_average("hsm", average, k) for k in range(slots, 1, -1)]
    lengths.append(longest_average("hsm", average + 1, 1))
    require(tuple(lengths) == SPACING, f"the spacing is {lengths}, not {SPACING}")
    steps, first_pass = sum(lengths), sum(lengths[:-1])
    table = build("hsm", steps, slots)
    parts = tuple((n, k, table.cost(n, k)) for n, k in zip(lengths, range(slots, 0, -1), strict=True))
    for n, k, cost in parts[:-1]:
        require(cost == average * n, f"{n} steps in {k} slots cost {cost}, not {average} a step")
    total = first_pass + sum(cost for _, _, cost in parts)
    require(total == (average + 1) * steps, f"the pass and its parts cost {total}, not {average + 1} a step")
    costs = total, table.cost(steps, slots), longest_average("hsm", average + 1, slots)
    require(costs == AVERAGE_COSTS, f"spacing, optimum and longest are {costs}, not {AVERAGE_COSTS}")
    return parts


def _executed() -> Timeline:
    most, slots = EACH
    steps = longest_each("hsm", most, slots)
    table = build("hsm", steps, slots)
    drawn = timeline(table, steps, slots, forwards=FORWARDS)
    busiest = max(Counter(evaluated(drawn)).values())
    require(busiest == most, f"the busiest step runs {busiest} times, not {most}")
    lengths = [longest_each("hsm", most - 1, k) for k in range(slots, 1, -1)] + [longest_each("hsm", most, 1)]
    distances = _distances(drawn)
    require(distances == tuple(lengths) == EXECUTED, f"the first pass stores at distances {distances}, not {EXECUTED}")
    return drawn


def _distances(drawn: Timeline) -> tuple[int, ...]:
    """Return the distances between the states stored before anything goes backward, and the steps left."""
    first_back = drawn.steps
    positions = sorted(position for position, begin, _ in drawn.hidden if begin < first_back)
    return tuple(b - a for a, b in zip(positions, [*positions[1:], drawn.steps], strict=True))


def _draw_parts(ax: Axes, spacing: Spacing) -> None:
    average = AVERAGE[0]
    first_pass = sum(steps for steps, _, _ in spacing.parts[:-1])
    ax.bar(0, 1, first_pass, average, align="edge", facecolor="white", edgecolor=BLACK, linewidth=0.6)
    at = 0
    for steps, slots, cost in spacing.parts:
        ax.bar(at, cost / steps, steps, align="edge", facecolor=SKY, edgecolor=BLACK, linewidth=0.6)
        ax.text(at + steps / 2, average / 2, f"{steps}\n({slots})", ha="center", va="center", fontsize=7)
        at += steps
    ax.text(1, average + 0.45, "the pass that stores them", va="center", fontsize=7)
    ax.axhline(average + 1, color=GREY, zorder=0)
    ax.set(xlabel="position [steps]", ylabel="forwards\nper step", xlim=(0, at), ylim=(0, average + 1.2))
    ax.set_yticks(range(average + 2))
    ax.grid(visible=False)
    ax.set_title(f"$T({average}, k)$ steps ($k$ slots), $t = {at}$, $m = {AVERAGE[1]}$", loc="left")
