"""The derivations: every one verifies, every constant matters, and what they say holds far outside their checks."""

from fractions import Fraction
from math import comb, factorial

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from membptt_proofs import dp
from membptt_theory.derive import bounds, constants, hsm, ism, monotone, msm, ranges, regime, sharp
from membptt_theory.derive.steps import Finite, Identity, Inequality, beta, natural, nonnegative
from membptt_theory.tables import build, optimal_cost

SOLVED = {"hsm": hsm, "ism": ism}

# Every derivation with the arguments it needs and the constants that it takes for mutation.
DERIVATIONS = [
    (hsm.closed_form, (), ("lead", "arm", "reps")),
    (hsm.split_interval, (), ("left_low", "left_high", "right_low", "right_high")),
    (hsm.step_counts, (), ("shift",)),
    (ism.duality, (), ("shift", "forwards")),
    (ism.closed_form, (), ("lead", "arm", "reps")),
    (ism.split_interval, (), ("left_low", "left_high", "right_low", "right_high")),
    (ism.step_counts, (), ("shift",)),
    (monotone.monotone_splits, ("hsm",), ("left_low", "left_high", "right_low", "right_high")),
    (monotone.monotone_splits, ("ism",), ("left_low", "left_high", "right_low", "right_high")),
    (bounds.b1, (), ("constant",)),
    (bounds.b4, (), ("more",)),
    (bounds.b5, (), ("less",)),
    (bounds.b6, (), ("more",)),
    (sharp.two_sided, ("hsm",), ("top", "above", "below")),
    (sharp.two_sided, ("ism",), ("top", "above", "below")),
    (sharp.second_order, ("hsm",), ("slope", "below", "above")),
    (sharp.second_order, ("ism",), ("slope", "below", "above")),
    (constants.best_constant, (), ("power", "numerator", "denominator")),
    (constants.no_constant, (), ("pairs",)),
    (regime.most_times, ("hsm",), ("shift",)),
    (regime.most_times, ("ism",), ("shift",)),
    (regime.average_hsm, (), ("less",)),
    (regime.logarithmic, (), ("base",)),
    (regime.average_ism, (), ("off",)),
    (msm.between, (), ("room", "taken")),
    (msm.never_worse_than_ism, (), ("spare",)),
    (msm.lower_envelope, (), ("gain",)),
]
# These rest on a finite check alone.
FINITE = [(ranges.b2, "constant"), (ranges.b3_refuted, "constant"), (msm.not_convex, "count")]
MUTANTS = [
    pytest.param(function, arguments, constant, error, id=f"{function(*arguments).name}-{constant}{error:+}")
    for function, arguments, names in DERIVATIONS
    for constant in names
    for error in (-1, 1)
]


@pytest.mark.parametrize(("function", "arguments"), [entry[:2] for entry in DERIVATIONS] + [(f, ()) for f, _ in FINITE])
def test_every_derivation_verifies_and_prints(function, arguments):
    derivation = function(*arguments)
    assert derivation.failures() == ()
    assert derivation.verify()
    names = [step.name for step in derivation.steps]
    assert len(set(names)) == len(names)
    assert any(isinstance(step, Finite) for step in derivation.steps)
    assert all(step.text for step in derivation.steps if isinstance(step, Finite) or getattr(step, "slack", None))
    printed = derivation.latex(steps=True).splitlines()
    assert printed[0] == derivation.latex()
    assert len(printed) == 1 + len(names)
    assert all(printed)


@pytest.mark.parametrize(("function", "arguments", "constant", "error"), MUTANTS)
def test_a_changed_constant_breaks_a_symbolic_step(function, arguments, constant, error):
    right = function.__kwdefaults__[constant]
    assert function(*arguments, **{constant: right + error}).failures(symbolic_only=True)


def test_a_changed_constant_breaks_a_finite_derivation():
    assert ranges.b2(constant=3).failures() == ("whole-range",)
    assert ranges.b3_refuted(constant=4).failures() == ("counterexample",)
    assert msm.not_convex(count=398).failures() == ("count",)


def test_derivations_build_on_derivations_that_exist():
    known = {function(*arguments).name for function, arguments, _ in DERIVATIONS}
    used = {name for function, arguments, _ in DERIVATIONS for name in function(*arguments).uses}
    assert used <= known


