"""Figure 4: ISM divides and conquers, drawn from the stream that the runtime executes."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from paper_figs.divide import Division, division, draw_division

CLAIM: Final = (
    "ISM's stream for t = 10 steps in m = 3 slots, 18 forwards, is exactly these parts in a row: 4 steps forward, the "
    "last of them recorded and its internal state stored; the optimal stream of the 6 steps to the right in 2 slots; "
    "that step backward without any forward of its own; the optimal stream of the 3 steps to the left in 3 slots. It "
    "is what the runtime executes, forward by forward."
)
SAYS: Final = (
    "The stored internal state serves twice: its output starts the right part, and it is backpropagated itself, so "
    "that the left part is one step shorter than HSM's in figure 1. That saves 7 of 25 forwards at these sizes."
)
DOES_NOT_SAY: Final = (
    "that ISM is cheaper in equal memory: its three slots hold internal states, which are larger (figure 6), and the "
    "starting state is outside its budget. The paper gives no sizes for this figure; they are those of figure 1."
)
SPLIT: Final = 4
FORWARDS: Final = 18


def data() -> Division:
    """Read the stream and divide it.

    Raises:
        FigureClaimError: the claim is false.
    """
    return division("ism", split=SPLIT, forwards=FORWARDS)


def draw(parts: Division) -> Figure:
    """Draw it."""
    return draw_division(parts, "ISM")
