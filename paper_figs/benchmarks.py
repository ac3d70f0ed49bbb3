"""What the figures of other methods read: the committed data files of ``impl/benchmarks``."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from membptt_theory.files import UnreadableError, read_json
from paper_figs.evidence import DataMissingError, FigureClaimError, require

BENCHMARKS: Final = Path(__file__).parents[1] / "impl" / "benchmarks"
DATA: Final = BENCHMARKS / "data"


def load_benchmark(name: str, data_format: str, /) -> dict[str, Any]:
    """Read one data file of the benchmarks.

    Raises:
        DataMissingError: there is none.
        FigureClaimError: the file is damaged, or of another format.
    """
    path = DATA / f"{name}.json"
    if not path.exists():
        raise DataMissingError(f"{path.name} is not measured yet: see impl/benchmarks/README.md")
    try:
        found = read_json(path)
    except UnreadableError as error:
        raise FigureClaimError(f"{path.name} is damaged ({error})") from error
    require(isinstance(found, dict) and found.get("format") == data_format, f"{path.name} is not {data_format}")
    return dict(found)


def one_device(files: Sequence[dict[str, Any]]) -> str:
    """Return the device that all files were measured on, in words.

    Raises:
        FigureClaimError: they differ in device, threads or versions.
    """
    first = files[0]
    for key in ("device", "device_name", "threads", "versions", "dtype"):
        require(all(one[key] == first[key] for one in files), f"the files were measured with different {key}")
    return f"{first['device_name']}, {first['threads']} thread, {first['dtype']}"


def ratio(rounds: Sequence[tuple[float, float]]) -> float:
    """Return the median over the rounds of one time over another of the same round."""
    return float(median(mine / other for mine, other in rounds))


def run_benchmark(script: str, *arguments: str) -> None:
    """Run one script of ``impl/benchmarks`` as its command line would."""
    before = sys.argv, list(sys.path)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(BENCHMARKS))
    try:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = before[0], before[1]