def test_a_step_refuses_what_is_not_so():
    m, r = natural("m"), natural("r")
    a, b = nonnegative("a"), nonnegative("b")
    pascal = beta(m, r), beta(m, r - 1) + beta(m - 1, r)
    assert Identity("pascal", *pascal).verify()
    assert not Identity("wrong", pascal[0], pascal[1] + 1).verify()
    assert Inequality("fits", a + b, a, b).verify()
    assert not Inequality("negative-certificate", a, a + b, -b).verify()
    assert not Inequality("unknown-sign", a, b, a - b).verify()
    assert not Inequality("other-certificate", a + b, a, 2 * b).verify()
    assert not Inequality("slack-of-any-sign", m, r, sp.Symbol("z"), {sp.Symbol("z"): m - r}).verify()


def naive_splits(policy, table, steps, slots):
    taken = int(policy == "ism")
    q = {y: y + table[slots][y - taken] + table[slots - 1][steps - y] for y in range(1, steps + taken)}
    return [y for y, cost in q.items() if cost == min(q.values())], min(q.values())


@pytest.mark.parametrize("policy", SOLVED)
def test_splits_are_all_the_optimal_ones_exhaustive(policy):
    table = getattr(dp, policy)(200, 20)
    for slots in range(2, 21):
        for steps in range(2 - int(policy == "ism"), 201):
            splits, cost = naive_splits(policy, table, steps, slots)
            assert list(SOLVED[policy].optimal_splits(steps, slots)) == splits
            assert optimal_cost(policy, steps, slots) == cost


@given(st.sampled_from(["hsm", "ism"]), st.integers(2, 10**12), st.integers(2, 300), st.data())
def test_splits_end_where_the_cost_rises_hypothesis(policy, steps, slots, data):
    taken = int(policy == "ism")
    splits = SOLVED[policy].optimal_splits(steps, slots)

    def q(y):
        return y + optimal_cost(policy, y - taken, slots) + optimal_cost(policy, steps - y, slots - 1)

    best = optimal_cost(policy, steps, slots)
    assert q(splits[0]) == q(splits[-1]) == q(data.draw(st.sampled_from(splits))) == best
    assert all(q(y) > best for y in (splits[0] - 1, splits[-1] + 1) if 1 <= y < steps + taken)


@given(st.sampled_from(["hsm", "ism"]), st.integers(2, 10**12), st.integers(2, 300))
def test_both_ends_of_the_splits_move_by_one_step_at_most_hypothesis(policy, steps, slots):
    now, after = (SOLVED[policy].optimal_splits(steps + more, slots) for more in (0, 1))
    assert after[0] - now[0] in (0, 1)
    assert after[-1] - now[-1] in (0, 1)


@pytest.mark.parametrize("policy", SOLVED)
@pytest.mark.parametrize(("steps", "slots"), [(1, 1), (1, 5), (2, 2), (60, 3), (300, 15)])
def test_the_pointer_finds_the_costs_of_the_naive_recurrence_in_two_evaluations_an_entry(policy, steps, slots):
    search, table = monotone.pointer_search(policy, steps, slots), getattr(dp, policy)(steps, slots)
    assert search.costs == [list(table[s][1 : steps + 1]) for s in range(1, slots + 1)]
    assert search.evaluations <= 2 * steps * (slots - 1)


def test_a_pointer_that_misses_a_cost_fails_the_finite_check(monkeypatch):
    right = monotone.pointer_search("hsm", 200, 20)
    for wrong in (
        right._replace(costs=[[cost + 1 for cost in row] for row in right.costs]),
        right._replace(splits=[[y + 1 for y in row] for row in right.splits]),
        right._replace(evaluations=2 * 200 * 20 + 1),
    ):
        monkeypatch.setattr(monotone, "pointer_search", lambda *_, search=wrong: search)
        assert monotone.monotone_splits("hsm").failures() == ("finite",)


def all_counts(policy, steps, slots):
    """Run counts of the steps, as sorted tuples, of every optimal schedule: every choice of splits."""
    if steps == 0:
        return {()}
    if steps == 1 or slots == 1:
        return {tuple(range(1, steps + 1))}
    taken = int(policy == "ism")
    schedules = set()
    for y in SOLVED[policy].optimal_splits(steps, slots):
        for left in all_counts(policy, y - taken, slots):
            for right in all_counts(policy, steps - y, slots - 1):
                schedules.add(tuple(sorted([*(runs + 1 for runs in left), *[1] * taken, *right])))
    return schedules


