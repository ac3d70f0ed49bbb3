"""The abstract machine refuses every illegal move and names action, index and state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropInternal,
    LoadInternal,
    Record,
    ReduceInternal,
    Restore,
    Sizes,
    StoreHidden,
    StoreInternal,
)
from membptt_theory.machine import IllegalActionError, meter
from membptt_theory.tables import build

from .strategies import POLICIES, policy_id

MIXED = Sizes(hidden=1, internal=5, internal_known=4)
GOOD = [
    Advance(0, 1),
    StoreHidden(1),
    Record(1),
    Backpropagate(1),
    DropHidden(1),
    Restore(0),
    Record(0),
    Backpropagate(0),
    DropHidden(0),
]


def test_a_legal_stream_is_metered():
    report = meter(GOOD, steps=2, sizes=MIXED)
    assert (report.forwards, report.recorded, report.peak, report.actions) == (3, 2, 2, 9)


ILLEGAL = [
    ([Advance(1, 2)], "not at position 1"),
    ([Advance(0, 3)], "must end in"),
    ([Advance(0, 0)], "must end in"),
    ([Record(1)], "not at position 1"),
    ([Record(0), Record(1)], "working core is busy"),
    ([Record(0), Advance(1, 2)], "working core is busy"),
    ([Record(0), StoreHidden(1)], "working core is busy"),
    ([Record(0), Restore(0)], "working core is busy"),
    ([Record(0), Backpropagate(0)], "next step backward is 1"),
    ([Backpropagate(1)], "does not hold step 1"),
    ([StoreHidden(0)], "stored already"),
    ([Advance(0, 1), StoreHidden(0)], "not at position 0"),
    ([StoreInternal(0)], "does not hold step 0"),
    ([Restore(1)], "no stored state"),
    ([LoadInternal(0)], "not stored"),
    ([DropHidden(1)], "not stored"),
    ([DropInternal(0)], "not stored"),
    ([ReduceInternal(0)], "not stored"),
    ([Record(0), StoreInternal(0), ReduceInternal(0)], "its input is stored already"),
    ([Advance(0, 1), Record(1), Record(2)], "busy"),
    ([Advance(0, 2), Record(2)], "there is no step 2"),
    ([Record(0), StoreInternal(0), Restore(0), Record(0), StoreInternal(0)], "stored already"),
    ([Record(0), StoreInternal(0), Record(1), LoadInternal(0)], "busy"),
    (GOOD[:4], "step 0 not backpropagated"),
    (GOOD[:-1], "slots in use"),
    ([*GOOD, Backpropagate(0)], "does not hold"),
]


@pytest.mark.parametrize(("stream", "says"), ILLEGAL)
def test_an_illegal_stream_is_refused(stream, says):
    with pytest.raises(IllegalActionError, match=says):
        meter(stream, steps=2, sizes=MIXED)


def test_the_refusal_names_action_index_and_state():
    with pytest.raises(IllegalActionError) as caught:
        meter([Advance(0, 1), StoreHidden(1), Restore(7)], steps=9, sizes=MIXED)
    assert "action 2, Restore(position=7)" in str(caught.value)
    assert "working position 1" in str(caught.value)
    assert "hidden states [0, 1]" in str(caught.value)


def test_a_kind_of_state_that_the_policy_lacks_cannot_be_stored():
    with pytest.raises(IllegalActionError, match="internal states cannot"):
        meter([Record(0), StoreInternal(0)], steps=2, sizes=Sizes(hidden=1, internal=None))
    with pytest.raises(IllegalActionError, match="hidden states cannot"):
        meter([Advance(0, 1), StoreHidden(1)], steps=2, sizes=Sizes(hidden=None, internal=1))
    with pytest.raises(IllegalActionError, match="hidden states cannot"):
        meter([Record(0), StoreInternal(0), ReduceInternal(0)], steps=2, sizes=Sizes(hidden=None, internal=1))


def test_an_internal_state_is_cheaper_while_its_input_is_stored():
    """(10): beta with the input stored; the charge grows when that input is dropped first."""
    start = [Record(0), StoreInternal(0)]
    rest = [Record(1), Backpropagate(1), LoadInternal(0), Backpropagate(0)]
    kept = [*start, *rest, DropHidden(0)]
    dropped_first = [*start, DropHidden(0), *rest]
    assert meter(kept, steps=2, sizes=MIXED).peak == 1 + 4
    assert meter(dropped_first, steps=2, sizes=MIXED).peak == 5
    assert meter(kept, steps=2, sizes=Sizes(1, 5)).peak == 1 + 5


def test_an_internal_state_that_gives_up_its_graph_remains_as_its_input_and_never_takes_more():
    """The start lives on in the first graph, then by itself again; the working core may be busy meanwhile."""
    stream = [
        DropHidden(0),
        Record(0),
        StoreInternal(0),
        Record(1),
        ReduceInternal(0),
        Backpropagate(1),
        Restore(0),
        Record(0),
        Backpropagate(0),
        DropHidden(0),
    ]
    report = meter(stream, steps=2, sizes=Sizes(hidden=1, internal=5))
    assert (report.forwards, report.peak) == (3, 5)
    with pytest.raises(IllegalActionError, match="internal states \\[\\]"):
        meter([*stream[:5], LoadInternal(0)], steps=2, sizes=Sizes(hidden=1, internal=5))


def test_a_chain_of_internal_states_shares_its_hidden_states():
    stream = [
        Record(0),
        StoreInternal(0),
        Record(1),
        StoreInternal(1),
        Record(2),
        Backpropagate(2),
        LoadInternal(1),
        Backpropagate(1),
    ]
    stream += [LoadInternal(0), Backpropagate(0), DropHidden(0)]
    assert meter(stream, steps=3, sizes=MIXED).peak == 1 + 4 + 4


@pytest.mark.parametrize(("policy", "sizes"), POLICIES, ids=policy_id)
def test_a_stream_with_any_one_action_missing_is_refused_exhaustive(policy, sizes):
    """A mutant: no action of a policy's stream can be left out, or doubled."""
    table = build(policy, 9, 6, **sizes)
    stream = list(table.schedule(9, 6))
    for index, action in enumerate(stream):
        if isinstance(action, Restore) and stream[index - 1 : index] == [action]:
            continue
        without = stream[:index] + stream[index + 1 :]
        with pytest.raises(IllegalActionError):
            meter(without, steps=9, sizes=table.sizes)


@given(
    st.lists(
        st.sampled_from([*GOOD, StoreInternal(0), LoadInternal(0), DropInternal(0), ReduceInternal(0)]), max_size=12
    )
)
def test_a_random_stream_is_metered_or_refused_hypothesis(stream):
    try:
        report = meter(stream, steps=2, sizes=MIXED)
    except IllegalActionError:
        return
    assert report.recorded >= 2
    assert report.forwards >= 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((None, None), ValueError),
        ((0, 1), ValueError),
        ((1, 2, 3), ValueError),
        ((1, None, 1), ValueError),
        ((1.5, 2), TypeError),
        ((True, 2), TypeError),
    ],
)
def test_impossible_sizes_are_refused(arguments, error):
    with pytest.raises(error):
        Sizes(*arguments)
