"""A plan for people: its alternatives as a table, its schedule as a picture. Both are the theory's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from membptt_theory.options import readable
from membptt_theory.picture import check_drawable, draw_timeline, legend
from membptt_theory.terminal import print_options
from membptt_theory.timeline import timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from membptt.planning.plan_file import Plan


def show(plan: Plan) -> None:
    """Print the alternatives of a plan, fastest first."""
    print_options(
        plan.options,
        Console(),
        title=f"{plan.steps} steps within {readable(plan.budget)}",
        caption=f"table {plan.digest[:12]}",
        time=lambda option: _readable(option.seconds),
    )


def draw(plan: Plan) -> Figure:
    """Draw the chosen schedule: position to the right, execution downward.

    Raises:
        ValueError: more forwards and backwards than a picture can show.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    option = plan.chosen
    check_drawable(option.forwards + option.cores)
    schedule = option.schedule()
    laid_out = timeline(schedule, steps=schedule.cores, sizes=schedule.sizes, start_slow=schedule.start_slow)
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    ax = figure.subplots()
    draw_timeline(ax, laid_out, unit="cores")
    slow = f" and {option.tiers.peak} slow" if option.tiers else ""
    ax.set_title(f"{option.policy}, {option.slots}{slow} slots, {plan.chunk} steps a core", loc="left")
    figure.legend(handles=legend(laid_out), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _readable(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"
