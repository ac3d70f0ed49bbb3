"""Figure 17: very deep networks: the forwards of one gradient against its measured peak, every way to trade them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from membptt_theory.palette import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from paper_figs.evidence import load_measured, reading, require
from paper_figs.style import PAGE, label_panels

# The least measured peak of each network, over plain's: a chain's, and that of any use of torch's checkpoint.
LEAST: Final = {
    "pyramid": (0.2967, 0.3178),
    "gpt": (0.0521, 0.0828),
    "residual": (0.0055, 0.0564),
    "unet": (0.4241, 0.4797),
}
# In the peak of each use of torch's checkpoint between half and nine tenths of plain's, what a chain costs beyond
# plain, over what that use costs beyond it: the largest.
EXTRA: Final = {"pyramid": 0.58, "gpt": 0.97, "residual": 1.0, "unet": 1.11}
# In processor time: a chain that keeps everything, over plain; and in the peak of each use of torch's checkpoint the
# nearest measured point of a chain, over that use: the least and the most.
TIMES: Final = {
    "pyramid": (1.05, 0.81, 1.1),
    "gpt": (1.01, 0.99, 1.13),
    "residual": (1.04, 0.89, 1.28),
    "unet": (1.01, 0.88, 1.06),
}
CLAIM: Final = (
    "Counted on four networks: in the bytes of any use of torch's checkpoint (checkpoint_sequential at every number "
    "of segments, at powers of two for 1,000 layers, in either mode; every block; every n-th), within two in a "
    "hundred, a chain costs no more. Between half and nine tenths of plain's peak it costs, beyond plain, at most "
    f"{EXTRA['pyramid']:.0%} of what they do on the pyramid, {EXTRA['gpt']:.0%} on the transformer, up to "
    f"{EXTRA['residual']:.0%} on equal layers, and {EXTRA['unet']:.0%} on the U-Net. 1,000 layers "
    f"run in {LEAST['residual'][0]:.2%} of plain's bytes, where theirs take at least {LEAST['residual'][1]:.1%}. "
    "A chain's measured peak is 0.97 to 1 of its budget. In "
    f"processor time, on the one processor that was measured: keeping everything {min(TIMES.values())[0]:.2f} to "
    f"{max(TIMES.values())[0]:.2f} of plain's; in the bytes of each of their uses, at the "
    f"nearest of eight budgets, {TIMES['pyramid'][1]:.2f} to {TIMES['pyramid'][2]:.2f} of its time on the pyramid, "
    f"{TIMES['gpt'][1]:.2f} to {TIMES['gpt'][2]:.2f} on the transformer, {TIMES['residual'][1]:.2f} to "
    f"{TIMES['residual'][2]:.2f} on equal layers, {TIMES['unet'][1]:.2f} to {TIMES['unet'][2]:.2f} on the U-Net."
)
SAYS: Final = (
    "Where blocks differ, cutting a network by hand wastes forwards. Where they are equal and the number of segments "
    "is well chosen, there is nothing to gain, and in time something to lose, but for what no number of segments "
    "reaches: a few per cent of plain's memory. Outputs only, as in appendix C, ends where all outputs are kept: more "
    "memory is of no use to it."
)
DOES_NOT_SAY: Final = (
    "anything about the time on other processors: the lower panels are medians of a few rounds on one core. The cost "
    "does not count a chain's own work, about a tenth of a millisecond a block, which layers of little work feel. A "
    "schedule that drops what it stored and runs it again could cost less still."
)
MODELS: Final = {
    "pyramid": "pyramid, batch norm",
    "gpt": "transformer",
    "residual": "1,000 equal layers",
    "unet": "U-Net",
}
LOOKS: Final = {
    "plain": ("plain autograd", "s", BLACK),
    "sequential": ("checkpoint_sequential, every number of segments", "^", VERMILLION),
    "every": ("checkpoint, every block and every n-th", "v", ORANGE),
    "hidden": ("chain, outputs only (appendix C)", "D", GREEN),
    "chain": ("chain (line: its front)", "o", BLUE),
}
TORCH: Final = ("sequential", "every")
NEAR: Final = 0.97  # of its budget is what a chain's measured peak takes at least
SLACK: Final = 1.02  # copies of statistics, fingerprints and gradients, which are in a chain's budget
ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class Dot:
    """One method: its family, measured peak, cost and time over plain's; its budget over that peak, if it has one."""

    family: str
    peak: float
    cost: float
    time: float
    budget: float | None


@dataclass(frozen=True)
class Panel:
    """One network.

    Args:
        model: its name.
        front: budgets and costs, both over plain's.
        dots: the methods.
    """

    model: str
    front: tuple[tuple[float, float], ...]
    dots: tuple[Dot, ...]

    def least(self, *families: str) -> float:
        """Return the least peak of some families."""
        return min(dot.peak for dot in self.dots if dot.family in families)

    def cost(self, peak: float) -> float:
        """Return the least cost of the front in so many bytes; infinity where there is none."""
        return min((cost for size, cost in self.front if size <= peak), default=inf)

    def times(self) -> tuple[float, float, float]:
        """Return `TIMES` of this network."""
        chains = [dot for dot in self.dots if dot.family == "chain"]
        shares = [
            min(chain.time for chain in chains if chain.peak <= dot.peak * SLACK) / dot.time
            for dot in self.dots
            if dot.family in TORCH
        ]
        return max(chains, key=lambda dot: dot.peak).time, min(shares), max(shares)


