"""What is printed for people: every option has its row within 80 columns, every forward its glyph."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from membptt_theory import terminal
from membptt_theory.actions import Prices, Sizes
from membptt_theory.footprint import Measured
from membptt_theory.options import options, readable
from membptt_theory.tables import build
from membptt_theory.terminal import print_options, print_schedule, ratio
from membptt_theory.tiers import build_tiers
from membptt_theory.timeline import timeline

PRICES = Prices(forward=16, write=8, read=8)


def lines_of(show):
    console = Console(width=80, color_system=None, file=io.StringIO(), highlight=False)
    show(console)
    return console.file.getvalue().splitlines()


def has_a_row_for_each(fitting):
    lines = lines_of(
        lambda console: print_options(
            fitting, console, title="title", caption="caption", plain=2.0, time=lambda _: "now"
        )
    )
    head = next(index for index, line in enumerate(lines) if "───" in line)
    rows = lines[head + 1 : -1]
    assert (lines[0].strip(), lines[-1].strip(), len(rows)) == ("title", "caption", len(fitting))
    assert "…" not in "".join(lines)
    assert all("now" in row for row in rows)
    for row, option in zip(rows, fitting, strict=True):
        slots = f" {option.slots} + {option.tiers.peak} " if option.tiers else f" {option.slots} "
        assert row.startswith(f"{option.policy} ")
        for text in (
            slots,
            ratio(option.forwards / option.cores),
            readable(option.bytes),
            f" {option.measured.chunk} ",
            ratio(option.seconds / 2.0),
        ):
            assert text in row
        assert option.tiers is None or readable(option.tiers.bytes) in row
    assert ("slow" in lines[head - 1]) == any(option.tiers for option in fitting)


def measured(hidden, internal, advance):
    return [
        Measured(k, hidden, hidden, k * internal, internal, 0, advance * k, 3 * advance * k, hidden, 0, 1e-4, 1e-4)
        for k in (1, 4, 64)
    ]


@pytest.mark.parametrize("tiers", [False, True])
def test_every_option_has_its_row_exhaustive(tiers):
    for steps in range(64, 67):
        for budget in (400, 2000):
            has_a_row_for_each(options(measured(8, 24, 1e-3), steps, budget, tiers=tiers))


@settings(max_examples=20, deadline=None)
@given(st.integers(64, 200), st.integers(1, 10**6), st.integers(2, 9), st.floats(1e-6, 1), st.booleans())
def test_every_option_has_its_row_hypothesis(steps, hidden, factor, advance, tiers):
    fitting = options(measured(hidden, factor * hidden, advance), steps, 600 * factor * hidden, tiers=tiers)
    has_a_row_for_each(fitting)


def printed(laid_out):
    console = Console(width=80, color_system=None, file=io.StringIO(), highlight=False)
    print_schedule(laid_out, console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("policy", "sizes"), [("hsm", {}), ("ism", {}), ("msm", {"internal": 2})])
def test_the_drawing_in_a_terminal_has_every_forward_every_backward_and_the_memory(policy, sizes):
    for steps in range(1, 13):
        for slots in range(1, 6):
            table = build(policy, steps, slots, **sizes)
            laid_out = timeline(table.schedule(steps, slots), steps=steps, sizes=table.sizes)
            lines = printed(laid_out)[: len(laid_out.cells)]
            drawn = "".join(line[: -(laid_out.peak + 4)] for line in lines)
            for kind, (glyph, _) in terminal.GLYPHS.items():
                assert drawn.count(glyph) == sum(cell.kind is kind for cell in laid_out.cells), kind
            assert [int(line.split()[-1]) for line in lines] == list(laid_out.memory)
            assert [line.count("■") for line in lines] == list(laid_out.memory)


def test_a_drawing_in_a_terminal_names_where_each_step_runs():
    table = build("hsm", 4, 2)
    laid_out = timeline(table.schedule(4, 2), steps=4, sizes=table.sizes)
    margin = len(str(len(laid_out.cells))) + 2
    for line, cell in zip(printed(laid_out), laid_out.cells, strict=False):
        assert line[margin + 2 * cell.step + 1] == terminal.GLYPHS[cell.kind][0]


def test_a_drawing_in_a_terminal_names_the_slow_tier_where_there_is_one():
    stream = list(build_tiers(9, 1, 2, PRICES).schedule(9, 1, 2))
    lines = printed(timeline(stream, steps=9, sizes=Sizes(1, None)))
    assert "stored in the slow tier" in lines[-1] or "stored in the slow tier" in " ".join(lines[-2:])
    assert any("┊" in line for line in lines[:-2])
    table = build("hsm", 9, 3)
    assert "slow" not in " ".join(printed(timeline(table.schedule(9, 3), steps=9, sizes=table.sizes)))
