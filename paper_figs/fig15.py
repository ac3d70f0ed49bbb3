"""Figure 15: loops whose length nobody knows: forwards beyond the optimum of those who know it; time against memory."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from membptt_theory.machine import meter
from membptt_theory.online import POLICIES, SIZES, cost, promise, schedule
from membptt_theory.palette import BLACK, GREY
from membptt_theory.tables import optimal_cost
from paper_figs.evidence import load_benchmark, one_device, processors, ratio, reading, require
from paper_figs.style import PAGE, SERIES, Line, label_panels, told_below

CLAIM: Final = (
    "Of all lengths up to 10,000 the default takes at worst 2.9, 2.1 and 0.03 % more forwards than HSM, which knows "
    "the length (5, 10 and 50 slots), greedy 10, 6.7 and 3.2 %, Wang, Moin and Iaccarino's rule 20, 25 and 31 %, "
    "equinox's loop 400, 43 and 78 % beyond 2 (m + 1) steps and up to twice HSM's before. The default wastes nothing "
    "up to binom(m+2, 2) steps and is below equinox at every length; greedy and Wang, Moin and Iaccarino's rule, "
    "which decide at once, are somewhere from m + 1 to m + 3 steps at 1 + 1/(2m+7) or above, as all such policies are. "
    "Measured on a GRU cell: a gradient by while_loop in 5, 10 and 50 slots holds 7.1, 7.8 and 13.2 % of the plain "
    "loop's bytes at 100 steps, and the same bytes, 0.7, 0.8 and 1.4 %, at 1,000; torch's while_loop 48.0 and 43.5 %; "
    "equinox's 4.3, 4.8 and 11.1 %, and 0.4, 0.5 and 1.1 %, of lax.scan's. Ours and equinox's run as many forwards as "
    "are counted, and all gradients agree within 1e-5."
)
SAYS: Final = (
    "Not knowing how long a loop will be costs two or three per cent of its forwards, and nothing at all while it is "
    "short. To decide about a state one step late is what makes the difference at lengths of a few times m. Below, "
    "time and memory are over those of the plain loop of the same library. In this measurement equinox's loop is the "
    "faster one, over its plain loop and in seconds: XLA compiles a loop as a whole, and lax.scan takes a fraction of "
    "the time of torch's plain loop, whose steps run eagerly."
)
DOES_NOT_SAY: Final = (
    "how much time any of them takes elsewhere: (d) and (e) were measured with a small cell on one machine, and no "
    "claim rests on times; the same was measured on an AMD EPYC, busy, where forwards and bytes are the same. Bytes "
    "are those of all live storages in torch, and of XLA's temporaries in JAX, which leave out the gradients. In (a) "
    "to (c) forwards are counted. Greedy and Wang, Moin and Iaccarino's rule are given our end, gaps by HSM and a "
    "newest step that is never run twice; equinox is counted as its program runs. The grey line bounds only policies "
    "that decide at once, run nothing again before the end and complete gap by gap. A point of a curve is the worst "
    "of its lengths, 24 ranges to a factor of ten."
)
STEPS: Final = 10_000
SLOTS: Final = (5, 10, 50)
NAMES: Final = {
    "for_every_t": "ours, one state late",
    "greedy": "greedy",
    "wang_moin_iaccarino": "Wang, Moin, Iaccarino",
    "equinox": "equinox",
}
# The worst of every length up to STEPS: forwards, those of HSM, length.
WORST: Final[dict[int, dict[str, tuple[int, int, int]]]] = {
    5: {"for_every_t": (212, 206, 58), "greedy": (22, 20, 9), "wang_moin_iaccarino": (154, 128, 39)},
    10: {"for_every_t": (4812, 4713, 1013), "greedy": (32, 30, 14), "wang_moin_iaccarino": (225, 180, 64)},
    50: {"for_every_t": (3935, 3934, 1328), "greedy": (4050, 3926, 1326), "wang_moin_iaccarino": (5145, 3920, 1324)},
}
# The same of equinox, beyond 2 (m + 1) steps: at one step it takes two.
EQUINOX: Final = {5: (519844, 103968, 8740), 10: (1897, 1331, 339), 50: (7349, 4122, 1375)}

FORMAT: Final = "membptt-while-loop/2"
MEASURED: Final = (100, 1000)  # steps
PLAIN: Final = "plain"
TORCH: Final = "torch while_loop"
SCAN: Final = "jax scan"  # JAX's plain loop
ROUNDING: Final = 1e-5  # of float32, in gradients
# Measured bytes in 5, 10 and 50 slots over those of the plain loop, torch's or JAX's, in per cent; of torch's loop.
BYTES: Final = {
    100: {"membptt": (7.1, 7.8, 13.2), "equinox": (4.3, 4.8, 11.1), TORCH: (48.0,)},
    1000: {"membptt": (0.7, 0.8, 1.4), "equinox": (0.4, 0.5, 1.1), TORCH: (43.5,)},
}
LOOKS: Final[dict[str, tuple[str, Line]]] = {
    "membptt": ("ours", SERIES[0]),
    "equinox": ("equinox (over lax.scan, compiled)", SERIES[3]),
    TORCH: ("torch's while_loop", Line(BLACK, "none", "s")),
}


@dataclass(frozen=True)
class Dot:
    """One loop: measured bytes and time, both over the plain loop's of the same library."""

    memory: float
    time: float


