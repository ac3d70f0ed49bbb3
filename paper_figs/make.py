"""Regenerate the figures: ``python -m paper_figs.make``."""

from __future__ import annotations

import argparse
import functools
import importlib
import inspect
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from matplotlib.figure import Figure
from tqdm import tqdm

from bench.measurements import MEASURED, measure
from membptt_theory.files import write_whole
from paper_figs.evidence import DataMissingError, FigureClaimError, require
from paper_figs.style import overhanging, style, untitled

# One line a figure, in the order of the results page.
FIGURES: Final = (
    "fig01",
    "fig02a",
    "fig02b",
    "fig03",
    "fig04",
    "fig05a",
    "fig05b",
    "fig06",
    "fig07",
    "fig08",
    "fig09",
    "fig10",
    "fig11",
    "fig12",
    "fig13",
    "fig14",
    "fig15",
    "fig16",
    "fig17",
    "fig_charlm",
)
COMPARED: Final = ("pdf", "svg")
FORMATS: Final = (*COMPARED, "png")
OUT: Final = Path(__file__).parent / "out"

# No dates: the same figure is the same file.
_UNDATED: Final[dict[str, dict[str, Any]]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status: 0, or 1 where a claim is false or a file differs."""
    options = _parser().parse_args(arguments)
    names = options.figures or list(FIGURES)
    if options.list:
        for name in names:
            print(f"{name:<11} {load(name).CLAIM}")
        return 0
    if options.measure:
        return _measure(names)
    options.out.mkdir(parents=True, exist_ok=True)
    failures = []
    bar = tqdm(names, unit="figure", disable=None)
    for name in bar:
        bar.set_postfix_str(name)
        try:
            if options.check:
                _check(name, options.out, quick=options.quick)
            else:
                make(name, options.out, quick=options.quick)
        except DataMissingError as missing:
            tqdm.write(f"{name}: skipped. {missing}", file=sys.stderr)
        except FigureClaimError as error:
            failures.append(name)
            tqdm.write(f"{name}: FAILED. {error}", file=sys.stderr)
    if failures:
        print(f"failed: {', '.join(failures)}", file=sys.stderr)
    return int(bool(failures))


def make(name: str, out: Path, /, *, quick: bool = False, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """Check one figure's claim, draw it, and write it as PDF, SVG and PNG.

    Args:
        name: one of `FIGURES`.
        out: an existing folder.
        quick: a smaller workload, where the figure has one.
        formats: which of `FORMATS`.

    Returns:
        The files written.

    Raises:
        FigureClaimError: the claim is false; nothing is written.
        DataMissingError: the figure's measured data is not there.
    """
    module = load(name)
    sized = "quick" in inspect.signature(module.data).parameters
    data = module.data(quick=quick) if sized else module.data()
    with style():
        figure: Figure = module.draw(data)
        require(not untitled(figure), f"panels without a title: {untitled(figure)}")
        figure.draw_without_rendering()
        require(not overhanging(figure), f"cut off, in points: {overhanging(figure)}")
        _settle(figure)
        paths = []
        for kind in formats:
            about = {"Title": name} if kind == "png" else {"Title": f"{name}: {module.CLAIM}"}
            write = functools.partial(figure.savefig, format=kind, metadata={**about, **_UNDATED[kind]})
            write_whole(out / f"{name}.{kind}", write if kind != "svg" else functools.partial(_searchable, write))
            paths.append(out / f"{name}.{kind}")
    return paths


def _settle(figure: Figure) -> None:
    """Fix where the panels lie: the last bits of a layout depend on the processor, and on what was drawn before."""
    figure.set_layout_engine("none")
    for panel in figure.axes:
        left, bottom, width, height = (round(share, 5) for share in panel.get_position().bounds)
        panel.set_position((left, bottom, width, height))


def _searchable(write: Callable[[Path], Any], path: Path) -> None:
    """Write an SVG whose formulas are words too: matplotlib gives each of their letters a piece of text of its own."""
    write(path)
    picture = rounded(numbered(joined(path.read_text(encoding="utf-8"))))
    path.write_text(picture, encoding="utf-8", newline="\n")


def joined(picture: str) -> str:
    """Return an SVG in which letters of one line and style are one piece of text, each where it was."""

    def piece(match: re.Match[str]) -> str:
        letters = _LETTER.findall(match[0])
        return (
            f'<tspan x="{" ".join(x for x, *_ in letters)}"{match[1]}>{"".join(text for *_, text in letters)}</tspan>'
        )

    return _LINE.sub(piece, picture)


def numbered(picture: str) -> str:
    """Return an SVG whose parts are named by their order: matplotlib makes names from all bits of where they lie."""
    numbers: dict[str, str] = {}
    return _NAME.sub(lambda name: numbers.setdefault(name[0], f"{name[0][0]}{len(numbers) + 1}"), picture)


def rounded(picture: str) -> str:
    """Return an SVG in which everything lies at hundredths of a point: nobody sees more, and it is shorter."""

    def place(attribute: re.Match[str]) -> str:
        return _DECIMALS.sub(lambda number: f"{round(float(number[0]), 2) + 0.0:g}", attribute[0])

    return _PLACES.sub(place, picture)


_PLACES: Final = re.compile(r'(?<= )[dxy]="[^"]*"')
_DECIMALS: Final = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
_NAME: Final = re.compile(r'(?<=[#"])[hmp][0-9a-f]{10}(?=[")])')
_LETTER: Final = re.compile(r'<tspan x="([^" ]*)"([^>]*)>([^<]*)</tspan>')
_LINE: Final = re.compile(r'<tspan x="[^" ]*"([^>]*)>[^<]*</tspan>(?:\s*<tspan x="[^" ]*"\1>[^<]*</tspan>)+')


def load(name: str) -> ModuleType:
    """Import the module of a figure.

    It has ``CLAIM``, which ``data()`` checks, ``SAYS`` and ``DOES_NOT_SAY`` for the results page, and
    ``draw(data)``. What is measured for it, it only reads: `bench.measurements` measures it.
    """
    if name not in FIGURES:
        raise ValueError(f"unknown figure {name!r}; known figures are {', '.join(FIGURES)}")
    return importlib.import_module(f"paper_figs.{name}")


def _check(name: str, out: Path, *, quick: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for fresh in make(name, Path(folder), quick=quick):
            if fresh.suffix[1:] not in COMPARED:
                continue
            drawn = out / fresh.name
            if not drawn.exists():
                raise FigureClaimError(f"{fresh.name} is absent from {out.name}/: run without --check first")
            if drawn.read_bytes() != fresh.read_bytes():
                raise FigureClaimError(f"{fresh.name} in {out.name}/ is not what this source draws")


def _measure(names: list[str]) -> int:
    measured = [name for name in names if name in MEASURED]
    if not measured:
        print(f"nothing to measure: {', '.join(names)} are computed", file=sys.stderr)
        return 1
    for name in measured:
        measure(name)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m paper_figs.make", description=__doc__)
    parser.add_argument(
        "figures", nargs="*", type=_known, metavar="FIGURE", help=f"which figures (default: all): {', '.join(FIGURES)}"
    )
    parser.add_argument("--list", action="store_true", help="print each figure's claim and stop")
    parser.add_argument(
        "--check", action="store_true", help="draw afresh and compare with the output folder, byte by byte"
    )
    parser.add_argument("--measure", action="store_true", help="measure the data of measured figures; resumes")
    parser.add_argument("--quick", action="store_true", help="a smaller workload, where a figure has one")
    parser.add_argument("--out", type=Path, default=OUT, help="output folder (default: paper_figs/out)")
    return parser


def _known(name: str) -> str:
    if name not in FIGURES:
        raise argparse.ArgumentTypeError(f"unknown figure {name!r}; known figures are {', '.join(FIGURES)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
