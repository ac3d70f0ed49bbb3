"""Figure 2b: measured time of one gradient, standard BPTT and HSM, on the cost model's prediction."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from paper_figs.overlay import Overlay, claim, draw_overlay, overlay

CLAIM: Final = claim("HSM", "hidden")
SAYS: Final = (
    "What the cost model leaves out, among it the runtime's own work for each action, is about a fifth at most with "
    "steps of this size, and the order of the budgets is the predicted one. The price is real: with 10 to 1,000 hidden "
    "states one gradient takes longer than standard BPTT (the loop under plain autograd), which should be used "
    "wherever it fits."
)
DOES_NOT_SAY: Final = (
    "what happens on a GPU, which is what the paper used: it was measured on one CPU thread, at the paper's sizes."
)


def data() -> Overlay:
    """Read the measured rounds.

    Raises:
        DataMissingError: nothing is measured yet.
        FigureClaimError: the claim is false.
    """
    return overlay("fig02b", "hsm")


def draw(times: Overlay) -> Figure:
    """Draw them."""
    return draw_overlay(times)
