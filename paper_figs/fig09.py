"""Figure 9: orders of magnitude: activation memory and time per step, up to a million steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from membptt_theory.palette import GREY
from membptt_theory.tables import optimal_cost
from paper_figs.evidence import DataMissingError, executed, load_benchmark, one_device, reading, require
from paper_figs.style import PAGE, SERIES, label_panels, panels

CLAIM: Final = (
    "Measured: a GRU over a million steps, its gradient really computed, takes less than 1/1,000 of plain "
    "autograd's activation memory at no more than 1.6 times plain's time per step, and less than 1/10,000 at no "
    "more than 2.1 times. Every run takes exactly the forwards of its table."
)
SAYS: Final = (
    "With a fixed memory the sequence may grow a thousandfold: scan stays within its budget while plain autograd's "
    "memory grows with the sequence until the machine has no more, and the price is one forward more per step, at the "
    "smallest budget two. Compiled cores take less time per step than the plain loop all the same. The policy is HSM: "
    "the slots together have room for five internal states of a core at most, so mixing would save next to nothing."
)
DOES_NOT_SAY: Final = (
    "that plain autograd was run at a million steps: beyond 100,000 its memory is carried on in proportion (hollow "
    "marker), and its time per step is that of the longest length up to 10,000, where it is fastest. Compiled cores "
    "(10 steps a graph) are compared with an eager loop, which is what one would write; eager cores stand beside them."
)
FORMAT: Final = "membptt-long-sequence/2"
LENGTHS: Final = (100, 1000, 10_000, 100_000, 1_000_000)
WHOLE: Final = 1_000_000
TARGETS: Final = {1000: 1.6, 10_000: 2.1}  # memory saved, and the time it may take
HANDFUL: Final = 5  # internal states of a core, for which all slots have room at a million steps
FRACTIONS: Final = (1000, 3000, 10_000)


@dataclass(frozen=True)
class Run:
    """One measured run.

    Args:
        steps: length.
        fraction: the budget, as a fraction of plain's memory at a million steps.
        compiled: whether cores were compiled.
        bytes: counted peak.
        slowdown: time per step over plain's.
    """

    steps: int
    fraction: int
    compiled: bool
    bytes: int
    slowdown: float


@dataclass(frozen=True)
class Orders:
    """All lengths.

    Args:
        where: device and sizes, in words.
        plain: measured activation bytes of plain autograd, by length.
        extrapolated: its bytes in proportion, at a million steps.
        runs: what `scan` took.
    """

    where: str
    plain: dict[int, int]
    extrapolated: float
    runs: tuple[Run, ...]


def data() -> Orders:
    """Read the measured lengths.

    Raises:
        DataMissingError: a length is not measured yet.
        FigureClaimError: the claim is false.
    """
    with reading("fig09"):
        return check([load_benchmark(f"long_sequence_{steps}", FORMAT) for steps in LENGTHS])


def check(files: Sequence[dict[str, Any]]) -> Orders:
    """Reduce the files and check the claim.

    Raises:
        DataMissingError: a file without any run.
        FigureClaimError: the claim is false.
    """
    where = one_device(files)
    longest = files[-1]
    a_step = longest["plain"]["peak_bytes"] / longest["plain"]["steps"]
    runs = tuple(_run(file, run) for file in files for run in file["runs"].values())
    if not any(run.steps == WHOLE for run in runs):
        raise DataMissingError("long_sequence_1000000.json is unfinished: run its command again, it resumes")
    for fraction, limit in TARGETS.items():
        fitting = [run for run in runs if (run.steps, run.fraction) == (WHOLE, fraction)]
        require(bool(fitting), f"nothing was measured at 1/{fraction} of plain's memory")
        best = min(fitting, key=lambda run: run.slowdown)
        saved = a_step * WHOLE / best.bytes
        require(saved >= fraction, f"1/{fraction}: the run saved only {saved:.0f} times the memory")
        require(best.slowdown <= limit, f"1/{fraction}: {best.slowdown:.2f} times plain's time, more than {limit}")
    plain = {}
    for file in files:
        for entry in (file["plain"], file["plain_here"]):
            if entry and entry["steps"] == file["steps"]:
                plain[file["steps"]] = entry["peak_bytes"]
    sizes = f"GRU {longest['sizes']['hidden']}, batch 16"
    return Orders(f"{sizes}; {where}", plain, a_step * WHOLE, runs)


def draw(orders: Orders) -> Figure:
    """Draw memory on the left, time on the right."""
    figure, (left, right) = panels(2, width=PAGE, height=3.0)
    steps = sorted(orders.plain)
    left.plot(steps, [orders.plain[t] / 1e6 for t in steps], **_both(SERIES[0]))
    a_step = orders.extrapolated / WHOLE / 1e6
    left.plot([steps[-1], WHOLE], [steps[-1] * a_step, WHOLE * a_step], color=GREY, linestyle=":")
    left.plot(WHOLE, WHOLE * a_step, color="white", markeredgecolor=SERIES[0].color, marker="o", markersize=4)
    right.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    handles = [
        Line2D([], [], label="plain autograd, measured", **_both(SERIES[0])),
        Line2D(
            [], [], label="carried on in proportion", color=GREY, linestyle=":", marker="o", markerfacecolor="white"
        ),
    ]
    for look, fraction in zip(SERIES[1:], FRACTIONS, strict=False):
        for compiled in (True, False):
            runs = sorted(
                (run for run in orders.runs if (run.fraction, run.compiled) == (fraction, compiled)),
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
    left.set(xscale="log", yscale="log", xlabel="sequence length [steps]", ylabel="peak activation memory [MB]")
    right.set(xscale="log", xlabel="sequence length [steps]", ylabel="time per step / plain's", ylim=(0, None))
    label_panels([left, right])
    figure.legend(handles=handles, loc="outside lower center", ncols=3, title=orders.where, title_fontsize=6.5)
    return figure


def _both(look: Any) -> dict[str, Any]:
    return {**look.points(), **look.curve()}


def _run(file: dict[str, Any], run: dict[str, Any]) -> Run:
    steps, slots, chunk = file["steps"], run["slots"], run["chunk"]
    cores = -(-steps // chunk)
    name = f"T = {steps}, 1/{run['fraction']}"
    executed(name, run["table_digest"], "hsm", cores, slots)
    cost = optimal_cost("hsm", cores, slots) / cores
    require(run["forwards_a_step"] == cost, f"{name}: {run['forwards_a_step']} forwards a step, not {cost}")
    require(run["peak_bytes"] <= run["limit_bytes"], f"{name}: {run['peak_bytes']} bytes, the limit is exceeded")
    require(isfinite(run["gradient_norm"]) and run["gradient_norm"] > 0, f"{name}: no gradient was computed")
    if steps == WHOLE:
        fitting = slots * run["hidden_bytes"] // run["internal_bytes"]
        require(fitting <= HANDFUL, f"{name}: {fitting} internal states fit into the slots, more than {HANDFUL}")
    times = run["seconds_a_step"]
    slowdown = median(times["membptt"]) / median(times["plain"])
    return Run(steps, run["fraction"], bool(run["block"]), run["peak_bytes"], slowdown)
