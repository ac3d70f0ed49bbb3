"""Figure 9: orders of magnitude: activation memory and time per step, up to a million steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite
from statistics import median
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.store import short_name
from membptt_theory.palette import BLACK, GREY
from membptt_theory.tables import optimal_cost
from paper_figs.evidence import (
    DataMissingError,
    by_processor,
    executed_cost,
    load_everywhere,
    one_device,
    reading,
    require,
)
from paper_figs.style import PAGE, SERIES, label_panels, panels, told_below

# A million steps with compiled cores, by processor and memory saved: time a step over the eager loop's, and that of
# plain autograd over the same compiled graphs, at 10,000 steps; None where that was not measured.
MEASURED: Final[dict[str, dict[int, tuple[float, float | None]]]] = {
    "xeon": {1000: (0.66, None), 10_000: (0.86, None)},
    "epyc26m2": {1000: (0.59, 0.5), 10_000: (0.84, 0.52)},
}
# The least and the most of these times of plain's compiled graphs, each over the median of the eager loop's.
ALIKE: Final = {"epyc26m2": (0.43, 0.6)}


def _took(processor: str) -> str:
    (little, alike), (least, again) = MEASURED[processor].values()
    beside = "" if alike is None else f"; plain autograd compiled alike takes {alike} and {again}, at 10,000 steps"
    return f"on {processor} {little} and {least}{beside}"


CLAIM: Final = (
    "Measured: a GRU over a million steps, its gradient really computed, takes less than 1/1,000 of plain "
    "autograd's activation memory at no more than 1.6 times plain's time per step, and less than 1/10,000 at no "
    f"more than 2.1 times (compiled cores over plain's eager loop: {', and '.join(map(_took, MEASURED))}). Every run "
    "takes exactly the forwards of its table. Counted, for states of the same sizes: at a million cores of one step, "
    "internal states beside the hidden ones save up to 33 % of all forwards; where cores may be of any length, up to "
    "18 %, and they never cost any."
)
SAYS: Final = (
    "With a fixed memory the sequence may grow a thousandfold: scan stays within its budget while plain autograd's "
    "memory grows with the sequence until the machine has no more, and the price is one forward more per step, at the "
    "smallest budget two. Compiled cores take less time per step than the plain loop all the same; over a million "
    "steps they take more than plain autograd over the same compiled graphs, where that fits. The policy is HSM: the "
    "slots together have room for five internal states of a core at most, so mixing would save next to nothing. Right:"
    " what mixing saves elsewhere. MSM+ has a formula, so that a million cores need no table, and no legal schedule "
    "with separate storage takes fewer forwards. Longer cores do part of its work, without being asked to."
)
DOES_NOT_SAY: Final = (
    "that plain autograd was run at a million steps: beyond 100,000 its memory is carried on in proportion (hollow "
    "marker), and its time per step is that of the longest length up to 10,000, where it is fastest. Compiled cores "
    "(10 steps a graph) are compared with an eager loop, which is what one would write; eager cores stand beside them, "
    "and in the middle panel plain autograd over compiled graphs, which was measured on the EPYC only: medians of six "
    "times, which fall into two groups, between {} and {} of the eager loop's. The EPYC ran two lengths, with compiled "
    "cores only, and its points are marked. ".format(*ALIKE["epyc26m2"])
    + "Right: nothing is measured there; forwards are counted, and every step's graph takes the bytes that the "
    "measured one takes."
)
FORMAT: Final = "membptt-long-sequence/2"
LENGTHS: Final = (100, 1000, 10_000, 100_000, 1_000_000)
WHOLE: Final = 1_000_000
TARGETS: Final = {1000: 1.6, 10_000: 2.1}  # memory saved, and the time it may take
HANDFUL: Final = 5  # internal states of a core, for which all slots have room at a million steps
FRACTIONS: Final = (1000, 3000, 10_000)
# steps a core
CHUNKS: Final = (1, 2, 3, 5, 7, *(digit * 10**k for k in range(3) for digit in (10, 15, 20, 30, 50, 70)))
SAVED: Final = (0.33, 0.18)  # of all forwards, at best: cores of one step, of any length


@dataclass(frozen=True)
class Run:
    """One measured run.

    Args:
        processor: by its short name.
        steps: length.
        fraction: the budget, as a fraction of plain's memory at a million steps.
        compiled: whether cores were compiled.
        bytes: counted peak.
        slowdown: time per step over plain's.
        alike: the times of plain autograd over the same compiled graphs, over the same; none where not measured.
    """

    processor: str
    steps: int
    fraction: int
    compiled: bool
    bytes: int
    slowdown: float
    alike: tuple[float, ...]


@dataclass(frozen=True)
class Counted:
    """Forwards a step at a million steps, counted, in rising budgets.

    Args:
        bytes: the budgets: starting state, slots and one working core.
        one_step: of HSM and of MSM+ where a core is one step.
        any_length: the same with the best of `CHUNKS`.
    """

    bytes: tuple[float, ...]
    one_step: dict[str, tuple[float, ...]]
    any_length: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Orders:
    """All lengths.

    Args:
        where: devices and sizes, in words.
        plain: measured activation bytes of plain autograd, by length, on the first processor.
        extrapolated: its bytes in proportion, at a million steps.
        runs: what `scan` took, on every processor.
        counted: what mixing saves.
    """

    where: str
    plain: dict[int, int]
    extrapolated: float
    runs: tuple[Run, ...]
    counted: Counted


def data() -> Orders:
    """Read the measured lengths.

    Raises:
        DataMissingError: a length is not measured yet.
        FigureClaimError: the claim is false.
    """
    names = [f"long_sequence_{steps}" for steps in LENGTHS]
    with reading("fig09"):
        orders = check(load_everywhere(names, FORMAT))
        measured = {run.processor for run in orders.runs}
        require(measured == set(MEASURED), f"it was measured on {sorted(measured)}, not on {sorted(MEASURED)}")
        return orders


def check(files: Sequence[dict[str, Any]]) -> Orders:
    """Reduce the files and check the claim on each processor.

    Raises:
        DataMissingError: a processor without any run.
        FigureClaimError: the claim is false.
    """
    devices = by_processor(files)
    where = "; ".join(one_device(group) for group in devices.values())
    runs = tuple(_run(file, run) for file in files for run in file["runs"].values())
    for processor, group in devices.items():
        _claim(processor, group[-1], [run for run in runs if run.processor == processor])
    first, *_ = devices.values()
    longest = first[-1]
    a_step = longest["plain"]["peak_bytes"] / longest["plain"]["steps"]
    plain = {}
    for file in first:
        for entry in (file["plain"], file["plain_here"]):
            if entry and entry["steps"] == file["steps"]:
                plain[file["steps"]] = entry["peak_bytes"]
    sizes = f"GRU {longest['sizes']['hidden']}, batch 16"
    run = next(iter(longest["runs"].values()))
    counted = count(run["hidden_bytes"], run["internal_bytes"] / run["chunk"])
    return Orders(f"{sizes}; {where}", plain, a_step * WHOLE, runs, counted)


def _claim(processor: str, longest: dict[str, Any], runs: Sequence[Run]) -> None:
    """Check what one processor took at the full length, of which `longest` is the file."""
    if not any(run.steps == WHOLE for run in runs):
        raise DataMissingError(f"long_sequence_1000000 is unfinished on {processor}: run its command again, it resumes")
    require(processor in MEASURED, f"nothing is told of {processor}")
    a_step = longest["plain"]["peak_bytes"] / longest["plain"]["steps"]
    for fraction, limit in TARGETS.items():
        name = f"{processor}, 1/{fraction}"
        fitting = [run for run in runs if (run.steps, run.fraction) == (WHOLE, fraction)]
        require(bool(fitting), f"{name}: nothing was measured in so much of plain's memory")
        best = min(fitting, key=lambda run: run.slowdown)
        saved = a_step * WHOLE / best.bytes
        require(saved >= fraction, f"{name}: the run saved only {saved:.0f} times the memory")
        require(best.slowdown <= limit, f"{name}: {best.slowdown:.2f} times plain's time, more than {limit}")
        time, beside = MEASURED[processor][fraction]
        require(
            best.compiled and round(best.slowdown, 2) == time,
            f"{name}: {best.slowdown:.3f} times plain's time, not {time} with compiled cores",
        )
        alike = round(median(best.alike), 2) if best.alike else None
        require(alike == beside, f"{name}: plain's compiled graphs take {alike} of the eager loop's time, not {beside}")
    every = [time for run in runs if run.steps == WHOLE for time in run.alike]
    reach = (round(min(every), 2), round(max(every), 2)) if every else None
    require(
        reach == ALIKE.get(processor), f"{processor}: plain's compiled graphs take {reach} of the eager loop's time"
    )


def count(hidden: float, graph: float) -> Counted:
    """Count forwards a step in budgets of 100 to 100,000 hidden states.

    Args:
        hidden: bytes of a hidden state.
        graph: bytes of one step's graph, beyond its input and output.

    Raises:
        FigureClaimError: mixing saves another part than is claimed.
    """
    budgets = [round(100 * 10 ** (k / 16)) for k in range(49)]
    forwards = {
        (policy, chunk): [_forwards(policy, chunk, states, graph / hidden) for states in budgets]
        for policy in ("hsm", "msm_plus")
        for chunk in CHUNKS
    }
    one_step = {policy: tuple(forwards[policy, 1]) for policy in ("hsm", "msm_plus")}
    any_length = {
        policy: tuple(min(best) for best in zip(*(forwards[policy, chunk] for chunk in CHUNKS), strict=True))
        for policy in ("hsm", "msm_plus")
    }
    for curves, most in zip((one_step, any_length), SAVED, strict=True):
        saved = [1 - mixed / hsm for mixed, hsm in zip(curves["msm_plus"], curves["hsm"], strict=True)]
        require(min(saved) >= 0, "mixing costs forwards")
        require(round(max(saved), 2) == most, f"mixing saves {max(saved):.4f} of all forwards, not {most}")
    return Counted(tuple(states * hidden for states in budgets), one_step, any_length)


def draw(orders: Orders) -> Figure:
    """Draw memory on the left, time in the middle, what mixing saves on the right."""
    figure, (left, right, saving) = panels(3, width=PAGE, height=3.0)
    steps = sorted(orders.plain)
    left.plot(steps, [orders.plain[t] / 1e6 for t in steps], **_both(SERIES[0]))
    a_step = orders.extrapolated / WHOLE / 1e6
    left.plot([steps[-1], WHOLE], [steps[-1] * a_step, WHOLE * a_step], color=GREY, linestyle=":")
    left.plot(WHOLE, WHOLE * a_step, color="white", markeredgecolor=SERIES[0].color, marker="o", markersize=4)
    right.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    handles = [
        Line2D([], [], label="plain autograd, eager loop", **_both(SERIES[0])),
        Line2D(
            [],
            [],
            label="carried on in proportion",
            color=GREY,
            linestyle=":",
            marker="o",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor=SERIES[0].color,
        ),
    ]
    first, *others = dict.fromkeys(run.processor for run in orders.runs)
    own = [run for run in orders.runs if run.processor == first]
    for look, fraction in zip(SERIES[1:], FRACTIONS, strict=False):
        for compiled in (True, False):
            runs = sorted(
                (run for run in own if (run.fraction, run.compiled) == (fraction, compiled)),
                key=lambda run: run.steps,
            )
            if not runs:
                continue
            at = [run.steps for run in runs]
            marks: dict[str, Any] = {**_both(look), **({} if compiled else {"markerfacecolor": "white"})}
            if compiled:
                left.plot(at, [run.bytes / 1e6 for run in runs], **marks)
            right.plot(at, [run.slowdown for run in runs], **marks)
            kind = "compiled cores" if compiled else "eager cores"
            size = orders.extrapolated / fraction / 1e6
            handles.append(Line2D([], [], label=f"scan in {size:.1f} MB, {kind}", **marks))
    for other in others:
        handles += _draw_other(right, other, [run for run in orders.runs if run.processor == other and run.compiled])
    left.set(xscale="log", yscale="log", xlabel="sequence length [steps]", ylabel="peak activation memory [MB]")
    right.set(xscale="log", xlabel="sequence length [steps]", ylabel="time per step / eager plain's", ylim=(0, None))
    _draw_counted(saving, orders.counted)
    for ax, title in ((left, "memory"), (right, "time"), (saving, "cost of a million steps")):
        ax.set_title(title, loc="left")
    label_panels([left, right, saving])
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **told_below(orders.where, figure))
    return figure


def _draw_other(ax: Axes, processor: str, runs: Sequence[Run]) -> list[Line2D]:
    """Draw another processor's times, and plain autograd's over the same compiled graphs; return what tells it."""
    marks: dict[str, Any] = {"marker": "x", "markersize": 3.6, "linestyle": ":"}
    for look, fraction in zip(SERIES[1:], FRACTIONS, strict=False):
        same = [run for run in runs if run.fraction == fraction]
        ax.plot([run.steps for run in same], [run.slowdown for run in same], color=look.color, **marks)
        alike = [run for run in same if run.alike]
        ax.plot([run.steps for run in alike], [median(run.alike) for run in alike], color=GREY, **marks)
    told = {GREY: f"{processor}: plain autograd, compiled", BLACK: f"{processor}: scan, compiled cores, by colour"}
    return [Line2D([], [], color=color, label=label, **marks) for color, label in told.items()]


def _draw_counted(ax: Axes, counted: Counted) -> None:
    at = [size / 1e6 for size in counted.bytes]
    for color, policy, name in ((GREY, "hsm", "HSM"), (SERIES[4].color, "msm_plus", "MSM+")):
        ax.plot(at, counted.one_step[policy], color=color, linestyle="--", label=f"{name}, cores of a step")
        ax.plot(at, counted.any_length[policy], color=color, label=f"{name}, of any length")
    ax.set(xscale="log", xlabel="memory [MB]", ylabel="forwards per step, counted", ylim=(1.9, 5))
    ax.legend(fontsize=6)


def _forwards(policy: str, chunk: int, states: int, graph: float) -> float:
    """Return forwards a step, an infinite number where the working core alone is too large."""
    cores, internal = -(-WHOLE // chunk), ceil(chunk * graph) + 2
    slots = states - internal
    if slots < 1:
        return inf
    return optimal_cost(policy, cores, slots, internal=internal if policy == "msm_plus" else 1) / cores


def _both(look: Any) -> dict[str, Any]:
    return {**look.points(), **look.curve()}


def _run(file: dict[str, Any], run: dict[str, Any]) -> Run:
    steps, slots, chunk = file["steps"], run["slots"], run["chunk"]
    cores = -(-steps // chunk)
    name = f"T = {steps}, 1/{run['fraction']}"
    cost = executed_cost(name, run["table_digest"], "hsm", cores, slots) / cores
    require(run["forwards_a_step"] == cost, f"{name}: {run['forwards_a_step']} forwards a step, not {cost}")
    require(run["peak_bytes"] <= run["limit_bytes"], f"{name}: {run['peak_bytes']} bytes, the limit is exceeded")
    require(isfinite(run["gradient_norm"]) and run["gradient_norm"] > 0, f"{name}: no gradient was computed")
    if steps == WHOLE:
        fitting = slots * run["hidden_bytes"] // run["internal_bytes"]
        require(fitting <= HANDFUL, f"{name}: {fitting} internal states fit into the slots, more than {HANDFUL}")
    times = run["seconds_a_step"]
    plain = median(times["plain"])
    alike = tuple(time / plain for time in times.get("plain compiled", ()))
    slowdown = median(times["membptt"]) / plain
    processor = short_name(file["device_name"])
    return Run(processor, steps, run["fraction"], bool(run["block"]), run["peak_bytes"], slowdown, alike)
