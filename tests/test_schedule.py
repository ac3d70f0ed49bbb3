"""The stream executes the table: its metered cost is the table's, and its peak fits the slots."""

import copy
import gc
import pickle
import sys
import tracemalloc
from collections import deque
from dataclasses import FrozenInstanceError, astuple
from itertools import product

import pytest
from hypothesis import given

from membptt_theory import streams as module
from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    DropSlow,
    LoadInternal,
    Record,
    ReduceInternal,
    Restore,
    RestoreSlow,
    StoreHidden,
    StoreInternal,
    StoreSlow,
)
from membptt_theory.machine import meter
from membptt_theory.recurrences import KEPT, OWNED, Decision
from membptt_theory.streams import MOST, SHORT, Template
from membptt_theory.tables import build

from .strategies import POLICIES, grid, policy_id, queries

# The tables that the claim meters.
TABLES = [("hsm", {}), ("ism", {})]
TABLES += [(policy, {"internal": alpha}) for policy in ("msm", "msm_plus") for alpha in (2, 3, 5)]
TABLES += [("msm", {"internal": alpha, "internal_known": alpha - 1}) for alpha in (2, 3, 5)]


def metered(table, steps, slots):
    return meter(table.schedule(steps, slots), steps=steps, sizes=table.sizes)


def one_by_one(table, steps, slots):
    """The stream without templates, one action at a time: what `schedule` must equal."""
    single_mode = len(table.costs) == 1
    pending = []
    start, owned, there = 0, table.sizes.hidden is not None, True
    while True:
        if not there:
            yield Restore(start)
        mode = OWNED if owned or single_mode else KEPT
        decision, y = table.decision(steps, slots, mode) if steps > 1 else (Decision.LAST, 1)
        there = False
        if y == steps:
            if steps > 1:
                yield Advance(start, start + steps - 1)
            yield Record(start + steps - 1)
            yield Backpropagate(start + steps - 1)
            steps -= 1
            if steps:
                continue
            if owned:
                yield DropHidden(start)
        elif decision == Decision.HIDDEN:
            yield Advance(start, start + y)
            yield StoreHidden(start + y)
            pending.append((start, y, slots, owned))
            start, steps, slots, owned, there = start + y, steps - y, slots - 1, True, True
            continue
        else:
            if y > 1:
                yield Advance(start, start + y - 1)
            room = table.recurrence.room(mode, decision, y, steps)
            if decision == Decision.RELEASE:
                yield DropHidden(start)
                owned = False
            yield Record(start + y - 1)
            yield StoreInternal(start + y - 1)
            pending += [(start, y - 1, slots, owned), Backpropagate(start + y - 1), LoadInternal(start + y - 1)]
            start, steps, slots, owned, there = start + y, steps - y, slots - room, False, True
            continue
        while pending:
            part = pending.pop()
            if isinstance(part, Backpropagate | LoadInternal):
                yield part
                continue
            start, steps, slots, owned = part
            if steps:
                break
            if owned:
                yield DropHidden(start)
        else:
            return


@pytest.mark.parametrize(("policy", "sizes"), TABLES, ids=policy_id)
@pytest.mark.parametrize("short", [4, SHORT])
def test_the_stream_equals_the_one_without_templates_exhaustive(policy, sizes, short, monkeypatch):
    monkeypatch.setattr(module, "SHORT", short)
    table = copy.copy(build(policy, 60, 12, **sizes))  # a table without templates yet
    for t, m in grid(60, 12):
        assert list(table.schedule(t, m)) == list(one_by_one(table, t, m))


@given(queries(most_steps=5000, most_slots=16))
def test_the_stream_equals_the_one_without_templates_hypothesis(query):
    assert all(ours == plain for ours, plain in zip(query[0].schedule(*query[1:]), one_by_one(*query), strict=True))


def spelled(actions):
    return [(type(action), tuple(action)) for action in actions]


@pytest.mark.parametrize(("policy", "sizes"), TABLES, ids=policy_id)
def test_instructions_are_the_kind_and_places_of_each_action_exhaustive(policy, sizes):
    table = build(policy, 80, 12, **sizes)
    for t, m in grid(80, 12):
        assert list(table.schedule(t, m).instructions()) == spelled(one_by_one(table, t, m))


@given(queries(most_steps=5000, most_slots=16))
def test_instructions_are_the_kind_and_places_of_each_action_hypothesis(query):
    assert list(query[0].schedule(*query[1:]).instructions()) == spelled(one_by_one(*query))


@pytest.mark.parametrize("spoilt", ["_kinds", "_spans", "_steps"])
def test_a_wrong_template_is_noticed(spoilt, monkeypatch):
    wrong = {"_kinds": lambda kinds: kinds[::-1], "_spans": lambda spans: [(a, b + 1) for a, b in spans]}
    wrong["_steps"] = lambda steps: steps + 1  # every span is then one place too far on in the list
    right = Template.__init__

    def init(self, stream, steps):
        right(self, stream, steps)
        setattr(self, spoilt, wrong[spoilt](getattr(self, spoilt)))

    monkeypatch.setattr(Template, "__init__", init)
    table = copy.copy(build("hsm", 60, 3))
    assert list(table.schedule(60, 3)) != list(one_by_one(table, 60, 3))


