"""Chen's strategies: their metered costs equal the closed forms, and the paper's policies are never worse (B8)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_theory.actions import Advance, Sizes
from membptt_theory.chen import Cost, best_segment, recursive_cost, recursive_schedule, sqrt_cost, sqrt_schedule
from membptt_theory.machine import meter
from membptt_theory.policy import PolicyTable
from membptt_theory.tables import build, optimal_cost

T = 300
SHARED = [Sizes(1, beta + 1, beta) for beta in (1, 2, 5, 10)]
SEPARATE = [Sizes(1, alpha) for alpha in (2, 5, 11)]
HIDDEN_ONLY = Sizes(1, None)

SqrtCost = Callable[[int, int, Sizes], tuple[int, int]]


@cache
def msm(sizes: Sizes) -> PolicyTable:
    """One table per size, wide enough for a single segment of `T` steps."""
    assert sizes.internal is not None
    room = 1 + (T - 1) * (sizes.internal_known or sizes.internal)
    return build("msm", T, room, internal=sizes.internal, internal_known=sizes.internal_known)


def metered_sqrt(steps: int, segment: int, sizes: Sizes, *, records_last: bool = True) -> Cost:
    report = meter(sqrt_schedule(steps, segment, records_last=records_last), steps=steps, sizes=sizes)
    return Cost(report.forwards, report.peak)


def metered_recursive(steps: int, parts: int, *, records_last: bool = True) -> Cost:
    report = meter(recursive_schedule(steps, parts, records_last=records_last), steps=steps, sizes=HIDDEN_ONLY)
    return Cost(report.forwards, report.peak)


def wrong_closed_forms(closed_form: SqrtCost, sizes: Sizes, steps: range) -> list[tuple[int, int]]:
    """Every ``(t, L)`` where the metered schedule disagrees with a closed form."""
    pairs = ((t, segment) for t in steps for segment in range(1, t + 2))
    return [(t, segment) for t, segment in pairs if closed_form(t, segment, sizes) != metered_sqrt(t, segment, sizes)]


def worse_than_chen(cost: Callable[[int, int], int], sizes: Sizes, steps: range) -> list[tuple[int, int]]:
    """Every ``(t, L)`` where Chen's sqrt(t) strategy beats a policy at the memory that Chen uses."""
    pairs = ((t, segment, sqrt_cost(t, segment, sizes)) for t in steps for segment in range(1, t + 1))
    return [(t, segment) for t, segment, chen in pairs if cost(t, chen.slots) > chen.forwards]


@pytest.mark.parametrize("sizes", [SHARED[0], SHARED[1], SEPARATE[1], Sizes(2, 7, 3)], ids=str)
@pytest.mark.parametrize("records_last", [True, False])
def test_metered_sqrt_cost_equals_the_closed_form_exhaustive(sizes: Sizes, records_last: bool) -> None:
    for steps in range(1, 61):
        for segment in range(1, steps + 2):
            expected = sqrt_cost(steps, segment, sizes, records_last=records_last)
            assert metered_sqrt(steps, segment, sizes, records_last=records_last) == expected


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [SHARED[1], SEPARATE[0]], ids=str)
def test_metered_sqrt_cost_equals_the_closed_form_to_300_exhaustive(sizes: Sizes) -> None:
    assert wrong_closed_forms(sqrt_cost, sizes, range(1, T + 1)) == []


@pytest.mark.parametrize("records_last", [True, False])
def test_metered_recursive_cost_equals_the_closed_form_exhaustive(records_last: bool) -> None:
    for steps in range(1, 61):
        for parts in range(2, steps + 3):
            expected = recursive_cost(steps, parts, records_last=records_last)
            assert metered_recursive(steps, parts, records_last=records_last) == expected


@pytest.mark.slow
def test_metered_recursive_cost_equals_the_closed_form_to_300_exhaustive() -> None:
    for steps in range(1, T + 1):
        for parts in range(2, steps + 2):
            assert metered_recursive(steps, parts) == recursive_cost(steps, parts)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(1, 12), st.integers(0, 3), st.booleans())
