"""Figure 13: how far from optimal each strategy is, and the two claims of the paper that are false."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from membptt_proofs.oracle import Storage, least_costs, least_forwards
from membptt_proofs.oracle_shared import detached_costs
from membptt_theory.actions import Sizes
from membptt_theory.chen import best_segment, recursive_cost, sqrt_cost
from membptt_theory.derive.ranges import check_range
from membptt_theory.palette import BLACK, GREY, VERMILLION
from membptt_theory.tables import build, optimal_cost
from paper_figs.evidence import require
from paper_figs.style import PAGE, POLICY, SERIES, label_panels

CLAIM: Final = (
    "An internal state takes 3 hidden states (alpha = 3; 2 where its input is stored, beta = 2). Searched over every "
    "legal schedule, t <= 9, every m: MSM+ is optimal; MSM (9) takes up to 1 forward more; MSM (10) is optimal where a "
    "stored internal state keeps its input, and takes up to 1 forward more where it need not; revolve (= HSM) is "
    "optimal among hidden states. At t = 60, m <= 80, nothing is below the reference, and MSM (9) is up to 4 % above "
    "it, MSM (10) 2 %, revolve 48 %, Chen's sqrt(t) 12 %, Chen's recursion 48 %. Refuted: msm-optimal by alpha = t = m "
    "= 2 (3 forwards, the search takes 2), the smallest, and by alpha = 3, t = 7, m = 4 (14 and 13); B3 first at t = "
    "80309, m = 28, and its ratio reaches 3.0498 at t = 99999, m = 29."
)
SAYS: Final = (
    "The paper's mixed policy is not optimal, but within a few per cent of it. What costs most is to store hidden "
    "states only (revolve, Chen's recursion); Chen's equal segments come close where they fit, and fall back between "
    "the budgets that suit them."
)
DOES_NOT_SAY: Final = (
    "that the reference at t = 60 was searched: it is the recurrence, drawn dashed, which Coq proves optimal for "
    "separate storage and for shared storage; where an internal state may give up its input it equals the search for "
    "t <= 9. Chen's sqrt(t) needs room that a small m does not have; there it has no point."
)
ALPHA: Final = 3
BETA: Final = ALPHA - 1
NEAR: Final = 9
FAR: Final = 60
ROOM: Final = {NEAR: ALPHA * NEAR, FAR: 80}  # largest m


@dataclass(frozen=True)
class Comparison:
    """One panel.

    Args:
        steps: ``t``.
        searched: whether the optimum is the exhaustive search's; else the recurrence's that equals it where tried.
        storage: ``"separate"``, equation (9), or ``"shared"``, each tensor counted once.
        optimum: forwards at ``m = 1 ..``.
        costs: forwards of each strategy; ``None`` where it does not fit.
    """

    steps: int
    searched: bool
    storage: str
    optimum: list[int]
    costs: dict[str, list[int | None]]

    def excess(self, name: str) -> list[float]:
        """Return how much more a strategy costs than the optimum, in per cent; NaN where it does not fit."""
        pairs = zip(self.costs[name], self.optimum, strict=True)
        return [nan if cost is None else 100 * (cost / best - 1) for cost, best in pairs]


@dataclass(frozen=True)
class Findings:
    """All panels.

    Args:
        comparisons: for each length, separate and shared storage.
        gaps: for each alpha, the ``(t, m)`` at which MSM (9) costs more than the search.
        ratio: for each ``m`` of `RATIO_SLOTS`, ``(C - t) / t^(1+1/m)`` at `RATIO_STEPS`.
    """

    comparisons: list[Comparison]
    gaps: dict[int, list[tuple[int, int]]]
    ratio: dict[int, list[float]]


# length, storage: how much more than the optimum each strategy costs at worst, per cent rounded down, and at which m
WORST: Final[dict[tuple[int, str], dict[str, tuple[int, int]]]] = {
    (NEAR, "separate"): {
        "msm": (11, 24),
        "msm_plus": (0, 1),
        "revolve": (88, 24),
        "sqrt": (55, 24),
        "recursive": (88, 24),
    },
    (NEAR, "shared"): {"msm": (9, 13), "revolve": (88, 17), "sqrt": (39, 15), "recursive": (88, 17)},
    (FAR, "separate"): {
        "msm": (4, 16),
        "msm_plus": (0, 1),
        "revolve": (37, 21),
        "sqrt": (7, 78),
        "recursive": (38, 21),
    },
    (FAR, "shared"): {"msm": (2, 23), "revolve": (48, 79), "sqrt": (12, 79), "recursive": (48, 79)},
}
# alpha, t, m: forwards of MSM (9), of the search
COUNTEREXAMPLES: Final = {(2, 2, 2): (3, 2), (3, 7, 4): (14, 13)}
B3_FIRST: Final = (80309, 28)
B3_LARGEST: Final = (99999, 29, 3.0498)
RATIO_SLOTS: Final = (28, 29)
RATIO_STEPS: Final = range(20_000, 100_000, 100)


def data() -> Findings:
    """Search, read the tables, and check what is refuted.

    Raises:
        FigureClaimError: the claim is false.
    """
    for (alpha, t, m), stated in COUNTEREXAMPLES.items():
        costs = build("msm", t, m, internal=alpha).cost(t, m), least_forwards(t, m, Sizes(1, alpha))
        require(
            costs == stated, f"alpha = {alpha}, t = {t}, m = {m}: MSM (9) and the search take {costs}, not {stated}"
        )
    comparisons = [_far("separate"), _far("shared"), _near("separate"), _near("shared")]
    for each in comparisons:
        _check_worst(each)
    gaps = {alpha: _gaps(alpha) for alpha in (2, ALPHA)}
    require(gaps[2][0] == (2, 2), f"the smallest counterexample at alpha = 2 is t, m = {gaps[2][0]}, not 2, 2")
    b3 = check_range(3, less=1)
    require(b3.first == B3_FIRST, f"B3 first fails at {b3.first}, not {B3_FIRST}")
    largest = (*b3.largest, float(b3.ratio))
    require(largest == B3_LARGEST, f"the ratio of B3 is largest at {largest}, not {B3_LARGEST}")
    ratio = {m: [_ratio(t, m) for t in RATIO_STEPS] for m in RATIO_SLOTS}
    return Findings(sorted(comparisons, key=lambda each: each.steps), gaps, ratio)


def draw(findings: Findings) -> Figure:
    """Draw the comparisons, the map of MSM's counterexamples, and B3's ratio."""
    figure = Figure(figsize=(PAGE, 7.2), layout="constrained")
    grid = figure.subplots(3, 2, height_ratios=(1, 1, 0.85))
    for ax, each in zip(grid[:2].flat, findings.comparisons, strict=True):
        _draw_comparison(ax, each)
    _draw_gaps(grid[2, 0], findings.gaps)
    _draw_ratio(grid[2, 1], findings.ratio)
    label_panels(list(grid.flat))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5)
    return figure


def _far(storage: str) -> Comparison:
    """Compare at a length that cannot be searched, with the recurrences that equal the search wherever it was tried."""
    slots = ROOM[FAR]
    if storage == "shared":
        optimum = [row[FAR] for row in detached_costs(FAR, slots, ALPHA)[1:]]
    else:
        table = build("msm_plus", FAR, slots, internal=ALPHA)
        optimum = [table.cost(FAR, m) for m in range(1, slots + 1)]
    return Comparison(FAR, False, storage, optimum, _strategies(FAR, storage))


def _near(storage: str) -> Comparison:
    """Compare with the exhaustive search, and what is claimed to be optimal with it at every shorter length too."""
    slots = range(1, ROOM[NEAR] + 1)
    known = BETA if storage == "shared" else None
    searches: tuple[tuple[Storage, str], ...] = (("separate", "msm_plus"),)
    if storage == "shared":
        searches = (("shared", "msm"), ("detached", ""))
    best: list[list[int]] = []
    for search, optimal in searches:
        best = [least_costs(NEAR, m, Sizes(1, ALPHA, known), storage=search) for m in slots]
        if optimal:
            table = build(optimal, NEAR, ROOM[NEAR], internal=ALPHA, internal_known=known)
            for m, costs in zip(slots, best, strict=True):
                told = [table.cost(t, m) for t in range(NEAR + 1)]
                require(told == costs, f"{optimal}, m = {m}: the table has {told}, the {search} search {costs}")
    printed = build("msm", NEAR, ROOM[NEAR], internal=ALPHA, internal_known=known)
    for m, costs in zip(slots, best, strict=True):
        excess = max(printed.cost(t, m) - costs[t] for t in range(NEAR + 1))
        require(excess in (0, 1), f"MSM, {storage}, m = {m}: {excess} forwards more than the search")
        if storage == "separate":
            hidden = least_forwards(NEAR, m, Sizes(1, None))
            require(optimal_cost("hsm", NEAR, m) == hidden, f"revolve, m = {m}: the search takes {hidden}")
    return Comparison(NEAR, True, storage, [costs[NEAR] for costs in best], _strategies(NEAR, storage))


def _strategies(steps: int, storage: str) -> dict[str, list[int | None]]:
    slots = range(1, ROOM[steps] + 1)
    known = BETA if storage == "shared" else None
    sizes = Sizes(1, ALPHA, known)
    msm = build("msm", steps, ROOM[steps], internal=ALPHA, internal_known=known)
    costs: dict[str, list[int | None]] = {"msm": [msm.cost(steps, m) for m in slots]}
    if storage == "separate":
        plus = build("msm_plus", steps, ROOM[steps], internal=ALPHA)
        costs["msm_plus"] = [plus.cost(steps, m) for m in slots]
    costs["revolve"] = [optimal_cost("hsm", steps, m) for m in slots]
    costs["sqrt"] = [_chen_sqrt(steps, m, sizes) for m in slots]
    costs["recursive"] = [_chen_recursive(steps, m) for m in slots]
    return costs


def _chen_sqrt(steps: int, slots: int, sizes: Sizes) -> int | None:
    segment = best_segment(steps, sizes, slots=slots)
    return None if segment is None else sqrt_cost(steps, segment, sizes).forwards


def _chen_recursive(steps: int, slots: int) -> int | None:
    costs = [recursive_cost(steps, parts) for parts in range(2, steps + 1)]
    return min((cost.forwards for cost in costs if cost.slots <= slots), default=None)


def _check_worst(comparison: Comparison) -> None:
    where = f"t = {comparison.steps}, {comparison.storage} storage"
    for name, costs in comparison.costs.items():
        below = [
            m for m, (cost, best) in enumerate(zip(costs, comparison.optimum, strict=True), 1) if cost and cost < best
        ]
        require(not below, f"{where}: {name} is below the optimum at m = {below}")
        worst, m = max((excess, -m) for m, excess in enumerate(comparison.excess(name), 1) if not isnan(excess))
        stated = WORST[comparison.steps, comparison.storage][name]
        require(
            (int(worst), -m) == stated, f"{where}: {name} is {worst:.2f} % above the optimum at m = {-m}, not {stated}"
        )


def _gaps(alpha: int) -> list[tuple[int, int]]:
    table = build("msm", NEAR, alpha * NEAR, internal=alpha)
    gaps = []
    for m in range(1, alpha * NEAR + 1):
        costs = least_costs(NEAR, m, Sizes(1, alpha))
        gaps += [(t, m) for t in range(1, NEAR + 1) if table.cost(t, m) > costs[t]]
    return sorted(gaps)


def _ratio(steps: int, slots: int) -> float:
    return float((optimal_cost("hsm", steps, slots) - steps) / steps ** (1 + 1 / slots))


LOOKS: Final = {
    "msm": ("MSM (9) / (10)", SERIES[0]),
    "msm_plus": ("MSM+", POLICY["msm_plus"]),
    "revolve": ("revolve = HSM", SERIES[1]),
    "sqrt": ("Chen √$t$", SERIES[2]),
    "recursive": ("Chen recursive", SERIES[4]),
}


def _draw_comparison(ax: Axes, each: Comparison) -> None:
    m = np.arange(1, len(each.optimum) + 1)
    for name in each.costs:
        label, look = LOOKS[name]
        size = 3.6 if each.searched else 2.4
        points: dict[str, Any] = {
            "markerfacecolor": "white",
            "markevery": 1 if each.searched else 6,
            "markersize": size,
        }
        ax.plot(m, each.excess(name), label=label, marker=look.marker, linewidth=0.9, **points, **look.curve())
    ax.axhline(0, color=GREY, linewidth=1.6, linestyle="-" if each.searched else (0, (3, 2)), zorder=0)
    storage = "separate storage, (9)" if each.storage == "separate" else "shared storage, (10)"
    ax.set_title(f"$t = {each.steps}$, {storage}", loc="left")
    ax.set(xlabel="slots $m$ [hidden states]", ylabel="cost above the optimum [%]", xlim=(0, len(m) + 1))
    ax.set_ylim(-4, 100 if each.searched else 68)
    words = "0: every schedule searched" if each.searched else "0: recurrence, not searched"
    ax.text(0.03, 0.97, words, transform=ax.transAxes, va="top", fontsize=7)


def _draw_gaps(ax: Axes, gaps: dict[int, list[tuple[int, int]]]) -> None:
    for (alpha, places), look in zip(gaps.items(), (SERIES[2], SERIES[0]), strict=True):
        lengths, slots = zip(*places, strict=True)
        fill = look.color if alpha == 2 else "none"
        ax.plot(
            slots,
            lengths,
            label=f"$\\alpha = {alpha}$",
            **{**look.points(), "markerfacecolor": fill, "markersize": 4.6},
        )
    words = ["ringed:"]
    for (alpha, t, m), (printed, search) in COUNTEREXAMPLES.items():
        ax.plot(m, t, "o", color=BLACK, markerfacecolor="none", markersize=9, markeredgewidth=0.9)
        words.append(f"$\\alpha = {alpha}$, $t = {t}$, $m = {m}$: {printed}, search {search}")
    ax.text(0.97, 0.04, "\n".join(words), transform=ax.transAxes, ha="right", fontsize=7)
    ax.set_title("where MSM (9) takes 1 forward more than the search", loc="left")
    ax.set(xlabel="slots $m$ [hidden states]", ylabel="sequence length $t$", xlim=(0, 28), ylim=(0.3, NEAR + 0.7))
    ax.legend(loc="lower right", bbox_to_anchor=(1, 0.32), handlelength=1)


def _draw_ratio(ax: Axes, ratio: dict[int, list[float]]) -> None:
    for (m, values), look in zip(ratio.items(), (SERIES[1], SERIES[0]), strict=True):
        ax.plot(RATIO_STEPS, values, label=f"$m = {m}$", **look.curve())
    ax.axhline(3, color=GREY, zorder=0)
    ax.text(RATIO_STEPS.start + 800, 3.005, "B3 says: below 3", va="bottom", fontsize=7)
    (t, m), (steps, slots, value) = B3_FIRST, B3_LARGEST
    point: dict[str, Any] = {
        "marker": "D",
        "color": VERMILLION,
        "markeredgecolor": BLACK,
        "markersize": 4.5,
        "zorder": 5,
    }
    ax.plot(t, _ratio(t, m), **point)
    ax.plot(steps, _ratio(steps, slots), clip_on=False, **point)
    ax.annotate(f"first\n$t = {t}$", (t, 3), (4, -5), textcoords="offset points", va="top", fontsize=7)
    ax.annotate(f"{value}", (steps, value), (-5, 2), textcoords="offset points", ha="right", va="bottom", fontsize=7)
    ax.set_title(r"HSM: $(C - t)\,/\,t^{\,1+1/m}$", loc="left")
    ax.set(xlabel="sequence length $t$ [steps]", ylabel="ratio", xlim=(RATIO_STEPS.start, RATIO_STEPS.stop))
    ax.set_xticks(range(20_000, 100_001, 20_000))
    ax.legend(loc="lower right")
