"""Figure 5b: measured time of one gradient, standard BPTT and ISM, on the cost model's prediction."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from paper_figs.overlay import Overlay, claim, draw_overlay, overlay

CLAIM: Final = claim("ISM", "internal")
SAYS: Final = (
    "Storing internal states takes fewer forwards for the same number of slots. The cost model leaves out more than "
    "with hidden states, most where most are stored: up to three tenths."
)
DOES_NOT_SAY: Final = (
    "that ISM wins in equal memory (its slots are larger), nor what happens on a GPU, which is what the paper used: "
    "it was measured on one CPU thread, at the paper's sizes."
)


def data() -> Overlay:
    """Read the measured rounds.

    Raises:
        DataMissingError: nothing is measured yet.
        FigureClaimError: the claim is false.
    """
    return overlay("fig05b", "ism")


def draw(times: Overlay) -> Figure:
    """Draw them."""
    return draw_overlay(times)
