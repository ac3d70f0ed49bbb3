"""Figure 16: why it is optimal: a random legal schedule, cut in two as the proof cuts it."""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from membptt_proofs.cut import HIDDEN, Cut, cut, forwards, random_schedule
from membptt_theory.machine import meter
from membptt_theory.palette import BLACK
from membptt_theory.picture import draw_timeline, legend
from membptt_theory.tables import optimal_cost
from membptt_theory.timeline import Timeline
from membptt_theory.timeline import timeline as read
from paper_figs.evidence import require
from paper_figs.style import PAGE, label_panels, panels

CLAIM: Final = (
    "A legal schedule of nine steps in three slots, drawn by lot, takes 31 forwards. Cut at v = 5 it holds a schedule "
    "of the first 5 steps in 3 slots and one of the other 4 in 2, and before the left one begins the first 5 steps "
    "ran: 31 >= 5 + 12 + 9 = 26 >= 5 + C(5, 3) + C(4, 2) = 5 + 10 + 8 = 23 >= C(9, 3) = 22. Both parts are executed, "
    "and so are those of 1,000 other schedules drawn by lot."
)
SAYS: Final = (
    "A legal schedule may drop states early, store them twice, or run past them, and still it cannot beat the "
    "recurrence: there is always a place to cut it, so that both parts are legal schedules of shorter problems, and "
    "the recurrence takes the least over all places. From v on, no more than m - 1 slots are ever taken. At the dashed "
    "instant m - 1 states are stored from v on: only the start is left below v, and what follows does the steps "
    "below v from there."
)
DOES_NOT_SAY: Final = (
    "that it holds of every schedule: that is what Coq proves (proofs_check/formal, hsm_exact), for all t and m. The "
    "picture is one case of it, and of hidden states only."
)
STEPS, SLOTS, SEED = 9, 3, 27
CHAIN: Final = (31, 26, 23, 22)  # whole >= both parts and a first pass >= their least costs >= the least of all
OTHERS: Final = 1000


class Parts(NamedTuple):
    """A schedule, its cut, and both parts laid out in time.

    Args:
        cut: where it is cut.
        whole: the schedule.
        left: of the steps below the cut, after the instant.
        right: of the others.
        instant: forwards and backwards before the instant.
    """

    cut: Cut
    whole: Timeline
    left: Timeline
    right: Timeline
    instant: int


def data() -> Parts:
    """Cut the drawn schedule and others, and execute all parts.

    Raises:
        FigureClaimError: the claim is false.
    """
    for seed in range(OTHERS):
        check(cut(random_schedule(STEPS, SLOTS, Random(seed)), STEPS, SLOTS))
    parts = cut(random_schedule(STEPS, SLOTS, Random(SEED)), STEPS, SLOTS)
    chain = check(parts)
    require(chain == CHAIN, f"the schedule says {' >= '.join(map(str, chain))}, not {' >= '.join(map(str, CHAIN))}")
    begun = [action for action in parts.whole[: parts.instant] if type(action).__name__ == "Backpropagate"]
    return Parts(
        parts,
        read(parts.whole, steps=STEPS, sizes=HIDDEN),
        read(parts.left, steps=parts.place, sizes=HIDDEN),
        read(parts.right, steps=STEPS - parts.place, sizes=HIDDEN),
        forwards(parts.whole[: parts.instant], 0, STEPS) + len(begun),
    )


def check(parts: Cut) -> tuple[int, int, int, int]:
    """Execute both parts and return what the whole takes, what its parts do, their least, and the least of all.

    Raises:
        FigureClaimError: a part does not fit, or the inequality fails.
    """
    place, rest = parts.place, STEPS - parts.place
    where = f"a schedule cut at {place}"
    require(meter(parts.right, steps=rest, sizes=HIDDEN).peak < SLOTS, f"{where}: the right part takes {SLOTS} slots")
    if place:
        require(meter(parts.left, steps=place, sizes=HIDDEN).peak <= SLOTS, f"{where}: the left part does not fit")
        require(parts.first_pass >= place, f"{where}: only {parts.first_pass} forwards ran before the left part")
    least = place + optimal_cost("hsm", place, SLOTS) + optimal_cost("hsm", rest, SLOTS - 1)
    chain = forwards(parts.whole, 0, STEPS), parts.bound, least, optimal_cost("hsm", STEPS, SLOTS)
    require(list(chain) == sorted(chain, reverse=True), f"{where}: {chain} does not fall")
    return chain


def draw(parts: Parts) -> Figure:
    """Draw the whole with its cut, and both parts beside it."""
    place = parts.cut.place
    figure, axes = panels(3, width=PAGE, height=4.6, width_ratios=(STEPS + 1.5, place + 1.5, STEPS - place + 1.5))
    whole, left, right = axes
    draw_timeline(whole, parts.whole)
    whole.axvline(place, color=BLACK, linewidth=0.9)
    whole.plot([-0.4, place], [parts.instant] * 2, color=BLACK, linewidth=0.9, linestyle="--")
    whole.set_title(f"{parts.whole.forwards} forwards in {SLOTS} slots, cut at $v = {place}$", loc="left")
    draw_timeline(left, parts.left)
    left.set_title(f"below $v$, after the instant:\n{parts.left.forwards} in {SLOTS} slots", loc="left")
    draw_timeline(right, parts.right)
    right.set_title(f"from $v$ on:\n{parts.right.forwards} in {SLOTS - 1} slots", loc="left")
    _label(left, 0, place)
    _label(right, place, STEPS)
    whole.text(-0.3, parts.instant - 0.3, "the instant", fontsize=6)
    whole.set_xticks(range(STEPS + 1))
    for ax in axes:
        ax.set_ylim(whole.get_ylim())
    label_panels(axes)
    first, bound, least, optimum = CHAIN
    figure.suptitle(
        f"${first} \\geq {place} + {parts.left.forwards} + {parts.right.forwards} = {bound} \\geq {place} + C({place}, "
        f"{SLOTS}) + C({STEPS - place}, {SLOTS - 1}) = {least} \\geq C({STEPS}, {SLOTS}) = {optimum}$",
        fontsize=9,
    )
    figure.legend(handles=legend(parts.whole), loc="outside lower center", ncols=5)
    return figure


def _label(ax: Axes, first: int, last: int) -> None:
    ax.set_xticks(range(last - first + 1), [str(position) for position in range(first, last + 1)])
    ax.set(ylabel="")
