"""Figure 14: when is it half? Memory at Chen's cost over Chen's memory, against length and against beta."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from membptt_theory.derive import msm_plus
from membptt_theory.derive.chen_memory import last_at_most_half, memory_at_chens_cost
from membptt_theory.derive.reach import least_slots
from membptt_theory.palette import BLACK, GREY
from membptt_theory.tables import build
from paper_figs.evidence import require
from paper_figs.style import PAGE, SERIES, label_panels, panels

CLAIM: Final = (
    "At Chen's cost, two forwards a step, MSM (10) with alpha = beta + 1 needs 63, 98, 107 and 137 slots at t = 1000 "
    "(beta = 2, 5, 6, 10), by the tables and by the closed form alike. Over Chen's sqrt(t) (1 + beta) that tends to "
    "sqrt(2 beta) / (1 + beta): half or less for good from beta = 6 on, and up to t = 5, 8, 17, 52 and 267 only for "
    "beta = 1 .. 5. Over Chen's own best segment it tends to 1/sqrt(2) whatever beta is, and at Chen's cost to the "
    "last forward to sqrt(3)/2 at most. No legal schedule with shared storage needs less. With separate storage what "
    "every legal schedule needs tends to sqrt(2 alpha t) slots, sqrt(2 / alpha) of Chen's sqrt(t) alpha: 75 and 106 "
    "slots at t = 1000, alpha = 3 and 6, by the tables of MSM+ and by the closed form alike; half or less from alpha = "
    "8 on."
)
SAYS: Final = (
    "'About half the memory' is true of cells whose internal state is at least six hidden states large, against Chen's "
    "formula at segments of sqrt(t). A Chen who chooses his segment length well is beaten by 29 %, and by 13 % or a "
    "little more if he is not charged for recomputing his last segment."
)
DOES_NOT_SAY: Final = (
    "anything about other costs than two forwards a step. That no legal schedule needs less is proved formally, for "
    "shared and for separate storage; where an internal state may give up its input it is searched at small t only. "
    "Limits are drawn as lines; a point at t = 1000 may lie on either side of its limit."
)
STEPS: Final = 1000
TARGETS: Final = {2: 63, 5: 98, 6: 107, 10: 137}  # beta: slots at t = 1000
LAST_HALF: Final = {1: 5, 2: 8, 3: 17, 4: 52, 5: 267, 6: None, 10: None}
LARGEST: Final = 10**9
BETAS: Final = range(1, 31)
CHENS: Final = ("formula", "best", "last", "separate")
SEPARATE_TARGETS: Final = {3: 75, 6: 106}  # alpha: slots of MSM+ at t = 1000


@dataclass(frozen=True)
class Half:
    """Both panels.

    Args:
        tables: for each beta of `TARGETS`, the fewest slots at two forwards a step for ``t = 1 .. STEPS``.
        beyond: lengths beyond the tables.
        closed: for each beta, the fewest slots there, by the closed form.
        ratios: for each of `CHENS` and beta of `BETAS`, memory over Chen's at ``t = STEPS``: over his formula, over
            his best segment, and over that at his cost to the last forward; and of every legal schedule with separate
            storage, alpha = beta + 1, over his formula.
    """

    tables: dict[int, list[int]]
    beyond: list[int]
    closed: dict[int, list[int]]
    ratios: dict[str, list[float]]


def data() -> Half:
    """Read the tables, compare them with the closed form, and follow that to its limit.

    Raises:
        FigureClaimError: the claim is false.
    """
    for beta, stated in LAST_HALF.items():
        last = last_at_most_half(beta)
        require(last == stated, f"beta = {beta}: the last t at half or less is {last}, not {stated}")
    tables = {beta: _from_table(beta, target) for beta, target in TARGETS.items()}
    beyond = sorted({round(STEPS * 10 ** (k / 40)) for k in range(241)})
    closed = {beta: [least_slots(t, beta) for t in beyond] for beta in TARGETS}
    for beta, slots in closed.items():
        off = slots[-1] / _formula(LARGEST, beta) - limit(beta)
        require(abs(off) < 1e-4, f"beta = {beta}: at t = {LARGEST} the ratio is {off:.1e} off its limit")
    _check_constants()
    each_beta = [memory_at_chens_cost(STEPS, beta) for beta in BETAS]
    ratios = {
        "formula": [each.ratio for each in each_beta],
        "best": [each.msm / each.best for each in each_beta],
        "last": [each.msm_as_best / each.best for each in each_beta],
        "separate": [msm_plus.least_slots(STEPS, beta + 1) / _formula(STEPS, beta) for beta in BETAS],
    }
    return Half(tables, beyond, closed, ratios)


def limit(beta: float) -> float:
    """Return ``sqrt(2 beta) / (1 + beta)``, what MSM's memory over Chen's formula tends to."""
    return sqrt(2 * beta) / (1 + beta)


def separate_limit(beta: float) -> float:
    """Return ``sqrt(2 / alpha)``, alpha = beta + 1: every legal schedule's memory over Chen's, separate storage."""
    return sqrt(2 / (1 + beta))


def draw(half: Half) -> Figure:
    """Draw the ratio against length, then against beta."""
    figure, (left, right) = panels(2, width=PAGE, height=3.3, sharey=True)
    _draw_lengths(left, half)
    _draw_betas(right, half)
    label_panels([left, right])
    return figure


def _formula(steps: int, beta: int) -> float:
    return sqrt(steps) * (1 + beta)


def _from_table(beta: int, target: int) -> list[int]:
    table = build("msm", STEPS, target, internal=beta + 1, internal_known=beta)
    enough = table.costs[0, 1:, 1:] <= 2 * np.arange(1, STEPS + 1)
    slots = [int(first) + 1 for first in np.argmax(enough, axis=0)]
    require(bool(enough.any(axis=0).all()) and slots[-1] == target, f"beta = {beta}: {target} slots are not the fewest")
    for t, m in enumerate(slots, start=1):
        require(m == least_slots(t, beta), f"beta = {beta}, t = {t}: the table needs {m} slots, the closed form not")
    return slots


def _check_constants() -> None:
    for alpha, target in SEPARATE_TARGETS.items():
        table = build("msm_plus", STEPS, target, internal=alpha)
        fewest = [table.cost(STEPS, m) <= 2 * STEPS for m in range(1, target + 1)].index(True) + 1
        closed = msm_plus.least_slots(STEPS, alpha)
        require(
            fewest == closed == target, f"alpha = {alpha}: the table needs {fewest} slots, the closed form {closed}"
        )
    beyond = [msm_plus.least_slots(LARGEST, beta + 1) / _formula(LARGEST, beta) for beta in BETAS]
    off = max(abs(ratio - separate_limit(beta)) for ratio, beta in zip(beyond, BETAS, strict=True))
    require(off < 1e-3, f"separate storage at t = {LARGEST}: {off:.1e} off its limit")
    half = [beta + 1 for beta in BETAS if separate_limit(beta) <= 0.5]
    require(
        half == list(range(8, BETAS.stop + 1)), f"with separate storage the limit is at most half at alpha = {half}"
    )
    half = [beta for beta in BETAS if limit(beta) <= 0.5]
    require(half == list(range(6, BETAS.stop)), f"the limit is at most half at beta = {half}")
    for beta in TARGETS:
        memory = memory_at_chens_cost(10**6, beta)
        ratio = memory.msm / memory.best
        require(abs(ratio - sqrt(0.5)) < 1e-3, f"beta = {beta}: {ratio:.4f} of Chen's best segment, not 1/sqrt(2)")
        ratio = memory.msm_as_best / memory.best
        require(0.8 < ratio < sqrt(0.75) + 3e-3, f"beta = {beta}: {ratio:.4f} at his cost, above sqrt(3)/2")


def _draw_lengths(ax: Axes, curves: Half) -> None:
    t = np.arange(1, STEPS + 1)
    for look, beta in zip(SERIES, curves.tables, strict=False):
        exact = np.array(curves.tables[beta]) / (np.sqrt(t) * (1 + beta))
        ax.plot(t[9:], exact[9:], label=f"$\\beta = {beta}$", **look.curve())
        beyond = [m / _formula(n, beta) for n, m in zip(curves.beyond, curves.closed[beta], strict=True)]
        ax.plot(curves.beyond[::8], beyond[::8], markerfacecolor="white", **look.points())
        ax.plot(3 * LARGEST, limit(beta), marker="_", color=look.color, markersize=12, markeredgewidth=1.6)
    last = LAST_HALF[5] or 1
    ax.plot(last, least_slots(last, 5) / _formula(last, 5), "x", color=BLACK, markersize=5, zorder=5)
    ax.text(4e3, 0.447, f"x  last at half: $t = {last}$, $\\beta = 5$", va="center", fontsize=7)
    ax.text(3 * LARGEST, 0.715, "limit", ha="center", fontsize=7)
    ax.axhline(0.5, color=GREY, zorder=0)
    ax.set_xscale("log")
    ax.set(xlabel="sequence length $t$ [steps]", xlim=(10, 2e10), ylim=(0, 0.95))
    ax.set_ylabel(r"MSM's slots / Chen's, 2 forwards per step")
    ax.set_title(r"over Chen's √$t\,(1+\beta)$", loc="left")
    handles, labels = ax.get_legend_handles_labels()
    handles.append(Line2D([], [], color=BLACK, linestyle="none", marker="o", markerfacecolor="white", markersize=3.6))
    ax.legend(handles, [*labels, "beyond the tables:\nclosed form"], loc="upper right", ncols=2, columnspacing=1)


def _draw_betas(ax: Axes, half: Half) -> None:
    beta = np.array(BETAS)
    limits = {
        "formula": [limit(each) for each in BETAS],
        "best": [sqrt(0.5)] * 30,
        "last": [sqrt(0.75)] * 30,
        "separate": [separate_limit(each) for each in BETAS],
    }
    words = {
        "formula": r"over √$t\,(1+\beta)$; √$(2\beta)\,/\,(1+\beta)$",
        "best": "over his best segment; 1/√2",
        "last": "and at his cost to the last forward; √3/2",
        "separate": r"separate storage, any schedule; √$(2/(1+\beta))$",
    }
    for look, name in zip(SERIES, CHENS, strict=False):
        ax.plot(beta, limits[name], **look.curve())
        ax.plot(beta, half.ratios[name], markerfacecolor="white", **look.points())
    ax.axhline(0.5, color=GREY, zorder=0)
    ax.plot([6, 6], [0.29, 0.95], color=GREY, linewidth=0.8, zorder=0)
    ax.annotate("half from $\\beta = 6$", (6, 0.5), (5, 4), textcoords="offset points", va="bottom", fontsize=7)
    handles = [
        Line2D([], [], label=words[name], markerfacecolor="white", **{**look.points(), **look.curve()})
        for look, name in zip(SERIES, CHENS, strict=False)
    ]
    ax.set_title(f"lines: limits; points: closed form, $t = {STEPS}$", loc="left")
    ax.set(xlabel=r"internal state $\beta$ [hidden states]", xlim=(0, BETAS.stop))
    ax.legend(handles=handles, loc="lower left")
