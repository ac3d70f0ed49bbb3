"""A timeline is the stream: its forwards, its peak, its order; and a picture of it shows all of them."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from membptt_theory import palette, picture
from membptt_theory.actions import Advance, Backpropagate, Prices, Record, Sizes, StoreHidden
from membptt_theory.machine import IllegalActionError, meter, meter_tiers
from membptt_theory.picture import draw_schedule, draw_timeline, legend, strokes
from membptt_theory.tables import build
from membptt_theory.tiers import Tier, build_tiers
from membptt_theory.timeline import Cell, Kind, Restart, Stored, timeline

TABLES = [
    build("hsm", 14, 5),
    build("ism", 14, 5),
    build("msm", 14, 8, internal=3),
    build("msm", 14, 8, internal=3, internal_known=2),
    build("msm_plus", 14, 8, internal=3),
]


def agrees(table, steps, slots):
    laid_out = timeline(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    report = meter(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    assert laid_out.forwards == report.forwards == table.cost(steps, slots)
    assert laid_out.peak == report.peak
    assert len(laid_out.memory) == len(laid_out.cells)
    assert [cell.step for cell in laid_out.cells if cell.kind is Kind.BACK] == list(range(steps))[::-1]
    sizes = table.sizes
    if sizes.internal_known is None:  # then what is drawn as stored is what is counted as used
        for time, used in enumerate(laid_out.memory):
            held = [
                sum(since <= time < until for _, since, until in kind) for kind in (laid_out.hidden, laid_out.internal)
            ]
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
    laid_out = timeline(table.schedule(2, 2), steps=2, sizes=table.sizes)
    kinds = (Kind.ADVANCED, Kind.RECORDED, Kind.BACK, Kind.RECORDED, Kind.BACK)
    assert laid_out.cells == tuple(map(Cell, (0, 1, 1, 0, 0), kinds))
    assert (laid_out.memory, laid_out.hidden) == ((1, 2, 2, 1, 1), (Stored(1, 1, 3), Stored(0, 0, 5)))
    assert (laid_out.internal, laid_out.restarts) == ((), (Restart(0, 3),))


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


PRICES = Prices(forward=16, write=8, read=8)


def agrees_in_tiers(steps, fast, slow, tier):
    table = build_tiers(steps, fast, slow, PRICES)
    start_slow = tier is Tier.SLOW
    stream = list(table.schedule(steps, fast, slow, tier))
    laid_out = timeline(stream, steps=steps, sizes=Sizes(1, None), start_slow=start_slow)
    report = meter_tiers(stream, steps=steps, start_slow=start_slow)
    assert (laid_out.forwards, laid_out.peak) == (report.forwards, report.peak)
    assert len(laid_out.slow) == report.writes + start_slow
    busiest = [sum(since <= time < until for _, since, until in laid_out.slow) for time in range(len(laid_out.cells))]
    assert max(busiest) <= report.slow_peak


def test_a_timeline_of_two_tiers_counts_what_the_machine_counts_exhaustive():
    for steps in range(1, 11):
        for fast in range(4):
            for slow in range(4):
                for tier in [Tier.FAST] * (fast > 0) + [Tier.SLOW] * (slow > 0):
                    agrees_in_tiers(steps, fast, slow, tier)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 8), st.sampled_from(Tier))
def test_a_timeline_of_two_tiers_counts_what_the_machine_counts_hypothesis(steps, fast, slow, tier):
    agrees_in_tiers(steps, fast, slow, tier)


def stored(laid_out):
    return (laid_out.hidden, laid_out.slow, laid_out.internal)


def drawn_as_boxes(laid_out):
    """Draw the picture; every cell has its box and every stored state its bar, each at its place."""
    left, right = draw_schedule(laid_out).axes
    boxes = [(round(box.get_x() - 0.14), round(box.get_y() - 0.1)) for box in left.patches]
    assert boxes == [(cell.step, time) for time, cell in enumerate(laid_out.cells)]
    assert len({tuple(box.get_facecolor()) for box in left.patches}) == len({cell.kind for cell in laid_out.cells})
    bars = sorted((line.get_xdata()[0], *line.get_ydata()) for line in left.lines if len(line.get_xdata()) == 2)
    shifts = zip(stored(laid_out), (0, 0, 0.5), strict=True)
    assert bars == sorted((place + shift, since, until) for states, shift in shifts for place, since, until in states)
    assert len(left.lines) == 2 * len(bars) + len(laid_out.restarts)
    assert tuple(right.patches[0].get_data().values) == laid_out.memory
    labels = [handle.get_label() for handle in legend(laid_out)]
    names = ["hidden state stored", "stored in the slow tier", "internal state stored"]
    assert {name for name, states in zip(names, stored(laid_out), strict=True) if states} == set(labels) & set(names)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.policy}-{table.sizes.internal_known}")
def test_a_small_picture_has_a_box_for_each_cell_and_a_bar_for_each_stored_state(table):
    pytest.importorskip("matplotlib")
    drawn_as_boxes(timeline(table.schedule(14, 5), steps=14, sizes=table.sizes))


def test_a_small_picture_of_two_tiers_has_a_bar_for_each_stored_state():
    pytest.importorskip("matplotlib")
    stream = build_tiers(20, 2, 3, Prices(16, 1, 1)).schedule(20, 2, 3)
    laid_out = timeline(stream, steps=20, sizes=Sizes(1, None))
    assert laid_out.slow
    drawn_as_boxes(laid_out)


def cells_of(lines):
    """The cells that strokes go through: where each step begins, and when."""
    return sorted(
        (min(begin[0], end[0]) + (k if end[0] > begin[0] else abs(end[0] - begin[0]) - 1 - k), begin[1] + k)
        for begin, end in lines
        for k in range(end[1] - begin[1])
    )


def strokes_are_the_cells(table, steps, slots):
    laid_out = timeline(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
    for kind, lines in strokes(laid_out).items():
        expected = [(cell.step, time) for time, cell in enumerate(laid_out.cells) if cell.kind is kind]
        assert cells_of(lines) == sorted(expected)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.policy}-{table.sizes.internal_known}")
def test_strokes_go_through_every_cell_and_no_other_exhaustive(table):
    for steps in range(1, table.steps + 1):
        for slots in range(1, table.slots + 1):
            strokes_are_the_cells(table, steps, slots)


@given(st.integers(1, 120), st.integers(1, 24), st.sampled_from(("hsm", "ism")))
def test_strokes_go_through_every_cell_and_no_other_hypothesis(steps, slots, policy):
    strokes_are_the_cells(build(policy, 120, 24), steps, slots)


def test_a_large_picture_has_a_stroke_for_each_run_and_each_stored_state():
    pytest.importorskip("matplotlib")
    table = build("msm", 60, 8, internal=3)
    laid_out = timeline(table.schedule(60, 8), steps=60, sizes=table.sizes)
    assert len(laid_out.cells) > picture.MOST_BOXES // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "MOST_BOXES", len(laid_out.cells) - 1)
        left, _ = draw_schedule(laid_out).axes
    counts = {drawn.get_label(): len(drawn.get_segments()) for drawn in left.collections}
    expected = {kind.value: len(lines) for kind, lines in strokes(laid_out).items()}
    expected |= {"hidden state stored": len(laid_out.hidden), "internal state stored": len(laid_out.internal)}
    assert counts == {name: count for name, count in expected.items() if count}


def test_hidden_states_have_one_colour_and_internal_states_another_on_every_picture():
    """Boxes, strokes, legends, the terminal and the explorer's page: all from the palette."""
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex

    table = build("msm", 14, 8, internal=3)
    laid_out = timeline(table.schedule(14, 8), steps=14, sizes=table.sizes)
    wanted = {palette.HIDDEN, palette.INTERNAL}
    few, _ = draw_schedule(laid_out).axes
    assert {to_hex(line.get_color()).upper() for line in few.lines if len(line.get_xdata()) == 2} == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "MOST_BOXES", 1)
        many, _ = draw_schedule(laid_out).axes
        lines = {handle.get_label(): handle.get_color() for handle in legend(laid_out)}
    colours = {drawn.get_label(): to_hex(drawn.get_color()[0]).upper() for drawn in many.collections}
    assert colours["hidden state stored"] == palette.HIDDEN
    assert colours["internal state stored"] == palette.INTERNAL
    assert {label: colour.upper() for label, colour in lines.items()} == colours
    shown = {handle.get_label(): handle for handle in legend(laid_out)}
    assert shown["hidden state stored"].get_color() == palette.HIDDEN
    assert shown["internal state stored"].get_color() == palette.INTERNAL