def test_templates_are_few_and_go_with_their_table():
    kept = module._TEMPLATES
    table = copy.copy(build("msm", 400, 30, internal=2))
    for t, m in product(range(300, 400, 7), range(1, 31)):
        deque(table.schedule(t, m), maxlen=0)
        assert 0 < len(kept[table]) <= MOST
    before = len(kept)
    del table
    gc.collect()
    assert len(kept) == before - 1


KINDS = [Record, Backpropagate, StoreHidden, StoreInternal, Restore, LoadInternal, DropHidden, DropInternal]
KINDS += [ReduceInternal, StoreSlow, RestoreSlow, DropSlow]


def test_actions_are_equal_exactly_where_kind_and_places_are():
    actions = [*(kind(place) for kind in KINDS for place in range(3)), Advance(0, 1), Advance(0, 2), Advance(1, 2)]
    for i, action in enumerate(actions):
        for k, other in enumerate(actions):
            assert ((action == other), (action != other)) == ((i == k), (i != k))
        assert action not in ([tuple(action)], [list(action)], list(action))
        assert tuple(action) != action
        copied = type(action)(*action)
        assert (copied == action, hash(copied) == hash(action)) == (True, True)
    assert len(set(actions)) == len(actions)


def test_an_action_is_a_frozen_dataclass_with_its_fields_by_name():
    for action in (Advance(3, 5), Record(4), Restore(position=2)):
        for twin in (pickle.loads(pickle.dumps(action)), copy.copy(action), copy.deepcopy(action)):
            assert (twin, type(twin)) == (action, type(action))
        name = type(action).__match_args__[0]
        assert astuple(action)[0] == getattr(action, name)
        with pytest.raises(FrozenInstanceError):
            setattr(action, name, 7)
        with pytest.raises(AttributeError):
            action.other = 7
    assert repr([Advance(3, 5), Record(4)]) == "[Advance(start=3, stop=5), Record(step=4)]"
    with pytest.raises(TypeError):
        Record(1, 2)


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_metered_cost_equals_the_table_and_peak_fits_exhaustive(policy, sizes):
    table = build(policy, 120, 12, **sizes)
    for t, m in grid(120, 12):
        report = metered(table, t, m)
        assert report.forwards == table.cost(t, m)
        assert report.peak <= m


@given(queries(most_steps=5000, most_slots=16))
def test_metered_cost_equals_the_table_and_peak_fits_hypothesis(query):
    table, t, m = query
    report = metered(table, t, m)
    assert report.forwards == table.cost(t, m)
    assert report.peak <= m


def test_hsm_uses_every_slot_it_is_given_where_it_has_steps_for_them():
    table = build("hsm", 60, 12)
    assert all(metered(table, t, m).peak == min(t, m) for t, m in grid(60, 12))


def test_one_slot_recomputes_from_the_start_for_every_step():
    """The branch that the paper's Algorithm 2 lacks."""
    table = build("hsm", 3, 1)
    assert list(table.schedule(3, 1)) == [
        Advance(0, 2),
        Record(2),
        Backpropagate(2),
        Restore(0),
        Advance(0, 1),
        Record(1),
        Backpropagate(1),
        Restore(0),
        Record(0),
        Backpropagate(0),
        DropHidden(0),
    ]


def test_two_slots_store_one_hidden_state():
    table = build("hsm", 3, 2)
    assert list(table.schedule(3, 2))[:4] == [Advance(0, 1), StoreHidden(1), Advance(1, 2), Record(2)]


def test_an_internal_state_is_stored_only_where_something_lies_to_its_right():
    table = build("ism", 4, 4)
    stored = [action.step for action in table.schedule(4, 4) if isinstance(action, StoreInternal)]
    assert stored == [0, 1, 2]


def test_every_step_is_recorded_once_whatever_the_policy():
    """So the optimum does not depend on what a backward costs relative to a forward."""
    for policy, sizes in POLICIES:
        table = build(policy, 40, 9, **sizes)
        assert all(metered(table, t, m).recorded == t for t, m in grid(40, 9))


@pytest.mark.parametrize("policy", ["hsm", "ism"])
def test_a_million_steps_stream_in_the_memory_of_the_slots(policy):
    steps, slots = 10**6, 6
    table = build(policy, steps, slots)
    limit = sys.getrecursionlimit()
    tracemalloc.start()
    try:
        stream = table.schedule(steps, slots)
        for _, _action in zip(range(20_000), stream, strict=False):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert sys.getrecursionlimit() == limit


@pytest.mark.slow
def test_a_million_steps_are_metered_to_the_end():
    table = build("hsm", 10**6, 12)
    assert metered(table, 10**6, 12).forwards == table.cost(10**6, 12)


def test_a_question_outside_the_table_is_refused_at_the_call():
    table = build("hsm", 10, 3)
    for steps, slots in ((0, 1), (11, 1), (5, 0), (5, 4)):
        with pytest.raises(ValueError, match="must be"):
            table.schedule(steps, slots)
    with pytest.raises(TypeError, match="integer"):
        table.schedule(5, 2.0)
