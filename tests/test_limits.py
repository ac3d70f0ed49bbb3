"""When a table is too large: one decision, and its advice is true to the last slot and core."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_theory.limits import ASKED, BUILT, NAMED, PLANNED, Limit, TooLargeError
from membptt_theory.policies import POLICIES, Policy

SMALL = Limit(60, 400, "for a test")


def is_refused(limit, policy, cores, slots, slow=None):
    try:
        limit.check(policy, cores, slots, slow=slow)
    except TooLargeError:
        return True
    return False


def takes(policy, cores, slots, slow):
    """Entries and additions of a table, counted apart from the module that limits them."""
    together = slots * (1 if slow is None else slow)
    additions = 0 if POLICIES[policy].closed_form and slow is None else cores * cores * together
    return (cores + 1) * together, additions


def fits_exactly(limit, policy, cores, slots, slow):
    entries, additions = takes(policy, cores, slots, slow)
    small = entries <= limit.entries and additions <= limit.additions
    assert is_refused(limit, policy, cores, slots, slow) == (not small)


@pytest.mark.parametrize("slow", [None, 1, 2, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_table_is_refused_exactly_where_it_takes_more_than_its_limit_exhaustive(policy, slow):
    for cores in range(1, 65):
        for slots in range(1, 65):
            fits_exactly(SMALL, policy, cores, slots, slow)


@given(
    st.builds(Limit, st.integers(1, 10**9), st.integers(1, 10**12), st.just("for a test")),
    st.sampled_from([*POLICIES]),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.none() | st.integers(1, 10**4),
)
def test_a_table_is_refused_exactly_where_it_takes_more_than_its_limit_hypothesis(limit, policy, cores, slots, slow):
    fits_exactly(limit, policy, cores, slots, slow)


def advice_is_true(limit, policy, cores, slots, slow):
    """What a refusal allows is allowed, and one slot or core more is not."""
    with pytest.raises(TooLargeError) as caught:
        limit.check(policy, cores, slots, slow=slow)
    allowed = str(caught.value).partition("allowed are ")[2]
    one_tier = None if slow is None else 1
    fewer, shorter = re.search(r"(\d+) slots", allowed), re.search(r"(\d+) cores with as many", allowed)
    assert (fewer is not None) == (limit.most_slots(policy, cores, tiers=slow is not None) > 0)
    assert ("fewer of both" in allowed) == (not fewer and not shorter)
    if fewer:
        assert not is_refused(limit, policy, cores, int(fewer[1]), one_tier)
        assert is_refused(limit, policy, cores, int(fewer[1]) + 1, one_tier)
    if shorter:
        assert not is_refused(limit, policy, int(shorter[1]), slots, slow)
        assert is_refused(limit, policy, int(shorter[1]) + 1, slots, slow)


@pytest.mark.parametrize("slow", [None, 1, 2])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_advice_of_a_refusal_is_true_to_the_last_slot_and_core_exhaustive(policy, slow):
    refused = 0
    for cores in range(1, 65):
        for slots in range(1, 65):
            if is_refused(SMALL, policy, cores, slots, slow):
                advice_is_true(SMALL, policy, cores, slots, slow)
                refused += 1
    assert refused > 3000


@given(st.sampled_from([*POLICIES]), st.integers(1, 10**7), st.integers(1, 10**7), st.none() | st.integers(1, 99))
def test_the_advice_of_a_refusal_is_true_to_the_last_slot_and_core_hypothesis(policy, cores, slots, slow):
    for limit in (PLANNED, BUILT, ASKED, NAMED):
        if is_refused(limit, policy, cores, slots, slow):
            advice_is_true(limit, policy, cores, slots, slow)


def test_a_table_of_two_tiers_is_never_taken_for_one_in_closed_form():
    assert SMALL.most_slots("hsm", 20) == SMALL.most_slots("hsm", 20, tiers=True) + 1 == 2


def test_a_refusal_names_the_unit_and_gives_the_advice_of_who_asked():
    message = (
        "a table of 9 steps and 7 slots is too large for a test: allowed are 6 slots, or 7 steps with as many slots"
    )
    with pytest.raises(TooLargeError) as caught:
        SMALL.check("hsm", 9, 7, unit="steps", advice="or take another")
    assert str(caught.value) == f"{message}; or take another"


def test_a_limit_that_forgets_the_additions_is_caught(monkeypatch):
    monkeypatch.setattr(Policy, "closed_form", True)  # what takes() counts is not asked for here
    assert not is_refused(SMALL, "msm", 20, 2)
    monkeypatch.undo()
    assert is_refused(SMALL, "msm", 20, 2)