@pytest.mark.parametrize("policy", SOLVED)
def test_step_counts_are_those_of_every_optimal_schedule_exhaustive(policy):
    for slots in range(1, 6):
        for steps in range(1, 17):
            runs = SOLVED[policy].step_evaluations(steps, slots)
            assert all_counts(policy, steps, slots) == {tuple(k for k, many in enumerate(runs) for _ in range(many))}


@pytest.mark.parametrize("policy", SOLVED)
def test_step_counts_are_those_of_the_streams_exhaustive(policy):
    assert hsm.counts_match(policy, longest=120, slots=10)
    assert not hsm.counts_match(policy, 1)


@given(st.sampled_from(["hsm", "ism"]), st.integers(1, 10**9), st.integers(2, 300))
def test_step_counts_add_up_to_the_cost_hypothesis(policy, steps, slots):
    runs = SOLVED[policy].step_evaluations(steps, slots) if steps < 10**5 or slots > 2 else (0, steps)
    if len(runs) > 2:
        assert sum(runs) == steps
        assert sum(k * many for k, many in enumerate(runs)) == optimal_cost(policy, steps, slots)
        assert min(runs) >= 0


@given(st.integers(1, 10**9), st.integers(1, 200), st.integers(1, 30))
def test_the_papers_bounds_hold_hypothesis(t, m, a):
    hidden, internal = optimal_cost("hsm", t, m), optimal_cost("ism", t, m)
    assert internal <= hidden
    assert hidden**m <= m**m * t ** (m + 1)
    if t * factorial(a) < m**a:
        assert hidden <= (a + 1) * t
    if t * factorial(a) <= m**a:
        assert internal <= a * t
    assert factorial(a - 1) * regime.longest_average("hsm", a, m) >= m ** (a - 1)


def test_b6_needs_a_of_at_least_one():
    assert 5**0 / factorial(0) >= 1
    assert optimal_cost("ism", 1, 5) > 0 * 1


def test_the_papers_bounds_are_not_vacuous():
    assert optimal_cost("hsm", 1, 1) == 1
    assert optimal_cost("hsm", comb(10 + 2, 2) + 1, 10) > 2 * (comb(10 + 2, 2) + 1)
    for a in (2, 3, 5):
        exact = Fraction(regime.longest_average("hsm", a, 10**4), 1) * factorial(a - 1) / 10 ** (4 * (a - 1))
        assert 1 <= exact < 1 + Fraction(1, 500)


@given(st.sampled_from(["hsm", "ism"]), st.integers(1, 10**12), st.integers(1, 60))
def test_sharp_bounds_hold_hypothesis(policy, steps, slots):
    assert sharp.two_sided_holds(policy, steps, slots)
    assert sharp.second_order_holds(policy, steps, slots)


@pytest.mark.parametrize("policy", SOLVED)
@pytest.mark.parametrize("slots", [1, 2, 3, 7])
def test_sharp_bounds_are_tight(policy, slots):
    assert not sharp.two_sided_holds(policy, 10**9, slots, top=1)
    assert not sharp.second_order_holds(policy, 10**40, slots, slope=1)
    assert not sharp.second_order_holds(policy, 10**40, slots, slope=-1)


@pytest.mark.parametrize("constant", [1, 2, 3, 4, 5, 10])
@pytest.mark.parametrize("less", [0, 1])
def test_every_constant_has_a_counterexample(constant, less):
    steps, slots = constants.counterexample(constant, less=less)
    assert (optimal_cost("hsm", steps, slots) - less * steps) ** slots > constant**slots * steps ** (slots + 1)