COLOUR = re.compile(r"#[0-9A-Fa-f]{6}\b")
ROOT = Path(__file__).parents[1]


def test_colours_are_named_in_the_palette_and_nowhere_else():
    """Greys of rules and grids aside: those mean nothing."""
    sources = [path for pattern in ("*.py", "*.js", "*.html", "*.css") for path in ROOT.rglob(pattern)]
    kept = {ROOT / "theory/membptt_theory/palette.py", ROOT / "tests/test_timeline.py"}
    sources = [path for path in sources if not {*path.relative_to(ROOT).parts} & {"out", ".venv"} and path not in kept]
    assert len(sources) > 100
    stray = {
        f"{path.relative_to(ROOT)}: {colour}"
        for path in sources
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        for colour in COLOUR.findall(path.read_text())
        if max(channels := [int(colour[at : at + 2], 16) for at in (1, 3, 5)]) - min(channels) > 24
    }
    assert not stray


def test_a_schedule_too_long_for_a_picture_is_refused():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    table = build("hsm", 120, 1)
    laid_out = timeline(table.schedule(120, 1), steps=120, sizes=table.sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "MOST_STROKES", 5000)
        message = "the schedule has 7380 forwards and backwards, a picture can show 5000"
        with pytest.raises(ValueError, match=message):
            draw_timeline(figure.subplots(), laid_out)
