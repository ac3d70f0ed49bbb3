"""Derivations about Chen's strategies and MSM at their cost: verified, and refused when a constant is wrong."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs.oracle import least_costs
from membptt_theory.actions import Sizes
from membptt_theory.chen import Cost, recursive_cost, sqrt_cost
from membptt_theory.derive import chen, chen_memory, chen_recursive, cost_fixed, cost_two
from membptt_theory.derive.cost_two import Reach, least_slots, longest
from membptt_theory.derive.steps import Derivation, Finite
from membptt_theory.tables import build, optimal_cost

DERIVATIONS = (*chen.derivations(), *chen_memory.derivations(), *cost_two.derivations(), *cost_fixed.derivations())
IDS = [derivation.name for derivation in DERIVATIONS]


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=IDS)
def test_every_step_of_a_derivation_verifies(derivation: Derivation) -> None:
    assert derivation.failures() == ()
    assert any(not isinstance(step, Finite) for step in derivation.steps)
    assert derivation.text
    assert derivation.latex(steps=True).count("\n") >= len(derivation.steps)


@pytest.mark.parametrize(
    ("name", "mutants"),
    [
        ("msm-alpha-cut", [cost_two.alpha_cut(0)]),
        ("msm-cost-two", [cost_two.cost_two(Reach(none=wrong)) for wrong in (1, 3)]),
        ("msm-cost-two", [cost_two.cost_two(Reach(some=wrong)) for wrong in (0, 2)]),
        ("msm-cost-two", [cost_two.cost_two(Reach(below=wrong)) for wrong in (0, 2)]),
        ("msm-cost-two", [cost_two.cost_two(Reach(grow=wrong)) for wrong in (0, 2)]),
        ("msm-fixed-cost", [cost_fixed.fixed_cost(cost_fixed.Pascal(corner=wrong)) for wrong in (0, 2)]),
        ("msm-fixed-cost", [cost_fixed.fixed_cost(cost_fixed.Pascal(lift=wrong)) for wrong in (0, 2)]),
        ("chen-sqrt-cost", [chen.sqrt_strategy(chen.Constants(passes=wrong)) for wrong in (1, 3)]),
        ("chen-sqrt-cost", [chen.sqrt_strategy(chen.Constants(core=wrong)) for wrong in (0, 2)]),
        ("chen-recursive-cost", [chen.recursive_strategy(chen.Constants(start=wrong)) for wrong in (0, 2)]),
        ("chen-recursive-cost", [chen.recursive_strategy(chen.Constants(slope=wrong)) for wrong in (0, 2)]),
        ("chen-never-better", [chen.never_worse(chen.Constants(core=wrong)) for wrong in (0, 2)]),
        ("chen-never-better", [chen.never_worse(chen.Constants(passes=wrong)) for wrong in (1, 3)]),
        ("chen-memory-at-cost-two", [chen_memory.memory(wrong) for wrong in (1, 3)]),
        ("chen-memory-hsm-ism", [chen_memory.other_policies(wrong) for wrong in (1, 3)]),
    ],
)
def test_a_changed_constant_fails_a_symbolic_step(name: str, mutants: list[Derivation]) -> None:
    for mutant in mutants:
        assert mutant.name == name
        assert mutant.failures(symbolic_only=True)


@pytest.mark.parametrize("wrong", [Reach(none=1), Reach(none=3), Reach(some=2), Reach(below=0), Reach(grow=2)])
def test_a_wrong_closed_form_fails_the_finite_check(wrong: Reach) -> None:
    assert "finite" in cost_two.cost_two(wrong).failures()


def test_the_closed_form_needs_an_internal_state_of_more_than_beta() -> None:
    assert Reach().longest(3, 2, 0) == longest(3, 2) == 6
    assert build("msm", 7, 3, internal=2, internal_known=2).cost(7, 3) == 14
    assert build("msm", 7, 3, internal=3, internal_known=2).cost(7, 3) > 14


def test_chens_own_cost_saves_nothing_at_depth_two() -> None:
    for parts in range(2, 60):
        cost = recursive_cost(parts**2, parts)
        assert cost.slots == 2 * parts - 1
        assert optimal_cost("hsm", parts**2, 2 * parts - 2) == cost.forwards
        assert parts == 2 or optimal_cost("hsm", parts**2, 2 * parts - 3) > cost.forwards


@pytest.mark.parametrize(("depth", "parts", "factor"), [(3, 3000, 0.816), (4, 900, 0.721), (5, 400, 0.662)])
def test_hsm_needs_these_parts_of_the_recursive_strategys_slots(depth: int, parts: int, factor: float) -> None:
    cost = recursive_cost(parts**depth, parts)
    slots = bisect_left(range(1, cost.slots), True, key=lambda m: optimal_cost("hsm", parts**depth, m) <= cost.forwards)
    assert (slots + 1) / cost.slots == pytest.approx(factor, abs=2e-3)


def test_what_is_proved_does_not_build_on_the_argument_in_words() -> None:
    assert not any("detached-cost-two" in derivation.uses for derivation in DERIVATIONS)


@pytest.mark.parametrize("more", [Cost(1, 0), Cost(0, 1)])
def test_a_wrong_closed_form_of_chens_strategies_fails_against_the_metered_streams(
    more: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(right: Callable[..., Cost]) -> Callable[..., Cost]:
        return lambda *given: Cost(*map(sum, zip(right(*given), more, strict=True)))

    monkeypatch.setattr(chen, "sqrt_cost", wrong(sqrt_cost))
    monkeypatch.setattr(chen_recursive, "recursive_cost", wrong(recursive_cost))
    assert "metered" in chen.sqrt_strategy(chen.Constants()).failures()
    assert "metered" in chen.recursive_strategy(chen.Constants()).failures()


def test_a_wrong_cost_of_hsm_fails_at_chens_own_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chen_recursive, "optimal_cost", lambda *given: optimal_cost(*given) + 1)
    assert chen.recursive_strategy(chen.Constants()).failures() == ("own-cost-finite",)


def test_the_bound_for_every_schedule_can_fail() -> None:
    assert "finite" in cost_two.every_schedule(Reach(grow=-1)).failures()


@pytest.mark.parametrize("known", [1, 2, 3, 7])
@pytest.mark.parametrize("more", [1, 4])
def test_msm_costs_its_closed_form_wherever_it_takes_two_forwards_a_step_exhaustive(known: int, more: int) -> None:
    costs = build("msm", 300, 60, internal=known + more, internal_known=known).costs[0]
    for slots in range(1, 61):
        for steps in range(1, 301):
            cost = int(costs[slots, steps])
            assert Reach().cost(steps, slots, known) == (cost if cost <= 2 * steps else None)


@pytest.mark.parametrize("known", [1, 2, 3, 5])
def test_no_legal_schedule_beats_the_closed_form_at_two_forwards_a_step_exhaustive(known: int) -> None:
    for slots in range(1, 9 * known + 2):
        costs = least_costs(9, slots, Sizes(1, known + 1, known), storage="shared")
        closed = [Reach().cost(steps, slots, known) for steps in range(1, 10)]
        assert closed == [cost if cost <= 2 * steps else None for steps, cost in enumerate(costs[1:], 1)]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.integers(1, 70), st.integers(1, 700))
def test_msm_costs_its_closed_form_hypothesis(known: int, slots: int, steps: int) -> None:
    cost = build("msm", steps, slots, internal=known + 1, internal_known=known).cost(steps, slots)
    assert Reach().cost(steps, slots, known) == (cost if cost <= 2 * steps else None)


@given(st.integers(1, 10**12), st.integers(1, 10**4), st.data())
def test_least_slots_is_the_inverse_of_longest_hypothesis(steps: int, known: int, data: st.DataObject) -> None:
    saved = data.draw(st.integers(0, min(steps, 10**6)))
    slots = least_slots(steps, known, saved)
    assert longest(slots, known, saved) >= steps
    assert slots == 1 or longest(slots - 1, known, saved) < steps


@pytest.mark.parametrize("known", [1, 2, 5])
def test_the_longest_sequence_at_a_fixed_cost_lies_between_its_bounds(known: int) -> None:
    slots, most = 6, cost_fixed.longest_between(6, known, 5).most + 30
    table = build("msm", most, slots, internal=known + 1, internal_known=known)
    for average in range(1, 6):
        bounds = cost_fixed.longest_between(slots, known, average)
        longest_steps = max(steps for steps in range(1, most + 1) if table.cost(steps, slots) <= average * steps)
        assert bounds.least <= longest_steps <= bounds.most
    assert cost_fixed.longest_between(slots, known, 2).most == longest(slots, known)


def test_the_papers_memory_at_two_forwards_a_step() -> None:
    ratios = [round(chen_memory.memory_at_chens_cost(1000, known).ratio, 3) for known in (2, 5, 10)]
    assert ratios == [0.664, 0.517, 0.394]


@pytest.mark.parametrize(("known", "limit"), [(1, 2**0.5 / 2), (2, 2 / 3), (5, 10**0.5 / 6), (10, 20**0.5 / 11)])
def test_memory_approaches_its_limits(known: int, limit: float) -> None:
    memory = chen_memory.memory_at_chens_cost(10**8, known)
    assert memory.ratio == pytest.approx(limit, rel=2e-3)
    assert memory.msm / memory.best == pytest.approx(0.5**0.5, rel=2e-3)
    # Segments of sqrt(t) divide 10^8: Chen takes 2t - sqrt(t) forwards, and at that cost MSM saves less.
    assert memory.msm_as_chen / memory.chen == pytest.approx((1 - 1 / (1 + known) ** 2) ** 0.5, rel=2e-3)


def test_half_the_memory_from_beta_six_on() -> None:
    ends = [chen_memory.last_at_most_half(known) for known in range(1, 9)]
    assert ends == [5, 8, 17, 52, 267, None, None, None]
    assert all(4 * least_slots(n, 5) ** 2 > 36 * n for n in range(268, 3000))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: least_slots(0, 1), ValueError, "steps must be at least 1"),
        (lambda: least_slots(5, 1, 6), ValueError, "saved must be at most steps"),
        (lambda: least_slots(5, 1.0), TypeError, "known must be an integer"),  # type: ignore[arg-type]
        (lambda: longest(0, 1), ValueError, "slots must be at least 1"),
        (lambda: longest(1, 1, -1), ValueError, "saved must be at least 0"),
        (lambda: chen_memory.last_at_most_half(0), ValueError, "known must be at least 1"),
    ],
)
def test_bad_input_is_one_clear_error(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]
