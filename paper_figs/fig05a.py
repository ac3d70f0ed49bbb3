"""Figure 5a: what one gradient costs when only internal states are stored."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from paper_figs.evidence import require
from paper_figs.per_step import STEPS, Curves, curves, draw_curves

CLAIM: Final = (
    "ISM, forwards per step: 3.640, 1.950, 1.900, 1.500 and 1.000 at t = 1000 with m = 10, 50, 100, 500 and 1000 "
    "internal states. With m = 50, 95 % of the internal states are not stored, and the gradient takes at most one "
    "third longer (a backward counted as two forwards)."
)
SAYS: Final = (
    "An internal state spares its own forward, so the curves start at one forward a step and 50 states out of a "
    "thousand still take only two."
)
DOES_NOT_SAY: Final = (
    "that internal states are the better choice in the same bytes: each of them takes several times the room of a "
    "hidden state, which figure 6 accounts for and this one does not."
)
TARGETS: Final = {10: 3640, 50: 1950, 100: 1900, 500: 1500, 1000: 1000}  # forwards at t = 1000


def data() -> Curves:
    """Read the curves from the ISM table.

    Raises:
        FigureClaimError: the claim is false.
    """
    costs = curves("ism", TARGETS)
    time, plain = costs.costs[50][-1] + 2 * STEPS, 3 * STEPS
    require(3 * time <= 4 * plain, f"50 internal states take {time} forwards' time, more than 4/3 of {plain}")
    return costs


def draw(costs: Curves) -> Figure:
    """Draw them."""
    return draw_curves(costs, "ISM, $m$ internal states")
