"""Checks against what others have proved or published: the same optimum, or where theirs lies beside ours."""

from __future__ import annotations

from membptt_proofs import dp
from membptt_proofs.checks.registry import Covered, Effort, check, need
from membptt_proofs.checks.tiers import PRICES
from membptt_proofs.search import Rules, fewest_forwards
from membptt_theory.tables import build, optimal_cost
from membptt_theory.tiers import build_tiers


@check("mixed-optimal")
def mixed_optimal(effort: Effort) -> str:
    """Search every legal schedule of Maddison's model, without reductions."""
    steps, covered = effort.pick(4, 5), Covered()
    costs = dp.mixed(steps, steps)
    for t in covered.over("t", range(1, steps + 1)):
        for s in covered.every("s", range(min(1, t - 1), t + 1)):
            search = fewest_forwards(Rules(t, 1, 1, "mixed", s))
            need(search == costs[s][t], f"t={t}, s={s}: search {search}, recurrence {costs[s][t]}")
    return str(covered)


@check("mixed-between")
def mixed_between(effort: Effort) -> str:
    """Compare with internal states that hold their output, for nothing and for a slot of its own."""
    steps, slots, covered = effort.pick(40, 120), effort.pick(8, 20), Covered()
    costs, costlier = dp.mixed(steps, slots), build("msm_plus", steps, slots, internal=2)
    for t in covered.over("t", range(1, steps + 1)):
        for s in covered.over("s", range(1, slots + 1)):
            row = optimal_cost("ism", t, s + 1), costs[s][t], costlier.cost(t, s)
            need(row == tuple(sorted(row)), f"t={t}, s={s}: {row}")
    first = [optimal_cost("ism", 3, 2), costs[1][3], costs[1][2], costlier.cost(2, 1)]
    need(first == [4, 5, 2, 3], f"the first gaps are {first}")
    return str(covered)


@check("rotor-homogeneous")
def rotor_homogeneous(effort: Effort) -> str:
    """Compare rotor's recurrence on equal cores with (10)."""
    steps, slots, covered = effort.pick(30, 60), effort.pick(10, 20), Covered()
    for beta in covered.over("beta", range(1, 6)):
        table, naive = build("msm", steps, slots, internal=beta + 1, internal_known=beta), dp.rotor(steps, slots, beta)
        for m in covered.over("m", range(1, slots + 1)):
            for t in covered.over("t", range(1, steps + 1)):
                need(table.cost(t, m) == naive[m - 1][t], f"beta={beta}, t={t}, m={m}: rotor {naive[m - 1][t]}")
    return str(covered)


@check("tiers-periodic")
def tiers_periodic(effort: Effort) -> str:
    """Find the period of the two-tier cost with unbounded slow slots, and from where on it holds."""
    steps, covered, latest = effort.pick(150, 400), Covered(), 0
    for prices in covered.counted("prices", PRICES):
        table = build_tiers(steps, 6, None, prices)
        for f in covered.over("f", range(1, 7)):
            costs = [table.cost(t, f, None) for t in covered.over("t", range(1, steps + 1))]
            starts = {period: _start(costs, period) for period in range(1, f + 3)}
            start = min(starts.values())
            need(start <= 46, f"{prices}, f={f}: no period up to {f + 2} holds from t = 46 on: {starts}")
            latest = max(latest, start)
    return f"{covered}; from t = {latest} on at the latest"


def _start(costs: list[int], period: int) -> int:
    """Return the first ``t`` from which on ``C(t + period) - C(t)`` is constant."""
    growth = [after - before for before, after in zip(costs, costs[period:], strict=False)]
    return 1 + max((t for t, value in enumerate(growth, 1) if value != growth[-1]), default=0)
