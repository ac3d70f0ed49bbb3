"""All that needs a GPU, in one go of at most eight minutes: every kind of call, the CUDA tests, the benchmarks.

    python -m bench.cuda
    python -m bench.cuda --rehearse

Each part is a process of its own. What it prints is shown, and kept in a file beside what it measures. A part that
fails or takes too long stops no other: each has its own time, and what those before it have left over. The last lines
say how each one ended. `--rehearse` needs no GPU: the same parts on the CPU, at tiny sizes, with the CUDA tests
collected instead of run, so that the minutes in which a card is there are not lost to a slip. What only a card is
measured with is run by `tests/test_cuda.py`, on a stand-in.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

import torch

from bench.machine import conditions
from bench.store import DATA, save

FORMAT: Final = "membptt-cuda/1"
SECONDS: Final = 480  # in all
_LEAST: Final = 20  # seconds; with fewer left, no part is begun
_LINES: Final = 40  # of a part's output that are kept beside its result


@dataclass(frozen=True)
class Part:
    """One process.

    Args:
        name: of the part.
        measured: what ``python -m`` runs on a GPU.
        rehearsed: what it runs in a rehearsal.
        seconds: that it may take, however long those before it took.
        data: it writes measurements, into the folder that ``--data`` names.
    """

    name: str
    measured: str
    rehearsed: str
    seconds: float
    data: bool = True


_TESTS: Final = "pytest -q -m cuda " + " ".join(  # to collect the whole suite would take a tenth of the time
    f"tests/test_{name}.py" for name in ("captured", "nn", "scan", "scan_tiers", "spill")
)
PARTS: Final = (
    Part("calls", "bench.calls --device cuda", "bench.calls --device cpu --quick --rounds 1", 110),
    Part("tests", _TESTS, f"{_TESTS} --collect-only", 130, data=False),
    Part(
        "drop_in",
        "bench.drop_in --device cuda --steps 2000",
        "bench.drop_in --device cpu --steps 1000 --batch 2 --hidden 8",
        60,
    ),
    Part(
        "side_by_side",
        "bench.side_by_side --device cuda --quick",
        "bench.side_by_side --device cpu --quick --no-compile --cells gru --rounds 1",
        90,
    ),
    Part(
        "drop_in_long",
        "bench.drop_in --device cuda",
        "bench.drop_in --device cpu --steps 2000 --batch 2 --hidden 8",
        85,
    ),
)


def main(arguments: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> int:
    """Run all parts, and return how many did not end well."""
    options = _options(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        print("no CUDA device; `python -m bench.cuda --rehearse` runs the same parts without one", file=sys.stderr)
        return len(parts)
    end = monotonic() + options.seconds
    results = {}
    for number, part in enumerate(parts, 1):
        left, later = end - monotonic(), sum(part.seconds for part in parts[number:])
        results[part.name] = _run(part, options, max(left - later, min(left, part.seconds)))
    device = "cpu" if options.rehearse else "cuda"
    save(options.data / f"all_{device}.json", {**conditions(device), "format": FORMAT, "parts": results})
    for name, result in results.items():
        print(f"{name:14} {result['outcome']:16} {result['seconds']:6.1f} s")
    return sum(result["outcome"] != "passed" for result in results.values())


def _run(part: Part, options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Run one part within `limit` seconds, and return how it ended."""
    if limit < _LEAST:
        return {"outcome": "no time left", "seconds": 0.0, "output": []}
    command = [sys.executable, "-m", *(part.rehearsed if options.rehearse else part.measured).split()]
    command += ["--data", str(options.data)] if part.data else []
    print(f"== {part.name}: {' '.join(command[1:])}", flush=True)
    log = options.data / f"{part.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = monotonic()
    with log.open("w") as file:
        try:
            ended = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=limit, check=False)
            outcome = "passed" if ended.returncode == 0 else f"exit status {ended.returncode}"
        except subprocess.TimeoutExpired:
            outcome = "too long"
    output = log.read_text(errors="replace").splitlines()[-_LINES:]
    print("\n".join(output), flush=True)
    return {"outcome": outcome, "seconds": monotonic() - start, "output": output}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at tiny sizes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that all parts together may take")
    parser.add_argument("--data", type=Path, default=DATA / "cuda", help="where data and logs are written")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