@pytest.mark.parametrize(("constant", "less"), [(1, 0), (1, 1), (2, 0), (2, 1)])
def test_a_range_is_checked_as_by_brute_force(constant, less):
    grid = [(t, m) for m in range(1, 40) for t in range(1, 300)]
    excess = {(t, m): optimal_cost("hsm", t, m) - less * t for t, m in grid}
    bad = [(t, m) for t, m in grid if excess[t, m] ** m >= constant**m * t ** (m + 1)]
    report = ranges.check_range(constant, less=less, steps=300, slots=40)
    assert report.failures == len(bad)
    assert report.first == min(bad, default=None)
    assert report.largest == max(grid, key=lambda at: excess[at] / at[0] ** (1 + 1 / at[1]))
    if constant + less > 1:
        assert ranges.check_range(constant, less=less, steps=300, slots=None).first == report.first


def test_b2_holds_on_its_whole_range_and_first_fails_at_281790():
    report = ranges.check_range(4)
    assert (report.failures, report.largest, report.ratio) == (0, (99999, 56), Fraction(37922, 10**4))
    report = ranges.check_range(4, steps=281791, slots=None)
    assert (report.failures, report.first) == (1, (281790, 39))


def test_b3_is_refuted_with_its_first_and_worst_counterexample():
    report = ranges.check_range(3, less=1)
    assert (report.failures, report.first) == (103663, (80309, 28))
    assert (report.largest, report.ratio) == ((99999, 29), Fraction(30498, 10**4))
    assert ranges.check_range(3, less=1, steps=80309, slots=None).failures == 0


@pytest.mark.parametrize("policy", SOLVED)
def test_the_regime_of_fixed_cost_is_exact_exhaustive(policy):
    for slots in range(1, 13):
        for a in range(1, 13):
            each, average = regime.longest_each(policy, a, slots), regime.longest_average(policy, a, slots)
            assert each <= average
            assert len(SOLVED[policy].step_evaluations(each, slots)) <= a + 1
            assert len(SOLVED[policy].step_evaluations(each + 1, slots)) > a + 1
            assert optimal_cost(policy, average, slots) <= a * average
            for longer in range(average + 1, average + 50):
                assert optimal_cost(policy, longer, slots) > a * longer


@given(st.sampled_from(["hsm", "ism"]), st.integers(1, 200), st.integers(1, 60))
def test_the_regime_of_fixed_cost_is_exact_hypothesis(policy, a, slots):
    longest = regime.longest_average(policy, a, slots)
    assert optimal_cost(policy, longest, slots) <= a * longest
    assert optimal_cost(policy, longest + 1, slots) > a * (longest + 1)


@given(st.integers(2, 7), st.data())
def test_msm_lies_between_its_bounds_hypothesis(alpha, data):
    known = data.draw(st.none() | st.integers(1, alpha))
    table = build("msm", 150, 60, internal=alpha, internal_known=known)
    t, m = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 60))
    below = msm.lower_bound(t, m, internal=known or alpha)
    assert max(below, optimal_cost("ism", t, m)) <= table.cost(t, m) <= optimal_cost("hsm", t, m)
    if known is None and alpha * (m - 1) < 60:
        assert table.cost(t, alpha * (m - 1) + 1) <= optimal_cost("ism", t, m)


def test_the_lower_bound_of_msm_is_mostly_the_cost():
    table = build("msm", 100, 40, internal=2)
    gaps = [table.cost(t, m) - msm.lower_bound(t, m, internal=2) for t in range(1, 101) for m in range(1, 41)]
    assert gaps.count(0) > 0.9 * len(gaps)
    assert max(gaps) < 10


@pytest.mark.parametrize(("alpha", "bends", "first"), [(2, 399, (10, 3)), (3, 416, (10, 7)), (5, 569, (6, 6))])
def test_msm_is_not_convex_and_the_count_is_exact(alpha, bends, first):
    assert msm.concave_bends(alpha, 299) == (bends, first)


def test_arguments_outside_the_domain_are_refused():
    calls = [
        lambda: hsm.optimal_splits(0, 3),
        lambda: ism.step_evaluations(3, 0),
        lambda: regime.longest_each("msm", 2, 3),
        lambda: regime.longest_average("hsm", 0, 3),
        lambda: msm.lower_bound(5, 5, internal=0),
        lambda: constants.counterexample(0),
        lambda: monotone.pointer_search("hsm", 0, 3),
        lambda: monotone.pointer_search("msm", 2, 3),
        lambda: ranges.check_range(4, slots=1),
        lambda: ranges.check_range(1, slots=None),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"must be at least|closed form|monotone splits"):
            call()
