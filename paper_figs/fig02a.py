"""Figure 2a: what one gradient costs when only hidden states are stored."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from paper_figs.per_step import Curves, curves, draw_curves

CLAIM: Final = (
    "HSM, forwards per step: 4.636, 2.948, 2.898, 2.498 and 1.999 at t = 1000 with m = 10, 50, 100, 500 and 1000 "
    "hidden states; a step never costs less as the sequence grows, nor more as slots are added."
)
SAYS: Final = (
    "With a fixed number of hidden states the price of one gradient grows slowly, and in straight pieces whose "
    "ends are binomial coefficients: 50 states carry a thousand steps at three forwards a step."
)
DOES_NOT_SAY: Final = (
    "how long a forward takes, or that hidden states are the best thing to store: with as many internal states "
    "(figure 5a) a step costs about one forward less."
)
TARGETS: Final = {10: 4636, 50: 2948, 100: 2898, 500: 2498, 1000: 1999}  # forwards at t = 1000


def data() -> Curves:
    """Read the curves from the HSM table.

    Raises:
        FigureClaimError: the claim is false.
    """
    return curves("hsm", TARGETS)


def draw(costs: Curves) -> Figure:
    """Draw them."""
    return draw_curves(costs, "HSM, $m$ hidden states")
