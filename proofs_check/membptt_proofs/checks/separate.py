"""Checks of MSM+ solved: the tables against what Coq proves of every legal schedule with separate storage."""

from __future__ import annotations

from itertools import product
from math import factorial

from membptt_proofs import dp
from membptt_proofs.checks.derivations import verify
from membptt_proofs.checks.registry import Covered, Effort, Evidence, check, need
from membptt_theory import mixed
from membptt_theory.derive import msm_plus
from membptt_theory.formula import Formula
from membptt_theory.recurrences import KEPT, Decision
from membptt_theory.tables import build

ALPHAS = range(2, 7)


@check("msm-plus-two-branches")
def two_branches(effort: Effort) -> str:
    """Compare the table, which has every cut, with the two-branch form written out."""
    steps, slots, covered = effort.pick(30, 60), effort.pick(12, 24), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        table, naive = build("msm_plus", steps, slots, internal=alpha), dp.msm_plus(steps, slots, alpha)
        for m in covered.over("m", range(1, slots + 1)):
            for t in covered.over("t", range(1, steps + 1)):
                need(table.cost(t, m) == naive[m][t], f"alpha={alpha}, t={t}, m={m}: two branches {naive[m][t]}")
    return str(covered)


@check("msm-plus-fixed-cost")
def fixed_cost(effort: Effort) -> str:
    """Verify the lines, and find the longest sequence at a whole number of forwards a step in the tables."""
    evidence, covered = verify((msm_plus.lines,), effort), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        most = max(msm_plus.limit(8, alpha, a + 1) for a in range(1, 5)) + 20
        table = build("msm_plus", most, 8, internal=alpha)
        for m in covered.over("m", range(1, 9)):
            for a in covered.over("a", range(1, 5)):
                bound = msm_plus.limit(m, alpha, a + 1)
                longest = max(t for t in range(1, most + 1) if table.cost(t, m) <= a * t)
                fits = longest == bound if m >= 2 * a - 3 else longest <= bound
                need(fits, f"alpha={alpha}, m={m}, a={a}: the longest is {longest}, the bound {bound}")
    return Evidence(f"{evidence}; {covered}", f"{evidence.ranges}; {covered}")


@check("msm-plus-below-two")
def below_two(effort: Effort) -> str:
    """Compare the closed form with the tables, every number of forwards saved."""
    steps, slots, covered = effort.pick(40, 90), effort.pick(12, 24), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        table = build("msm_plus", steps, slots, internal=alpha)
        for m in covered.over("m", range(1, slots + 1)):
            for t in covered.over("t", range(1, steps + 1)):
                cost = table.cost(t, m)
                for saved in covered.every("l", range(t + 1)):
                    within = saved <= t <= msm_plus.longest(m, alpha, saved)
                    need((cost <= 2 * t - saved) == within, f"alpha={alpha}, t={t}, m={m}, l={saved}: cost {cost}")
    return str(covered)


@check("msm-plus-least-slots")
def least_slots(effort: Effort) -> str:
    """Find the fewest slots in the tables: between the powers, and at two forwards a step the closed form's."""
    steps, covered = effort.pick(60, 150), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        table = build("msm_plus", steps, 60, internal=alpha)
        for a in covered.over("a", range(2, 5)):
            for t in covered.over("t", range(1, steps + 1)):
                m = next(m for m in range(1, 61) if table.cost(t, m) <= a * t)
                scaled = factorial(a) * alpha * t
                need(m**a <= scaled <= (m + alpha + a - 1) ** a, f"alpha={alpha}, a={a}, t={t}: {m} slots")
                need(a > 2 or m == msm_plus.least_slots(t, alpha), f"alpha={alpha}, t={t}: {m} slots at two a step")
    return str(covered)


@check("msm-plus-rational-cost")
def rational_cost(effort: Effort) -> str:
    """Check the half that holds in every number of slots: what costs so little is no longer than the bound."""
    steps, slots, covered = effort.pick(40, 120), effort.pick(8, 16), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        table = build("msm_plus", steps, slots, internal=alpha)
        for m in covered.over("m", range(1, slots + 1)):
            for t in covered.over("t", range(1, steps + 1)):
                for a in covered.over("a", range(1, 4)):
                    for p, q in covered.counted("fractions", ((0, 1), (1, 2), (1, 3), (2, 3), (3, 4))):
                        cheap = q * table.cost(t, m) <= (a * q + p) * t
                        within = (q - p) * t <= q * msm_plus.limit(m, alpha, a + 1)
                        need(within or not cheap, f"alpha={alpha}, t={t}, m={m}: {a} + {p}/{q} forwards a step")
    return str(covered)


@check("msm-plus-solved")
def solved(effort: Effort) -> str:
    """Compare the closed form with the tables, and its binomials with Pascal's rule."""
    steps, slots, covered = effort.pick(60, 150), effort.pick(12, 24), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        table = build("msm_plus", steps, slots, internal=alpha)
        for m in covered.over("m", range(1, slots + 1)):
            for t in covered.over("t", range(1, steps + 1)):
                cost = mixed.cost(t, m, alpha)
                need(cost == table.cost(t, m), f"alpha={alpha}, t={t}, m={m}: the closed form says {cost}")
            for r, stretch in product(range(3, 9), range(1, 2 + m // alpha)):
                end = mixed.reach(r, stretch, m, alpha)
                parts = mixed.reach(r - 1, stretch, m, alpha) + mixed.reach(r, stretch, m - 1, alpha) if m > 1 else r
                need(end == parts, f"alpha={alpha}, m={m}: stretch ({r}, {stretch}) ends at {end}, not {parts}")
    return str(covered)


@check("msm-plus-formula")
def without_a_table(effort: Effort) -> str:
    """Execute the schedules that no table made: complete, in their slots, and as cheap as the table's."""
    steps, slots, covered = effort.pick(24, 60), effort.pick(10, 16), Covered()
    for alpha in covered.over("alpha", range(2, 6)):
        formula, table = Formula("msm_plus", alpha), build("msm_plus", steps, slots, internal=alpha)
        for m in covered.over("m", range(1, slots + 1)):
            for t in covered.over("t", range(1, steps + 1)):
                report = formula.schedule(t, m).meter()
                need(
                    report.forwards == table.cost(t, m) and report.peak <= m,
                    f"alpha={alpha}, t={t}, m={m}: {report.forwards} forwards, {report.peak} slots",
                )
    return str(covered)


@check("msm-plus-kept")
def kept(effort: Effort) -> str:
    """Compare the closed form with the recurrence, and with what its own decisions lead to."""
    steps, slots, covered = effort.pick(40, 150), effort.pick(10, 24), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        owned, naive = dp.msm_plus_parts(steps, slots, alpha)
        for m in covered.over("m", range(1, slots + 1)):
            for t in covered.over("t", range(1, steps + 1)):
                cost, (decision, y) = mixed.cost(t, m, alpha, KEPT), mixed.decide(t, m, alpha, KEPT)
                need(cost == naive[m][t], f"alpha={alpha}, t={t}, m={m}: the closed form says {cost}")
                if decision is Decision.HIDDEN:
                    attained = y + owned[m - 1][t - y] + naive[m][y]
                elif decision is Decision.INTERNAL:
                    attained = y + (naive[m - alpha][t - y] if t > y else 0) + (naive[m][y - 1] if y > 1 else 0)
                else:
                    attained = t * (t + 1) // 2
                need(attained == cost, f"alpha={alpha}, t={t}, m={m}: {decision.name} at y={y} leads to {attained}")
    return str(covered)
