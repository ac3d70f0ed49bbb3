"""Figure charlm: a character-level LSTM trained with plain autograd and with `membptt.scan` under a slot budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import log
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from bench.charlm import NAME, Curve, Setup, read_text, source, train_both
from membptt_theory.tables import optimal_cost
from paper_figs.evidence import load_measured, reading, require
from paper_figs.style import SERIES, panels

CLAIM: Final = (
    "Trained on real text in float64, a character-level LSTM has the same loss at every update, to 1e-10 "
    "relative, whether its gradient comes from plain autograd, which keeps every step's internal state, or from "
    "scan, which stores 10 hidden states for 256 steps and takes exactly the forwards of the table; the loss "
    "falls by more than a fifth."
)
SAYS: Final = (
    "Nothing is approximated: trained side by side on the same text, the two models agree to the rounding of a "
    "double, while one of them stores 10 states instead of 256 and evaluates its step 3.7 times as often."
)
DOES_NOT_SAY: Final = (
    "anything about speed, about better models, or about bitwise equality, which depends on the order of "
    "summation; it is a small model on a CPU in float64."
)
QUICK: Final = Setup(hidden=32, batch=8, steps=64, updates=20, characters=20_000)
RELATIVE: Final = 1e-10


@dataclass(frozen=True)
class Trained:
    """Both curves and where they come from.

    Args:
        setup: sizes.
        source: the text, in words, with its SHA-256.
        plain: autograd's curve.
        scanned: `scan`'s curve.
        difference: largest relative difference of two losses of the same update.
        identical: updates whose two losses are the same float.
    """

    setup: Setup
    source: str
    plain: Curve
    scanned: Curve
    difference: float
    identical: int


def data(*, quick: bool = False) -> Trained:
    """Read the curves of the committed training run.

    Args:
        quick: train a small model for a few updates on the spot instead.

    Raises:
        DataMissingError: nothing is trained yet.
        FigureClaimError: the claim is false.
    """
    if quick:
        text = read_text(QUICK.characters)
        return check(QUICK, source(text), *train_both(text, QUICK))
    raw = load_measured(NAME)
    with reading(NAME):
        require(raw["setup"] == asdict(Setup()), f"{NAME} was trained with {raw['setup']}, not {asdict(Setup())}")
        where = f"{raw['source']}\n{raw['cpu']}, {raw['threads']} thread"
        return check(Setup(), where, Curve(**raw["plain"]), Curve(**raw["scanned"]))


def check(setup: Setup, source: str, plain: Curve, scanned: Curve) -> Trained:
    """Compare the curves.

    Raises:
        FigureClaimError: the claim is false.
    """
    updates = len(plain.losses)
    require(updates == setup.updates, f"{updates} updates were made, not {setup.updates}")
    pairs = list(zip(plain.losses, scanned.losses, strict=True))
    difference = max(abs(ours - theirs) / abs(theirs) for theirs, ours in pairs)
    require(difference <= RELATIVE, f"scan's loss differs from autograd's by {difference:.1e}, relative")
    cost = optimal_cost("hsm", setup.steps, setup.slots)
    require(set(plain.forwards) == {setup.steps}, f"autograd took {set(plain.forwards)} forwards, not {setup.steps}")
    require(set(scanned.forwards) == {cost}, f"scan took {set(scanned.forwards)} forwards, the table says {cost}")
    fell = 1 - plain.losses[-1] / plain.losses[0]
    require(fell > 0.2, f"the loss fell by {100 * fell:.0f} % only: nothing was learned")
    return Trained(setup, source, plain, scanned, difference, sum(ours == theirs for theirs, ours in pairs))


def draw(trained: Trained) -> Figure:
    """Draw autograd's curve as a line and scan's as markers on it."""
    figure, (ax,) = panels(height=2.9)
    setup = trained.setup
    update = np.arange(1, setup.updates + 1)
    plain, scanned = (np.array(curve.losses) / log(2) for curve in (trained.plain, trained.scanned))
    ax.plot(
        update,
        plain,
        label=f"plain autograd: {setup.steps} internal states, {setup.steps} forwards",
        **SERIES[0].curve(),
    )
    ax.plot(
        update,
        scanned,
        label=f"scan, HSM: {setup.slots} hidden states, {trained.scanned.forwards[-1]} forwards",
        markerfacecolor="white",
        markevery=max(1, setup.updates // 20),
        **SERIES[2].points(),
    )
    ax.set_title("training a character-level LSTM", loc="left")
    ax.set(xlabel="update", ylabel="loss [bits per character]", xlim=(0, setup.updates + 1))
    ax.text(
        0.98,
        0.96,
        f"{trained.identical} of {setup.updates} losses bitwise equal\n"
        f"largest relative difference {trained.difference:.1g}\n"
        f"LSTM {setup.hidden}, batch {setup.batch}, $t = {setup.steps}$, float64",
        transform=ax.transAxes,
        ha="right",
        va="top",
        fontsize=7,
    )
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", title=trained.source, title_fontsize=6, ncols=1
    )
    return figure
