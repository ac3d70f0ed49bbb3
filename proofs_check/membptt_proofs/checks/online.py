"""Checks of loops of unknown length: the policies against their referees, and what each promises."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import count, product
from typing import Final

from membptt_proofs.checks.registry import Covered, Effort, check, need
from membptt_proofs.dp import hsm
from membptt_proofs.online_oracle import by_budget, by_levels, equinox_forwards, least_worst_ratio, with_graphs
from membptt_proofs.online_ranges import costs_by_slopes, worst_ratio
from membptt_theory.actions import Sizes
from membptt_theory.machine import meter
from membptt_theory.online import POLICIES, SIZES, internal, promise, schedule
from membptt_theory.online.gaps import reach
from membptt_theory.online.policies import (
    CHECKED,
    COUNTED,
    COUNTED_BEYOND,
    MOST_CHECKED,
    RULES,
    budget,
    change,
    for_every_t,
    handover_level,
)
from membptt_theory.online.rule import Rule, Store
from membptt_theory.online.staged import bound_after
from membptt_theory.tables import optimal_cost

EQUINOX: Final = {(20, 5): 55, (100, 5): 460, (1000, 5): 9919, (100, 10): 383, (1000, 10): 6469, (1778, 50): 8558}


@check("online-metered")
def online_metered(effort: Effort) -> str:
    """Execute every stream on paper."""
    steps, slots, covered = effort.pick(30, 300), effort.pick(5, 12), Covered()
    for name in covered.counted("policies", POLICIES):
        for m in covered.over("m", range(1, slots + 1)):
            costs = POLICIES[name].costs(m)
            for t in covered.over("t", range(1, steps + 1)):
                report, cost = meter(schedule(t, m, policy=name), steps=t, sizes=SIZES), next(costs)
                fits = report.peak <= m and report.recorded == t
                need(fits and report.forwards == cost, f"{name}, t={t}, m={m}: cost {cost}, {report}")
                need(t % 7 > 0 or POLICIES[name].cost(t, m) == cost, f"{name}, t={t}, m={m}: cost and costs differ")
    return str(covered)


@check("online-rules")
def online_rules(effort: Effort) -> str:
    """Compare the stores of every rule with a naive simulation."""
    steps, slots, covered = effort.pick(80, 400), effort.pick(6, 12), Covered()
    for m in covered.over("m", range(2, slots + 1)):
        rule = RULES.get(m, Rule())
        free, bound = reach(m, 2), Fraction(*rule.bound)
        promised = lambda t, free=free, bound=bound: bound if t > free else Fraction(1)  # noqa: E731
        naive = {
            "budget": by_budget(m, steps, promised, ahead=rule.ahead, delay=1),
            "greedy": by_budget(m, steps, lambda t: Fraction(1), ahead=0, delay=0, latest=True),
            "wang_moin_iaccarino": by_levels(m, steps),
        }
        for name, simulated in covered.counted("rules", naive.items()):
            # What wastes nothing is not unique before it is full.
            first = free if name == "budget" else 1
            for t, held, expected in zip(
                covered.over("t", range(1, steps + 1)), _held(name, m), simulated, strict=False
            ):
                need(t < first or held == [0, *expected], f"{name}, t={t}, m={m}: {held}, simulated {expected}")
    return str(covered)


@check("online-internal-metered")
def online_internal_metered(effort: Effort) -> str:
    """Execute every stream that stores internal states too on paper."""
    steps, slots, covered = effort.pick(25, 60), effort.pick(8, 12), Covered()
    for alpha in covered.over("alpha", range(2, 6)):
        for m in covered.over("m", range(1, slots + 1)):
            costs = internal.costs(m, alpha)
            for t in covered.over("t", range(1, steps + 1)):
                stream = schedule(t, m, internal=alpha)
                report, cost = meter(stream, steps=t, sizes=Sizes(hidden=1, internal=alpha)), next(costs)
                fits = report.peak <= m and report.forwards == cost
                need(fits, f"t={t}, m={m}, alpha={alpha}: cost {cost}, {report}")
                single = internal.cost(t, m, alpha)
                need(t % 7 > 0 or single == cost, f"t={t}, m={m}, alpha={alpha}: {single} by itself, {cost} in a row")
    return str(covered)


@check("online-internal-rule")
def online_internal_rule(effort: Effort) -> str:
    """Compare what is held with a naive simulation."""
    steps, slots, covered = effort.pick(40, 200), effort.pick(7, 12), Covered()
    for alpha in covered.over("alpha", range(2, 6)):
        for m in covered.over("m", range(1, slots + 1)):
            simulated = with_graphs(m, alpha, steps)
            for t, expected, now in zip(
                covered.over("t", range(1, steps + 1)), simulated, _now(m, alpha), strict=False
            ):
                need(now == expected, f"t={t}, m={m}, alpha={alpha}: {now}, simulated {expected}")
    return str(covered)


@check("online-internal-fits")
def online_internal_fits(effort: Effort) -> str:
    """Compare with one forward a step, while every graph fits and a step beyond."""
    slots, covered = effort.pick(20, 100), Covered()
    for alpha in covered.over("alpha", range(2, 11)):
        for m in covered.over("m", range(1, slots + 1)):
            fit, costs = 1 + m // alpha, internal.costs(m, alpha)
            for t in covered.every("t", range(1, fit + 1)):
                cost = next(costs)
                need(cost == t, f"t={t}, m={m}, alpha={alpha}: {cost}")
            need(next(costs) > fit + 1, f"t={fit + 1}, m={m}, alpha={alpha}: still a forward a step")
    return str(covered)


@check("online-internal-range")
def online_internal_range(effort: Effort) -> str:
    """Compare with offline MSM+, and with hidden states alone."""
    steps, slots, covered = effort.pick(60, 1_000), effort.pick(12, 30), Covered()
    for alpha in covered.over("alpha", range(2, effort.pick(6, 13))):
        for m in covered.over("m", range(1, slots + 1)):
            costs, of_hidden = internal.costs(m, alpha), POLICIES["for_every_t"].costs(m)
            for t in covered.over("t", range(1, steps + 1)):
                cost, offline, alone = next(costs), optimal_cost("msm_plus", t, m, internal=alpha), next(of_hidden)
                where = f"t={t}, m={m}, alpha={alpha}: {cost}, offline {offline}, hidden states alone {alone}"
                need(9 * cost <= 10 * offline, where)
                need(m < 5 or 20 * cost <= 21 * offline, where)
                need(m < 10 or alpha > 5 or cost <= alone, where)
    return str(covered)


@check("online-equinox")
def online_equinox(effort: Effort) -> str:
    """Walk through equinox's loop as it is programmed, and read its published counts."""
    steps, slots, covered = effort.pick(60, 300), effort.pick(6, 12), Covered()
    for m in covered.over("m", range(1, slots + 1)):
        costs = POLICIES["equinox"].costs(m)
        for t in covered.over("t", range(1, steps + 1)):
            cost, walked = next(costs), equinox_forwards(m, t)
            need(cost == walked, f"t={t}, m={m}: {cost}, walked {walked}")
    for (t, m), stated in EQUINOX.items():
        need(POLICIES["equinox"].cost(t, m) == stated == equinox_forwards(m, t), f"t={t}, m={m}: not {stated}")
    return f"{covered}, and {len(EQUINOX)} counts to t = 1778"