@dataclass(frozen=True)
class Measured:
    """The lower panels.

    Args:
        where: they were measured.
        dots: of each length and each kind of loop, by rising slots.
        scan: of each length, the time of JAX's plain loop over that of torch's.
    """

    where: str
    dots: dict[int, dict[str, list[Dot]]]
    scan: dict[int, float]


@dataclass(frozen=True)
class Excess:
    """All panels.

    Args:
        lengths: the first of each range of lengths that is one point, and the end of the last.
        ratios: of each number of slots and each policy, the largest of forwards over HSM's in each range.
        measured: time and memory.
    """

    lengths: list[int]
    ratios: dict[int, dict[str, list[float]]]
    measured: Measured


def data() -> Excess:
    """Count every length, execute some of the streams on paper, read what was measured.

    Raises:
        DataMissingError: nothing was measured.
        FigureClaimError: the claim is false.
    """
    with reading("fig15"):
        every = {
            steps: processors(f"while_loop_relaxation_{steps}") or [f"while_loop_relaxation_{steps}"]
            for steps in MEASURED
        }
        measured, *_ = [  # the first is drawn, of the others the same is true
            check({steps: load_benchmark(name, FORMAT) for steps, name in zip(MEASURED, names, strict=True)})
            for names in zip(*every.values(), strict=True)
        ]
    lengths = [*sorted({round(10 ** (k / 24)) for k in range(96)}), STEPS + 1]
    ratios: dict[int, dict[str, list[float]]] = {}
    for m in SLOTS:
        offline = [optimal_cost("hsm", t, m) for t in range(1, STEPS + 1)]
        costs = {name: list(islice(POLICIES[name].costs(m), STEPS)) for name in NAMES}
        for name, forwards in costs.items():
            stated, first = (EQUINOX[m], 2 * m + 3) if name == "equinox" else (WORST[m][name], 1)
            worst = _worst(forwards, offline, first)
            require(worst == stated, f"{name}, m = {m}: worst is {worst}, not {stated}")
            for t in lengths[:-1:15]:
                report = meter(schedule(t, m, policy=name), steps=t, sizes=SIZES)
                require(report.forwards == forwards[t - 1], f"{name}, m = {m}, t = {t}: executed {report.forwards}")
        _check_ours(m, costs, offline)
        ratios[m] = {name: _largest(costs[name], offline, lengths) for name in NAMES}
    return Excess(lengths, ratios, measured)


def check(files: dict[int, dict[str, Any]]) -> Measured:
    """Reduce the rounds, and check what is certain: forwards, bytes, gradients; of times nothing is claimed.

    Raises:
        FigureClaimError: the claim is false.
    """
    dots: dict[int, dict[str, list[Dot]]] = {}
    for steps, file in files.items():
        stated = {PLAIN: steps, SCAN: steps, **{f"membptt m={m}": cost(steps, m) for m in SLOTS}}
        stated |= {f"equinox m={m}": cost(steps, m, policy="equinox") for m in SLOTS}
        methods = file["methods"]
        for label in (*stated, TORCH):
            counted, error = methods[label]["forwards"], methods[label]["gradient_error"]
            forwards = stated.get(label)  # of torch's loop, which traces its body, none are counted
            require(counted == forwards, f"{label}, t = {steps}: {counted} forwards, not {forwards}")
            require(0 <= error <= ROUNDING, f"{label}, t = {steps}: its gradient is off by {error}")
        dots[steps] = {
            "membptt": [_dot(file, f"membptt m={m}", PLAIN) for m in SLOTS],
            "equinox": [_dot(file, f"equinox m={m}", SCAN) for m in SLOTS],
            TORCH: [_dot(file, TORCH, PLAIN)],
        }
        for kind, percent in BYTES[steps].items():
            actual = tuple(round(100 * dot.memory, 1) for dot in dots[steps][kind])
            require(actual == percent, f"{kind}, t = {steps}: {actual} % of the plain loop's bytes, not {percent}")
    for m in SLOTS:
        peaks = {file["methods"][f"membptt m={m}"]["peak_bytes"] for file in files.values()}
        require(len(peaks) == 1, f"m = {m}: the bytes grow with the length: {sorted(peaks)}")
    where = f"GRU cell 64, batch 16; {one_device(list(files.values()))} (load {_load(files)})"
    return Measured(where, dots, {steps: _dot(file, SCAN, PLAIN).time for steps, file in files.items()})


