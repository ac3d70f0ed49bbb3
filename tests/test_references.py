"""The published schedules of others, counted: `checkpoint_schedules` runs revolve and Maddison's mixed schedules."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_proofs import dp
from membptt_theory.claims import CLAIMS
from membptt_theory.derive.envelope import binomial
from membptt_theory.tables import build, optimal_cost, repetitions

schedules = pytest.importorskip("checkpoint_schedules")
BIBLIOGRAPHY = (Path(__file__).parents[1] / "theory" / "references.bib").read_text()


def forwards(schedule: object) -> int:
    """Count the steps that a schedule runs forward, recorded or not, until the last is backpropagated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it warns that it is slower without numba
        actions = list(schedule)  # type: ignore[call-overload]
    return sum(action.n1 - action.n0 for action in actions if isinstance(action, schedules.Forward))


def test_revolve_takes_the_forwards_of_hsm_exhaustive() -> None:
    for t in range(2, 41):
        for m in range(1, 11):
            taken = forwards(schedules.Revolve(t, min(m, t - 1)))
            assert taken == optimal_cost("hsm", t, m), (t, m)
            r = repetitions(t, m)
            assert taken - t == r * t - binomial(m + 1, r - 1)


def test_the_mixed_schedules_cost_their_recurrence_exhaustive() -> None:
    costs = dp.mixed(24, 8)
    for t in range(2, 25):
        for s in range(1, 9):
            taken = forwards(schedules.MixedCheckpointSchedule(t, min(s, t - 1), storage=schedules.StorageType.RAM))
            assert taken == costs[s][t], (t, s)


@given(st.integers(2, 120), st.integers(1, 20))
def test_mixed_schedules_lie_between_ours_hypothesis(t: int, s: int) -> None:
    cost = forwards(schedules.MixedCheckpointSchedule(t, min(s, t - 1), storage=schedules.StorageType.RAM))
    assert optimal_cost("ism", t, s + 1) <= cost <= build("msm_plus", 120, 20, internal=2).cost(t, s)


def test_every_source_that_a_claim_names_is_in_the_bibliography() -> None:
    words = {word for claim in CLAIMS for word in claim.place.replace(";", " ").replace(",", " ").split()}
    sources = {word for word in words if word[-4:].isdigit() and word[:-4].isalpha()}
    assert {"griewank1992", "grimm1996", "maddison2024", "beaumont2019", "wang2009", "stumm2010", "aupy2017"} <= sources
    assert all(f"{{{source}," in BIBLIOGRAPHY for source in sources), sources
