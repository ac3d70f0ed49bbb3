"""What a loop of unknown length executes: exactly the forwards of `online.cost`, in no more slots than it was given."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from membptt.run.course import Loop
from membptt.run.course import Slots as Room
from membptt.run.execution import Execution
from membptt_theory import online
from membptt_theory.online import Stream
from membptt_theory.online.internal import FIRST, costs
from membptt_theory.online.peers import halving_split


class Position(int):
    """A hidden state that knows nothing but where it is."""

    def check(self, position: int) -> None:
        assert self == position


class Graph(int):
    """A working core of one step."""

    carry_out = ()

    @property
    def start(self) -> Position:
        return Position(self)

    def output(self) -> Position:
        return Position(self + 1)


class CountingCore:
    """Runs no step, and sees that each one would start from the right state."""

    joins = False  # a core is recorded, then backpropagated

    def __init__(self) -> None:
        self.forwards = 0
        self.backwards: list[int] = []

    def advance(self, state, xs, start, stop, outputs=None):
        assert state == start
        self.forwards += stop - start
        return Position(stop)

    def record(self, state, xs, step, outputs=None, stop=None):
        assert state == step
        assert stop in (None, step + 1)
        self.forwards += 1
        return Graph(step)

    def compact(self, state):
        return state

    def rewind(self, state):
        pass

    def backpropagate(self, graph, sweep):
        self.backwards.append(graph)


class Slots:
    """Sees that no more states are stored than there are slots, after any action, and that each is what it is."""

    def __init__(self, slots: int, internal: int | None) -> None:
        self.slots, self.internal = slots, internal or 0

    def after(self, instruction, working, recorded, store, slow):
        used = len(store.hidden) + self.internal * len(store.internal)
        assert used <= self.slots, f"{used} states are stored in {self.slots} slots"
        assert all(place == state for kind in (store.hidden, store.internal) for place, state in kind.items())

    def close(self):
        pass


def executed(steps: int, slots: int, internal: int | None = None, **options) -> int:
    """Forwards of a loop that turns out to have so many steps."""
    core = CountingCore()
    loop = Loop(lambda step, state, _: step < steps, lambda at_hand: Room(slots, internal), **options)
    execution = Execution(core, loop, Position(0), observers=[Slots(slots, internal)])
    execution.forward((), None)
    assert core.forwards == loop.cores == steps
    execution.backward((), None)
    assert core.backwards == [*range(steps)][::-1]
    return core.forwards


def forwards_are_the_costs(most_steps: int, most_slots: int) -> None:
    for slots in range(1, most_slots + 1):
        costs: Iterator[int] = online.POLICIES[online.DEFAULT].costs(slots)
        for steps, cost in enumerate(islice(costs, most_steps), start=1):
            assert executed(steps, slots) == cost == online.cost(steps, slots)


def test_executed_forwards_are_the_cost_and_the_slots_suffice_exhaustive():
    forwards_are_the_costs(60, 12)


def test_with_internal_states_executed_forwards_are_the_cost_exhaustive():
    for internal in range(2, 6):
        for slots in range(1, 13):
            for steps, cost in enumerate(islice(costs(slots, internal), 60), start=1):
                assert executed(steps, slots, internal, settled=1) == cost


def test_what_is_stored_before_a_budget_became_slots_is_what_the_slots_say():
    for internal in (2, 3, 5):
        for slots in range(internal, 13):
            for steps in range(1, 30):
                cost = online.cost(steps, slots, internal=internal)
                assert executed(steps, slots, internal, first=FIRST) == cost


@given(st.integers(1, 300), st.integers(1, 60), st.integers(2, 12))
@settings(max_examples=15)
def test_with_internal_states_executed_forwards_are_the_cost(steps, slots, internal):
    assert executed(steps, slots, internal, settled=1) == online.cost(steps, slots, internal=internal)


@pytest.mark.slow
def test_executed_forwards_are_the_cost_and_the_slots_suffice_to_300_steps():
    forwards_are_the_costs(300, 12)


def longer_loops(count: int, most: int) -> list[tuple[int, int]]:
    choose = random.Random(0)
    return [(choose.randint(300, most), choose.choice([2, 3, 5, 10, 20, 50, 120])) for _ in range(count)]


@pytest.mark.parametrize(("steps", "slots"), longer_loops(6, 2_000))
def test_executed_forwards_are_the_cost_of_longer_loops(steps, slots):
    assert executed(steps, slots) == online.cost(steps, slots)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "slots"), longer_loops(60, 20_000))
def test_executed_forwards_are_the_cost_of_long_loops(steps, slots):
    assert executed(steps, slots) == online.cost(steps, slots)


def test_a_stream_that_drops_a_state_too_late_is_caught(monkeypatch):
    before = Stream.before
    monkeypatch.setattr(Stream, "before", lambda self, step: before(self, step)[::-1])
    with pytest.raises(AssertionError, match="5 states are stored in 4 slots"):
        executed(40, 4)
    with pytest.raises(AssertionError, match="states are stored in 9 slots"):
        executed(40, 9, 3, settled=1)


def test_an_execution_that_keeps_another_state_of_a_graph_is_caught(monkeypatch):
    monkeypatch.setattr(Graph, "start", property(Graph.output))
    with pytest.raises(AssertionError):
        executed(12, 9, 3, settled=1)


def test_a_stream_that_stores_another_state_than_it_says_is_caught(monkeypatch):
    before = Stream.before

    def shifted(self, step):
        return tuple((kind, (places[0] + (kind.__name__ == "StoreHidden"),)) for kind, places in before(self, step))

    monkeypatch.setattr(Stream, "before", shifted)
    with pytest.raises((AssertionError, KeyError)):
        executed(40, 4)


def test_a_gap_that_is_cut_elsewhere_is_caught(monkeypatch):
    init = Stream.__init__

    def halving(self, slots, **options):
        init(self, slots, **options)
        self.policy = replace(self.policy, gap_split=halving_split)

    monkeypatch.setattr(Stream, "__init__", halving)
    with pytest.raises(AssertionError, match="=="):
        forwards_are_the_costs(30, 4)


def test_no_slots_are_needed_before_the_third_step():
    """A budget becomes slots once two steps are recorded: nothing is stored any earlier."""
    for slots in range(1, 130):
        assert Stream(slots).due >= 2


@pytest.mark.slow
def test_the_policys_own_work_is_below_a_twentieth_of_a_small_loops():
    """A GRU cell of 64, batch 16, 50 slots: processor time a step, the least of a few interleaved rounds."""
    torch = pytest.importorskip("torch")
    from membptt import while_loop

    cell, x, h = torch.nn.GRUCell(16, 64), torch.randn(16, 16), torch.zeros(16, 64)

    def policy():
        stream = Stream(50)
        for step in range(5_000):
            if step == stream.due:
                stream.before(step)

    def loop():
        carry, _ = while_loop(
            lambda carry: carry[1] < 500,
            lambda carry: (cell(x, carry[0]), carry[1] + 1),
            (h, torch.tensor(0)),
            slots=50,
            params=cell.parameters(),
        )
        carry[0].sum().backward()

    seconds = {policy: [], loop: []}
    for _ in range(5):
        for run, times in seconds.items():
            start = process_time()
            run()
            times.append(process_time() - start)
    assert min(seconds[policy]) / 5_000 < 0.05 * min(seconds[loop]) / 500
