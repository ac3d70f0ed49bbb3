"""``membptt``: plan a budget, measure a step, print or draw a schedule, export a table, run the proofs.

Exit status: 0; 1 where a claim or a table does not hold; 2 where the request cannot be met, with the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from membptt_cli import measuring, planning, proofs, schedules, tables
from membptt_cli.parsing import Refusal, examples

EXAMPLES = (
    "membptt plan --steps 2000 --hidden-bytes 8192 --internal-bytes 40960 --budget 4MiB",
    "membptt schedule --policy msm --steps 10 --slots 4 --draw",
    "membptt table export --policy hsm --steps 300 --slots 40 --out hsm.npz",
    "membptt prove chen-sqrt-cost",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except BrokenPipeError:
        # Whoever reads the output has seen enough; what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        print(f"{options.prog}: error: a table that large does not fit in memory; ask for fewer slots", file=sys.stderr)
        return 2
    except (Refusal, ValueError, TypeError, OSError) as error:
        print(f"{options.prog}: error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    whole = argparse.ArgumentParser(
        prog="membptt",
        description="Backpropagation through time in a fixed amount of memory: plans, schedules, tables, proofs.",
        epilog=examples(*EXAMPLES)
        + "\n\nexit status: 0; 1 a claim or a table does not hold; 2 the request cannot be met",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"membptt {version('membptt')}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for command in (planning, measuring, schedules, tables, proofs):
        command.add(commands)
    return whole


if __name__ == "__main__":
    sys.exit(main())
