"""Figure 17: very deep networks: the forwards of one gradient against its measured peak, every way to trade them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import store
from membptt_theory.palette import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from paper_figs.evidence import load_measured, reading, require
from paper_figs.style import PAGE, label_panels, told_below

NAME: Final = "fig17"
# The least measured peak of each network, over plain's: a chain's on the worst processor, and on the best one that of
# any use of torch's checkpoint.
LEAST: Final = {
    "pyramid": (0.2967, 0.3178),
    "gpt": (0.0521, 0.0828),
    "residual": (0.0055, 0.0564),
    "unet": (0.4241, 0.4797),
}
# In the peak of each use of torch's checkpoint between half and nine tenths of plain's, what a chain costs beyond
# plain, over what that use costs beyond it: the largest.
EXTRA: Final = {"pyramid": 0.61, "gpt": 0.99, "residual": 1.0, "unet": 1.15}
# In processor time, by processor: a chain that keeps everything, over plain; and in the peak of each use of torch's
# checkpoint the nearest measured point of a chain, over that use: the least and the most.
TIMES: Final[dict[str, dict[str, tuple[float, float, float]]]] = {
    "epyc26m2": {
        "pyramid": (0.98, 0.84, 1.03),
        "gpt": (0.97, 0.98, 1.06),
        "residual": (1.04, 0.84, 1.1),
        "unet": (1.01, 0.87, 1.03),
    },
    "xeon6m167": {
        "pyramid": (1.0, 0.85, 1.04),
        "gpt": (0.96, 0.92, 1.09),
        "residual": (1.09, 0.68, 1.35),
        "unet": (1.0, 0.9, 1.07),
    },
}
# What a chain costs beyond a use of torch's checkpoint in its peak, at the most: that it is nothing is refuted there.
MORE: Final = {"unet": 0.003}
# How far plain autograd's time was from its own in the same rounds, at the most; not known of earlier measurements.
NOISE: Final = {"epyc26m2": 0.04, "xeon6m167": 0.07}
MODELS: Final = {
    "pyramid": "pyramid, batch norm",
    "gpt": "transformer",
    "residual": "1,000 equal layers",
    "unet": "U-Net",
}


def _timed(processor: str) -> str:
    times = TIMES[processor]
    shares = ", ".join(f"{least:.2f} to {most:.2f} ({MODELS[name]})" for name, (_, least, most) in times.items())
    keeps = [keeps for keeps, *_ in times.values()]
    noise = f" (plain's own differs by up to {NOISE[processor]:.0%} from itself)" if processor in NOISE else ""
    whole = f"{min(keeps):.2f} to {max(keeps):.2f} of plain's{noise}"
    return f"on {processor} {shares}, and one that keeps everything {whole}"


CLAIM: Final = (
    "Counted on four networks: in the bytes of any use of torch's checkpoint (checkpoint_sequential at every number "
    "of segments, at powers of two for 1,000 layers, in either mode; every block; every n-th), within two in a "
    f"hundred, a chain costs no more (on the U-Net at most {MORE['unet']:.1%} more). Between half and nine tenths of "
    "plain's peak it costs, beyond plain, at most "
    f"{EXTRA['pyramid']:.0%} of what they do on the pyramid, {EXTRA['gpt']:.0%} on the transformer, up to "
    f"{EXTRA['residual']:.0%} on equal layers, and {EXTRA['unet']:.0%} on the U-Net. 1,000 layers "
    f"run in {LEAST['residual'][0]:.2%} of plain's bytes, where theirs take at least {LEAST['residual'][1]:.1%}. "
    "A chain's measured peak is 0.97 to 1 of its budget. In processor time, over each of their uses, a chain at the "
    f"nearest measured budget within its bytes takes {'; '.join(map(_timed, TIMES))}."
)
SAYS: Final = (
    "Where blocks differ, cutting a network by hand wastes forwards. Where they are equal and the number of segments "
    "is well chosen, there is nothing to gain, and in time something to lose, but for what no number of segments "
    "reaches: a few per cent of plain's memory. Outputs only, as in appendix C, ends where all outputs are kept: more "
    "memory is of no use to it."
)
DOES_NOT_SAY: Final = (
    "anything about the time on other processors: the lower panels are medians of a few rounds on one core. The cost "
    "does not count a chain's own work, which layers of little work feel: one or two tenths of a millisecond a block "
    "in the versions that were measured, the Xeon's an earlier one than the EPYC's; less since. A "
    "schedule that drops what it stored and runs it again could cost less still."
)
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
    """One network on one processor, by its short name.

    Args:
        processor: its name.
        model: the network's.
        noise: how far plain's time was from its own; ``None`` where it was measured once.
        front: budgets and costs, both over plain's.
        dots: the methods.
    """

    processor: str
    model: str
    noise: float | None
    front: tuple[tuple[float, float], ...]
    dots: tuple[Dot, ...]

    def least(self, *families: str) -> float:
        """Return the least peak of some families."""
        return min(dot.peak for dot in self.dots if dot.family in families)

    def cost(self, peak: float) -> float:
        """Return the least cost of the front in so many bytes; infinity where there is none."""
        return min((cost for size, cost in self.front if size <= peak), default=inf)

    def extra(self) -> float:
        """Return the largest share of `EXTRA`."""
        uses = [dot for dot in self.dots if dot.family in TORCH and 0.5 <= dot.peak <= 0.9]
        return max((self.cost(dot.peak) - 1) / (dot.cost - 1) for dot in uses)

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
    """All networks, processor by processor, and where the times and peaks of their blocks were measured."""

    where: str
    panels: tuple[Panel, ...]

    def rows(self) -> dict[str, list[Panel]]:
        """Return the panels of each processor."""
        rows: dict[str, list[Panel]] = {}
        for panel in self.panels:
            rows.setdefault(panel.processor, []).append(panel)
        return rows


def data() -> Networks:
    """Read what was measured, on every processor, and check the claim.

    Raises:
        DataMissingError: nothing was measured.
        FigureClaimError: the claim is false.
    """
    paths = store.processors(store.path_of(NAME)).values() or [store.path_of(NAME)]
    contents = [load_measured(NAME, path=path) for path in paths]
    with reading(NAME):
        where = "; ".join(f"{content['cpu']}, {content['threads']} thread" for content in contents)
        panels = check({store.short_name(content["cpu"]): content["models"] for content in contents})
        return Networks(f"times and peaks: {where}", panels)


def check(measured: dict[str, dict[str, Any]]) -> tuple[Panel, ...]:
    """Check the claim on the networks that each processor has run.

    Raises:
        FigureClaimError: it is false.
    """
    result = tuple(_panel(processor, name, models[name]) for processor, models in measured.items() for name in MODELS)
    for panel in result:
        for dot in panel.dots:
            where = f"{panel.processor}, {panel.model}, {dot.family} in {dot.peak:.4f} of plain's bytes"
            if dot.budget is not None:
                require(dot.peak <= dot.budget, f"{where}: beyond its budget of {dot.budget:.4f}")
            if dot.family == "chain" and dot.budget is not None:
                require(dot.peak >= NEAR * dot.budget, f"{where}: far below its budget of {dot.budget:.4f}")
                front = panel.cost(dot.budget)
                require(abs(dot.cost - front) < ROUNDING, f"{where}: costs {dot.cost}, the front {front}")
            elif dot.family != "plain":
                least, more = panel.cost(dot.peak * SLACK), MORE.get(panel.model, 0)
                require(least <= dot.cost * (1 + more) + ROUNDING, f"{where}: costs {dot.cost}, a chain {least}")
        times = tuple(round(time, 2) for time in panel.times())
        require(times == TIMES[panel.processor][panel.model], f"{panel.processor}, {panel.model}: times {times}")
    for processor in measured:
        noise = max((panel.noise or 0 for panel in result if panel.processor == processor), default=0)
        require(round(noise, 2) == NOISE.get(processor, 0), f"{processor}: plain's time differs by {noise}")
    for name in MODELS:
        panels = [panel for panel in result if panel.model == name]
        peaks = max(panel.least("chain") for panel in panels), min(panel.least(*TORCH) for panel in panels)
        require(tuple(round(peak, 4) for peak in peaks) == LEAST[name], f"{name}: least {peaks}")
        share = max(panel.extra() for panel in panels)
        require(round(share, 2) == EXTRA[name], f"{name}: extra cost {share} of theirs")
    return result


def _panel(processor: str, name: str, model: dict[str, Any]) -> Panel:
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
        if row["cost"] is not None and method != "plain again"
    )
    again = model["methods"].get("plain again")
    noise = abs(again["ratio"] - 1) if again is not None else None
    return Panel(processor, name, noise, tuple((size / plain, cost) for size, cost in model["front"]), dots)


def draw(networks: Networks) -> Figure:
    """Draw a column for each network: what is counted, and what it takes on each processor."""
    rows = networks.rows()
    figure = Figure(figsize=(PAGE, 1.4 + 1.9 * (1 + len(rows))), layout="constrained")
    axes = figure.subplots(1 + len(rows), len(MODELS), sharex="col", squeeze=False)
    for ax, panel in zip(axes[0], [*rows.values()][-1], strict=True):
        _draw_panel(ax, panel, {dot: dot.cost for dot in panel.dots})
        ax.step(*zip(*panel.front, strict=True), where="post", color=BLUE, linewidth=0.8, zorder=1)
        ax.set_title(MODELS[panel.model], loc="left")
    axes[0][0].set_ylabel("forwards, backwards / plain's")
    for row, (processor, panels) in zip(axes[1:], rows.items(), strict=True):
        for ax, panel in zip(row, panels, strict=True):
            _draw_panel(ax, panel, {dot: dot.time for dot in panel.dots})
            ax.set_title("the same, timed", loc="left")
        row[0].set_ylabel(f"{processor}\nprocessor time / plain's")
    for ax in axes[-1]:
        ax.set_xlabel("measured peak / plain's")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, **told_below(networks.where, figure))
    label_panels([ax for row in axes for ax in row])
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
