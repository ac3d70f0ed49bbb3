"""Figure 7: MSM against Chen's sqrt(t) strategy: memory at Chen's cost, cost at Chen's memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from membptt_theory.palette import GREY
from membptt_theory.tables import build
from paper_figs.evidence import require
from paper_figs.style import PAGE, SERIES, label_panels, panels

CLAIM: Final = (
    "Chen's sqrt(t) strategy takes two forwards per step in sqrt(t) (1 + beta) hidden states. At that "
    "cost MSM (10) needs 0.664, 0.517 and 0.394 of that memory at t = 1000 (beta = 2, 5, 10; alpha = beta + 1), "
    "and never more than 0.67, 0.52, 0.40 up to there. At that memory it never takes more than two forwards "
    "per step."
)
SAYS: Final = (
    "At Chen's cost the mixed policy needs between 0.39 and 0.66 of Chen's memory at t = 1000, less the larger "
    "internal states are; at Chen's memory it takes 1.97 instead of 2 forwards a step. These are limits of every legal "
    "schedule that counts each tensor once, not of this policy alone: Coq proves (10) optimal there."
)
DOES_NOT_SAY: Final = (
    "that half is always saved: at beta = 2 it never is (figure 14 says when), and the comparison is with Chen's "
    "own formula, not with his best segment length."
)
STEPS: Final = 1000
CHEN_COST: Final = 2  # forwards per step
TARGETS: Final = {2: 0.664, 5: 0.517, 10: 0.394}  # beta: memory over Chen's at t = 1000
NEVER_ABOVE: Final = {2: 0.67, 5: 0.52, 10: 0.40}


@dataclass(frozen=True)
class Curve:
    """One value of beta, for ``t = 1 .. STEPS``.

    Args:
        beta: slots of an internal state whose input hidden state is stored.
        slots: least ``m`` with ``C(t, m) <= 2 t``.
        ratio: `slots` over ``sqrt(t) (1 + beta)``.
        costs: ``C`` in ``floor(sqrt(t) (1 + beta))`` slots, forwards.
    """

    beta: int
    slots: np.ndarray
    ratio: np.ndarray
    costs: np.ndarray


def data() -> list[Curve]:
    """Read slots and costs from one MSM table for each beta.

    Raises:
        FigureClaimError: the claim is false.
    """
    curves = []
    t = np.arange(1, STEPS + 1)
    for beta, target in TARGETS.items():
        chen = [isqrt(steps * (1 + beta) ** 2) for steps in range(1, STEPS + 1)]
        table = build("msm", STEPS, chen[-1], internal=beta + 1, internal_known=beta)
        enough = table.costs[0] <= CHEN_COST * np.arange(STEPS + 1)
        require(
            bool(enough[:, 1:].any(axis=0).all()), f"beta = {beta}: MSM needs more memory than Chen at the same cost"
        )
        slots = np.argmax(enough, axis=0)[1:]
        costs = np.array([table.cost(steps, room) for steps, room in enumerate(chen, start=1)])
        curve = Curve(beta, slots, slots / (np.sqrt(t) * (1 + beta)), costs)
        require(round(curve.ratio[-1], 3) == target, f"beta = {beta}: the ratio is {curve.ratio[-1]:.4f}, not {target}")
        require(
            bool((curve.ratio <= NEVER_ABOVE[beta]).all()), f"beta = {beta}: the ratio reaches {curve.ratio.max():.4f}"
        )
        require(bool((costs <= CHEN_COST * t).all()), f"beta = {beta}: MSM costs more than Chen at the same memory")
        curves.append(curve)
    return curves


def draw(curves: list[Curve]) -> Figure:
    """Draw both comparisons."""
    figure, (left, right) = panels(2, width=PAGE, height=2.6)
    t = np.arange(1, STEPS + 1)
    for look, curve in zip(SERIES, curves, strict=False):
        left.plot(t, curve.ratio, label=f"$\\beta = {curve.beta}$", **look.curve())
        right.plot(t, curve.costs / t, label=f"$\\beta = {curve.beta}$", **look.curve())
    left.axhline(1, color=GREY)
    right.axhline(CHEN_COST, color=GREY, label="Chen's √$t$")
    left.set_title(f"memory at {CHEN_COST} forwards per step", loc="left")
    left.set(ylabel=r"MSM slots / Chen's √$t\,(1+\beta)$", ylim=(0, 1.05))
    right.set_title(r"cost in √$t\,(1+\beta)$ slots", loc="left")
    right.set(ylabel="forwards per step", ylim=(1.5, 2.05))
    right.text(0.5, 0.7, r"the three $\beta$ nearly coincide", transform=right.transAxes, ha="center", fontsize=7)
    for ax in (left, right):
        ax.set(xlabel="sequence length $t$ [steps]", xlim=(0, STEPS))
    label_panels([left, right])
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
