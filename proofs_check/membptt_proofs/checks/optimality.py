"""Checks of optimality: the tables against the exhaustive search over all legal schedules."""

from __future__ import annotations

from functools import partial
from itertools import product

from membptt_proofs.chain_oracle import cheapest_chain_schedule
from membptt_proofs.checks.derivations import verify
from membptt_proofs.checks.registry import Covered, Effort, Evidence, check, need
from membptt_proofs.oracle import Storage, least_costs, least_forwards
from membptt_proofs.oracle_shared import detached_costs
from membptt_theory.actions import Sizes
from membptt_theory.chain import Chain, solve_chain
from membptt_theory.derive import any_schedule, msm_plus, reach
from membptt_theory.machine import meter
from membptt_theory.policies import sized
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, optimal_cost

HSM, ISM = Sizes(hidden=1, internal=None), Sizes(hidden=None, internal=1)
ALPHAS = range(2, 6)


@check("hsm-optimal")
def hsm_optimal(effort: Effort) -> str:
    """Search all schedules of hidden states."""
    covered = Covered()
    for t in covered.over("t", range(1, effort.pick(7, 9) + 1)):
        for m in covered.every("m", range(1, t + 2)):
            need(least_forwards(t, m, HSM) == optimal_cost("hsm", t, m), f"t={t}, m={m}")
    return str(covered)


@check("ism-optimal")
def ism_optimal(effort: Effort) -> str:
    """Search all schedules of internal states: one slot less than ISM is given reaches its cost."""
    covered = Covered()
    for t in covered.over("t", range(1, effort.pick(7, 9) + 1)):
        for m in covered.every("m", range(1, t + 2)):
            need(least_forwards(t, m - 1, ISM) == optimal_cost("ism", t, m), f"t={t}, m={m}")
    return str(covered)


@check("ism-as-printed-optimal")
def ism_as_printed_optimal(effort: Effort) -> str:
    """Verify the counterexample: with equally many slots, ISM is beaten, because it wastes the working core."""
    table, search = optimal_cost("ism", 2, 1), least_forwards(2, 1, ISM)
    need((table, search) == (3, 2), f"table {table}, search {search}")
    return "t = 2, m = 1: the recurrence gives 3, the search 2"


@check("msm-optimal")
def msm_optimal(effort: Effort) -> str:
    """Verify the smallest counterexample, that there is none smaller, and the one where m is no multiple of alpha."""
    for alpha, t, m, recurrence, search in ((2, 2, 2, 3, 2), (3, 2, 3, 3, 2), (3, 7, 4, 14, 13)):
        costs = build("msm", t, m, internal=alpha).cost(t, m), least_forwards(t, m, Sizes(1, alpha))
        need(costs == (recurrence, search), f"alpha={alpha}, t={t}, m={m}: {costs}")
    for alpha in ALPHAS:
        table = build("msm", 1, 3 * alpha, internal=alpha)
        for m in range(1, 3 * alpha + 1):
            need(table.cost(1, m) == least_forwards(1, m, Sizes(1, alpha)), f"t=1, alpha={alpha}, m={m}")
    return "t = 2, alpha = m = 2: recurrence 3, search 2; t = 7, alpha = 3, m = 4: 14 and 13"


@check("msm-plus-optimal")
def msm_plus_optimal(effort: Effort) -> str:
    """Search all schedules with separate storage, for every m up to where nothing is recomputed."""
    return _equals_search(effort, "msm_plus", "separate")


@check("shared-optimal")
def shared_optimal(effort: Effort) -> str:
    """Search all schedules where tensors are counted once and an internal state keeps its input."""
    return _equals_search(effort, "msm", "shared")


@check("shared-detached-optimal")
def shared_detached_optimal(effort: Effort) -> str:
    """Search all schedules where a stored internal state may give up its input; compare (10) and a wider recurrence."""
    steps, worst, covered = effort.pick(7, 9), 0, Covered()
    for alpha in covered.over("alpha", ALPHAS):
        naive = detached_costs(steps, alpha * steps, alpha)
        table = build("msm", steps, alpha * steps, internal=alpha, internal_known=alpha - 1)
        for m in covered.every("m", range(1, alpha * steps + 1)):
            costs = least_costs(steps, m, Sizes(1, alpha, alpha - 1), storage="detached")
            for t in covered.over("t", range(1, steps + 1)):
                need(costs[t] == naive[m][t], f"alpha={alpha}, t={t}, m={m}: search {costs[t]}, not {naive[m][t]}")
                worst = max(worst, table.cost(t, m) - costs[t])
        first = min((t, m) for m in range(1, alpha * steps + 1) for t in _costlier(table, m, naive[m]))
        need(first == (5, 2 * alpha - 1), f"alpha={alpha}: the first gap is at {first}")
        need((table.cost(*first), naive[first[1]][5]) == (8, 7), f"alpha={alpha}: the gap at {first}")
    need(worst == 1, f"(10) is {worst} forwards too dear")
    return f"{covered}; (10) costs at most {worst} forward more"


@check("any-schedule-cost-two")
def any_schedule_cost_two(effort: Effort) -> str:
    """Search for the longest sequence in two forwards a step, with shared storage and with separate storage."""
    evidence = verify((msm_plus.cost_two,), effort)
    steps, covered = effort.pick(7, 9), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        shared, separate = Sizes(1, alpha, alpha - 1), Sizes(1, alpha)
        for m in covered.every("m", range(1, alpha * steps + 1)):
            together = least_costs(steps, m, shared, storage="shared")
            apart = least_costs(steps, m, separate)
            for t in covered.over("t", range(1, steps + 1)):
                for cost, longest in (
                    (together[t], _ceilings(alpha - 1, m) + 2),
                    (apart[t], _ceilings(alpha, m + 1) + 1),
                ):
                    need((cost <= 2 * t) == (t <= longest), f"alpha={alpha}, t={t}, m={m}: cost {cost}, not {longest}")
    searched = f"search for {covered}, two ways to count storage"
    return Evidence(f"{evidence}; {searched}", f"{evidence.ranges}; {searched}")


