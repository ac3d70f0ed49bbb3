"""Figure 15: loops whose length nobody knows: forwards beyond the optimum of those who know it, against length."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from membptt_theory.machine import meter
from membptt_theory.online import POLICIES, SIZES, promise, schedule
from membptt_theory.palette import GREY
from membptt_theory.tables import optimal_cost
from paper_figs.evidence import require
from paper_figs.style import PAGE, SERIES, label_panels, panels

CLAIM: Final = (
    "Of all lengths up to 10,000 the default takes at worst 2.9, 2.1 and 0.03 % more forwards than HSM, which knows "
    "the length (5, 10 and 50 slots), greedy 10, 6.7 and 3.2 %, Wang, Moin and Iaccarino's rule 20, 25 and 31 %, "
    "equinox's loop 400, 43 and 78 % beyond 2 (m + 1) steps and up to twice HSM's before. The default wastes nothing "
    "up to binom(m+2, 2) steps and is below equinox at every length; greedy and Wang, Moin and Iaccarino's rule, "
    "which decide at once, are somewhere from m + 1 to m + 3 steps at 1 + 1/(2m+7) or above, as all such policies are."
)
SAYS: Final = (
    "Not knowing how long a loop will be costs two or three per cent of its forwards, and nothing at all while it is "
    "short. To decide about a state one step late is what makes the difference at lengths of a few times m."
)
DOES_NOT_SAY: Final = (
    "anything about time: forwards are counted. Greedy and Wang, Moin and Iaccarino's rule are given our end, gaps by "
    "HSM and a newest step that is never run twice; equinox is counted as its program runs. The grey line bounds only "
    "policies that decide at once, run nothing again before the end and complete gap by gap. A point of a curve is the "
    "worst of its lengths, 24 ranges to a factor of ten."
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


@dataclass(frozen=True)
class Excess:
    """All panels.

    Args:
        lengths: the first of each range of lengths that is one point, and the end of the last.
        ratios: of each number of slots and each policy, the largest of forwards over HSM's in each range.
    """

    lengths: list[int]
    ratios: dict[int, dict[str, list[float]]]


def data() -> Excess:
    """Count every length, and execute some of the streams on paper.

    Raises:
        FigureClaimError: the claim is false.
    """
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
    return Excess(lengths, ratios)


def draw(excess: Excess) -> Figure:
    """Draw one panel a number of slots."""
    figure, axes = panels(len(SLOTS), width=PAGE, height=2.7, sharey=True)
    for ax, m in zip(axes, SLOTS, strict=True):
        _draw_slots(ax, m, excess)
    axes[0].set_ylabel("forwards beyond HSM's [%]")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    label_panels(axes)
    return figure


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
    for t, (cost, optimum) in enumerate(zip(ours, offline, strict=True), start=1):
        require(cost < costs["equinox"][t - 1], f"m = {m}, t = {t}: {cost} forwards, not below equinox")
        require(cost <= promised * optimum, f"m = {m}, t = {t}: {cost} forwards, beyond the promise")
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
    ax.text((m + 1) * (m + 2) / 2, 700, r" $\binom{m+2}{2}$", fontsize=7, va="top")
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=0.1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(xlabel="length of the loop $t$ [steps]", xlim=(1, STEPS), ylim=(-0.01, 1000))
    ax.set_title(f"{m} slots", loc="left")
