"""The tie between Coq's machine and the product's: what is compared, and that a difference is noticed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_proofs import formal_coq as coq
from membptt_proofs import formal_tie as tie
from membptt_theory.actions import Advance, Backpropagate, DropHidden, Record, Restore, Sizes, StoreHidden
from membptt_theory.machine import Machine
from membptt_theory.tables import build

needs_coq = pytest.mark.skipif(not coq.installed(), reason=coq.ABSENT)


@pytest.fixture(scope="module")
def compiled():
    """Return the folder in which what the checks need is compiled."""
    coq.build(names=[*tie.IMPORTED, *tie.NAMED])
    return coq.OUT


@pytest.mark.parametrize("model", tie.models(), ids=lambda model: model.policy)
def test_a_schedule_is_reported_as_its_table_says(model):
    for table in model.tables:
        for steps in range(1, tie.STEPS + 1):
            for slots in range(1, tie.SLOTS + 1):
                actions = list(table.schedule(steps, slots))
                accepted, (forwards, recorded, peak) = tie.report(actions, steps, model.sizes)
                assert (accepted, forwards, recorded) == (len(actions), table.cost(steps, slots), steps)
                assert peak <= slots


def test_an_action_that_is_refused_ends_the_report():
    actions = [Advance(0, 1), Record(1), Restore(0), Backpropagate(1)]
    assert tie.report(actions, 2, Sizes(1, None)) == (2, None)


def test_an_incomplete_stream_has_no_cost():
    actions = [Record(0), Backpropagate(0)]
    assert tie.report(actions, 1, Sizes(1, None)) == (2, None)
    assert tie.report([*actions, DropHidden(0)], 1, Sizes(1, None)) == (3, (1, 1, 1))


def test_streams_are_the_same_for_a_seed_and_of_every_kind():
    first, again = (list(tie.cases(300, random.Random(5))) for _ in range(2))
    assert first == again
    for policy in ("HSM", "ISM", "(SEPARATE 3)", "(CHARGED 5)"):
        held = [case for case in first if case.stream.startswith(policy)]
        assert any(case.complete for case in held)
        assert any(not case.complete for case in held)
    tiered = list(tie.tiered_cases(200, random.Random(5)))
    for tier in ("Tiers.Fast", "Tiers.Slow"):
        assert any(case.complete for case in tiered if case.stream.startswith(tier))


@given(seed=st.integers(0, 2**32))
def test_every_complete_stream_has_its_forwards_and_its_peak(seed):
    for case in tie.cases(5, random.Random(seed)):
        assert case.complete == ("Some" in case.report)


@needs_coq
def test_both_machines_agree_on_a_few_streams_and_tables(compiled):
    assert tie.check(streams=60, steps=4, slots=4, seed=1).startswith(
        "Coq's machine and the product's agree on 60 streams, "
    )


@needs_coq
@pytest.mark.parametrize(
    ("kind", "action", "mutant"),
    [
        # A machine that restores anything, one that stores nothing, and one that counts a forward too few.
        ("restores", Restore, lambda machine, action: setattr(machine, "position", action.position)),
        ("does not store", StoreHidden, lambda machine, action: None),
        ("counts too few", Record, lambda machine, action: (Machine.execute(machine, action), _less(machine))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mutant_of_the_machine_is_noticed(compiled, monkeypatch, kind, action, mutant):
    class Mutant(Machine):
        def execute(self, done):
            return mutant(self, done) if isinstance(done, action) else super().execute(done)

    monkeypatch.setattr(tie, "Machine", Mutant)
    with pytest.raises(coq.CoqError, match=r"coqc refused Mutant\.v"):
        coq.check_text("Mutant", tie.streams_file(list(tie.cases(80, random.Random(2))), []))


@needs_coq
def test_a_table_with_one_wrong_cost_is_noticed(compiled):
    text = tie.tables_file(4, 4)
    right = str(build("hsm", 4, 4).cost(4, 2))
    assert f"; {right}]" in text
    with pytest.raises(coq.CoqError, match=r"coqc refused Mutant\.v"):
        coq.check_text("Mutant", text.replace(f"; {right}]", f"; {int(right) + 1}]", 1))


def _less(machine):
    machine.forwards -= 1
