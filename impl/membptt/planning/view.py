"""A plan for people: the alternatives as a table, the chosen schedule as a timeline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from membptt_theory.actions import (
    Advance,
    Backpropagate,
    DropHidden,
    DropSlow,
    LoadInternal,
    Record,
    StoreHidden,
    StoreInternal,
    StoreSlow,
    TieredAction,
)
from membptt_theory.options import readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from membptt.planning.plan_file import Plan

_LONGEST = 20_000  # cores; more would not be seen
_BLUE, _BLACK, _ORANGE, _VERMILLION, _GREEN = "#0072B2", "#000000", "#E69F00", "#D55E00", "#009E73"

Line = list[tuple[float, float]]


def show(plan: Plan) -> None:
    """Print the alternatives of a plan, fastest first; of two tiers, the slots are fast + slow, the bytes apart."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    tiered = any(option.tiers for option in plan.options)
    slow = ("slow",) if tiered else ()
    title, caption = f"{plan.steps} steps within {readable(plan.budget)}", f"table {plan.digest[:12]}"
    table = Table(title=title, caption=caption, pad_edge=not tiered, collapse_padding=tiered)  # to 80 columns
    for name in ("policy", "chunk", "slots", "forwards / core", "peak", *slow, "time", "vs best"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for option in plan.options:
        table.add_row(
            option.policy,
            str(option.measured.chunk),
            f"{option.slots} + {option.tiers.peak}" if option.tiers else str(option.slots),
            f"{option.forwards / option.cores:.3f}",
            readable(option.bytes),
            *([readable(option.tiers.bytes) if option.tiers else ""] if tiered else []),
            f"{option.seconds * 1e3:.1f} ms",
            f"{option.seconds / plan.seconds:.2f}",
            style="bold" if option is plan.chosen else None,
        )
    Console().print(table)


def draw(plan: Plan) -> Figure:
    """Draw the chosen schedule: position to the right, execution downward.

    Raises:
        ValueError: more cores than a picture can show.
    """
    from matplotlib.collections import LineCollection  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    option = plan.chosen
    if option.cores > _LONGEST:
        raise ValueError(f"the schedule has {option.cores} cores, a picture can show {_LONGEST}")
    lines = _lines(option.schedule())
    figure = Figure(figsize=(5, 4), layout="constrained")
    ax = figure.subplots()
    for (name, color, width, style), found in zip(_LOOKS, lines, strict=True):
        if found or "slow" not in name:
            ax.add_collection(LineCollection(found, colors=color, linewidths=width, linestyles=style, label=name))
    last = max(time for found in lines for line in found for _, time in line)
    ax.set(xlim=(0, option.cores), ylim=(last, 0), xlabel="position [cores]")
    ax.set(ylabel="execution order [forwards and backwards of cores]")
    slow = f" and {option.tiers.peak} slow" if option.tiers else ""
    ax.set_title(f"{option.policy}, {option.slots}{slow} slots, {plan.chunk} steps a core", loc="left")
    ax.legend(loc="lower right", frameon=False)
    return figure


_LOOKS = (
    ("hidden state stored", _ORANGE, 1.0, "-"),
    ("stored in the slow tier", _GREEN, 1.4, (0, (1, 1.5))),
    ("internal state stored", _VERMILLION, 1.6, "-"),
    ("forward", _BLUE, 1.0, "-"),
    ("backward", _BLACK, 1.6, "-"),
)


def _lines(stream: Iterable[TieredAction]) -> tuple[list[Line], ...]:
    hidden: list[Line] = []
    slow: list[Line] = []
    internal: list[Line] = []
    forward: list[Line] = []
    backward: list[Line] = []
    since = {("hidden", 0): 0}
    time = 0
    for action in stream:
        match action:
            case Advance(start, stop):
                forward.append([(start, time), (stop, time + stop - start)])
                time += stop - start
            case Record(step):
                forward.append([(step, time), (step + 1, time + 1)])
                time += 1
            case Backpropagate(step):
                backward.append([(step + 1, time), (step, time + 1)])
                time += 1
            case StoreHidden(position):
                since["hidden", position] = time
            case DropHidden(position):
                hidden.append([(position, since.pop(("hidden", position))), (position, time)])
            case StoreSlow(position):
                since["slow", position] = time
            case DropSlow(position):
                slow.append([(position, since.pop(("slow", position))), (position, time)])
            case StoreInternal(step):
                since["internal", step] = time
            case LoadInternal(step):
                internal.append([(step + 0.5, since.pop(("internal", step))), (step + 0.5, time)])
    return hidden, slow, internal, forward, backward
