"""Figures 2b and 5b share their form: measured time of one gradient against length, on the cost model's prediction."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from membptt_theory.palette import GREY, SKY
from membptt_theory.policy import PolicyTable
from paper_figs.evidence import executed, load_measured, reading, require
from paper_figs.style import COLUMN, SERIES, Line, label_panels, told_below

Array = np.ndarray[Any, np.dtype[np.float64]]
LOOKS: Final = (*SERIES, Line(SKY, (0, (3, 3)), "P"))
# Measured time over predicted time: the range that was measured.
WITHIN: Final = {"hsm": (0.99, 1.21), "ism": (0.98, 1.3)}
SLACK: Final = 1.03  # a larger budget may take so much of the next smaller one's time: some cost almost the same
PLAIN: Final = 0  # the budget under which standard BPTT is filed


@dataclass(frozen=True)
class Overlay:
    """Medians over the rounds, by budget `m`; `PLAIN` is standard BPTT.

    Args:
        policy: ``"hsm"`` or ``"ism"``.
        where: device and sizes, in words.
        lengths: measured ``t``.
        seconds: measured time of one gradient.
        predicted: time by the cost model at ``t = 1 .. max(lengths)``, seconds.
        ratio: measured time over predicted time, both of the same round.
        slowdown: measured time over standard BPTT's, both of the same round.
    """

    policy: str
    where: str
    lengths: Array
    seconds: dict[int, Array]
    predicted: dict[int, Array]
    ratio: dict[int, Array]
    slowdown: dict[int, Array]


def claim(policy: str, state: str, /) -> str:
    """Return what `overlay` checks, in words, of a policy that stores one kind of state."""
    least, most = WITHIN[policy.lower()]
    return (
        f"Measured: scan with {policy} evaluates the step exactly as often as the table says, and one gradient takes "
        f"{least} to {most} times the time that the cost model predicts from the times of a bare forward and "
        f"backward; so does standard BPTT. At the longest sequence no larger budget of {state} states takes more than "
        f"{SLACK} of the next smaller one's time, and standard BPTT is the fastest."
    )


def overlay(name: str, policy: str, /) -> Overlay:
    """Reduce the measured rounds and check what both figures claim.

    Args:
        name: the figure whose measured file is read.
        policy: ``"hsm"`` or ``"ism"``.

    Raises:
        DataMissingError: nothing is measured yet.
        FigureClaimError: another table was executed, the forwards are not its costs, a time is outside `WITHIN`,
            or at the longest sequence a larger budget is slower than `SLACK` allows or standard BPTT not the fastest.
    """
    with reading(name):
        return _checked(name, policy, load_measured(name))


def draw_overlay(times: Overlay) -> Figure:
    """Draw times on their predictions above, and the ratio of both below."""
    figure = Figure(figsize=(COLUMN, 4.1), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    handles = []
    for look, (m, seconds) in zip(LOOKS[: len(times.seconds)], times.seconds.items(), strict=True):
        hollow = {"markerfacecolor": "white", **look.points()}
        t = np.arange(1, len(times.predicted[m]) + 1)
        above.plot(t, 1e3 * times.predicted[m], **look.curve())
        above.plot(times.lengths, 1e3 * seconds, **hollow)
        below.plot(times.lengths, times.ratio[m], **{**hollow, **look.curve(), "linewidth": 0.7})
        label = "standard BPTT" if m == PLAIN else f"$m = {m}$"
        handles.append(Line2D([], [], label=label, **{**hollow, **look.curve()}))
    below.axhline(1, color=GREY, zorder=0)
    below.margins(y=0.12)
    above.set_title(f"time of one gradient, {times.policy.upper()}", loc="left")
    below.set_title("measured over predicted", loc="left")
    label_panels([above, below])
    above.set_ylabel("time [ms]")
    above.set_ylim(0, None)
    below.set(xlabel="sequence length $t$ [steps]", ylabel="ratio", xlim=(0, 1.03 * times.lengths[-1]))
    note = "lines: predicted\nmarkers: measured"
    above.text(0.03, 0.95, note, transform=above.transAxes, va="top", fontsize=7)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **told_below(times.where, figure))
    return figure


def _checked(name: str, policy: str, raw: dict[str, Any]) -> Overlay:
    require(raw["policy"] == policy, f"{name}: the data is of policy {raw['policy']!r}, not {policy!r}")
    named = raw["table"]
    table = executed(name, named["digest"], policy, named["steps"], named["slots"])
    require(len(raw["rounds"]) == raw["repeats"] > 0, f"{name}: {len(raw['rounds'])} rounds, not {raw['repeats']}")
    for m in raw["slots"]:
        costs = [table.cost(t, m) for t in raw["lengths"]]
        counted = raw["forwards"][str(m)]
        require(counted == costs, f"{name}: m = {m} took {counted} forwards, the table says {costs}")
    times = _reduce(raw, table)
    for m, ratio in times.ratio.items():
        low, high = float(ratio.min()), float(ratio.max())
        least, most = WITHIN[policy]
        inside = least <= low and high <= most
        require(inside, f"{name}: m = {m} takes {low:.2f} to {high:.2f} of the predicted time, not {least} to {most}")
    longest = [float(slowdown[-1]) for slowdown in times.slowdown.values()]
    budgets = longest[1:]
    ordered = all(larger <= SLACK * smaller for smaller, larger in pairwise(budgets)) and budgets[-1] < budgets[0]
    require(
        ordered and longest[0] < min(budgets),
        f"{name}: at the longest sequence the budgets take {longest} of standard BPTT's time, out of order",
    )
    return times


def _reduce(raw: dict[str, Any], table: PolicyTable) -> Overlay:
    lengths = np.array(raw["lengths"])
    budgets = (PLAIN, *raw["slots"])
    measured = {
        m: np.array([entry["plain"] if m == PLAIN else entry["scan"][str(m)] for entry in raw["rounds"]])
        for m in budgets
    }
    operations = [entry["operations"] for entry in raw["rounds"]]
    model = {m: np.array([_predict(table, each, m) for each in operations]) for m in budgets}
    sizes = f"LSTM {raw['hidden']}, batch {raw['batch']}, {raw['dtype']}"
    return Overlay(
        policy=raw["policy"],
        where=f"{sizes}\n{raw['cpu']}, {raw['threads']} thread; median of {raw['repeats']}",
        lengths=lengths,
        seconds={m: np.median(each, axis=0) for m, each in measured.items()},
        predicted={m: np.median(each, axis=0) for m, each in model.items()},
        ratio={m: np.median(measured[m] / model[m][:, lengths - 1], axis=0) for m in budgets},
        slowdown={m: np.median(measured[m] / measured[PLAIN], axis=0) for m in budgets},
    )


def _predict(table: PolicyTable, operations: dict[str, float], slots: int) -> Array:
    """Return ``(C - t) advance + t (recorded + backward)`` for every ``t``: every policy records each step once."""
    t = np.arange(1, table.steps + 1)
    again = np.zeros(len(t)) if slots == PLAIN else np.array([table.cost(int(n), slots) for n in t]) - t
    return again * operations["advance"] + t * (operations["taped"] + operations["backward"])
