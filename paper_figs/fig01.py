"""Figure 1: HSM divides and conquers, drawn from the stream that the runtime executes."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from paper_figs.divide import Division, division, draw_division

CLAIM: Final = (
    "HSM's stream for t = 10 steps in m = 3 slots, 25 forwards, is exactly three parts in a row: y = 4 steps forward "
    "and a hidden state stored; the optimal stream of the 6 steps to the right in 2 slots; the optimal stream of the 4 "
    "steps to the left in 3 slots. It is what the runtime executes, forward by forward."
)
SAYS: Final = (
    "Equation (1) is not only how the cost is computed but how the gradient is: the stored state buys the right part a "
    "start of its own, and its slot is free again when the left part begins."
)
DOES_NOT_SAY: Final = (
    "why y = 4; that is the table's minimum over y, and other splits may be as good. The paper gives no sizes for this "
    "figure; t = 10 and m = 3 are chosen to be readable."
)
SPLIT: Final = 4
FORWARDS: Final = 25


def data() -> Division:
    """Read the stream and divide it.

    Raises:
        FigureClaimError: the claim is false.
    """
    return division("hsm", split=SPLIT, forwards=FORWARDS)


def draw(parts: Division) -> Figure:
    """Draw it."""
    return draw_division(parts, "HSM")
