"""MSM+ solved: its lines, its closed forms and its two branches, against the tables and the search."""

from __future__ import annotations

from bisect import bisect_left
from math import factorial, isqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs import dp
from membptt_proofs.oracle import least_costs
from membptt_theory.actions import Sizes
from membptt_theory.derive import msm_plus
from membptt_theory.derive.steps import Derivation
from membptt_theory.tables import build

ALPHAS = range(2, 6)


@pytest.mark.parametrize("derivation", msm_plus.derivations(), ids=lambda derivation: derivation.name)
def test_every_step_of_a_derivation_verifies(derivation: Derivation) -> None:
    assert derivation.failures() == ()
    assert derivation.text
    assert derivation.latex(steps=True).count("\n") >= len(derivation.steps)


@pytest.mark.parametrize(
    "mutant", [msm_plus.lines(corner=0), msm_plus.lines(corner=2), msm_plus.cost_two(gain=2)], ids=lambda d: d.name
)
def test_a_changed_constant_fails_a_symbolic_step(mutant: Derivation) -> None:
    assert mutant.failures(symbolic_only=True)


def test_a_reach_that_is_too_short_is_no_longer_exact() -> None:
    assert msm_plus.cost_two(gain=0).failures() == ("finite",)


def test_the_line_of_slope_three_is_the_reach_at_two_forwards_a_step_exhaustive() -> None:
    for alpha in range(2, 9):
        for m in range(1, 60):
            ceilings = sum(-(-k // alpha) for k in range(1, m + 2))
            assert msm_plus.limit(m, alpha, 3) == msm_plus.longest(m, alpha) == ceilings + 1


def test_the_lines_are_limits_of_every_legal_schedule_exhaustive() -> None:
    for alpha in ALPHAS:
        for m in range(1, 7 * alpha + 1):
            for t, cost in enumerate(least_costs(7, m, Sizes(1, alpha))[1:], 1):
                assert max(r * t - msm_plus.limit(m, alpha, r) for r in range(1, 9)) <= cost
                assert msm_plus.lower_bound(t, m, alpha) <= cost


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.integers(1, 60), st.integers(1, 400))
def test_the_best_line_is_never_above_the_table_and_mostly_on_it_hypothesis(alpha: int, m: int, t: int) -> None:
    cost = build("msm_plus", t, m, internal=alpha).cost(t, m)
    best = max(r * t - msm_plus.limit(m, alpha, r) for r in range(1, 40))
    assert msm_plus.lower_bound(t, m, alpha) == best if m > 1 else msm_plus.lower_bound(t, m, alpha) >= best
    assert best <= cost


def test_the_best_line_is_the_cost_at_most_sizes() -> None:
    for alpha in ALPHAS:
        table = build("msm_plus", 120, 30, internal=alpha)
        gaps = [table.cost(t, m) - msm_plus.lower_bound(t, m, alpha) for m in range(1, 31) for t in range(1, 121)]
        assert gaps.count(0) > len(gaps) / 2
        assert min(gaps) == 0


@given(st.integers(1, 10**12), st.integers(2, 10**4))
def test_least_slots_is_the_inverse_of_longest_hypothesis(steps: int, alpha: int) -> None:
    slots = msm_plus.least_slots(steps, alpha)
    assert msm_plus.longest(slots, alpha) >= steps
    assert slots == 1 or msm_plus.longest(slots - 1, alpha) < steps


@given(st.integers(10**6, 10**15), st.integers(2, 50))
def test_the_fewest_slots_are_the_root_of_twice_alpha_t_hypothesis(steps: int, alpha: int) -> None:
    slots, root = msm_plus.least_slots(steps, alpha), isqrt(2 * alpha * steps)
    assert root - alpha // 2 - 2 <= slots <= root
    assert slots**2 <= factorial(2) * alpha * steps <= (slots + alpha + 1) ** 2


def test_saving_more_forwards_needs_more_slots_exhaustive() -> None:
    for alpha in ALPHAS:
        for m in range(1, 40):
            reach = [msm_plus.longest(m, alpha, saved) for saved in range(2 + m // alpha)]
            assert reach == sorted(reach, reverse=True)
            assert msm_plus.longest(m, alpha, 2 + m // alpha) == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 12), st.integers(1, 30), st.integers(1, 60))
def test_two_branches_cost_what_the_table_of_every_cut_costs_hypothesis(alpha: int, m: int, t: int) -> None:
    assert dp.msm_plus(t, m, alpha)[m][t] == build("msm_plus", t, m, internal=alpha).cost(t, m)


def test_a_release_that_saves_no_slot_costs_more() -> None:
    costs = build("msm_plus", 30, 12, internal=3)
    assert any(dp.msm_plus(30, 12, 4)[m][t] > costs.cost(t, m) for m in range(1, 13) for t in range(1, 31))


def test_a_million_steps_need_no_table() -> None:
    assert msm_plus.least_slots(10**6, 5) == 3159
    assert bisect_left(range(4000), 10**6, key=lambda m: msm_plus.longest(max(1, m), 5)) == 3159


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: msm_plus.limit(0, 2, 1), "slots must be at least 1"),
        (lambda: msm_plus.limit(1, 1, 1), "internal must be at least 2"),
        (lambda: msm_plus.longest(1, 2, -1), "saved must be at least 0"),
        (lambda: msm_plus.least_slots(0, 2), "steps must be at least 1"),
        (lambda: msm_plus.lower_bound(1, 1, 1), "internal must be at least 2"),
    ],
)
def test_bad_input_is_one_clear_error(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
