"""Checks of two-tier storage: the table against the naive recurrence, the exhaustive search and the machine."""

from __future__ import annotations

from itertools import product
from typing import Final

from membptt_proofs.checks.registry import Effort, check, need
from membptt_proofs.tiers_oracle import least_cost, naive_tiers
from membptt_theory.machine import meter_tiers
from membptt_theory.tiers import Prices, Tier, TierTable, build_tiers, schedule_tiers

PRICES: Final = (Prices(1, 0, 0), Prices(1, 1, 1), Prices(1, 2, 0), Prices(1, 0, 3), Prices(3, 6, 1), Prices(2, 3, 1))


@check("tiers-recurrence")
def tiers_recurrence(effort: Effort) -> str:
    """Compare the table with its recurrence written out."""
    steps = effort.pick(8, 20)
    for prices, slow in product(PRICES, (3, None)):
        table = build_tiers(steps, 3, slow, prices)
        money = {"forward": prices.forward, "write": prices.write, "read": prices.read}
        for (start_slow, f, s, t), cost in naive_tiers(steps, 3, slow, **money).items():
            if t < 1 or (s == 0 if start_slow else f == 0):
                continue
            listed = table.cost(t, f, s, Tier.SLOW if start_slow else Tier.FAST)
            need(listed == cost, f"{prices}, t={t}, f={f}, s={s}: table {listed}, naive {cost}")
    return f"t <= {steps}, f <= 3, s <= 3 and unbounded, {len(PRICES)} prices"


@check("tiers-bellman")
def tiers_bellman(effort: Effort) -> str:
    """Let tables check their own Bellman equality afresh."""
    steps = effort.pick(40, 1000)
    for prices in PRICES:
        table = build_tiers(steps, 8, None, prices)
        again = TierTable(prices, False, table.costs, table.decisions, table.splits)
        need(again.digest == table.digest, f"{prices}")
    return f"t <= {steps}, f <= 8, slow slots unbounded, {len(PRICES)} prices"


@check("tiers-optimal")
def tiers_optimal(effort: Effort) -> str:
    """Search all legal two-tier schedules."""
    steps = effort.pick(5, 6)
    for prices, t, f, s in product(PRICES, range(1, steps + 1), range(4), range(4)):
        if f + s == 0:
            continue
        table = build_tiers(t, f, s, prices)
        for tier, room in ((Tier.FAST, f), (Tier.SLOW, s)):
            if room:
                money = {"forward": prices.forward, "write": prices.write, "read": prices.read}
                search = least_cost(t, f, s, start_slow=tier is Tier.SLOW, **money)
                need(table.cost(t, f, s, tier) == search, f"{prices}, t={t}, f={f}, s={s}, {tier}: search {search}")
    return f"t <= {steps}, f, s <= 3, both tiers to start in, {len(PRICES)} prices"


@check("tiers-metered-cost-equals-table")
def tiers_metered(effort: Effort) -> str:
    """Execute every two-tier stream on paper."""
    steps = effort.pick(8, 14)
    for prices in PRICES:
        table = build_tiers(steps, 3, 3, prices)
        for t, f, s in product(range(1, steps + 1), range(1, 4), range(4)):
            report = meter_tiers(schedule_tiers(table, t, f, s), steps=t)
            fits = report.peak <= f and report.slow_peak <= s
            need(fits and report.cost(prices) == table.cost(t, f, s), f"{prices}, t={t}, f={f}, s={s}: {report}")
    return f"t <= {steps}, f, s <= 3, {len(PRICES)} prices"
