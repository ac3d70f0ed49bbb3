"""What people read in a terminal: a table of options, and a schedule drawn in characters (needs rich)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from membptt_theory.options import Option, readable
from membptt_theory.palette import ADVANCED, BACKPROPAGATED, HIDDEN, INTERNAL, RECORDED, TERMINAL
from membptt_theory.timeline import Kind, Timeline

if TYPE_CHECKING:
    from rich.console import Console

TALLEST: Final = 500  # lines of a drawing
_ROWS: Final = 20  # of a front
GLYPHS: Final = {
    Kind.ADVANCED: ("→", TERMINAL[ADVANCED]),
    Kind.RECORDED: ("●", TERMINAL[RECORDED]),
    Kind.BACK: ("◀", TERMINAL[BACKPROPAGATED]),
}
_HIDDEN, _SLOW, _INTERNAL = ("│", TERMINAL[HIDDEN]), ("┊", TERMINAL[HIDDEN]), ("▒", TERMINAL[INTERNAL])


def print_options(
    options: Sequence[Option],
    console: Console,
    /,
    *,
    title: str,
    caption: str,
    plain: float,
    time: Callable[[Option], str] | None = None,
) -> None:
    """Print a table of options, one a row, the first in bold; to 80 columns.

    Args:
        options: at least one, as `membptt_theory.options.options` returns them, the chosen one first. Of two tiers, the
            slots are fast + slow and the bytes of the slow one stand apart.
        console: where to.
        title: above it.
        caption: below it.
        plain: time of plain backpropagation, which keeps everything, as the options' seconds.
        time: what stands in the column "time", if there is one.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    kernels = any(option.measured.compiled for option in options)
    tiered = any(option.tiers for option in options)
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, show_edge=False, padding=(0, int(not tiered), 0, 0))
    slow = ("slow",) if tiered else ()
    for head in (
        "policy",
        "steps\n/ core",
        *(("kernels",) if kernels else ()),
        "slots",
        "bytes\n/ slot",
        "forwards\n/ core",
        "peak",
        *slow,
        *(("time",) if time is not None else ()),
        "vs\nplain",
    ):
        table.add_column(head, justify="left" if head == "policy" else "right")
    for option in options:
        table.add_row(
            option.policy,
            str(option.measured.chunk),
            *(["compiled" if option.measured.compiled else "eager"] if kernels else []),
            f"{option.slots} + {option.tiers.peak}" if option.tiers else str(option.slots),
            readable(option.unit),
            ratio(option.forwards / option.cores),
            readable(option.bytes),
            *([readable(option.tiers.bytes) if option.tiers else ""] if tiered else []),
            *([time(option)] if time is not None else []),
            ratio(option.seconds / plain),
            style="bold" if option is options[0] else None,
        )
    console.print(table)


def print_front(
    points: Sequence[tuple[int, float]],
    chosen: int | None,
    console: Console,
    /,
    *,
    title: str,
    caption: str,
    time: Callable[[float], str],
) -> None:
    """Print a front of bytes and time, one point a row; where it is long, points far apart.

    Args:
        points: at least one, the fewest bytes first; the last one recomputes nothing.
        chosen: the index of the point in bold, if any.
        console: where to.
        title: above it.
        caption: below it.
        time: what stands in the column "time".
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("budget", "of plain's", "time", "vs\nplain"):
        table.add_column(head, justify="right")
    last = len(points) - 1
    rows = {round(last * row / _ROWS) for row in range(_ROWS + 1)} | ({chosen} if chosen is not None else set())
    for row in sorted(rows):
        size, cost = points[row]
        most, least = points[-1]
        style = "bold" if row == chosen else None
        table.add_row(readable(size), f"{size / most:.1%}", time(cost), ratio(cost / least), style=style)
    console.print(table)


def ratio(value: float, /) -> str:
    """Return a ratio for a column: three places, or a power of ten where it is large.

    >>> ratio(2.9476), ratio(50_000.5), ratio(123_456)
    ('2.948', '50000.500', '1.23e+05')
    """
    return f"{value:.3f}" if value < 10**5 else f"{value:.2e}"


def print_schedule(timeline: Timeline, console: Console, /) -> None:
    """Draw a schedule: position to the right, execution downward, the slots in use at the right.

    Raises:
        ValueError: it has more lines or columns than a terminal shows.
    """
    from rich.text import Text  # noqa: PLC0415

    rows = len(timeline.cells)
    slots = min(timeline.peak, 32)
    across = len(str(rows)) + 2 + 2 * timeline.steps + 1 + 2 + slots + 1 + len(str(timeline.peak))
    if rows > TALLEST or across > max(console.width, 80):
        raise ValueError(
            f"a drawing of {rows} lines, {across} columns is more than a terminal shows "
            f"({TALLEST} lines, {max(console.width, 80)} columns): draw it to a file"
        )
    canvas = [[" "] * (2 * timeline.steps + 1) for _ in range(rows)]
    looks: dict[tuple[int, int], str] = {}
    bars = chain(
        ((2 * place, since, until, _HIDDEN) for place, since, until in timeline.hidden),
        ((2 * place, since, until, _SLOW) for place, since, until in timeline.slow),
        ((2 * place + 1, since, until, _INTERNAL) for place, since, until in timeline.internal),
        ((2 * cell.step + 1, time, time + 1, GLYPHS[cell.kind]) for time, cell in enumerate(timeline.cells)),
    )
    for column, since, until, (glyph, look) in bars:
        for row in range(since, until):
            canvas[row][column], looks[row, column] = glyph, look
    margin = len(str(rows))
    for row, line in enumerate(canvas):
        text = Text(f"{row:>{margin}}  ", style="dim")
        for column, glyph in enumerate(line):
            text.append(glyph, style=looks.get((row, column), ""))
        used = timeline.memory[row]
        full = slots * used // max(timeline.peak, 1)
        text.append(f"  {'■' * full}{'·' * (slots - full)} {used}")
        console.print(text, no_wrap=True, crop=False, overflow="ignore")
    names = [*((look, kind.value) for kind, look in GLYPHS.items()), (_HIDDEN, "hidden state stored")]
    names += [(_SLOW, "stored in the slow tier")] * bool(timeline.slow)
    names += [(_INTERNAL, "internal state stored"), (("■", ""), "slots in use")]
    legend = Text("\n" + " " * (margin + 2))
    for (glyph, look), name in names:
        legend.append(glyph, style=look).append(f" {name}  ")
    console.print(legend)
