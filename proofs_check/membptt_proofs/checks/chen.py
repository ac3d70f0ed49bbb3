"""Checks of Chen's strategies: their schedules executed, not only counted, against the tables at the same memory."""

from __future__ import annotations

from membptt_proofs.checks.registry import Covered, Effort, check, need
from membptt_theory.actions import Sizes
from membptt_theory.chen import recursive_cost, recursive_schedule, sqrt_cost, sqrt_schedule
from membptt_theory.machine import Report, meter
from membptt_theory.tables import build, optimal_cost

SIZES = Sizes(hidden=1, internal=3, internal_known=2)


@check("chen-executed")
def chen_executed(effort: Effort) -> str:
    """Execute both strategies for every t, every segment length and every number of parts."""
    steps, runs, covered = effort.pick(60, 300), 0, Covered()
    table = build("msm", steps, 2 * steps, internal=3, internal_known=2)
    for t in covered.over("t", range(1, steps + 1)):
        for segment in covered.every("L", range(1, t + 1)):
            report = meter(sqrt_schedule(t, segment), steps=t, sizes=SIZES)
            _compare(report, sqrt_cost(t, segment, SIZES), f"sqrt t={t}, L={segment}")
            need(table.cost(t, report.peak) <= report.forwards, f"sqrt t={t}, L={segment}: {report}")
            runs += 1
        for parts in covered.every("p", range(2, t + 1)):
            report = meter(recursive_schedule(t, parts), steps=t, sizes=SIZES)
            _compare(report, recursive_cost(t, parts), f"recursive t={t}, p={parts}")
            need(optimal_cost("hsm", t, report.peak) <= report.forwards, f"recursive t={t}, p={parts}: {report}")
            runs += 1
    return f"{runs} schedules executed, {covered}, beta = 2"


def _compare(report: Report, closed: tuple[int, int], where: str) -> None:
    need((report.forwards, report.peak) == closed, f"{where}: executed {report}, closed form {closed}")
