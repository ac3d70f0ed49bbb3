"""Figure 11: tokens per second against sequence length, every method in the same memory."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper_figs.evidence import executed_cost, load_benchmark, one_device, reading, require
from paper_figs.style import PAGE, SERIES, label_panels, panels, told_below

CLAIM: Final = (
    "Measured, in 64 MiB of activations: plain autograd gives the most tokens per second at 100 steps and cannot run "
    "10,000 at any batch. Step by step, scan gives more than torch.utils.checkpoint at every length; by the fused "
    "kernel it gives at least 0.97 of checkpoint's at every length."
)
SAYS: Final = (
    "A fixed memory is a batch size: plain autograd pays for longer sequences with smaller batches, slower per "
    "token, until one sequence is too large. Recomputing keeps the batch, and is ahead from the length at which "
    "plain autograd's batch no longer fills the kernel. The numbers at the markers are batch sizes."
)
DOES_NOT_SAY: Final = (
    "that a larger batch trains as well per token, nor where the crossing lies on another machine, cell or memory. In "
    "a memory as large as this one both ways of recomputing take about two forwards a step, so with the same fused "
    "kernel they are level: what scan adds there is that it goes on where less memory is left (figure 10). Batches "
    "are powers of two up to 64; scan was tried with 16 and 64."
)
FORMAT: Final = "membptt-throughput/1"
BUDGET: Final = 64  # MiB
KERNEL_STEPS: Final = 20  # of one call of the fused kernel
KERNELS: Final = ("eager", "fused")
LEAST: Final = {"eager": 1.0, "fused": 0.97}  # of checkpoint's tokens per second
FIRST: Final = (8, 3)  # of plain's first, below which scan's stands
METHODS: Final = {"plain": SERIES[0], "checkpoint": SERIES[2], "membptt": SERIES[1]}
PLACE: Final = {"plain": (0, -12), "checkpoint": (-9, -9), "membptt": (0, 4)}  # of the batch's number, in points
LABELS: Final = {
    "plain": "plain autograd",
    "checkpoint": "torch.utils.checkpoint, segments of sqrt(T)",
    "membptt": "scan",
}


@dataclass(frozen=True)
class Point:
    """One method at one length: median tokens per second, and the batch that fitted."""

    steps: int
    tokens: float
    batch: int


@dataclass(frozen=True)
class Throughput:
    """Curves by kernel and method; a method that does not fit at a length has no point there."""

    where: str
    curves: dict[str, dict[str, list[Point]]]


def data() -> Throughput:
    """Read the measured lengths.

    Raises:
        DataMissingError: nothing is measured yet.
        FigureClaimError: the claim is false.
    """
    with reading("fig11"):
        return check(load_benchmark(f"throughput_lstm_{BUDGET}", FORMAT))


def check(raw: dict[str, Any]) -> Throughput:
    """Reduce the rounds and check the claim.

    Raises:
        FigureClaimError: the claim is false.
    """
    lengths = sorted(map(int, raw["lengths"]))
    curves: dict[str, dict[str, list[Point]]] = {kernel: {method: [] for method in METHODS} for kernel in KERNELS}
    for steps in lengths:
        for method in raw["lengths"][str(steps)].values():
            require(method["peak_bytes"] <= raw["budget_bytes"], f"T = {steps}: {method['method']} exceeds the memory")
            _check_table(steps, method)
            point = Point(steps, float(median(method["tokens_a_second"])), method["batch"])
            curves[method["kernel"]][method["method"]].append(point)
    for kernel in KERNELS:
        at = {method: {point.steps: point.tokens for point in points} for method, points in curves[kernel].items()}
        ours, chen, plain = at["membptt"], at["checkpoint"], at["plain"]
        first, last = lengths[0], lengths[-1]
        require(
            plain[first] == max(each[first] for each in at.values()), f"{kernel}: plain is not ahead at T = {first}"
        )
        require(last not in plain, f"{kernel}: plain autograd runs T = {last}")
        for steps in lengths:
            share = ours[steps] / chen[steps]
            require(share >= LEAST[kernel], f"{kernel}: scan gives {share:.2f} of checkpoint's tokens at T = {steps}")
    return Throughput(f"LSTM 256, {BUDGET} MiB of activations; {one_device([raw])}", curves)


def draw(throughput: Throughput) -> Figure:
    """Draw eager kernels on the left, fused ones on the right."""
    figure, axes = panels(2, width=PAGE, height=3.0, sharey=True)
    for ax, kernel in zip(axes, KERNELS, strict=True):
        for name, look in METHODS.items():
            points = throughput.curves[kernel][name]
            ax.plot(
                [point.steps for point in points],
                [point.tokens / 1e3 for point in points],
                **{**look.points(), **look.curve()},
            )
            for at, point in enumerate(points):
                ax.annotate(
                    str(point.batch),
                    (point.steps, point.tokens / 1e3),
                    xytext=FIRST if name == "plain" and at == 0 else PLACE[name],
                    textcoords="offset points",
                    fontsize=6,
                    ha="center",
                    color=look.color,
                )
        ax.set(xscale="log", xlabel="sequence length [steps]", xlim=(65, None), ylim=(0, None))
        ax.set_title("step by step" if kernel == "eager" else "torch's fused kernel", loc="left")
    axes[0].set_ylabel("thousand tokens per second")
    label_panels(axes)
    handles = [
        Line2D([], [], label=LABELS[name], **{**look.points(), **look.curve()}) for name, look in METHODS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **told_below(throughput.where, figure))
    return figure


def _check_table(steps: int, method: dict[str, Any]) -> None:
    """Check that the settings still name the table that was executed."""
    setting = method["setting"]
    if setting is None:
        return
    calls = steps // (KERNEL_STEPS if method["kernel"] == "fused" else 1)
    sizes = {"internal": setting["internal"], "internal_known": setting["internal_known"]}
    cores = -(-calls // setting["chunk"])
    executed_cost(f"T = {steps}", method["table_digest"], setting["policy"], cores, setting["slots"], **sizes)
