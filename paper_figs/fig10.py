"""Figure 10: time against peak memory, every method on every cell of the benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from bench.store import short_name
from membptt_theory.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from paper_figs.evidence import by_processor, executed_cost, load_everywhere, one_device, ratio, reading, require
from paper_figs.style import PAGE, told_below

# By processor and steps, and cell: scan's time over that of other libraries' methods, in their total memory.
AGAINST: Final[dict[tuple[str, int], dict[str, dict[str, float]]]] = {
    ("epyc26m2", 100): {
        "lstm": {
            "jax checkpoint by 4": 0.78,
            "jax checkpoint by 10": 0.89,
            "equinox m=50": 0.78,
            "equinox m=20": 0.91,
        },
        "gru": {
            "jax checkpoint by 4": 1.0,
            "jax checkpoint by 10": 1.08,
            "equinox m=50": 0.84,
            "equinox m=20": 1.05,
        },
    },
    ("epyc26m2", 1000): {
        "lstm": {
            "jax checkpoint by 10": 0.78,
            "jax checkpoint by 25": 0.84,
            "equinox m=50": 0.78,
            "equinox m=20": 0.74,
        },
        "gru": {
            "jax checkpoint by 10": 0.8,
            "jax checkpoint by 25": 0.86,
            "equinox m=50": 0.9,
            "equinox m=20": 0.77,
        },
        "attention-memory": {
            "jax checkpoint by 10": 1.47,
            "jax checkpoint by 25": 1.56,
            "equinox m=50": 1.22,
            "equinox m=20": 1.45,
        },
    },
    ("epyc26m2", 10_000): {
        "lstm": {
            "jax checkpoint by 40": 0.75,
            "jax checkpoint by 100": 0.78,
            "equinox m=50": 0.63,
            "equinox m=20": 0.73,
        },
        "gru": {
            "jax checkpoint by 40": 0.98,
            "jax checkpoint by 100": 0.95,
            "equinox m=50": 0.71,
            "equinox m=20": 0.87,
        },
    },
    ("xeon6m167", 1000): {
        "lstm": {
            "jax checkpoint by 10": 0.67,
            "jax checkpoint by 25": 0.71,
            "equinox m=50": 0.63,
            "equinox m=20": 0.72,
        },
        "gru": {
            "jax checkpoint by 10": 0.82,
            "jax checkpoint by 25": 0.84,
            "equinox m=50": 0.71,
            "equinox m=20": 0.78,
        },
        "spiking": {
            "jax checkpoint by 10": 1.36,
            "jax checkpoint by 25": 1.41,
            "equinox m=50": 0.78,
            "equinox m=20": 0.87,
        },
        "state-space": {
            "jax checkpoint by 2": 0.64,
            "jax checkpoint by 10": 0.6,
            "equinox m=20": 0.8,
        },
    },
    ("xeon6m85", 1000): {
        "lstm": {
            "jax checkpoint by 10": 0.64,
            "jax checkpoint by 25": 0.63,
            "equinox m=50": 0.63,
            "equinox m=20": 0.72,
        },
        "gru": {
            "jax checkpoint by 10": 0.74,
            "jax checkpoint by 25": 0.87,
            "equinox m=50": 0.76,
            "equinox m=20": 0.81,
        },
    },
}

CELLS: Final = {
    "lstm": "LSTM 256",
    "gru": "GRU 256",
    "spiking": "spiking 256",
    "state-space": "state-space 64 x 16",
    "attention-memory": "attention memory",
}


def _beside(processor: str, steps: int) -> str:
    cells = [
        f"{CELLS[cell]} {', '.join(f'{time:.2f} ({method})' for method, time in times.items())}"
        for cell, times in AGAINST[processor, steps].items()
    ]
    return f"on {processor}, {steps:,} steps: {'; '.join(cells)}"


CLAIM: Final = (
    "Measured from 1,000 steps on, for every cell: in the memory of any use of torch.utils.checkpoint (reentrant or "
    "not, one level or two, over eager, compiled or fused steps) scan has a setting that is faster; with eager steps "
    "alone it is faster than the non-reentrant mode. No method that recomputes with eager steps is as fast as plain "
    "autograd. Beside JAX, in the other's total memory, gradients in it, scan's fastest setting takes of its time "
    f"{'. And '.join(_beside(*where) for where in AGAINST)}."
)
SAYS: Final = (
    "Every method on the same axes in a row, down and left is better. Scan's front, the grey line, begins at a "
    "twentieth of plain autograd's memory or less from 1,000 steps on, for LSTM, GRU and attention at less than a "
    "hundredth; larger cores, compiled or fused, are what moves it down, and they can do so because a core's graph "
    "lives only while it is needed. Where two methods execute the same schedule with the same steps (a green diamond "
    "and a filled circle at its memory), they differ by their per-step work alone."
)
# Eager scan's time in the memory of the reentrant checkpoint, over that one's: least and most of the cells.
REENTRANT: Final = {1000: (0.99, 1.14), 10_000: (1.0, 1.18)}
# Where no setting was fitted into a method's memory: the fastest in less memory, and the method's time, over plain's.
UNFITTED: Final = {("epyc26m2", 10_000, "lstm", "checkpoint fused"): (0.61, 0.56)}
# State-space cell, 1,000 steps, by processor, MB and time over plain's: the least memory of checkpoint_schedules, that
# of scan, and scan's fastest setting within 5 % of plain's memory.
LESS: Final = {"xeon": (36, 1.48, 41, 2.37, 41, 2.37), "xeon6m167": (36, 1.51, 25, 1.32, 31, 0.43)}
DOES_NOT_SAY: Final = (
    "that the sizes are yours: one CPU thread, batch 16. Where plain autograd fits it is the fastest eager method, and "
    "compiled or fused it is faster still. The reentrant mode of torch.utils.checkpoint has the least overhead of the "
    "eager recomputing methods on some cells; checkpoint_schedules, driven by hand, is up to a tenth faster than scan "
    "at ten snapshots, one of which scan gives to the working state. In the reentrant mode's memory, eager scan takes "
    f"{REENTRANT[1000][0]} to {REENTRANT[1000][1]} of its time at 1,000 steps and {REENTRANT[10_000][0]} to "
    f"{REENTRANT[10_000][1]} at 10,000, by the cell: that it takes at most 1.1 was claimed once, and is refuted. At "
    "10,000 steps fewer methods were measured: where none of scan's fits into a method's memory, nothing is claimed. "
    "Nor is it of checkpointed segments of the fused LSTM on epyc26m2, at 10,000 steps: no setting was fitted into "
    "their memory, and the fastest in less takes {} of plain's time where they take {}. "
    "On xeon, with an earlier version of scan, checkpoint_schedules ran the state-space cell in less memory than any "
    "setting of scan that was measured: 1,000 steps in {} MB at {} of plain's time, where scan's least was {} MB at "
    "{}. ".format(*UNFITTED["epyc26m2", 10_000, "lstm", "checkpoint fused"], *LESS["xeon"][:4])
    + "That is mended, and seen on xeon6m167 only: there checkpoint_schedules takes {} MB at {}, and scan {} MB at {} "
    "with eager steps, {} MB at {} compiled: 5 % of plain's memory has its settings. ".format(*LESS["xeon6m167"])
    + "Nor how it compares with JAX elsewhere: that was measured on three processors. On the AMD EPYC compiled cores "
    "multiply by oneDNN, since torch's own choice of a library is slow there; what was measured on it ran on a later "
    "version than on xeon and xeon6m167, where the LSTM and the GRU ran on a later one than the other cells, and "
    "xeon6m85 ran the last. "
    + "There are five to nine rounds, at 10,000 steps two or three. Every point with its setting: "
    "`python -m bench.side_by_side --show`."
)
FORMAT: Final = "membptt-side-by-side/2"
ASSERTED: Final = 1000  # steps from which on the comparison is asserted
LENGTHS: Final = (100, 1000, 10_000)
# Families, in the order of the legend: marker, colour, filled.
LOOKS: Final = {
    "plain": ("plain autograd", "s", BLACK, True),
    "plain fast": ("plain, compiled or fused", "s", BLACK, False),
    "checkpoint": ("torch.utils.checkpoint", "^", VERMILLION, True),
    "checkpoint fast": ("torch.utils.checkpoint, compiled or fused", "^", VERMILLION, False),
    "nested": ("two levels of it", "v", ORANGE, True),
    "schedules": ("checkpoint_schedules", "D", GREEN, True),
    "torch scan": ("torch's own scan", "*", ORANGE, False),
    "jax": ("JAX: lax.scan, jax.checkpoint", "P", PURPLE, True),
    "equinox": ("equinox's checkpointed scan", "X", PURPLE, False),
    "membptt": ("scan, eager", "o", BLUE, True),
    "membptt fast": ("scan, compiled or fused", "o", SKY, False),
}
PEERS: Final = ("torch scan", "jax", "equinox")
OURS: Final = ("membptt", "membptt fast")


@dataclass(frozen=True)
class Dot:
    """One method.

    Args:
        label: its name in the table.
        family: of `LOOKS`.
        bytes: peak of activations.
        total: the same with gradients on their way.
        time: over plain's of the same round.
        against: of other libraries' methods in whose total memory it is, the name, and its time over theirs.
    """

    label: str
    family: str
    bytes: int
    total: int
    time: float
    against: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Panel:
    """One cell at one length on one processor, by its short name."""

    processor: str
    cell: str
    steps: int
    dots: tuple[Dot, ...]

    def front(self, families: Iterable[str]) -> list[Dot]:
        """Return the methods that no other of these families beats in both, by memory."""
        kept: list[Dot] = []
        among = [dot for dot in self.dots if dot.family in set(families)]
        for dot in sorted(among, key=lambda dot: (dot.bytes, dot.time)):
            if not kept or dot.time < kept[-1].time:
                kept.append(dot)
        return kept

    def against(self) -> dict[str, float]:
        """Return, by method of another library, the least time over its in its total memory."""
        times: dict[str, float] = {}
        for dot in self.dots:
            times |= {each: min(round(time, 2), times.get(each, inf)) for each, time in dot.against}
        return times

    def fastest(self, families: Iterable[str], limit: int) -> float:
        """Return the least time of these families within `limit` bytes."""
        return min((dot.time for dot in self.dots if dot.family in set(families) and dot.bytes <= limit), default=inf)


@dataclass(frozen=True)
class Fronts:
    """All panels and where they were measured."""

    where: str
    panels: tuple[Panel, ...]


def data() -> Fronts:
    """Read every point of the benchmark.

    Raises:
        DataMissingError: a point is missing.
        FigureClaimError: the claim is false.
    """
    names = [f"side_by_side_cpu_{cell}_{steps}" for steps in LENGTHS for cell in CELLS]
    with reading("fig10"):
        return check(load_everywhere(names, FORMAT))


def check(files: Sequence[dict[str, Any]]) -> Fronts:
    """Reduce the rounds and check the claim.

    Raises:
        FigureClaimError: the claim is false.
    """
    panels = []
    for file in files:
        name = f"{file['cell']}, T = {file['steps']}"
        require(file["complete"], f"{name} is unfinished: run its command again, it resumes")
        require(not file["quick"], f"{name} was measured at the tiny size of tests")
        dots = tuple(_dot(file, method) for method in file["methods"])
        panels.append(Panel(short_name(file["device_name"]), file["cell"], file["steps"], dots))
    _claim(panels)
    return Fronts(f"batch 16; {'; '.join(map(one_device, by_processor(files).values()))}", tuple(panels))


def _claim(panels: Sequence[Panel]) -> None:
    for panel in panels:
        name = f"{panel.processor}, {panel.cell}, T = {panel.steps}"
        recomputing = [dot for dot in panel.dots if dot.family not in ("plain", "plain fast", *PEERS)]
        for dot in recomputing:
            eager = dot.family not in {"membptt fast", "checkpoint fast"}
            require(not eager or dot.time > 1, f"{name}: {dot.label} is faster than plain autograd")
        if panel.steps < ASSERTED:
            continue
        for dot in recomputing:
            if dot.family not in ("checkpoint", "checkpoint fast", "nested"):
                continue
            best = panel.fastest(OURS, dot.bytes)
            fewer = panel.steps > ASSERTED or panel.processor != panels[0].processor
            if best == inf and fewer:
                continue  # not measured there, which the figure says
            unfitted = UNFITTED.get((panel.processor, panel.steps, panel.cell, dot.label))
            if unfitted is not None:
                seen = round(best, 2), round(dot.time, 2)
                require(seen == unfitted, f"{name}: beside {dot.label} {seen}, not {unfitted}")
                continue
            require(best < dot.time, f"{name}: {best:.2f} in the memory of {dot.label}, which takes {dot.time:.2f}")
            if dot.family == "checkpoint fast" or "reentrant" in dot.label:
                continue
            eager_best = panel.fastest(OURS[:1], dot.bytes)
            require(
                (eager_best == inf and fewer) or eager_best <= dot.time,
                f"{name}: eager {eager_best:.2f} in the memory of {dot.label}, which takes {dot.time:.2f}",
            )
    for panel in panels:
        actual, stated = panel.against(), AGAINST.get((panel.processor, panel.steps), {}).get(panel.cell, {})
        name = f"{panel.processor}, {panel.cell}, T = {panel.steps}"
        require(actual == stated, f"{name}: in the total memory of other libraries {actual}, not {stated}")
    for panel in panels:
        if (panel.cell, panel.steps) == ("state-space", ASSERTED) and panel.processor in LESS:
            (theirs, *_), (ours, *others) = panel.front(["schedules"]), panel.front(OURS)
            plain = next(dot.bytes for dot in panel.dots if dot.family == "plain")
            fastest = [dot for dot in (ours, *others) if 20 * dot.bytes <= plain][-1:]
            dots = (theirs, ours, *fastest)
            least = tuple(each for dot in dots for each in (round(dot.bytes / 1e6), round(dot.time, 2)))
            told = LESS[panel.processor]
            require(least == told, f"state-space: the least memory and its time are {least}, not {told}")


def draw(fronts: Fronts) -> Figure:
    """Draw a panel for every cell and length: memory to the right, time upward, the front of ours as a line."""
    rows = list(dict.fromkeys((panel.processor, panel.steps) for panel in fronts.panels))
    rows.sort(key=lambda row: [panel.processor for panel in fronts.panels].index(row[0]))
    figure = Figure(figsize=(PAGE, 1.4 + 1.5 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(CELLS), squeeze=False, sharex="row", sharey="row")
    for row, (processor, steps) in enumerate(rows):
        for column, (cell, title) in enumerate(CELLS.items()):
            ax = grid[row][column]
            if row == 0:
                ax.set_title(title, fontsize=7, pad=11)
            _scale(ax)
            key = processor, cell, steps
            for panel in fronts.panels:
                if (panel.processor, panel.cell, panel.steps) == key:
                    _draw_panel(ax, panel)
            if not ax.has_data():
                ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, fontsize=6, ha="center")
            if column == 0:
                ax.set_ylabel(f"{processor}, $T$ = {steps:,}\ntime / plain's")
            if row == len(rows) - 1:
                ax.set_xlabel("peak memory / plain's")
    drawn = {dot.family for panel in fronts.panels for dot in panel.dots}
    looks = {family: look for family, look in LOOKS.items() if family in drawn}
    handles = [Line2D([], [], label=label, **_marks(family)) for family, (label, *_) in looks.items()]
    handles.append(Line2D([], [], label="front of scan", color=GREY, linewidth=0.8, drawstyle="steps-post"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **told_below(fronts.where, figure))
    return figure


def table(fronts: Fronts) -> list[list[str]]:
    """Return every point with its setting, under a head."""
    head = [
        "processor",
        "cell",
        "steps",
        "method",
        "peak bytes",
        "with gradients",
        "peak over plain's",
        "time over plain's",
    ]
    rows = []
    for panel in fronts.panels:
        plain = next(dot.bytes for dot in panel.dots if dot.family == "plain")
        for dot in panel.dots:
            sizes = [str(dot.bytes), str(dot.total), f"{dot.bytes / plain:.4f}", f"{dot.time:.3f}"]
            rows.append([panel.processor, panel.cell, str(panel.steps), dot.label, *sizes])
    return [head, *rows]


def _draw_panel(ax: Axes, panel: Panel) -> None:
    front = panel.front(OURS)
    plain = next(dot.bytes for dot in panel.dots if dot.family == "plain")
    ax.plot(
        [dot.bytes / plain for dot in front],
        [dot.time for dot in front],
        color=GREY,
        linewidth=0.8,
        drawstyle="steps-post",
        zorder=1,
    )
    for family in dict.fromkeys(dot.family for dot in panel.dots):
        dots = [dot for dot in panel.dots if dot.family == family]
        ax.plot([dot.bytes / plain for dot in dots], [dot.time for dot in dots], zorder=2, **_marks(family))
    size = f"plain: {round(plain / 1e6, 1 if plain < 1e8 else None):,} MB"
    ax.text(0.02, 1.02, size, transform=ax.transAxes, fontsize=6, va="bottom")  # above: below, some method is the least


def _scale(ax: Axes) -> None:
    ax.set(xscale="log", yscale="log")
    ax.margins(0.07)
    ax.yaxis.set_major_locator(FixedLocator([0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_major_locator(FixedLocator([10.0**power for power in range(-4, 1)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.tick_params(labelsize=6, left=False, bottom=False)  # the grid tells where


def _marks(family: str) -> dict[str, Any]:
    _, marker, color, filled = LOOKS[family]
    face = color if filled else "white"
    return {
        "marker": marker,
        "linestyle": "none",
        "markersize": 3.4,
        "color": color,
        "markerfacecolor": face,
        "markeredgewidth": 0.8,
    }


def _dot(file: dict[str, Any], method: dict[str, Any]) -> Dot:
    label = method["label"]
    family = "schedules" if method["family"] in ("multistage", "mixed") else method["family"]
    if family == "jax" and method["settings"]["kind"] == "equinox":
        family = "equinox"
    elif method["kernel"] != "eager" and family not in PEERS:
        family += " fast"
    if method["family"] == "membptt":
        _check_table(file, method)
    pairs = [(times["seconds"][label], times["seconds"]["plain"]) for times in file["rounds"]]
    total = method["peak_bytes_with_gradients"]
    theirs = {
        each["label"]
        for each in file["methods"]
        if each["family"] == "jax" and each["settings"]["size"] and each["peak_bytes_with_gradients"] >= total
    }
    against = tuple(
        (each, ratio([(times["seconds"][label], times["seconds"][each]) for times in file["rounds"]]))
        for each in sorted(theirs if method["family"] == "membptt" else ())
    )
    return Dot(label, family, method["peak_bytes"], method["peak_bytes_with_gradients"], ratio(pairs), against)


def _check_table(file: dict[str, Any], method: dict[str, Any]) -> None:
    """Check that the table was the one that the settings name, and that the forwards were its."""
    setting = method["settings"]
    cores = -(-(file["calls"] // method["block"]) // setting["chunk"])
    sizes = {"internal": setting["internal"], "internal_known": setting["internal_known"]}
    name = f"{file['cell']}, T = {file['steps']}, {method['label']}"
    cost = executed_cost(name, method["table_digest"], setting["policy"], cores, setting["slots"], **sizes)
    calls, counted = file["calls"] // method["block"], method["forwards"]
    full = setting["chunk"] * method["block"] * file["unit"]
    # A shorter last core takes fewer steps, each time it is run.
    least = full * cost if calls % setting["chunk"] == 0 else full * (cost - cores)
    require(least <= counted <= full * cost, f"{name}: {counted} forwards, the table says {cost} cores of {full} steps")
