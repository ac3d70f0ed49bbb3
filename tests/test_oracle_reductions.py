"""The oracle's reductions (points 1 to 4 of its docstring) against a search that has none: every state, every action.

The search below knows the rules and nothing else: any action at any time, one step at a time, in a 0-1 breadth-first
search. It shares no code with the oracle, nor with `Machine`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt_proofs import oracle
from membptt_proofs.oracle import Storage, least_forwards
from membptt_theory.actions import Sizes
from membptt_theory.machine import Machine

from .test_oracle import HSM, ISM, cheapest_stream, mixed, settings_of


class State(NamedTuple):
    """Steps left; working position (-1: none) and whether its step is in the core; stored states as sets of bits."""

    left: int
    position: int
    core: bool
    hidden: int
    internal: int


class Rules(NamedTuple):
    """What may be stored and what it takes.

    Separately: ``h_p`` in bit ``p`` of `hidden`, the internal state of step ``p`` in bit ``p`` of `internal`. Shared
    and detached: `hidden` holds every tensor ``h_p`` there is, whoever holds it, and an internal state adds its rest.
    """

    steps: int
    sizes: Sizes
    storage: Storage
    slots: int

    def room(self, state: State) -> int:
        hidden, internal = self.sizes.hidden or 0, self.sizes.internal or 0
        if self.storage != "separate":
            internal -= 2
        return state.hidden.bit_count() * hidden + state.internal.bit_count() * internal

    def stored_with(self, step: int) -> int:
        """The tensors that an internal state holds."""
        if self.storage == "separate":
            return 0
        return 2 << step if self.storage == "detached" else 3 << step

    def is_held(self, position: int, internal: int) -> bool:
        """Whether a tensor is part of a stored internal state."""
        return any(internal >> p & 1 and self.stored_with(p) >> position & 1 for p in range(self.steps))

    def moves(self, now: State) -> Iterator[tuple[int, State]]:
        """Every action that is legal now: its forwards, and the state after it."""
        p = now.position
        if now.core:
            if p == now.left:
                yield 0, State(now.left - 1, -1, False, now.hidden, now.internal)
            if self.sizes.internal and not now.internal >> p - 1 & 1:
                held = now.hidden | self.stored_with(p - 1)
                yield 0, State(now.left, p, False, held, now.internal | 1 << p - 1)
        elif 0 <= p < self.steps:
            yield 1, now._replace(position=p + 1)
            yield 1, now._replace(position=p + 1, core=True)
        if p >= 0 and not now.core and self.sizes.hidden and not now.hidden >> p & 1:
            yield 0, now._replace(hidden=now.hidden | 1 << p)
        for q in range(self.steps + 1):
            outputs = q and now.internal >> q - 1 & 1
            if not now.core and (now.hidden >> q & 1 or outputs or (q == 0 and not self.sizes.hidden)):
                yield 0, now._replace(position=q)
            if now.hidden >> q & 1 and not self.is_held(q, now.internal):
                yield 0, now._replace(hidden=now.hidden & ~(1 << q))
            if now.internal >> q & 1:
                rest = now.internal & ~(1 << q)
                yield 0, now._replace(internal=rest)
                if not now.core and (self.storage != "detached" or p == q or now.hidden >> q & 1):
                    yield 0, State(now.left, q + 1, True, now.hidden, rest)


def cheapest(rules: Rules) -> int | None:
    """The fewest forwards of any stream of actions."""
    start = State(rules.steps, 0, False, int(bool(rules.sizes.hidden)), 0)
    best = {start: 0}
    queue = deque([(0, start)])
    while queue:
        forwards, now = queue.popleft()
        if now.left == 0:
            return forwards
        if best[now] < forwards:
            continue
        for cost, after in rules.moves(now):
            total = forwards + cost
            if total < best.get(after, total + 1) and rules.room(after) <= rules.slots:
                best[after] = total
                (queue.append if cost else queue.appendleft)((total, after))
    return None


def assert_the_reductions_lose_nothing(t: int, alphas: range) -> int:
    cases = 0
    for sizes, storage, budgets in settings_of(t, alphas):
        for m in budgets:
            assert cheapest(Rules(t, sizes, storage, m)) == least_forwards(t, m, sizes, storage=storage), (m, sizes)
            cases += 1
    return cases


@pytest.mark.parametrize("t", [1, 2, 3, 4])
def test_no_stream_of_actions_beats_the_oracle_s_reduced_search_exhaustive(t):
    assert assert_the_reductions_lose_nothing(t, range(2, 4)) == 2 * t + 3 + 3 * (2 * t + 1) + 3 * (3 * t + 1)


@pytest.mark.parametrize(
    ("sizes", "storage", "m"), [(HSM, "separate", 3), (ISM, "separate", 2), (mixed(2, "shared"), "shared", 4)]
)
def test_no_stream_of_five_steps_beats_the_oracle_s_reduced_search(sizes, storage, m):
    assert cheapest(Rules(5, sizes, storage, m)) == least_forwards(5, m, sizes, storage=storage)


@pytest.mark.slow
@pytest.mark.parametrize("storage", Storage.__args__)
@pytest.mark.parametrize("alpha", range(2, 6))
def test_no_stream_of_five_steps_beats_the_oracle_s_reduced_search_exhaustive(alpha, storage):
    for m in range(1, 5 * alpha + 2):
        sizes = mixed(alpha, storage)
        assert cheapest(Rules(5, sizes, storage, m)) == least_forwards(5, m, sizes, storage=storage), m


@settings(max_examples=25, deadline=None)
@given(t=st.integers(1, 4), m=st.integers(1, 40), alpha=st.integers(2, 12), storage=st.sampled_from(Storage.__args__))
def test_no_stream_of_actions_beats_the_oracle_s_reduced_search_hypothesis(t, m, alpha, storage):
    sizes = mixed(alpha, storage)
    assert cheapest(Rules(t, sizes, storage, m)) == least_forwards(t, m, sizes, storage=storage)


def test_the_rules_without_reductions_are_the_machine_s_exhaustive():
    for t in range(1, 4):
        for alpha in (2, 3):
            for m in range(1, alpha * t + 2):
                sizes = mixed(alpha, "separate")
                assert cheapest(Rules(t, sizes, "separate", m)) == cheapest_stream(Machine(t, sizes), m)


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