def test_metered_costs_equal_the_closed_forms_hypothesis(
    data: st.DataObject, hidden: int, known: int, more: int, records_last: bool
) -> None:
    steps = data.draw(st.integers(1, 4000))
    segment = data.draw(st.one_of(st.integers(1, steps), st.integers(1, 80)))
    parts = data.draw(st.one_of(st.integers(2, 12), st.integers(2, steps + 1)))
    sizes = Sizes(hidden, known + more, data.draw(st.sampled_from([None, known])))
    expected = sqrt_cost(steps, segment, sizes, records_last=records_last)
    assert metered_sqrt(steps, segment, sizes, records_last=records_last) == expected
    expected = recursive_cost(steps, parts, records_last=records_last)
    assert metered_recursive(steps, parts, records_last=records_last) == expected


@pytest.mark.parametrize("sizes", SHARED + SEPARATE, ids=str)
def test_msm_never_costs_more_than_chens_sqrt_strategy_exhaustive(sizes: Sizes) -> None:
    costs = msm(sizes).costs[0]
    assert worse_than_chen(lambda t, m: int(costs[m, t]), sizes, range(1, T + 1)) == []


def test_hsm_never_costs_more_than_chens_recursive_strategy_exhaustive() -> None:
    for steps in range(1, T + 1):
        for parts in range(2, steps + 2):
            chen = recursive_cost(steps, parts)
            assert optimal_cost("hsm", steps, chen.slots) <= chen.forwards


