"""The oracle's reductions (points 1 to 4 of its docstring) against a search that has none: every state, every action.

The search without reductions is `membptt_proofs.search`; it shares no code with the oracle, nor with `Machine`.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs import oracle
from membptt_proofs.oracle import Storage, least_forwards
from membptt_proofs.search import Rules, fewest_forwards
from membptt_theory.actions import Sizes
from membptt_theory.machine import Machine

from .test_oracle import HSM, ISM, cheapest_stream, mixed, settings_of


def cheapest(t: int, sizes: Sizes, storage: Storage, m: int) -> int | None:
    return fewest_forwards(Rules(t, sizes.hidden, sizes.internal, storage, m))


def assert_the_reductions_lose_nothing(t: int, alphas: range) -> int:
    cases = 0
    for sizes, storage, budgets in settings_of(t, alphas):
        for m in budgets:
            assert cheapest(t, sizes, storage, m) == least_forwards(t, m, sizes, storage=storage), (m, sizes)
            cases += 1
    return cases


@pytest.mark.parametrize("t", [1, 2, 3, 4])
def test_no_stream_of_actions_beats_the_oracle_s_reduced_search_exhaustive(t):
    assert assert_the_reductions_lose_nothing(t, range(2, 4)) == 2 * t + 3 + 3 * (2 * t + 1) + 3 * (3 * t + 1)


@pytest.mark.parametrize(
    ("sizes", "storage", "m"), [(HSM, "separate", 3), (ISM, "separate", 2), (mixed(2, "shared"), "shared", 4)]
)
def test_no_stream_of_five_steps_beats_the_oracle_s_reduced_search(sizes, storage, m):
    assert cheapest(5, sizes, storage, m) == least_forwards(5, m, sizes, storage=storage)


@pytest.mark.slow
@pytest.mark.parametrize("storage", Storage.__args__)
@pytest.mark.parametrize("alpha", range(2, 6))
def test_no_stream_of_five_steps_beats_the_oracle_s_reduced_search_exhaustive(alpha, storage):
    for m in range(1, 5 * alpha + 2):
        sizes = mixed(alpha, storage)
        assert cheapest(5, sizes, storage, m) == least_forwards(5, m, sizes, storage=storage), m


@settings(max_examples=25, deadline=None)
@given(t=st.integers(1, 4), m=st.integers(1, 40), alpha=st.integers(2, 12), storage=st.sampled_from(Storage.__args__))
def test_no_stream_of_actions_beats_the_oracle_s_reduced_search_hypothesis(t, m, alpha, storage):
    sizes = mixed(alpha, storage)
    assert cheapest(t, sizes, storage, m) == least_forwards(t, m, sizes, storage=storage)


def test_the_rules_without_reductions_are_the_machine_s_exhaustive():
    for t in range(1, 4):
        for alpha in (2, 3):
            for m in range(1, alpha * t + 2):
                sizes = mixed(alpha, "separate")
                assert cheapest(t, sizes, "separate", m) == cheapest_stream(Machine(t, sizes), m)


def no_internal_state_on_the_way(monkeypatch):
    """Point 3 broken: a run stores hidden states only."""
    monkeypatch.setattr(
        oracle,
        "_passed",
        lambda values, q, advance, record: np.stack(
            [np.minimum(*np.moveaxis(values, q, 0)[:2]) + advance] * 2 + [np.moveaxis(values, q, 0)[2] + advance],
            axis=q,
        ),
    )


def nothing_is_dropped_at_a_rest(monkeypatch):
    """Point 1 broken: what is stored stays."""
    monkeypatch.setattr(oracle, "_lowered", lambda values, axes: values)


def a_slot_for_the_working_state(monkeypatch):
    """Point 4 broken: a set that fits does not fit on the way."""
    right = oracle._rooms
    monkeypatch.setattr(oracle, "_rooms", lambda *given: [room + 1 for room in right(*given)])


@pytest.mark.parametrize(
    "mutate", [no_internal_state_on_the_way, nothing_is_dropped_at_a_rest, a_slot_for_the_working_state]
)
def test_a_reduction_that_loses_schedules_is_caught(mutate, monkeypatch):
    mutate(monkeypatch)
    monkeypatch.setattr(oracle, "_solve", oracle._solve.__wrapped__)
    with pytest.raises(AssertionError):
        assert_the_reductions_lose_nothing(3, range(2, 4))