@dataclass(frozen=True)
class Networks:
    """All networks, and where the times and peaks of their blocks were measured."""

    where: str
    panels: tuple[Panel, ...]


def data() -> Networks:
    """Read what was measured, and check the claim.

    Raises:
        DataMissingError: nothing was measured.
        FigureClaimError: the claim is false.
    """
    content = load_measured("fig17")
    with reading("fig17"):
        where = f"times and peaks: {content['cpu']}, {content['threads']} thread"
        return Networks(where, check(content["models"]))


def check(models: dict[str, Any]) -> tuple[Panel, ...]:
    """Check the claim.

    Raises:
        FigureClaimError: it is false.
    """
    result = tuple(_panel(name, models[name]) for name in MODELS)
    for panel in result:
        for dot in panel.dots:
            where = f"{panel.model}, {dot.family} in {dot.peak:.4f} of plain's bytes"
            if dot.budget is not None:
                require(dot.peak <= dot.budget, f"{where}: beyond its budget of {dot.budget:.4f}")
            if dot.family == "chain" and dot.budget is not None:
                require(dot.peak >= NEAR * dot.budget, f"{where}: far below its budget of {dot.budget:.4f}")
                front = panel.cost(dot.budget)
                require(abs(dot.cost - front) < ROUNDING, f"{where}: costs {dot.cost}, the front {front}")
            elif dot.family != "plain":
                least = panel.cost(dot.peak * SLACK)
                require(least <= dot.cost + ROUNDING, f"{where}: costs {dot.cost}, a chain {least}")
        _check_numbers(panel)
    return result


def _check_numbers(panel: Panel) -> None:
    least = panel.least("chain"), panel.least(*TORCH)
    require(
        all(round(a, 4) == b for a, b in zip(least, LEAST[panel.model], strict=True)), f"{panel.model}: least {least}"
    )
    shares = [
        (panel.cost(dot.peak) - 1) / (dot.cost - 1)
        for dot in panel.dots
        if dot.family in TORCH and 0.5 <= dot.peak <= 0.9
    ]
    require(round(max(shares), 2) == EXTRA[panel.model], f"{panel.model}: extra cost {max(shares)} of theirs")
    times = tuple(round(time, 2) for time in panel.times())
    require(times == TIMES[panel.model], f"{panel.model}: times {times}")


def _panel(name: str, model: dict[str, Any]) -> Panel:
    plain = model["methods"]["plain"]["peak"]
    dots = tuple(
        Dot(
            method.split()[0],
            row["peak"] / plain,
            row["cost"],
            row["ratio"],
            row["budget"] / plain if row["budget"] is not None else None,
        )
        for method, row in model["methods"].items()
        if row["cost"] is not None
    )
    return Panel(name, tuple((size / plain, cost) for size, cost in model["front"]), dots)


def draw(networks: Networks) -> Figure:
    """Draw two panels a network: what is counted, and what it takes."""
    figure = Figure(figsize=(PAGE, 5.2), layout="constrained")
    above, below = figure.subplots(2, len(networks.panels), sharex="col", squeeze=False)
    for ax, panel in zip(above, networks.panels, strict=True):
        _draw_panel(ax, panel, {dot: dot.cost for dot in panel.dots})
        ax.step(*zip(*panel.front, strict=True), where="post", color=BLUE, linewidth=0.8, zorder=1)
        ax.set_title(MODELS[panel.model], loc="left")
    for ax, panel in zip(below, networks.panels, strict=True):
        _draw_panel(ax, panel, {dot: dot.time for dot in panel.dots})
        ax.set_xlabel("measured peak / plain's")
        ax.set_title("the same, timed", loc="left")
    above[0].set_ylabel("forwards, backwards / plain's")
    below[0].set_ylabel("processor time / plain's")
    handles, labels = above[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, title=networks.where, title_fontsize=6.5)
    label_panels([*above, *below])
    return figure


def _draw_panel(ax: Axes, panel: Panel, heights: dict[Dot, float]) -> None:
    for family, (label, marker, color) in LOOKS.items():
        dots = [dot for dot in panel.dots if dot.family == family]
        ax.plot(
            [dot.peak for dot in dots],
            [heights[dot] for dot in dots],
            linestyle="none",
            marker=marker,
            markersize=3.2,
            color=color,
            fillstyle="full" if family in ("plain", "chain") else "none",
            label=label,
        )
    ax.set_ylim(min(0.97, min(heights.values()) - 0.02), min(3.8, max(heights.values()) + 0.03))
    if panel.least("chain") < 0.05:
        ax.set_xscale("log")
