"""Checks of the tables: the recurrences, the stream, the numbers that the paper plots."""

from __future__ import annotations

import numpy as np

from membptt_proofs import dp
from membptt_proofs.checks.registry import Covered, Effort, check, need
from membptt_theory import lock
from membptt_theory.machine import meter
from membptt_theory.policies import POLICIES, sized
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, optimal_cost

ALPHAS = range(2, 7)


@check("hsm-recurrence")
def hsm_recurrence(effort: Effort) -> str:
    """Compare the HSM table with (1)-(3) written out."""
    return _same_as_naive("hsm", effort)


@check("ism-recurrence")
def ism_recurrence(effort: Effort) -> str:
    """Compare the ISM table with (4)-(5) written out."""
    return _same_as_naive("ism", effort)


@check("msm-recurrence")
def msm_recurrence(effort: Effort) -> str:
    """Compare the MSM tables with (6)-(9) written out."""
    covered = Covered()
    ranges = {_same_as_naive("msm", effort, alpha) for alpha in covered.over("alpha", ALPHAS)}
    return f"{', '.join(ranges)}, {covered}"


@check("msm-shared-recurrence")
def msm_shared_recurrence(effort: Effort) -> str:
    """Compare the MSM tables with (10) written out, for every beta."""
    covered = Covered()
    ranges = {
        _same_as_naive("msm", effort, alpha, known)
        for alpha in covered.over("alpha", ALPHAS)
        for known in covered.every("beta", range(1, alpha + 1))
    }
    return f"{', '.join(ranges)}, {covered}"


@check("table-bellman")
def table_bellman(effort: Effort) -> str:
    """Let every published table check its own Bellman equality afresh."""
    entries = [entry for entry in lock.PUBLISHED if entry.steps <= effort.pick(30, 1000)]
    covered = Covered()
    for policy, internal, known, steps, slots in covered.counted("tables", entries):
        table = build(policy, steps, slots, internal=internal, internal_known=known)
        again = PolicyTable(policy, table.sizes, table.costs, table.decisions, table.splits)
        need(again.digest == table.digest, f"{policy} {steps} x {slots}")
        covered.note_all(t=range(again.costs.shape[2]), m=range(again.costs.shape[1]))
    return str(covered)


@check("tables-lock")
def tables_lock(effort: Effort) -> str:
    """Rebuild the published tables and compare their digests with the lock."""
    locked = lock.read()
    need(set(locked) == set(lock.PUBLISHED), "the lock does not list the published tables")
    entries = [entry for entry in lock.PUBLISHED if entry.steps <= effort.pick(300, 1000)]
    covered = Covered()
    for entry in covered.counted("tables", entries):
        need(lock.digest(entry) == locked[entry], f"{entry} has another digest than the lock")
    return str(covered)


@check("metered-cost-equals-table")
def metered_cost_equals_table(effort: Effort) -> str:
    """Execute every stream on paper."""
    steps, slots = effort.pick(40, 120), effort.pick(8, 12)
    tables = [build(policy, steps, slots, **sizes) for policy, sizes in sized(2, 3, 5)]
    covered = Covered()
    for table in covered.counted("tables", tables):
        for t in covered.over("t", range(1, steps + 1)):
            for m in covered.over("m", range(1, slots + 1)):
                report = meter(table.schedule(t, m), steps=t, sizes=table.sizes)
                need(
                    report.forwards == table.cost(t, m) and report.peak <= m and report.recorded == t,
                    f"{table.policy} {table.sizes} t={t} m={m}: {report}, table {table.cost(t, m)}",
                )
    return str(covered)


@check("targets")
def targets(effort: Effort) -> str:
    """Recompute the costs at t = 1000 that figures 2a, 5a and 6 plot."""
    expected = {
        "hsm": {10: 4636, 50: 2948, 100: 2898, 500: 2498, 1000: 1999},
        "ism": {10: 3640, 50: 1950, 100: 1900, 500: 1500, 1000: 1000},
    }
    covered = 0
    for policy, by_slots in expected.items():
        for slots, cost in by_slots.items():
            covered += 1
            need(optimal_cost(policy, 1000, slots) == cost, f"{policy} m={slots}")
    for known, by_slots in ((None, {50: 2723, 100: 1995}), (4, {50: 2663, 100: 1988})):
        table = build("msm", 1000, 100, internal=5, internal_known=known)
        for slots, cost in by_slots.items():
            need(table.cost(1000, slots) == cost, f"msm beta={known} m={slots}: {table.cost(1000, slots)}")
            covered += 1
    return f"{covered} costs, t = 1000"


@check("hsm-overtakes-ism")
def hsm_overtakes_ism(effort: Effort) -> str:
    """Find where HSM becomes cheaper than ISM in the same room, alpha = 5."""
    for hidden, internal, crossing in ((50, 10, 309), (100, 20, 1919)):
        limit = 4 * crossing
        cheaper = [t for t in range(1, limit) if optimal_cost("hsm", t, hidden) < optimal_cost("ism", t, internal)]
        need(cheaper == list(range(crossing, limit)), f"{hidden} hidden, {internal} internal: from t = {cheaper[:1]}")
    return "t = 309 and 1919, and from there on to four times as far"


@check("B10")
def b10(effort: Effort) -> str:
    """Compute the abstract's example: 5 % of the memory, one third more time, a backward counted as two forwards."""
    steps, slots = 1000, 50
    forwards, backwards = optimal_cost("ism", steps, slots), 2 * steps
    need(3 * (forwards + backwards) <= 4 * (steps + backwards), f"{forwards} forwards")
    return f"50 of 1000 internal states, {forwards} forwards: {forwards + backwards} against {steps + backwards} units"


def _same_as_naive(policy: str, effort: Effort, alpha: int = 1, known: int | None = None) -> str:
    steps, slots = effort.pick(60, 200), effort.pick(8, 20)
    table = build(policy, steps, slots, internal=alpha, internal_known=known)
    sizes = (alpha, known)[: len(POLICIES[policy].parameters)]
    naive = dp.REFEREES[policy](steps, slots, *sizes)
    costs, referee = table.costs[0, 1:], np.array(naive)[1:]
    need(costs.shape == referee.shape, f"{policy}: {costs.shape} costs, the referee has {referee.shape}")
    wrong = np.argwhere(costs != referee)
    need(not len(wrong), f"{policy} alpha={alpha} beta={known}: m={wrong[:1, 0] + 1}, t={wrong[:1, 1]}")
    return f"t <= {costs.shape[1] - 1}, m <= {costs.shape[0]}"
