"""The fast tables against the naive DP, the closed forms, and the paper's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_proofs import dp
from membptt_theory.policies import recurrence
from membptt_theory.recurrences import INFEASIBLE
from membptt_theory.tables import build, optimal_cost, optimal_split, repetitions, useful_slots

from .strategies import POLICIES, grid, outcome, policy_id


def naive(policy, steps, slots, internal=1, internal_known=None):
    """The referee's table, as an array."""
    if policy == "hsm":
        return np.array(dp.hsm(steps, slots))
    if policy == "ism":
        return np.array(dp.ism(steps, slots))
    return np.array(dp.msm(steps, slots, internal, internal_known))


SIZES = [("hsm", {}), ("ism", {})] + [
    ("msm", {"internal": alpha} | known)
    for alpha in range(2, 7)
    for known in ({}, {"internal_known": alpha - 1}, {"internal_known": 1})
]


@pytest.mark.parametrize(("policy", "sizes"), SIZES, ids=policy_id)
def test_table_equals_naive_dp_exhaustive(policy, sizes):
    table = build(policy, 200, 20, **sizes)
    expected = naive(policy, 200, 20, **sizes)
    assert np.array_equal(table.costs[0, 1:], expected[1:])


@given(st.sampled_from(SIZES), st.integers(1, 60), st.integers(1, 60))
def test_table_equals_naive_dp_hypothesis(which, steps, slots):
    policy, sizes = which
    table = build(policy, steps, slots, **sizes)
    assert np.array_equal(table.costs[0, 1:], naive(policy, steps, slots, **sizes)[1:])


@pytest.mark.parametrize("policy", ["hsm", "ism"])
def test_closed_form_equals_naive_dp_exhaustive(policy):
    expected = naive(policy, 150, 20)
    for t, m in grid(150, 20):
        assert optimal_cost(policy, t, m) == expected[m][t]


@given(st.sampled_from(["hsm", "ism"]), st.integers(2, 10**9), st.integers(2, 10**4))
def test_closed_form_satisfies_the_recurrence_at_its_split_hypothesis(policy, t, m):
    y, taken = optimal_split(policy, t, m), int(policy == "ism")
    at_split = y + optimal_cost(policy, y - taken, m) + (optimal_cost(policy, t - y, m - 1) if t > y else 0)
    assert optimal_cost(policy, t, m) == at_split


@pytest.mark.parametrize("policy", ["hsm", "ism"])
def test_closed_form_split_is_the_smallest_optimal_one_exhaustive(policy):
    taken = int(policy == "ism")
    for t, m in grid(60, 12):
        if t == 1 or m == 1:
            continue
        costs = {
            y: y + optimal_cost(policy, y - taken, m) + (optimal_cost(policy, t - y, m - 1) if t > y else 0)
            for y in range(1, t + taken)
        }
        assert optimal_split(policy, t, m) == min(costs, key=lambda y: (costs[y], y))


@given(st.integers(1, 10**12), st.integers(1, 10**6))
def test_repetitions_is_the_smallest_that_reaches_hypothesis(t, m):
    def beta(r):
        value = 1
        for k in range(1, min(m, r) + 1):
            value = value * (max(m, r) + k) // k
            if value >= t:
                return t
        return value

    r = repetitions(t, m) if m > 3 or t < 10**6 else repetitions(t % 10**6 + 1, m)
    t = t if m > 3 or t < 10**6 else t % 10**6 + 1
    assert beta(r) >= t
    assert r == 0 or beta(r - 1) < t


TARGETS = {
    ("hsm", 10): 4636,
    ("hsm", 50): 2948,
    ("hsm", 100): 2898,
    ("hsm", 500): 2498,
    ("hsm", 1000): 1999,
    ("ism", 10): 3640,
    ("ism", 50): 1950,
    ("ism", 100): 1900,
    ("ism", 500): 1500,
    ("ism", 1000): 1000,
}


@pytest.mark.parametrize(("policy", "slots"), TARGETS)
def test_forwards_at_a_thousand_steps_are_the_targets(policy, slots):
    assert optimal_cost(policy, 1000, slots) == TARGETS[policy, slots]


@pytest.mark.parametrize(
    ("slots", "known", "forwards"), [(50, None, 2723), (50, 4, 2663), (100, None, 1995), (100, 4, 1988)]
)
def test_msm_forwards_at_a_thousand_steps_are_the_targets(slots, known, forwards):
    assert build("msm", 1000, 100, internal=5, internal_known=known).cost(1000, slots) == forwards


@pytest.mark.parametrize(("hidden", "internal", "crossing"), [(50, 10, 309), (100, 20, 1919)])
def test_hsm_overtakes_ism_where_the_paper_says(hidden, internal, crossing):
    def hsm_is_cheaper(t):
        return optimal_cost("hsm", t, hidden) < optimal_cost("ism", t, internal)

    assert hsm_is_cheaper(crossing)
    assert not any(hsm_is_cheaper(t) for t in range(1, crossing))


def test_a_cost_with_no_legal_split_is_the_boundary_value_one():
    """(6)-(7) as printed leave C(1, m) open for 1 < m < alpha; the working core settles it."""
    rule = recurrence("msm", internal=5)
    assert all(rule.boundary(1, m) == 1 for m in range(1, 8))
    assert rule.boundary(1, 0) == INFEASIBLE


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_more_slots_than_useful_save_nothing(policy, sizes):
    steps = 12
    table = build(policy, steps, 80, **sizes)
    useful = useful_slots(policy, steps, 80, internal=sizes.get("internal", 1))
    assert all(table.cost(steps, m) == table.cost(steps, useful) for m in range(useful, 81))


BAD_BUILDS = [
    (("hsm", 0, 5), {}, ValueError, "steps must be at least 1"),
    (("hsm", -3, 5), {}, ValueError, "steps must be at least 1"),
    (("hsm", 5, 0), {}, ValueError, "slots must be at least 1"),
    (("hsm", 2.5, 5), {}, TypeError, "steps must be an integer"),
    (("hsm", True, 5), {}, TypeError, "steps must be an integer"),
    (("hsm", 5, "4"), {}, TypeError, "slots must be an integer"),
    (("xyz", 5, 5), {}, ValueError, "known policies are hsm, ism, msm"),
    (("msm", 5, 5), {}, ValueError, "needs internal >= 2"),
    (("msm", 5, 5), {"internal": 10**30}, ValueError, "below"),
    (("msm", 5, 5), {"internal": 2.0}, TypeError, "internal must be an integer"),
    (("msm", 5, 5), {"internal": 3, "internal_known": 4}, ValueError, "between 1 and internal"),
    (("msm", 5, 5), {"internal": 3, "internal_known": 0}, ValueError, "at least 1 slot"),
    (("hsm", 5, 5), {"internal": 3}, ValueError, "one kind of slot"),
    (("msm_plus", 5, 5), {"internal": 3, "internal_known": 2}, ValueError, "no recurrence for shared storage"),
]


@pytest.mark.parametrize(("arguments", "sizes", "error", "says"), BAD_BUILDS)
def test_a_table_that_cannot_be_is_refused(arguments, sizes, error, says):
    with pytest.raises(error, match=says):
        build(*arguments, **sizes)


@pytest.mark.parametrize("call", [optimal_cost, optimal_split])
def test_closed_forms_refuse_what_the_tables_refuse(call):
    assert outcome(lambda: call("msm", 5, 5)) is ValueError
    assert outcome(lambda: call("hsm", -1, 5)) is ValueError
    assert outcome(lambda: call("hsm", 5, 0)) is ValueError
    assert outcome(lambda: call("ism", 5.0, 5)) is TypeError
