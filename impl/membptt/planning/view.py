"""A plan for people: its alternatives as a table, its schedule as a picture. Both are the theory's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from membptt_theory.options import best_of_each, readable
from membptt_theory.picture import check_drawable, draw_front, draw_timeline, legend
from membptt_theory.terminal import print_front, print_options
from membptt_theory.timeline import timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from membptt.planning.chain_plan import ChainPlan
    from membptt.planning.plan_file import Plan


def show(plan: Plan, *, everything: bool) -> None:
    """Print a plan in words, then its alternatives, fastest first: the best of each policy, or every one."""
    console = Console()
    shown = plan.options if everything else best_of_each(plan.options)
    hidden = len(plan.options) - len(shown)
    console.print(
        f"{plan}\n  it has the least predicted time of {len(plan.options)} options that fit",
        highlight=False,
        soft_wrap=True,
    )
    if plan.doubtful:
        console.print(
            f"  {plan.doubtful} took far longer than others let expect, whenever they were timed: where something held "
            "up the machine, plan anew",
            highlight=False,
            soft_wrap=True,
        )
    print_options(
        shown,
        console,
        title=f"{plan.steps} steps within {readable(plan.budget)}",
        caption=f"table {plan.digest[:12]}" + f"; {hidden} more with explain(everything=True)" * bool(hidden),
        plain=plan.plain,
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


def show_chain(plan: ChainPlan) -> None:
    """Print the front of a chain, with the chosen point in bold."""
    budget = f" within {readable(plan.budget)}" if plan.budget is not None else ""
    print_front(
        plan.front,
        _chosen(plan),
        Console(),
        title=f"{plan.blocks}{budget}",
        caption=f"{len(plan.front)} budgets make a difference",
        time=_readable,
    )


def draw_chain(plan: ChainPlan) -> Figure:
    """Draw the front of a chain with the chosen point, and beside it the schedule.

    Raises:
        ValueError: no budget yet, or more forwards and backwards than a picture can show.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415

    schedule = plan.schedule()
    laid_out = timeline(schedule, steps=schedule.cores, sizes=schedule.sizes)
    figure = Figure(figsize=(8.4, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    plain = plan.front[-1].seconds
    draw_front(left, [(point.bytes / 2**20, point.seconds / plain) for point in plan.front], _chosen(plan))
    draw_timeline(right, laid_out, unit="blocks")
    figure.legend(handles=legend(laid_out), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.suptitle(f"{schedule.cores} blocks in {readable(plan.peak_bytes)}", x=0.01, ha="left", fontsize=10)
    return figure


def _chosen(plan: ChainPlan) -> int | None:
    return plan.front.index(plan.chosen) if plan.budget is not None else None


def _readable(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"
