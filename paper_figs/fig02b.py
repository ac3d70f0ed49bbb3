"""Figure 2b: measured time of one gradient, standard BPTT and HSM, on the cost model's prediction."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from paper_figs.overlay import Overlay, draw_overlay, overlay

CLAIM: Final = (
    "Measured: scan with HSM evaluates the step exactly as often as the table says, and one gradient takes 0.75 "
    "to 1.4 times the time that the cost model predicts from the times of a bare forward and backward; so does "
    "standard BPTT. At the longest sequence no larger budget of hidden states takes more than 1.03 of the next "
    "smaller one's time, and standard BPTT is the fastest."
)
SAYS: Final = (
    "What the cost model leaves out, the runtime's own work for each action, is small beside a step of this size, "
    "and the order of the budgets is the predicted one. The price is real: with 10 to 1,000 hidden states one "
    "gradient takes longer than standard BPTT, which should be used wherever it fits."
)
DOES_NOT_SAY: Final = (
    "what happens on a GPU, which is what the paper used: it was measured on one CPU thread, at the paper's sizes."
)
WITHIN: Final = (0.75, 1.4)  # measured time over predicted time


def data() -> Overlay:
    """Read the measured rounds.

    Raises:
        DataMissingError: nothing is measured yet.
        FigureClaimError: the claim is false.
    """
    return overlay("fig02b", "hsm", within=WITHIN)


def draw(found: Overlay) -> Figure:
    """Draw them."""
    return draw_overlay(found)


def measure() -> None:
    """Measure the rounds on this machine."""
    from paper_figs.measure import measure as run  # noqa: PLC0415  (drawing needs no torch)

    run("fig02b", "hsm")
