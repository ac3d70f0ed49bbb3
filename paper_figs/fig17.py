"""Figure 17: very deep networks: the forwards of one gradient against its measured peak, every way to trade them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from membptt_theory.palette import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from paper_figs.evidence import load_measured, reading, require
from paper_figs.style import PAGE, label_panels, panels

# The least measured peak of each network, over plain's: a chain's, and that of any use of torch's checkpoint.
LEAST: Final = {"pyramid": (0.2983, 0.3176), "gpt": (0.1002, 0.1218), "residual": (0.005, 0.0564)}
# In the peak of each use of torch's checkpoint between half and nine tenths of plain's, what a chain costs beyond
# plain, over what that use costs beyond it: the largest.
EXTRA: Final = {"pyramid": 0.69, "gpt": 0.87, "residual": 1.0}
CLAIM: Final = (
    "Counted on three networks: in the bytes of any use of torch's checkpoint (checkpoint_sequential at every number "
    "of segments, at powers of two for 1,000 layers, in either mode; every block; every n-th), within one in a "
    "hundred, a chain costs no more. Between half and nine tenths of plain's peak it costs, beyond plain, at most "
    f"{EXTRA['pyramid']:.0%} of what they do on the pyramid, {EXTRA['gpt']:.0%} on the transformer, and up to "
    f"{EXTRA['residual']:.0%} on equal layers. 1,000 layers run in {LEAST['residual'][0]:.2%} of plain's bytes, where "
    f"theirs take at least {LEAST['residual'][1]:.1%}. A chain's measured peak is 0.97 to 1 of its budget."
)
SAYS: Final = (
    "Where blocks differ, cutting a network by hand wastes forwards. Where they are equal and the number of segments "
    "is well chosen, there is little to gain, but for what no number of segments reaches: a few per cent of plain's "
    "memory. Outputs only, as in appendix C, ends where all outputs are kept: more memory is of no use to it."
)
DOES_NOT_SAY: Final = (
    "anything about elapsed time: every forward that a method runs counts at its block's own time, nothing else does. "
    "Blocks of little work cost more in a chain than that, some tenths of a millisecond each; the file also has the "
    "processor time of single runs, taken on a busy machine, which the figure leaves out. A schedule that drops what "
    "it stored and runs it again could cost less still."
)
MODELS: Final = {
    "pyramid": "pyramid, batch normalisation",
    "gpt": "transformer",
    "residual": "1,000 equal residual layers",
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
SLACK: Final = 1.01  # copies of statistics and fingerprints, which are in a chain's budget
ROUNDING: Final = 1e-6


@dataclass(frozen=True)
class Dot:
    """One method: its family, measured peak and cost over plain's, and its budget over plain's peak, if it has one."""

    family: str
    peak: float
    cost: float
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
        where = f"times of blocks and peaks: {content['cpu']}, {content['threads']} thread"
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


def _panel(name: str, model: dict[str, Any]) -> Panel:
    plain = model["methods"]["plain"]["peak"]
    dots = tuple(
        Dot(
            method.split()[0],
            row["peak"] / plain,
            row["cost"],
            row["budget"] / plain if row["budget"] is not None else None,
        )
        for method, row in model["methods"].items()
        if row["cost"] is not None
    )
    return Panel(name, tuple((size / plain, cost) for size, cost in model["front"]), dots)


def draw(networks: Networks) -> Figure:
    """Draw one panel a network."""
    figure, axes = panels(len(networks.panels), width=PAGE, height=3.0)
    for ax, panel in zip(axes, networks.panels, strict=True):
        _draw_panel(ax, panel)
    axes[0].set_ylabel("forwards, backwards / plain's")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, title=networks.where, title_fontsize=6.5)
    label_panels(axes)
    return figure


def _draw_panel(ax: Axes, panel: Panel) -> None:
    sizes, costs = zip(*panel.front, strict=True)
    ax.step(sizes, costs, where="post", color=BLUE, linewidth=0.8, zorder=1)
    for family, (label, marker, color) in LOOKS.items():
        dots = [dot for dot in panel.dots if dot.family == family]
        ax.plot(
            [dot.peak for dot in dots],
            [dot.cost for dot in dots],
            linestyle="none",
            marker=marker,
            markersize=3.2,
            color=color,
            fillstyle="full" if family in ("plain", "chain") else "none",
            label=label,
        )
    highest = max(*costs, *(dot.cost for dot in panel.dots))
    ax.set(xlabel="measured peak / plain's", ylim=(0.97, min(3.05, highest + 0.03)))
    ax.set_title(MODELS[panel.model], loc="left")
    if panel.least("chain") < 0.05:
        ax.set_xscale("log")