@check("online-below-equinox")
def online_below_equinox(effort: Effort) -> str:
    """Compare the default with equinox at equal slots, length by length."""
    ranges = (effort.pick(400, 100_000), 12), (effort.pick(200, 10_000), effort.pick(20, MOST_CHECKED))
    done = []
    for steps, slots in ranges:
        covered = Covered()
        for m in covered.over("m", range(1, slots + 1)):
            ours, theirs = POLICIES["for_every_t"].costs(m), POLICIES["equinox"].costs(m)
            for t in covered.over("t", range(1, steps + 1)):
                a, b = next(ours), next(theirs)
                need(a < b, f"t={t}, m={m}: {a}, equinox {b}")
        done.append(" in ".join(sorted(str(covered).split(", "), reverse=True)))
    return f"{', '.join(done)}; less at each of them"


@check("online-delay-wastes-nothing")
def online_delay_wastes_nothing(effort: Effort) -> str:
    """Compare with the offline optimum up to ``binom(m + 2, 2)`` steps."""
    slots, covered = effort.pick(15, MOST_CHECKED), Covered()
    for m in covered.over("m", range(1, slots + 1)):
        costs = POLICIES["for_every_t"].costs(m)
        for t in covered.every("t", range(1, reach(m, 2) + 1)):
            cost = next(costs)
            need(cost == optimal_cost("hsm", t, m), f"t={t}, m={m}: {cost} is not the offline optimum")
            need(t > m + 1 or cost == 2 * t - 1, f"t={t}, m={m}: a step is run more than once too often")
    return str(covered)


