"""Figures 2a and 5a share their form: forwards per step against the length of the sequence, one curve a budget."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from membptt_theory.tables import build, optimal_cost
from paper_figs.evidence import require
from paper_figs.style import SERIES, panels

STEPS: Final = 1000
SLOTS: Final = (10, 50, 100, 500, 1000)


@dataclass(frozen=True)
class Curves:
    """Costs of one policy.

    Args:
        policy: ``"hsm"`` or ``"ism"``.
        digest: of the table they come from.
        costs: for each ``m``, ``C(t, m)`` in forwards for ``t = 1 .. STEPS``, exact integers.
    """

    policy: str
    digest: str
    costs: dict[int, np.ndarray]


def curves(policy: str, targets: dict[int, int]) -> Curves:
    """Read the curves from the policy's table and check what both figures claim.

    Args:
        policy: ``"hsm"`` or ``"ism"``.
        targets: for each ``m``, the published ``C(STEPS, m)`` in forwards.

    Raises:
        FigureClaimError: a target, the closed form, or monotony in ``t`` or ``m`` fails.
    """
    table = build(policy, STEPS, max(SLOTS))
    costs = {m: np.array([table.cost(t, m) for t in range(1, STEPS + 1)], dtype=object) for m in SLOTS}
    for m, target in targets.items():
        require(costs[m][-1] == target, f"{policy}: C({STEPS}, {m}) is {costs[m][-1]}, the target is {target}")
    for m, cost in costs.items():
        for t in range(1, STEPS + 1):
            require(cost[t - 1] == optimal_cost(policy, t, m), f"{policy}: C({t}, {m}) is not its closed form")
            # C(t) / t <= C(t+1) / (t+1), in integers
            require(
                t == STEPS or cost[t - 1] * (t + 1) <= cost[t] * t, f"{policy}: forwards per step fall after {t=}, {m=}"
            )
    for few, many in pairwise(SLOTS):
        require(bool((costs[many] <= costs[few]).all()), f"{policy}: {many} slots cost more than {few}")
    return Curves(policy, table.digest, costs)


def draw_curves(costs: Curves, title: str) -> Figure:
    """Draw one curve a budget."""
    figure, (ax,) = panels(height=2.75)
    t = np.arange(1, STEPS + 1)
    for look, (m, cost) in zip(SERIES, costs.costs.items(), strict=True):
        ax.plot(t, (cost / t).astype(float), label=f"$m={m}$", **look.curve())
    ax.set(xlabel="sequence length $t$ [steps]", ylabel="forwards per step $C(t, m)/t$", xlim=(0, STEPS))
    ax.set_ylim(0.9, None)
    ax.set_title(title, loc="left")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
