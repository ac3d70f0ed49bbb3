"""One look for every figure: sizes of a two-column page, lines told apart by colour, dash and marker."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from membptt_theory import palette

COLUMN: Final = 3.4  # inches
PAGE: Final = 7.0
SMALL: Final = 6.5  # points: of what is said below a figure
_LETTER: Final = 0.57  # its mean width there, of its size

_RC: Final[dict[str, Any]] = {
    "font.family": "sans-serif",
    # The first is shipped with matplotlib: no machine's fonts change the file. The second is as wide: it is for whoever
    # reads an SVG, whose text is text, where the first is missing.
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.4,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.2,
    "hatch.linewidth": 0.5,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "savefig.bbox": None,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",  # text that can be searched, copied and read aloud
    "svg.hashsalt": "membptt",
}


@dataclass(frozen=True, slots=True)
class Line:
    """How one curve looks: told apart by colour, by dashes and by marker, each sufficient alone."""

    color: str
    dash: Any
    marker: str

    def curve(self) -> dict[str, Any]:
        """Keywords of a line without markers."""
        return {"color": self.color, "linestyle": self.dash}

    def points(self) -> dict[str, Any]:
        """Keywords of markers without a line."""
        return {"color": self.color, "linestyle": "none", "marker": self.marker, "markersize": 3.6}


_DASHES: Final = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (8, 1.5, 1, 1.5, 1, 1.5)))
SERIES: Final = tuple(map(Line, palette.SERIES, _DASHES, "os^Dv"))
POLICY: Final = {"hsm": SERIES[1], "ism": SERIES[2], "msm": SERIES[0], "msm_plus": SERIES[3]}


@contextmanager
def style() -> Iterator[None]:
    """Apply the style, and nothing of the user's own settings, inside a ``with`` block."""
    with mpl.rc_context():
        mpl.rcdefaults()
        parameters: Any = mpl.rcParams
        parameters.update(_RC)
        yield


def panels(count: int = 1, *, width: float = COLUMN, height: float = 2.5, **grid: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` panels side by side, without pyplot and its global state.

    Args:
        count: number of panels.
        width: inches, `COLUMN` or `PAGE`.
        height: inches.
        grid: further keywords of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, **grid)
    return figure, list(axes[0])


def label_panels(axes: list[Axes]) -> None:
    """Write (a), (b), ... at the upper left, outside the data."""
    for letter, ax in zip("abcdefghijkl", axes, strict=False):
        ax.set_title(f"({letter})  {ax.get_title(loc='left')}".rstrip(), loc="left")


def told_below(text: str, figure: Figure) -> dict[str, Any]:
    """Return the keywords that put a small title on a figure's legend, in lines that are no wider than the figure."""
    most = int(72 * figure.get_figwidth() / (SMALL * _LETTER))
    lines = [textwrap.fill(line, most, break_on_hyphens=False) for line in text.split("\n")]
    return {"title": "\n".join(lines), "title_fontsize": SMALL}


def overhanging(figure: Figure) -> list[str]:
    """Return the sides on which something of a drawn figure is cut off, with how far it would reach, in points."""
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    beyond = {"left": -box.x0, "bottom": -box.y0, "right": box.x1 - width, "top": box.y1 - height}
    return [f"{side}: {72 * inches:.0f}" for side, inches in beyond.items() if 72 * inches > 1]


def untitled(figure: Figure) -> list[str]:
    """Return the panels that neither have a title of words nor stand below one that has, by their axes' labels."""
    shown = [ax for ax in figure.axes if ax.axison]

    def column(ax: Axes) -> tuple[Any, ...]:
        spec = ax.get_subplotspec()
        return (id(ax),) if spec is None else (id(spec.get_gridspec()), spec.colspan.start, spec.colspan.stop)

    told = {column(ax) for ax in shown for side in ("left", "center") if re.search(r"\w\w|\$", ax.get_title(loc=side))}
    return [f"{ax.get_xlabel()} / {ax.get_ylabel()}" for ax in shown if column(ax) not in told]