@check("online-without-delay")
def online_without_delay(effort: Effort) -> str:
    """Search all policies that decide at once."""
    two, three = effort.pick(20, 60), effort.pick(12, 60)
    for m, steps, stated in ((2, two, Fraction(41, 35)), (3, three, Fraction(12, 11))):
        ratio, _ = least_worst_ratio(m, steps, delay=False, most=Fraction(6, 5))
        need(ratio == stated, f"m={m}, t <= {steps}: some policy keeps {ratio}")
    for m in range(2, effort.pick(3, 5)):
        ratio, _ = least_worst_ratio(m, m + 3, delay=False, most=Fraction(6, 5))
        need(ratio >= 1 + Fraction(1, 2 * m + 7), f"m={m}, t <= {m + 3}: some policy keeps {ratio}")
    return f"t <= {two} in 2 slots, t <= {three} in 3 slots"


@check("online-two-slots")
def online_two_slots(effort: Effort) -> str:
    """Search all policies in two slots with the delay, and bound the default for every length."""
    steps = effort.pick(40, 500)
    ratio, _ = least_worst_ratio(2, steps, delay=True, most=Fraction(6, 5))
    need(ratio == Fraction(57, 52), f"t <= {steps}: some policy keeps {ratio}")
    need(promise(2) == Fraction(57, 52), f"the default promises {promise(2)}")
    short = reach(2, effort.pick(20, handover_level(2)))
    worst = worst_ratio(for_every_t(2), 2, short, costs_by_slopes(short, 2))
    need(Fraction(worst.forwards, worst.offline) == Fraction(57, 52), f"the default is worst at {worst}")
    return f"t <= {steps} by all policies, t <= {short} by the default"


@check("online-more-slots")
def online_more_slots(effort: Effort) -> str:
    """Search all policies in three and four slots with the delay."""
    quick = ((3, 50, Fraction(26, 25)), (4, 40, Fraction(142, 139)))
    full = ((3, 60, Fraction(26, 25)), (3, 250, Fraction(607, 582)), (4, 150, Fraction(181, 177)))
    done = {}
    for m, steps, least in quick if effort is Effort.QUICK else full:
        ratio, _ = least_worst_ratio(m, steps, delay=True, most=Fraction(21, 20))
        need(ratio == least, f"m={m}, t <= {steps}: some policy keeps {ratio}")
        done[m] = f"t <= {steps} in {m} slots"
    return ", ".join(done.values())