def draw(excess: Excess) -> Figure:
    """Draw one panel a number of slots, and below one a length that was measured."""
    figure = Figure(figsize=(PAGE, 5.4), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False)[:, 0]
    axes = list(upper.subplots(1, len(SLOTS), sharey=True))
    for ax, m in zip(axes, SLOTS, strict=True):
        _draw_slots(ax, m, excess)
    axes[0].set_ylabel("forwards beyond HSM's [%]")
    handles, labels = axes[0].get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    below = list(lower.subplots(1, len(MEASURED), sharey=True))
    for ax, steps in zip(below, MEASURED, strict=True):
        _draw_measured(ax, steps, excess.measured)
    below[0].set_ylabel("time / the plain loop's")
    known = [Line2D([], [], label=label, **{**look.points(), **look.curve()}) for label, look in LOOKS.values()]
    title = f"measured: {excess.measured.where}"
    lower.legend(handles=known, loc="outside lower center", ncols=len(known), **told_below(title, figure))
    label_panels([*axes, *below])
    return figure


def _dot(file: dict[str, Any], label: str, plain: str) -> Dot:
    rounds = [(times[label], times[plain]) for times in file["rounds"]]
    require(all(seconds > 0 for pair in rounds for seconds in pair), f"{label}: a time is none")
    bytes_of = {each: file["methods"][each]["peak_bytes"] for each in (label, plain)}
    require(all(size > 0 for size in bytes_of.values()), f"{label}: no bytes")
    return Dot(bytes_of[label] / bytes_of[plain], ratio(rounds))


def _load(files: dict[int, dict[str, Any]]) -> str:
    return f"{max(float(file['load']) for file in files.values()):.0f}"


def _largest(forwards: list[int], offline: list[int], lengths: list[int]) -> list[float]:
    ranges = [range(first - 1, after - 1) for first, after in pairwise(lengths)]
    return [max(forwards[i] / offline[i] for i in each) for each in ranges]


def _worst(forwards: list[int], offline: list[int], first: int) -> tuple[int, int, int]:
    t = max(range(first, len(offline) + 1), key=lambda t: (Fraction(forwards[t - 1], offline[t - 1]), -t))
    return forwards[t - 1], offline[t - 1], t


def _check_ours(m: int, costs: dict[str, list[int]], offline: list[int]) -> None:
    ours = costs["for_every_t"]
    require(all(a <= 2 * b for a, b in zip(costs["equinox"][: 2 * m + 2], offline, strict=False)), f"equinox, m = {m}")
    free = (m + 1) * (m + 2) // 2
    require(ours[:free] == offline[:free], f"m = {m}: a forward is wasted up to t = {free}")
    promised = promise(m)
    for t, (forwards, optimum) in enumerate(zip(ours, offline, strict=True), start=1):
        require(forwards < costs["equinox"][t - 1], f"m = {m}, t = {t}: {forwards} forwards, not below equinox")
        require(forwards <= promised * optimum, f"m = {m}, t = {t}: {forwards} forwards, beyond the promise")
    least = 1 + Fraction(1, 2 * m + 7)
    for name in ("greedy", "wang_moin_iaccarino"):
        above = any(costs[name][t - 1] >= least * offline[t - 1] for t in range(m + 1, m + 4))
        require(above, f"{name}, m = {m}: below the bound of policies that decide at once")


def _draw_slots(ax: Axes, m: int, excess: Excess) -> None:
    for look, name in zip(SERIES, NAMES, strict=False):
        percent = [100 * (ratio - 1) for ratio in excess.ratios[m][name]]
        ax.plot(excess.lengths[:-1], percent, drawstyle="steps-post", label=NAMES[name], **look.curve())
    ax.axhline(100 / (2 * m + 7), color=GREY, linewidth=0.8, zorder=0, label="$1/(2m+7)$: who decides at once")
    ax.axvline((m + 1) * (m + 2) / 2, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    side = "left" if m < max(SLOTS) else "right"
    ax.text((m + 1) * (m + 2) / 2, 700, " $(m+1)(m+2)/2$ ", fontsize=6.5, va="top", ha=side)
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=0.1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(xlabel="length of the loop $t$ [steps]", xlim=(1, STEPS), ylim=(-0.01, 1000))
    ax.set_title(f"{m} slots", loc="left")


def _draw_measured(ax: Axes, steps: int, measured: Measured) -> None:
    ax.plot(1, 1, marker="o", color=GREY, markersize=4, linestyle="none")
    ax.annotate("plain", (1, 1), xytext=(-5, 2), textcoords="offset points", fontsize=6, ha="right", color=GREY)
    for kind, (_, look) in LOOKS.items():
        dots = measured.dots[steps][kind]
        ax.plot([dot.memory for dot in dots], [dot.time for dot in dots], **{**look.points(), **look.curve()})
        for m, dot in zip(SLOTS, dots, strict=False):
            if kind != TORCH:
                where = dot.memory, dot.time
                ax.annotate(str(m), where, xytext=(5, 2), textcoords="offset points", fontsize=6, color=look.color)
    note = f"lax.scan: {measured.scan[steps]:.2f} of the time of torch's plain loop"
    ax.text(0.02, 0.03, note, transform=ax.transAxes, fontsize=6)
    ax.set(xscale="log", xlabel="activation memory / the plain loop's", ylim=(0, None))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_title(f"measured, {steps:,} steps; numbers: slots", loc="left")
