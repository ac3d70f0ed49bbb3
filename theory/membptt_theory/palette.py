"""The colours of every picture, by what they mean: figures, notebooks, plans, the terminal, the explorer."""

from __future__ import annotations

from typing import Final

# Okabe and Ito's colours, which survive colour blindness and a grey printer.
BLACK, BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, GREY, WHITE = (
    "#000000",
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#56B4E9",
    "#CC79A7",
    "#8C8C8C",
    "#FFFFFF",
)

# What is stored, and what is done to a step.
HIDDEN: Final = ORANGE  # in either tier
INTERNAL: Final = VERMILLION
ADVANCED: Final = BLUE
RECORDED: Final = SKY
BACKPROPAGATED: Final = BLACK
MEMORY: Final = GREY

# Curves, from dark to light, so that greyscale keeps the order; and the policies' own among them.
SERIES: Final = (BLACK, BLUE, VERMILLION, GREEN, ORANGE)
POLICY: Final = {"hsm": BLUE, "ism": VERMILLION, "msm": BLACK, "msm_plus": GREEN}

# The same meanings in the sixteen colours of a terminal.
TERMINAL: Final = {HIDDEN: "yellow", INTERNAL: "red", ADVANCED: "blue", RECORDED: "cyan", BACKPROPAGATED: "bold"}

# The same meanings on a page, in shades that can be told from a light ground and from a dark one.
ON_PAGES: Final = {
    "hidden": ("#d48f00", "#f0b429"),
    "internal": ("#c14a00", "#ff8a4c"),
    "advanced": (BLUE, "#6cc0f5"),
    "recorded": (SKY, "#2b7fb5"),
    "memory": ("#d5dae0", "#38414a"),
    "green": ("#00835f", "#35c79a"),
    "purple": ("#a3487f", "#e08fc0"),
    "grey": ("#7d868f", "#8f9aa5"),
}