@check("detached-cost-two")
def detached_cost_two(effort: Effort) -> str:
    """Verify the arithmetic, and search for a schedule that goes further in two forwards a step."""
    evidence = verify((partial(any_schedule.every_schedule, reach.Reach()),), effort)
    steps, covered = effort.pick(7, 9), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        for m in covered.every("m", range(1, alpha * steps + 1)):
            bound = _ceilings(alpha - 1, m + 1) + 2 * (m // (alpha - 1) + 1)
            costs = least_costs(steps, m, Sizes(1, alpha, alpha - 1), storage="detached")
            longest = max(t for t in covered.over("t", range(steps + 1)) if costs[t] <= 2 * t)
            need(longest <= bound, f"alpha={alpha}, m={m}: t={longest}, bound {bound}")
    return Evidence(f"{evidence}; search for {covered}", f"{evidence.ranges}; {covered}")


@check("cost-ratio-invariance")
def cost_ratio_invariance(effort: Effort) -> str:
    """Every stream records each step once; the search finds no other optimum at other prices of a recorded step."""
    steps, covered, streams = effort.pick(5, 7), Covered(), Covered()
    for alpha in covered.over("alpha", ALPHAS):
        for m in covered.every("m", range(1, alpha * steps + 1)):
            plain = least_costs(steps, m, Sizes(1, alpha))
            for advance, record in covered.counted("ratios", ((1, 2), (1, 3), (2, 3), (3, 7))):
                weighed = least_costs(steps, m, Sizes(1, alpha), advance=advance, record=record)
                for t in covered.over("t", range(1, steps + 1)):
                    expected = advance * (plain[t] - t) + record * t
                    need(weighed[t] == expected, f"alpha={alpha}, t={t}, m={m}, {advance}:{record}")
    for policy, sizes in streams.counted("tables", sized(3)):
        table = build(policy, 40, 9, **sizes)
        for t in streams.over("t", range(1, 41)):
            report = meter(table.schedule(t, 9), steps=t, sizes=table.sizes)
            need(report.recorded == t, f"{policy}: {report.recorded} of {t} steps recorded")
    return f"{covered}; streams of {streams}"


@check("chain-optimal")
def chain_optimal(effort: Effort) -> str:
    """Search all persistent schedules of every small chain."""
    covered, cores = Covered(), effort.pick(3, 4)
    # The last state is never stored, so its size does not matter.
    chains = product(product((1, 2), repeat=cores), product((1, 2, 3), repeat=cores - 1), product((0, 1), repeat=cores))
    for costs, sizes, needs in covered.counted(f"chains of {cores} cores", chains):
        chain = Chain(costs, (*sizes, 1), needs)
        table = solve_chain(chain, 4)
        for slots in covered.over("m", range(max(needs), 5)):
            cost = cheapest_chain_schedule(costs, chain.sizes, needs, slots, persistent=True)[0]
            need(cost == table.cost(slots), f"{chain}, m={slots}: search {cost}, table {table.cost(slots)}")
        for u, s, p in zip(costs, chain.sizes, needs, strict=True):
            covered.note(u=u, s=s, p=p)
    return str(covered)


@check("chain-beyond-persistent")
def chain_beyond_persistent(effort: Effort) -> str:
    """Verify the counterexample: a state dropped and recomputed beats the recurrence where sizes differ."""
    costs, sizes, needs, slots = (1,) * 7, (1, 2, 3, 3, 1, 1, 1), (0,) * 7, 2
    table = solve_chain(Chain(costs, sizes, needs), slots).cost(slots)
    search = cheapest_chain_schedule(costs, sizes, needs, slots)[0]
    need((table, search) == (19, 18), f"table {table}, search {search}")
    return "unit costs, s = (1, 2, 3, 3, 1, 1, 1), m = 2: the recurrence gives 19, the search 18"


@check("chain-homogeneous")
def chain_homogeneous(effort: Effort) -> str:
    """Compare equal cores with HSM, whose m counts the input too."""
    steps, covered = effort.pick(20, 60), Covered()
    table = solve_chain(Chain((1,) * steps, (1,) * steps, (0,) * steps), 10)
    for m in covered.over("m", range(11)):
        need(table.cost(m) == optimal_cost("hsm", steps, m + 1), f"t={steps}, m={m}")
    return f"t = {steps}, {covered}"


def _ceilings(size: int, slots: int) -> int:
    """Return the sum of ``ceil(j / size)`` over ``j <= slots``."""
    return sum(-(-j // size) for j in range(1, slots + 1))


def _costlier(table: PolicyTable, slots: int, costs: list[int]) -> list[int]:
    return [t for t in range(1, len(costs)) if table.cost(t, slots) > costs[t]]


def _equals_search(effort: Effort, policy: str, storage: Storage) -> str:
    steps, cases, covered = effort.pick(7, 9), 0, Covered()
    for alpha in covered.over("alpha", ALPHAS):
        known = alpha - 1 if storage == "shared" else None
        table = build(policy, steps, alpha * steps, internal=alpha, internal_known=known)
        for m in covered.every("m", range(1, alpha * steps + 1)):
            least = least_costs(steps, m, Sizes(1, alpha, known), storage=storage)
            for t in covered.over("t", range(1, steps + 1)):
                need(least[t] == table.cost(t, m), f"alpha={alpha}, t={t}, m={m}: search {least[t]}")
                cases += 1
    return f"{covered}: {cases} cases"
