"""Checks of two-tier storage: the table against the naive recurrence, the exhaustive search and the machine."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

from membptt_proofs.checks.registry import Covered, Effort, check, need
from membptt_proofs.tiers_oracle import least_costs, naive_tiers
from membptt_theory.machine import meter_tiers
from membptt_theory.tables import optimal_cost
from membptt_theory.tiers import Prices, Tier, TierTable, build_tiers

PRICES: Final = (Prices(1, 0, 0), Prices(1, 1, 1), Prices(1, 2, 0), Prices(1, 0, 3), Prices(3, 6, 1), Prices(2, 3, 1))


@check("tiers-recurrence")
def tiers_recurrence(effort: Effort) -> str:
    """Compare the table with its recurrence written out."""
    steps, covered = effort.pick(8, 20), Covered()
    for prices in covered.counted("prices", PRICES):
        for slow in (3, None):
            table = build_tiers(steps, 3, slow, prices)
            for (start_slow, f, s, t), cost in naive_tiers(steps, 3, slow, **_money(prices)).items():
                if t < 1 or (s == 0 if start_slow else f == 0):
                    continue
                listed = table.cost(t, f, s, Tier.SLOW if start_slow else Tier.FAST)
                need(listed == cost, f"{prices}, t={t}, f={f}, s={s}: table {listed}, naive {cost}")
                covered.note(t=t, f=f, **({} if s is None else {"s": s}))
    return f"{covered}, and slow slots unbounded"


@check("tiers-bellman")
def tiers_bellman(effort: Effort) -> str:
    """Let tables check their own Bellman equality afresh."""
    steps, covered = effort.pick(40, 1000), Covered()
    for prices in covered.counted("prices", PRICES):
        table = build_tiers(steps, 8, None, prices)
        again = TierTable(prices, False, table.costs, table.decisions, table.splits)
        need(again.digest == table.digest, f"{prices}")
        covered.note_all(t=range(again.costs.shape[3]), f=range(again.costs.shape[2]))
    return f"{covered}, slow slots unbounded"


@check("tiers-optimal")
def tiers_optimal(effort: Effort) -> str:
    """Search all legal two-tier schedules."""
    return _equals_search(effort.pick(5, 10), PRICES, range(4), range(4))


@check("tiers-reached")
def tiers_reached(effort: Effort) -> str:
    """Execute the streams again: the theorem is about any sizes, this about the product's own."""
    return tiers_metered(effort)


@check("one-tier-optimal")
def one_tier_optimal(effort: Effort) -> str:
    """Search all legal schedules of the fast tier alone, and of the slow one."""
    steps = effort.pick(5, 10)
    alone = (_equals_search(steps, PRICES, *rooms) for rooms in ((range(1, 4), range(1)), (range(1), range(1, 4))))
    return "; ".join(alone)


@check("free-slow-optimal")
def free_slow_optimal(effort: Effort) -> str:
    """Search all legal two-tier schedules where transfers cost nothing."""
    free = tuple(Prices(forward, 0, 0) for forward in (1, 3))
    return _equals_search(effort.pick(5, 10), free, range(4), range(4))


@check("tiers-never-below")
def tiers_never_below(effort: Effort) -> str:
    """Compare the search with as many slots in the fast tier alone."""
    steps, covered = effort.pick(5, 10), Covered()
    for prices in covered.counted("prices", PRICES):
        for f, s in product(range(4), range(4)):
            for t, *costs in _searched(steps, f, s, prices):
                for search in costs:
                    if search is not None:
                        bound = prices.forward * optimal_cost("hsm", t, f + s)
                        need(search >= bound, f"{prices}, t={t}, f={f}, s={s}: search {search}, bound {bound}")
                        covered.note(t=t, f=f, s=s)
    return str(covered)


def _equals_search(steps: int, every: tuple[Prices, ...], fast: range, slow: range) -> str:
    covered = Covered()
    for prices in covered.counted("prices", every):
        for f, s in product(fast, slow):
            table = build_tiers(steps, f, s, prices) if f + s else None
            for t, *costs in _searched(steps, f, s, prices):
                for tier, search in zip((Tier.FAST, Tier.SLOW), costs, strict=True):
                    if table and search is not None:
                        need(table.cost(t, f, s, tier) == search, f"{prices}, t={t}, f={f}, s={s}, {tier}: {search}")
                        covered.note(t=t, f=f, s=s)
    return f"{covered}, both tiers to start in"


@check("tiers-metered-cost-equals-table")
def tiers_metered(effort: Effort) -> str:
    """Execute every two-tier stream on paper."""
    steps, covered = effort.pick(8, 14), Covered()
    for prices in covered.counted("prices", PRICES):
        table = build_tiers(steps, 3, 3, prices)
        for t, f, s in product(range(1, steps + 1), range(1, 4), range(4)):
            report = meter_tiers(table.schedule(t, f, s), steps=t)
            fits = report.peak <= f and report.slow_peak <= s
            need(fits and report.cost(prices) == table.cost(t, f, s), f"{prices}, t={t}, f={f}, s={s}: {report}")
            covered.note(t=t, f=f, s=s)
    return str(covered)


def _searched(steps: int, f: int, s: int, prices: Prices) -> Iterator[tuple[int, int | None, int | None]]:
    """Yield each length and the least cost over all legal schedules, by the tier that the start is stored in."""
    for t, costs in enumerate(least_costs(steps, f, s, **_money(prices))):
        if t:
            yield t, *costs


def _money(prices: Prices) -> dict[str, int]:
    return {"forward": prices.forward, "write": prices.write, "read": prices.read}
