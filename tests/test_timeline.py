"""A timeline is the stream: its forwards, its peak, its order; and a picture of it shows all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_theory.actions import Advance, Backpropagate, Record, Sizes, StoreHidden
from membptt_theory.machine import IllegalActionError, meter
from membptt_theory.picture import draw_schedule, draw_timeline
from membptt_theory.tables import build
from membptt_theory.timeline import Cell, Kind, Restart, Stored, timeline

TABLES = [
    build("hsm", 14, 5),
    build("ism", 14, 5),
    build("msm", 14, 8, internal=3),
    build("msm", 14, 8, internal=3, internal_known=2),
    build("msm_plus", 14, 8, internal=3),
]


def agrees(table, steps, slots):
    layout = timeline(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    report = meter(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    assert layout.forwards == report.forwards == table.cost(steps, slots)
    assert layout.peak == report.peak
    assert len(layout.memory) == len(layout.cells)
    assert [cell.step for cell in layout.cells if cell.kind is Kind.BACK] == list(range(steps))[::-1]
    sizes = table.sizes
    if sizes.internal_known is None:  # then what is drawn as stored is what is counted as used
        for time, used in enumerate(layout.memory):
            held = [sum(since <= time < until for _, since, until in kind) for kind in (layout.hidden, layout.internal)]
            assert used == held[0] * (sizes.hidden or 0) + held[1] * (sizes.internal or 0)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.policy}-{table.sizes.internal_known}")
def test_a_timeline_counts_what_the_machine_counts_exhaustive(table):
    for steps in range(1, table.steps + 1):
        for slots in range(1, table.slots + 1):
            agrees(table, steps, slots)


@given(st.integers(1, 120), st.integers(1, 24), st.integers(2, 7), st.sampled_from(("hsm", "ism", "msm", "msm_plus")))
def test_a_timeline_counts_what_the_machine_counts_hypothesis(steps, slots, alpha, policy):
    table = build(policy, 120, 24, **({"internal": alpha} if policy in ("msm", "msm_plus") else {}))
    agrees(table, steps, slots)


def test_the_smallest_timeline_is_as_written_by_hand():
    table = build("hsm", 2, 2)
    layout = timeline(table.schedule(2, 2), steps=2, sizes=table.sizes)
    kinds = (Kind.ADVANCED, Kind.RECORDED, Kind.BACK, Kind.RECORDED, Kind.BACK)
    assert layout.cells == tuple(map(Cell, (0, 1, 1, 0, 0), kinds))
    assert (layout.memory, layout.hidden) == ((1, 2, 2, 1, 1), (Stored(1, 1, 3), Stored(0, 0, 5)))
    assert (layout.internal, layout.restarts) == ((), (Restart(0, 3),))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([Advance(0, 1), Record(1), Backpropagate(0)], "the working core does not hold step 0"),
        ([Advance(0, 1), StoreHidden(1)], "ended with step 1 not backpropagated"),
    ],
)
def test_an_illegal_or_unfinished_stream_has_no_timeline(actions, message):
    with pytest.raises(IllegalActionError, match=message):
        timeline(actions, steps=2, sizes=Sizes(1, None))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.policy}-{table.sizes.internal_known}")
def test_a_picture_has_a_box_for_each_cell_and_a_line_for_each_stored_state(table):
    pytest.importorskip("matplotlib")
    layout = timeline(table.schedule(14, 5), steps=14, sizes=table.sizes)
    left, right = draw_schedule(layout).axes
    counts = [len(collection.get_paths()) for collection in left.collections]
    kinds = [sum(cell.kind is kind for cell in layout.cells) for kind in Kind]
    assert counts == [*kinds, len(layout.hidden), len(layout.internal)]
    assert tuple(right.patches[0].get_data().values) == layout.memory


def test_a_schedule_too_long_for_a_picture_is_refused():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    table = build("hsm", 120, 1)
    layout = timeline(table.schedule(120, 1), steps=120, sizes=table.sizes)
    with pytest.raises(ValueError, match="the schedule has 7380 forwards and backwards, a picture can show 5000"):
        draw_timeline(figure.subplots(), layout)
