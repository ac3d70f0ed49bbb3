"""Figure 3: the optimal HSM policies as a timeline, drawn from the stream that the runtime executes."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from membptt_theory.picture import draw_timeline, legend
from membptt_theory.tables import build
from membptt_theory.timeline import Timeline
from paper_figs.style import COLUMN, label_panels, panels
from paper_figs.timeline import timeline

CLAIM: Final = (
    "The optimal HSM policies with m = 4 slots for t = 4 and t = 10 steps take 7 and 24 forwards, hold no more "
    "than 4 hidden states at any time, and are, forward by forward, what the runtime executes."
)
SAYS: Final = (
    "The picture is the program: every cell is one evaluation or one backward that the runtime executes, in that "
    "order. White cells, steps that are advanced, are what is paid for storing little."
)
DOES_NOT_SAY: Final = (
    "that a policy looks as simple in more slots or at longer sequences; and where several splits are equally "
    "cheap it shows the smallest one only."
)
SLOTS: Final = 4
TARGETS: Final = {4: 7, 10: 24}  # t: forwards


def data() -> list[Timeline]:
    """Read the streams, meter them, and run each once in torch to compare what was executed.

    Raises:
        FigureClaimError: the claim is false.
    """
    table = build("hsm", max(TARGETS), SLOTS)
    return [timeline(table, steps, SLOTS, forwards=target) for steps, target in TARGETS.items()]


def draw(timelines: list[Timeline]) -> Figure:
    """Draw position to the right and execution downward."""
    ratios = [each.steps + 1.5 for each in timelines]
    figure, axes = panels(len(timelines), width=COLUMN, height=4.0, width_ratios=ratios, sharey=True)
    for ax, each in zip(axes, timelines, strict=True):
        draw_timeline(ax, each)
        ax.set_xticks(range(0, each.steps + 1, 2))
        ax.set_title(f"HSM, $t = {each.steps}$, $m = {SLOTS}$", loc="left")
    label_panels(axes)
    longest = max(len(each.cells) for each in timelines)
    axes[0].set(ylim=(longest + 0.4, -0.8))
    axes[1].set(ylabel="")
    axes[0].legend(handles=legend(timelines[0]), loc="lower left", bbox_to_anchor=(0, 0.03), handlelength=1.5)
    return figure