@check("online-range")
def online_range(effort: Effort) -> str:
    """Count the budget rule at every length, and bound what follows the length where the default hands over."""
    slots, most, least = effort.pick(7, MOST_CHECKED), effort.pick(2_000, CHECKED), effort.pick(1_000, 100_000)
    costs, covered = costs_by_slopes(most, slots), Covered()
    largest = Fraction(1)
    longest = []
    for m in covered.over("m", range(2, slots + 1)):
        level = 2
        while reach(m, level + 1) <= most:
            level += 1
        stop = reach(m, level)
        need(effort is Effort.QUICK or level == handover_level(m), f"m={m}: handed over at level {handover_level(m)}")
        held = [0]
        longest.append(max(stop, least))
        worst = worst_ratio(_watched(budget(m), held, stop), m, longest[-1], costs)
        ratio = Fraction(worst.forwards, worst.offline)
        need(ratio <= COUNTED.get(m, COUNTED_BEYOND), f"m={m}: {worst}")
        after = bound_after(m, level, held)
        need(after <= bound_after(m, level), f"m={m}: from what is held at t={stop} only {after} is kept")
        need(effort is Effort.QUICK or max(ratio, after) <= promise(m), f"m={m}: {promise(m)} is promised")
        largest = max(largest, ratio) if m > 5 else largest
    return f"{covered}, t <= {min(longest)} in each, t <= {max(longest)} in some; from six slots on {largest}"


@check("online-every-length")
def online_every_length(effort: Effort) -> str:
    """Hand over early, and compare every later cost with the bound that is stated for what was held."""
    slots, steps, levels = effort.pick(6, 12), effort.pick(400, 20_000), range(2, effort.pick(4, 6))
    costs, covered = costs_by_slopes(steps, slots), Covered()
    for m, level in product(range(2, slots + 1), levels):
        stop = reach(m, level)
        held = [0]
        worst = worst_ratio(_watched(for_every_t(m, level), held, stop), m, steps, costs)
        bound = max(bound_after(m, level, held), COUNTED.get(m, COUNTED_BEYOND))
        need(worst.forwards <= bound * worst.offline, f"m={m}, handed over at t={stop}: {worst}, bound {bound}")
        covered.note(m=m, q=level)
    for m in range(2, slots + 1):
        worst = worst_ratio(POLICIES["staged"].stores(m), m, steps, costs)
        bound = max(bound_after(m, 2), 1 + Fraction(1, 2 * m + 1))
        need(worst.forwards <= bound * worst.offline, f"staged, m={m}: {worst}, bound {bound}")
        need(m < 8 or bound <= Fraction(8, 7), f"staged, m={m}: bound {bound}")
    for m in (*range(2, effort.pick(20, MOST_CHECKED) + 1), MOST_CHECKED + 1, *range(110, effort.pick(111, 201), 30)):
        bound = Fraction(10, 9) if m <= MOST_CHECKED else Fraction(8, 7)
        need(promise(m) <= bound, f"m={m}: {promise(m)} is promised")
    exact = hsm(60, 4)
    need(all(costs[m, t] == exact[m][t] for m in range(1, 5) for t in range(61)), "the slopes are not HSM's")
    return f"{covered}, t <= {steps}"


def _now(slots: int, alpha: int) -> Iterator[internal.Row]:
    """Yield what is held after ``1, 2, ..`` steps where internal states are stored too."""
    now, changes = internal.START, internal.changes(slots, alpha)
    following = next(changes, None)
    for t in count(1):
        if following and following.due < t:
            now, following = following, next(changes, None)
        yield now.row


def _held(name: str, slots: int) -> Iterator[list[int]]:
    """Yield what a policy holds after ``1, 2, ..`` steps."""
    held, stores = [0], POLICIES[name].stores(slots)
    store = next(stores)
    t = 1
    while True:
        while store.due < t:
            change(held, store)
            store = next(stores)
        yield list(held)
        t += 1


def _watched(stores: Iterator[Store], held: list[int], stop: int) -> Iterator[Store]:
    """Pass stores on; `held` becomes what they hold after `stop` steps."""
    for store in stores:
        if store.due < stop:
            change(held, store)
        yield store