@pytest.mark.parametrize("sizes", [SHARED[1], SEPARATE[1]], ids=str)
def test_msm_beats_chen_when_both_run_on_one_machine_exhaustive(sizes: Sizes) -> None:
    for steps in range(1, T + 1):
        segment = best_segment(steps, sizes) or 1
        for length in {1, segment, -(-steps // 2), steps} if steps % 10 == 0 else {segment}:
            chen = metered_sqrt(steps, length, sizes)
            ours = meter(msm(sizes).schedule(steps, chen.slots), steps=steps, sizes=sizes)
            assert ours.peak <= chen.slots
            assert ours.forwards <= chen.forwards


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10**6), st.integers(2, 10**4))
def test_hsm_never_costs_more_than_chens_recursive_strategy_hypothesis(steps: int, parts: int) -> None:
    chen = recursive_cost(steps, parts)
    assert optimal_cost("hsm", steps, chen.slots) <= chen.forwards


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 700), st.integers(1, 8), st.data())
def test_msm_never_costs_more_than_chens_sqrt_strategy_hypothesis(steps: int, beta: int, data: st.DataObject) -> None:
    sizes = Sizes(1, beta + 1, beta)
    segment = data.draw(st.integers(1, 1 + 100 // beta))
    chen = sqrt_cost(steps, segment, sizes)
    table = build("msm", steps, min(chen.slots, 1 + beta * steps), internal=beta + 1, internal_known=beta)
    assert table.cost(steps, min(chen.slots, table.slots)) <= chen.forwards


def test_the_comparison_with_chen_is_not_vacuous() -> None:
    # Equal somewhere: one segment, and one step per segment, are what the dynamic programme does too.
    sizes = SHARED[1]
    equal = [t for t in range(1, T + 1) if msm(sizes).cost(t, sqrt_cost(t, t, sizes).slots) == t]
    assert equal == list(range(1, T + 1))
    assert recursive_cost(T, T) == (optimal_cost("hsm", T, T), T)
    # Strict at the segment that needs the fewest slots.
    chen = sqrt_cost(T, best_segment(T, sizes) or 1, sizes)
    assert msm(sizes).cost(T, chen.slots) < chen.forwards


def test_a_policy_made_worse_is_caught() -> None:
    sizes, steps = SHARED[1], range(1, 41)
    costs = msm(sizes).costs[0]
    assert worse_than_chen(lambda t, m: int(costs[m, t]), sizes, steps) == []
    assert worse_than_chen(lambda t, m: int(costs[m, t]) + 1, sizes, steps)
    assert worse_than_chen(lambda t, m: int(costs[max(1, m - 1), t]), sizes, steps)
    assert worse_than_chen(lambda t, m: optimal_cost("hsm", t, m), sizes, steps)
    assert worse_than_chen(lambda t, m: build("msm", 40, 120, internal=3).cost(t, min(m, 120)), sizes, steps)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t, length, sizes: (2 * t - min(length, t), sqrt_cost(t, length, sizes).slots),
        lambda t, length, sizes: (2 * t, sqrt_cost(t, length, sizes).slots),
        lambda t, length, sizes: (sqrt_cost(t, length, sizes).forwards, -(-t // length) + 2 * (min(length, t) - 1)),
        lambda t, length, sizes: (sqrt_cost(t, length, sizes).forwards, sqrt_cost(t, length, sizes).slots + 2),
    ],
    ids=["tail taken as a whole segment", "last segment run twice", "tail taken for full", "working core in a slot"],
)
def test_a_wrong_closed_form_is_caught(wrong: SqrtCost) -> None:
    assert wrong_closed_forms(sqrt_cost, SHARED[1], range(1, 20)) == []
    assert wrong_closed_forms(wrong, SHARED[1], range(1, 20))


@pytest.mark.parametrize("sizes", [*SHARED, SEPARATE[0], Sizes(50, 3, 3)], ids=str)
def test_best_segment_is_the_best_of_all_segments_exhaustive(sizes: Sizes) -> None:
    for steps in range(1, 71):
        costs = {segment: sqrt_cost(steps, segment, sizes) for segment in range(1, steps + 1)}
        least = min((cost.slots, cost.forwards, segment) for segment, cost in costs.items())
        assert best_segment(steps, sizes) == least[2]
        for slots in range(1, 60, 3):
            fits = [(cost.forwards, cost.slots, s) for s, cost in costs.items() if cost.slots <= slots]
            assert best_segment(steps, sizes, slots=slots) == (min(fits)[2] if fits else None)


def test_a_long_schedule_is_lazy_and_needs_no_recursion() -> None:
    steps = 10**5
    for parts in (2, 10, steps + 1):
        assert metered_recursive(steps, parts) == recursive_cost(steps, parts)
    assert metered_sqrt(steps, 316, SHARED[1]) == sqrt_cost(steps, 316, SHARED[1])
    assert next(iter(sqrt_schedule(10**12, 10**6))) == Advance(0, 10**6)
    assert len(list(islice(recursive_schedule(10**12, 2), 100))) == 100
    assert best_segment(10**9, SHARED[1]) is not None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sqrt_schedule(0, 1), ValueError, "steps must be at least 1"),
        (lambda: sqrt_schedule(3, 0), ValueError, "segment must be at least 1"),
        (lambda: sqrt_schedule(3, 1.5), TypeError, "segment must be an integer"),  # type: ignore[arg-type]
        (lambda: recursive_schedule(3, 1), ValueError, "parts must be at least 2"),
        (lambda: recursive_cost(3, 2, hidden=0), ValueError, "hidden must be at least 1"),
        (lambda: sqrt_cost(3, 2, HIDDEN_ONLY), ValueError, "cannot store both"),
        (lambda: sqrt_cost(3, 2, Sizes(None, 1)), ValueError, "cannot store both"),
        (lambda: best_segment(3, HIDDEN_ONLY), ValueError, "cannot store both"),
        (lambda: best_segment(3, SHARED[0], slots=0), ValueError, "slots must be at least 1"),
    ],
)
def test_bad_input_is_one_clear_error(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_chen_imports_without_sympy() -> None:
    code = "import membptt_theory.chen, sys; sys.exit('sympy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
